"""metrics.json: what a run measured. It is the contract with `ship` and other tools."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kernelkit.core.contract import StageMetrics
from kernelkit.core.metrics import METRICS, Metric
from kernelkit.core.progress import clock_text

if TYPE_CHECKING:
    from kernelkit.train.plan import Clock

INPUT_BOUND = 0.05  # share of the time that steps wait for photos, above which the log says so


def stage_metrics(
    stage,
    history: Sequence[dict],
    member: str,
    fold: int,
    metric: Metric = METRICS["accuracy"],
) -> StageMetrics:
    """Sum up the epochs that a stage of a network ran.

    Args:
        stage: has name, fraction and learning_rate.
        history: one row for each epoch of the network, as history.csv has it.
        member: the network's.
        fold: the network's.
        metric: the competition's.
    """
    best = max if metric.greater else min
    rows = [row for row in history if row["stage"] == stage.name]
    speed = sum(row["images_per_second"] for row in rows) / len(rows) if rows else None
    seconds = sum(row["seconds"] for row in rows)
    waited = sum(row.get("input_bound", 0.0) * row["seconds"] for row in rows)
    return StageMetrics(
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


def sentence_of(
    ran: StageMetrics, name: str, opened: str, metric: str, chosen: float | None, left: str
) -> str:
    """Return the line that ends a stage in the log."""
    best, epochs = ran.best_val_score or 0, "epoch" if ran.epochs_run == 1 else "epochs"
    return (
        f"{name} is over: {opened}, {ran.epochs_run} {epochs} in "
        f"{ran.seconds:.0f} s, best val_{metric} {best:.4f} (chosen so far {chosen or 0:.4f}),"
        f" {ran.images_per_second or 0:.0f} images/s, input-bound {ran.input_bound or 0:.0%},"
        f" left {left}"
    )


def stage_sentence(config, stage, clock: "Clock", opened: str) -> str:
    """Return the line that ends a stage in the log, and one of what would help if it waited.

    Args:
        config: the kernel's settings: cache, fuse and workers.
        stage: as in `StageMetrics.of`.
        clock: of the job.
        opened: which layers trained.
    """
    state = clock.state
    ran = stage_metrics(stage, state.rows, state.member, state.fold, state.metric)
    metric, left = state.settings.get("metric", "accuracy"), clock_text(clock.remaining())
    said = sentence_of(ran, clock.name(stage), opened, metric, state.best_score, left)
    if (ran.input_bound or 0) <= INPUT_BOUND:
        return said
    later = [row.get("input_bound", 0.0) for row in state.rows if row["stage"] == stage.name][1:]
    return f"{said}\n{feeding_advice(config, bool(later) and max(later) <= INPUT_BOUND)}"


def feeding_advice(config, only_first: bool) -> str:
    """Return what would help where steps wait for photos; the first epoch decodes them."""
    cores = os.cpu_count() or 1
    if only_first:
        return "Steps waited for photos in the first epoch alone, which decodes them."
    if not config.cache:
        return "Steps waited for photos: `--cache yes` decodes each once."
    if not config.fuse:
        return "Steps waited for photos: `--fuse yes` runs the augmentation's transforms together."
    if config.workers < cores:
        return f"Steps waited for photos: `--workers {cores}` uses every core."
    return "Steps waited for photos: smaller ones (`--image-size`) or a stronger backbone help."
