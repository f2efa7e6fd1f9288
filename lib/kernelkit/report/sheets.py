"""Sheets of photos: which are shown, and what stands below each."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kernelkit.report.advice import on_kaggle
from kernelkit.report.attention import read_attention
from kernelkit.report.figuring import conflicts, least_sure, mistakes, resembling_none
from kernelkit.report.pictures import Thumbnails
from kernelkit.report.saved import Run

MOST = 24  # photos of a sheet
PAIRS = 10  # of confused classes that are shown with photos
BESIDE = 4  # photos of each side of such a pair
CLASSES = 30  # of which an example is shown


@dataclass(frozen=True)
class Photo:
    """A photo of a sheet."""

    Id: str
    path: str
    lines: list[tuple[str, str, str]]
    """What is said of it: a label, a value, and its probability, "" where it has none."""
    alt: str


@dataclass(frozen=True)
class Sheet:
    """Some photos of a list, and how many the list has."""

    photos: list[Photo]
    total: int
    file: str = ""
    """The list as a CSV, relative to the report; "" where there is none."""


@dataclass(frozen=True)
class Pair:
    """Two confused classes with photos of both."""

    first: str
    second: str
    mistakes: int
    sides: list[tuple[str, list[Photo]]] = field(default_factory=list)


def percent(value: float) -> str:
    """Return a probability as a person reads it."""
    return f"{value:.1%}"


def predicted_photo(row) -> Photo:
    """Return a held-out photo with its label, its prediction, and both probabilities."""
    lines = [
        ("label", row.label, percent(row.probability_of_label)),
        ("predicted", row.predicted, percent(row.probability_of_predicted)),
    ]
    return Photo(row.Id, row.path, lines, f"{row.Id}: {row.label}, taken for {row.predicted}")


def test_photo(row) -> Photo:
    """Return a test photo with its two most probable classes."""
    lines = [
        ("first", row.predicted, percent(row.probability_of_predicted)),
        ("second", row.second, percent(row.probability_of_second)),
    ]
    return Photo(row.Id, row.path, lines, f"{row.Id}: {row.predicted} or {row.second}")


def suspect_photo(row) -> Photo:
    """Return a photo whose label is doubtful."""
    lines = [
        ("label", row.label, percent(row.probability_of_label)),
        ("looks like", row.suggested, percent(row.probability_of_suggested)),
    ]
    return Photo(row.Id, row.path, lines, f"{row.Id}: labelled {row.label}, like {row.suggested}")


def unlike_photo(row) -> Photo:
    """Return a photo that is unlike all others."""
    lines = [("label", row.label, ""), ("distance", f"{float(row.distance):.2f}", "")]
    return Photo(row.Id, row.path, lines, f"{row.Id}: labelled {row.label}, unlike all others")


def copy_photo(row) -> Photo:
    """Return a photo of a group of near-identical ones."""
    lines = [("label", row.label, ""), ("group", f"{row.group:.0f}", "")]
    return Photo(row.Id, row.path, lines, f"{row.Id}: labelled {row.label}")


def excluded_photo(row) -> Photo:
    """Return a photo that was left out, with the reason."""
    lines = [("set", row.set, ""), ("label", row.label or "none", ""), ("reason", row.reason, "")]
    return Photo(row.Id, row.path, lines, f"{row.Id}: left out, {row.reason}")


def sheet(table: pd.DataFrame, photo: Callable, file: str) -> Sheet:
    """Return the first photos of a list as a sheet."""
    shown = [photo(row) for row in table.head(MOST).itertuples()]
    return Sheet(shown, len(table), file if len(table) else "")


def sheets_of(run: Run) -> dict[str, Sheet]:
    """Return the sheets of a run by their names in the template."""
    found = {"copies": sheet(conflicts(run.photos), copy_photo, "report/duplicates.csv")}
    if not run.finished:
        return found
    none = "report/resembling_none.csv"
    return found | {
        "mistakes": sheet(mistakes(run), predicted_photo, "report/mistakes.csv"),
        "least_sure": sheet(least_sure(run), test_photo, "report/least_sure.csv"),
        "suspects": sheet(run.suspects, suspect_photo, "suspects.csv"),
        "none": sheet(resembling_none(run), predicted_photo, none),
        "unlike": sheet(run.unlike, unlike_photo, "unlike.csv"),
        "excluded": sheet(run.excluded, excluded_photo, "excluded.csv"),
    }


def pair_sheets(run: Run, pairs: pd.DataFrame) -> list[Pair]:
    """Return the most confused pairs of classes with photos of both sides.

    First come photos of a class that were taken for the other, then ones that are right.
    """
    return [pair_sheet(run, row) for row in pairs.head(PAIRS).itertuples()]


def pair_sheet(run: Run, row) -> Pair:
    """Return one pair of classes with photos of both sides."""
    sides = []
    for label, other in ((row.first, row.second), (row.second, row.first)):
        ours = run.held_out[run.held_out.label == label]
        wrong = ours[ours.predicted == other].sort_values("probability_of_label")
        right = ours[ours.predicted == label].sort_values("probability_of_label")
        chosen = pd.concat([wrong, right]).head(BESIDE)
        sides.append((label, [predicted_photo(photo) for photo in chosen.itertuples()]))
    return Pair(row.first, row.second, row.mistakes, sides)


def examples(run: Run) -> Sheet:
    """Return one training photo of each class."""
    train = run.photos[run.photos.set == "train"]
    firsts = train.drop_duplicates("label").set_index("label")
    known = [name for name in run.classes if name in firsts.index]
    shown = [
        Photo(firsts.Id[name], firsts.path[name], [("class", name, "")], f"A photo of class {name}")
        for name in known[:CLASSES]
    ]
    return Sheet(shown, len(known))


def photos_of(sheets: list[Sheet], pairs: list[Pair]) -> list[Photo]:
    """Return all photos that are shown."""
    shown = [photo for one in sheets for photo in one.photos]
    return shown + [photo for pair in pairs for _, side in pair.sides for photo in side]


def add_looked(thumbnails: Thumbnails, run: Run, sheets: dict[str, Sheet]) -> set[str]:
    """Make the thumbnails of where the network looked; return the sheets that show it.

    A sheet shows it of all its photos that have a picture, or of none.
    """
    networks = [name for member in run.members for name in member.signatures]
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
