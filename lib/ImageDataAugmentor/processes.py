"""Worker processes that fill batches in place, shared by all augmentors of this process.

Threads share one interpreter lock, which many short OpenCV calls hand to and fro; processes do not
(tests/benchmarks/input_pipeline.py prints what that is worth). They are started afresh, not forked,
so that nothing of TensorFlow's is inherited; they get what to do as a pickle and answer into shared
memory, so that no picture is ever pickled. Each works for whichever threads have tasks for it, one
in hand and one waiting; a thread does the work itself while they start, when there is none or one
dies, and when a task cannot be sent or fails: an error is thus raised by the same code as without
them.
"""

import itertools
import json
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import Pipe
from multiprocessing.reduction import send_handle

from .batch import Batch, Layout
from .cache import Plan
from .memory import Buffers
from .sources import FileSource
from .transforming import Transforming

_POSSIBLE = os.name == "posix"  # descriptors cannot be passed elsewhere
# Seconds of threads' work that show that there is enough of it: more than a start costs.
_WORTH_A_START = 5.0
_START_AT_MOST = 60.0
# Tasks that a process has at a time: it begins the next one while the last one's reply is read.
IN_FLIGHT = 2
_LIVES = 3
_numbers = itertools.count()
_BOOT = """
import json, os, sys
sys.path[:] = json.loads(sys.argv[1])
try:
    from ImageDataAugmentor.serving import serve
except Exception:
    os._exit(3)
serve(int(sys.argv[2]))
"""
# One thread each inside the libraries; no GPU for what a user's function may import.
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    # glibc would give each picture's memory back to the system, which zeroes it for the next one.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}


@dataclass
class Job:
    """How to make any sample of an iterator."""

    source: FileSource
    transforming: Transforming

    def augmented(self, epoch: int, indices: list[int], slots: Iterable) -> Iterator[tuple]:
        """Yield samples as in `epoch`: their pictures and their targets, or None, augmented.

        Pictures may then already lie where they belong, in the `slots` of the batch.
        """
        source, own = self.source, self.transforming
        if own.can_plan and source.shape and source.shape[2] in {1, 3}:
            resizing = source.resizing_can_wait
            # All at once, while Python's own data is in the processor's caches.
            plans = own.plans(epoch, indices, source.shape, resizing)
            load = source.decode if resizing else partial(source.load, to_write_to=False)
            loaded = map(load, indices)
            if source.cache:
                loaded = list(loaded)
            for plan, (x, y), slot in zip(plans, loaded, slots, strict=True):
                yield plan.transform(x, slot), y
        else:
            writes = bool(own.augment or own.preprocess_input)
            for index in indices:
                yield own.augment_sample(*source.load(index, writes), epoch, index)


class SentJob:
    """A job as it travels, for as long as the settings that it holds are those in force."""

    def __init__(self, source: FileSource, transforming: Transforming):
        self.number = next(_numbers)
        self._settings = transforming.settings
        self.refused: str | None = None
        plain = FileSource(**{**vars(source), "cache": None})
        try:
            self.payload = pickle.dumps(Job(plain, transforming.snapshot()))
        except Exception as error:  # whatever a user's object raises when it is pickled
            self.refused = f"{type(error).__name__}: {error}"

    def holds(self, settings: dict) -> bool:
        """Whether these are its settings."""
        return all(settings[name] is value for name, value in self._settings.items())


@dataclass
class Task:
    """A share of a batch."""

    job: int
    payload: bytes | None  # of a job that is new to the process
    epoch: int
    indices: list[int]
    positions: range
    n: int
    layout: Layout
    memory: int
    spots: dict | None  # (path, Loading): Spot
    new_memories: list[tuple[int, int, bool]]  # (number, size, writable); descriptors follow
    forgotten_memories: list[int]
    forgotten_jobs: list[int]


@dataclass
class Reply:
    """What became of a task."""

    filled: bool = False
    refused: str | None = None  # why the job cannot be done in another process
    stored: list = field(default_factory=list)  # (path, Loading, stamp) of photos now cached
    warnings: list = field(default_factory=list)  # (text, category)


