"""What a run has saved, read back for its report."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from kernelkit.core.contract import PROBABILITIES, UNREADABLE
from kernelkit.core.metrics import METRICS, Metric
from kernelkit.core.problem import Problem
from kernelkit.core.tables import read_csv
from kernelkit.report.attention import signature

PHOTO_COLUMNS = ["Id", "set", "label", "fold", "group", "width", "height", "path"]
# What runs of earlier versions lack.
LATER = {
    "command": "",
    "time_limit": None,
    "jobs": [],
    "competition": "",
    "folder": "",
    "ended": "",
}
SCORE = "score.json"  # beside the results, as `report.note_score` writes it


@dataclass(frozen=True)
class SavedMember:
    """What the finished networks of a member say of the photos that they did not train on."""

    name: str
    settings: dict
    ids: np.ndarray
    """str [photos]."""
    right: np.ndarray
    """bool [photos], whether the most probable class is the label."""
    right_plain: np.ndarray
    """The same without test-time augmentation."""
    gain: tuple[float, float]
    """By how much test-time augmentation improves the metric, and the standard error of that."""
    predicted: np.ndarray
    """int [photos], positions among the classes."""
    accuracy_plain: float
    """0 to 1, of the plain pass."""
    accuracy_tta: float
    """0 to 1, of the mean over the chosen views."""
    signatures: list[str]
    """Of its networks, after `kernelkit.report.attention.signature`."""


@dataclass(frozen=True)
class Run:
    """What a run has saved so far. Labels are text everywhere."""

    folder: Path
    finished: bool
    """Whether its results are written; otherwise it is under way, or was interrupted."""
    metrics: dict
    """The content of metrics.json; empty while the run is under way."""
    settings: dict
    """Of the run under way, or of the first member; empty where neither is known."""
    history: pd.DataFrame
    """A row an epoch, of all networks, as history.csv has it."""
    photos: pd.DataFrame
    """As photos.csv has it, with numbers in fold, group, width and height (NaN where empty)."""
    classes: list[str]
    members: list[SavedMember] = field(default_factory=list)
    validation: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """Probabilities of the held-out photos, float32 [photos, classes]."""
    truth: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    """The positions of their labels, int [photos]."""
    held_out: pd.DataFrame = field(default_factory=pd.DataFrame)
    """A row for each of them: Id, label, predicted, both probabilities, and of photos.csv path,
    width, height and group."""
    test: pd.DataFrame = field(default_factory=pd.DataFrame)
    """A row for each test photo: Id, predicted, second, both probabilities, path."""
    suspects: pd.DataFrame = field(default_factory=pd.DataFrame)
    unlike: pd.DataFrame = field(default_factory=pd.DataFrame)
    """As unlike.csv has it: Id, label, distance, path."""
    excluded: pd.DataFrame = field(default_factory=pd.DataFrame)
    score: dict = field(default_factory=dict)
    """What the submission scored, as score.json has it: public_score, and by whom; {} unknown."""

    @property
    def right(self) -> np.ndarray:
        """Whether each held-out photo is right, bool [photos]."""
        return self.validation.argmax(1) == self.truth

    @property
    def accuracy(self) -> float:
        """On the held-out photos, 0 to 1, of what is submitted."""
        return float(self.right.mean())


def read_run(folder: Path) -> Run:
    """Read what a run has saved in its output folder.

    Raises:
        Problem: there is nothing of a run, or a file is damaged.
    """
    state = read_json(folder / "state" / "state.json")
    under_way = state and not state.get("ended")
    metrics = {} if under_way else read_json(folder / "metrics.json")
    metrics = metrics and LATER | metrics
    if not state and not metrics:
        raise Problem(
            f"{folder} holds no run: there is neither metrics.json nor state/state.json in it. "
            "Give the folder of a run's results."
        )
    photos = read_photos(folder / "photos.csv")
    members = read_members(folder, metrics, state.get("fingerprint"))
    settings = state.get("settings") or (members[0].settings if members else {})
    if not metrics:
        history = pd.DataFrame(state.get("history", []))
        classes = sorted(photos.loc[photos.set == "train", "label"].unique(), key=by_number)
        return Run(folder, False, {}, settings, history, photos, classes, members)
    history = read_numbers(folder / "history.csv")
    classes = [str(name) for name in metrics["classes"]]
    arrays = read_arrays(folder / "probabilities.npz")
    position = {name: number for number, name in enumerate(classes)}
    truth = np.asarray([position[str(label)] for label in arrays["validation_labels"]])
    held_out = judged(arrays["validation_ids"], arrays["validation"], truth, classes, photos)
    return Run(
        folder, True, metrics, settings, history, photos, classes, members,
        arrays["validation"], truth, held_out,
        predicted(arrays["test_ids"], arrays["test"], classes, photos),
        read_suspects(folder / "suspects.csv", held_out),
        read_table(folder / "unlike.csv"),
        read_table(folder / "excluded.csv") if metrics.get("excluded_images") else pd.DataFrame(),
        read_json(folder / SCORE),
    )  # fmt: skip


def read_json(path: Path) -> dict:
    """Return a file's JSON object, {} where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise unusable(path, error) from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file."""
    try:
        with np.load(path) as stored:
            return dict(stored)
    except UNREADABLE as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: Exception) -> Problem:
    """Return the Problem of a file that can't be read."""
    return Problem(f"{path} can't be read ({error}): run again, or fetch it again.")


