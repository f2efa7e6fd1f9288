"""Batches computed ahead of the reader, delivered in order.

Threads take them on, each its share of the samples; where there is much to do, each has a process
do its share (see processes.py).
"""

import operator
import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import cv2

from .processes import IN_FLIGHT, Company

# Samples of which a worker makes so many at a time: to begin is dear, its caches being cold.
_SHARE = 32
_BATCHES_AHEAD = 3


def available_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkerPool:
    """A thread pool that starts when needed and ends with its owner, and what processes it has.

    `processes` True has them from the start, False never, None when there is enough to do.

    `turn` is for a thread that does the work itself: as many as there are workers.

    It may be pickled, and used in a forked child, where it starts anew. A pool of several threads
    takes OpenCV's own threads out of use, which can only be done for the whole process.
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
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self.turn = threading.Semaphore(self.workers)
        self.company = Company.shared()

    def submit(self, function: Callable, *arguments) -> Future:
        """Queue a call."""
        if self._pid != os.getpid():
            self._start()
        with self._lock:
            if self._executor is None:
                if self.workers > 1:  # OpenCV's own threads would only get in these threads' way
                    cv2.setNumThreads(1)
                threads = IN_FLIGHT * self.workers  # as many as processes may have tasks
                self._executor = ThreadPoolExecutor(threads, "ImageDataAugmentor")
            return self._executor.submit(function, *arguments)

    def shares(self, size: int, ahead: bool) -> int:
        """In how many shares a batch is made: one for each worker, ahead of time fewer."""
        if not ahead:
            return self.workers
        at_least = -(-self.workers // _BATCHES_AHEAD)
        return min(self.workers, max(size // _SHARE, at_least))

    def batches_ahead(self, size: int) -> int:
        """How many batches keep all workers busy while the reader takes one."""
        return 1 + -(-self.workers // max(1, self.shares(size, ahead=True)))

    def have_processes(self) -> bool:
        """Whether there are processes to fill batches; starts them where they were asked for."""
        if self.processes:
            self.company.start(self.workers)
            self.company.wait()
        return self.processes is not False and self.company.at_work

    def explain(self, refusal: str) -> None:
        """Say once why there are no processes although they were asked for."""
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
            self.company.note(seconds, self.workers)

    def __getstate__(self):
        return {"workers": self.workers, "processes": self.processes}

    def __setstate__(self, state):
        self.__init__(**state)


class PendingBatch:
    """A batch that the pool's threads fill, each its share of the samples."""

    def __init__(
        self,
        pool: WorkerPool,
        fill: Callable[[range], None],
        size: int,
        finish: Callable,
        ahead: bool,
    ):
        self._finish = finish
        share = -(-size // pool.shares(size, ahead))
        self._futures = [
            pool.submit(fill, range(start, min(start + share, size)))
            for start in range(0, size, share)
        ]

    def result(self):
        """Wait for the samples and hand out the batch; a sample's error is raised here."""
        try:
            for future in self._futures:
                future.result()
        except BaseException:
            self.cancel()
            raise
        return self._finish()

    def cancel(self) -> None:
        """Drop what has not been started."""
        for future in self._futures:
            future.cancel()


class Lookahead:
    """Starts the next batches while the reader uses the current one.

    Reading in any other order works too, only without the head start.
    """

    def __init__(self, start: Callable[[int, int, bool], PendingBatch], length: int, ahead: int):
        self._start_batch = start
        self._length, self._ahead = length, ahead
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pending: dict[tuple[int, int], PendingBatch] = {}
        self._previous: tuple[int, int] | None = None
        self._settings: tuple = ()

    def take(self, epoch: int, number: int, settings: tuple, endless: bool = False):
        """Batch `number` of `epoch`; may be called by several threads.

        What was begun under other `settings` is dropped. After the last batch of an epoch come,
        where it is `endless`, those of the next.
        """
        if self._pid != os.getpid():  # the threads that would finish the batches stayed behind
            self._start()
        with self._lock:
            if not all(map(operator.is_, settings, self._settings)):
                self._drop()
            self._settings = settings
            batch = self._pending.pop((epoch, number), None)
            batch = batch or self._start_batch(epoch, number, False)
            if number == 0 or self._previous == (epoch, number - 1):
                self._prepare(epoch, number, endless)
            self._previous = (epoch, number)
        return batch.result()

    def _prepare(self, epoch: int, number: int, endless: bool) -> None:
        wanted = [
            (epoch + following // self._length, following % self._length)
            for following in range(number + 1, number + self._ahead + 1)
            if endless or following < self._length
        ]
        for key in self._pending.keys() - set(wanted):
            self._pending.pop(key).cancel()
        for key in wanted:
            if key not in self._pending:
                self._pending[key] = self._start_batch(*key, True)

    def close(self) -> None:
        """Drop everything that was started ahead."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        while self._pending:
            self._pending.popitem()[1].cancel()
