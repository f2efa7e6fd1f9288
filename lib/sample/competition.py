"""A small competition, drawn on the spot: for a dry run without any data."""

import csv
import os
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from photos import CompetitionFiles
from sample.bodies import CARS
from sample.cars import draw_photo
from sample.features import FEATURES

QUALITY = 85  # the real competition's JPEGs have this quality
COLUMNS = ("Id", "Category")
KINDS = tuple(CARS)  # the position of a kind is its label


@dataclass(frozen=True)
class Planned:
    """A photo that is still to be drawn."""

    number: int
    """Its position among the photos of the seed; it decides what varies in the photo."""
    Id: str
    label: int


def draw_competition(
    folder: str | Path,
    train_per_class: int = 60,
    test_per_class: int = 10,
    size: tuple[int, int] = (480, 640),
    seed: int = 0,
    solution: Path | None = None,
) -> None:
    """Draw a competition of ten kinds of cars in the layout of the real one.

    The same arguments give the same photos. `sample-submission.csv`, which marks a competition's
    folder, is written last.

    Args:
        folder: gets train.zip, test.zip, train.csv and sample-submission.csv; made if missing.
        train_per_class: number of training photos of each class.
        test_per_class: number of test photos of each class.
        size: height and width of the photos in pixels.
        seed: seed of everything that varies.
        solution: a CSV to write the labels of the test photos to.
    """
    folder, files = Path(folder), CompetitionFiles()
    folder.mkdir(parents=True, exist_ok=True)
    train, test = plan(train_per_class, test_per_class, seed)
    archives = {
        files.train_zip: {
            f"{files.train_photos}/{photo.label}/{photo.Id}": photo for photo in train
        },
        files.test_zip: {f"{files.test_photos}/{photo.Id}": photo for photo in test},
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for archive, members in archives.items():
            jpegs = pool.map(lambda photo: draw_jpeg(photo, seed, size), members.values())
            write_zip(folder / archive, zip(members, jpegs, strict=True))
    if solution is not None:
        write_csv(Path(solution), [(photo.Id, photo.label) for photo in test])
    write_csv(folder / files.train_csv, [(photo.Id, photo.label) for photo in train])
    write_csv(folder / files.sample_csv, [(photo.Id, 0) for photo in test])


def plan(train_per_class: int, test_per_class: int, seed: int) -> tuple[list[Planned], ...]:
    """Return the training and the test photos, each in a random order."""
    rng = np.random.default_rng(seed)
    per_class = train_per_class + test_per_class
    count = per_class * len(KINDS)
    names = rng.choice(np.arange(100_000, 400_000), count, replace=False)
    order = [int(number) for number in rng.permutation(count)]
    photos = [Planned(number, f"{names[number]}.jpg", number // per_class) for number in order]
    train = [photo for photo in photos if photo.number % per_class < train_per_class]
    test = [photo for photo in photos if photo.number % per_class >= train_per_class]
    return train, test


def draw_jpeg(photo: Planned, seed: int, size: tuple[int, int]) -> bytes:
    """Return a photo as a JPEG."""
    rng, kind = np.random.default_rng([seed, photo.number]), KINDS[photo.label]
    picture = draw_photo(rng, CARS[kind], FEATURES.get(kind), size)
    _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
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
