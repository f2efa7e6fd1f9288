"""Batches from image files: the base of such iterators, and the one over class folders."""

import os
import warnings

import cv2
import numpy as np

from .engine.samples import FilePipeline
from .files import is_clutter, walk
from .iterator import FlowSettings, Iterator
from .reading import CHANNELS, ImageLoader, read_image

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
    class, or a list of numbers; otherwise `targets`.
    """

    classes = None
    targets = None
    sample_weight: np.ndarray | None = None

    def __init__(self, image_data_generator, settings: FlowSettings, loader: ImageLoader):
        self.loader = loader
        super().__init__(len(self.filenames), image_data_generator, settings)

    @property
    def target_size(self) -> tuple[int, int]:
        """The size (height, width) of the resized photos."""
        return self.loader.target_size

    @property
    def color_mode(self) -> str:
        """The colour mode: "rgb", "rgba", "grayscale" or "gray"."""
        return self.loader.color_mode

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one picture before preprocessing, in the data format of the batch."""
        channels = (CHANNELS[self.color_mode],)
        if self.data_format == "channels_first":
            return channels + self.target_size
        return self.target_size + channels

    @property
    def filepaths(self) -> list[str]:
        """The paths of the image files, in the order of `filenames`."""
        return self._current().pipeline.paths

    @property
    def labels(self):
        """The numbers of the classes, or the values or the paths of the targets, or None."""
        return self.targets if self.classes is None else self.classes

    def _pipeline(self):
        loads_targets = self.class_mode in {"color_target", "grayscale_target"}
        pipeline = FilePipeline(
            [os.path.join(self.directory, name) for name in self.filenames],
            self.loader,
            self.image_data_generator,
            self.targets if loads_targets or self.class_mode == "raw" else None,
            self._target_loader() if loads_targets else None,
            input_is_target=self.class_mode == "input",
        )
        cache = self.image_data_generator.open_cache()
        if cache:
            cache.register(pipeline.keeper, self)
            cache.register(pipeline.target_loader or pipeline.keeper, self)
        return pipeline, cache

    def _target_loader(self) -> ImageLoader:
        gray = self.class_mode == "grayscale_target"
        mask = self.image_data_generator.label_augment_mode == "mask"
        return ImageLoader(
            "gray" if gray else self.color_mode,
            self.target_size,
            # Interpolating between the numbers of two labels would give a third label.
            cv2.INTER_NEAREST if mask else self.loader.interpolation,
            self.loader.truncated,
        )

    def _find_specs(self, derived, epoch, index):
        is_mask = self.image_data_generator.input_augment_mode == "mask"
        if self.loader.interpolation == cv2.INTER_NEAREST and not is_mask:
            size = read_image(derived.pipeline.paths[index], self.color_mode).shape[:2]
            if max(s / t for s, t in zip(size, self.target_size, strict=True)) >= _MUCH_SMALLER:
                warnings.warn(
                    f"Resizing photos of {size[0]}x{size[1]} to "
                    f"{self.target_size[0]}x{self.target_size[1]} with cv2.INTER_NEAREST, the "
                    "default, throws most of their detail away; pass interpolation=cv2.INTER_AREA.",
                    stacklevel=2,
                )
        return super()._find_specs(derived, epoch, index)

    def _target_dtype(self):
        return self.dtype if self.class_mode in PICTURE_TARGETS else None

    def _assemble(self, x, y, indices):
        if self.class_mode is None:
            return x
        y = self._batch_labels(indices) if y is None else y
        return (x, y) if self.sample_weight is None else (x, y, self.sample_weight[indices])

    def _batch_labels(self, indices):
        if self.class_mode == "multi_output":
            return [output[indices] for output in self.targets]
        if self.class_mode in {"binary", "sparse"}:
            return np.asarray([self.classes[i] for i in indices], self._label_dtype())
        labels = np.zeros((len(indices), self.num_classes), self._label_dtype())
        for row, index in enumerate(indices):
            labels[row, self.classes[index]] = 1
        return labels

    def _titles(self, indices):
        if self.class_mode == "multi_output":
            return [str(tuple(output[i] for output in self.targets)) for i in indices]
        if self.class_mode not in CLASS_LABELS:
            return super()._titles(indices)
        names = list(self.class_indices)
        numbers = [np.atleast_1d(self.classes[index]) for index in indices]
        return [", ".join(str(names[number]) for number in each) for each in numbers]


class DirectoryIterator(FileIterator):
    """Iterates over the image files in the class folders of a folder.

    By default `classes` are all sub-folders in alphanumeric order ('10' before '2'). The files of a
    class are in the order of their folders and names. What `files.is_clutter` names is left out.
    Raises FileNotFoundError for a class without a folder, and ValueError for a class mode that does
    not fit and for a folder without class folders.
    """

    allowed_class_modes = ("categorical", "binary", "sparse", "input", None)

    def __init__(
        self,
        directory: str | os.PathLike,
        image_data_generator,
        settings: FlowSettings,
        loader: ImageLoader,
        classes: list[str] | None = None,
        follow_links: bool = False,
    ):
        mode = settings.class_mode
        if mode not in self.allowed_class_modes:
            raise ValueError(f"class_mode={mode!r}: expected one of {self.allowed_class_modes}")
        self.directory = os.fspath(directory)
        names = list(classes or self._sub_folders())
        if not names:
            raise ValueError(
                f"{self.directory} has no class folders: move the photos into one for each class, "
                "use flow_from_dataframe, or pass classes=['.'] and class_mode=None for photos "
                "without labels."
            )
        if mode == "binary" and len(names) > 2:
            raise ValueError(f'class_mode="binary" needs two classes, not {len(names)}: {names}')
        self.class_indices = {name: number for number, name in enumerate(names)}
        self.num_classes = len(names)
        self.filenames, numbers = [], []
        for name, number in self.class_indices.items():
            files = self._files(name, follow_links)
            files = files[image_data_generator.subset_slice(settings.subset, len(files))]
            self.filenames += files
            numbers += [number] * len(files)
        self.classes = np.array(numbers, dtype="int32")
        super().__init__(image_data_generator, settings, loader)
        if settings.verbose:
            print(f"Found {self.samples} images belonging to {self.num_classes} classes.")

    def _sub_folders(self) -> list[str]:
        with os.scandir(self.directory) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not is_clutter(e.name))

    def _files(self, name: str, follow_links: bool) -> list[str]:
        top = os.path.join(self.directory, name)
        if not os.path.isdir(top):
            raise FileNotFoundError(
                f"{self.directory} has no sub-folder for the class {name!r}; there are "
                f"{listed(self._sub_folders())}."
            )
        return [
            os.path.relpath(os.path.join(folder, file), self.directory)
            for folder, files in sorted(walk(top, follow_links))
            for file in files
            if file.lower().endswith(self.white_list_formats)
        ]
