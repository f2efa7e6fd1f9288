"""From a table of photos to batches."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ImageDataAugmentor.augmentor import ImageDataAugmentor
from ImageDataAugmentor.engine.cache import overflow_to
from kernelkit.config.members import at_scale
from kernelkit.config.views import views_of
from kernelkit.core.problem import Problem
from kernelkit.data.tables import PhotoTables

FILTERS = {"area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST}


def make_iterator(
    config, tables: PhotoTables, table: pd.DataFrame, transform=None, shuffle: bool = False
):
    """Return an iterator over the photos of one of `tables`, with or without its column of labels.

    Its batches are (uint8 [n, h, w, 3] in 0..255, float32 one-hot [n, classes]), without labels the
    photos alone. `transform` is an albumentations Compose. With `shuffle` the order is drawn anew
    in each epoch, and only whole batches are made: over the one or two photos of a last batch,
    BatchNorm's statistics are worthless.
    """
    labelled = "label" in table
    if labelled:
        table = table.assign(position=tables.positions(table))
    if config.interpolation == "nearest":  # somebody asked for it
        warnings.filterwarnings("ignore", "Resizing photos .* with cv2.INTER_NEAREST, the default")
    if transform and config.fuse:
        transform = ImageDataAugmentor.fuse(transform)
    augmentor = ImageDataAugmentor(
        augment=transform, seed=config.seed, cache=config.cache or None, workers=config.workers
    )
    return augmentor.flow_from_dataframe(
        table,
        x_col="path",
        y_col="position",
        classes=[str(label) for label in tables.competition.classes] if labelled else None,
        class_mode="categorical" if labelled else None,
        target_size=config.image_size,
        batch_size=config.batch_size,
        interpolation=FILTERS[config.interpolation],
        shuffle=shuffle,
        dtype="uint8",
        validate_filenames=False,
        verbose=False,
        drop_remainder=shuffle,
        kept_size=tables.kept_size and tuple(map(max, tables.kept_size, config.image_size)),
    )


def check_batches(members: Mapping[str, object], tables: PhotoTables, augment: Callable) -> None:
    """Make one training batch for each member's config, before anything trains.

    `augment` returns the training's augmentation for a config. Raises Problem if the augmentation
    fails, or returns other than photos of the same size and type.
    """
    for name, config in members.items():
        row = f"the augmentation {config.augmentation!r} of {name}"
        photo = np.random.default_rng(0).integers(0, 256, (*config.image_size, 3), dtype=np.uint8)
        try:
            found = np.asarray(augment(config)(image=photo)["image"])
        except Exception as error:
            raise Problem(f"{row} fails ({type(error).__name__}: {error}): correct it.") from error
        if (found.shape, found.dtype) != (photo.shape, photo.dtype):
            raise Problem(
                f"{row} turns uint8 photos of {photo.shape} into {found.dtype} of {found.shape}: "
                "let it end in a resize to the size that it is given, and keep 0..255."
            )
        make_iterator(config, tables, tables.train, augment(config)).batch(0)  # of real photos


def keep_decoded(
    folds: Sequence[PhotoTables], members: Iterable, views: Iterable, scratch: Path
) -> list[PhotoTables]:
    """Return the tables of all folds so that each photo is decoded once for all that a run needs.

    It is kept at the largest size that any stage of the members, or any view in which they predict,
    needs: in memory or, where its budget is spent, in files of `scratch` that end with the process.
    """
    sizes = [
        at_scale(at_scale(member, stage.scale), view.scale).image_size
        for member in members
        for stage in member.stages
        for view in views_of(member, views)
    ]
    overflow_to(scratch)
    kept = tuple(map(max, zip(*sizes, strict=True)))
    return [replace(fold, kept_size=kept) for fold in folds]
