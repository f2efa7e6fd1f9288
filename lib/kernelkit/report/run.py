"""Writing the results of a run: what counts first, then what decorates it."""

import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kernelkit.config.views import View
from kernelkit.core.boundary import doing
from kernelkit.core.contract import MemberMetrics, Metrics, read_metrics, write_metrics
from kernelkit.core.progress import clock_text
from kernelkit.data.batches import make_iterator
from kernelkit.data.layout import Layout
from kernelkit.data.tables import with_marks
from kernelkit.predict.calibration import expected_calibration_error
from kernelkit.predict.label_issues import find_label_issues
from kernelkit.predict.saved_model import write_model
from kernelkit.report.files import write_arrays, write_list, write_table
from kernelkit.report.machine import device_names, packages_found, peak_memory_mb, versions
from kernelkit.report.metrics import stage_metrics

if TYPE_CHECKING:
    from kernelkit.data.tables import PhotoTables
    from kernelkit.predict.ensemble import BlendResult
    from kernelkit.train.plan import Run
    from kernelkit.train.state import State

PACKAGES = ("tensorflow", "keras", "albumentations", "numpy", "pandas", "opencv-python-headless")
MOST_PHOTOS = 5  # in the picture of augmented photos, one of each class
AUGMENTED = 4  # versions of each


def write_results(
    run: "Run",
    result: "BlendResult",
    views: Sequence[View],
    inputs: Path,
    seconds: float,
    augment: Callable,
) -> None:
    """Write the results of a finished run, and remove its state unless time cut it short.

    Args:
        run: what it is.
        result: what the members say together.
        views: rows of the kernel's VIEWS.
        inputs: below which the outputs of earlier sessions may be mounted.
        seconds: of this session so far.
        augment: returns the training's augmentation for settings.

    Raises:
        OSError: a file that counts can't be written.
    """
    doing("writing the results")
    print(result.sentence(), flush=True)
    write_files(run, result, seconds)
    written = read_metrics(run.output)
    about = {name: written[name] for name in ("score_low", "score_high", "versions", "packages")}
    write_model(run, result, views, inputs, about)
    decorate(run, result, augment)
    if names := untrained(run.state):
        print(f"The submission is of an untrained network ({'; '.join(names)}): give it more time.")
    run.state.end()
    print(f"{run.output / 'submission.csv'} is ready after {clock_text(seconds)}", flush=True)


def write_files(run: "Run", result: "BlendResult", seconds: float) -> None:
    """Write submission.csv, history.csv, probabilities.npz and metrics.json.

    The arguments are those of `write_results`.
    """
    tables, held_out, output = run.folds[0], result.held_out, run.output
    competition, test = tables.competition, tables.with_prior(result.test)
    write_table(competition.submission(test), output / "submission.csv")
    write_table(pd.DataFrame(run.state.history), output / "history.csv")
    classes = np.asarray(competition.classes)
    arrays = {
        "test": test,
        "test_ids": competition.test.Id.to_numpy(str),
        "validation": result.validation,
        "validation_ids": held_out.Id.to_numpy(str),
        "validation_labels": held_out.label.to_numpy(classes.dtype),
        "validation_folds": held_out.fold.to_numpy(),
        "classes": classes,
    }
    write_arrays(arrays, output / "probabilities.npz")
    write_metrics(output, metrics_of(run, result, seconds))


def metrics_of(run: "Run", result: "BlendResult", seconds: float) -> Metrics:
    """Return the metrics of a run; the arguments are those of `write_results`."""
    config, members, parts, state = run.config, run.members, run.folds, run.state
    competition, truth = parts[0].competition, parts[0].positions(result.held_out)
    networks = dict.fromkeys((row["member"], row["fold"]) for row in state.history)
    return Metrics(
        competition=competition.layout.slug or competition.folder.name,
        folder=str(competition.folder),
        ended=datetime.now().astimezone().isoformat(timespec="minutes"),
        recipe=config.recipe,
        backbone=config.backbone,
        image_size=list(first_member(run).image_size),
        weights=Path(config.weights).name,
        seed=config.seed,
        train_images=len(parts[0].train),
        val_images=len(result.held_out),
        test_images=len(competition.test),
        excluded_images=len(competition.excluded),
        classes=competition.classes,
        stages=[
            stage_metrics(stage, state.rows_of(*network), *network, result.metric)
            for network in networks or [(state.member, state.fold)]
            for stage in members[network[0]].stages
        ],
        **measured(competition.layout, result, truth),
        tta_used=any(len(f.views) > 1 for m in result.members.values() for f in m.folds.values()),
        folds=config.folds,
        members=[member_metrics(name, result) for name in result.members],
        blend=result.blend.method,
        command=command_line(),
        time_limit=config.time_limit,
        jobs=state.jobs,
        seconds=seconds + state.earlier_seconds,
        peak_memory_mb=peak_memory_mb(),
        resumed=state.resumed,
        untrained=untrained(state),
        stopped_by_time_limit=state.stopped_by_time_limit,
        devices=device_names(),
        versions=versions(PACKAGES),
        packages=packages_found(),
        preflight=state.preflight,
        photos_at_once=state.photos_at_once(members),
    )


