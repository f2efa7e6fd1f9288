"""Sheets of photos: which are shown, the lines below each, and their thumbnails."""

import base64
import contextlib
import hashlib
import io
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ImageDataAugmentor.reading import read_image, read_reduced
from kernelkit.core.files import write_atomically
from kernelkit.report.attention import read_attention, signature
from kernelkit.report.saved import Run, on_kaggle
from kernelkit.report.tables import conflicts, least_sure, mistakes, resembling_none

MOST = 24  # photos of a sheet
PAIRS = 10  # of confused classes that are shown with photos
BESIDE = 4  # photos of each side of such a pair
CLASSES = 30  # of which an example is shown
SIDE = 160  # pixels of a thumbnail's longer side
WIDE = 960  # pixels of the width of the picture of augmented photos
STEEP = 1.5  # so that what the network hardly saw stays grey
TINT = 0.6  # how opaque the colour is where the network looked most
LOOKED = "#looked"  # after a photo's path: the thumbnail of where the network looked

# The lines below a photo of each sheet: a name, and the columns of its value and its probability.
LABEL, PROBABLE = ("label", "label", ""), ("label", "label", "probability_of_label")
PREDICTED = [PROBABLE, ("predicted", "predicted", "probability_of_predicted")]
LINES = {
    "copies": [LABEL, ("group", "group", "")],
    "mistakes": PREDICTED,
    "least_sure": [
        ("first", "predicted", "probability_of_predicted"),
        ("second", "second", "probability_of_second"),
    ],
    "label_issues": [PROBABLE, ("looks like", "suggested", "probability_of_suggested")],
    "none": PREDICTED,
    "outliers": [LABEL, ("distance", "distance", "")],
    "excluded": [("set", "set", ""), LABEL, ("reason", "reason", "")],
}
ALT = {  # the descriptions of its photos, from the same columns
    "copies": "{Id}: labelled {label}",
    "mistakes": "{Id}: {label}, taken for {predicted}",
    "least_sure": "{Id}: {predicted} or {second}",
    "label_issues": "{Id}: labelled {label}, like {suggested}",
    "none": "{Id}: {label}, taken for {predicted}",
    "outliers": "{Id}: labelled {label}, unlike all others",
    "excluded": "{Id}: left out, {reason}",
}
FILES = {"copies": "report/duplicates.csv", "none": "report/resembling_none.csv"}
FILES |= {name: f"report/{name}.csv" for name in ("mistakes", "least_sure")}
FILES |= {"label_issues": "suspects.csv", "outliers": "unlike.csv", "excluded": "excluded.csv"}


@dataclass(frozen=True)
class Photo:
    """A photo of a sheet."""

    Id: str
    path: str
    lines: list[tuple[str, str, str]]  # a name, a value, and its probability, "" where none
    alt: str


@dataclass(frozen=True)
class Sheet:
    """Some photos of a list, and how many the list has."""

    photos: list[Photo]
    total: int
    file: str = ""  # the list as a CSV, relative to the report; "" where there is none


@dataclass(frozen=True)
class Pair:
    """Two confused classes with photos of both."""

    first: str
    second: str
    mistakes: int
    sides: list[tuple[str, list[Photo]]]


class Thumbnails:
    """WebP thumbnails by the photos' paths, from the photos or, where they are gone, from a zip."""

    def __init__(self, file: Path):
        self.file, self.pictures, self.kept = file, {}, {}
        # None yet, or a damaged one: they are made anew.
        with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(file) as stored:
            self.kept = {name: stored.read(name) for name in stored.namelist()}

    def add(self, paths: Iterable[str], side: int = SIDE) -> None:
        """Make the thumbnails of photos; those that can't be read have none."""
        new = [path for path in dict.fromkeys(paths) if path and path not in self.pictures]
        with ThreadPoolExecutor() as pool:
            made = pool.map(lambda path: thumbnail(path, side), new)
            for path, picture in zip(new, made, strict=True):
                picture = picture or self.kept.get(_key(path))
                if picture:
                    self.pictures[path] = picture

    def add_looked(self, path: str, heat: np.ndarray) -> None:
        """Make a grey thumbnail, tinted red to yellow where the network looked (uint8 [h, w])."""
        if path not in self.pictures:
            return
        with Image.open(io.BytesIO(self.pictures[path])) as image:
            photo = np.asarray(image.convert("RGB"), np.float32)
        large = Image.fromarray(heat).resize(photo.shape[1::-1], Image.Resampling.BICUBIC)
        share = (np.asarray(large, np.float32)[..., None] / 255) ** STEEP
        tint = (1 - share) * np.float32([210, 30, 20]) + share * np.float32([255, 225, 60])
        mixed = (1 - TINT * share) * photo.mean(2, keepdims=True) + TINT * share * tint
        self.pictures[path + LOOKED] = _webp(Image.fromarray(np.uint8(mixed.clip(0, 255))))

    def uri(self, path: str) -> str:
        """Return a photo's thumbnail as a data URI, "" where it has none."""
        picture = self.pictures.get(path)
        return "data:image/webp;base64," + base64.b64encode(picture).decode() if picture else ""

    def size(self, path: str) -> tuple[int, int]:
        """Return a thumbnail's width and height in pixels."""
        with Image.open(io.BytesIO(self.pictures[path])) as image:
            return image.size

    def save(self) -> None:
        """Write the thumbnails into the zip. Raises OSError if it can't be written."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as stored:
            for path, picture in self.pictures.items():
                stored.writestr(_key(path), picture)
        write_atomically(self.file, content.getvalue())


def _key(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:20] + ".webp"


def _webp(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "WEBP", quality=60, method=3)
    return content.getvalue()


def thumbnail(path: str, side: int) -> bytes | None:
    """Return a photo as WebP, at most `side` pixels wide and high; None where it can't be read."""
    try:
        reduced = read_reduced(path, side, colour=True)
        picture = Image.fromarray(read_image(path) if reduced is None else reduced)
        picture.thumbnail((side, side))
        return _webp(picture)
    except Exception:  # decoders raise many types, and no photo may end the report
        return None