def read_table(path: Path) -> pd.DataFrame:
    """Return a CSV as text; an empty table where there is none."""
    return read_csv(path, "run again, or fetch it again") if path.is_file() else pd.DataFrame()


def read_numbers(path: Path) -> pd.DataFrame:
    """Return a CSV with its numbers; an empty table where there is none, or nothing in it."""
    try:
        return pd.read_csv(path, dtype={"member": str, "stage": str, "right": str})
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()
    except (OSError, ValueError) as error:
        raise unusable(path, error) from error


def read_photos(path: Path) -> pd.DataFrame:
    """Return photos.csv with its numbers; a table without rows where there is none."""
    table = read_table(path).reindex(columns=PHOTO_COLUMNS)
    numbers = ["fold", "group", "width", "height"]
    return table.assign(**{name: pd.to_numeric(table[name], "coerce") for name in numbers})


def read_suspects(path: Path, held_out: pd.DataFrame) -> pd.DataFrame:
    """Return suspects.csv with numbers, without rows that an earlier run may have left there."""
    table = read_table(path)
    if table.empty:
        return table
    known = set(zip(held_out.Id, held_out.label, strict=True))
    table = table[[pair in known for pair in zip(table.Id, table.label, strict=True)]]
    numbers = ["probability_of_label", "probability_of_suggested"]
    paths = dict(zip(held_out.Id, held_out.path, strict=True))
    return table.assign(**{n: table[n].astype(float) for n in numbers}, path=table.Id.map(paths))


def read_members(folder: Path, metrics: dict, fingerprint: str | None) -> list[SavedMember]:
    """Return the members whose probabilities lie in a run's folder, in the order of metrics.json.

    Those of another run are left out: they are not in its metrics, or have another fingerprint.
    """
    files = sorted(folder.glob(f"members/*/{PROBABILITIES}"))
    named = [member["name"] for member in metrics.get("members", [])]
    if named:
        files = sorted(
            (f for f in files if f.parent.name in named), key=lambda f: named.index(f.parent.name)
        )
    members = []
    for file in files:
        arrays = read_arrays(file)
        if fingerprint in (None, str(arrays["fingerprint"])):
            metric = METRICS[metrics.get("metric", "accuracy")]
            members.append(saved_member(file.parent.name, arrays, metric))
    return members


def saved_member(name: str, arrays: dict[str, np.ndarray], metric: Metric) -> SavedMember:
    """Return the member that a file's arrays tell of."""
    position = {str(label): number for number, label in enumerate(arrays["classes"])}
    truth = np.asarray([position[str(label)] for label in arrays["validation_labels"]])
    photos = [(arrays["validation_folds"] == fold).sum() for fold in arrays["folds"]]
    predicted = arrays["validation"].argmax(1)
    return SavedMember(
        name=name,
        settings=json.loads(str(arrays["settings"])),
        ids=arrays["validation_ids"].astype(str),
        right=predicted == truth,
        right_plain=arrays["validation_plain"].argmax(1) == truth,
        gain=metric.gain(arrays["validation_plain"], arrays["validation"], truth),
        predicted=predicted,
        accuracy_plain=float(np.average(arrays["accuracy"], weights=photos)),
        accuracy_tta=float(np.average(arrays["accuracy_tta"], weights=photos)),
        signatures=[signature(test) for test in arrays["test"]],
    )


def judged(ids, probabilities, truth, classes: list[str], photos: pd.DataFrame) -> pd.DataFrame:
    """Return the table `Run.held_out`."""
    names, rows = np.asarray(classes, object), np.arange(len(truth))
    best = probabilities.argmax(1)
    table = pd.DataFrame(
        {
            "Id": ids.astype(str),
            "label": names[truth],
            "predicted": names[best],
            "probability_of_label": probabilities[rows, truth],
            "probability_of_predicted": probabilities[rows, best],
        }
    )
    return with_photos(table, photos, "train")


def predicted(ids, probabilities, classes: list[str], photos: pd.DataFrame) -> pd.DataFrame:
    """Return the table `Run.test`."""
    names, rows = np.asarray(classes, object), np.arange(len(ids))
    order = np.argsort(-probabilities, axis=1, kind="stable")
    first, second = order[:, 0], order[:, min(1, len(classes) - 1)]
    table = pd.DataFrame(
        {
            "Id": ids.astype(str),
            "predicted": names[first],
            "second": names[second],
            "probability_of_predicted": probabilities[rows, first],
            "probability_of_second": probabilities[rows, second],
        }
    )
    return with_photos(table, photos, "test")


def with_photos(table: pd.DataFrame, photos: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return a table with path, width, height and group of its photos, where they are known."""
    known = photos[photos.set == part].drop_duplicates("Id").set_index("Id")
    columns = known.reindex(table.Id)[["path", "width", "height", "group"]]
    return table.assign(**{name: columns[name].to_numpy() for name in columns}).fillna({"path": ""})


def by_number(label: str) -> tuple:
    """Return a key that sorts labels that are numbers by their value, others as text."""
    return (0, int(label), "") if label.isdecimal() else (1, 0, label)
