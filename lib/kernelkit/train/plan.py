"""The plan of a session: which member trains which fold, what that costs, and what still fits."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernelkit.config.views import passes_of
from kernelkit.core.boundary import doing
from kernelkit.core.progress import clock_text
from kernelkit.train.clock import Clock
from kernelkit.train.costs import (
    REPORT_SECONDS,
    JobShape,
    Phase,
    Stage,
    epoch_cost,
    published_rate,
    shape_of,
)
from kernelkit.train.devices import has_gpu
from kernelkit.train.state import State

ROW = "  {:<16} {:<16} {:>7} {:>10} {:>9}"  # of the table: network, phase, epochs, photos/s, time


@dataclass(frozen=True)
class Job:
    """A fold of a member."""

    member: str
    """The member's name."""
    fold: int
    """From 0."""
    shape: JobShape
    """What decides the cost."""
    train: int
    """How many photos train."""
    validation: int
    """How many validate."""
    test: int
    """How many are predicted."""

    @property
    def phases(self) -> list[Phase]:
        """Its phases, in order."""
        return list(self.shape.phases(self.train, self.validation, self.test))

    @property
    def cost(self) -> float:
        """What it costs, in billions of multiply-adds."""
        return self.shape.cost(self.train, self.validation, self.test)

    @property
    def images(self) -> int:
        """How many photos one prediction pass goes over."""
        return self.validation + self.test


