"""Mixup and CutMix on the device: pairs of photos, and of their labels, become one."""

from collections.abc import Callable

import keras
import tensorflow as tf

from kernelkit.train.train_step import Accumulating


class Mixing(Accumulating):
    """A network whose training steps mix the photos of a batch, and that a judge may validate.

    Mixup (Zhang et al. 2018) blends two photos, CutMix (Yun et al. 2019) pastes a rectangle of one
    into the other; each step does one of those that are on, drawn with equal chance. Validation and
    prediction see photos as they are.

    Args:
        network: the model: uint8 photos [n, h, w, 3] to probabilities.
        mixup: alpha of the Beta distribution of the shares; 0 is off.
        cutmix: the same for CutMix.
        micro_batch: as `Accumulating` takes it.
    """

    measure: Callable[[], dict[str, float]] | None = None
    """Returns the figures of the validation photos; without it Keras computes its own."""

    def __init__(
        self, network: keras.Model, mixup: float, cutmix: float, micro_batch: int | None = None
    ):
        super().__init__(network, micro_batch)
        self.mixers = []
        if mixup:
            self.mixers.append(keras.layers.MixUp(alpha=mixup, dtype="float32"))
        if cutmix:
            mixer = keras.layers.CutMix(dtype="float32")
            mixer.factor = (cutmix, cutmix)  # Keras draws alpha between these, and takes 0 to 1
            self.mixers.append(mixer)

    def prepare(self, photos, labels):
        """Mix a batch (uint8 [n, h, w, 3], one-hot [n, classes]) where a mixer is on."""
        return self.mix(photos, labels) if self.mixers else (photos, labels)

    def evaluate(self, x=None, *args, callbacks=None, **options):
        """Return the figures of `measure` where it is set; Keras calls this after each epoch."""
        if not self.measure:
            return super().evaluate(x, *args, callbacks=callbacks, **options)
        callbacks.on_test_begin()
        figures = self.measure()
        callbacks.on_test_end(figures)
        return figures

    def mix(self, photos, labels):
        """Return a mixed batch of the same shapes and dtypes; CutMix or mixup by chance."""
        batch = {"images": tf.cast(photos, tf.float32), "labels": tf.cast(labels, tf.float32)}
        mixed = [mixer(dict(batch), training=True) for mixer in self.mixers]
        chosen = mixed[0]
        if len(mixed) == 2:
            first = keras.random.uniform((), seed=self.mixers[0].generator) < 0.5
            chosen = {name: tf.where(first, *(each[name] for each in mixed)) for name in batch}
        return tf.cast(tf.round(chosen["images"]), photos.dtype), chosen["labels"]
