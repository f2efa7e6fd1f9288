"""Accelerators: which there are, and the strategy that trains on them."""

import os
from functools import cache
from importlib.metadata import version
from pathlib import Path

import tensorflow as tf

from kernelkit.train.workers import worker

TENSOR_CORES = (7, 0)  # compute capability from which float16 is faster than float32
NVIDIA_SIGNS = ("/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia/version")
TPU_SIGNS = ("TPU_ACCELERATOR_TYPE", "TPU_WORKER_HOSTNAMES", "ISTPUVM", "TPU_NAME")
OutOfMemory = tf.errors.ResourceExhaustedError


def gpu_details() -> list[dict]:
    """Return what the driver says of each GPU; no GPU is initialised for it."""
    gpus = tf.config.list_physical_devices("GPU")
    return [tf.config.experimental.get_device_details(gpu) for gpu in gpus]


def has_gpu() -> bool:
    """Return whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def has_tensor_cores() -> bool:
    """Return whether float16 is faster on every GPU, and there is one."""
    details = gpu_details()
    capabilities = [each.get("compute_capability", (0, 0)) for each in details]
    return bool(details) and all(each >= TENSOR_CORES for each in capabilities)


def device_count() -> int:
    """Return how many GPUs there are, or logical CPUs where there is none."""
    return len(gpu_details()) or len(tf.config.list_logical_devices("CPU"))


def machine() -> str:
    """Return a text that tells this machine and its software from others."""
    names = [each.get("device_name", "GPU") for each in gpu_details()]
    devices = ", ".join(names) or f"{device_count()} x CPU ({os.cpu_count()} cores)"
    return ", ".join([devices, *(f"{name} {version(name)}" for name in ("tensorflow", "keras"))])


def unused_device() -> str:
    """Return a sentence where TensorFlow does not use a GPU or TPU that is there; "" elsewhere."""
    return unused_gpu() or unusable_tpu()


def unused_gpu() -> str:
    """Return a sentence where there is an NVIDIA GPU that TensorFlow does not see, nor was told to.

    TensorFlow's package comes without CUDA's libraries, and trains on the CPU without a word.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    if has_gpu() or hidden or not any(map(os.path.exists, NVIDIA_SIGNS)):
        return ""
    package = f"tensorflow[and-cuda]=={version('tensorflow')}"
    return (
        "This machine has an NVIDIA GPU that TensorFlow can't use: the CPU is many times slower. "
        f"Its libraries come with `pip install '{package}'`."
    )


def unusable_tpu() -> str:
    """Return a sentence on a machine with a TPU, which TensorFlow can't use there; "" elsewhere."""
    if has_gpu() or not (any(map(os.environ.get, TPU_SIGNS)) or any(Path("/dev").glob("accel*"))):
        return ""
    return (
        "This machine has a TPU, but its TensorFlow can't use one: the run goes on with the CPU. "
        "GPUs are chosen by kernel-metadata.json's machine_shape, NvidiaTeslaT4."
    )


@cache
def make_strategy(devices: int) -> tf.distribute.Strategy:
    """Return the strategy that trains on the first `devices` GPUs, or logical CPUs.

    It is made once: the sums of a second strategy of a process would be taken for the first one's.
    Under TF_CONFIG it is that of all workers, with all their devices.
    """
    if worker()[1] > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if devices == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([device.name for device in found[:devices]])


def shared_batch(batch_size: int) -> int:
    """Return the batch size that the devices of the strategy in force can share, not a smaller one.

    A sentence is printed where it differs from `batch_size`.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    shared = -(-batch_size // replicas) * replicas
    if shared != batch_size:
        print(
            f"{replicas} devices can't share --batch-size {batch_size}: {shared} is used.",
            flush=True,
        )
    return shared
