"""Write photos.csv, read back what a run has saved, and return the commands that repeat it."""

import shlex
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

import numpy as np
import pandas as pd
from PIL import ExifTags, Image

from ImageDataAugmentor.reading import UnreadableImage, read_image
from kernelkit.config.rows import Stage
from kernelkit.config.settings import text_of
from kernelkit.core import contract
from kernelkit.core.metrics import METRICS, Metric
from kernelkit.core.problem import Problem
from kernelkit.core.tables import read_csv, write_table
from kernelkit.data.tables import PhotoTables

READERS = 16  # threads that read the sizes, which wait for the disk most of the time
PHOTO_COLUMNS = ["Id", "set", "label", "fold", "group", "width", "height", "path"]
_NONE = pd.DataFrame()
SCORE = "score.json"  # beside the results, as `kernelkit.report.writing.note_score` writes it


def note_photos(output: Path, folds: list[PhotoTables]) -> None:
    """Write photos.csv; print a sentence where that fails, since the run needs no such file.

    Fold is the one that a training photo validates, group is of near-identical training photos, and
    width and height are in pixels.
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
    return table[PHOTO_COLUMNS]


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


@dataclass(frozen=True)
class Run:
    """What a run has saved so far. Labels are text everywhere."""

    folder: Path
    finished: bool  # its results are written; otherwise it is under way, or was interrupted
    metrics: dict  # the content of metrics.json; empty while the run is under way
    settings: dict  # of the run under way, or of the first member; empty where neither is known
    history: pd.DataFrame  # a row an epoch, of all networks, as history.csv has it
    photos: pd.DataFrame  # photos.csv, with numbers in fold, group, width, height (or NaN)
    classes: list[str]
    members: list[contract.Member] = field(default_factory=list)
    validation: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    truth: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    # A row a held-out photo, of `validation` [photos, classes] and `truth` [photos]: Id, label,
    # predicted, both probabilities, and of photos.csv path, width, height and group.
    held_out: pd.DataFrame = field(default_factory=pd.DataFrame)
    # A row a test photo: Id, predicted, second, both probabilities, and the same of photos.csv.
    test: pd.DataFrame = field(default_factory=pd.DataFrame)
    label_issues: pd.DataFrame = field(default_factory=pd.DataFrame)  # suspects.csv
    outliers: pd.DataFrame = field(default_factory=pd.DataFrame)  # unlike.csv
    excluded: pd.DataFrame = field(default_factory=pd.DataFrame)
    scouting: list[dict] = field(default_factory=list)  # rows of `CandidateMetrics`, if any
    score: dict = field(default_factory=dict)  # score.json: public_score, and of whom; {} unknown

    @property
    def right(self) -> np.ndarray:
        """Whether each held-out photo is right, bool [photos]."""
        return self.validation.argmax(1) == self.truth

    @property
    def metric(self) -> Metric:
        """The competition's metric."""
        return METRICS[self.metrics["metric"]]

    def member_right(self, member: contract.Member) -> np.ndarray | None:
        """Return which held-out photos a member has right; None where it was held out on others."""
        same = np.array_equal(member.all_folds("validation_ids"), self.held_out.Id.to_numpy(str))
        return member.right() if same else None


def read_run(folder: Path) -> Run:
    """Read what a run has saved. Raises Problem if there is nothing, or a file is damaged."""
    state = contract.read_json(folder / "state" / "state.json")
    under_way = state and not state.get("ended")
    metrics = {} if under_way else contract.read_metrics(folder)
    if not state and not metrics:
        raise Problem(
            f"{folder} holds no run: there is neither metrics.json nor state/state.json in it. "
            "Give the folder of a run's results."
        )
    photos = _read_photos(folder / "photos.csv")
    if not metrics:
        history = pd.DataFrame(state.get("history", []))
        classes = sorted(photos.loc[photos.set == "train", "label"].unique(), key=_by_number)
        settings, scouting = state.get("settings", {}), state.get("scouting", {}).get("rows", [])
        return Run(folder, False, {}, settings, history, photos, classes, scouting=scouting)
    return _finished_run(folder, metrics, state.get("settings"), photos)


def _finished_run(folder: Path, metrics: dict, settings: dict | None, photos: pd.DataFrame) -> Run:
    files = {file.parent.name: file for file in contract.member_files(folder)}
    names = [member["name"] for member in metrics["members"]]
    members = [contract.read_member(files[name]) for name in names if name in files]
    classes = [str(name) for name in metrics["classes"]]
    arrays = contract.read_arrays(folder / contract.PROBABILITIES)
    truth = pd.Index(classes).get_indexer(arrays["validation_labels"].astype(str))
    best = {"label": truth, "predicted": arrays["validation"].argmax(1)}
    held_out = _predictions(arrays, "validation", best, classes, photos[photos.set == "train"])
    order = np.argsort(-arrays["test"], axis=1, kind="stable")
    two = {"predicted": order[:, 0], "second": order[:, min(1, len(classes) - 1)]}
    test = _predictions(arrays, "test", two, classes, photos[photos.set == "test"])
    return Run(
        folder=folder,
        finished=True,
        metrics=metrics,
        settings=settings or (members[0].settings if members else {}),
        history=_read_history(folder / "history.csv"),
        photos=photos,
        classes=classes,
        members=members,
        validation=arrays["validation"],
        truth=truth,
        held_out=held_out,
        test=test,
        label_issues=_read_label_issues(folder / "suspects.csv", held_out),
        outliers=_read_table(folder / "unlike.csv"),
        excluded=_read_table(folder / "excluded.csv") if metrics["excluded_images"] else _NONE,
        scouting=metrics.get("scouting", []),
        score=contract.read_json(folder / SCORE),
    )


