"""The exponential moving average of the weights (EMA), which validates and predicts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf


class Average(keras.callbacks.Callback):
    """Averages the network's weights, the statistics of BatchNorm included, after every step.

    Keras' own `use_ema` overwrites the weights by the average at the end of `fit`, and its
    SwapEMAWeights ends on the raw weights where a stage stops early. Here both copies are kept.
    Step t uses (1 + t) / (10 + t) where that is less than `momentum`, so that the weights before
    the first step soon count no more; momentum 0 is off. `steps` were averaged before, and `file`
    has the average so far; None begins with the network's own weights.
    """

    def __init__(
        self, network: keras.Model, momentum: float, steps: int = 0, file: Path | None = None
    ):
        super().__init__()
        self.network, self.momentum, self.steps = network, momentum, steps
        own, self.average = network.get_weights(), []
        if file and momentum:
            network.load_weights(file)
        if momentum:
            self.average = [tf.Variable(weight) for weight in network.get_weights()]
            network.set_weights(own)
        self._update, self._swap = tf.function(self._update_all), tf.function(self._swap_all)

    def _update_all(self, momentum: tf.Tensor) -> None:
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

    @contextmanager
    def in_network(self) -> Iterator[None]:
        """Have the network hold the average until the context ends; changes to it stay in it."""
        if not self.momentum:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def on_train_batch_end(self, batch, logs=None):  # noqa: D102
        self.steps += 1
        if self.momentum:
            momentum = min(self.momentum, (1 + self.steps) / (10 + self.steps))
            self._update(tf.constant(momentum, tf.float32))
