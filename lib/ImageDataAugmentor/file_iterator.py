"""The base of the iterators over image files."""

import os
import warnings

import cv2
import numpy as np

from . import reading
from .engine.processes import SamplePipeline
from .engine.sources import FileSource
from .iterator import FlowSettings, ImageSaver, Iterator
from .reading import ImageLoader

# Class modes whose targets are pictures, cast to the dtype of the input.
PICTURE_TARGETS = ("input", "color_target", "grayscale_target")
# Class modes whose labels are numbers of classes.
CLASS_LABELS = ("categorical", "binary", "sparse")
# From this ratio of sizes on, nearest-neighbour resizing skips whole rows of pixels.
_MUCH_SMALLER = 1.5

_LISTED_AT_MOST = 8


def listed(names) -> str:
    """Return the first of some names, for a message."""
    names = list(names)
    more = f" and {len(names) - _LISTED_AT_MOST} more" if len(names) > _LISTED_AT_MOST else ""
    return ", ".join(map(repr, names[:_LISTED_AT_MOST])) + more if names else "none"


class FileIterator(Iterator):
    """An iterator over image files.

    A subclass sets `filenames` and `directory` before it calls `__init__`. For class labels it also
    sets `class_indices`, `num_classes` and `classes`, which holds the number of each sample's
    class, or a list of numbers.
    """

    def __init__(
        self,
        image_data_generator,
        settings: FlowSettings,
        loader: ImageLoader,
        saver: ImageSaver,
    ):
        self.loader = loader
        super().__init__(len(self.filenames), image_data_generator, settings, saver)

    def _renew(self):
        super()._renew()
        self._filepaths = [os.path.join(self.directory, name) for name in self.filenames]
        self.cache = self.image_data_generator.open_cache()
        pictures = self.class_mode in {"color_target", "grayscale_target"}
        self._source = FileSource(
            self._filepaths,
            self.loader,
            self.labels if pictures or self.class_mode == "raw" else None,
            self._target_loader if pictures else None,
            input_is_target=self.class_mode == "input",
            cache=self.cache,
        )
        if self.cache:
            for loader in (self._source.keeper, self._target_loader):
                self.cache.register(loader, self)
        self._warn_of_nearest = (
            self.loader.interpolation == cv2.INTER_NEAREST
            and self.image_data_generator.input_augment_mode != "mask"
        )

    def __getstate__(self):
        derived = {"cache", "_source", "_filepaths"}
        return {k: v for k, v in super().__getstate__().items() if k not in derived}

    @property
    def target_size(self) -> tuple[int, int]:
        """The size (height, width) of the resized photos."""
        return self.loader.target_size

    @property
    def color_mode(self) -> str:
        """The colour mode: "rgb", "rgba", "grayscale" or "gray"."""
        return self.loader.color_mode

    @property
    def interpolation(self) -> int:
        """The OpenCV constant of the interpolation with which photos are resized."""
        return self.loader.interpolation

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one picture before preprocessing, in the data format of the batch."""
        channels = (reading.CHANNELS[self.color_mode],)
        if self.data_format == "channels_first":
            return channels + self.target_size
        return self.target_size + channels

    @property
    def filepaths(self) -> list[str]:
        """The paths of the image files, in the order of `filenames`."""
        return self._filepaths

    @property
    def labels(self):
        """The labels of all samples, or None if the class mode has none."""
        return getattr(self, "classes", None)

    @property
    def sample_weight(self) -> np.ndarray | None:
        """The weights of all samples, or None."""
        return None

    @property
    def _target_loader(self) -> ImageLoader:
        gray = self.class_mode == "grayscale_target"
        mask = self.image_data_generator.label_augment_mode == "mask"
        return ImageLoader(
            "gray" if gray else self.color_mode,
            self.target_size,
            # Interpolating between the numbers of two labels would give a third label.
            cv2.INTER_NEAREST if mask else self.interpolation,
            self.loader.truncated,
        )

    def _augmented(self, epoch, indices, slots):
        if self._warn_of_nearest and indices:
            self._warn_of_nearest = False
            self._check_nearest(self._filepaths[indices[0]])
        pipeline = SamplePipeline(self._source, self.image_data_generator)
        return pipeline.augmented(epoch, indices, slots)

    def _check_nearest(self, path: str) -> None:
        size = reading.read_image(path, self.color_mode).shape[:2]
        if max(s / t for s, t in zip(size, self.target_size, strict=True)) >= _MUCH_SMALLER:
            warnings.warn(
                f"Resizing photos of {size[0]}x{size[1]} to "
                f"{self.target_size[0]}x{self.target_size[1]} with cv2.INTER_NEAREST, the "
                "default, throws most of their detail away; pass interpolation=cv2.INTER_AREA.",
                stacklevel=2,
            )

    def _target_dtype(self):
        return self.dtype if self.class_mode in PICTURE_TARGETS else None

    def _assemble(self, x, y, indices):
        if self.class_mode is None:
            return x
        y = self._batch_labels(indices) if y is None else y
        weights = self.sample_weight
        return (x, y) if weights is None else (x, y, weights[indices])

    def _batch_labels(self, indices):
        if self.class_mode == "multi_output":
            return [output[indices] for output in self.labels]
        if self.class_mode in {"binary", "sparse"}:
            return np.asarray([self.classes[i] for i in indices], self._label_dtype())
        labels = np.zeros((len(indices), self.num_classes), self._label_dtype())
        for row, index in enumerate(indices):
            labels[row, self.classes[index]] = 1
        return labels

    def _titles(self, indices):
        if self.class_mode == "multi_output":
            return [str(tuple(output[i] for output in self.labels)) for i in indices]
        if self.class_mode not in CLASS_LABELS:
            return super()._titles(indices)
        names = list(self.class_indices)
        return [
            ", ".join(str(names[number]) for number in np.atleast_1d(self.classes[index]))
            for index in indices
        ]
