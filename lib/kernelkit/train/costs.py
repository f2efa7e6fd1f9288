"""What a run costs, computed from its settings alone. This module imports nothing slow."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kernelkit.config.views import passes_of

GPU_RATE = 5000.0
"""Billions of multiply-adds a second that two T4s pass forward in mixed precision, for a plan
before anything is measured. It is computed from published throughputs (at 336 px InceptionV3 1,150
images/s, Xception 720, EfficientNetV2-S 710), give or take half."""
CORE_RATE = 15.0
"""The same of one core of a processor, of which it does a third to three times as much."""
REPORT_SECONDS = 30.0
"""What results and report take after the last network, about."""


class Stage(Protocol):
    """The parts of a stage of the schedule that decide what it costs."""

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
    """Return what one photo costs in an epoch of a stage, in forward passes of the full size.

    A forward pass costs 1. A backward pass costs 2 for the fraction that trains: as many
    multiplications as the forward pass for the inputs, and again for the weights. A stage on cached
    features passes forward over the photos and their augmented views, once.
    """
    return (stage.views + 1 if stage.views else 1 + 2 * stage.fraction) * stage.scale**2


@dataclass(frozen=True)
class Phase:
    """A part of a job."""

    name: str
    """As the plan's table has it."""
    epochs: int
    """How often it goes over its photos."""
    photos: float
    """How many it goes over, all epochs together; of the full size where they only pass forward."""
    cost: float
    """What one of them costs, in forward passes of the full size."""
    stage: str = ""
    """The stage that trains through the network; "" where photos only pass forward."""

    @property
    def passes(self) -> float:
        """What the phase costs, in forward passes of the full size."""
        return self.photos * self.cost


@dataclass(frozen=True)
class JobShape:
    """What decides the cost of a member's jobs, besides the number of photos."""

    stages: Sequence[Stage]
    """Its schedule."""
    gmacs: float
    """Billions of multiply-adds of one forward pass of one photo of the full size."""
    passes: float
    """Prediction passes over validation and test photos."""

    def phases(self, train: int, validation: int, test: int) -> Iterator[Phase]:
        """Yield the phases of a job with these numbers of photos."""
        for s in self.stages:
            if s.views:
                yield Phase(s.name, 1, train * epoch_cost(s), 1.0)
            else:
                yield Phase(s.name, s.epochs, train * s.epochs, epoch_cost(s), s.name)
        epochs = sum(epochs_of(s) for s in self.stages)
        validated = validation * sum(epochs_of(s) * s.scale**2 for s in self.stages)
        yield Phase("validation", epochs, validated, 1.0)
        yield Phase("prediction", 1, self.passes * (validation + test), 1.0)

    def cost(self, train: int, validation: int, test: int) -> float:
        """Return what a job costs, in billions of multiply-adds, for these numbers of photos."""
        return self.gmacs * sum(phase.passes for phase in self.phases(train, validation, test))


def shape_of(member, row, passes: float) -> JobShape:
    """Return the shape of the jobs of a member, whose backbone has this row."""
    gmacs = row.gmacs * math.prod(member.image_size) / math.prod(row.size)
    return JobShape(member.stages, gmacs, passes)


def published_rate(gpu: bool) -> float:
    """Return the billions of multiply-adds a second that published throughputs promise here."""
    return GPU_RATE if gpu else CORE_RATE * (os.cpu_count() or 1)


def gpu_minutes(
    config, members: Mapping, backbones: Mapping, views: Sequence, photos: tuple[int, int]
) -> float:
    """Return the minutes that a run takes on two T4s, computed from published throughputs.

    Args:
        config: the kernel's settings: folds and validation_share.
        members: settings by name: backbone, image_size, stages, tta and tta_style.
        backbones: rows by name: gmacs at their size.
        views: of test-time augmentation.
        photos: how many there are to train and validate on, and how many to predict.
    """
    labelled, test = photos
    held = round(labelled * (1 / config.folds if config.folds > 1 else config.validation_share))
    cost = sum(
        shape_of(member, backbones[member.backbone], passes_of(member, views)).cost(
            labelled - held, held, test
        )
        for member in members.values()
    )
    return (config.folds * cost / GPU_RATE + REPORT_SECONDS) / 60
