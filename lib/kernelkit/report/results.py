"""Write the results of a run: the files that count first, then lists and figures."""

import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from kernelkit.core import contract
from kernelkit.core.boundary import doing
from kernelkit.core.metrics import METRICS, Metric
from kernelkit.core.packages import packages_found
from kernelkit.core.progress import clock_text
from kernelkit.core.tables import write_list, write_table
from kernelkit.data.batches import make_iterator
from kernelkit.data.tables import PhotoTables, with_marks
from kernelkit.predict.calibration import expected_calibration_error
from kernelkit.predict.ensemble import BlendResult
from kernelkit.predict.label_issues import find_label_issues
from kernelkit.predict.members import write_model
from kernelkit.train.plan import Clock, Run
from kernelkit.train.state import State

PACKAGES = ("tensorflow", "keras", "albumentations", "numpy", "pandas", "opencv-python-headless")
MOST_PHOTOS = 5  # in the picture of augmented photos, one of each class
AUGMENTED = 4  # versions of each
INPUT_BOUND = 0.05  # share of the time that steps wait for photos, above which the log says so


def write_results(
    run: Run, result: BlendResult, views: Sequence, inputs: Path, seconds: float, augment: Callable
) -> None:
    """Write the results of a finished run, and remove its state unless time cut it short.

    `views` are rows of VIEWS, `seconds` those of this session so far, and outputs of earlier ones
    may be mounted below `inputs`. Raises OSError if a file that counts can't be written.
    """
    doing("writing the results")
    print(result.sentence(), flush=True)
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
    contract.write_arrays(output / contract.PROBABILITIES, arrays)
    metrics = _metrics_of(run, result, seconds)
    contract.write_metrics(output, metrics)
    write_model(run, result, views, inputs, metrics)
    _write_lists_and_figures(run, result, augment)
    if names := _untrained(run.state):
        print(f"The submission is of an untrained network ({'; '.join(names)}): give it more time.")
    run.state.end()
    print(f"{output / 'submission.csv'} is ready after {clock_text(seconds)}", flush=True)


def _metrics_of(run: Run, result: BlendResult, seconds: float) -> contract.Metrics:
    import tensorflow as tf  # the rest of this package does without

    config, members, tables, state = run.config, run.members, run.folds[0], run.state
    competition = tables.competition
    networks = dict.fromkeys((row["member"], row["fold"]) for row in state.history)
    return contract.Metrics(
        competition=competition.layout.slug or competition.folder.name,
        folder=str(competition.folder),
        ended=datetime.now().astimezone().isoformat(timespec="minutes"),
        recipe=config.recipe,
        backbone=config.backbone,
        image_size=list(_first_member(run).image_size),
        weights=Path(config.weights).name,
        seed=config.seed,
        train_images=len(tables.train),
        val_images=len(result.held_out),
        test_images=len(competition.test),
        excluded_images=len(competition.excluded),
        classes=competition.classes,
        stages=[
            stage_metrics(stage, state.rows_of(*network), *network, result.metric)
            for network in networks or [(state.member, state.fold)]
            for stage in members[network[0]].stages
        ],
        metric=competition.layout.metric,
        submission=competition.layout.submission,
        folds=config.folds,
        members=[_member_metrics(name, result) for name in result.members],
        blend=result.blend.method,
        command=_command_line(),
        time_limit=config.time_limit,
        jobs=state.jobs,
        seconds=seconds + state.earlier_seconds,
        peak_memory_mb=peak_memory_mb(),
        resumed=state.resumed,
        untrained=_untrained(state),
        stopped_by_time_limit=state.stopped_by_time_limit,
        devices=[device.name for device in tf.config.list_logical_devices()],
        versions=_versions(PACKAGES),
        packages=packages_found(),
        preflight=state.preflight,
        photos_at_once=state.photos_at_once(members),
        scouting=[contract.CandidateMetrics(**row) for row in state.scouting.get("rows", [])],
        **_scores_of(result),
    )


def _scores_of(result: BlendResult) -> dict:
    metric = result.metric
    low, high = metric.interval(result.validation, result.truth)
    folds = [fold for member in result.members.values() for fold in member.folds.values()]
    return {
        "greater_is_better": metric.greater,
        "score": result.score,
        "score_low": low,
        "score_high": high,
        "score_interval": metric.interval_method,
        "score_plain": result.score_plain,
        "score_tta": result.score_tta,
        "val_accuracy": result.accuracy_plain,
        "val_accuracy_tta": result.accuracy_tta,
        "tta_used": any(len(fold.views) > 1 for fold in folds),
        "val_accuracy_submitted": result.accuracy,
        "calibration_error": expected_calibration_error(result.validation, result.truth),
    }


