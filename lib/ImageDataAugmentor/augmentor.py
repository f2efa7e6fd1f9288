"""The augmentor: the transformation of each picture, and the flows of batches."""

import copy
import itertools
import warnings
from collections.abc import Callable

import albumentations
import cv2
import numpy as np
import pandas as pd

from .array_iterator import NumpyArrayIterator
from .dataframe_iterator import DataFrameIterator
from .engine.cache import Cache, open_cache
from .engine.transform import TINY, SampleTransformer, entropy_of
from .engine.workers import Workers, available_cores, shared_workers
from .file_iterators import DirectoryIterator
from .fused import fuse
from .fused.transforms import quicken
from .iterator import FlowSettings
from .reading import ImageLoader

# Options that determine others.
_IMPLIED = {
    "zca_whitening": {"featurewise_center": True, "featurewise_std_normalization": False},
    "featurewise_std_normalization": {"featurewise_center": True},
    "samplewise_std_normalization": {"samplewise_center": True},
}


class ImageDataAugmentor(SampleTransformer):
    """Makes batches of pictures that albumentations transforms.

    A picture is loaded and resized, augmented, and then standardised in this order:
    preprocess_input, preprocess_labels, rescale, samplewise, featurewise, whitening. Then it is
    cast to the dtype of the batch. Its random numbers depend on (seed, epoch, index) alone.

    Arguments:
        featurewise_center, featurewise_std_normalization: subtract the mean of each channel over
            the data given to `fit`, and divide by its standard deviation. The second implies the
            first. `fit` takes the statistics after all earlier steps, where the original library
            took those of the values that it was given.
        samplewise_center, samplewise_std_normalization: do the same with the statistics of each
            picture.
        zca_whitening: multiply by the principal components found by `fit`.
        augment: an albumentations transform, a list of them, or a Compose. Results are not
            reproducible if a transform draws from a global random state. While it changes colours,
            float pictures of 0..255 are rounded to whole numbers; other floats must be 0..1.
        input_augment_mode: the role of the pictures in albumentations: "image", "mask", or the name
            of one of its additional targets.
        label_augment_mode: the role of the targets, if they are transformed: as above, or
            "same_as_input". None leaves targets unchanged.
        seed: the seed of the order and the transforms. None takes the seed of the Compose, or draws
            one from Python's `random`, so that `keras.utils.set_random_seed` counts.
        rescale: a factor for the values. None or 0 leaves them unchanged.
        preprocess_input, preprocess_labels: functions of one picture and of one target. The worker
            threads call them.
        data_format: "channels_last" or "channels_first", of the batches. Transforms and functions
            always get a picture as [height, width, channels].
        validation_split: the fraction (0..1) of each class that subset="validation" holds.
        cache: True keeps resized photos in memory, shared by all augmentors of this process. None
            decodes a photo each time.
        cache_mb: the cache's budget in megabytes. The default is half of the free memory. Photos
            that do not fit are decoded each time.
        workers: the number of threads that load and transform. 0 leaves the work to the reader's
            thread. None takes one for each core.
        processes: True gives each worker thread a process that does its work, for photos in files
            and not on Windows. That is faster with several workers. None does so after the threads
            have had some seconds of work, False never. The results are the same if the transforms
            and the caller's functions keep no state that changes. What cannot be pickled, such as
            a lambda, stays in the threads.
        truncated: "load" decodes truncated files as far as possible, with a warning; "error"
            refuses them.

    Raises ValueError or TypeError for an argument that does not fit, and names it.
    """

    # Statistics of the data given to `fit`; they can also be copied from another augmentor.
    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    principal_components: np.ndarray | None = None
    total_transformations_done = 0

    def __init__(
        self,
        featurewise_center: bool = False,
        samplewise_center: bool = False,
        featurewise_std_normalization: bool = False,
        samplewise_std_normalization: bool = False,
        zca_whitening: bool = False,
        augment=None,
        input_augment_mode: str = "image",
        label_augment_mode: str | None = None,
        seed: int | None = None,
        rescale: float | None = None,
        preprocess_input: Callable[[np.ndarray], np.ndarray] | None = None,
        preprocess_labels: Callable | None = None,
        data_format: str = "channels_last",
        validation_split: float | None = 0.0,
        *,
        cache: bool | None = None,
        cache_mb: float | None = None,
        workers: int | None = None,
        processes: bool | None = None,
        truncated: str = "load",
    ):
        super().__init__()
        self.featurewise_center, self.samplewise_center = featurewise_center, samplewise_center
        self.featurewise_std_normalization = featurewise_std_normalization
        self.samplewise_std_normalization = samplewise_std_normalization
        self.zca_whitening = zca_whitening
        self._apply_implied_options()
        self.input_augment_mode = input_augment_mode
        self.label_augment_mode = label_augment_mode
        self.augment = None if augment is None else self._as_compose(augment)
        of_compose = getattr(self.augment, "seed", None)
        if seed is not None and of_compose not in {None, seed}:
            warnings.warn(
                f"Compose(seed={of_compose}) is ignored: ImageDataAugmentor(seed={seed}) counts.",
                stacklevel=2,
            )
        self.seed = of_compose if seed is None else seed
        self.rescale = rescale
        self.preprocess_input, self.preprocess_labels = preprocess_input, preprocess_labels
        _check_settings(data_format, validation_split, workers, processes)
        self.data_format = data_format
        self._validation_split = validation_split or 0.0
        self.cache, self.cache_mb, self.truncated = cache, cache_mb, truncated
        self.open_cache()
        ImageLoader(truncated=truncated)  # Refuses a wrong value here rather than in a flow.
        self.workers = available_cores() if workers is None else workers
        self.processes = processes

    def _apply_implied_options(self) -> None:
        for option, implied in _IMPLIED.items():
            for name, value in implied.items() if getattr(self, option) else ():
                if getattr(self, name) != value:
                    setattr(self, name, value)
                    warnings.warn(f"`{option}` makes `{name}` {value}.", stacklevel=3)

    def _as_compose(self, augment) -> albumentations.Compose:
        """Return a copy as a Compose that has the targets of both modes."""
        if isinstance(augment, (list, tuple)):
            augment = albumentations.Compose(list(augment))
        kinds = (albumentations.BasicTransform, albumentations.BaseCompose)
        if not isinstance(augment, kinds):
            raise TypeError(
                "augment must be an albumentations transform, a list of them or a Compose, "
                f"not {type(augment).__name__}"
            )
        if not isinstance(augment, albumentations.Compose):
            augment = albumentations.Compose([augment])
        augment = copy.deepcopy(augment)
        _check_arguments(augment)
        quicken(augment)
        self._add_label_target(augment)
        return augment

    def _add_label_target(self, compose: albumentations.Compose) -> None:
        """Check both modes, and let the Compose transform labels as the mode requires."""
        targets = dict(compose.additional_targets)
        allowed = {"input": {"image", "mask"}, "label": {None, "image", "mask", "same_as_input"}}
        for role, names in allowed.items():
            mode = getattr(self, f"{role}_augment_mode")
            if mode not in names | set(targets):
                raise ValueError(
                    f"{role}_augment_mode={mode!r}: expected one of {sorted(names, key=str)} or of "
                    f"the additional targets {sorted(targets)}"
                )
        if self.label_augment_mode == self.input_augment_mode:
            self.label_augment_mode = "same_as_input"
        if self.label_augment_mode == "same_as_input" and "same_as_input" not in targets:
            kind = targets.get(self.input_augment_mode, self.input_augment_mode)
            compose.add_targets({"same_as_input": kind})

    @property
    def seed(self) -> int | None:
        """The seed of the order and the transforms, or None if it was drawn."""
        return self._seed

    @seed.setter
    def seed(self, value: int | None) -> None:
        self._seed, self.entropy = value, entropy_of(value)

    @property
    def pool(self) -> Workers:
        """The threads and processes, shared by augmentors with the same number of workers."""
        pool = shared_workers(self.workers)
        self._pools.add(pool)
        return pool

    def open_cache(self) -> Cache | None:
        """Return the cache of decoded photos, shared with other augmentors, or None."""
        return open_cache(self.cache, self.cache_mb)

    def subset_slice(self, subset: str | None, n: int) -> slice:
        """Return a subset's slice of n samples: "validation" is the first. Raises ValueError."""
        if subset is None:
            return slice(None)
        if subset not in {"training", "validation"}:
            raise ValueError(f"subset={subset!r}: expected 'training' or 'validation'")
        if not self._validation_split:
            raise ValueError(
                f"subset={subset!r} needs ImageDataAugmentor(validation_split=...), "
                "which was not given"
            )
        split = int(self._validation_split * n)
        return slice(split) if subset == "validation" else slice(split, None)

    def flow(
        self,
        x,
        y=None,
        batch_size: int = 32,
        shuffle: bool = True,
        sample_weight=None,
        save_to_dir: str | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        subset: str | None = None,
        dtype: str = "float32",
        **unknown,
    ) -> NumpyArrayIterator:
        """Return batches from arrays.

        Some of the arguments:
            x: pictures [n, height, width, channels], or (pictures, other arrays); the batches
                contain the others unchanged.
            y: labels [n, ...], or target pictures. None gives batches of x alone.
            sample_weight: [n]. It makes the batches triples.
            save_to_dir, save_prefix, save_format: where to save each augmented picture, as
                {prefix}_{index}_{hash}.{format}. None saves nothing.
            subset: "training" or "validation", with validation_split.
            dtype: the dtype of the pictures. Labels are float32 if it is not a float.
        """
        _refuse("flow", unknown)
        saving = save_to_dir, save_prefix, save_format
        settings = FlowSettings(None, batch_size, shuffle, subset, dtype, *saving)
        return NumpyArrayIterator(x, y, self, settings, sample_weight)

    def flow_from_directory(
        self,
        directory,
        target_size: tuple[int, int] = (256, 256),
        color_mode: str = "rgb",
        classes: list[str] | None = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        save_to_dir: str | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        follow_links: bool = False,
        subset: str | None = None,
        interpolation=cv2.INTER_NEAREST,
        *,
        dtype: str = "float32",
        verbose: bool = True,
        **unknown,
    ) -> DirectoryIterator:
        """Return batches from a folder with one sub-folder for each class.

        Some of the arguments:
            target_size: (height, width) to which every photo is resized.
            color_mode: "rgb", "rgba", "grayscale" or "gray".
            classes: the sub-folders to use, in the order that numbers them. None takes all.
            class_mode: "categorical" (one-hot), "binary", "sparse" (numbers), "input" (the pictures
                themselves) or None (no labels).
            interpolation: a cv2.INTER_... constant or its name. cv2.INTER_AREA is a better choice
                for photos than the default, which is the original library's.
            dtype: the dtype of the batches; "uint8" is possible without standardisation.
            verbose: whether to print how many images were found.
        The others are those of `flow`.
        """
        _refuse("flow_from_directory", unknown)
        saving = save_to_dir, save_prefix, save_format
        settings = FlowSettings(class_mode, batch_size, shuffle, subset, dtype, *saving, verbose)
        loader = ImageLoader(color_mode, tuple(target_size), interpolation, self.truncated)
        return DirectoryIterator(directory, self, settings, loader, classes, follow_links)

    def flow_from_dataframe(
        self,
        dataframe: pd.DataFrame,
        directory=None,
        x_col: str = "filename",
        y_col="class",
        weight_col: str | None = None,
        target_size: tuple[int, int] = (256, 256),
        color_mode: str = "rgb",
        classes: list[str] | None = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        save_to_dir: str | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        subset: str | None = None,
        interpolation=cv2.INTER_NEAREST,
        validate_filenames: bool = True,
        *,
        dtype: str = "float32",
        verbose: bool = True,
        drop_remainder: bool = False,
        kept_size: tuple[int, int] | None = None,
        **unknown,
    ) -> DataFrameIterator:
        """Return batches of the files that a dataframe lists.

        The arguments are those of DataFrameIterator and of `flow_from_directory`; drop_remainder,
        whether an epoch has whole batches alone; and kept_size, the (height, width) to which photos
        are resized first, for a cache that keeps them for flows of several sizes.
        """
        _refuse("flow_from_dataframe", unknown)
        saving = save_to_dir, save_prefix, save_format
        last = verbose, drop_remainder
        settings = FlowSettings(class_mode, batch_size, shuffle, subset, dtype, *saving, *last)
        size = tuple(target_size)
        loader = ImageLoader(color_mode, size, interpolation, self.truncated, kept_size=kept_size)
        columns = x_col, y_col, weight_col
        return DataFrameIterator(
            dataframe, directory, self, settings, loader, *columns, classes, validate_filenames
        )

    @staticmethod
    def fuse(compose: albumentations.Compose) -> albumentations.Compose:
        """Return a faster Compose of the same distribution, for `augment`; see `fused.fuse`.

        If all of its transforms are known and there is no cache, linear resizing of the photos and
        the warp become one step, which samples a photo once instead of twice.
        """
        return fuse(compose)

    def transform_data(self, inputs: np.ndarray, targets=None, standardize: bool = True) -> tuple:
        """Augment and standardise a picture [height, width, channels] and its target."""
        number = self.total_transformations_done
        self.total_transformations_done += 1
        inputs, targets = self.augment_sample(inputs, targets, 0, number)
        return self.standardize(inputs, targets) if standardize else (inputs, targets)

    def fit(self, x: np.ndarray, augment: bool = False, rounds: int = 1) -> None:
        """Compute `mean`, `std` and `principal_components`, as far as the settings need them.

        They are those of pictures after all steps that come before in `standardize`.

        Some of the arguments:
            x: pictures [n, height, width, channels], or [n, channels, height, width] if the data
                format is "channels_first". Raises ValueError if it has not four axes.
            augment: whether to compute them from `rounds` rounds of augmented pictures.
        """
        x = np.asarray(x)
        if x.ndim != 4:
            raise ValueError(f"fit needs an array of four axes, but its shape is {x.shape}")
        if self.data_format == "channels_first":
            x = np.moveaxis(x, 1, -1)
        if x.shape[-1] not in {1, 3, 4}:
            warnings.warn(
                f"Expected 1, 3 or 4 channels in the data format {self.data_format!r}, "
                f"but there are {x.shape[-1]}.",
                stacklevel=2,
            )
        pictures = [np.array(picture, order="C") for picture in x]
        if augment:
            pictures = [
                self.augment_sample(pictures[i], None, epoch, i)[0]
                for epoch, i in itertools.product(range(rounds), range(len(x)))
            ]
        x = np.stack([self.scale(picture.copy()) for picture in pictures])
        per_channel = (-1, 1, 1) if self.data_format == "channels_first" else (1, 1, -1)
        if self.featurewise_center:
            mean = x.mean(axis=(0, 1, 2), dtype=np.float64)
            self.mean = mean.astype(np.float32).reshape(per_channel)
            x = x - mean
        if self.featurewise_std_normalization:
            std = x.std(axis=(0, 1, 2), dtype=np.float64)
            self.std = std.astype(np.float32).reshape(per_channel)
            x = x / (std + TINY)
        if self.zca_whitening:
            flat = x.reshape(len(x), -1)
            u, s, _ = np.linalg.svd(flat.T @ flat / len(flat))
            self.principal_components = (u / np.sqrt(s + TINY)) @ u.T


