"""The plan of a session: which member trains which fold, what that costs, and what still fits."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common import clock_text
from training.clock import Clock, Stage, epoch_cost, passes_of
from training.devices import has_gpu
from training.state import State

GPU_RATE = 5000.0
"""Billions of multiply-adds a second that two T4s pass forward in mixed precision, for a plan
before anything is measured. It is computed from published throughputs (at 336 px InceptionV3 1,150
images/s, Xception 720, EfficientNetV2-S 710), give or take half."""


@dataclass(frozen=True)
class JobShape:
    """What decides the cost of a member's jobs, besides the number of photos."""

    stages: Sequence[Stage]
    """Its schedule."""
    gmacs: float
    """Billions of multiply-adds of one forward pass of one photo of the full size."""
    passes: float
    """Prediction passes over validation and test photos."""

    def cost(self, train: int, validation: int, test: int) -> float:
        """Return what a job costs, in billions of multiply-adds, for these numbers of photos."""
        trained = sum(
            passes_of(s) * (train * epoch_cost(s) + validation * s.scale**2) for s in self.stages
        )
        return self.gmacs * (trained + self.passes * (validation + test))


@dataclass(frozen=True)
class Job:
    """A fold of a member."""

    member: str
    """The member's name."""
    fold: int
    """From 0."""
    cost: float
    """As its `JobShape` computes it."""
    images: int
    """How many photos one prediction pass goes over."""
    passes: float
    """Prediction passes over them."""


@dataclass
class Plan:
    """What is to be done, against the end of the session."""

    jobs: Sequence[Job]
    """In the order in which they run."""
    state: State
    """Has the finished jobs and their seconds."""
    end: float
    """When the session ends, in seconds of time.monotonic(); infinity without a limit."""
    rate: float | None = None
    """Billions of multiply-adds a second before a job is finished; None while it is unknown."""

    def seconds(self, job: Job) -> float:
        """Return how long a job will take; 0 while nothing is known.

        The member's own speed counts where it is known, then the slowest of the others: backbones
        differ in speed.
        """
        speeds = {row["member"]: row["seconds"] / row["cost"] for row in self.state.jobs}
        if speeds:
            return job.cost * speeds.get(job.member, max(speeds.values()))
        return job.cost / self.rate if self.rate else 0.0

    def later(self, job: Job) -> float:
        """Return the seconds of the jobs after `job`."""
        return sum(self.seconds(other) for other in self.jobs[self.jobs.index(job) + 1 :])

    def clock(self, job: Job, stages: Sequence[Stage]) -> Clock:
        """Return the clock of a job whose schedule is `stages`."""
        return Clock(self.state, stages, job.images, job.passes, self.end, self.later(job))

    def fits(self, job: Job) -> bool:
        """Return whether a job fits; the first of a run always starts, and is cut short."""
        return not self.state.jobs or self.seconds(job) <= self.end - time.monotonic()

    def table(self) -> str:
        """Return a line for each job: its share of the work and, once known, its time."""
        done = {(row["member"], row["fold"]): row["seconds"] for row in self.state.jobs}
        total, spent = sum(job.cost for job in self.jobs), 0.0
        left = self.end - time.monotonic()
        lines = [f"plan: {len(self.jobs)} networks, {len(done)} finished"]
        for job in self.jobs:
            line = f"  {job.member}, fold {job.fold}: {job.cost / total:.0%} of the work"
            if (job.member, job.fold) in done:
                line += f", took {clock_text(done[job.member, job.fold])}"
            elif seconds := self.seconds(job):
                spent += seconds
                line += f", about {clock_text(seconds)}" + (
                    "" if spent <= left else ", may not fit"
                )
            lines.append(line)
        if math.isfinite(left):
            lines.append(f"  {clock_text(left)} of the session are left")
        return "\n".join(lines)


def make_plan(
    members: Mapping,
    backbones: Mapping,
    passes: Mapping[str, float],
    parts: list,
    state: State,
    start: float,
    minutes: float | None,
) -> Plan:
    """Return the plan of a session: every member on a fold before any on the next fold.

    Args:
        members: settings by name: backbone, image_size (height and width) and stages.
        backbones: rows by name: gmacs at their size.
        passes: prediction passes of each member, in passes over photos of its size.
        parts: the run's photos, `photos.PhotoTables` of every fold.
        state: the run's.
        start: when the session began, in seconds of time.monotonic().
        minutes: of the session; None is no limit.
    """
    jobs = []
    for part in parts:
        train, validation, test = map(len, (part.train, part.validation, part.test))
        for name, member in members.items():
            shape = shape_of(member, backbones[member.backbone], passes[name])
            cost = shape.cost(train, validation, test)
            jobs.append(Job(name, part.fold, cost, validation + test, passes[name]))
    end = start + minutes * 60 if minutes else math.inf
    return Plan(jobs, state, end, GPU_RATE if has_gpu() else None)


def shape_of(member, row, passes: float) -> JobShape:
    """Return the shape of the jobs of a member, whose backbone has this row."""
    gmacs = row.gmacs * math.prod(member.image_size) / math.prod(row.size)
    return JobShape(member.stages, gmacs, passes)
