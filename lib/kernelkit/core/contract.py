"""The files by which a run tells its results: their one reader and writer.

`metrics.json` holds the fields of `Metrics`. `probabilities.npz` holds what is submitted: float32
`test` [rows, classes] and `validation` [photos, classes], each with `_ids`, the latter also with
`_labels` and `_folds`, and `classes`, the labels in the order of the columns.

members/NAME/probabilities.npz holds a member's finished networks, one a fold:

| array | shape | content |
|---|---|---|
| validation | float32 [photos, classes] | of photos that their network did not train on |
| validation_plain | float32 [photos, classes] | the same without test-time augmentation |
| validation_ids, validation_labels, validation_folds | [photos] | their Ids, labels and folds |
| test | float32 [folds, rows, classes] | of the test photos that can be read |
| test_ids | [rows] | their Ids |
| folds | int [folds] | which folds are finished |
| accuracy, accuracy_tta | float [folds] | of the plain pass, and with test-time augmentation |
| views | str [folds] | the views whose mean it is, as JSON |
| cut | bool [folds] | whether time ended their training before the schedule |
| classes | [classes] | the labels in the order of the columns |
| fingerprint | str | a hash of the photos, labels and folds that it belongs to |
| settings | str | the member's settings, as JSON |
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem

if TYPE_CHECKING:
    import numpy as np  # imported late: commands of `ship` that read metrics.json do without it

CURE, CURE_OF_MEMBERS = "run again, or fetch it again", "remove it, and it is made anew"
METRICS_FILE, PROBABILITIES = "metrics.json", "probabilities.npz"
MODEL_FILE = "model.json"  # of the networks; see `kernelkit.predict.members`
PREDICTED_FILE = "predicted.json"  # how long a predicting kernel took, and its memory
# The names of all that a run writes into its folder, for whoever must know them apart from others.
RUN_FILES = (
    "submission.csv", PROBABILITIES, METRICS_FILE, MODEL_FILE, "best.keras", "report.html",
    "history.csv", "photos.csv", "suspects.csv", "unlike.csv", "excluded.csv", "class_balance.png",
    "confusion_matrix.png", "augmented.png", "learning_curves.png",
)  # fmt: skip
RUN_FOLDERS = ("state", "members", "scout", "report", "tensorboard")
# What json, h5py, NumPy, zipfile and zlib raise for files that are damaged or of another kind.
UNREADABLE = (
    OSError, ValueError, KeyError, EOFError, RecursionError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


# ------------------------------------------------------------------------------ metrics.json


@dataclass(frozen=True)
class StageMetrics:
    """How a stage of a network's schedule went; best values are None where no epoch ended."""

    member: str
    fold: int  # that it was validated on
    name: str
    share: float  # of the backbone that trained, 0 to 1
    learning_rate: float  # the schedule's
    epochs_run: int
    best_val_accuracy: float | None  # 0 to 1
    best_val_score: float | None  # of the competition's metric
    seconds: float  # of these epochs, training and validation
    images_per_second: float | None  # training speed, the mean over the epochs
    input_bound: float | None  # the share of the time in which steps waited for photos, 0 to 1


@dataclass(frozen=True)
class MemberMetrics:
    """What a member of the blend is, and how good it is alone."""

    name: str
    backbone: str  # row of the kernel's BACKBONES
    image_size: list[int]  # height and width in pixels
    folds: list[int]  # that it finished
    views: list[list[str]]  # of test-time augmentation that were used, of each fold
    val_accuracy: float  # on the photos on which all members are compared, 0 to 1
    score: float  # the metric's value on the same photos
    temperature: float  # by which its logits are divided
    weight: float  # in the blend; the weights add up to 1


@dataclass(frozen=True)
class CandidateMetrics:
    """What the scout found of a candidate; None where it did not come so far."""

    name: str
    backbone: str  # row of the kernel's BACKBONES
    image_size: list[int]  # height and width in pixels
    score: float | None  # the metric's value of regressions on frozen features, out of fold
    score_low: float | None  # the ends of its 95 % interval
    score_high: float | None
    tuned: float | None  # the value after a short fine-tuning, on the first fold's photos
    images_per_second: float | None  # of passing forward
    minutes: float | None  # that its whole schedule takes on one fold, by measured speeds
    peak_bytes: int | None  # the most memory of a GPU
    weight: float | None  # in the blend of the candidates
    chosen: bool
    reason: str  # why, or why not


