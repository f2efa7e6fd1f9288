"""photos.csv: where every photo of a run lies and what it is, for whoever looks at the results."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image

from results.files import write_table

if TYPE_CHECKING:
    from photos import PhotoTables

READERS = 16  # threads that read the sizes, which wait for the disk most of the time


def note_photos(output: Path, parts: "list[PhotoTables]") -> None:
    """Write photos.csv; print a sentence where that fails, since the run needs no such file.

    Its columns are Id, set (train or test), label, fold (that a training photo validates, empty
    where it always trains), group (of near-identical photos), width and height in pixels, and path.

    Args:
        output: the folder of the results.
        parts: the photos of the run, of every fold.
    """
    try:
        write_table(photo_table(parts), output / "photos.csv")
    except Exception as error:
        print(f"{output / 'photos.csv'} could not be written ({error}); the run goes on.")


def photo_table(parts: "list[PhotoTables]") -> pd.DataFrame:
    """Return the rows of photos.csv."""
    competition = parts[0].competition
    folds = {Id: part.fold for part in parts for Id in part.validation.Id}
    train, test = competition.train, competition.test[competition.test.path != ""]
    train = train.assign(set="train", label=train.label.astype(str), fold=train.Id.map(folds))
    train["group"] = train.near
    test = test.assign(set="test")
    table = pd.concat([train, test], ignore_index=True)
    with ThreadPoolExecutor(READERS) as pool:
        table[["width", "height"]] = list(pool.map(size_of, table.path))
    table[["fold", "group"]] = table[["fold", "group"]].astype("Int64")
    return table[["Id", "set", "label", "fold", "group", "width", "height", "path"]]


def size_of(path: str) -> tuple[int | None, int | None]:
    """Return a photo's width and height in pixels, from its header; None where it can't be read."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError):
        return None, None
