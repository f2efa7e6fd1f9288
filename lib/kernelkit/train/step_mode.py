"""How training steps are taken: on how many devices, in which precision, compiled, or in parts.

Only a transformer's blocks are computed a second time for the backward pass: `keras.RematScope`
fails under TensorFlow (Keras 3.13), and `tf.recompute_grad` would draw dropout anew.
"""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

import keras

FLOAT32, FLOAT16 = "float32", "float16"
FLOAT16_WITHOUT_DEPTHWISE = "float16, depthwise float32"  # some GPUs are slow at these in float16


@dataclass(frozen=True)
class StepMode:
    """How a training step is taken."""

    devices: int  # that train together
    precision: str  # one of the three above
    xla: bool = False  # whether XLA compiles the step
    micro_batch: int | None = None  # most photos at once on a device; None: its share of a batch
    recompute: bool = False  # whether a transformer keeps no more than the inputs of its blocks

    def at_once(self, batch_size: int) -> int:
        """Return how many photos a device takes at once."""
        return min(self.micro_batch or batch_size, -(-batch_size // self.devices))

    def at_most(self, photos: int | None) -> "StepMode":
        """Return the mode with so many photos at once; XLA can't compile a number of parts."""
        return dataclasses.replace(self, micro_batch=photos, xla=self.xla and not photos)

    def recomputing(self, yes: bool = True) -> "StepMode":
        """Return the mode with or without recomputing, which XLA does in its own way."""
        return dataclasses.replace(self, recompute=yes, xla=self.xla and not yes)

    def halved(self, batch_size: int) -> "StepMode | None":
        """Return the mode with half as many photos at once; None below one."""
        now = self.at_once(batch_size)
        return None if now == 1 else self.at_most(-(-now // 2))

    def __str__(self) -> str:
        """Return the mode in words."""
        words = [f"{self.devices} device" + "s" * (self.devices > 1), self.precision]
        words += ["XLA"] * self.xla + ["blocks recomputed"] * self.recompute
        if self.micro_batch:
            words.append(f"at most {self.micro_batch} photos at once")
        return ", ".join(words)


SAFEST = StepMode(1, FLOAT32, micro_batch=4)  # the mode that is least likely to fail


def allowed_precisions(mixed_precision: str, gains: bool) -> list[str]:
    """Return the precisions to try, the fastest first: float16 if asked for, or if it `gains`."""
    half = [FLOAT16, FLOAT16_WITHOUT_DEPTHWISE]
    if mixed_precision == "yes":
        return half
    return [*half, FLOAT32] if mixed_precision == "auto" and gains else [FLOAT32]


def step_modes(devices: int, precisions: Collection[str]) -> list[StepMode]:
    """Return the modes to try, the fastest first; XLA fails under MirroredStrategy."""
    together = [StepMode(devices, each) for each in precisions]
    alone = [StepMode(1, each, xla) for each in precisions for xla in (True, False)]
    if devices == 1:
        return together[:1] + [each for each in alone if each not in together[:1]]
    # One device with XLA may beat two without, but most likely in the fastest precision.
    return together[:2] + alone[:1] + together[2:] + alone[1:]


# The global policy is this very object where depthwise convolutions are left out: Keras knows no
# policy by kind of layer, and one of our own would get into the networks' files.
_WITHOUT_DEPTHWISE = keras.DTypePolicy("mixed_float16")
DEPTHWISE = keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D


def set_precision(precision: str) -> None:
    """Make a precision that of all layers that are built from now on."""
    policy = FLOAT32 if precision == FLOAT32 else "mixed_float16"
    if precision == FLOAT16_WITHOUT_DEPTHWISE:
        policy = _WITHOUT_DEPTHWISE
    keras.mixed_precision.set_global_policy(policy)


def keep_depthwise_precise(backbone: keras.Model) -> None:
    """Have the depthwise convolutions of a model compute in float32 where the policy says so."""
    if keras.mixed_precision.global_policy() is _WITHOUT_DEPTHWISE:
        for layer in backbone.layers:
            if isinstance(layer, DEPTHWISE):
                layer.dtype_policy = keras.DTypePolicy(FLOAT32)
