"""The transformation of one sample: augmentation with its random numbers, then standardisation."""

import copy
import hashlib
import random
import threading
import warnings

import albumentations as A
import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from ..fused import FusedCompose
from ..fused.drawing import DrawnTransform

TINY = 1e-6  # keras_preprocessing's value; keeps divisions by a deviation of zero finite
_ORDER = 1  # It is added to the seed so that the order has other random numbers.
_WORD = 1 << 64
_GOLDEN_RATIO = 0x9E3779B97F4A7C15F39CC0605CEDC835  # 2**128 / phi spreads the generators evenly.
# The attributes that determine the result. The user may change some of them at any time.
_SETTINGS = (
    *("augment", "input_augment_mode", "label_augment_mode", "entropy"),
    *("preprocess_input", "preprocess_labels", "rescale", "data_format"),
    *("samplewise_center", "samplewise_std_normalization"),
    *("featurewise_center", "featurewise_std_normalization", "zca_whitening"),
    *("mean", "std", "principal_components"),
)


def entropy_of(seed: int | None) -> int:
    """Return a number for `seed`; for None one that `keras.utils.set_random_seed` decides."""
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

    def __init__(self, compose: A.Compose):
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


class SampleTransformer:
    """The part of an ImageDataAugmentor that its worker processes have as well."""

    version: object = None  # replaced whenever a setting is assigned

    def __init__(self):
        self._of_thread = threading.local()
        self._pools: set = set()  # the workers in use, which end with the last that refers to them

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name in _SETTINGS:
            self.version = object()

    def __getstate__(self):
        unpicklable = {"_of_thread", "_pools", "version"}
        return {k: v for k, v in vars(self).items() if k not in unpicklable}

    def __setstate__(self, state):
        vars(self).update(state)
        SampleTransformer.__init__(self)

    def snapshot(self) -> "SampleTransformer":
        """Return a copy of this part, for another process."""
        copied = SampleTransformer()
        vars(copied).update({name: getattr(self, name) for name in _SETTINGS})
        return copied

    @property
    def standardizes(self) -> bool:
        """Whether standardisation gives values that whole numbers cannot hold."""
        samplewise = self.samplewise_center or self.samplewise_std_normalization
        featurewise = self.featurewise_center or self.featurewise_std_normalization
        return bool(self.rescale or samplewise or featurewise or self.zca_whitening)

    @property
    def can_draw(self) -> bool:
        """Whether `draw` can replace `augment_sample`."""
        return (
            isinstance(self.augment, FusedCompose)
            and self.augment.can_draw
            and self.input_augment_mode == "image"
            and self.label_augment_mode is None
        )

    def draw(
        self, epoch: int, indices: list[int], shape: tuple, resizing: bool
    ) -> list[DrawnTransform]:
        """Draw the transforms of these samples in `epoch`; see FusedCompose.draw."""
        compose, randomness, _ = self._own_compose()
        drawn = []
        for index in indices:
            randomness.set(self.entropy, epoch, index)
            drawn.append(compose.draw(shape, resizing))
        return drawn

    def augment_sample(self, x: np.ndarray, y, epoch: int, index: int) -> tuple:
        """Return (x, y) augmented as sample `index` of `epoch`; y only in a label_augment_mode."""
        if self.augment is None:
            return x, y
        compose, randomness, colours = self._own_compose()
        randomness.set(self.entropy, epoch, index)
        with_target = y is not None and self.label_augment_mode is not None
        data = {self.input_augment_mode: x}
        if with_target:
            data[self.label_augment_mode] = y
        if "image" not in data:  # albumentations requires one, mostly with three channels.
            data["image"] = np.zeros((*x.shape[:2], 3), np.uint8)
        data = _with_whole_colours(compose, data) if colours else compose(**data)
        return data[self.input_augment_mode], data[self.label_augment_mode] if with_target else y

    def _own_compose(self) -> tuple[A.Compose, TransformRandomness, bool]:
        """Return a copy for this thread, because a Compose stores the parameters of a call."""
        mine = self._of_thread
        if getattr(mine, "source", None) is not self.augment:
            compose = copy.deepcopy(self.augment)
            mine.compose = compose, TransformRandomness(compose), _changes_colours(compose)
            mine.source = self.augment
        return mine.compose

    def standardize(self, x: np.ndarray, y=None) -> tuple:
        """Return one picture [height, width, channels] and its target, standardised."""
        x = self.scale(x)
        if self.preprocess_labels and y is not None:
            y = self.preprocess_labels(y)
        if self._has("mean", "featurewise_center"):
            x = x - self._for_picture(self.mean, x)
        if self._has("std", "featurewise_std_normalization"):
            x = x / (self._for_picture(self.std, x) + TINY)
        if self._has("principal_components", "zca_whitening"):
            x = (x.reshape(-1) @ np.asarray(self.principal_components, x.dtype)).reshape(x.shape)
        return x, y

    def scale(self, x: np.ndarray) -> np.ndarray:
        """Return one picture [height, width, channels] after the steps before featurewise ones."""
        if self.preprocess_input:
            x = self.preprocess_input(x)
        if self.standardizes and x.dtype.kind != "f":
            x = x.astype(np.float32)
        if self.rescale:
            x = x * x.dtype.type(self.rescale)
        if self.samplewise_center:
            x = x - x.mean()
        if self.samplewise_std_normalization:
            x = x / (x.std() + TINY)
        return x

    def _has(self, statistic: str, option: str) -> bool:
        """Return whether an option is on and its statistic is known; warn if only the first is."""
        known = getattr(self, statistic) is not None
        if getattr(self, option) and not known:
            warnings.warn(
                f"`{option}` does nothing before .fit(data) or before `{statistic}` is set.",
                stacklevel=3,
            )
        return getattr(self, option) and known

    def _for_picture(self, statistic, x: np.ndarray) -> np.ndarray:
        statistic = np.asarray(statistic, x.dtype)
        if self.data_format == "channels_first" and statistic.ndim == 3:
            return np.moveaxis(statistic, 0, -1)
        return statistic

    def finish(self, x: np.ndarray, y) -> tuple:
        """Return an augmented picture and its target as they are written into the batch."""
        return tuple(map(self.in_data_format, self.standardize(x, y)))

    def in_data_format(self, part):
        """Return a picture in the data format of the batch, and anything else unchanged."""
        if self.data_format == "channels_first" and np.ndim(part) == 3:
            return np.moveaxis(part, -1, 0)
        return part


def _changes_colours(transform) -> bool:
    """Return whether a transform, or one within it, expects float colours to be 0..1."""
    if any(map(_changes_colours, getattr(transform, "transforms", ()))):
        return True
    return isinstance(transform, A.ImageOnlyTransform) and not isinstance(
        transform, (A.Normalize, A.ToFloat)
    )


def _with_whole_colours(compose: A.Compose, data: dict) -> dict:
    """Transform pictures and masks, floats of 0..255 as uint8: colours of floats must be 0..1."""
    dtypes = {}
    for key, value in data.items():
        is_picture = compose.additional_targets.get(key, key) == "image"
        if not is_picture or value.dtype.kind != "f":
            continue
        low, high = value.min(initial=0), value.max(initial=0)
        if low < 0 or high > 255:
            warnings.warn(
                "Float pictures for colour transforms must hold 0..1 or 0..255, or they are "
                "clipped: leave what scales them to preprocess_input.",
                stacklevel=2,
            )
        elif high > 1:
            dtypes[key] = value.dtype
            data[key] = np.rint(value).astype(np.uint8)
    data = compose(**data)
    for key, dtype in dtypes.items():
        if data[key].dtype == np.uint8:
            data[key] = data[key].astype(dtype)
    return data
