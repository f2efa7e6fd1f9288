"""Devices: which there are, the strategy that trains on them, and the batches that they share.

Several machines train one network where TensorFlow's TF_CONFIG names them and each runs the same
command. The first writes checkpoints and results to the output folder, on a disk that all of them
see; the others begin from its files in folders of their own, which end with them.
"""

import atexit
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ImageDataAugmentor.reading import UnreadableImage
from kernelkit.core.problem import Problem

TENSOR_CORES = (7, 0)  # compute capability from which float16 is faster than float32
NVIDIA_SIGNS = ("/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia/version")
TPU_SIGNS = ("TPU_ACCELERATOR_TYPE", "TPU_WORKER_HOSTNAMES", "ISTPUVM", "TPU_NAME")
OutOfMemory = tf.errors.ResourceExhaustedError
# What TensorFlow raises where another worker is gone.
WORKER_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


def _gpu_details() -> list[dict]:
    gpus = tf.config.list_physical_devices("GPU")  # none is initialised for it
    return [tf.config.experimental.get_device_details(gpu) for gpu in gpus]


def has_gpu() -> bool:
    """Return whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def has_tensor_cores() -> bool:
    """Return whether float16 is faster on every GPU, and there is one."""
    capabilities = [each.get("compute_capability", (0, 0)) for each in _gpu_details()]
    return bool(capabilities) and min(capabilities) >= TENSOR_CORES


def device_count() -> int:
    """Return how many GPUs there are, or logical CPUs where there is none."""
    return len(_gpu_details()) or len(tf.config.list_logical_devices("CPU"))


def machine() -> str:
    """Return a text that identifies this machine and its software."""
    names = [each.get("device_name", "GPU") for each in _gpu_details()]
    devices = ", ".join(names) or f"{device_count()} x CPU ({os.cpu_count()} cores)"
    return ", ".join([devices, *(f"{name} {version(name)}" for name in ("tensorflow", "keras"))])


def unused_device() -> str:
    """Return a sentence where TensorFlow does not use a GPU or TPU that is there; "" elsewhere.

    TensorFlow's package comes without CUDA's libraries, and trains on the CPU without a word.
    """
    if has_gpu():
        return ""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    if not hidden and any(map(os.path.exists, NVIDIA_SIGNS)):
        return (
            "This machine has an NVIDIA GPU that TensorFlow can't use: the CPU is many times "
            "slower. Its libraries come with "
            f"`pip install 'tensorflow[and-cuda]=={version('tensorflow')}'`."
        )
    if any(map(os.environ.get, TPU_SIGNS)) or any(Path("/dev").glob("accel*")):
        return (
            "This machine has a TPU, but its TensorFlow can't use one: the run goes on with the "
            "CPU. GPUs are chosen by kernel-metadata.json's machine_shape, NvidiaTeslaT4."
        )
    return ""


@cache
def make_strategy(devices: int) -> tf.distribute.Strategy:
    """Return the strategy that trains on the first `devices` GPUs, or logical CPUs.

    It is made once: the sums of a second strategy of a process would be taken for the first one's.
    Under TF_CONFIG it is that of all workers, with all their devices.
    """
    if worker()[1] > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if devices == 1:
        return tf.distribute.get_strategy()
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in found[:devices]])


def shared_batch(batch_size: int) -> int:
    """Return the next batch size that the devices in use can share; print it where it differs."""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    shared = -(-batch_size // replicas) * replicas
    if shared != batch_size:
        print(f"{replicas} devices can't share --batch-size {batch_size}: {shared} is used.")
    return shared


def share(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return batches of photos, or of (photos, labels), that the devices in use can share evenly.

    TensorFlow would leave a device without a photo where a batch is small, which ends in an error.
    So the last photo of such a batch is repeated, and labelled batches get weights, float32 [n]:
    the repeated ones weigh 0, and the others a little more than 1, so that the weights add up to
    the photos. Of several machines each takes its devices' share of every batch.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return dataset
    filled = dataset.map(partial(_fill, replicas))
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return filled

    def own(context) -> tf.data.Dataset:
        number, workers = context.input_pipeline_id, context.num_input_pipelines
        return filled.map(partial(_pieces, replicas, number, workers)).unbatch()

    return strategy.distribute_datasets_from_function(own)


def _fill(replicas: int, photos, labels=None):
    count = tf.shape(photos)[0]
    rows = tf.range(-(-count // replicas) * replicas)
    taken = tf.minimum(rows, count - 1)
    if labels is None:
        return tf.gather(photos, taken)
    weights = tf.cast(tf.where(rows < count, tf.size(rows) / count, 0), tf.float32)
    return tf.gather(photos, taken), tf.gather(labels, taken), weights


def _pieces(replicas: int, number: int, workers: int, *batch):
    """Return a worker's pieces of a batch, one a device, in the order in which Keras joins them."""

    def cut(whole):
        shape = tf.concat([[replicas, -1], tf.shape(whole)[1:]], 0)
        own = tf.reshape(whole, shape)[number::workers]
        own.set_shape([replicas // workers, None, *whole.shape[1:]])
        return own

    pieces = tuple(map(cut, batch))
    return pieces if len(pieces) > 1 else pieces[0]


def predict_batches(
    network: keras.Model, flow, callbacks: Iterable[keras.callbacks.Callback] = ()
) -> np.ndarray:
    """Return a network's outputs for all photos of an iterator, on all devices, [photos, outputs].

    Where memory does not suffice, the batches halve. Where a callback has set the network's
    `stop_predicting`, the outputs are those of the first photos alone. Raises Problem if not even
    one photo a device fits.
    """
    epoch, replicas = flow.epoch, tf.distribute.get_strategy().num_replicas_in_sync
    if flow.batch_size % replicas:  # else `share` would repeat a photo within the photos
        flow.batch_size += replicas - flow.batch_size % replicas
    while True:
        try:
            batches = share(flow.as_tf_dataset())
            return network.predict(batches, verbose=0, callbacks=list(callbacks))[: flow.n]
        except OutOfMemory as error:
            if flow.batch_size <= replicas:
                raise Problem(
                    "Not even the prediction of one photo fits into a device's memory: try a "
                    "smaller --image-size."
                ) from error
            half = flow.batch_size // 2 // replicas * replicas
            flow.epoch, flow.batch_size = epoch, max(replicas, half)
            print(f"Out of memory: on with {flow.batch_size} photos at a time.", flush=True)


def worker() -> tuple[int, int]:
    """Return this worker's number and how many there are. Raises Problem for a wrong TF_CONFIG."""
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


def worker_folder(output: Path) -> Path:
    """Return `output`; for workers after the first, a copy of what a run goes on from there."""
    number, _ = worker()
    if not number:
        return output
    folder = Path(tempfile.mkdtemp(prefix=f"worker-{number}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("state", "members"):
        if (output / name).is_dir():
            shutil.copytree(output / name, folder / name)
    print(f"worker {number}: results are written by the first worker alone", flush=True)
    return folder


@contextmanager
def failures_explained() -> Iterator[None]:
    """Turn the errors that follow when a photo is lost or another worker ends into sentences.

    Raises Problem if a photo can't be read any more, or another worker is gone.
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
        if count == 1 or not isinstance(error, WORKER_GONE):
            raise
        raise Problem(
            f"Another of the {count} workers is gone, so worker {number} ends too: start all again "
            "with the same command, and they go on from the last finished epoch."
        ) from error
