"""The augmentor: what happens to each picture, and the flows that read them."""

import copy
import itertools
import threading
import warnings
from collections.abc import Callable

import albumentations
import cv2
import numpy as np
import pandas as pd

from . import fusing, guide
from .cache import Cache, open_cache
from .dataframe_iterator import DataFrameIterator
from .directory_iterator import DirectoryIterator
from .iterator import Saving
from .numpy_array_iterator import NumpyArrayIterator
from .randomness import entropy_of
from .reading import Loading
from .transforming import TINY, Transforming
from .transforms import quicken
from .workers import WorkerPool

# Notebooks that import * from here rely on these names.
__all__ = [
    "DataFrameIterator",
    "DirectoryIterator",
    "ImageDataAugmentor",
    "NumpyArrayIterator",
    "albumentations",
    "cv2",
    "np",
    "pd",
    "warnings",
]

guide.name_replacements()


class ImageDataAugmentor(Transforming):
    """Makes batches of pictures, transforming each with albumentations on the way.

    One picture is loaded and resized, augmented, then standardised in this order: preprocess_input,
    preprocess_labels, rescale, samplewise, featurewise, whitening; then it is cast to the dtype.
    Its random numbers depend on (seed, epoch, index) alone.

    Arguments:
        featurewise_center, featurewise_std_normalization: subtract the mean, divide by the standard
            deviation, of each channel over the data given to `fit`; the second implies the first.
        samplewise_center, samplewise_std_normalization: the same over each picture.
        zca_whitening: multiply by the principal components found by `fit`.
        augment: an albumentations transform, a list of them, or a Compose. Where a transform draws
            from a global random state of its own, results are not reproducible.
        input_augment_mode: what the pictures are to albumentations: "image", "mask", or the name of
            one of its additional targets.
        label_augment_mode: the same for targets that are transformed too; also "same_as_input";
            None leaves targets as they are.
        seed: of the order and the transforms; None draws one from the system.
        rescale: factor for the values; None or 0 for none.
        preprocess_input, preprocess_labels: functions of one picture and one target, called in the
            worker threads.
        data_format: "channels_last" or "channels_first", of the batches; transforms and functions
            always get a picture as [height, width, channels].
        validation_split: the share (0..1) of each class that subset="validation" holds.
        cache: None decodes a photo each time; True keeps it, resized, in memory, for all
            augmentors of this process; a folder keeps it there, for later runs too.
        cache_mb: the cache's budget; by default half of the free memory or disk. What does not fit
            is decoded each time.
        workers: threads that load and transform; 0 leaves it to the reader's; None takes one for
            each core.
        processes: True gives each of these threads a process that does its work (photos of files
            only, not on Windows), which is faster with several of them; False does not; None
            does once they have had some seconds of work. Every result is the same, as long as
            the transforms and the functions of the caller keep no state that changes; those that
            cannot be pickled, such as a lambda, stay in the threads.
        truncated: "load" decodes truncated files as far as they go, with a warning; "error"
            refuses them.
    """

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
        cache=None,
        cache_mb: float | None = None,
        workers: int | None = None,
        processes: bool | None = None,
        truncated: str = "load",
    ):
        self.featurewise_center = featurewise_center
        self.samplewise_center = samplewise_center
        self.featurewise_std_normalization = featurewise_std_normalization
        self.samplewise_std_normalization = samplewise_std_normalization
        self.zca_whitening = zca_whitening
        self._imply_centering()
        self.input_augment_mode = input_augment_mode
        self.label_augment_mode = label_augment_mode
        self.augment = None if augment is None else self._as_compose(augment)
        self.seed = seed
        self.entropy = entropy_of(seed)
        self.rescale = rescale
        self.preprocess_input = preprocess_input
        self.preprocess_labels = preprocess_labels
        if data_format not in {"channels_last", "channels_first"}:
            raise ValueError(
                f"data_format={data_format!r}: expected 'channels_last' or 'channels_first'"
            )
        self.data_format = data_format
        if validation_split and not 0 < validation_split < 1:
            raise ValueError(f"validation_split={validation_split}: give a share between 0 and 1")
        self._validation_split = validation_split or 0.0
        self.cache, self.cache_mb = cache, cache_mb
        self.truncated = truncated
        Loading(truncated=truncated)  # refuses a wrong value here rather than in a flow
        self.pool = WorkerPool(workers, processes)
        self.mean = None
        self.std = None
        self.principal_components = None
        self.total_transformations_done = 0
        self._start()

    def _start(self):
        super()._start()
        self._lock = threading.Lock()
        self.open_cache()

    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k != "_lock"}

    def _imply_centering(self) -> None:
        def change(name: str, value: bool, because: str) -> None:
            if getattr(self, name) != value:
                setattr(self, name, value)
                warnings.warn(f"`{because}` overrides `{name}`: it is now {value}.", stacklevel=4)

        if self.zca_whitening:
            change("featurewise_center", True, "zca_whitening")
            change("featurewise_std_normalization", False, "zca_whitening")
        if self.featurewise_std_normalization:
            change("featurewise_center", True, "featurewise_std_normalization")
        if self.samplewise_std_normalization:
            change("samplewise_center", True, "samplewise_std_normalization")

    def _as_compose(self, augment) -> albumentations.Compose:
        """A Compose of our own that knows both modes' targets."""
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
        guide.check_arguments(augment)
        quicken(augment)
        targets = dict(augment.additional_targets)
        if self.input_augment_mode not in {"image", "mask", *targets}:
            raise ValueError(
                f"input_augment_mode={self.input_augment_mode!r}: expected 'image', 'mask' or one "
                f"of the additional targets {sorted(targets)}"
            )
        known = {None, "image", "mask", "same_as_input", *targets}
        if self.label_augment_mode not in known:
            raise ValueError(
                f"label_augment_mode={self.label_augment_mode!r}: expected None, 'image', 'mask', "
                f"'same_as_input' or one of the additional targets {sorted(targets)}"
            )
        if self.label_augment_mode == self.input_augment_mode:
            self.label_augment_mode = "same_as_input"
        if self.label_augment_mode == "same_as_input" and "same_as_input" not in targets:
            kind = targets.get(self.input_augment_mode, self.input_augment_mode)
            augment.add_targets({"same_as_input": kind})
        return augment

    @property
    def workers(self) -> int:
        """Threads that load and transform."""
        return self.pool.workers

    def open_cache(self) -> Cache | None:
        """The cache of decoded photos, shared with other augmentors of this process, or None."""
        return open_cache(self.cache, self.cache_mb)

    def subset_slice(self, subset: str | None, n: int) -> slice:
        """Which of n samples a subset holds: "validation" is the first share, "training" the rest.

        Raises ValueError for another name, and where there is no validation_split.
        """
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

    # Flows.

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
        """Batches from arrays.

        Of the parameters:
            x: pictures [n, height, width, channels], or (pictures, other arrays), whose others are
                handed out unchanged beside the pictures.
            y: labels [n, ...], or target pictures; None hands out x alone.
            sample_weight: [n]; makes the batches triples.
            save_to_dir, save_prefix, save_format: where each augmented picture is saved, as
                {prefix}_{index}_{hash}.{format}.
            subset: "training" or "validation", with validation_split.
            dtype: of the pictures; labels are float32 where it is not a float.
        """
        _refuse("flow", unknown)
        return NumpyArrayIterator(
            x,
            y,
            self,
            sample_weight=sample_weight,
            batch_size=batch_size,
            shuffle=shuffle,
            subset=subset,
            dtype=dtype,
            saving=Saving(save_to_dir, save_prefix, save_format),
        )

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
        **unknown,
    ) -> DirectoryIterator:
        """Batches from a folder with one sub-folder for each class.

        Of the parameters:
            target_size: (height, width) to which every photo is resized.
            color_mode: "rgb", "rgba", "grayscale" or "gray".
            classes: the sub-folders to use, in the order that numbers them; None takes all.
            class_mode: "categorical" (one-hot), "binary", "sparse" (numbers), "input" (the pictures
                themselves) or None (no labels).
            save_to_dir, save_prefix, save_format, subset: as in `flow`.
            interpolation: a cv2.INTER_... constant or its name. The default is the original's;
                cv2.INTER_AREA is the better choice for photos.
            dtype: of the batches; "uint8" where nothing is standardised.
        """
        _refuse("flow_from_directory", unknown)
        return DirectoryIterator(
            directory,
            self,
            classes=classes,
            follow_links=follow_links,
            class_mode=class_mode,
            batch_size=batch_size,
            shuffle=shuffle,
            subset=subset,
            dtype=dtype,
            loading=Loading(color_mode, tuple(target_size), interpolation, self.truncated),
            saving=Saving(save_to_dir, save_prefix, save_format),
        )

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
        **unknown,
    ) -> DataFrameIterator:
        """Batches of the files that a dataframe lists.

        Of the parameters:
            directory: what the names in `x_col` are relative to; None where they are full paths.
            y_col: the column of the targets, or a list of columns.
            weight_col: the column of the sample weights; makes the batches triples.
            classes: the labels to use, in the order that numbers them; None takes all, sorted.
            class_mode: as in `flow_from_directory`; also "multi_output" (a list with one array for
                each column), "raw" (the values as they are), "color_target" and "grayscale_target"
                (the column names a target picture, full path; transformed with the input where
                label_augment_mode says how).
            validate_filenames: leave out rows without a file, with a warning.
        The others are those of `flow_from_directory`.
        """
        _refuse("flow_from_dataframe", unknown)
        return DataFrameIterator(
            dataframe,
            directory,
            self,
            x_col=x_col,
            y_col=y_col,
            weight_col=weight_col,
            classes=classes,
            validate_filenames=validate_filenames,
            class_mode=class_mode,
            batch_size=batch_size,
            shuffle=shuffle,
            subset=subset,
            dtype=dtype,
            loading=Loading(color_mode, tuple(target_size), interpolation, self.truncated),
            saving=Saving(save_to_dir, save_prefix, save_format),
        )

    @staticmethod
    def fuse(compose: albumentations.Compose) -> albumentations.Compose:
        """The same Compose in distribution, faster, for `augment`: see `fusing.fuse`.

        Where all of its transforms are known and there is no cache, photos that are resized
        linearly are resized in the same step as they are warped: sampled once, not twice.
        """
        return fusing.fuse(compose)

    # One picture.

    def transform_data(self, inputs: np.ndarray, targets=None, standardize: bool = True) -> tuple:
        """Augment, then standardise, one picture [height, width, channels] and its target."""
        with self._lock:
            number = self.total_transformations_done
            self.total_transformations_done += 1
        inputs, targets = self.augment_sample(inputs, targets, 0, number)
        return self.standardize(inputs, targets) if standardize else (inputs, targets)

    def fit(self, x: np.ndarray, augment: bool = False, rounds: int = 1) -> None:
        """Compute `mean`, `std` and `principal_components`, as far as the options need them.

        Of the parameters:
            x: pictures [n, height, width, channels], or as the data format says.
            augment: compute them of `rounds` rounds of augmented pictures.
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
        if augment:
            x = np.stack(
                [
                    self.augment_sample(np.array(x[i], order="C"), None, epoch, i)[0]
                    for epoch, i in itertools.product(range(rounds), range(len(x)))
                ]
            )
        self._compute_statistics(x)

    def _compute_statistics(self, x: np.ndarray) -> None:
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


def _refuse(method: str, unknown: dict) -> None:
    """Warn of `seed`, which notebooks older than the constructor's pass; refuse all others."""
    others = sorted(set(unknown) - {"seed"})
    if others:
        raise TypeError(f"{method}() got unexpected keyword arguments: {', '.join(others)}")
    if unknown:
        warnings.warn(
            f"`seed` is ignored by {method}(): pass it to ImageDataAugmentor(seed=...).",
            stacklevel=3,
        )
