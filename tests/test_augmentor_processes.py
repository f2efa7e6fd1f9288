"""Worker processes: the same batches, whatever befalls them, and nothing left behind."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pandas as pd
import psutil
import pytest

from ImageDataAugmentor import ImageDataAugmentor, UnreadableImage, batch
from ImageDataAugmentor import cache as cache_module
from ImageDataAugmentor import memory as memory_module
from ImageDataAugmentor import processes as processes_module
from ImageDataAugmentor.memory import Buffers, SharedMemory
from ImageDataAugmentor.reading import ImageLoader

pytestmark = pytest.mark.skipif(os.name != "posix", reason="descriptors cannot be passed")
SIZE = (24, 32)
LIBRARY = Path(processes_module.__file__).parents[1]


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(11):
            small = rng.integers(0, 256, (6, 8, 3), np.uint8)
            path = tmp_path / "photos" / name / f"{number:02d}.jpg"
            cv2.imwrite(str(path), cv2.resize(small, (64, 48)))
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def nothing_of_other_tests(monkeypatch):
    gc.collect()  # their processes, as far as nobody holds them
    monkeypatch.setattr(processes_module.WorkerPool, "_shared", None)
    monkeypatch.setattr(cache_module, "_caches", {})


def compose():
    return A.Compose([A.HorizontalFlip(), A.Affine(rotate=(-20, 20), p=0.7), A.FancyPCA()])


def flow(photos, processes=True, workers=2, augment="some", **options):
    own = {name: options.pop(name) for name in ("cache", "preprocess_input", "truncated", "rescale")
           if name in options}  # fmt: skip
    augmentor = ImageDataAugmentor(
        augment=compose() if augment == "some" else augment,
        seed=7,
        workers=workers,
        processes=processes,
        **own,
    )
    settings = {"target_size": SIZE, "batch_size": 5, "interpolation": cv2.INTER_AREA} | options
    return augmentor.flow_from_directory(photos, **settings)


def epochs(iterator, number=2):
    return [next(iterator) for _ in range(number * len(iterator))]


def same(one, other):
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def pool(iterator):
    return iterator.image_data_generator.threads.pool


def children(iterator):
    return [one._process.pid for one in pool(iterator)._processes if one.alive]


@pytest.fixture
def filled(monkeypatch):
    """Whether each share was filled by a process."""
    results, fill = [], processes_module.WorkerPool.fill

    def noted(*arguments):
        results.append(fill(*arguments))
        return results[-1]

    monkeypatch.setattr(processes_module.WorkerPool, "fill", noted)
    return results


OPTIONS = {
    "plain": {},
    "uint8": {"dtype": "uint8"},
    "standardised": {"rescale": 1 / 255},
    "no labels": {"class_mode": None},
    "itself as target": {"class_mode": "input"},
    "fused": {"augment": ImageDataAugmentor.fuse(compose())},
    "fused and resized": {
        "augment": ImageDataAugmentor.fuse(compose()),
        "interpolation": cv2.INTER_LINEAR,
    },
    "fused, of one channel": {
        "augment": ImageDataAugmentor.fuse(A.Compose([A.Affine(rotate=(-20, 20), p=0.7)])),
        "interpolation": cv2.INTER_LINEAR,
        "color_mode": "gray",
        "dtype": "uint8",
    },
    "module's function": {"preprocess_input": np.negative},
    "view of the picture": {
        "augment": ImageDataAugmentor.fuse(compose()),
        "preprocess_input": np.flipud,
        "dtype": "uint8",
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("workers", [1, 3])
def test_same_batches(photos, filled, options, workers):
    same(
        epochs(flow(photos, workers=workers, **options)),
        epochs(flow(photos, workers=0, processes=False, **options)),
    )
    assert filled
    assert all(filled)


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_they_fill_and_use_the_cache(photos, tmp_path, filled, where, monkeypatch):
    iterator = flow(photos, cache=True if where == "memory" else tmp_path / "cache")
    expected = epochs(flow(photos, processes=False), 4)
    got = epochs(iterator, 2)
    decoded, call = [], ImageLoader.__call__
    monkeypatch.setattr(
        ImageLoader, "__call__", lambda self, path: (decoded.append(path), call(self, path))[1]
    )
    assert len(iterator.cache._sections[iterator.loader]._entries) == 22
    same(got + epochs(iterator), expected)
    iterator.image_data_generator.threads.processes = False
    iterator.epoch = 0
    same(epochs(iterator, 1), expected[: len(iterator)])
    assert not decoded  # a thread reads what processes stored
    assert all(filled)


def test_a_changed_file_is_read_anew(photos):
    iterator = flow(photos, cache=True, augment=None, shuffle=False)
    epochs(iterator)
    for value in (77, 78):
        iterator._lookahead.close()  # it may have read the file already
        cv2.imwrite(iterator.filepaths[12], np.full((48, 64, 3), value, np.uint8))
        os.utime(iterator.filepaths[12], ns=(value, value))
        for _ in range(2):
            batches = epochs(iterator, 1)
            assert np.all(batches[2][0][2] == value)


def test_target_pictures(photos, filled):
    paths = sorted(map(str, photos.glob("*/*.jpg")))
    frame = pd.DataFrame({"filename": paths, "class": paths[::-1]})

    def pairs(processes):
        augmentor = ImageDataAugmentor(
            augment=compose(), label_augment_mode="mask", seed=3, workers=2,
            processes=processes, cache=True,
        )  # fmt: skip
        return epochs(
            augmentor.flow_from_dataframe(
                frame, class_mode="grayscale_target", target_size=SIZE, batch_size=4,
                interpolation=cv2.INTER_AREA,
            )
        )  # fmt: skip

    same(pairs(True), pairs(False))
    assert all(filled)


def oversampled(photos):
    """Return a table in which each photo stands three times in a row."""
    paths = sorted(map(str, photos.glob("*/*.jpg")))
    return pd.DataFrame({"filename": paths}).loc[np.repeat(range(len(paths)), 3)]


def its_own_targets(photos):
    """Return a table in which each photo is its own target picture."""
    paths = sorted(map(str, photos.glob("*/*.jpg")))
    return pd.DataFrame({"filename": paths, "class": paths})


@pytest.mark.parametrize("where", ["memory", "folder"])
@pytest.mark.parametrize(
    ("table", "class_mode"), [(oversampled, None), (its_own_targets, "color_target")]
)
def test_a_photo_that_stands_twice_in_a_share_is_cached_once(
    photos, tmp_path, filled, where, table, class_mode
):
    def batches(processes, cache):
        augmentor = ImageDataAugmentor(workers=2, processes=processes, cache=cache)
        return augmentor.flow_from_dataframe(
            table(photos), class_mode=class_mode, target_size=SIZE, batch_size=4,
            interpolation=cv2.INTER_AREA, shuffle=False,
        )  # fmt: skip

    iterator = batches(True, cache=True if where == "memory" else tmp_path / "cache")
    expected = batches(False, cache=None)
    for number in 2 * list(range(len(iterator))):
        np.testing.assert_array_equal(iterator[number], expected[number])
    section = iterator.cache._sections[iterator.loader]
    assert len(section._entries) == 22
    slots = len(section._segments) * section._slots_per_segment
    assert len(section._free) == slots - 22
    assert filled
    assert all(filled)


VIEWS = {
    "itself": lambda x: x,
    "upside down": np.flipud,
    "mirrored": np.fliplr,
    "BGR": lambda x: x[..., ::-1],
    "transposed": lambda x: x.transpose(1, 0, 2),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_views_of_a_picture_that_lies_in_its_batch(view):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), np.uint8)
    before = pictures.copy()
    batch.put([pictures, None], 1, (view(pictures[1]), None))
    np.testing.assert_array_equal(pictures, [before[0], view(before[1]), before[2]])


def test_a_changed_setting_reaches_them(photos):
    iterator = flow(photos, augment=None, rescale=1.0)
    before = epochs(iterator, 1)
    iterator.image_data_generator.rescale = 0.5
    iterator.reset()
    iterator.epoch = 0
    after = epochs(iterator, 1)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one[0] / 2, other[0])


@pytest.mark.parametrize("processes", [True, False])
def test_a_changed_setting_holds_from_the_next_batch_on(photos, processes):
    """Also where that was begun ahead, in an epoch that ends or in the next one."""
    iterator = flow(photos, processes, augment=None, rescale=1.0)
    expected = epochs(flow(photos, processes, augment=None, rescale=1.0))
    length = len(iterator)
    got = [next(iterator) for _ in range(length - 1)]
    iterator.image_data_generator.rescale = 0.5
    got += [next(iterator) for _ in range(length + 1)]
    for number, (one, other) in enumerate(zip(got, expected, strict=True)):
        np.testing.assert_array_equal(one[0], other[0] * (0.5 if number >= length - 1 else 1))


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
    assert len(pool(iterator)._processes) == 6
    assert len(epochs(iterator)) == 2 * len(iterator)


def test_what_cannot_be_pickled_stays_in_the_threads(photos, filled):
    iterator = flow(photos, augment=None, preprocess_input=lambda x: 255 - x)
    plain = flow(photos, augment=None, processes=False)
    with pytest.warns(UserWarning, match=r"stays in threads.*lambda.*in a module"):
        negatives = epochs(iterator)
    for (negative, _), (single, _) in zip(negatives, epochs(plain), strict=True):
        np.testing.assert_array_equal(negative, 255 - single)
    assert not filled
    assert "lambda" in iterator._pickled.refused


def test_what_they_cannot_load_stays_in_the_threads(photos, filled, monkeypatch):
    def known_here_only(picture):
        return picture

    known_here_only.__qualname__ = "known_here_only"
    monkeypatch.setattr(sys.modules[__name__], "known_here_only", known_here_only, raising=False)
    iterator = flow(photos, preprocess_input=known_here_only)
    with pytest.warns(UserWarning, match="stays in threads"):
        got = epochs(iterator)
    same(got, epochs(flow(photos, processes=False)))
    assert (
        "known_here_only" in iterator._pickled.refused or "No module" in iterator._pickled.refused
    )
    assert not any(filled)


def test_errors_and_warnings_are_those_of_a_thread(photos):
    iterator = flow(photos, augment=None, shuffle=False, batch_size=11, truncated="load")
    iterator[0]
    damaged = Path(iterator.filepaths[15])
    whole = damaged.read_bytes()
    iterator._lookahead.close()  # it may have read the file already
    damaged.write_bytes(whole[:-200])
    with pytest.warns(UserWarning, match=f"{damaged.name}: the file is truncated"):
        iterator[1]
    iterator._lookahead.close()
    damaged.write_bytes(b"no picture")
    with pytest.raises(UnreadableImage, match=damaged.name):
        iterator[1]
    damaged.write_bytes(whole)
    assert len(iterator[1][0]) == 11


def test_texts_of_any_length_are_targets(photos):
    frame = pd.DataFrame({"filename": sorted(map(str, photos.glob("a/*.jpg")))})
    frame["class"] = ["x" * (1 + number) for number in range(11)]
    iterator = ImageDataAugmentor(workers=2, processes=True).flow_from_dataframe(
        frame, class_mode="raw", target_size=SIZE, batch_size=4, shuffle=False,
        interpolation=cv2.INTER_AREA,
    )  # fmt: skip
    texts = [text for _, y in epochs(iterator) for text in y]
    assert texts == 2 * list(frame["class"])


def test_started_when_threads_have_had_enough_to_do(photos, monkeypatch):
    monkeypatch.setattr(processes_module, "_WORTH_A_START", 0.0)
    gc.collect()
    iterator = flow(photos, processes=None)
    epochs(iterator, 1)
    assert len(children(iterator)) == 2
    pool(iterator).wait()
    same(epochs(iterator, 1), epochs(flow(photos, processes=False), 2)[len(iterator) :])
    assert not children(flow(photos, processes=False)) or pool(iterator)


def test_no_more_of_them_work_than_there_are_workers(photos, filled):
    two = flow(photos)  # whose processes all augmentors share
    epochs(two)
    two._lookahead.close()  # what it has begun ahead would be counted
    tasks, one = set(), flow(photos, workers=1)
    for process in pool(one)._processes:

        def ask(*arguments, process=process, ask=process.ask):
            tasks.add(process)
            return ask(*arguments)

        process.ask = ask
    epochs(one)
    assert len(tasks) == 1 < len(children(two))
    assert all(filled)


def test_a_reader_may_keep_all_batches(photos, monkeypatch):
    monkeypatch.setattr(memory_module, "_LENT_AT_MOST", 9)
    iterator = flow(photos, batch_size=1)
    kept = epochs(iterator, 4)  # more than there is memory for
    same(kept, epochs(flow(photos, batch_size=1, processes=False), 4))


def test_memory_serves_again_when_its_batch_is_gone():
    buffers = Buffers()
    memory, whole = buffers.borrow(1000)
    view = whole[10:20].reshape(2, 5)
    del whole
    other = buffers.borrow(1000)
    assert other[0] is not memory  # the view keeps it
    del view
    assert buffers.borrow(900)[0] is memory


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
    cache_module._caches.clear()
    deadline = time.monotonic() + 60
    while (any(map(psutil.pid_exists, pids)) or descriptors() > before) and (
        time.monotonic() < deadline
    ):
        gc.collect()
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, pids))  # a zombie would exist
    assert descriptors() <= before


SCRIPT = """
import sys
from ImageDataAugmentor import ImageDataAugmentor
flow = ImageDataAugmentor(workers=2, processes=True).flow_from_directory(sys.argv[1], batch_size=4)
for _ in range(9):
    next(flow)
