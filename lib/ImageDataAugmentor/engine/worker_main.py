"""The program of a worker process: fill shares of batches until the owner hangs up."""

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
from .cache import Spot, stamp_of
from .processes import Reply, SamplePipeline, Task
from .shared_memory import SharedMemory


def serve(descriptor: int) -> None:
    """Answer each Task that arrives on a socket with a Reply."""
    # Only the owner reacts to these signals. It then hangs up, which ends this process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)
    connection = Connection(descriptor)
    pipelines: dict[int, SamplePipeline] = {}
    memories: dict[int, SharedMemory] = {}
    with contextlib.suppress(EOFError, ConnectionError):
        connection.send("ready")
        while True:
            task: Task = connection.recv()
            for number in task.forgotten_pipelines:
                pipelines.pop(number, None)
            for number in task.forgotten_memories:
                memories.pop(number, None)
            for number, size in task.new_memories:
                memories[number] = SharedMemory(recv_handle(connection), size)
            connection.send(_carry_out(task, pipelines, memories))
    os._exit(0)  # There is nothing to clean up, and the owner may be waiting.


def _carry_out(task: Task, pipelines: dict, memories: dict) -> Reply:
    reply = Reply()
    try:
        if task.payload is not None:
            pipelines[task.pipeline] = pickle.loads(task.payload)
    except Exception as error:  # Unpickling a user's objects may raise anything.
        reply.refused = f"{type(error).__name__}: {error}"
        return reply
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            _fill(pipelines[task.pipeline], task, memories, reply)
            reply.filled = True
        except Exception:  # The owner repeats the work in a thread, which raises the error there.
            reply.filled = False
    reply.warnings = [(str(warning.message), warning.category) for warning in caught]
    return reply


def _fill(pipeline: SamplePipeline, task: Task, memories: dict, reply: Reply) -> None:
    arrays = batch.arrays_in(memories[task.memory].bytes(), task.spec, task.n)
    cached = task.spots is not None
    pipeline.source.cache = _OwnersCache(task.spots, memories, reply) if cached else None
    slots = batch.slots(arrays, task.positions)
    samples = pipeline.augmented(task.epoch, task.indices, slots)
    for position, sample in zip(task.positions, samples, strict=True):
        batch.put(arrays, position, pipeline.transformer.finish(*sample))


class _OwnersCache:
    """The part of the owner's cache that a task needs."""

    def __init__(self, spots: dict, memories: dict[int, SharedMemory], reply: Reply):
        self._spots, self._memories, self._reply = spots, memories, reply

    def picture(self, path: str, loader) -> np.ndarray:
        """Return the photo, from the cache unless its file changed, and store it if it is new."""
        spot: Spot | None = self._spots.get((path, loader))
        stamp = stamp_of(path)
        gone = stamp is None and (spot is None or spot.stamp is None)
        if spot is None or gone:
            return loader(path)  # If there is no such file, this says what is wrong.
        view = self._memories[spot.memory].array(spot.shape, offset=spot.offset)
        if stamp in (spot.stamp, None):
            return view
        image = loader(path)
        if spot.stamp is None:
            view[:] = image
            # The same photo may follow in this share: a table may repeat it.
            self._spots[path, loader] = replace(spot, stamp=stamp)
        self._reply.stored.append((path, loader, stamp if spot.stamp is None else None))
        return image