@dataclass
class Plan:
    """What is to be done, against the end of the session.

    Speeds are those that were measured in the run, then those of the preflight, then those of other
    members. Those computed from published throughputs are shown, but leave nothing out.
    """

    jobs: Sequence[Job]
    """In the order in which they run."""
    state: State
    """Has the finished jobs and epochs with their seconds, and what the preflight measured."""
    end: float
    """When the session ends, in seconds of time.monotonic(); infinity without a limit."""
    published: float
    """Billions of multiply-adds a second that published throughputs promise of the machine."""
    done: Sequence[Job] = ()
    """Jobs that were finished before, in this run or another."""
    under_way: Clock | None = field(default=None, repr=False)
    """The clock of the job that was begun last."""
    said: list[str] = field(default_factory=list, repr=False)
    """What was said last to be left out."""

    def steps(self, member: str) -> dict[str, float]:
        """Return a member's measured training speeds by stage: billions of multiply-adds a second.

        Those of epochs of this run take the place of the preflight's.
        """
        shape = next(job.shape for job in self.jobs if job.member == member)
        costs = {s.name: shape.gmacs * epoch_cost(s) for s in shape.stages if not s.views}
        tried = self.state.preflight.get("speeds", {})
        found = {name: tried[f"{member}/{name}"] for name in costs if f"{member}/{name}" in tried}
        rows = [row for row in self.state.history if row["member"] == member]
        found |= {r["stage"]: r["images_per_second"] for r in rows if r["stage"] in costs}
        return {name: speed * costs[name] for name, speed in found.items() if speed > 0}

    def rate(self, job: Job, phase: Phase) -> tuple[float, bool]:
        """Return how fast a phase is, in billions of multiply-adds a second, and if measured."""
        own = self.steps(job.member)
        if phase.stage in own:
            return own[phase.stage], True
        if (predicted := self.predict_rate(job)) and not (phase.stage and own):
            return predicted, True
        if own:
            return min(own.values()), True
        others = [row["cost"] / row["seconds"] for row in self.state.jobs if row["seconds"] > 0]
        names = {other.member for other in self.jobs}
        others += [rate for name in names for rate in self.steps(name).values()]
        return (min(others), True) if others else (self.published, False)

    def predict_rate(self, job: Job) -> float:
        """Return how fast a member predicts, in billions of multiply-adds a second; 0 unknown."""
        speed = self.state.preflight.get("predict", {}).get(job.member, 0.0)
        if self.state.member == job.member and self.state.predict_rate:
            speed = self.state.predict_rate
        return speed * job.shape.gmacs

    def estimate(self, job: Job) -> tuple[float, bool]:
        """Return the seconds that the rest of a job will take, and whether they are measured."""
        begun = self.state.rows and (job.member, job.fold) == (self.state.member, self.state.fold)
        if begun:
            return (self.under_way or self.make_clock(job, job.shape.stages)).rest(), True
        own = [row for row in self.state.jobs if row["member"] == job.member]
        if own:
            return job.cost * own[-1]["seconds"] / own[-1]["cost"], True
        parts = [(phase, *self.rate(job, phase)) for phase in job.phases]
        seconds = sum(phase.passes * job.shape.gmacs / rate for phase, rate, _ in parts)
        return seconds, all(measured for _, _, measured in parts)

    def seconds(self, job: Job) -> float:
        """Return how long the rest of a job will take; 0 where only published speeds are known."""
        seconds, measured = self.estimate(job)
        return seconds if measured else 0.0

    def epoch_seconds(self, job: Job, stage: Stage) -> float:
        """Return what an epoch of a stage will take by the preflight; 0 where that is unknown."""
        phases = {phase.stage: phase for phase in job.phases}
        if stage.name not in self.steps(job.member) or not (predicted := self.predict_rate(job)):
            return 0.0
        step, _ = self.rate(job, phases[stage.name])
        forward = job.validation * stage.scale**2
        return job.shape.gmacs * (job.train * epoch_cost(stage) / step + forward / predicted)

    def unfinished(self) -> list[Job]:
        """Return the jobs that are not finished, in order."""
        done = {(row["member"], row["fold"]) for row in self.state.jobs}
        left = [job for job in self.jobs if job not in self.done]
        return [job for job in left if (job.member, job.fold) not in done]

    def jobs_to_run(self) -> Iterator[Job]:
        """Yield the jobs that are not finished and fit, each after the plan is printed."""
        for job in self.unfinished():
            if self.fits(job):
                print(self.table(), flush=True)
                yield job
            else:
                print(f"Time is up: {job.member}, fold {job.fold}, is left out.", flush=True)
                self.state.run_out_of_time()

    def kept(self) -> list[Job]:
        """Return the unfinished jobs that fit, after the cuts that are needed, in this order.

        Members go first, the last one before those above it, and then folds. A job that has begun
        stays, and so does the first of a run: its `Clock` cuts epochs and views.
        """
        kept, state = self.unfinished(), self.state
        if any(row.get("cut") for row in state.jobs):  # a later session goes on where this stands
            return []
        begun = [(state.member, state.fold)] if state.rows else []
        if not begun and not state.jobs:
            begun = [(job.member, job.fold) for job in kept[:1]]
        members = list(dict.fromkeys(job.member for job in self.jobs))
        folds = list(dict.fromkeys(job.fold for job in self.jobs))
        cuts: list[Callable[[Job], bool]] = [
            *(lambda job, name=name: job.member == name for name in members[:0:-1]),
            *(lambda job, fold=fold: job.fold == fold for fold in folds[::-1]),
        ]
        for cut in cuts:
            if sum(map(self.seconds, kept)) <= self.end - time.monotonic():
                break
            kept = [job for job in kept if (job.member, job.fold) in begun or not cut(job)]
        return kept

    def fits(self, job: Job) -> bool:
        """Return whether a job is kept."""
        return job in self.kept()

    def later(self, job: Job) -> float:
        """Return the seconds of the jobs after `job` that are kept."""
        after = self.jobs[self.jobs.index(job) + 1 :]
        return sum(self.seconds(other) for other in self.kept() if other in after)

    def clock(self, job: Job, stages: Sequence[Stage]) -> Clock:
        """Return the clock of a job, which begins, whose schedule is `stages`."""
        doing(f"training {job.member}")
        self.under_way = self.make_clock(job, stages)
        return self.under_way

    def make_clock(self, job: Job, stages: Sequence[Stage]) -> Clock:
        """Return a clock of a job."""
        return Clock(
            *(self.state, list(stages), job.images, job.shape.passes, self.end),
            later=lambda: self.later(job),
            forecast=lambda stage: self.epoch_seconds(job, stage),
            news=self.news,
            several=len(self.jobs) > 1,
        )

    def left_out(self) -> list[str]:
        """Return the names of the jobs that are left out by now."""
        kept = self.kept()
        return [f"{job.member}, fold {job.fold}" for job in self.unfinished() if job not in kept]

    def news(self) -> str:
        """Return a line where other jobs are left out than were before, else ""."""
        before, self.said = self.said, self.left_out()
        if self.said == before:
            return ""
        return f"plan revised: left out are {'; '.join(self.said) or 'none any more'}"

    def table(self) -> str:
        """Return a row for each phase of each member, a line for each job, and the end."""
        done = len(self.jobs) - len(self.unfinished())
        networks = f"{len(self.jobs)} network" + "s" * (len(self.jobs) > 1)
        lines = [f"plan: {networks}, {done} finished", ROW.format(*HEAD)]
        firsts = {job.member: job for job in reversed(self.jobs)}
        computed = False
        for job in reversed(firsts.values()):
            for phase in job.phases:
                rate, measured = self.rate(job, phase)
                seconds, computed = phase.passes * job.shape.gmacs / rate, computed or not measured
                photos = rate / job.shape.gmacs / phase.cost
                speed = f"{photos:.{int(photos < 10)}f}{' ' if measured else '*'}"
                lines.append(
                    ROW.format(job.member, phase.name, phase.epochs, speed, clock_text(seconds))
                )
        lines += [f"  {self.line(job)}" for job in self.jobs]
        self.said = self.left_out()
        if computed:
            lines.append("  * computed from published throughputs, not measured")
        return "\n".join([*lines, *self.ending()])

    def line(self, job: Job) -> str:
        """Return what the table says of a job."""
        name = f"{job.member}, fold {job.fold}"
        took = {(row["member"], row["fold"]): row["seconds"] for row in self.state.jobs}
        if (job.member, job.fold) in took:
            return f"{name}: took {clock_text(took[job.member, job.fold])}"
        if job in self.done:
            return f"{name}: was finished before"
        seconds, measured = self.estimate(job)
        text = f"{name}: about {clock_text(seconds)}{'' if measured else '*'}"
        return text if self.fits(job) else f"{text}, does not fit and is left out"

    def ending(self) -> list[str]:
        """Return the lines that tell when the work and the session end."""
        estimates = [self.estimate(job) for job in self.kept()]
        seconds, left = sum(s for s, _ in estimates) + REPORT_SECONDS, self.end - time.monotonic()
        text = f"  with the report (about {clock_text(REPORT_SECONDS)}) it ends at {at(seconds)}, "
        lines = [f"{text}in {clock_text(seconds)}"]
        if math.isfinite(left):
            lines.append(f"  the session ends at {at(left)}, in {clock_text(max(0, left))}")
        if seconds > left:
            lines.append(
                "  too long: cut are members, folds, epochs of the last stage and views, in this "
                "order, as soon as measured speeds say so; there is always a submission"
            )
        return lines


