"""Accelerators: how many train together, in which precision, and what happens without memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from common import Problem

TENSOR_CORES = (7, 0)  # compute capability from which float16 is faster than float32


def use_devices(mixed_precision: str, batch_size: int) -> tf.distribute.Strategy:
    """Set the precision and return the strategy for this machine's accelerators.

    Args:
        mixed_precision: "yes" or "no"; "auto" takes float16 where every GPU has tensor cores.
        batch_size: photos a step, which all devices must share evenly.

    Returns:
        A MirroredStrategy over all GPUs where there are several (or over several logical CPUs
        without a GPU), else the default strategy.

    Raises:
        Problem: the devices can't share a batch evenly.
    """
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    gains = bool(gpus) and all(d.get("compute_capability", (0, 0)) >= TENSOR_CORES for d in details)
    wanted = {"yes": True, "no": False, "auto": gains}[mixed_precision]
    keras.mixed_precision.set_global_policy("mixed_float16" if wanted else "float32")
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if batch_size % len(devices):
        raise Problem(f"--batch-size {batch_size} must be a multiple of {len(devices)} (devices).")
    if len(devices) > 1:
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def has_gpu() -> bool:
    """Return whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def scaled_for_float16(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return the optimizer, with loss scaling where the global policy computes in float16."""
    if keras.mixed_precision.global_policy().compute_dtype == "float16":
        return LossScale(optimizer)
    return optimizer


class LossScale(keras.mixed_precision.LossScaleOptimizer):
    """Keras' loss scaling, made right for several devices.

    Keras 3 asks the first device alone whether its gradients are finite, before they are summed: an
    overflow on another device reaches the weights as a NaN. Here an overflow on any device skips
    the step.
    """

    def check_finite(self, grads):
        """Return whether the gradients are finite on every device, a bool scalar."""
        overflow = tf.cast(tf.logical_not(super().check_finite(grads)), tf.float32)
        return tf.equal(tf.distribute.get_replica_context().all_reduce("SUM", overflow), 0)


@contextmanager
def out_of_memory_explained(batch_size: int) -> Iterator[None]:
    """Turn TensorFlow's out-of-memory error into a sentence.

    Raises:
        Problem: the device's memory did not suffice.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise Problem(
            f"Out of memory with --batch-size {batch_size}: try --batch-size "
            f"{max(1, batch_size // 2)}, or a smaller --image-size."
        ) from error
