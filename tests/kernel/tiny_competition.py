"""Write small competitions of real JPEGs, for the tests of `photos`."""

import shutil
import zlib
from pathlib import Path

import cv2
import numpy as np

from kernelkit.data.layout import Layout
from kernelkit.data.read import Competition, read_competition
from kernelkit.data.tables import load_tables

HOME = Layout(
    sample_csv="sample-submission.csv",
    train_csv="train.csv",
    train_photos=("train", "train.zip"),
    test_photos=("test_upload", "test.zip"),
)


def photo(name: str, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Return a picture of blurred blobs that depends on the name alone, uint8 [h, w, 3]."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    blobs = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return cv2.resize(blobs, size[::-1], interpolation=cv2.INTER_CUBIC)


def write_photo(path: Path, picture: np.ndarray | None = None, quality: int = 90) -> None:
    """Write a picture as a JPEG; by default the one that `photo` returns for the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = photo(path.name) if picture is None else picture
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.write_bytes(jpeg.tobytes())


def write_csv(path: Path, rows: list, columns=("Id", "Category")) -> None:
    """Write a CSV with a header."""
    lines = [",".join(map(str, row)) for row in [columns, *rows]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_competition(
    folder: Path,
    labels=(0, 1, 10, 2),
    per_class: int = 4,
    test: int = 3,
    class_folders: bool = True,
    train_folder: str = "train",
    test_folder: str = "test_upload",
) -> list[tuple[str, object]]:
    """Write an unpacked competition; return its training rows as (Id, label)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(f"{n}{i}.jpg", label) for n, label in enumerate(labels) for i in range(per_class)]
    for name, label in rows:
        parent = folder / train_folder / str(label) if class_folders else folder / train_folder
        write_photo(parent / name)
    tests = [f"9{i}.jpg" for i in reversed(range(test))]
    for name in tests:
        write_photo(folder / test_folder / name)
    write_csv(folder / "train.csv", rows)
    write_csv(folder / "sample-submission.csv", [(name, labels[0]) for name in tests])
    return rows


def zip_photos(folder: Path) -> None:
    """Replace both folders of photos by zips like Kaggle's."""
    for archive, name in (("train", "train"), ("test", "test_upload")):
        shutil.make_archive(str(folder / archive), "zip", folder, name)
        shutil.rmtree(folder / name)


class Settings:
    """The settings that `load_tables` and `make_iterator` read."""

    limit, exclude, folds, validation_share, seed, workers = None, None, 1, 0.25, 0, 1
    most_excluded = 0.02
    image_size, batch_size, interpolation, fuse, cache = (24, 32), 4, "area", True, False

    def __init__(self, **others):
        vars(self).update(others)


def read(folder: Path) -> Competition:
    """Read a competition's folder; its zips are unpacked beside it."""
    return read_competition(folder, HOME, folder.parent / "scratch")


def reasons(competition: Competition) -> dict[str, str]:
    """Return why each excluded row or photo is left out, by its Id."""
    return dict(zip(competition.excluded["Id"], competition.excluded["reason"], strict=True))


def load(folder: Path, **settings) -> list:
    """Return what `load_tables` makes of an unpacked competition."""
    return load_tables(folder, HOME, folder.parent / "scratch", Settings(**settings))
