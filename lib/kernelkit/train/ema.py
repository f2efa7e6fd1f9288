"""An exponential moving average of the weights (EMA), which is what validates and predicts."""

from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf


class Averaging(keras.callbacks.Callback):
    """Averages the network's weights after every step; validation sees the average.

    Keras' own `use_ema` overwrites the weights by the average at the end of `fit`, and its
    SwapEMAWeights ends on the raw weights where a stage stops early. Here both copies are kept. The
    statistics of BatchNorm are averaged like every other weight.

    Args:
        network: the model that trains.
        momentum: of the average, 0 to below 1. The first steps use less, (1 + t) / (10 + t) after
            `t` of them, so that the weights before the first step soon count no more.
        steps: how many steps were averaged before.
        file: the average of an interrupted stage, a file of weights; None begins with the network's
            own weights.
    """

    def __init__(self, network: keras.Model, momentum: float, steps: int, file: Path | None):
        super().__init__()
        self.network, self.momentum, self.steps = network, momentum, steps
        own = network.get_weights()
        if file:
            network.load_weights(file)
        self.average = [tf.Variable(weight) for weight in network.get_weights()]
        if file:
            network.set_weights(own)
        self.swapped = False
        self._step, self._swap = tf.function(self._average_step), tf.function(self._swap_all)

    def _average_step(self, momentum: tf.Tensor) -> None:
        for average, weight in zip(self.average, self.network.weights, strict=True):
            if average.dtype.is_floating:
                value = tf.cast(tf.convert_to_tensor(weight.value), average.dtype)
                average.assign(momentum * average + (1 - momentum) * value)

    def _swap_all(self) -> None:
        for average, weight in zip(self.average, self.network.weights, strict=True):
            if average.dtype.is_floating:
                value = tf.identity(tf.convert_to_tensor(weight.value))
                weight.value.assign(tf.identity(average))
                average.assign(value)

    def swap(self) -> None:
        """Exchange the network's weights and their average."""
        self._swap()
        self.swapped = not self.swapped

    def averaged(self, work: Callable[[], object]) -> None:
        """Do `work` while the network holds the average."""
        self.swap()
        try:
            work()
        finally:
            self.swap()

    def on_train_batch_end(self, batch, logs=None):  # noqa: D102
        self.steps += 1
        momentum = min(self.momentum, (1 + self.steps) / (10 + self.steps))
        self._step(tf.constant(momentum, tf.float32))

    def on_test_begin(self, logs=None):  # noqa: D102
        self.swap()

    def on_test_end(self, logs=None):  # noqa: D102
        self.swap()
