"""Before anything trains: try real steps, and go on with the fastest way to take them that works.

`kernelkit.train.child` has the process that tries them. This process keeps away from the GPUs
until that has ended.
"""

import dataclasses
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tensorflow as tf

from kernelkit.config.settings import size_text
from kernelkit.core.boundary import doing
from kernelkit.core.problem import Problem
from kernelkit.data.tables import PhotoTables
from kernelkit.train.child import Child, ChildFailed
from kernelkit.train.costs import epoch_cost, shape_of
from kernelkit.train.devices import (
    device_count,
    has_gpu,
    has_tensor_cores,
    machine,
    make_strategy,
    unused_device,
)
from kernelkit.train.precision import set_precision
from kernelkit.train.preflight_worker import NO_MEMORY, TOO_LARGE, WORKED, Makers, Trial
from kernelkit.train.state import State
from kernelkit.train.step_mode import Candidate, allowed_precisions, candidates, safest
from kernelkit.train.workers import worker

BUDGETS = {"quick": 180.0, "full": 3600.0}  # seconds
TRIAL_SHARE = 0.5  # of the budget that one trial may take at most
CHOICE_SHARE = 0.6  # of the budget in which further ways are tried


WIDTHS = (24, 9, 30, 14, 13, 8, 0)  # of a printed row


@dataclass
class Preflight:
    """The trials of a session, and what they found."""

    child: Child
    """Takes them."""
    members: Mapping
    """The settings of each member, by its name."""
    gmacs: Mapping[str, float]
    """What a forward pass of one photo costs each member, in billions of multiply-adds."""
    budget: float
    """The seconds that all may take."""
    patience: float
    """The seconds that one may take at most."""
    rows: list[dict] = field(default_factory=list)
    """One for each trial, in order."""
    micro_batches: dict[str, int] = field(default_factory=dict)
    """How many photos a device takes at once, by "MEMBER/STAGE", where the way has others."""
    speeds: dict[str, float] = field(default_factory=dict)
    """Photos a second of a training step, by "MEMBER/STAGE"."""
    predict: dict[str, float] = field(default_factory=dict)
    """Photos a second of a prediction, by member."""

    def __post_init__(self):
        self.began = time.monotonic()

    def left(self) -> float:
        """Return the seconds of the budget that are left."""
        return self.began + self.budget - time.monotonic()

    def tasks(self) -> list[tuple[str, object]]:
        """Return each member's name with each stage that trains through its network.

        The most expensive is the first: what it can do, the others can.
        """
        found = [
            (name, stage)
            for name, config in self.members.items()
            for stage in config.stages
            if not stage.views
        ]
        return sorted(found, key=lambda t: -self.gmacs[t[0]] * epoch_cost(t[1]))

    def take(self, candidate: Candidate, name: str, stage, steps: bool = True) -> dict:
        """Try a candidate on a member's stage; return the trial's row, and note it.

        Raises:
            ChildFailed: no process could be started.
        """
        trial = Trial(candidate, name, self.members[name], stage, steps)
        limit = min(self.patience, max(self.left(), self.budget / 10))
        row = trial.row() | self.child.take(trial, limit)
        self.rows.append(row)
        print(row_text(row), flush=True)
        return row

    def fit(self, candidate: Candidate, name: str, stage) -> tuple[Candidate, dict]:
        """Try a candidate with fewer and fewer photos at once until they fit into the memory.

        Returns:
            The last one tried, and its row.
        """
        row = self.take(candidate, name, stage)
        while row["outcome"] in (NO_MEMORY, TOO_LARGE):
            fits = row.pop("fits", None)
            smaller = candidate.halved(self.members[name].batch_size)
            if fits:
                smaller = candidate.at_most(fits)
            if smaller is None:
                break
            candidate, row = smaller, self.take(smaller, name, stage)
        return candidate, row

    def compare(self, ways: list[Candidate]) -> list[Candidate]:
        """Try ways of taking the most expensive step; return those that work, the fastest first."""
        (name, stage), found, tried, most = self.tasks()[0], [], set(), None
        for way in ways:
            if found and self.left() < (1 - CHOICE_SHARE) * self.budget:
                break
            if most:  # those that follow need no less memory
                way = way.at_most(most)
            if way in tried:
                continue
            tried.add(way)
            fitted, row = self.fit(way, name, stage)
            if row["outcome"] == WORKED:
                most = fitted.micro_batch
                found.append((row["images_per_second"], fitted))
        return [way for _, way in sorted(found, key=lambda pair: -pair[0])]

    def check(self, way: Candidate) -> bool:
        """Take the other steps in the chosen way while there is time; return whether all work."""
        self.micro_batches, self.speeds, self.predict = {}, {}, {}
        first, *others = self.tasks()
        self.note(way, way, first, self.row_of(way, first))
        for name in self.members:
            stage = max(self.members[name].stages, key=lambda stage: stage.scale)
            if self.left() > 0:
                row = self.take(way, name, stage, steps=False)
                self.predict |= {name: row["predict"]} if row["predict"] else {}
                if row["outcome"] not in (WORKED, NO_MEMORY):
                    return False
        for task in others:
            if self.left() > 0:
                whole = dataclasses.replace(way, micro_batch=None)
                fitted, row = self.fit(whole, *task)
                if row["outcome"] != WORKED:
                    return False
                self.note(way, fitted, task, row)
        return True

    def note(self, way: Candidate, fitted: Candidate, task: tuple, row: dict) -> None:
        """Note how fast a task was, and how many photos at once fitted where `way` has others."""
        name, stage = task
        self.speeds[f"{name}/{stage.name}"] = row["images_per_second"]
        if fitted != way:
            at_once = fitted.at_once(self.members[name].batch_size)
            self.micro_batches[f"{name}/{stage.name}"] = at_once

    def row_of(self, way: Candidate, task: tuple) -> dict:
        """Return the row of a way that worked on a task."""
        told = Trial(way, task[0], self.members[task[0]], task[1]).row()
        return next(
            row for row in self.rows if row["outcome"] == WORKED and told.items() <= row.items()
        )

    def choose(self, ways: list[Candidate]) -> Candidate:
        """Return the fastest way in which every step that was tried works; see `safest`."""
        for way in self.compare(ways):
            if self.check(way):
                return way
        self.micro_batches = {}
        return safest()


