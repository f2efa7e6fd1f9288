"""What a run costs, computed from its settings alone. This module imports nothing slow."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from kernelkit.config.members import scouts
from kernelkit.config.views import passes_of

# Billions of multiply-adds a second, for a plan before anything is measured. Of two T4s that pass
# forward in mixed precision: from published throughputs (at 336 px InceptionV3 1,150 images/s,
# Xception 720, EfficientNetV2-S 710), give or take half.
GPU_RATE = 5000.0
CORE_RATE = 15.0  # of one core of a processor, of which it does a third to three times as much
REPORT_SECONDS = 30.0  # that results and report take after the last network, about
LENGTHS = 1.5, 1.25, 1.0, 0.75  # of a schedule in a session that is filled, over the recipe's


class Stage(Protocol):
    """The fields of a stage of the schedule that decide what it costs."""

    name: str
    fraction: float
    learning_rate: float
    epochs: int
    scale: float
    views: int


def epochs_of(stage: Stage) -> int:
    """Return how many epochs' time a stage takes: one where it trains on cached features."""
    return 1 if stage.views else stage.epochs


def epoch_cost(stage: Stage) -> float:
    """Return the cost of one photo in an epoch of a stage, in forward passes of the full size.

    A forward pass costs 1. A backward pass costs 2 for the fraction that trains: as many
    multiplications as the forward pass for the inputs, and again for the weights. A stage on cached
    features passes forward over the photos and their augmented views, once.
    """
    return (stage.views + 1 if stage.views else 1 + 2 * stage.fraction) * stage.scale**2


def gmacs_of(member, backbones: Mapping) -> float:
    """Return the billions of multiply-adds of a photo's forward pass at a member's image size."""
    row = backbones[member.backbone]
    return row.gmacs * math.prod(member.image_size) / math.prod(row.size)


@dataclass(frozen=True)
class Phase:
    """A part of a job."""

    name: str  # as the plan's table has it
    epochs: int  # how often it goes over its photos
    photos: float  # of all epochs; of the full size where they only pass forward
    cost: float  # of one of them, in forward passes of the full size
    trains: bool = False  # whether it is a stage that trains through the network

    @property
    def passes(self) -> float:
        """The cost of the phase, in forward passes of the full size."""
        return self.photos * self.cost


@dataclass(frozen=True)
class Job:
    """A member's fold, and what decides its cost."""

    member: str
    fold: int  # from 0
    stages: Sequence[Stage]
    gmacs: float  # billions of multiply-adds of a forward pass of a photo of the full size
    passes: float  # of prediction, over validation and test photos
    train: int  # photos
    validation: int
    test: int

    @property
    def key(self) -> tuple[str, int]:
        """The member's name and the fold."""
        return self.member, self.fold

    def __str__(self) -> str:
        """Return the job's name for people."""
        return f"{self.member}, fold {self.fold}"

    @property
    def phases(self) -> list[Phase]:
        """Its phases, in order."""
        phases = [
            Phase(s.name, 1, self.train * epoch_cost(s), 1.0)
            if s.views
            else Phase(s.name, s.epochs, self.train * s.epochs, epoch_cost(s), True)
            for s in self.stages
        ]
        epochs = sum(epochs_of(s) for s in self.stages)
        validated = self.validation * sum(epochs_of(s) * s.scale**2 for s in self.stages)
        predicted = self.passes * (self.validation + self.test)
        validation = Phase("validation", epochs, validated, 1.0)
        return [*phases, validation, Phase("prediction", 1, predicted, 1.0)]

    @property
    def cost(self) -> float:
        """Its cost in billions of multiply-adds."""
        return self.gmacs * sum(phase.passes for phase in self.phases)


def jobs_of(
    members: Mapping, backbones: Mapping, views: Sequence, fold: int, photos: tuple[int, int, int]
) -> list[Job]:
    """Return the jobs of all members on a fold.

    Members are settings by name, `backbones` rows by name (gmacs at their size), `views` those of
    which a member's settings choose. `photos` are how many train, validate and are predicted.
    """
    return [
        Job(name, fold, m.stages, gmacs_of(m, backbones), passes_of(m, views), *photos)
        for name, m in members.items()
    ]


