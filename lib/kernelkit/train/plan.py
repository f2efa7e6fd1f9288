"""The plan of a session and its clock: what each job costs, and what still fits."""

import dataclasses
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernelkit.core.boundary import doing
from kernelkit.core.progress import clock_text
from kernelkit.train.costs import (
    CORE_RATE,
    GPU_RATE,
    REPORT_SECONDS,
    Job,
    Phase,
    Stage,
    epoch_cost,
    epochs_of,
    jobs_of,
)
from kernelkit.train.devices import has_gpu
from kernelkit.train.state import State

PREDICTION_OVERHEAD = 1.1  # loading weights and writing files come on top of the passes
ROW = "  {:<16} {:<16} {:>7} {:>10} {:>9}"  # of the table
HEAD = "network", "phase", "epochs", "photos/s", "time"


class OutOfTime(Exception):
    """Training must stop so that the prediction still fits into the session."""


@dataclass
class Plan:
    """The jobs of a session, against its end.

    Speeds are those that were measured in the run, then those of the preflight, then those of other
    members. Those computed from published throughputs are shown, but leave nothing out.
    """

    jobs: Sequence[Job]  # in the order in which they run
    state: State  # has measured seconds and speeds
    end: float  # of the session, in seconds of time.monotonic(); infinity without a limit
    published: float  # billions of multiply-adds a second, by published throughputs
    done: Sequence[Job] = ()  # finished before, in this run or another
    under_way: "Clock | None" = field(default=None, repr=False)  # of the job that was begun last
    shown: list[str] = field(default_factory=list, repr=False)  # jobs last shown to be left out

    def begin(self, job: Job) -> "Clock":
        """Begin a job, or go on with it; return its clock."""
        doing(f"training {job.member}")
        self.state.begin_job(*job.key)
        self.under_way = Clock(self, job, list(job.stages))
        return self.under_way

    def jobs_to_run(self) -> Iterator[Job]:
        """Yield the jobs that are not finished and fit, each after the plan is printed."""
        for job in self.unfinished():
            if job in self.kept():
                print(self.table(), flush=True)
                yield job
            else:
                print(f"Time is up: {job}, is left out.", flush=True)
                self.state.run_out_of_time()

    def unfinished(self) -> list[Job]:
        """Return the jobs that are not finished, in order."""
        done = {(row["member"], row["fold"]) for row in self.state.jobs}
        return [job for job in self.jobs if job not in self.done and job.key not in done]

    def kept(self) -> list[Job]:
        """Return the unfinished jobs that fit, after the cuts that are needed, in this order.

        Members go first, the last one before those above it, and then folds. A job that has begun
        stays, and so does the first of a run: its `Clock` cuts epochs and views.
        """
        kept, state = self.unfinished(), self.state
        if any(row.get("cut") for row in state.jobs):  # a later session goes on with that job
            return []
        begun = [(state.member, state.fold)] if state.rows else []
        if not begun and not state.jobs:
            begun = [job.key for job in kept[:1]]
        members = list(dict.fromkeys(job.member for job in self.jobs))
        folds = list(dict.fromkeys(job.fold for job in self.jobs))
        for cut in [*members[:0:-1], *folds[::-1]]:  # a member's name or a fold's number
            if sum(map(self.seconds, kept)) <= self.end - time.monotonic():
                break
            kept = [job for job in kept if job.key in begun or cut not in job.key]
        return kept

    def later(self, job: Job) -> float:
        """Return the seconds of the jobs after `job` that are kept."""
        after = self.jobs[self.jobs.index(job) + 1 :]
        return sum(self.seconds(other) for other in self.kept() if other in after)

    # --------------------------------------------------------------------------------- estimates

    def seconds(self, job: Job) -> float:
        """Return how long the rest of a job will take; 0 where only published speeds are known."""
        seconds, measured = self.estimate(job)
        return seconds if measured else 0.0

    def estimate(self, job: Job) -> tuple[float, bool]:
        """Return the seconds that the rest of a job will take, and whether they are measured."""
        if self.state.rows and job.key == (self.state.member, self.state.fold):
            return (self.under_way or Clock(self, job, list(job.stages))).rest(), True
        own = [row for row in self.state.jobs if row["member"] == job.member]
        if own:
            return job.cost * own[-1]["seconds"] / own[-1]["cost"], True
        rates = [(phase, *self.rate(job, phase)) for phase in job.phases]
        seconds = sum(phase.passes * job.gmacs / rate for phase, rate, _ in rates)
        return seconds, all(measured for _, _, measured in rates)

    def epoch_seconds(self, job: Job, stage: Stage) -> float:
        """Return the seconds of an epoch of a stage by measured speeds; 0 where none is known."""
        phase = next(each for each in job.phases if each.name == stage.name)
        if stage.name not in self._step_rates(job.member) or not (rate := self._predict_rate(job)):
            return 0.0
        step, _ = self.rate(job, phase)
        forward = job.validation * stage.scale**2
        return job.gmacs * (job.train * epoch_cost(stage) / step + forward / rate)

    def rate(self, job: Job, phase: Phase) -> tuple[float, bool]:
        """Return how fast a phase is, in billions of multiply-adds a second, and if measured."""
        own = self._step_rates(job.member)
        if phase.trains and phase.name in own:
            return own[phase.name], True
        if (predicted := self._predict_rate(job)) and not (phase.trains and own):
            return predicted, True
        if own:
            return min(own.values()), True
        others = [row["cost"] / row["seconds"] for row in self.state.jobs if row["seconds"] > 0]
        names = {other.member for other in self.jobs}
        others += [rate for name in names for rate in self._step_rates(name).values()]
        return (min(others), True) if others else (self.published, False)

    def _step_rates(self, member: str) -> dict[str, float]:
        """Return a member's training speeds by stage, as `rate`: the run's, or the preflight's."""
        job = next(job for job in self.jobs if job.member == member)
        costs = {s.name: job.gmacs * epoch_cost(s) for s in job.stages if not s.views}
        tried = self.state.preflight.get("speeds", {})
        found = {name: tried[f"{member}/{name}"] for name in costs if f"{member}/{name}" in tried}
        rows = [row for row in self.state.history if row["member"] == member]
        found |= {r["stage"]: r["images_per_second"] for r in rows if r["stage"] in costs}
        return {name: speed * costs[name] for name, speed in found.items() if speed > 0}

    def _predict_rate(self, job: Job) -> float:
        """Return how fast a member predicts, in billions of multiply-adds a second; 0 unknown."""
        scouted = self.state.scouting.get("speeds", {}).get(job.member, 0.0)
        speed = self.state.preflight.get("predict", {}).get(job.member, scouted)
        if self.state.member == job.member and self.state.predict_rate:
            speed = self.state.predict_rate
        return speed * job.gmacs

    # --------------------------------------------------------------------------------------- text

    def news(self) -> str:
        """Return a line where other jobs are left out than were before, else ""."""
        before, self.shown = self.shown, self._left_out()
        if self.shown == before:
            return ""
        return f"plan revised: left out are {'; '.join(self.shown) or 'none any more'}"

    def _left_out(self) -> list[str]:
        kept = self.kept()
        return [str(job) for job in self.unfinished() if job not in kept]

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
                computed = computed or not measured
                photos, seconds = rate / job.gmacs / phase.cost, phase.passes * job.gmacs / rate
                speed = f"{photos:.{int(photos < 10)}f}{' ' if measured else '*'}"
                cells = job.member, phase.name, phase.epochs, speed, clock_text(seconds)
                lines.append(ROW.format(*cells))
        took = {(row["member"], row["fold"]): row["seconds"] for row in self.state.jobs}
        kept = self.kept()
        for job in self.jobs:
            if job.key in took:
                text = f"took {clock_text(took[job.key])}"
            elif job in self.done:
                text = "was finished before"
            else:
                seconds, measured = self.estimate(job)
                text = f"about {clock_text(seconds)}{'' if measured else '*'}"
                text += "" if job in kept else ", does not fit and is left out"
            lines.append(f"  {job}: {text}")
        self.shown = self._left_out()
        if computed:
            lines.append("  * computed from published throughputs, not measured")
        return "\n".join([*lines, *self._ending(kept)])

    def _ending(self, kept: Sequence[Job]) -> list[str]:
        seconds = sum(self.estimate(job)[0] for job in kept) + REPORT_SECONDS
        left = self.end - time.monotonic()
        text = f"  with the report (about {clock_text(REPORT_SECONDS)}) it ends at "
        lines = [f"{text}{_at(seconds)}, in {clock_text(seconds)}"]
        if math.isfinite(left):
            lines.append(f"  the session ends at {_at(left)}, in {clock_text(max(0, left))}")
        if seconds > left:
            lines.append(
                "  too long: cut are members, folds, epochs of the last stage and views, in this "
                "order, as soon as measured speeds say so; there is always a submission"
            )
        return lines