def choose_step(
    config,
    members: Mapping,
    backbones: Mapping,
    tables: PhotoTables,
    state: State,
    makers: Makers,
) -> tf.distribute.Strategy:
    """Set how steps are taken in this session, in `state` too; return the strategy.

    Steps are tried where there is a GPU or where config.preflight is "full", unless an earlier
    session of the run did so on the same machine.

    Args:
        config: the session's settings: preflight ("no", "quick" or "full") and mixed_precision.
        members: the settings of each member, by its name.
        backbones: rows by name: gmacs at their size.
        tables: the photos of a fold.
        state: the run's.
        makers: make the real step.
    """
    doing("trying steps of training")
    if sentence := unused_device():
        print(sentence, flush=True)
    if worker()[1] > 1:
        return join_workers(config, state)
    here = machine()
    if state.preflight.get("machine", here) != here:
        state.preflight, state.micro_batches = {}, {}
    precisions = allowed_precisions(config.mixed_precision, has_tensor_cores(), depthwise=True)
    way = Candidate(device_count(), precisions[0])
    if config.preflight == "full" or (config.preflight == "quick" and has_gpu()):
        if state.preflight:
            way = Candidate(**state.way)
            print(f"an earlier session of this run chose: {way.sentence()}", flush=True)
        else:
            way = preflight(config, members, backbones, tables, state, makers)
            state.preflight["machine"], state.way = here, dataclasses.asdict(way)
            state.save()
    state.way = dataclasses.asdict(way)
    set_precision(way.precision)
    return make_strategy(way.devices)


def join_workers(config, state: State) -> tf.distribute.Strategy:
    """Return the strategy of several workers; they try no steps, but go on as their GPUs suggest.

    Raises:
        Problem: the session has a time limit, which the workers would reach at different steps.
    """
    if config.time_limit:
        raise Problem("Several workers know no time limit: leave --time-limit out.")
    number, count = worker()
    strategy = make_strategy(0)  # before anything else asks for devices
    precisions = allowed_precisions(config.mixed_precision, has_tensor_cores(), depthwise=True)
    devices = strategy.num_replicas_in_sync
    print(f"worker {number} of {count}: {devices} devices train together", flush=True)
    way = Candidate(devices, precisions[0])
    state.way = dataclasses.asdict(way)
    set_precision(way.precision)
    return strategy


def preflight(config, members, backbones, tables, state, makers) -> Candidate:
    """Try steps, note in `state` what was found, and return the way to go on.

    The arguments are those of `choose_step`.
    """
    print(f"preflight: trying steps of training, at most {BUDGETS[config.preflight]:.0f} s")
    gains = has_tensor_cores() or (has_gpu() and config.preflight == "full")
    precisions = allowed_precisions(config.mixed_precision, gains, depthwise=True)
    with tempfile.TemporaryDirectory(prefix="preflight-") as folder:
        child = Child(tables, makers, Path(folder) / "said.txt")
        gmacs = {name: shape_of(m, backbones[m.backbone], 0).gmacs for name, m in members.items()}
        budget = BUDGETS[config.preflight]
        trials = Preflight(child, members, gmacs, budget, TRIAL_SHARE * budget)
        try:
            way = trials.choose(candidates(device_count(), precisions))
        except ChildFailed as failed:
            way, trials.micro_batches = safest(), {}
            print(f"no process to try steps in ({failed})", flush=True)
        finally:
            child.stop()
    seconds = time.monotonic() - trials.began
    print(f"preflight: {way.sentence()} (after {seconds:.0f} s)", flush=True)
    state.preflight = {
        "rows": trials.rows,
        "chosen": dataclasses.asdict(way) | {"recompute": False},
        "speeds": trials.speeds,
        "predict": trials.predict,
    }
    state.micro_batches = trials.micro_batches
    return way


def row_text(row: dict) -> str:
    """Return a row of the table of trials as a line."""
    speed, peak = row["images_per_second"] or row["predict"], row["peak_bytes"]
    cells = (
        f"{row['member']}/{row['stage']}",
        size_text(row["image_size"]),
        f"{row['devices']} x {row['precision']}" + ", XLA" * row["xla"],
        f"{row['micro_batch'] or 'all'} at once",
        f"{speed:.0f} images/s" if speed else "-",
        f"{peak / 2**30:.1f} GB" if peak else "-",
        row["outcome"],
    )
    return "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True))
