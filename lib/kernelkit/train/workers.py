"""Several machines that train one network: TensorFlow's TF_CONFIG says which they are.

Each worker runs the same command. The first one, the chief, writes checkpoints and results to the
output folder; the others have a folder of their own, which ends with them. They begin from what
lies in the chief's folder, so it must be on a disk that all of them see.
"""

import atexit
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from ImageDataAugmentor.reading import UnreadableImage
from kernelkit.core.problem import Problem

COPIED = ("state", "members")  # what decides where a run goes on
# What TensorFlow raises where another worker is gone.
GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


def worker() -> tuple[int, int]:
    """Return this worker's number and how many there are; (0, 1) without TF_CONFIG.

    Raises:
        Problem: TF_CONFIG can't be read.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return 0, 1
    try:
        config = json.loads(text)
        workers = config.get("cluster", {}).get("worker", ["this one"])
        return int(config.get("task", {}).get("index", 0)), len(workers)
    except (ValueError, AttributeError, TypeError) as error:
        raise Problem(
            f"TF_CONFIG can't be read ({error}): it is JSON of the form "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}.'
        ) from error


def own_folder(output: Path) -> Path:
    """Return the folder that this process writes to: `output`, but for workers after the first."""
    number, _ = worker()
    if not number:
        return output
    folder = Path(tempfile.mkdtemp(prefix=f"worker-{number}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in COPIED:
        if (output / name).is_dir():
            shutil.copytree(output / name, folder / name)
    print(f"worker {number}: results are written by the first worker alone", flush=True)
    return folder


@contextmanager
def failures_explained() -> Iterator[None]:
    """Turn the errors that follow when a photo is lost or another worker ends into sentences.

    Raises:
        Problem: a photo can't be read any more, or another worker is gone.
    """
    number, count = worker()
    try:
        yield
    except (UnreadableImage, tf.errors.OpError) as error:
        text = f"{type(error).__name__}: {error}"
        if photo := re.search(rf"{UnreadableImage.__name__}: (.+)", text):
            raise Problem(
                f"A photo that could be read when the run began can't be any more: {photo[1]}. "
                "Bring it back, and the same command goes on from the last finished epoch."
            ) from error
        if count == 1 or not isinstance(error, GONE):
            raise
        raise Problem(
            f"Another of the {count} workers is gone, so worker {number} ends too: start all again "
            "with the same command, and they go on from the last finished epoch."
        ) from error
