"""The statistics of BatchNorm, estimated anew for the weights that are to be judged."""

import keras
import tensorflow as tf

BATCHES = 30  # that the statistics are estimated on
MOMENTUM = 0.9  # with which the last 20 of them count for nearly all


class Reestimate(keras.callbacks.Callback):
    """Estimates the statistics of opened BatchNorm layers before each validation.

    Moving averages lag behind weights that change, and the average of the statistics of many steps
    does not fit the average of the weights; "precise BatchNorm" (Wu and Johnson 2021) passes photos
    forward instead. It stands after the callback that averages the weights.

    Args:
        network: the model that trains.
        batches: an iterator over batches of training photos, whose item 0 is a tuple that begins
            with uint8 [n, height, width, 3].
    """

    def __init__(self, network: keras.Model, batches):
        super().__init__()
        self.network, self.batches = network, batches
        self.norms = [
            layer
            for layer in network.get_layer("backbone").layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]

    def on_test_begin(self, logs=None):  # noqa: D102
        kept = [norm.momentum for norm in self.norms]
        for norm in self.norms:
            norm.momentum = MOMENTUM
        strategy = tf.distribute.get_strategy()
        step = tf.function(
            lambda photos: self.network(photos, training=True), reduce_retracing=True
        )
        for number in range(BATCHES):
            photos = self.batches[number % len(self.batches)][0]
            strategy.run(step, args=(tf.convert_to_tensor(photos),))
        for norm, momentum in zip(self.norms, kept, strict=True):
            norm.momentum = momentum
