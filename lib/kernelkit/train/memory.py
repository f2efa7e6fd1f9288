"""What a step of training takes of a device's memory, computed from the network's layers."""

import math
import sys

import keras
import numpy as np
import tensorflow as tf

from kernelkit.train.backbones import flat_layers

WEIGHT_BYTES = 20  # of a weight: itself, its gradient, Adam's two averages, and its own average
OVERHEAD = 1.5e9  # bytes that the framework and its libraries take for themselves, about


def activation_bytes(network: keras.Model) -> int:
    """Return the bytes that are kept of one photo for the backward pass.

    That is the output of each layer from the first that trains.
    """
    layers = flat_layers(network)
    first = next((n for n, layer in enumerate(layers) if layer.trainable_weights), len(layers))
    return sum(
        math.prod(output.shape[1:]) * np.dtype(output.dtype).itemsize
        for layer in layers[first:]
        for output in tf.nest.flatten(layer.output)
    )


def step_bytes(network: keras.Model, photos: int) -> float:
    """Return the bytes that a step over so many photos at once takes, at least."""
    return photos * activation_bytes(network) + WEIGHT_BYTES * network.count_params()


def photos_that_fit(network: keras.Model, limit: float) -> int:
    """Return how many photos at once fit into `limit` bytes, at most; 1 where not even one does."""
    free = limit - WEIGHT_BYTES * network.count_params()
    return max(1, int(min(free / max(1, activation_bytes(network)), sys.maxsize)))


def memory_limit() -> float:
    """Return the bytes that TensorFlow may take of the smallest GPU; infinity without a GPU."""
    from tensorflow.python.client import device_lib  # nothing else tells it

    devices = device_lib.list_local_devices()
    limits = [device.memory_limit for device in devices if device.device_type == "GPU"]
    return min(limits, default=math.inf)
