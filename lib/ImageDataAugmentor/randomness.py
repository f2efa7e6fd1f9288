"""Random numbers that depend on (seed, epoch, index) alone, whoever draws them and when."""

import random

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

# The last word of the entropy keeps the streams apart (numpy ignores trailing zeros).
_ORDER, _IMAGE = 1, 2
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
        self._generators = [Generator(PCG64(0)) for _ in range(len(compose.transforms) + 1)]
        compose.set_random_state(self._generators[0], self._python)
        for transform, generator in zip(compose.transforms, self._generators[1:], strict=True):
            transform.set_random_state(generator, self._python)

    def set(self, entropy: int, epoch: int, index: int) -> None:
        """Make the next call of the Compose that of sample `index` in `epoch`."""
        words = SeedSequence([entropy, epoch, index, _IMAGE]).generate_state(4, np.uint64)
        state, increment = (int(words[0]) << 64) | int(words[1]), int(words[2]) | 1
        self._python.seed(int(words[3]))
        for number, generator in enumerate(self._generators):
            generator.bit_generator.state = {
                "bit_generator": "PCG64",
                "state": {
                    "state": (state + number * _GOLDEN_RATIO) % (1 << 128),
                    "inc": increment,
                },
                "has_uint32": 0,
                "uinteger": 0,
            }
