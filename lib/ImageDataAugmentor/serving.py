"""A worker process: fills the shares of batches that it is asked for, until its owner goes away."""

import contextlib
import os
import pickle
import signal
import warnings
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle

import cv2
import numpy as np

from . import batch
from .cache import Spot
from .memory import SharedMemory
from .processes import Job, Reply, Task


def serve(descriptor: int) -> None:
    """Answer the tasks that come over a socket, each with a Reply."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the owner's business, who then hangs up
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)
    connection = Connection(descriptor)
    jobs: dict[int, Job] = {}
    memories: dict[int, SharedMemory] = {}
    with contextlib.suppress(EOFError, ConnectionError):
        connection.send("ready")
        while True:
            task: Task = connection.recv()
            for number in task.forgotten_jobs:
                jobs.pop(number, None)
            for number in task.forgotten_memories:
                memories.pop(number, None)
            for number, size, writable in task.new_memories:
                memories[number] = SharedMemory(recv_handle(connection), size, writable)
            connection.send(_carry_out(task, jobs, memories))
    os._exit(0)  # nothing here needs tidying up, and the owner may be waiting


def _carry_out(task: Task, jobs: dict, memories: dict) -> Reply:
    reply = Reply()
    try:
        if task.payload is not None:
            jobs[task.job] = pickle.loads(task.payload)
    except Exception as error:  # whatever unpickling a user's objects may raise
        reply.refused = f"{type(error).__name__}: {error}"
        return reply
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            _fill(jobs[task.job], task, memories, reply)
            reply.filled = True
        except Exception:  # the owner's thread meets it again, and raises it where it belongs
            reply.filled = False
    reply.warnings = [(str(warning.message), warning.category) for warning in caught]
    return reply


def _fill(job: Job, task: Task, memories: dict[int, SharedMemory], reply: Reply) -> None:
    memory = memories[task.memory]
    arrays = batch.arrays_in(memory.bytes(), task.layout, task.n)
    job.source.cache = _Spots(task.spots, memories, reply) if task.spots is not None else None
    slots = batch.slots(arrays, task.positions)
    samples = job.augmented(task.epoch, task.indices, slots)
    for position, sample in zip(task.positions, samples, strict=True):
        batch.put(arrays, position, job.transforming.finish(*sample))


class _Spots:
    """The part of the owner's cache that a task needs."""

    def __init__(self, spots: dict, memories: dict[int, SharedMemory], reply: Reply):
        self._spots, self._memories, self._reply = spots, memories, reply

    def picture(self, path: str, loading) -> np.ndarray:
        """The photo, from the cache if its file has not changed."""
        spot: Spot | None = self._spots.get((path, loading))
        if spot is None:
            return loading(path)
        try:
            status = os.stat(path)
        except OSError:
            return loading(path)  # which says what is wrong
        stamp = (status.st_size, status.st_mtime_ns)
        view = self._memories[spot.memory].array(spot.shape, offset=spot.offset)
        if spot.stamp == stamp:
            return view
        image = loading(path)
        if spot.stamp is None:
            view[:] = image
            # A table may repeat a photo: the next sample of this share uses what was just written.
            self._spots[path, loading] = replace(spot, stamp=stamp)
        self._reply.stored.append((path, loading, stamp if spot.stamp is None else None))
        return image
