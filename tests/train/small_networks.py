"""Small networks, stages and clocks for the tests of training."""

import math
import time
from dataclasses import dataclass
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

from kernelkit.train.backbones import load_backbone
from kernelkit.train.costs import Job
from kernelkit.train.head import build_head
from kernelkit.train.plan import Clock, Plan

SIDE = 16


@dataclass(frozen=True)
class Stage:
    name: str = "head"
    fraction: float = 0.0
    epochs: int = 3
    learning_rate: float = 1e-3
    scale: float = 1.0
    views: int = 0


def make_clock(state, stages, seconds_left=math.inf, images=100, passes=4) -> Clock:
    """Return the clock of the current job, the only one of its session."""
    job = Job(state.member, state.fold, tuple(stages), 1.0, passes, 0, images, 0)
    return Plan([job], state, time.monotonic() + seconds_left, 1.0).begin(job)


def small_network(classes=3, kind="linear"):
    """Return a network as the kernel builds them, but tiny."""
    inputs = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = load_backbone("kernelkit.train.backbones.Plain", (SIDE, SIDE), None)(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    head = build_head(SimpleNamespace(head=kind, dropout=0.25, l2=0, norm_momentum=0.9), classes)
    return keras.Model(inputs, head(x))


def normalised_network():
    """Return a network whose backbone normalises its input twice: frozen, and opened."""
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    inner = keras.Input((4, 4, 3))
    frozen = keras.layers.BatchNormalization(name="frozen", momentum=0.5)(inner)
    opened = keras.layers.BatchNormalization(name="opened", momentum=0.77)(frozen)
    backbone = keras.Model(inner, opened, name="backbone")
    x = keras.layers.Rescaling(1.0)(inputs)
    backbone.get_layer("frozen").trainable = False
    outputs = keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(backbone(x)))
    return keras.Model(inputs, outputs)


class Flow:
    """Stands for an iterator over photos without labels."""

    epoch, batch_size, ready_times = 0, 8, ()

    def __init__(self, photos):
        self.photos, self.n = photos, len(photos)

    def as_tf_dataset(self):
        return tf.data.Dataset.from_tensor_slices(self.photos).batch(self.batch_size)


def coloured(rng, classes, n):
    """Return noisy photos, brighter in one channel for each class, and their classes."""
    labels = np.arange(n) % classes
    photos = rng.integers(0, 120, (n, SIDE, SIDE, 3))
    photos[np.arange(n), :, :, labels] += 90
    return photos.astype("uint8"), labels


def assert_equal(these, those, **tolerances):
    """Assert that two lists of arrays are equal, but for rounding."""
    assert len(these) == len(those)
    for this, that in zip(these, those, strict=True):
        np.testing.assert_allclose(this, that, **({"rtol": 1e-4, "atol": 1e-5} | tolerances))


def values(variables):
    return [variable.numpy() for variable in variables]
