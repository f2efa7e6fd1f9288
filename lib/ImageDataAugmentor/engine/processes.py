"""Worker processes that fill batches in place, shared by all augmentors of this process.

Threads share one interpreter lock, which many short OpenCV calls pass back and forth; processes do
not (tests/benchmarks/input_pipeline.py prints what that is worth). The processes are started anew,
not forked, so that they inherit nothing of TensorFlow. They receive a pickled SamplePipeline and
write into shared memory, so no picture is ever pickled.

Each thread that has a share of a batch to fill sends it to a process as a Task. A process has up to
two tasks, one in work and one waiting. The thread fills the share itself while the processes start,
when there are none or one dies, and when a task cannot be sent or fails. An error is thus raised by
the same code as without processes.
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
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import Pipe
from multiprocessing.reduction import send_handle

from .batch import Batch, BatchSpec
from .cache import Placement
from .shared_memory import Buffers
from .sources import FileSource
from .transforming import SampleTransformer

_POSSIBLE = os.name == "posix"  # File descriptors cannot be sent to processes elsewhere.
# Start processes after threads have worked for so many seconds, which is more than a start costs.
_WORTH_A_START = 5.0
_START_AT_MOST = 60.0  # seconds
# Tasks that a process has at a time. It begins the next one while the last reply is being read.
IN_FLIGHT = 2
_STARTS_PER_WORKER = 3  # Too little memory, for example, would kill every replacement as well.
_numbers = itertools.count()
_BOOT = """
import json, os, sys
sys.path[:] = json.loads(sys.argv[1])
try:
    from ImageDataAugmentor.engine.worker_main import serve
except Exception:
    os._exit(3)
serve(int(sys.argv[2]))
"""
# Let each library use one thread, and hide the GPUs from what a user's function may import.
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    # Keep freed memory: glibc would return each picture's memory to the system, which then clears
    # it for the next picture.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}


@dataclass
class SamplePipeline:
    """Makes any sample of an iterator: loads it from its source and transforms it."""

    source: FileSource
    transformer: SampleTransformer

    def augmented(self, epoch: int, indices: list[int], slots: Iterable) -> Iterator[tuple]:
        """Yield the samples of `epoch` as (augmented picture, target or None).

        A picture may already lie in its slot of the batch.
        """
        source, transformer = self.source, self.transformer
        if transformer.can_draw and source.shape and source.shape[2] in {1, 3}:
            resizing = source.resizing_can_wait
            # Drawing for all samples at once is faster: Python's data stays in the processor cache.
            drawn = transformer.draw(epoch, indices, source.shape, resizing)
            load = source.decode if resizing else partial(source.load, writable=False)
            loaded = map(load, indices)
            if source.cache:
                loaded = list(loaded)
            for transform, (x, y), slot in zip(drawn, loaded, slots, strict=True):
                yield transform.apply(x, slot), y
        else:
            writable = bool(transformer.augment or transformer.preprocess_input)
            for index in indices:
                yield transformer.augment_sample(*source.load(index, writable), epoch, index)


class PickledPipeline:
    """A SamplePipeline as it is sent to a process, with the settings that it was pickled with.

    `refused` says why another process cannot have it, if it cannot.
    """

    def __init__(self, source: FileSource, transformer: SampleTransformer):
        self.number = next(_numbers)
        self._settings = transformer.settings
        self.refused: str | None = None
        plain = replace(source, cache=None)
        try:
            self.payload = pickle.dumps(SamplePipeline(plain, transformer.snapshot()))
        except Exception as error:  # Pickling a user's objects may raise anything.
            self.refused = f"{type(error).__name__}: {error}"

    def has(self, settings: dict) -> bool:
        """Return whether it was pickled with these settings."""
        return all(settings[name] is value for name, value in self._settings.items())


@dataclass
class Task:
    """A share of a batch that a process is asked to fill."""

    pipeline: int  # The number of a PickledPipeline.
    payload: bytes | None  # The pickle, if the process does not have it yet.
    epoch: int
    indices: list[int]  # The samples to make.
    positions: range  # Their positions in the batch.
    n: int  # The number of samples in the whole batch.
    spec: BatchSpec
    memory: int  # The number of the SharedMemory that holds the batch.
    spots: dict | None  # {(path, ImageLoader): Spot}, or None without a cache.
    new_memories: list[tuple[int, int]]  # (number, size); descriptors follow.
    forgotten_memories: list[int]
    forgotten_pipelines: list[int]


@dataclass
class Reply:
    """The outcome of a Task."""

    filled: bool = False
    refused: str | None = None  # Why the process could not load the pipeline.
    stored: list = field(default_factory=list)  # (path, ImageLoader, stamp); see Cache.settle.
    warnings: list = field(default_factory=list)  # (text, category)


class WorkerPool:
    """A lazily started pool of worker processes, which ends when nobody holds it any more."""

    _shared: "weakref.ref[WorkerPool] | None" = None
    _lock = threading.Lock()

    def __init__(self):
        self.buffers = Buffers()
        self._pid = os.getpid()
        self._worked = 0.0
        self._processes: list[_WorkerProcess] = []
        weakref.finalize(self, _end_all, self._processes, self._pid)

    @classmethod
    def shared(cls) -> "WorkerPool":
        """Return the pool of this process."""
        with cls._lock:
            pool = cls._shared and cls._shared()
            if pool is None or pool._pid != os.getpid():
                pool = cls()
                cls._shared = weakref.ref(pool)
            return pool

    @property
    def running(self) -> bool:
        """Whether there are processes. A forked child has none."""
        return self._alive > 0 and self._pid == os.getpid()

    @property
    def _alive(self) -> int:
        return sum(process.alive for process in self._processes)

    def note(self, seconds: float, workers: int) -> None:
        """Count a thread's work, and start `workers` processes when there has been enough."""
        self._worked += seconds
        if self._worked > _WORTH_A_START:
            self.start(workers)

    def start(self, workers: int) -> None:
        """Start processes until there are `workers`, without waiting until they are ready."""
        if not _POSSIBLE or not sys.executable:
            return
        with self._lock:
            while self._alive < workers and len(self._processes) < _STARTS_PER_WORKER * workers:
                self._processes.append(_WorkerProcess())

    def wait(self) -> None:
        """Wait until all processes that were started are ready."""
        deadline = time.monotonic() + _START_AT_MOST
        for process in self._processes:
            process.ready(max(0.0, deadline - time.monotonic()))

    def fill(
        self,
        pipeline: PickledPipeline,
        batch: Batch,
        epoch: int,
        share: tuple,
        cache,
        workers: int,
    ) -> bool:
        """Have a process fill a share of a batch; return whether one did.

        `share` is (positions, indices, files). The process is one of the first `workers`. Raise
        nothing: the caller fills the share itself if this fails, and meets the same error.
        """
        process = None if pipeline.refused else self._take(workers)
        if process is None:
            return False
        try:
            reply = process.ask(pipeline, batch, epoch, share, cache)
        finally:
            with self._lock:
                process.tasks -= 1
        pipeline.refused = pipeline.refused or reply.refused
        if reply.filled:
            for text, category in reply.warnings:
                warnings.warn(text, category, stacklevel=2)
        return reply.filled

    def _take(self, workers: int) -> "_WorkerProcess | None":
        with self._lock:
            ready = [process for process in self._processes if process.ready()][:workers]
            free = [process for process in ready if process.tasks < IN_FLIGHT]
            if not free:
                return None
            process = min(free, key=lambda process: process.tasks)
            process.tasks += 1
            return process