def _read_table(path: Path) -> pd.DataFrame:
    return read_csv(path, "run again, or fetch it again") if path.is_file() else _NONE


def _read_history(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype={"member": str, "stage": str, "right": str})
    except (FileNotFoundError, pd.errors.EmptyDataError):  # no epoch was finished
        return _NONE
    except (OSError, ValueError) as error:
        raise contract.unreadable(path, error) from error


def _read_photos(path: Path) -> pd.DataFrame:
    table = _read_table(path).reindex(columns=PHOTO_COLUMNS)
    numbers = ["fold", "group", "width", "height"]
    return table.assign(**{name: pd.to_numeric(table[name], "coerce") for name in numbers})


def _read_label_issues(path: Path, held_out: pd.DataFrame) -> pd.DataFrame:
    """Return suspects.csv with numbers, without rows that an earlier run may have left there."""
    table = _read_table(path)
    if table.empty:
        return table
    numbers = ["probability_of_label", "probability_of_suggested"]
    own = table.drop(columns="path").merge(held_out[["Id", "label", "path"]], on=["Id", "label"])
    return own.astype(dict.fromkeys(numbers, float))


def _predictions(
    arrays: dict[str, np.ndarray],
    part: str,
    shown: dict[str, np.ndarray],
    classes: list[str],
    photos: pd.DataFrame,
) -> pd.DataFrame:
    """Return a row a photo of `part`: its Id, some classes, their probabilities, and of `photos`.

    `shown` are the positions of the classes, int [photos], by the names of their columns.
    """
    names, rows = np.asarray(classes, object), np.arange(len(arrays[part]))
    table = {"Id": arrays[f"{part}_ids"].astype(str)}
    table |= {name: names[positions] for name, positions in shown.items()}
    table |= {f"probability_of_{name}": arrays[part][rows, shown[name]] for name in shown}
    known = photos.drop_duplicates("Id")[["Id", "path", "width", "height", "group"]]
    return pd.DataFrame(table).merge(known, on="Id", how="left").fillna({"path": ""})


def _by_number(label: str) -> tuple:
    """Return a key that sorts labels that are numbers by their value, others as text."""
    return (0, int(label), "") if label.isdecimal() else (1, 0, label)


def again(run: Run, **settings: object) -> str:
    """Return the command that repeats the run with other settings, its results in another folder.

    Options of the run's own command that `settings` names get their new values; those that it names
    with None are dropped.
    """
    start, options = options_of(run)
    options |= {name: None if v is None else str(v) for name, v in settings.items()}
    if on_kaggle(run):
        sets = [f"--set {name}={shlex.quote(v)}" for name, v in options.items() if v is not None]
        return " ".join([run.score.get("again", "ship push"), *sets])
    options["output"] = (options.get("output") or "output") + "-next"
    words = [f"--{n.replace('_', '-')} {shlex.quote(v)}" for n, v in options.items() if v]
    return " ".join([shlex.join(start), *words])


def on_kaggle(run: Run) -> bool:
    """Return whether the run was made on Kaggle, which gives every kernel the same name."""
    return PurePath(options_of(run)[0][-1]).name == "script.py"


def options_of(run: Run) -> tuple[list[str], dict[str, str | None]]:
    """Return the beginning of the run's own command, and its options by their fields' names."""
    words = shlex.split(run.metrics.get("command", "")) or ["python", "kernel.py"]
    start, options, name = words[:2], {}, ""
    for word in words[2:]:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            name = name.replace("-", "_")
            options[name] = value
        elif name:
            options[name] = word
    options.pop("fresh", None)
    return start, options


def path_of(run: Run, file: str) -> str:
    """Return the path of a run's file as `--exclude` takes it where the report was made."""
    if on_kaggle(run):
        return file
    path, here = (run.folder / file).resolve(), Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def stages_text(stages: list[dict], epochs: float = 1, slower: tuple[str, ...] = ()) -> str:
    """Return stages as text, with so many times their epochs; those in `slower` at 0.3 the rate."""
    rows = []
    for stage in (Stage(**stage) for stage in stages):
        rate = (0.3 if stage.name in slower else 1) * stage.learning_rate
        count = stage.epochs if stage.views else max(1, round(epochs * stage.epochs))
        rows.append(replace(stage, learning_rate=float(f"{rate:g}"), epochs=count))
    return text_of(tuple(rows))


def resized(run: Run, factor: float) -> str:
    """Return the run's size of photos times a factor, in multiples of 16 pixels, as HxW."""
    height, width = (max(32, 16 * round(factor * s / 16)) for s in run.metrics["image_size"])
    return f"{height}x{width}"
