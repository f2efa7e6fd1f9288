"""A small competition, drawn on the spot: for a dry run without any data."""

import csv
import os
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from photos import CompetitionFiles
from sample.cars import CARS, draw_photo

QUALITY = 85  # of the JPEGs, as the real ones have
COLUMNS = ("Id", "Category")


def draw_competition(
    folder: str | Path,
    train_per_class: int = 24,
    test_per_class: int = 6,
    size: tuple[int, int] = (480, 640),
    seed: int = 0,
    solution: Path | None = None,
) -> None:
    """Draw a competition of ten kinds of cars in the layout of the real one.

    The same arguments give the same photos. `sample-submission.csv`, which marks a competition's
    folder, is written last.

    Args:
        folder: gets train.zip, test.zip, train.csv and sample-submission.csv; made if missing.
        train_per_class: training photos of each class.
        test_per_class: test photos of each class.
        size: of the photos, height and width in pixels.
        seed: of everything that varies.
        solution: a CSV to write the labels of the test photos to.
    """
    folder, layout = Path(folder), CompetitionFiles()
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(CARS)), train_per_class + test_per_class)
    tested = np.tile(np.arange(train_per_class + test_per_class) >= train_per_class, len(CARS))
    numbers = rng.choice(np.arange(100_000, 400_000), len(labels), replace=False)
    kinds = list(CARS)

    def draw(index: int) -> bytes:
        photo = draw_photo(np.random.default_rng([seed, index]), kinds[labels[index]], size)
        return encode(photo)

    order = rng.permutation(len(labels))
    train, test = order[~tested[order]], order[tested[order]]
    rows = {index: (f"{numbers[index]}.jpg", int(labels[index])) for index in order}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for archive, indices in ((layout.train_zip, train), (layout.test_zip, test)):
            names = (
                f"{layout.train_photos}/{rows[i][1]}/{rows[i][0]}"
                if indices is train
                else f"{layout.test_photos}/{rows[i][0]}"
                for i in indices
            )
            write_zip(folder / archive, zip(names, pool.map(draw, indices), strict=True))
    if solution is not None:
        write_csv(Path(solution), [rows[i] for i in test])
    write_csv(folder / layout.train_csv, [rows[i] for i in train])
    write_csv(folder / layout.sample_csv, [(rows[i][0], 0) for i in test])


def encode(photo: np.ndarray) -> bytes:
    """Return an RGB photo as a JPEG."""
    _, jpeg = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return jpeg.tobytes()


def write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a zip without times in it, so that equal contents make equal files."""
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in members:
            bundle.writestr(zipfile.ZipInfo(name), content)


def write_csv(path: Path, rows: list[tuple[str, int]]) -> None:
    """Write Ids and labels."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *rows])
