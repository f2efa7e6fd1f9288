"""Random numbers that depend on (seed, epoch, index) alone, whoever draws them and when."""

import hashlib
import random

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

# The last word of the entropy keeps it apart from other uses of the same seed.
_ORDER = 1
_WORD = 1 << 64
_GOLDEN_RATIO = 0x9E3779B97F4A7C15F39CC0605CEDC835  # 2**128 / phi: spreads stream numbers evenly


def entropy_of(seed: int | None) -> int:
    """The non-negative number that stands for `seed`; a fresh one from the system for None."""
    return SeedSequence().entropy if seed is None else int(seed) % _WORD


def epoch_order(entropy: int, epoch: int, n: int, shuffle: bool) -> np.ndarray:
    """The order (int64 [n]) in which an epoch visits its n samples."""
    if not shuffle:
        return np.arange(n)
    return Generator(PCG64(SeedSequence([entropy, epoch, _ORDER]))).permutation(n)


class TransformRandomness:
    """Steers one albumentations Compose, image by image.

    Each top-level transform has a numpy generator of its own: a transform that draws as many
    numbers as the picture has values (noise) would otherwise put an image iterator and its mask
    iterator out of step. Choices and parameters come from one `random.Random`.
    """

    def __init__(self, compose):
        self._python = random.Random(0)
        self._generators = [Generator(PCG64(0)) for _ in compose.transforms or [None]]
        compose.set_random_state(self._generators[0], self._python)
        for transform, generator in zip(compose.transforms, self._generators, strict=False):
            transform.set_random_state(generator, self._python)
        self._state = self._generators[0].bit_generator.state

    def set(self, entropy: int, epoch: int, index: int) -> None:
        """Make the next call of the Compose that of sample `index` in `epoch`."""
        # Spreads the numbers as well as a SeedSequence, in a fifteenth of its time.
        words = hashlib.blake2b(b"%d %d %d" % (entropy, epoch, index), digest_size=40).digest()
        state, increment, python = (
            int.from_bytes(words[start:end]) for start, end in ((0, 16), (16, 32), (32, 40))
        )
        self._python.seed(python)
        numbers = self._state["state"]
        numbers["inc"] = increment | 1
        for generator in self._generators:
            numbers["state"] = state
            generator.bit_generator.state = self._state
            state = (state + _GOLDEN_RATIO) % (1 << 128)
