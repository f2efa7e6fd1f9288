"""The program of a worker process: fill shares of batches until the owner closes a connection."""

import contextlib
import os
import pickle
import signal
import warnings
from multiprocessing.connection import Connection, wait

import cv2

from .memory import detach_all_but
from .processes import Reply, Task
from .samples import FilePipeline, fill


def main(descriptors: list[int]) -> None:
    """Answer each Task that arrives on one of these sockets with a Reply."""
    # Only the owner reacts to these signals. It then closes the connections.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)
    connections = [Connection(descriptor) for descriptor in descriptors]
    pipelines: dict[int, FilePipeline] = {}
    with contextlib.suppress(EOFError, ConnectionError):
        connections[0].send("ready")
        while True:
            for connection in wait(connections):
                connection.send(_answer(connection.recv_bytes(), pipelines))
    os._exit(0)  # There is nothing to clean up, and the owner may be waiting.


def _answer(message: bytes, pipelines: dict[int, FilePipeline]) -> Reply:
    try:
        task: Task = pickle.loads(message)
        pipeline = _pipeline(task, pipelines)
    except Exception as error:  # Unpickling a user's objects may raise anything.
        return Reply(refused=f"{type(error).__name__}: {error}")
    reply = Reply()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(Exception):  # The owner repeats the work, which raises it there.
            fill(pipeline, task.share, [one and one.array() for one in task.arrays], task.photos)
            reply.filled = True
    reply.photos = task.photos.filled if task.photos else set()
    reply.warnings = [(str(warning.message), warning.category) for warning in caught]
    return reply


def _pipeline(task: Task, pipelines: dict[int, FilePipeline]) -> FilePipeline:
    """Return the pipeline of a task, and forget what the owner no longer uses."""
    detach_all_but(task.living)
    for number in pipelines.keys() - task.living:
        del pipelines[number]
    number = task.pipeline.memory.number
    if number not in pipelines:
        pipelines[number] = pickle.loads(task.pipeline.array())
    return pipelines[number]
