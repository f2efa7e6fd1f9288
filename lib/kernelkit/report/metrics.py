"""metrics.json: what a run measured. It is the contract with `ship` and other tools."""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernelkit.core.files import write_atomically
from kernelkit.core.metrics import METRICS, Metric
from kernelkit.core.progress import clock_text

if TYPE_CHECKING:
    from kernelkit.train.clock import Clock

INPUT_BOUND = 0.05  # share of the time that steps wait for photos, above which the log says so


@dataclass(frozen=True)
class StageMetrics:
    """What a stage of one network's schedule was, and how it went."""

    member: str
    """The network's member."""
    fold: int
    """The fold that it was validated on."""
    name: str
    """Its name in the schedule."""
    share: float
    """The fraction of the backbone that trained, 0 to 1."""
    learning_rate: float
    """The rate that the schedule gives the stage."""
    epochs_run: int
    """How many epochs were finished."""
    best_val_accuracy: float | None
    """The best of them, 0 to 1; None when no epoch was finished."""
    best_val_score: float | None
    """The best value of the competition's metric; None when no epoch was finished."""
    seconds: float
    """Time of these epochs, training and validation."""
    images_per_second: float | None
    """Training speed, the mean over the epochs; None when no epoch was finished."""
    input_bound: float | None
    """The fraction of the epochs' time in which steps waited for photos, 0 to 1; None when no epoch
    was finished."""

    @classmethod
    def of(
        cls,
        stage,
        history: Sequence[dict],
        member: str,
        fold: int,
        metric: Metric = METRICS["accuracy"],
    ) -> "StageMetrics":
        """Sum up the epochs that a stage ran.

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
        return cls(
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

    def sentence(self, name: str, opened: str, metric: str, chosen: float | None, left: str) -> str:
        """Return the line that ends a stage in the log.

        Args:
            name: what lines call the stage.
            opened: which layers trained.
            metric: the row of METRICS.
            chosen: its value on the validation photos at the epoch, of all stages so far, whose
                network is chosen; None before the first.
            left: the most time that the rest of the run can take, h:mm:ss.
        """
        best, epochs = self.best_val_score or 0, "epoch" if self.epochs_run == 1 else "epochs"
        return (
            f"{name} is over: {opened}, {self.epochs_run} {epochs} in "
            f"{self.seconds:.0f} s, best val_{metric} {best:.4f} (chosen so far {chosen or 0:.4f}),"
            f" {self.images_per_second or 0:.0f} images/s, input-bound {self.input_bound or 0:.0%},"
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
    ran = StageMetrics.of(stage, state.rows, state.member, state.fold, state.metric)
    metric, left = state.settings.get("metric", "accuracy"), clock_text(clock.remaining())
    said = ran.sentence(clock.name(stage), opened, metric, state.best_score, left)
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


@dataclass(frozen=True)
class MemberMetrics:
    """What a member of the blend is, and how good it is alone."""

    name: str
    """Its name in the settings."""
    backbone: str
    """The row of the kernel's BACKBONES."""
    image_size: list[int]
    """Height and width of its photos in pixels."""
    folds: list[int]
    """The folds that it finished."""
    views: list[list[str]]
    """The views of test-time augmentation that were used, of each fold."""
    val_accuracy: float
    """On the photos that all members were judged on, 0 to 1, with these views."""
    score: float
    """The metric's value on the same photos."""
    temperature: float
    """By which its logits are divided."""
    weight: float
    """In the blend; the weights add up to 1."""


@dataclass(frozen=True)
class Metrics:
    """The content of metrics.json; its fields are the file's names, in this order."""

    competition: str
    """Its name in its address at Kaggle; that of its folder where it is not known."""
    folder: str
    """The folder that its photos came from."""
    ended: str
    """When the results were written, as ISO 8601 has it, to the minute."""
    recipe: str
    """The row of the kernel's RECIPES that the settings started from."""
    backbone: str
    """The row of the kernel's BACKBONES."""
    image_size: list[int]
    """Height and width of the photos in pixels, as the network saw them."""
    weights: str
    """Where the backbone's weights came from: "imagenet", "drawn", "none", or a file's name."""
    seed: int
    """The seed of the split, the head and every augmentation."""
    train_images: int
    """How many photos trained."""
    val_images: int
    """How many photos validated."""
    test_images: int
    """How many rows the submission has."""
    excluded_images: int
    """How many rows and photos were left out; excluded.csv names them."""
    classes: list
    """The labels in the order of the probabilities' columns."""
    stages: list[StageMetrics]
    """One entry for each stage of the schedule."""
    metric: str
    """The competition's, as METRICS has it: "accuracy", "log-loss", ..."""
    greater_is_better: bool
    """Its direction."""
    score: float
    """Its value on the validation photos of what is submitted: all networks blended."""
    score_low: float
    """The lower end of the value's 95 % interval."""
    score_high: float
    """The upper end."""
    score_interval: str
    """How the interval was computed: "Wilson" or "percentile bootstrap over photos"."""
    score_plain: float
    """Its value of the plain prediction pass; of several networks the mean, by the weights of their
    members."""
    score_tta: float
    """The same of the mean over the chosen views of test-time augmentation."""
    submission: str
    """What is submitted: "label", "probability", "probabilities" or "best"."""
    val_accuracy: float
    """Accuracy on the validation photos, 0 to 1, of the plain prediction pass; of several networks
    the mean, by the weights of their members."""
    val_accuracy_tta: float
    """The same of the mean over the chosen views of test-time augmentation."""
    tta_used: bool
    """Whether any network predicted from more than the plain pass."""
    val_accuracy_submitted: float
    """Accuracy on the validation photos of what is submitted: all networks blended."""
    folds: int
    """Into how many folds the photos were divided; 1 is a single split."""
    members: list[MemberMetrics]
    """One entry for each member of the blend."""
    blend: str
    """How the weights were found: "single", "mean" or "greedy"."""
    calibration_error: float
    """The expected calibration error of what is submitted, on the validation photos, 0 to 1."""
    command: str
    """The command line that made the run, as a shell reads it."""
    time_limit: float | None
    """Minutes that the session might last; None without a limit."""
    jobs: list[dict]
    """One row for each network that trained: member, fold, cost (see `training.Plan`), seconds."""
    seconds: float
    """Time of the run, including finished epochs of earlier sessions."""
    peak_memory_mb: float
    """The process' largest resident memory in MiB."""
    resumed: bool
    """Whether the run went on from an earlier session."""
    untrained: list[str]
    """The networks that time left without any training, as "MEMBER, fold N"."""
    stopped_by_time_limit: bool
    """Whether the session's end cut training or prediction short."""
    devices: list[str]
    """TensorFlow's logical devices."""
    versions: dict[str, str]
    """Versions of Python and of the packages that decide the result."""
    packages: str
    """A hash of this project's packages, by which `ship` sees that the run was of its code."""
    preflight: dict
    """What was measured before the first stage, as `training.State` has it; {} if nothing was."""
    photos_at_once: dict[str, int]
    """How many photos a device took at once, by "MEMBER/STAGE", where memory has no room for its
    share of a batch."""

    def write(self, path: Path) -> None:
        """Write the file.

        Raises:
            OSError: it can't be written.
        """
        write_atomically(path, json.dumps(dataclasses.asdict(self), indent=1))