@dataclass
class Clock:
    """Decides whether the next epoch or prediction pass of a job still fits into the session."""

    plan: Plan
    job: Job
    stages: list[Stage]  # the last one may have fewer epochs than the job's

    @property
    def state(self) -> State:
        """The run's state, whose history has the measured seconds."""
        return self.plan.state

    @property
    def network(self) -> str:
        """The network's name in lines; "" where it is the only one."""
        return str(self.job) if len(self.plan.jobs) > 1 else ""

    def name(self, stage: Stage) -> str:
        """Return a stage's name in lines."""
        return ", ".join(filter(None, (self.network, f"stage {stage.name}")))

    def left(self) -> float:
        """Return the seconds until the session ends."""
        return self.plan.end - time.monotonic()

    def note_prediction(self, images: float, seconds: float) -> None:
        """Remember how fast photos are predicted, from a pass over `images` of them."""
        self.state.predict_rate = images / max(seconds, 1e-6)

    def predict_seconds(self, passes: float, rate: float | None = None) -> float:
        """Return the seconds of so many prediction passes, by photos a second; 0 if unknown."""
        rate = self.state.predict_rate if rate is None else rate
        images = self.job.validation + self.job.test
        return PREDICTION_OVERHEAD * passes * images / rate if rate else 0.0

    def epoch_seconds(self, number: int) -> float:
        """Return the seconds of an epoch of a stage: of its last one, or as the plan forecasts.

        Where there is neither it is the last epoch of any stage, scaled by `epoch_cost`.
        """
        rows, stage = self.state.rows, self.stages[number]
        if own := [row["seconds"] for row in rows if row["stage"] == stage.name]:
            return own[-1]
        if forecast := self.plan.epoch_seconds(self.job, stage):
            return forecast
        if not rows:
            return 0.0
        cost = {stage.name: epoch_cost(stage) for stage in self.stages}
        return rows[-1]["seconds"] * cost[stage.name] / cost[rows[-1]["stage"]]

    def fit_epochs(self, number: int) -> Stage:
        """Return a stage; the last one with as many epochs as fit, also in later sessions."""
        state, stage, last = self.state, self.stages[number], len(self.stages) - 1
        if number == last and not state.last_epochs and (one := self.epoch_seconds(last)):
            free = self.left() - self.predict_seconds(self.job.passes)
            fitting = max(1, math.floor(free / one)) if free < stage.epochs * one else stage.epochs
            if fitting < epochs_of(stage):
                print(f"{self.name(stage)} runs {fitting} of {stage.epochs} epochs: no more fit.")
                state.last_epochs = fitting
                state.run_out_of_time()
        if number == last and state.last_epochs and not stage.views:
            epochs = min(state.last_epochs, stage.epochs)
            self.stages[last] = dataclasses.replace(stage, epochs=epochs)
        return self.stages[number]

    def rest(self) -> float:
        """Return the most seconds that the rest of the job can take."""
        state, seconds = self.state, self.predict_seconds(self.job.passes)
        for number in range(state.stage, len(self.stages)):
            left = epochs_of(self.stages[number])
            if number == state.stage:
                left = 0 if state.stage_over else left - state.epoch
            seconds += left * self.epoch_seconds(number)
        return seconds

    def remaining(self) -> float:
        """Return the most seconds that the rest of the run can take."""
        return min(self.rest() + self.plan.later(self.job), self.left())

    def check_epoch(self) -> None:
        """Raise OutOfTime where the next epoch (not the first) and the prediction don't fit."""
        need = self.predict_seconds(self.job.passes) + self.epoch_seconds(self.state.stage)
        if self.state.rows and need > self.left():
            raise OutOfTime

    def check_batch(self, rate: float) -> None:
        """Raise OutOfTime when a running epoch endangers the prediction.

        The training speed `rate`, in photos a second, stands in for the prediction's while that is
        unknown. Before anything has been validated time for one plain pass is kept, later for all.
        """
        passes = self.job.passes if self.state.best else 1
        if self.predict_seconds(passes, self.state.predict_rate or rate) > self.left():
            raise OutOfTime

    def pass_fits(self, passes: float = 1) -> bool:
        """Return whether one more prediction pass fits; one over larger photos counts for more."""
        return self.predict_seconds(passes) <= self.left()


@dataclass(frozen=True)
class Run:
    """A run: what it trains, with what, and where its results go."""

    config: Any  # the settings of the session
    members: Mapping[str, Any]  # the settings of each member, by its name
    folds: Sequence[Any]  # `PhotoTables` of every fold
    state: State  # how far it has come
    plan: Plan  # which jobs fit into the session
    output: Path  # the folder of its results


def make_plan(
    members, backbones, views, folds: Sequence, state: State, start: float, minutes: float | None
) -> Plan:
    """Return the plan of a session: every member on a fold before any on the next fold.

    `start` is when the session began, in seconds of time.monotonic(), and `minutes` its length,
    None without a limit. The other arguments are those of `jobs_of`.
    """
    jobs = []
    for tables in folds:
        photos = len(tables.train), len(tables.validation), len(tables.test)
        jobs += jobs_of(members, backbones, views, tables.fold, photos)
    end = start + minutes * 60 if minutes else math.inf
    published = GPU_RATE if has_gpu() else CORE_RATE * (os.cpu_count() or 1)
    return Plan(jobs, state, end, published)


def _at(seconds: float) -> str:
    """Return the time of day in so many seconds."""
    return time.strftime("%H:%M", time.localtime(time.time() + seconds))
