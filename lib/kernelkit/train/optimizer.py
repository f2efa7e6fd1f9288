"""The optimizer of a stage, and its learning rate at every step and for every layer."""

import math
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from kernelkit.train.backbones import block_starts, is_block, units

LEVELS = 12  # into which a backbone's layers are divided for layer-wise decay
NO_DECAY = ["bias", "gamma", "beta"]  # weight decay is for the weights that multiply


class WarmCosine(keras.callbacks.Callback):
    """Sets the learning rate before every step: a linear warm-up, times a cosine that falls to 0.

    `rate` is the stage's own, at the cosine's beginning; `warmup` is in epochs, of `steps` each.
    `span` is the cosine's first epoch and the one after its last, counted from the beginning of
    this stage: (0, its epochs), or (-3, 6) where three epochs came before it.
    """

    def __init__(self, rate: float, warmup: float, steps: int, span: tuple[int, int]):
        super().__init__()
        self.rate, self.warmup, self.steps, self.span = rate, warmup, steps, span
        self.epoch = 0

    def rate_at(self, epoch: float) -> float:
        """Return the rate after `epoch` epochs of the stage, a fraction included."""
        begin, end = self.span
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - begin) / (end - begin))))
        warm = min(1.0, (epoch + 1 / self.steps) / self.warmup) if self.warmup else 1.0
        return self.rate * warm * cosine

    def on_epoch_begin(self, epoch, logs=None):  # noqa: D102
        self.epoch = epoch
        self.on_train_batch_begin(0)

    def on_train_batch_begin(self, batch, logs=None):  # noqa: D102
        self.model.optimizer.learning_rate = self.rate_at(self.epoch + batch / self.steps)


def cosine_span(epochs: Sequence[int], number: int, restarts: bool) -> tuple[int, int]:
    """Return the span of stage `number`'s cosine; see `WarmCosine`.

    `epochs` has those of each stage, 0 where it does not train through the network. With `restarts`
    each stage has a cosine of its own.
    """
    if restarts:
        return 0, epochs[number]
    return -sum(epochs[:number]), sum(epochs[number:])


class LayerAdamW(keras.optimizers.AdamW):
    """AdamW in which each variable learns, and decays, at its own fraction of the learning rate.

    Keras' own decays all variables at the optimizer's rate, also those that learn at a fraction.

    `fractions` of `rate` are by a variable's path; others get all. `options` are AdamW's.
    """

    def __init__(self, rate: float, fractions: Mapping[str, float], **options):
        super().__init__(rate, **options)
        self._fraction_of = fractions

    def build(self, variables):  # noqa: D102
        super().build(variables)
        self._fractions = [self._fraction_of.get(variable.path, 1.0) for variable in variables]

    def _apply_weight_decay(self, variables):
        """Leave it to `update_step`."""

    def update_step(self, gradient, variable, learning_rate):  # noqa: D102
        learning_rate = learning_rate * self._fractions[self._get_variable_index(variable)]
        if self.weight_decay and self._use_weight_decay(variable):
            rate = keras.ops.cast(learning_rate, variable.dtype)
            self.assign_sub(variable, variable * self.weight_decay * rate)
        super().update_step(gradient, variable, learning_rate)


def make_optimizer(config, rate: float, fractions: Mapping[str, float]):
    """Return a stage's optimizer, with loss scaling where the policy computes in float16.

    `config` has weight_decay (of AdamW, Loshchilov and Hutter 2019; 0 is Adam) and clip_norm (of
    all gradients together; 0 is none). `fractions` of `rate` are those of `LayerAdamW`.
    """
    clip = {"global_clipnorm": config.clip_norm} if config.clip_norm else {}
    optimizer = LayerAdamW(rate, fractions, weight_decay=config.weight_decay, **clip)
    optimizer.exclude_from_weight_decay(var_names=NO_DECAY)
    return scaled_for_float16(optimizer)


def layer_fractions(config, network: keras.Model) -> dict[str, float]:
    """Return the fraction of the learning rate that each variable gets, by its path.

    The head's is config.head_rate. From one block of a transformer to the one below, and from one
    twelfth of another backbone's layers to the next, the rate shrinks by config.layer_decay (as
    Clark et al. 2020 do for the twelve layers of ELECTRA).
    """
    backbone, head = network.get_layer("backbone"), network.get_layer("head")
    fractions = {variable.path: config.head_rate for variable in head.variables}
    found = units(backbone)
    blocks = sum(map(is_block, found))
    starts = set() if blocks else set(block_starts(backbone))
    count, level = len(found), blocks or LEVELS - 1
    for position, layer in enumerate(found):
        if is_block(layer):
            level -= 1
        elif position in starts:  # whole blocks learn at one rate
            level = LEVELS * (count - 1 - position) // count
        fractions |= {v.path: config.layer_decay**level for v in layer.variables}
    return fractions


class _LossScale(keras.mixed_precision.LossScaleOptimizer):
    """Keras' loss scaling, but an overflow on any device skips the step.

    Keras 3 asks the first device alone whether its gradients are finite, before they are summed.
    """

    def check_finite(self, grads):
        overflow = tf.cast(tf.logical_not(super().check_finite(grads)), tf.float32)
        return tf.equal(tf.distribute.get_replica_context().all_reduce("SUM", overflow), 0)


def scaled_for_float16(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return the optimizer, with loss scaling where the global policy computes in float16."""
    if keras.mixed_precision.global_policy().compute_dtype == "float16":
        return _LossScale(optimizer)
    return optimizer
