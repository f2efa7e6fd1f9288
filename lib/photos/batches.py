"""From a table of photos to batches."""

from collections.abc import Callable

import cv2
import pandas as pd

from ImageDataAugmentor import ImageDataAugmentor
from photos.reading import SurvivingLoader, stand_ins
from photos.tables import PhotoTables

FILTERS = {"area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST}


def make_iterator(
    config,
    tables: PhotoTables,
    table: pd.DataFrame,
    transform: Callable | None = None,
    shuffle: bool = False,
):
    """Return an iterator over the photos of one of `tables`.

    Its batches are (uint8 [n, h, w, 3] in 0..255, float32 one-hot [n, classes]), the columns in the
    order of the competition's classes. A table without labels gives the photos alone. A photo that
    was deleted or spoilt since it was checked is replaced: see `SurvivingLoader`.

    Args:
        config: the kernel's settings: image_size, batch_size, interpolation, fuse, cache, workers
            and seed.
        tables: the photos of the run.
        table: one of theirs, with or without its column of labels.
        transform: the augmentation, an albumentations Compose for photos of that size; or None.
        shuffle: whether the order is drawn, anew in each epoch.
    """
    labelled = "label" in table
    if labelled:
        table = table.assign(position=tables.positions(table))
    if transform and config.fuse:
        transform = ImageDataAugmentor.fuse(transform)
    augmentor = ImageDataAugmentor(
        augment=transform, seed=config.seed, cache=config.cache or None, workers=config.workers
    )
    flow = augmentor.flow_from_dataframe(
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
    )
    flow.loader = SurvivingLoader(flow.loader, stand_ins(table) if labelled else {})
    return flow
