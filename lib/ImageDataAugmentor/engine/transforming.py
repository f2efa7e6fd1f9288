"""The transformation of one sample: augmentation, then standardisation."""

import copy
import threading
import warnings

import albumentations as A
import numpy as np

from ..fused.drawn_transform import DrawnTransform
from ..fused.fusing import FusedCompose
from .randomness import TransformRandomness

TINY = 1e-6  # keras_preprocessing's value; keeps divisions by a deviation of zero finite
# The attributes that determine the result. The user may change some of them at any time.
_SETTINGS = (
    "augment",
    "input_augment_mode",
    "label_augment_mode",
    "entropy",
    "preprocess_input",
    "preprocess_labels",
    "rescale",
    "samplewise_center",
    "samplewise_std_normalization",
    "featurewise_center",
    "featurewise_std_normalization",
    "zca_whitening",
    "mean",
    "std",
    "principal_components",
    "data_format",
)


class SampleTransformer:
    """The part of an ImageDataAugmentor that its worker processes have as well."""

    def snapshot(self) -> "SampleTransformer":
        """Return a copy of this part, for another process."""
        copied = SampleTransformer.__new__(SampleTransformer)
        copied.__setstate__(self.settings)
        return copied

    @property
    def settings(self) -> dict:
        """Everything that determines the result."""
        return {name: getattr(self, name) for name in _SETTINGS}

    def _start(self) -> None:
        """Create the attributes that are not pickled."""
        self._of_thread = threading.local()

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k != "_of_thread"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._start()

    @property
    def standardizes(self) -> bool:
        """Whether standardisation gives values that whole numbers cannot hold."""
        return bool(
            self.rescale
            or self.samplewise_center
            or self.samplewise_std_normalization
            or self.featurewise_center
            or self.featurewise_std_normalization
            or self.zca_whitening
        )

    @property
    def scales(self) -> bool:
        """Whether `scale` does anything."""
        return bool(
            self.preprocess_input
            or self.rescale
            or self.samplewise_center
            or self.samplewise_std_normalization
        )

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
        """Return the pair (x, y) augmented as sample `index` of `epoch`.

        y is augmented only if there is a label_augment_mode.
        """
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

    def _own_compose(self):
        """Return a copy for this thread, because a Compose stores the parameters of a call."""
        mine = self._of_thread
        if getattr(mine, "source", None) is not self.augment:
            compose = copy.deepcopy(self.augment)
            mine.compose = compose, TransformRandomness(compose), _changes_colours(compose)
            mine.source = self.augment
        return mine.compose

    def standardize(self, x: np.ndarray, y=None) -> tuple:
        """Return one picture [height, width, channels] and its target, standardised.

        The steps are preprocess_input, preprocess_labels, rescale, samplewise, featurewise and
        whitening, as far as they are set.
        """
        x = self.scale(x)
        if self.preprocess_labels and y is not None:
            y = self.preprocess_labels(y)
        if self.featurewise_center and self._is_fitted("mean", "featurewise_center"):
            x = x - self._for_picture(self.mean, x)
        if self.featurewise_std_normalization and self._is_fitted(
            "std", "featurewise_std_normalization"
        ):
            x = x / (self._for_picture(self.std, x) + TINY)
        if self.zca_whitening and self._is_fitted("principal_components", "zca_whitening"):
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

    def _is_fitted(self, statistic: str, option: str) -> bool:
        if getattr(self, statistic) is not None:
            return True
        warnings.warn(
            f"`{option}` does nothing before .fit(data) or before `{statistic}` is set.",
            stacklevel=3,
        )
        return False

    def _for_picture(self, statistic, x: np.ndarray) -> np.ndarray:
        statistic = np.asarray(statistic, x.dtype)
        if self.data_format == "channels_first" and statistic.ndim == 3:
            return np.moveaxis(statistic, 0, -1)
        return statistic

    def outward(self, part):
        """Return a picture in the data format of the batch, and anything else unchanged."""
        if self.data_format == "channels_first" and np.ndim(part) == 3:
            return np.moveaxis(part, -1, 0)
        return part

    def finish(self, x: np.ndarray, y, standardize: bool = True) -> tuple:
        """Return an augmented picture and its target as they are written into the batch."""
        if standardize:
            x, y = self.standardize(x, y)
        return self.outward(x), self.outward(y)


def _changes_colours(transform) -> bool:
    """Return whether a transform, or one within it, takes floats for colours of 0..1."""
    if any(map(_changes_colours, getattr(transform, "transforms", ()))):
        return True
    return isinstance(transform, A.ImageOnlyTransform) and not isinstance(
        transform, (A.Normalize, A.ToFloat)
    )


def _with_whole_colours(compose: A.Compose, data: dict) -> dict:
    """Transform pictures and masks; give float pictures of 0..255 to albumentations as uint8.

    Its colour transforms take floats for 0..1 and would clip these.
    """
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
