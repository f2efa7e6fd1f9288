"""Ways to take a step of training, in the order in which they are likely to be the fastest.

Recomputing activations in the backward pass is not among them, because it fails with the networks
of keras.applications (Keras 3.13, TensorFlow 2.20). `keras.RematScope` ends in "The custom_gradient
decorator currently supports keywords arguments only when eager execution is enabled", with
MobileNet and EfficientNetB0 alike. `tf.recompute_grad` runs, but a second forward pass draws its
dropout anew, so that the gradients are another network's, and moves BatchNorm's averages twice.
"""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

from kernelkit.train.precision import FLOAT16, FLOAT16_WITHOUT_DEPTHWISE, FLOAT32

SAFE_BATCH = 4  # photos at once of the candidate that is left when all others failed


@dataclass(frozen=True)
class Candidate:
    """One way to take a step."""

    devices: int
    """How many train together."""
    precision: str
    """One of `kernelkit.train.precision.PRECISIONS`."""
    xla: bool = False
    """Whether XLA compiles the step."""
    micro_batch: int | None = None
    """The most photos that a device takes at once; None is its whole share of a batch."""

    def at_once(self, batch_size: int) -> int:
        """Return how many photos a device takes at once."""
        return min(self.micro_batch or batch_size, -(-batch_size // self.devices))

    def at_most(self, photos: int) -> "Candidate":
        """Return the candidate that takes so many photos at once."""
        # XLA can't compile parts whose number is unknown.
        return dataclasses.replace(self, micro_batch=photos, xla=False)

    def halved(self, batch_size: int) -> "Candidate | None":
        """Return the candidate that takes half as many photos at once; None below one."""
        now = self.at_once(batch_size)
        return None if now == 1 else self.at_most(-(-now // 2))

    def sentence(self) -> str:
        """Return it in words."""
        count = f"{self.devices} device" + "s" * (self.devices > 1)
        words = [count, self.precision] + ["XLA"] * self.xla
        if self.micro_batch:
            words.append(f"at most {self.micro_batch} photos at once")
        return ", ".join(words)


def allowed_precisions(mixed_precision: str, gains: bool, depthwise: bool) -> list[str]:
    """Return the precisions to try, the likeliest first.

    Args:
        mixed_precision: the setting: "yes", "no", or "auto".
        gains: whether float16 is likely to be faster on these devices.
        depthwise: whether a network has depthwise convolutions.
    """
    half = [FLOAT16, *([FLOAT16_WITHOUT_DEPTHWISE] if depthwise else [])]
    if mixed_precision == "yes":
        return half
    return [*half, FLOAT32] if mixed_precision == "auto" and gains else [FLOAT32]


def candidates(devices: int, precisions: Collection[str]) -> list[Candidate]:
    """Return what makes sense on `devices` devices, the likeliest to be fastest first.

    XLA is for one device alone: under MirroredStrategy it fails.
    """
    found = [Candidate(devices, each) for each in precisions]
    alone = [Candidate(1, each, xla) for each in precisions for xla in (True, False)]
    if devices == 1:
        return found[:1] + [each for each in alone if each not in found[:1]]
    # One device with XLA may beat two without, but most likely in the fastest precision.
    return found[:2] + alone[:1] + found[2:] + alone[1:]


def safest() -> Candidate:
    """Return the candidate that is least likely to fail."""
    return Candidate(1, FLOAT32, micro_batch=SAFE_BATCH)