@dataclass(frozen=True)
class Metrics:
    """The content of metrics.json; its fields are the file's names, in this order.

    Accuracies and scores are of the validation photos. Those of the plain prediction pass and of
    the mean over the chosen views are, of several networks, means by their members' weights.
    """

    competition: str  # its name in its address at Kaggle, else that of its folder
    folder: str  # that its photos came from
    ended: str  # when the results were written, as ISO 8601 has it, to the minute
    recipe: str  # row of the kernel's RECIPES that the settings started from
    backbone: str  # row of the kernel's BACKBONES
    image_size: list[int]  # height and width of the photos in pixels, as the network saw them
    weights: str  # the backbone's: "imagenet", "drawn", "none", or a file's name
    seed: int
    train_images: int
    val_images: int
    test_images: int  # rows of the submission
    excluded_images: int  # rows and photos that were left out; excluded.csv names them
    classes: list  # the labels in the order of the probabilities' columns
    stages: list[StageMetrics]
    metric: str  # the competition's, a row of METRICS
    greater_is_better: bool
    score: float  # its value of what is submitted: all networks blended
    score_low: float  # the ends of the value's 95 % interval
    score_high: float
    score_interval: str  # how it was computed: "Wilson" or "percentile bootstrap over photos"
    score_plain: float  # its value of the plain prediction pass
    score_tta: float  # and of the mean over the chosen views of test-time augmentation
    submission: str  # its form: "label", "probability", "probabilities" or "best"
    val_accuracy: float  # of the plain prediction pass, 0 to 1
    val_accuracy_tta: float  # of the mean over the chosen views
    tta_used: bool  # whether any network predicted from more than the plain pass
    val_accuracy_submitted: float  # of what is submitted
    folds: int  # into which the photos were divided; 1 is a single split
    members: list[MemberMetrics]
    blend: str  # how the weights were found: "single", "mean" or "greedy"
    calibration_error: float  # the expected one of what is submitted, 0 to 1
    command: str  # that made the run, as a shell reads it
    time_limit: float | None  # minutes that the session might last
    jobs: list[dict]  # one a network that trained: member, fold, cost (as planned), seconds
    seconds: float  # of the run, including finished epochs of earlier sessions
    peak_memory_mb: float  # the process' largest resident memory in MiB
    resumed: bool  # whether the run went on from an earlier session
    untrained: list[str]  # networks that time left without any training, as "MEMBER, fold N"
    stopped_by_time_limit: bool  # whether the session's end cut training or prediction short
    devices: list[str]  # TensorFlow's logical devices
    versions: dict[str, str]  # of Python and of the packages that decide the result
    packages: str  # a hash of this project's, by which `ship` sees that the run was of its code
    preflight: dict  # what was measured before the first stage; {} if nothing was
    photos_at_once: dict[str, int]  # on a device, by "MEMBER/STAGE", where a batch needs several
    scouting: list[CandidateMetrics] = field(default_factory=list)  # empty where none was done


def write_metrics(folder: Path, metrics: Metrics) -> None:
    """Write metrics.json into a run's folder. Raises OSError if it can't be written."""
    write_atomically(folder / METRICS_FILE, json.dumps(dataclasses.asdict(metrics), indent=1))


def read_metrics(folder: Path) -> dict:
    """Return a run's metrics.json, {} where there is none. Raises Problem if it can't be read."""
    return read_json(folder / METRICS_FILE)


def read_json(path: Path) -> dict:
    """Return a file's JSON object, {} where there is no file. Raises Problem for other content."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    if not isinstance(found, dict):
        raise unreadable(path, "it holds no JSON object")
    return found


def unreadable(path: Path, why: object, cure: str = CURE) -> Problem:
    """Return the Problem of a run's file that can't be read."""
    return Problem(f"{path} can't be read ({why}): {cure}.")


# -------------------------------------------------------------------------- probabilities.npz


@dataclass(frozen=True)
class ValidationPredictions:
    """What a run predicts for its validation photos."""

    ids: list[str]
    labels: list[str]
    classes: list[str]  # in the order of the columns
    probabilities: np.ndarray  # float32 [photos, classes]


def read_validation(folder: Path) -> ValidationPredictions | None:
    """Return a run's validation predictions, or those of its only member.

    None without either, or with several members but no blend. Raises Problem for a damaged file.
    """
    members = member_files(folder)
    file = folder / PROBABILITIES
    if not file.is_file():
        if len(members) != 1:
            return None
        (file,) = members
    arrays = read_arrays(file)
    try:
        names = ("validation_ids", "validation_labels", "classes")
        texts = [[str(value) for value in arrays[name].tolist()] for name in names]
        return ValidationPredictions(*texts, arrays["validation"])
    except KeyError as error:
        raise unreadable(file, f"it has no {error}") from error


def read_arrays(path: Path, cure: str = CURE) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file by their names. Raises Problem if it can't be read."""
    import numpy as np

    try:
        with np.load(path) as stored:
            return dict(stored)
    except (*UNREADABLE, AttributeError) as error:  # of an .npy, which holds a lone array
        raise unreadable(path, error, cure) from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as a compressed .npz file. Raises OSError if it can't be written."""
    import numpy as np

    write_atomically(path, lambda beside: np.savez_compressed(beside, **arrays))


