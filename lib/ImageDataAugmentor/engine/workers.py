"""Batches that are computed ahead of the reader by threads and worker processes.

Each thread has a share of a batch's samples to fill. It sends the share to a process that is free,
or fills it itself: while processes start, when there are none or one dies, and when a task cannot
be sent or fails. An error is thus raised by the same code as without processes.
"""

import os
import queue
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import cv2
import numpy as np

from .cache import Cache, lend
from .memory import Buffers, SharedArray, SharedMemory
from .processes import POSSIBLE, TASKS_AT_A_TIME, PickledPipeline, Task, WorkerProcess
from .samples import Share, Spec, fill

# The number of samples in a share. Smaller shares would lose more time to cold caches.
_SAMPLES_PER_SHARE = 32
_BATCHES_AHEAD = 3
# Start processes after threads have worked for so many seconds, which is more than a start costs.
_WORTH_A_START = 5.0
_START_AT_MOST = 60.0  # seconds
_STARTS_PER_WORKER = 3  # Too little memory, for example, would kill every replacement as well.
_shared: "weakref.WeakValueDictionary[tuple, Workers]" = weakref.WeakValueDictionary()
_here = threading.local()  # `depth` is 1 in worker threads, 2 in those that they wait for


def available_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_workers(count: int) -> "Workers":
    """Return the workers of all augmentors with this count, in this process.

    TensorFlow keeps the iterators that it has read, so workers of their own would pile up. A
    user's function that reads another augmentor's batches runs in a worker thread. It gets other
    workers, because waiting for its own might never end.
    """
    depth = getattr(_here, "depth", 0)
    key = os.getpid(), count, depth
    return _shared.get(key) or _shared.setdefault(key, Workers(count, depth))


