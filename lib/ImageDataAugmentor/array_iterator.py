"""Batches from arrays in memory."""

import warnings
from dataclasses import dataclass

import numpy as np

from .engine.transform import SampleTransformer
from .iterator import FlowSettings, Iterator


@dataclass
class ArrayPipeline:
    """Makes any sample of arrays of pictures and labels."""

    x: np.ndarray
    y: np.ndarray | None
    transformer: SampleTransformer

    def samples(self, epoch: int, indices: list[int], slots, photos=None):
        """Yield these samples of `epoch` as (augmented picture, label or None)."""
        for index in indices:
            x = self._channels_last(self.x[index])
            y = None if self.y is None else self._channels_last(self.y[index])
            yield self.transformer.augment_sample(x, y, epoch, index)

    def _channels_last(self, part):
        """Return a writable copy, of a picture with channels last, as albumentations needs it."""
        if np.ndim(part) != 3:
            return np.array(part)
        if self.transformer.data_format == "channels_first":
            part = np.moveaxis(part, 0, -1)
        dtype = np.float32 if part.dtype.kind == "f" else part.dtype
        return np.array(part, dtype, order="C")


class NumpyArrayIterator(Iterator):
    """Iterates over an array of pictures [n, height, width, channels] and its labels.

    With data_format "channels_first" the pictures are [n, channels, height, width]. `x` may be a
    tuple (pictures, other arrays); the batches contain the others unchanged. Raises ValueError for
    arrays of different lengths, for pictures without four axes, and for a subset that has other
    classes than the rest.
    """

    def __init__(self, x, y, image_data_generator, settings: FlowSettings, sample_weight=None):
        misc = []
        if isinstance(x, (tuple, list)):
            x, others = x
            misc = list(others) if isinstance(others, list) else [others]
        parts = {"x": x, "y": y, "sample_weight": sample_weight}
        parts |= {f"x[1][{number}]": part for number, part in enumerate(misc)}
        arrays = {name: np.asarray(part) for name, part in parts.items() if part is not None}
        for name, array in arrays.items():
            if len(array) != len(arrays["x"]):
                raise ValueError(
                    f"x has {len(arrays['x'])} samples, but {name} has {len(array)}; "
                    f"their shapes are {arrays['x'].shape} and {array.shape}"
                )
        if settings.subset is not None:
            arrays = _subset(arrays, image_data_generator, settings.subset)
        self.x, self.y = arrays["x"], arrays.get("y")
        self.sample_weight = arrays.get("sample_weight")
        self.x_misc = [array for name, array in arrays.items() if name.startswith("x[1]")]
        data_format, shape = image_data_generator.data_format, self.x.shape
        if len(shape) != 4:
            raise ValueError(f"x must have four axes, but its shape is {shape}")
        channels = shape[1 if data_format == "channels_first" else 3]
        if channels not in {1, 3, 4}:
            warnings.warn(
                f"x of shape {shape} has {channels} channels in the data format {data_format!r}; "
                "expected 1, 3 or 4.",
                stacklevel=3,
            )
        super().__init__(len(self.x), image_data_generator, settings)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one picture before preprocessing."""
        return self.x.shape[1:]

    @property
    def labels(self) -> np.ndarray | None:
        """The labels as given."""
        return self.y

    def _pipeline(self):
        return ArrayPipeline(self.x, self.y, self.image_data_generator), None

    def _target_dtype(self):
        pictures = self.y is not None and self.y.ndim == 4
        return self.dtype if pictures else self._label_dtype()

    def _assemble(self, x, y, indices):
        inputs = [x, *(array[indices] for array in self.x_misc)] if self.x_misc else x
        if y is None:
            # Keras would take a list for (inputs, targets).
            return (inputs,) if self.x_misc else inputs
        if self.sample_weight is None:
            return inputs, y
        return inputs, y, self.sample_weight[indices]


def _subset(arrays: dict[str, np.ndarray], generator, subset: str) -> dict[str, np.ndarray]:
    n, labels = len(arrays["x"]), arrays.get("y")
    chosen = generator.subset_slice(subset, n)
    if labels is not None and (labels.ndim == 1 or labels.shape[1:] == (1,)):
        are_classes = labels.dtype.kind in "biuSU" or np.all(labels == np.floor(labels))
        held_out = np.unique(labels[generator.subset_slice("validation", n)])
        rest = np.unique(labels[generator.subset_slice("training", n)])
        if are_classes and not np.array_equal(held_out, rest):
            raise ValueError(
                "Training and validation subsets have different classes. The validation "
                "subset is the first part of the arrays: shuffle them first."
            )
    return {name: array[chosen] for name, array in arrays.items()}