print(*[one._process.pid for one in flow.image_data_generator.threads.pool._processes], flush=True)
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
    line = owner.stdout.readline()
    while line.startswith("Found"):
        line = owner.stdout.readline()
    pids = [int(pid) for pid in line.split()]
    assert len(pids) == 2
    if way:
        os.killpg(owner.pid, way)  # as a terminal's Ctrl-C does
    _, errors = owner.communicate(timeout=90)
    deadline = time.monotonic() + 60
    while any(map(_runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_runs, pids))
    assert errors.count("Traceback") == (1 if way == signal.SIGINT else 0)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # init has not reaped it yet
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
    more = epochs(iterator, 3)  # at the same time
    same(queue.get(timeout=60), expected)
    child.join(10)
    assert child.exitcode == 0
    same(expected + more, epochs(flow(photos, processes=False), 4))
    assert all(filled)
    assert len(children(iterator)) == 2


def test_wrong_value():
    with pytest.raises(ValueError, match="processes=4"):
        ImageDataAugmentor(processes=4)


def test_a_mapping_of_a_file_that_others_may_read(tmp_path):
    (tmp_path / "file").write_bytes(bytes(range(100)))
    memory = SharedMemory.of_file(tmp_path / "file", 100, writable=False)
    assert memory.array((2, 5), offset=10).tolist()[1] == [15, 16, 17, 18, 19]
    with pytest.raises(ValueError, match="read-only"):
        memory.array((2, 5))[:] = 0
