"""A training step in parts that fit into a device's memory: gradients are added, then applied."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from kernelkit.train.backbones import flat_layers


class Accumulating(keras.Model):
    """A network whose training step takes few photos at a time, and weighs every photo alike.

    Keras' own `gradient_accumulation_steps` fails under MirroredStrategy. Here a step goes over the
    device's share of a batch in parts, adds their gradients and applies the sum once: batch size
    and learning rate mean what they mean without parts. Statistics of BatchNorm are those of each
    part, as they are those of each device; their moving averages move as far as in a whole step.

    A batch may come with weights, as `photos.share` adds them: a photo of weight 0 counts in
    neither loss, gradient nor metric. Gradients are those of the mean loss of all devices' photos.

    Args:
        network: the model: uint8 photos [n, h, w, 3] to probabilities.
        micro_batch: the most photos that a device takes at once; None is its whole share.
    """

    def __init__(self, network: keras.Model, micro_batch: int | None = None):
        super().__init__(network.inputs, network.outputs)
        self.micro_batch = micro_batch
        strategy = tf.distribute.get_strategy()
        self.several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Build the metrics for a batch of this form.

        Keras takes the mean of the batches of all workers for it, which fails for whole numbers.
        """
        photo, label = self.inputs[0], self.outputs[0]
        photos = tf.zeros((1, *photo.shape[1:]), photo.dtype)
        labels = tf.zeros((1, label.shape[-1]), label.dtype)
        super()._maybe_symbolic_build(None, (photos, labels, tf.ones(1)))

    def prepare(self, photos, labels):
        """Return what is trained on in place of a batch of photos and one-hot labels."""
        return photos, labels

    def train_step(self, data):
        """Train on a batch: uint8 [n, h, w, 3], one-hot [n, classes] and perhaps weights [n]."""
        photos, labels, weights = weighted(data)
        photos, labels = self.prepare(photos, labels)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        total = tf.cast(replicas * tf.shape(photos)[0], tf.float32)
        work = self.in_parts if self.micro_batch else self.gradients
        loss, predicted, gradients = work(photos, labels, weights, total)
        own, counted = tf.reduce_sum(weights), tf.cast(weights > 0, tf.float32)
        self._loss_tracker.update_state(
            tf.math.divide_no_nan(loss * total, own), tf.reduce_sum(counted)
        )
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return self.metrics_of(photos, labels, predicted, counted)

    def test_step(self, data):
        """Judge a batch of the same kind."""
        photos, labels, weights = weighted(data)
        predicted = self(photos, training=False)
        counted = tf.cast(weights > 0, tf.float32)
        count = tf.reduce_sum(counted)
        self._loss_tracker.update_state(self.loss_of(labels, predicted, counted, count), count)
        return self.metrics_of(photos, labels, predicted, counted)

    def metrics_of(self, photos, labels, predicted, counted) -> dict:
        """Return the metrics up to some photos, by name."""
        found = self.compute_metrics(photos, labels, predicted, sample_weight=counted)
        if self.several:  # Keras' mean over workers fails for single numbers
            found = {name: tf.reshape(value, [1]) for name, value in found.items()}
        return found

    def loss_of(self, labels, predicted, weights, total):
        """Return the part of the mean loss that some photos contribute; `total` divides it."""
        loss = keras.losses.get(self.loss)
        losses = getattr(loss, "call", loss)(tf.cast(labels, predicted.dtype), predicted)
        penalty = tf.reduce_sum(weights) * sum(self.losses)
        return tf.math.divide_no_nan(tf.reduce_sum(losses * weights) + penalty, total)

    def gradients(self, photos, labels, weights, total):
        """Return loss, predictions [n, classes] and gradients of some photos of a batch.

        The loss is that of `loss_of`; the gradients are scaled where the optimizer scales losses.
        """
        with tf.GradientTape() as tape:
            predicted = self(photos, training=True)
            loss = self.loss_of(labels, predicted, weights, total)
            scaled = self.optimizer.scale_loss(loss)
        zero = tf.UnconnectedGradients.ZERO
        return loss, predicted, tape.gradient(scaled, self.trainable_weights, None, zero)

    def in_parts(self, photos, labels, weights, total):
        """Return what `gradients` returns, computed part by part."""
        count = tf.shape(photos)[0]
        parts = tf.maximum(1, -(-count // self.micro_batch))

        def add(number, loss, predicted, *gradients):
            of_part = slice(number * count // parts, (number + 1) * count // parts)
            part = photos[of_part], labels[of_part], weights[of_part]
            more, seen, slopes = self.gradients(*part, total)
            summed = [old + new for old, new in zip(gradients, slopes, strict=True)]
            return number + 1, loss + more, tf.concat([predicted, seen], 0), *summed

        classes = self.outputs[0].shape[-1]
        empty = tf.zeros((0, classes), self.outputs[0].dtype)
        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in self.trainable_weights]
        begin = tf.constant(0), tf.constant(0.0), empty, *zeros
        shapes = [value.shape for value in begin]
        shapes[2] = tf.TensorShape((None, classes))
        with slower_norms(self, 1 / tf.cast(parts, tf.float32)):
            _, loss, predicted, *gradients = tf.while_loop(
                lambda number, *_: number < parts, add, begin, tuple(shapes), parallel_iterations=1
            )
        return loss, predicted, gradients


def weighted(data) -> tuple:
    """Return photos, labels and weights float32 [n] of a batch; all weigh 1 where none came."""
    photos, labels, *weights = data
    return photos, labels, weights[0] if weights else tf.ones(tf.shape(photos)[:1])


@contextmanager
def slower_norms(model: keras.Model, power) -> Iterator[None]:
    """Raise the momentum of all BatchNorm layers to a power while their calls are traced."""
    norms = [
        each for each in flat_layers(model) if isinstance(each, keras.layers.BatchNormalization)
    ]
    kept = [norm.momentum for norm in norms]
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum**power
    try:
        yield
    finally:
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