def _photos(table: pd.DataFrame, lines: Sequence[tuple[str, str, str]], alt: str) -> list[Photo]:
    photos = []
    for row in table.to_dict("records"):
        shown = [
            (name, row[value], f"{row[p]:.1%}".replace("100.0", "100") if p else "")
            for name, value, p in lines
        ]
        photos.append(Photo(row["Id"], row["path"], shown, alt.format(**row)))
    return photos


def sheets_of(run: Run) -> dict[str, Sheet]:
    """Return the sheets of a run by their names in the template."""
    copies = conflicts(run.photos)
    lists = {"copies": copies.assign(group=copies.group.map("{:.0f}".format))}
    if run.finished:
        outliers, excluded = run.outliers, run.excluded
        if len(outliers):
            distances = outliers.distance.astype(float).map("{:.2f}".format)
            outliers = outliers.assign(distance=distances)
        if len(excluded):
            excluded = excluded.replace({"label": {"": "none"}})
        lists |= {
            "mistakes": mistakes(run),
            "least_sure": least_sure(run),
            "label_issues": run.label_issues,
            "none": resembling_none(run),
            "outliers": outliers,
            "excluded": excluded,
        }
    return {
        name: Sheet(
            _photos(table.head(MOST), LINES[name], ALT[name]),
            len(table),
            FILES[name] if len(table) else "",
        )
        for name, table in lists.items()
    }


def pair_sheets(run: Run, pairs: pd.DataFrame) -> list[Pair]:
    """Return the most confused pairs of classes with photos of both, those taken wrongly first."""
    sheets = []
    for row in pairs.head(PAIRS).itertuples():
        sides = []
        for label, other in ((row.first, row.second), (row.second, row.first)):
            ours = run.held_out[run.held_out.label == label]
            ours = ours.sort_values("probability_of_label", kind="stable")
            wrong, right = (ours[ours.predicted == name] for name in (other, label))
            chosen = pd.concat([wrong, right]).head(BESIDE)
            sides.append((label, _photos(chosen, PREDICTED, ALT["mistakes"])))
        sheets.append(Pair(row.first, row.second, row.mistakes, sides))
    return sheets


def examples(run: Run) -> Sheet:
    """Return one training photo of each class."""
    train = run.photos[run.photos.set == "train"].drop_duplicates("label")
    known = train[train.label.isin(run.classes)]
    order = {name: number for number, name in enumerate(run.classes)}
    known = known.sort_values("label", key=lambda labels: labels.map(order), kind="stable")
    shown = _photos(known.head(CLASSES), [("class", "label", "")], "A photo of class {label}")
    return Sheet(shown, len(known))


def photos_of(sheets: list[Sheet], pairs: list[Pair]) -> list[Photo]:
    """Return all photos that are shown."""
    shown = [photo for one in sheets for photo in one.photos]
    return shown + [photo for pair in pairs for _, side in pair.sides for photo in side]


def add_looked(thumbnails: Thumbnails, run: Run, sheets: dict[str, Sheet]) -> set[str]:
    """Make thumbnails of where the network looked; return the sheets that have them all."""
    networks = [signature(fold.test) for member in run.members for fold in member.folds.values()]
    maps, looked = read_attention(run.folder, networks), set()
    for name, part in (("mistakes", "train"), ("least_sure", "test")):
        photos = sheets[name].photos if name in sheets else []
        drawn = [photo for photo in photos if thumbnails.uri(photo.path)]
        heats = {photo.path: maps.get(f"{part}/{photo.Id}") for photo in drawn}
        if not heats or any(heat is None for heat in heats.values()):
            continue
        looked.add(name)
        for path, heat in heats.items():
            thumbnails.add_looked(path, heat)
    return looked


def originals(run: Run, photos: list[Photo]) -> dict[str, str]:
    """Return the addresses, by path, of the photos' files that will stay where they are."""
    scratch = str(Path(tempfile.gettempdir()) / "car-classification-")
    if on_kaggle(run):
        return {}
    return {
        photo.path: Path(photo.path).resolve().as_uri()
        for photo in photos
        if photo.path and not photo.path.startswith(scratch) and Path(photo.path).is_file()
    }