class Company:
    """The worker processes, started when threads have had enough to do, ended with their users."""

    _shared: "weakref.ref[Company] | None" = None
    _lock = threading.Lock()

    def __init__(self):
        self.buffers = Buffers()
        self._pid = os.getpid()
        self._worked = 0.0
        self._processes: list[_Process] = []
        weakref.finalize(self, _end, self._processes, self._pid)

    @classmethod
    def shared(cls) -> "Company":
        """The one of this process, which lives as long as somebody holds it."""
        with cls._lock:
            company = cls._shared and cls._shared()
            if company is None or company._pid != os.getpid():
                company = cls()
                cls._shared = weakref.ref(company)
            return company

    @property
    def at_work(self) -> bool:
        """Whether there are processes; in a forked child there are none."""
        return self._alive > 0 and self._pid == os.getpid()

    @property
    def _alive(self) -> int:
        return sum(process.alive for process in self._processes)

    def note(self, seconds: float, workers: int) -> None:
        """Count a thread's work, and start as many processes when there has been enough."""
        self._worked += seconds
        if self._worked > _WORTH_A_START:
            self.start(workers)

    def start(self, workers: int) -> None:
        """Have at least so many processes, ready at once or in a moment."""
        if not _POSSIBLE or not sys.executable:
            return
        with self._lock:
            # Those that died are replaced, but not for ever: there may be too little memory.
            while self._alive < workers and len(self._processes) < _LIVES * workers:
                self._processes.append(_Process())

    def wait(self) -> None:
        """Wait until all that were started can work."""
        deadline = time.monotonic() + _START_AT_MOST
        for process in self._processes:
            process.ready(max(0.0, deadline - time.monotonic()))

    def fill(
        self, sent: SentJob, batch: Batch, epoch: int, share: tuple, cache, workers: int
    ) -> bool:
        """Let a process fill `share`, (positions, indices, files), of a batch; False if none did.

        It is one of the first `workers`, which all who have as many share. Raises nothing: whoever
        does it instead meets what went wrong.
        """
        process = None if sent.refused else self._take(workers)
        if process is None:
            return False
        try:
            reply = process.ask(sent, batch, epoch, share, cache)
        finally:
            with self._lock:
                process.tasks -= 1
        sent.refused = sent.refused or reply.refused
        if reply.filled:
            for text, category in reply.warnings:
                warnings.warn(text, category, stacklevel=2)
        return reply.filled

    def _take(self, workers: int) -> "_Process | None":
        with self._lock:
            ready = [one for one in self._processes if one.ready()][:workers]
            free = [one for one in ready if one.tasks < IN_FLIGHT]
            if not free:
                return None
            process = min(free, key=lambda one: one.tasks)
            process.tasks += 1
            return process


class _Process:
    """One worker process and the connection to it, used by as many threads as it has `tasks`."""

    def __init__(self):
        self.tasks = 0
        self._sending, self._receiving = threading.Lock(), threading.RLock()
        self._expected: deque[Future[Reply]] = deque()
        self._connection, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(sys.path), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | _ENVIRONMENT,
        )
        theirs.close()
        self.alive, self._ready = True, False
        self._known_memories: dict[int, weakref.ref] = {}
        self._known_jobs: dict[int, weakref.ref] = {}

    def ready(self, timeout: float = 0.0) -> bool:
        """Whether it can work, waiting for it to start if need be."""
        if self.alive and not self._ready:
            with self._receiving:
                try:
                    if not self._ready and self._connection.poll(timeout):
                        self._ready = self._connection.recv() == "ready"
                except (EOFError, OSError):
                    self._mourn()
        return self.alive and self._ready

    def ask(self, sent: SentJob, batch: Batch, epoch: int, share: tuple, cache) -> Reply:
        """Have a share of a batch filled."""
        positions, indices, files = share
        plan = cache.plan(files) if cache else None
        try:
            reply = self._ask(sent, batch, epoch, (positions, indices), plan)
        except (EOFError, OSError):
            self._mourn()
            reply = Reply()
        if plan:
            cache.settle(plan, reply.stored)
        return reply

    def _ask(self, sent, batch, epoch, share, plan: Plan | None) -> Reply:
        with self._sending:
            self._send(sent, batch, epoch, share, plan)
            mine = Future()
            self._expected.append(mine)
        with self._receiving:
            while not mine.done():  # one of the threads receives for all
                reply = self._connection.recv()
                self._expected.popleft().set_result(reply)
        return mine.result()

    def _send(self, sent, batch, epoch, share, plan: Plan | None) -> None:
        needed = [batch.memory, *(plan.memories.values() if plan else ())]
        new = [memory for memory in needed if memory.number not in self._known_memories]
        task = Task(
            job=sent.number,
            payload=None,
            epoch=epoch,
            positions=share[0],
            indices=share[1],
            n=batch.n,
            layout=batch.layout,
            memory=batch.memory.number,
            spots=plan and plan.spots,
            new_memories=[(m.number, m.size, m.writable) for m in new],
            forgotten_memories=_forget(self._known_memories),
            forgotten_jobs=_forget(self._known_jobs),
        )
        if sent.number not in self._known_jobs:
            task.payload = sent.payload
            self._known_jobs[sent.number] = weakref.ref(sent)
        self._connection.send(task)
        for memory in new:
            send_handle(self._connection, memory.descriptor, self._process.pid)
            self._known_memories[memory.number] = weakref.ref(memory)

    def _mourn(self) -> None:
        with self._receiving:  # nobody reads from a connection that is closed
            if not self.alive:  # another thread has
                return
            self.end()
        warnings.warn(
            f"A worker process of ImageDataAugmentor ended unasked (exit status "
            f"{self._process.returncode}); its work is done in a thread.",
            stacklevel=2,
        )

    def end(self) -> None:
        """Hang up, which ends the process, and wait for that."""
        self.alive = False
        self._connection.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _forget(known: dict[int, weakref.ref]) -> list[int]:
    gone = [number for number, one in known.items() if one() is None]
    for number in gone:
        del known[number]
    return gone


def _end(processes: list[_Process], pid: int) -> None:
    if pid == os.getpid():  # a forked child's are its parent's
        for process in processes:
            if process.alive:
                process.end()


def _renew_lock() -> None:
    """In a forked child no thread is left that could release a lock held in the parent."""
    Company._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
