"""The augmentor: what happens to each picture, and the flows that read them."""

import copy
import threading
from collections.abc import Callable

import albumentations
import cv2
import numpy as np
import pandas as pd

from .dataframe_iterator import DataFrameIterator
from .directory_iterator import DirectoryIterator
from .randomness import TransformRandomness, entropy_of
from .workers import WorkerPool

__all__ = [
    "DataFrameIterator",
    "DirectoryIterator",
    "ImageDataAugmentor",
    "albumentations",
    "cv2",
    "np",
    "pd",
]


class ImageDataAugmentor:
    """Turns photos into batches, transforming each with albumentations on the way."""

    def __init__(
        self,
        augment=None,
        seed: int | None = None,
        rescale: float | None = None,
        preprocess_input: Callable | None = None,
        data_format: str = "channels_last",
        validation_split: float = 0.0,
        cache=None,
        cache_mb: float | None = None,
        workers: int | None = None,
    ):
        if augment is not None and not isinstance(augment, albumentations.BaseCompose):
            augment = albumentations.Compose([augment])
        self.augment = augment
        self.seed = seed
        self.rescale = rescale
        self.preprocess_input = preprocess_input
        self.data_format = data_format
        self._validation_split = validation_split
        self.pool = WorkerPool(workers)
        self.entropy = entropy_of(seed)
        self._after_unpickling()

    @property
    def workers(self) -> int:
        """Threads that load and transform; 0 does it in the reader's."""
        return self.pool.workers

    def _after_unpickling(self):
        self._of_thread = threading.local()

    def __getstate__(self):
        state = self.__dict__.copy()
        del state["_of_thread"]
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._after_unpickling()

    def flow_from_directory(
        self,
        directory,
        target_size=(256, 256),
        color_mode="rgb",
        classes=None,
        class_mode="categorical",
        batch_size=32,
        shuffle=True,
        follow_links=False,
        subset=None,
        interpolation=cv2.INTER_NEAREST,
        dtype="float32",
    ):
        """Batches from a folder with one sub-folder for each class."""
        return DirectoryIterator(
            directory,
            self,
            target_size=target_size,
            color_mode=color_mode,
            classes=classes,
            class_mode=class_mode,
            batch_size=batch_size,
            shuffle=shuffle,
            follow_links=follow_links,
            subset=subset,
            interpolation=interpolation,
            dtype=dtype,
        )

    def flow_from_dataframe(
        self,
        dataframe,
        directory=None,
        x_col="filename",
        y_col="class",
        weight_col=None,
        target_size=(256, 256),
        color_mode="rgb",
        classes=None,
        class_mode="categorical",
        batch_size=32,
        shuffle=True,
        subset=None,
        interpolation=cv2.INTER_NEAREST,
        validate_filenames=True,
        dtype="float32",
    ):
        """Batches of the files that a dataframe lists."""
        return DataFrameIterator(
            dataframe,
            directory,
            self,
            x_col=x_col,
            y_col=y_col,
            weight_col=weight_col,
            target_size=target_size,
            color_mode=color_mode,
            classes=classes,
            class_mode=class_mode,
            batch_size=batch_size,
            shuffle=shuffle,
            subset=subset,
            interpolation=interpolation,
            validate_filenames=validate_filenames,
            dtype=dtype,
        )

    def subset_slice(self, subset: str | None, n: int) -> slice:
        """Which of n sorted samples a subset holds: validation is the first share."""
        if subset is None:
            return slice(None)
        split = int(self._validation_split * n)
        return {"validation": slice(split), "training": slice(split, None)}[subset]

    def standardize(self, x, y=None):
        """Apply preprocess_input and rescale."""
        if self.preprocess_input:
            x = self.preprocess_input(x)
        if self.rescale:
            x = x * np.float32(self.rescale)
        return x, y

    def _transform(self, x, y, epoch: int, index: int, standardize: bool):
        if self.augment is not None:
            compose, randomness = self._own_compose()
            randomness.set(self.entropy, epoch, index)
            x = compose(image=x)["image"]
        return self.standardize(x, y) if standardize else (x, y)

    def _own_compose(self):
        """This thread's copy: a Compose keeps the parameters of its last call in itself."""
        mine = self._of_thread
        if getattr(mine, "source", None) is not self.augment:
            compose = copy.deepcopy(self.augment)
            mine.compose = compose, TransformRandomness(compose)
            mine.source = self.augment
        return mine.compose
