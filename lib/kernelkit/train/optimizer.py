"""The learning rate of every step: a warm-up, then a cosine; and how much of it each layer gets."""

import math
from collections.abc import Iterable, Mapping, Sequence

import keras

from kernelkit.train.backbones import block_starts
from kernelkit.train.precision import scaled_for_float16

LEVELS = 12  # into which a backbone's layers are divided for layer-wise decay
NO_DECAY = ["bias", "gamma", "beta"]  # weight decay is for the weights that multiply


class WarmCosine(keras.callbacks.Callback):
    """Sets the learning rate before every step.

    In each stage the rate rises linearly from near zero during the warm-up. Over the cosine's span,
    which is the whole schedule or this stage alone, it falls to zero.

    Args:
        rate: the stage's own, at the cosine's beginning.
        warmup: epochs of linear warm-up; 0 is none.
        steps: in an epoch.
        span: the cosine's first epoch and the one after its last, counted from the beginning of
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

    Args:
        epochs: of each stage that trains through the network.
        number: the stage's position among them.
        restarts: whether each stage has a cosine of its own.
    """
    if restarts:
        return 0, epochs[number]
    return -sum(epochs[:number]), sum(epochs[number:])


class _ByLayer:
    """Gives each variable its own fraction of the learning rate: the part of an optimizer."""

    factors: Mapping[str, float] = {}

    def build(self, variables):
        """Note the fraction of each variable's path."""
        super().build(variables)
        self._fractions = [self.factors.get(variable.path, 1.0) for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable at its own rate."""
        fraction = self._fractions[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * fraction)


class LayerAdam(_ByLayer, keras.optimizers.Adam):
    """Adam with a rate for each layer."""


class DecayingAdamW(keras.optimizers.AdamW):
    """AdamW whose weight decay follows the learning rate that a variable's own step is taken at.

    Keras' own decays all variables at the optimizer's rate, also those that learn at a fraction.
    """

    def _apply_weight_decay(self, variables):
        """Leave it to `update_step`."""

    def update_step(self, gradient, variable, learning_rate):
        """Decay one variable, then update it."""
        if self._use_weight_decay(variable):
            rate = keras.ops.cast(learning_rate, variable.dtype)
            self.assign_sub(variable, variable * self.weight_decay * rate)
        super().update_step(gradient, variable, learning_rate)


class LayerAdamW(_ByLayer, DecayingAdamW):
    """AdamW with a rate for each layer."""


def make_optimizer(config, rate: float, factors: Mapping[str, float]):
    """Return the optimizer of a stage, with loss scaling where the policy computes in float16.

    Args:
        config: has weight_decay (0 is Adam, more is AdamW, Loshchilov and Hutter 2019) and
            clip_norm (of all gradients together; 0 is none).
        rate: the learning rate.
        factors: what fraction of it each variable gets, by its path; the others get all.
    """
    clip = {"global_clipnorm": config.clip_norm} if config.clip_norm else {}
    if config.weight_decay:
        optimizer = LayerAdamW(rate, weight_decay=config.weight_decay, **clip)
        optimizer.exclude_from_weight_decay(var_names=NO_DECAY)
    else:
        optimizer = LayerAdam(rate, **clip)
    optimizer.factors = factors
    return scaled_for_float16(optimizer)


def layer_factors(network: keras.Model, head_rate: float, decay: float) -> dict[str, float]:
    """Return the fraction of the learning rate that each variable gets, by its path.

    Args:
        network: has the layers "backbone" and "head".
        head_rate: the head's rate over that of the backbone's last layer.
        decay: by which the rate shrinks from one twelfth of the backbone's layers to the one below;
            1 leaves it (layer-wise decay, as Clark et al. 2020 use it for the twelve layers of
            ELECTRA).
    """
    backbone, head = network.get_layer("backbone"), network.get_layer("head")
    factors = dict.fromkeys(paths([head]), head_rate)
    count, starts, level = len(backbone.layers), set(block_starts(backbone)), LEVELS - 1
    for position, layer in enumerate(backbone.layers):
        if position in starts:  # whole blocks learn at one rate
            level = LEVELS * (count - 1 - position) // count
        factors |= dict.fromkeys(paths([layer]), decay**level)
    return factors


def paths(layers: Iterable[keras.Layer]) -> list[str]:
    """Return the paths of all variables of some layers."""
    return [variable.path for layer in layers for variable in layer.variables]
