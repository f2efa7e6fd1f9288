"""Random numbers that depend on (seed, epoch, index) alone, in any thread and at any time."""

import hashlib
import random

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

_ORDER = 1  # It is added to the seed so that the order has other random numbers.
_WORD = 1 << 64
_GOLDEN_RATIO = 0x9E3779B97F4A7C15F39CC0605CEDC835  # 2**128 / phi spreads the generators evenly.


def entropy_of(seed: int | None) -> int:
    """Return a non-negative number for `seed`, or one drawn from Python's `random` for None.

    Keras draws its default seeds there too, so `keras.utils.set_random_seed` counts for both.
    """
    return random.getrandbits(64) if seed is None else int(seed) % _WORD


def epoch_order(entropy: int, epoch: int, n: int, shuffle: bool) -> np.ndarray:
    """Return the order in which an epoch visits its n samples, int64 [n]."""
    if not shuffle:
        return np.arange(n)
    return Generator(PCG64(SeedSequence([entropy, epoch, _ORDER]))).permutation(n)


class TransformRandomness:
    """Sets the random state of one albumentations Compose before each picture.

    Each top-level transform has its own numpy generator. Noise draws as many numbers as the
    picture has values, so with a common generator an image iterator and its mask iterator would
    draw different numbers from then on. Choices and parameters come from one `random.Random`.
    """

    def __init__(self, compose):
        self._python = random.Random(0)
        self._generators = [Generator(PCG64(0)) for _ in compose.transforms or [None]]
        compose.set_random_state(self._generators[0], self._python)
        for transform, generator in zip(compose.transforms, self._generators, strict=False):
            transform.set_random_state(generator, self._python)
        self._state = self._generators[0].bit_generator.state

    def set(self, entropy: int, epoch: int, index: int) -> None:
        """Set the state that the Compose has for sample `index` in `epoch`."""
        # A hash spreads the numbers as well as a SeedSequence, in a fifteenth of the time.
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
