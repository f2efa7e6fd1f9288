"""Sheets of photos: which photos of a list are shown, and the lines below each."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kernelkit.report.attention import read_attention, signature
from kernelkit.report.commands import on_kaggle
from kernelkit.report.saved import Run
from kernelkit.report.tables import conflicts, least_sure, mistakes, resembling_none
from kernelkit.report.thumbnails import Thumbnails

MOST = 24  # photos of a sheet
PAIRS = 10  # of confused classes that are shown with photos
BESIDE = 4  # photos of each side of such a pair
CLASSES = 30  # of which an example is shown

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
    """Return the addresses of the photos' files that will stay where they are, by path.

    Those of a run on Kaggle lie there, and unpacked ones vanish with the run's scratch folder.
    """
    scratch = str(Path(tempfile.gettempdir()) / "car-classification-")
    if on_kaggle(run):
        return {}
    return {
        photo.path: Path(photo.path).resolve().as_uri()
        for photo in photos
        if photo.path and not photo.path.startswith(scratch) and Path(photo.path).is_file()
    }