def _member_metrics(name: str, result: BlendResult) -> contract.MemberMetrics:
    member = result.members[name]
    return contract.MemberMetrics(
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


def _command_line() -> str:
    """Return the command that made the run; the overrides that `ship` wrote are options too."""
    written = getattr(sys.modules["__main__"], "OVERRIDES", None) or {}
    options = [f"--{name.replace('_', '-')}={text}" for name, text in written.items()]
    return shlex.join(["python", *sys.argv, *options])


def _untrained(state: State) -> list[str]:
    """Return the networks of this run that no epoch has trained."""
    jobs = [(row["member"], row["fold"]) for row in state.jobs]
    return [f"{member}, fold {fold}" for member, fold in jobs if not state.rows_of(member, fold)]


def _first_member(run: Run):
    """Return the settings of the first network, by which a run of several is shown."""
    return next(iter(run.members.values()))


# ------------------------------------------------------------------------- lists and figures


def _write_lists_and_figures(run: Run, result: BlendResult, augment: Callable) -> None:
    """Write the lists of doubtful photos and the figures; warn where that fails."""
    output, tables, state, held_out = run.output, run.folds[0], run.state, result.held_out
    classes = tables.competition.classes

    def label_issues(path: Path) -> None:
        issues = find_label_issues(held_out, result.validation, result.truth, classes)
        write_list(with_marks(issues, path), path)

    def outliers(path: Path) -> None:
        distances = pd.DataFrame(state.outliers or [], columns=["Id", "distance"])
        table = distances.merge(tables.competition.train, on="Id")  # the farthest first
        write_list(with_marks(table[["Id", "label", "distance", "path"]], path), path)

    def figure(name: str, *content: object) -> Callable[[Path], None]:
        def write(path: Path) -> None:
            from kernelkit.report import figures  # late: an error of matplotlib ends no run

            figures.write_png(getattr(figures, name)(*content), path)

        return write

    predicted = np.asarray(classes)[result.validation.argmax(1)]
    writers: dict[str, Callable[[Path], None]] = {
        "class_balance.png": figure("class_balance", tables.class_counts()),
        "confusion_matrix.png": figure("confusion_matrix", held_out.label, predicted, classes),
        "augmented.png": lambda path: figure(
            "photo_grid", *augmented(_first_member(run), tables, augment), AUGMENTED + 1
        )(path),
        "excluded.csv": lambda path: write_list(tables.competition.excluded, path),
        "suspects.csv": label_issues,
        "unlike.csv": outliers,
    }
    if state.rows:
        writers["learning_curves.png"] = figure("learning_curves", pd.DataFrame(state.rows))
    for name, write in writers.items():
        try:
            write(output / name)
        except Exception as error:
            path = output / name
            print(f"{path} could not be written ({error}); the results are complete.", flush=True)


def augmented(config, tables: PhotoTables, augment: Callable) -> tuple[np.ndarray, list[str]]:
    """Return a few training photos with augmented ones, uint8 [n, h, w, 3], and their titles."""
    table = tables.train.drop_duplicates("label").head(MOST_PHOTOS)
    labels, table = table.label, table.drop(columns="label")
    columns = []
    for number in range(AUGMENTED + 1):
        flow = make_iterator(config, tables, table, augment(config) if number else None)
        flow.epoch = number  # the versions differ from each other
        columns.append(np.concatenate([flow[batch] for batch in range(len(flow))]))
    titles = [title for label in labels for title in (label, *["augmented"] * AUGMENTED)]
    return np.stack(columns, axis=1).reshape(-1, *columns[0].shape[1:]), titles


# ------------------------------------------------------------------------------------- stages


def stage_metrics(
    stage, history: Sequence[dict], member: str, fold: int, metric: Metric = METRICS["accuracy"]
) -> contract.StageMetrics:
    """Sum up the epochs that a stage of a network ran, of its rows in history.csv."""
    best = max if metric.greater else min
    rows = [row for row in history if row["stage"] == stage.name]
    speed = sum(row["images_per_second"] for row in rows) / len(rows) if rows else None
    seconds = sum(row["seconds"] for row in rows)
    waited = sum(row["input_bound"] * row["seconds"] for row in rows)
    return contract.StageMetrics(
        member=member,
        fold=fold,
        name=stage.name,
        share=stage.fraction,
        learning_rate=stage.learning_rate,
        epochs_run=len(rows),
        best_val_accuracy=max((row["val_accuracy"] for row in rows), default=None),
        best_val_score=best((row["val_score"] for row in rows), default=None),
        seconds=seconds,
        images_per_second=speed,
        input_bound=waited / seconds if seconds else None,
    )


def stage_sentence(config, stage, clock: Clock, opened: str) -> str:
    """Return a stage's last line in the log (`opened` trained), with advice if steps waited."""
    state = clock.state
    ran = stage_metrics(stage, state.rows, state.member, state.fold, state.metric)
    metric = state.settings.get("metric", "accuracy")
    line = (
        f"{clock.name(stage)} is over: {opened}, {ran.epochs_run} "
        f"epoch{'s' * (ran.epochs_run != 1)} in {ran.seconds:.0f} s, best val_{metric} "
        f"{ran.best_val_score or 0:.4f} (chosen so far {state.best_score or 0:.4f}), "
        f"{ran.images_per_second or 0:.0f} images/s, input-bound {ran.input_bound or 0:.0%}, "
        f"left {clock_text(clock.remaining())}"
    )
    if (ran.input_bound or 0) <= INPUT_BOUND:
        return line
    later = [row["input_bound"] for row in state.rows if row["stage"] == stage.name][1:]
    only_first = bool(later) and max(later) <= INPUT_BOUND
    return f"{line}\nSteps waited for photos{_faster_input(config, only_first)}"


def _faster_input(config, only_first: bool) -> str:
    cores = os.cpu_count() or 1
    if only_first:
        return " in the first epoch alone, which decodes them."
    if not config.cache:
        return ": `--cache yes` decodes each once."
    if not config.fuse:
        return ": `--fuse yes` runs the augmentation's transforms together."
    if config.workers < cores:
        return f": `--workers {cores}` uses every core."
    return ": smaller ones (`--image-size`) or a stronger backbone help."


# ------------------------------------------------------------------------------------ machine


def peak_memory_mb() -> float:
    """Return this process' largest resident memory in MiB."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    import resource  # Unix alone has it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed under this name"
    return found