def command_line() -> str:
    """Return the command that made the run; what `ship` wrote into the script are options too."""
    written = getattr(sys.modules["__main__"], "OVERRIDES", None) or {}
    options = [f"--{name.replace('_', '-')}={text}" for name, text in written.items()]
    return shlex.join(["python", *sys.argv, *options])


def untrained(state: "State") -> list[str]:
    """Return the networks of this run that no epoch has trained."""
    jobs = [(row["member"], row["fold"]) for row in state.jobs]
    return [f"{member}, fold {fold}" for member, fold in jobs if not state.rows_of(member, fold)]


def measured(layout: Layout, result: "BlendResult", truth: np.ndarray) -> dict:
    """Return what metrics.json says of the competition's metric, its values and accuracies."""
    low, high = result.metric.interval(result.validation, truth)
    return {
        "metric": layout.metric,
        "greater_is_better": result.metric.greater,
        "score": result.score,
        "score_low": low,
        "score_high": high,
        "score_interval": result.metric.interval_method,
        "score_plain": result.score_plain,
        "score_tta": result.score_tta,
        "submission": layout.submission,
        "val_accuracy": result.accuracy_plain,
        "val_accuracy_tta": result.accuracy_tta,
        "val_accuracy_submitted": result.accuracy,
        "calibration_error": expected_calibration_error(result.validation, truth),
    }


def member_metrics(name: str, result: "BlendResult") -> MemberMetrics:
    """Return what metrics.json says of a member."""
    member = result.members[name]
    return MemberMetrics(
        name=name,
        backbone=member.settings["backbone"],
        image_size=list(member.settings["image_size"]),
        folds=list(member.folds),
        views=[fold.views for fold in member.folds.values()],
        val_accuracy=result.accuracies[name],
        score=result.blend.scores[name],
        temperature=result.temperatures[name],
        weight=result.blend.weights.get(name, 0.0),
    )


def first_member(run: "Run"):
    """Return the settings of the first network, by which a run of several is shown."""
    return next(iter(run.members.values()))


def decorate(run: "Run", result: "BlendResult", augment: Callable) -> None:
    """Write the lists of doubtful photos and the pictures; warn where that fails.

    The arguments are those of `write_results`.
    """
    output, tables, state = run.output, run.folds[0], run.state
    classes = tables.competition.classes
    predicted = np.asarray(classes)[result.validation.argmax(1)]
    truth, excluded = result.held_out.label, tables.competition.excluded
    suspects = find_label_issues(
        result.held_out, result.validation, tables.positions(result.held_out), classes
    )
    writers: dict[str, Callable[[Path], None]] = {
        "class_balance.png": partial(draw, "class_balance", tables.class_counts()),
        "confusion_matrix.png": partial(draw, "confusion_matrix", truth, predicted, classes),
        "augmented.png": lambda path: draw(
            "photo_grid", *augmented(first_member(run), tables, augment), path, AUGMENTED + 1
        ),
    }
    if state.rows:
        writers["learning_curves.png"] = partial(draw, "learning_curves", pd.DataFrame(state.rows))
    lists = {
        "excluded.csv": excluded,
        "suspects.csv": with_marks(suspects, output / "suspects.csv"),
        "unlike.csv": with_marks(unlike_table(state, tables), output / "unlike.csv"),
    }
    writers |= {name: partial(write_list, table) for name, table in lists.items()}
    for name, write in writers.items():
        try:
            write(output / name)
        except Exception as error:
            path = output / name
            print(f"{path} could not be written ({error}); the results are complete.", flush=True)


def unlike_table(state: "State", tables: "PhotoTables") -> pd.DataFrame:
    """Return the photos unlike all others with Id, label, distance and path, the farthest first."""
    distances = pd.DataFrame(state.outliers or [], columns=["Id", "distance"])
    table = distances.merge(tables.competition.train, on="Id")
    return table[["Id", "label", "distance", "path"]]


def draw(figure: str, *content: object) -> None:
    """Draw a figure, imported late: an error of matplotlib ends no run."""
    from kernelkit.report import figures

    getattr(figures, figure)(*content)


def augmented(config, tables: "PhotoTables", augment: Callable) -> tuple[np.ndarray, list[str]]:
    """Return a few training photos, each before its augmented versions, and their titles.

    Returns:
        uint8 [photos * (1 + AUGMENTED), height, width, 3] and as many titles.
    """
    table = tables.train.drop_duplicates("label").head(MOST_PHOTOS)
    labels, table = table.label, table.drop(columns="label")
    columns = []
    for number in range(AUGMENTED + 1):
        flow = make_iterator(config, tables, table, augment(config) if number else None)
        flow.epoch = number  # the versions differ from each other
        columns.append(np.concatenate([flow[batch] for batch in range(len(flow))]))
    titles = [title for label in labels for title in (label, *["augmented"] * AUGMENTED)]
    return np.stack(columns, axis=1).reshape(-1, *columns[0].shape[1:]), titles
