"""The training step: it mixes photos, weighs each alike on all devices, and works in parts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import keras
import tensorflow as tf

from kernelkit.train.backbones import flat_layers, is_block
from kernelkit.train.costs import Stage
from kernelkit.train.optimizer import layer_fractions, make_optimizer
from kernelkit.train.step_mode import StepMode

LEAST_NORMS = 10  # BatchNorm layers in a network, from which they are fused


class TrainingModel(keras.Model):
    """A network whose training steps may mix photos, and may take few of them at a time.

    Mixup (Zhang et al. 2018) blends two photos, CutMix (Yun et al. 2019) pastes a rectangle of one
    into the other; each step does one of those that are on, drawn with equal chance.

    Keras' own `gradient_accumulation_steps` fails under MirroredStrategy. Here a step goes over the
    device's share of a batch in parts, adds their gradients and applies the sum once: batch size
    and learning rate mean the same with and without parts. Statistics of BatchNorm are those of
    each part, as they are those of each device; their moving averages move as far as in a whole
    step.

    A batch may come with weights, as `share` adds them: a photo of weight 0 counts in neither loss,
    gradient nor metric. Gradients are those of the mean loss of all devices' photos.

    `network` takes uint8 photos [n, h, w, 3]; `mixup` and `cutmix` are the alphas of the Beta
    distributions of the shares, 0 is off; `micro_batch` is the most photos that a device takes at
    once, None its whole share. With `recompute` a transformer's blocks are computed again in the
    backward pass, so that no more than their inputs need memory until then.
    """

    def __init__(
        self, network, mixup=0.0, cutmix=0.0, micro_batch: int | None = None, recompute=False
    ):
        super().__init__(network.inputs, network.outputs)
        self.micro_batch, self.recompute, self.mixers = micro_batch, recompute, []
        if mixup:
            self.mixers.append(keras.layers.MixUp(alpha=mixup, dtype="float32"))
        if cutmix:
            mixer = keras.layers.CutMix(dtype="float32")
            mixer.factor = (cutmix, cutmix)  # Keras draws alpha between these, and takes 0 to 1
            self.mixers.append(mixer)
        strategy = tf.distribute.get_strategy()
        self.several_workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Build the metrics for a batch of this form."""
        # Keras takes the mean of the batches of all workers for it, which fails for whole numbers.
        photo, label = self.inputs[0], self.outputs[0]
        photos = tf.zeros((1, *photo.shape[1:]), photo.dtype)
        labels = tf.zeros((1, label.shape[-1]), label.dtype)
        super()._maybe_symbolic_build(None, (photos, labels, tf.ones(1)))

    def train_step(self, data) -> dict:
        """Train on a batch: uint8 [n, h, w, 3], one-hot [n, classes] and perhaps weights [n]."""
        photos, labels, *given = data
        weights = given[0] if given else tf.ones(tf.shape(photos)[:1])
        if self.mixers:
            photos, labels = self.mix(photos, labels)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        total = tf.cast(replicas * tf.shape(photos)[0], tf.float32)
        work = self._in_parts if self.micro_batch else self._gradients
        loss, predicted, gradients = work(photos, labels, weights, total)
        own, counted = tf.reduce_sum(weights), tf.cast(weights > 0, tf.float32)
        self._loss_tracker.update_state(
            tf.math.divide_no_nan(loss * total, own), tf.reduce_sum(counted)
        )
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        metrics = self.compute_metrics(photos, labels, predicted, sample_weight=counted)
        if self.several_workers:  # Keras' mean over workers fails for single numbers
            metrics = {name: tf.reshape(value, [1]) for name, value in metrics.items()}
        return metrics

    def mix(self, photos, labels) -> tuple:
        """Return a mixed batch of the same shapes and dtypes; CutMix or mixup by chance."""
        batch = {"images": tf.cast(photos, tf.float32), "labels": tf.cast(labels, tf.float32)}
        mixed = [mixer(dict(batch), training=True) for mixer in self.mixers]
        chosen = mixed[0]
        if len(mixed) == 2:
            first = keras.random.uniform((), seed=self.mixers[0].generator) < 0.5
            chosen = {name: tf.where(first, *(each[name] for each in mixed)) for name in batch}
        return tf.cast(tf.round(chosen["images"]), photos.dtype), chosen["labels"]

    def _gradients(self, photos, labels, weights, total) -> tuple:
        """Return loss, predictions [n, classes] and gradients of some of `total` photos."""
        with tf.GradientTape() as tape, _fused_norms(self), _recomputed_blocks(self):
            predicted = self(photos, training=True)
            loss = keras.losses.get(self.loss)
            losses = getattr(loss, "call", loss)(tf.cast(labels, predicted.dtype), predicted)
            penalty = tf.reduce_sum(weights) * sum(self.losses)
            loss = tf.math.divide_no_nan(tf.reduce_sum(losses * weights) + penalty, total)
            scaled = self.optimizer.scale_loss(loss)
        # Of Keras' own variables TensorFlow can't make the zeros of those that took no part.
        variables = [variable.value for variable in self.trainable_weights]
        zero = tf.UnconnectedGradients.ZERO
        return loss, predicted, tape.gradient(scaled, variables, None, zero)

    def _in_parts(self, photos, labels, weights, total) -> tuple:
        """Return the same as `_gradients`, computed part by part."""
        count = tf.shape(photos)[0]
        parts = tf.maximum(1, -(-count // self.micro_batch))

        def add(number, loss, predicted, *gradients):
            rows = slice(number * count // parts, (number + 1) * count // parts)
            part = photos[rows], labels[rows], weights[rows]
            more, seen, slopes = self._gradients(*part, total)
            summed = [old + new for old, new in zip(gradients, slopes, strict=True)]
            return number + 1, loss + more, tf.concat([predicted, seen], 0), *summed

        classes = self.outputs[0].shape[-1]
        empty = tf.zeros((0, classes), self.outputs[0].dtype)
        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in self.trainable_weights]
        begin = tf.constant(0), tf.constant(0.0), empty, *zeros
        shapes = [value.shape for value in begin]
        shapes[2] = tf.TensorShape((None, classes))
        power = 1 / tf.cast(parts, tf.float32)
        with changed(_norms(self), "momentum", lambda momentum: momentum**power):
            _, loss, predicted, *gradients = tf.while_loop(
                lambda number, *_: number < parts, add, begin, tuple(shapes), parallel_iterations=1
            )
        return loss, predicted, gradients


def compile_model(
    config, network: keras.Model, stage: Stage, rate: float, mode: StepMode
) -> TrainingModel:
    """Return the model that `fit` trains in a stage, which begins at the learning rate `rate`."""
    model = TrainingModel(network, stage.mixup, stage.cutmix, mode.micro_batch, mode.recompute)
    optimizer = make_optimizer(config, rate, layer_fractions(config, network))
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)
    accuracy = keras.metrics.CategoricalAccuracy("accuracy")
    model.compile(optimizer, loss, weighted_metrics=[accuracy], jit_compile=mode.xla)
    return model


@contextmanager
def _recomputed_blocks(model: TrainingModel) -> Iterator[None]:
    """Have a transformer's blocks compute twice, where the model does, while they are traced."""
    blocks = [layer for layer in flat_layers(model) if is_block(layer)] if model.recompute else []

    def twice(call: Callable, inputs, **options):
        return tf.recompute_grad(lambda x: call(x, **options))(inputs)

    for block in blocks:
        block.call = partial(twice, block.call)
    try:
        yield
    finally:
        for block in blocks:
            del block.call


@contextmanager
def changed(layers: Sequence, name: str, value: Callable) -> Iterator[None]:
    """Set an attribute of layers to `value(what it is)`, until the context ends."""
    kept = [getattr(layer, name) for layer in layers]
    for layer, before in zip(layers, kept, strict=True):
        setattr(layer, name, value(before))
    try:
        yield
    finally:
        for layer, before in zip(layers, kept, strict=True):
            setattr(layer, name, before)


class _FusedNorm(keras.layers.BatchNormalization):
    """BatchNorm that trains in TensorFlow's fused operation.

    Keras computes it in seven, which take a third of a step of MobileNet on a processor. The
    results differ by rounding.
    """

    def call(self, inputs, training=None, mask=None):
        """Return normalized inputs; only steps on maps [n, height, width, channels] are fused."""
        plain = mask is None and self.scale and self.center and not self.synchronized
        last = self.axis in (-1, 3) and len(inputs.shape) == 4
        if not (training and self.trainable and plain and last):
            return super().call(inputs, training, mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma, self.beta, epsilon=self.epsilon, is_training=True
        )
        count = tf.cast(tf.size(inputs) / inputs.shape[-1], tf.float32)
        variance *= (count - 1) / count  # which the operation estimates without bias
        for average, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + now * (1 - self.momentum))
        return outputs


def _norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    kind = keras.layers.BatchNormalization
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]


def _fused_norms(model: keras.Model) -> AbstractContextManager:
    """Let all BatchNorm layers be fused while their calls are traced."""
    # The network keeps Keras' own layers, also in its files. One of few norms, such as the dry
    # run's, is left as it is.
    norms = [norm for norm in _norms(model) if type(norm) is keras.layers.BatchNormalization]
    return changed(norms if len(norms) >= LEAST_NORMS else [], "__class__", lambda _: _FusedNorm)
