"""Write photos.csv: the path and the properties of every photo of a run."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from PIL import ExifTags, Image

from ImageDataAugmentor.reading import UnreadableImage, read_image
from kernelkit.core.tables import write_table
from kernelkit.data.tables import PhotoTables

READERS = 16  # threads that read the sizes, which wait for the disk most of the time


def note_photos(output: Path, folds: list[PhotoTables]) -> None:
    """Write photos.csv; print a sentence where that fails, since the run needs no such file.

    Its columns are Id, set (train or test), label, fold (that a training photo validates, empty
    where it always trains), group (of near-identical photos; of a test photo that of training
    photos), width and height in pixels, and path.
    """
    try:
        write_table(_photo_table(folds), output / "photos.csv")
    except Exception as error:
        print(f"{output / 'photos.csv'} could not be written ({error}); the run goes on.")


def _photo_table(folds: list[PhotoTables]) -> pd.DataFrame:
    competition = folds[0].competition
    fold_of = {Id: tables.fold for tables in folds for Id in tables.validation.Id}
    train, test = competition.train, competition.test[competition.test.path != ""]
    train = train.assign(set="train", label=train.label.astype(str), fold=train.Id.map(fold_of))
    train["group"] = train.near
    test = test.assign(set="test", group=test.near.where(test.near >= 0))
    table = pd.concat([train, test], ignore_index=True)
    with ThreadPoolExecutor(READERS) as pool:
        table[["width", "height"]] = list(pool.map(size_of, table.path))
    table[["fold", "group"]] = table[["fold", "group"]].astype("Int64")
    return table[["Id", "set", "label", "fold", "group", "width", "height", "path"]]


def size_of(path: str) -> tuple[int | None, int | None]:
    """Return a photo's width and height in pixels the right way up; None where it can't be read.

    They are in its header. Only a photo that Pillow does not know, or finds too large, is decoded.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # about sizes that OpenCV reads well
            tags = getattr(image, "tag_v2", None)  # newer versions of Pillow turn a TIFF's size
            width, height = (tags[256], tags[257]) if tags else image.size
            turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) >= 5
            return (height, width) if turned else (width, height)
    except Exception:  # decoders raise many types
        try:
            height, width = read_image(path, "gray").shape[:2]
        except UnreadableImage:
            return None, None
        return width, height