def gpu_minutes(
    config, members: Mapping, backbones: Mapping, views: Sequence, photos: tuple[int, int]
) -> float:
    """Return the minutes that a run takes on two T4s, computed from published throughputs.

    `config` has folds and validation_share, and where it scouts time_limit, which such a run fills;
    without a limit it trains each candidate at most once. `photos` is how many are labelled, and
    how many are to be predicted. The other arguments are those of `jobs_of`.
    """
    scouting = scouts(config)
    if scouting and config.time_limit:
        return config.time_limit
    labelled, test = photos
    held = round(labelled * (1 / config.folds if config.folds > 1 else config.validation_share))
    jobs = jobs_of(members, backbones, views, 0, (labelled - held, held, test))
    folds = 1 if scouting else config.folds
    return (folds * sum(job.cost for job in jobs) / GPU_RATE + REPORT_SECONDS) / 60


@dataclass(frozen=True)
class Filling:
    """The networks that fill a session."""

    members: list[str]  # names, the most wanted first
    length: float  # of their schedules' epochs, over the recipe's
    folds: int  # networks a member
    seconds: float  # that all of them take
    reason: str  # why these and no more, for people


def lengthened(stages: Sequence, length: float) -> tuple:
    """Return stages with `length` times the epochs, at least 1; those on cached features stay."""
    return tuple(
        s if s.views else replace(s, epochs=max(1, round(length * s.epochs))) for s in stages
    )


def seconds_of(job: Job, rate: float, length: float = 1.0) -> float:
    """Return the seconds of a job at `rate` billions of multiply-adds a second."""
    return replace(job, stages=lengthened(job.stages, length)).cost / rate


def fill_session(
    jobs: Sequence[Job], rates: Mapping[str, float], folds: int, seconds: float
) -> Filling:
    """Choose how many members, epochs and folds fill a session.

    Members come first: networks of different kinds gain most. Then each has the recipe's epochs,
    then as many folds as fit (folds took 12 % off the log loss of car photos where 20 in place of
    12 epochs took 5 %), and at last longer schedules. A member that does not fit with three
    quarters of its epochs is passed over; where not even one fits, the cheapest trains alone, and
    its `Clock` cuts the rest. `jobs` are of the members on one fold, the most wanted first;
    `rates`, by member, in billions of multiply-adds a second; `folds` the most networks of a
    member; `seconds` those that there are, perhaps infinity.
    """

    def took(chosen: Sequence[Job], length: float, count: int) -> float:
        return count * sum(seconds_of(job, rates[job.member], length) for job in chosen)

    def longest(count: int, most: float) -> float:
        fitting = [x for x in LENGTHS if x <= most and took(chosen, x, count) <= seconds]
        return max(fitting, default=min(LENGTHS))

    if math.isinf(seconds):
        names = [job.member for job in jobs]
        return Filling(names, 1.0, 1, took(jobs, 1.0, 1), "without a time limit each trains once")
    chosen: list[Job] = []
    for job in jobs:
        if took([*chosen, job], min(LENGTHS), 1) <= seconds:
            chosen.append(job)
    chosen = chosen or [min(jobs, key=lambda job: took([job], 1.0, 1))]
    length, count = longest(1, 1.0), 1
    while length == 1 and count < folds and took(chosen, 1.0, count + 1) <= seconds:
        count += 1
    if length == 1:
        length = longest(count, max(LENGTHS))
    names = [job.member for job in chosen]
    if len(chosen) < len(jobs):
        left_out = [job.member for job in jobs if job.member not in names]
        reason = f"{', '.join(left_out)} would not fit beside the others"
    elif length < 1:
        reason = "the recipe's epochs would not fit"
    elif count < folds:
        reason = f"{count + 1} folds would not fit"
    else:
        reason = "all fit, so what is left went into longer schedules"
    return Filling(names, length, count, took(chosen, length, count), reason)