# ------------------------------------------------------------------------------------ members


@dataclass(frozen=True)
class Fold:
    """What one finished network predicts; the arrays are as in the table above."""

    fold: int
    validation: np.ndarray
    validation_plain: np.ndarray
    validation_ids: np.ndarray
    validation_positions: np.ndarray  # of the labels among the classes, int [photos]
    test: np.ndarray
    accuracy: float
    accuracy_tta: float
    views: list[str]
    cut: bool = False


@dataclass
class Member:
    """A member's settings and its finished folds by number."""

    name: str
    settings: dict
    fingerprint: str
    classes: np.ndarray
    test_ids: np.ndarray
    folds: dict[int, Fold] = field(default_factory=dict)

    def all_folds(self, name: str) -> np.ndarray:
        """Return one of the arrays of `Fold` for the photos of all folds."""
        import numpy as np

        return np.concatenate([getattr(fold, name) for fold in self.folds.values()])

    def right(self, name: str = "validation") -> np.ndarray:
        """Return whether the most probable class is the label, bool [photos] of all folds."""
        return self.all_folds(name).argmax(1) == self.all_folds("validation_positions")

    @property
    def test(self) -> np.ndarray:
        """The mean over the folds, float32 [rows, classes]."""
        import numpy as np

        tests = [fold.test for fold in self.folds.values()]
        return np.mean(tests, axis=0, dtype=np.float64).astype(np.float32)


def member_files(folder: Path) -> list[Path]:
    """Return the files of the members that a run has saved in its folder."""
    return sorted(folder.glob(f"members/*/{PROBABILITIES}"))


def write_member(file: Path, member: Member) -> None:
    """Write a member's file. Raises OSError if it can't be written."""
    import numpy as np

    folds = list(member.folds.values())
    of_photos = ("validation", "validation_plain", "validation_ids")
    of_folds = ("accuracy", "accuracy_tta", "cut")
    arrays = {name: member.all_folds(name) for name in of_photos}
    arrays |= {name: np.asarray([getattr(fold, name) for fold in folds]) for name in of_folds}
    arrays |= {
        "validation_labels": member.classes[member.all_folds("validation_positions")],
        "validation_folds": np.repeat([f.fold for f in folds], [len(f.validation) for f in folds]),
        "test": np.stack([fold.test for fold in folds]),
        "folds": np.asarray([fold.fold for fold in folds]),
        "views": np.asarray([json.dumps(fold.views) for fold in folds]),
        "settings": np.asarray(json.dumps(member.settings)),
        "fingerprint": np.asarray(member.fingerprint),
        "classes": member.classes,
        "test_ids": member.test_ids,
    }
    write_arrays(file, arrays)


def read_member(file: Path) -> Member:
    """Return a file's member, named after its folder. Raises Problem if it can't be read."""
    arrays = read_arrays(file, CURE_OF_MEMBERS)
    try:
        return _member_of(file.parent.name, arrays)
    except UNREADABLE as error:
        raise unreadable(file, error, CURE_OF_MEMBERS) from error


def _member_of(name: str, arrays: Mapping[str, np.ndarray]) -> Member:
    import numpy as np

    position = {str(label): number for number, label in enumerate(arrays["classes"])}
    truth = np.asarray([position[str(label)] for label in arrays["validation_labels"]])
    folds = {}
    for number, fold in enumerate(arrays["folds"].tolist()):
        inside = arrays["validation_folds"] == fold
        folds[fold] = Fold(
            fold=fold,
            validation=arrays["validation"][inside],
            validation_plain=arrays["validation_plain"][inside],
            validation_ids=arrays["validation_ids"][inside],
            validation_positions=truth[inside],
            test=arrays["test"][number],
            accuracy=float(arrays["accuracy"][number]),
            accuracy_tta=float(arrays["accuracy_tta"][number]),
            views=json.loads(str(arrays["views"][number])),
            cut=bool(arrays["cut"][number]),
        )
    settings, fingerprint = (str(arrays[name]) for name in ("settings", "fingerprint"))
    return Member(
        name, json.loads(settings), fingerprint, arrays["classes"], arrays["test_ids"], folds
    )
