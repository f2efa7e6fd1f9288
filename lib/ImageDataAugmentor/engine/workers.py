"""Threads that compute batches ahead of the reader, delivered in order.

Each thread fills a share of a batch's samples. Where there is enough work, it has a process fill
the share instead (see processes.py). All augmentors with the same number of workers share their
threads: TensorFlow keeps the iterators that it has read, so threads of their own would pile up.
"""

import os
import threading
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import cv2

from .processes import IN_FLIGHT, WorkerPool

# The number of samples in a share. Smaller shares would lose more time to cold caches.
_SAMPLES_PER_SHARE = 32
_BATCHES_AHEAD = 3
_executors: "weakref.WeakValueDictionary[tuple, ThreadPoolExecutor]" = weakref.WeakValueDictionary()
_executors_lock = threading.Lock()
_here = (
    threading.local()
)  # `depth` is 1 in the threads of an executor, 2 in those that they wait for.


def available_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _shared_executor(workers: int) -> ThreadPoolExecutor:
    """Return the executor of all augmentors with this number of workers.

    A function of the user's that reads another augmentor's batches runs in such a thread. It gets
    an executor of its own, because waiting for its own executor might never end.
    """
    depth = getattr(_here, "depth", 0)
    key = os.getpid(), workers, depth
    with _executors_lock:
        executor = _executors.get(key)
        if executor is None:
            if workers > 1:  # OpenCV's own threads would compete with these.
                cv2.setNumThreads(1)
            executor = _executors[key] = ThreadPoolExecutor(
                IN_FLIGHT * workers,  # There is one for each task that processes can have.
                "ImageDataAugmentor",
                initializer=lambda: setattr(_here, "depth", depth + 1),
            )
    return executor


class WorkerThreads:
    """The threads that one augmentor uses, and its access to the shared pool of worker processes.

    The threads start when they are needed and end with the last augmentor that used them. The
    object can be pickled and used in a forked child, where the threads start anew. Several threads
    switch off OpenCV's own threads, which is possible only for the whole process.

    Attributes:
        workers: the number of threads that work at the same time.
        processes: True starts processes at once, False never, None when there is enough work.
        turn: a semaphore held by a thread that fills a share itself, for `workers` of them.
        pool: the WorkerPool.
    """

    def __init__(self, workers: int | None, processes: bool | None = None):
        if workers is not None and workers < 0:
            raise ValueError(f"workers={workers}: give 0, a positive number, or None")
        if processes not in {None, True, False}:
            raise ValueError(f"processes={processes!r}: give True, False, or None")
        self.workers = available_cores() if workers is None else workers
        self.processes = processes
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._executors: set[ThreadPoolExecutor] = set()  # This keeps them alive.
        self.turn = threading.Semaphore(self.workers)
        self.pool = WorkerPool.shared()

    def submit(self, function: Callable, *arguments) -> Future:
        """Queue a call for the next free thread."""
        if self._pid != os.getpid():
            self._start()
        executor = _shared_executor(self.workers)
        self._executors.add(executor)
        return executor.submit(function, *arguments)

    def shares(self, size: int, ahead: bool) -> int:
        """Return the number of shares of a batch of `size` samples.

        It is one for each worker, or fewer if the batch is computed ahead of time.
        """
        if not ahead:
            return self.workers
        at_least = -(-self.workers // _BATCHES_AHEAD)
        return min(self.workers, max(size // _SAMPLES_PER_SHARE, at_least))

    def batches_ahead(self, size: int) -> int:
        """Return how many batches keep all workers busy while the reader takes one."""
        return 1 + -(-self.workers // max(1, self.shares(size, ahead=True)))

    def have_processes(self) -> bool:
        """Return whether processes can fill shares, after starting them if they were asked for."""
        if self.processes:
            self.pool.start(self.workers)
            self.pool.wait()
        return self.processes is not False and self.pool.running

    def give_up_processes(self, refusal: str) -> None:
        """Warn once that the work stays in threads although processes were asked for."""
        if self.processes:
            self.processes = False
            warnings.warn(
                f"processes=True, but the work stays in threads, since another process cannot have "
                f"it: {refusal}. Functions and transforms of your own must stand in a module.",
                stacklevel=2,
            )

    def note(self, seconds: float) -> None:
        """Count a thread's work, in seconds of processor time."""
        if self.processes is None:
            self.pool.note(seconds, self.workers)

    def __getstate__(self):
        return {"workers": self.workers, "processes": self.processes}

    def __setstate__(self, state):
        self.__init__(**state)


class PendingBatch:
    """A batch that the threads are filling, each its share of the samples."""

    def __init__(
        self,
        threads: WorkerThreads,
        fill: Callable[[range], None],
        size: int,
        finish: Callable,
        ahead: bool,
    ):
        self._finish = finish
        share = -(-size // threads.shares(size, ahead))
        self._futures = [
            threads.submit(fill, range(start, min(start + share, size)))
            for start in range(0, size, share)
        ]

    def result(self):
        """Wait for the samples and return the batch. Raises the error of any sample."""
        try:
            for future in self._futures:
                future.result()
        except BaseException:
            self.cancel()
            raise
        return self._finish()

    def cancel(self) -> None:
        """Cancel the shares that no thread has started."""
        for future in self._futures:
            future.cancel()


class Lookahead:
    """Starts the next batches while the reader uses the current one.

    Batches can be taken in any order, but only those taken in sequence are started ahead.

    Arguments:
        start: a function of (epoch, number, ahead) that starts a batch.
        extent: a function that returns how many batches an epoch has now, and how many of them to
            start ahead.
    """

    def __init__(
        self,
        start: Callable[[int, int, bool], PendingBatch],
        extent: Callable[[], tuple[int, int]],
    ):
        self._start_batch, self._extent = start, extent
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pending: dict[tuple[int, int], PendingBatch] = {}
        self._previous: tuple[int, int] | None = None
        self._settings: object = None

    def take(self, epoch: int, number: int, settings: object, endless: bool = False):
        """Return batch `number` of `epoch`. Several threads may call this.

        Batches that were started under another object of `settings` are dropped. If `endless`, the
        next epoch's batches are started after the last one of an epoch.
        """
        if self._pid != os.getpid():  # A forked child lacks the threads that fill the batches.
            self._start()
        with self._lock:
            if settings is not self._settings:
                self._drop()
            self._settings = settings
            batch = self._pending.pop((epoch, number), None)
            batch = batch or self._start_batch(epoch, number, False)
            if number == 0 or self._previous == (epoch, number - 1):
                self._prepare(epoch, number, endless)
            self._previous = (epoch, number)
        return batch.result()

    def _prepare(self, epoch: int, number: int, endless: bool) -> None:
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


def _renew_lock() -> None:
    """Replace the lock, in a forked child where no thread is left that could release it."""
    global _executors_lock
    _executors_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