class Batch:
    """The arrays of a batch, specified by `specs`, and everything that is needed to fill them.

    The pipeline makes the samples, `save` is called with each augmented picture and its index.
    Without `pickled`, the pipeline for processes, or free buffers, threads fill the batch.
    """

    def __init__(
        self,
        pipeline,
        epoch: int,
        indices: np.ndarray,
        specs: list[Spec | None],
        cache: Cache | None = None,
        save: Callable | None = None,
        pickled: PickledPipeline | None = None,
        buffers: Buffers | None = None,
    ):
        self._pipeline, self._epoch, self.indices = pipeline, epoch, indices
        self._cache, self._save, self.pickled = cache, save, pickled
        self._futures: list[Future] = []
        self.shared: list[SharedArray | None] | None = None
        specs = [spec and ((len(indices), *spec[0]), spec[1]) for spec in specs]
        if pickled:
            lent = [spec and buffers.borrow(*spec) for spec in specs]
            if all(one or not spec for one, spec in zip(lent, specs, strict=True)):
                self.shared = [one and one[0] for one in lent]
                self.arrays = [one and one[1] for one in lent]
        if self.shared is None:
            self.arrays = [spec and np.empty(*spec) for spec in specs]

    def fill(self, positions: range | None = None) -> None:
        """Fill the samples at these positions, or all."""
        share = self._share(range(len(self.indices)) if positions is None else positions)
        with lend(self._cache, self._pipeline, share.indices) as photos:
            fill(self._pipeline, share, self.arrays, photos, self._save)

    def fill_in(self, process: WorkerProcess, connection, positions: range) -> bool:
        """Have a process fill the samples at these positions. Return whether it did."""
        share = self._share(positions)
        living = frozenset(SharedMemory.living.data)
        with lend(self._cache, self._pipeline, share.indices) as photos:
            task = Task(self.pickled.shared, share, self.shared, photos, living)
            reply = process.run(connection, task)
            if photos is not None:
                photos.filled |= reply.photos
        self.pickled.refused = self.pickled.refused or reply.refused
        for text, category in reply.warnings if reply.filled else ():
            warnings.warn(text, category, stacklevel=2)
        return reply.filled

    def _share(self, positions: range) -> Share:
        indices = self.indices[positions.start : positions.stop].tolist()
        return Share(self._epoch, indices, positions)

    def start(self, executor: Executor, work: Callable, shares: int) -> None:
        """Have threads call work(batch, positions) for each of about as many shares."""
        size = len(self.indices)
        share = -(-size // shares)
        self._futures = [
            executor.submit(work, self, range(start, min(start + share, size)))
            for start in range(0, size, share)
        ]

    def wait(self) -> None:
        """Wait for the samples. Raises the error of any sample."""
        try:
            for future in self._futures:
                future.result()
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Cancel the shares that no thread has started."""
        for future in self._futures:
            future.cancel()


class Workers:
    """Threads, and processes that do their work once there is enough of it.

    They start when they are needed and end with the last augmentor that uses them; `count` of them
    work at the same time. Several threads switch off OpenCV's own, which is possible only for the
    whole process. `buffers` are the memory of batches that processes fill.
    """

    def __init__(self, count: int, depth: int = 0):
        self.count = count
        if count > 1:  # OpenCV's own threads would compete with these.
            cv2.setNumThreads(1)
        self._threads = ThreadPoolExecutor(
            TASKS_AT_A_TIME * count,  # one for each task that processes can have
            "ImageDataAugmentor",
            initializer=lambda: setattr(_here, "depth", depth + 1),
        )
        self._turn = threading.Semaphore(count)  # held by a thread that fills a share itself
        self.buffers = Buffers()
        self.processes: list[WorkerProcess] = []
        self._free: queue.SimpleQueue = queue.SimpleQueue()  # (process, connection)
        self._starting = threading.Lock()
        self._worked = 0.0
        weakref.finalize(self, _end_all, self.processes, os.getpid())

    @property
    def running(self) -> int:
        """The number of processes that run."""
        return sum(process.alive for process in self.processes)

    def start_processes(self, wait: bool = False) -> None:
        """Start processes until there are `count`, and wait until they are ready if asked to."""
        with self._starting:
            most = _STARTS_PER_WORKER * self.count
            missing = min(self.count - self.running, most - len(self.processes))
            new = [WorkerProcess() for _ in range(missing if POSSIBLE else 0)]
            self.processes += new
            # In turns, so that each process gets its first task before any gets its second.
            for number in range(TASKS_AT_A_TIME):
                for process in new:
                    self._free.put((process, process.connections[number]))
        deadline = time.monotonic() + _START_AT_MOST
        for process in self.processes if wait else ():
            process.is_ready(max(0.0, deadline - time.monotonic()))

    def start(self, batch: Batch, ahead: bool, processes: bool | None) -> None:
        """Start to fill a batch.

        Fewer and larger shares are better for one that is `ahead` of those that the reader still
        has. None for `processes` starts them after the threads have had some seconds of work.
        """

        def work(batch: Batch, positions: range) -> None:
            if self._fill_in_process(batch, positions):
                return
            with self._turn:
                started = time.thread_time()
                batch.fill(positions)
                self._worked += time.thread_time() - started
            if processes is None and self._worked > _WORTH_A_START:
                self.start_processes()

        size = len(batch.indices)
        batch.start(self._threads, work, self._shares_ahead(size) if ahead else self.count)

    def _fill_in_process(self, batch: Batch, positions: range) -> bool:
        if batch.shared is None or batch.pickled.refused:
            return False
        try:
            process, connection = self._free.get_nowait()
        except queue.Empty:
            return False
        try:
            return process.is_ready() and batch.fill_in(process, connection, positions)
        finally:
            if process.alive:
                self._free.put((process, connection))

    def _shares_ahead(self, size: int) -> int:
        at_least = -(-self.count // _BATCHES_AHEAD)
        return min(self.count, max(size // _SAMPLES_PER_SHARE, at_least))

    def batches_ahead(self, size: int) -> int:
        """Return how many batches keep all workers busy while the reader takes one."""
        return 1 + -(-self.count // self._shares_ahead(size))


def _end_all(processes: list[WorkerProcess], pid: int) -> None:
    if pid == os.getpid():  # Those of a forked child belong to its parent.
        for process in processes:
            if process.alive:
                process.end()


class Lookahead:
    """Starts the next batches while the reader uses the current one.

    Batches can be taken in any order, but only those taken in sequence are started ahead. `start`
    is a function of (epoch, number, ahead) that starts a batch; `extent` returns how many batches
    an epoch has now, and how many of them to start ahead.
    """

    def __init__(
        self, start: Callable[[int, int, bool], Batch], extent: Callable[[], tuple[int, int]]
    ):
        self._start_batch, self._extent = start, extent
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pending: dict[tuple[int, int], Batch] = {}
        self._previous: tuple[int, int] | None = None
        self._version: object = None

    def take(self, epoch: int, number: int, version: object, endless: bool = False) -> Batch:
        """Return batch `number` of `epoch`, filled. Several threads may call this.

        Batches that were started under another object of `version` are dropped. If
        `endless`, the next epoch's batches are started after the last one of an epoch.
        """
        if self._pid != os.getpid():  # A forked child lacks the threads that fill the batches.
            self._begin()
        with self._lock:
            if version is not self._version:
                self._drop()
            self._version = version
            batch = self._pending.pop((epoch, number), None)
            batch = batch or self._start_batch(epoch, number, False)
            if number == 0 or self._previous == (epoch, number - 1):
                self._start_next(epoch, number, endless)
            self._previous = (epoch, number)
        batch.wait()
        return batch

    def _start_next(self, epoch: int, number: int, endless: bool) -> None:
        length, ahead = self._extent()
        wanted = [
            (epoch + following // length, following % length)
            for following in range(number + 1, number + ahead + 1)
            if endless or following < length
        ]
        for key in self._pending.keys() - set(wanted):
            self._pending.pop(key).cancel()
        for key in wanted:
            if key not in self._pending:
                self._pending[key] = self._start_batch(*key, True)

    def close(self) -> None:
        """Drop all batches that were started ahead."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        while self._pending:
            self._pending.popitem()[1].cancel()
