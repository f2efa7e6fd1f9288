"""One worker process that fills shares of batches in place, its program, and its messages.

Threads share one interpreter lock, which many short OpenCV calls pass back and forth; processes do
not (tests/benchmarks/input_pipeline.py prints what that is worth). A process is started anew, not
forked, so that it inherits nothing of TensorFlow, and without importing the main module, as
multiprocessing would. Pictures lie in shared memory and are never pickled.
"""

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

import cv2
import numpy as np

from .cache import CachedPhotos, File
from .memory import SharedArray, SharedMemory, detach_all_but
from .samples import FilePipeline, Share, fill

POSSIBLE = os.name == "posix" and bool(sys.executable)  # Pipes are inherited differently elsewhere.
# Tasks that a process has at a time. It begins the next one while the last reply is being read.
TASKS_AT_A_TIME = 2
_BOOT = """
import json, os, sys
path, descriptors = json.loads(sys.argv[1])
sys.path[:] = path
try:
    from ImageDataAugmentor.engine.processes import main
except Exception:
    os._exit(3)
main(descriptors)
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


class PickledPipeline:
    """A pipeline pickled in shared memory, or why another process can't have it: `refused`."""

    def __init__(self, pipeline: FilePipeline):
        self.shared: SharedArray | None = None
        self.refused: str | None = None
        try:
            pickled = np.frombuffer(pickle.dumps(pipeline.snapshot()), np.uint8)
            self.shared = SharedArray(SharedMemory(pickled.size), pickled.shape)
            self.shared.array()[:] = pickled
        except Exception as error:  # Pickling a user's objects may raise anything.
            self.refused = f"{type(error).__name__}: {error}"


@dataclass
class Task:
    """A share of a batch that a process is asked to fill."""

    pipeline: SharedArray
    share: Share
    arrays: list[SharedArray | None]
    photos: CachedPhotos | None
    living: frozenset[int]  # numbers of all memory that is still in use


@dataclass
class Reply:
    """The outcome of a Task. If it is not filled, the caller fills the share itself."""

    filled: bool = False
    refused: str | None = None  # why the process could not load the pipeline
    photos: set[File] = field(default_factory=set)  # those that are in their slots now
    warnings: list[tuple[str, type]] = field(default_factory=list)


class WorkerProcess:
    """A process, and its connections, each of which takes one task at a time from any thread."""

    def __init__(self):
        pipes = [Pipe() for _ in range(TASKS_AT_A_TIME)]
        descriptors = [theirs.fileno() for _, theirs in pipes]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps([sys.path, descriptors])],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            env=os.environ | _ENVIRONMENT,
        )
        for _, theirs in pipes:
            theirs.close()
        self.connections = [ours for ours, _ in pipes]
        self.alive, self._ready = True, False
        self._lock = threading.Lock()

    def is_ready(self, timeout: float = 0.0) -> bool:
        """Return whether it can take tasks, after waiting up to `timeout` seconds for its start."""
        with self._lock:
            try:
                if self.alive and not self._ready and self.connections[0].poll(timeout):
                    self._ready = self.connections[0].recv() == "ready"
            except (EOFError, OSError):
                self._note_exit()
            return self.alive and self._ready

    def run(self, connection: Connection, task: Task) -> Reply:
        """Have it carry out a task, and wait for the reply."""
        try:
            connection.send(task)
            return connection.recv()
        except (EOFError, OSError):
            with self._lock:
                self._note_exit()
            return Reply()

    def _note_exit(self) -> None:
        if self.alive:
            self.alive = False
            self._wait()
            warnings.warn(
                f"A worker process of ImageDataAugmentor ended unasked (exit status "
                f"{self._process.returncode}); its work is done in a thread.",
                stacklevel=4,
            )

    def end(self) -> None:
        """End the process by closing its connections."""
        self.alive = False
        for connection in self.connections:
            connection.close()
        self._wait()

    def _wait(self) -> None:
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


# ------------------------------ the program of a process


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