@dataclass(frozen=True)
class Run:
    """What a run is."""

    config: Any
    """The settings of the session."""
    members: Mapping[str, Any]
    """The settings of each member, by its name."""
    folds: Sequence[Any]
    """The photos, `photos.PhotoTables` of every fold."""
    state: State
    """How far it has come."""
    plan: Plan
    """Which jobs fit into the session."""
    output: Path
    """The folder of its results."""


HEAD = "network", "phase", "epochs", "photos/s", "time"


def at(seconds: float) -> str:
    """Return the time of day in so many seconds."""
    return time.strftime("%H:%M", time.localtime(time.time() + seconds))


def make_plan(
    members: Mapping,
    backbones: Mapping,
    views: Sequence,
    parts: list,
    state: State,
    start: float,
    minutes: float | None,
) -> Plan:
    """Return the plan of a session: every member on a fold before any on the next fold.

    Args:
        members: settings by name: backbone, image_size (height and width) and stages.
        backbones: rows by name: gmacs at their size.
        views: of test-time augmentation, of which a member's settings choose.
        parts: the run's photos, `photos.PhotoTables` of every fold.
        state: the run's.
        start: when the session began, in seconds of time.monotonic().
        minutes: of the session; None is no limit.
    """
    jobs = []
    for part in parts:
        numbers = map(len, (part.train, part.validation, part.test))
        counts = dict(zip(("train", "validation", "test"), numbers, strict=True))
        for name, member in members.items():
            shape = shape_of(member, backbones[member.backbone], passes_of(member, views))
            jobs.append(Job(name, part.fold, shape, **counts))
    end = start + minutes * 60 if minutes else math.inf
    return Plan(jobs, state, end, published_rate(has_gpu()))