class _WorkerProcess:
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
        self._known_pipelines: dict[int, weakref.ref] = {}

    def ready(self, timeout: float = 0.0) -> bool:
        """Return whether it can take tasks, after waiting up to `timeout` seconds for its start."""
        if self.alive and not self._ready:
            with self._receiving:
                try:
                    if not self._ready and self._connection.poll(timeout):
                        self._ready = self._connection.recv() == "ready"
                except (EOFError, OSError):
                    self._on_exit()
        return self.alive and self._ready

    def ask(
        self, pipeline: PickledPipeline, batch: Batch, epoch: int, share: tuple, cache
    ) -> Reply:
        """Have it fill a share of a batch, and wait for its reply; a failure is a Reply too."""
        positions, indices, files = share
        placement = cache.locate(files) if cache else None
        try:
            reply = self._ask(pipeline, batch, epoch, (positions, indices), placement)
        except (EOFError, OSError):
            self._on_exit()
            reply = Reply()
        if placement:
            cache.settle(placement, reply.stored)
        return reply

    def _ask(self, pipeline, batch, epoch, samples, placement: Placement | None) -> Reply:
        with self._sending:
            self._send(pipeline, batch, epoch, samples, placement)
            mine = Future()
            self._expected.append(mine)
        with self._receiving:
            # Replies come in the order of the tasks. Whichever thread is here receives for all.
            while not mine.done():
                reply = self._connection.recv()
                self._expected.popleft().set_result(reply)
        return mine.result()

    def _send(self, pipeline, batch, epoch, samples, placement: Placement | None) -> None:
        needed = [batch.memory, *(placement.memories.values() if placement else ())]
        new = [memory for memory in needed if memory.number not in self._known_memories]
        positions, indices = samples
        task = Task(
            pipeline=pipeline.number,
            payload=None,
            epoch=epoch,
            indices=indices,
            positions=positions,
            n=batch.n,
            spec=batch.spec,
            memory=batch.memory.number,
            spots=placement and placement.spots,
            new_memories=[(m.number, m.size) for m in new],
            forgotten_memories=_forget(self._known_memories),
            forgotten_pipelines=_forget(self._known_pipelines),
        )
        if pipeline.number not in self._known_pipelines:
            task.payload = pipeline.payload
            self._known_pipelines[pipeline.number] = weakref.ref(pipeline)
        self._connection.send(task)
        for memory in new:
            send_handle(self._connection, memory.descriptor, self._process.pid)
            self._known_memories[memory.number] = weakref.ref(memory)

    def _on_exit(self) -> None:
        """Warn that the process ended by itself, and use it no more."""
        with self._receiving:  # Another thread may be reading from the connection.
            if not self.alive:  # Another thread has warned.
                return
            self.end()
        warnings.warn(
            f"A worker process of ImageDataAugmentor ended unasked (exit status "
            f"{self._process.returncode}); its work is done in a thread.",
            stacklevel=2,
        )

    def end(self) -> None:
        """End the process by hanging up, and wait for that."""
        self.alive = False
        self._connection.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _forget(known: dict[int, weakref.ref]) -> list[int]:
    """Remove the objects that are gone from `known`; return their numbers."""
    gone = [number for number, reference in known.items() if reference() is None]
    for number in gone:
        del known[number]
    return gone


def _end_all(processes: list[_WorkerProcess], pid: int) -> None:
    if pid == os.getpid():  # Those of a forked child belong to its parent.
        for process in processes:
            if process.alive:
                process.end()


def _renew_lock() -> None:
    """Replace the lock, in a forked child where no thread is left that could release it."""
    WorkerPool._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
