"""When worker processes start and end, what happens if they die, and that they leave nothing."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest

from augmentor_flows import (
    children,
    epochs,
    flow,
    forget_other_tests,
    note_fills,
    pool,
    same,
    write_photos,
)
from ImageDataAugmentor.engine import cache as cache_module
from ImageDataAugmentor.engine import memory as memory_module
from ImageDataAugmentor.engine import workers as workers_module
from ImageDataAugmentor.engine.memory import Buffers

pytestmark = pytest.mark.skipif(os.name != "posix", reason="file descriptors cannot be sent")
LIBRARY = Path(workers_module.__file__).parents[2]


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


@pytest.fixture(autouse=True)
def nothing_of_other_tests(monkeypatch):
    forget_other_tests(monkeypatch)


@pytest.fixture
def filled(monkeypatch):
    return note_fills(monkeypatch)


def test_started_when_threads_have_had_enough_to_do(photos, filled, monkeypatch):
    monkeypatch.setattr(workers_module, "_WORTH_A_START", 1000.0)
    iterator = flow(photos, processes=None)
    # With another number of workers it shares none of the processes.
    threads_alone = flow(photos, processes=False, workers=3)
    expected = epochs(threads_alone, 3)
    same(epochs(iterator, 1), expected[: len(iterator)])
    assert not children(iterator)
    monkeypatch.setattr(workers_module, "_WORTH_A_START", 0.0)
    epochs(threads_alone, 1)
    assert not children(threads_alone)  # They never ask for any.
    same(epochs(iterator, 1), expected[len(iterator) : 2 * len(iterator)])
    assert len(children(iterator)) == 2
    pool(iterator).start_processes(wait=True)
    iterator._lookahead.close()  # Threads may have begun these batches.
    filled.clear()
    same(epochs(iterator, 1), expected[2 * len(iterator) :])
    assert filled
    assert all(filled)


def test_a_killed_one_is_replaced_by_a_thread(photos):
    iterator = flow(photos)
    expected = epochs(flow(photos, processes=False), 6)
    got = epochs(iterator)

    def kill_them_and_go_on():
        for pid in children(iterator):
            os.kill(pid, signal.SIGKILL)
        return epochs(iterator)

    with pytest.warns(UserWarning, match="exit status -9"):
        got += kill_them_and_go_on()
    assert len(children(iterator)) == 2
    got += epochs(iterator)
    same(got, expected)


def test_they_are_not_replaced_for_ever(photos):
    iterator = flow(photos)
    for _ in range(9):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            epochs(iterator, 1)
        for pid in children(iterator):
            os.kill(pid, signal.SIGKILL)
    assert not children(iterator)
    assert len(pool(iterator).processes) == 6
    assert len(epochs(iterator)) == 2 * len(iterator)


def test_a_reader_may_keep_all_batches(photos, monkeypatch):
    monkeypatch.setattr(memory_module, "_LENT_AT_MOST", 9)
    iterator = flow(photos, batch_size=1)
    kept = epochs(iterator, 4)  # more than there may be buffers
    same(kept, epochs(flow(photos, batch_size=1, processes=False), 4))


def test_memory_serves_again_when_its_batch_is_gone():
    buffers, bytes_ = Buffers(), np.dtype("uint8")
    shared, whole = buffers.borrow((1000,), bytes_)
    view = whole[10:20].reshape(2, 5)
    del whole
    other = buffers.borrow((1000,), bytes_)
    assert other[0].memory is not shared.memory  # The view still uses it.
    del view
    assert buffers.borrow((900,), bytes_)[0].memory is shared.memory


def test_nothing_is_left(photos):
    def descriptors():
        gc.collect()
        return psutil.Process().num_fds()

    before = descriptors()
    iterator = flow(photos, cache=True)
    epochs(iterator)
    pids = children(iterator)
    assert len(pids) == 2
    del iterator
    cache_module._cache = None
    deadline = time.monotonic() + 60
    while (any(map(psutil.pid_exists, pids)) or descriptors() > before) and (
        time.monotonic() < deadline
    ):
        gc.collect()
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, pids))  # This would include zombies.
    assert descriptors() <= before


# A shell lets background jobs ignore SIGINT, also when the tests run in one.
SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from ImageDataAugmentor import ImageDataAugmentor
augmentor = ImageDataAugmentor(workers=2, processes=True)
flow = augmentor.flow_from_directory(sys.argv[1], batch_size=4, verbose=False)
for _ in range(9):
    next(flow)
print(*[process._process.pid for process in augmentor.pool.processes], flush=True)
while len(sys.argv) == 2:
    next(flow)
"""


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, None])
def test_they_end_with_their_owner(photos, way):
    owner = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, photos, *([] if way else ["end"])],
        env=os.environ | {"PYTHONPATH": str(LIBRARY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(pids) == 2
        if way:
            os.killpg(owner.pid, way)  # Ctrl-C in a terminal signals the whole group.
        _, errors = owner.communicate(timeout=90)
    finally:
        owner.kill()
    deadline = time.monotonic() + 60
    while any(map(_runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_runs, pids))
    assert errors.count("Traceback") == (1 if way == signal.SIGINT else 0)


def _runs(pid: int) -> bool:
    try:
        # An ended process stays a zombie until init waits for it.
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_processes_without_keras(photos):
    iterator = flow(photos)
    epochs(iterator, 1)
    maps = Path(f"/proc/{children(iterator)[0]}/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    assert "tensorflow" not in maps.read_text()


def in_child(iterator, queue):
    iterator.epoch = 0
    queue.put(epochs(iterator, 1))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_child_leaves_them_to_its_parent(photos, filled):
    iterator = flow(photos, cache=True)
    expected = epochs(iterator, 1)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_child, args=(iterator, queue))
    child.start()
    more = epochs(iterator, 3)  # while the child makes its batches
    same(queue.get(timeout=60), expected)
    child.join(60)
    assert child.exitcode == 0
    same(expected + more, epochs(flow(photos, processes=False), 4))
    assert all(filled)
    assert len(children(iterator)) == 2