def _check_arguments(compose: albumentations.BaseCompose) -> None:
    """Warn about each argument that albumentations ignored or that gives black pictures."""
    for transform in compose.transforms:
        if isinstance(transform, albumentations.BaseCompose):
            _check_arguments(transform)
            continue
        is_black = getattr(transform, "sigma_limit", None) == (0, 0)
        if is_black or getattr(transform, "invalid_args", None):
            from .legacy.albumentations_1 import warn_of_arguments

            warn_of_arguments(transform)


def _check_settings(data_format: str, validation_split, workers, processes) -> None:
    if data_format not in {"channels_last", "channels_first"}:
        raise ValueError(f"data_format={data_format!r}: give 'channels_last' or 'channels_first'")
    if validation_split and not 0 < validation_split < 1:
        raise ValueError(f"validation_split={validation_split}: give a fraction between 0 and 1")
    if workers is not None and workers < 0:
        raise ValueError(f"workers={workers}: give 0, a positive number, or None")
    if processes not in {None, True, False}:
        raise ValueError(f"processes={processes!r}: give True, False, or None")


def _refuse(method: str, unknown: dict) -> None:
    """Warn of the keyword `seed`, which old notebooks pass to a flow; refuse all others."""
    others = sorted(set(unknown) - {"seed"})
    if others:
        raise TypeError(f"{method}() got unexpected keyword arguments: {', '.join(others)}")
    if unknown:
        warnings.warn(
            f"`seed` is ignored by {method}(): pass it to ImageDataAugmentor(seed=...).",
            stacklevel=3,
        )
