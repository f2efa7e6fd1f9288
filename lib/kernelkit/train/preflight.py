"""Before training: try real steps, and choose the fastest mode of taking them that works.

An out-of-memory error leaves fragments behind, and XLA or cuDNN may abort or hang: so steps are
tried in a process of their own, and after a failure the next trial gets a new one. This process
keeps away from the GPUs until that has ended.
"""

import dataclasses
import math
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import tensorflow as tf

from kernelkit.config.settings import size_text
from kernelkit.core.boundary import doing
from kernelkit.core.problem import Problem
from kernelkit.data.tables import PhotoTables
from kernelkit.train import devices
from kernelkit.train.costs import epoch_cost, gmacs_of
from kernelkit.train.preflight_worker import (
    NO_MEMORY,
    NOTHING,
    TOO_LARGE,
    WORKED,
    Trial,
    serve,
)
from kernelkit.train.state import State
from kernelkit.train.step_mode import (
    SAFEST,
    StepMode,
    allowed_precisions,
    set_precision,
    step_modes,
)

BUDGETS = {"quick": 180.0, "full": 3600.0}  # seconds
TRIAL_SHARE = 0.5  # of the budget that one trial may take at most
CHOICE_SHARE = 0.6  # of the budget in which further modes are tried
NO_ANSWER = "no answer"
START_LIMIT = 120.0  # seconds in which a process must have imported its modules
WIDTHS = (24, 9, 30, 14, 13, 8, 0)  # of a printed row


def choose_step_mode(
    config, members: Mapping, backbones: Mapping, tables: PhotoTables, state: State, factory
) -> tf.distribute.Strategy:
    """Choose how steps are taken in this session, note it in `state`, and return the strategy.

    Steps are tried where there is a GPU or where config.preflight is "full", unless that is "no" or
    an earlier session of the run did so on the same machine. Several workers try none. Raises
    Problem if they have a time limit, which they would reach at different steps.
    """
    doing("trying steps of training")
    if sentence := devices.unused_device():
        print(sentence, flush=True)
    precision = allowed_precisions(config.mixed_precision, devices.has_tensor_cores())[0]
    number, workers = devices.worker()
    here = devices.machine() if workers == 1 else ""
    if state.preflight.get("machine", here) != here:
        state.preflight, state.micro_batches, state.recomputed = {}, {}, {}
    if workers > 1:
        if config.time_limit:
            raise Problem("Several workers know no time limit: leave --time-limit out.")
        count = devices.make_strategy(0).num_replicas_in_sync  # before others ask for devices
        print(f"worker {number} of {workers}: {count} devices train together", flush=True)
        mode = StepMode(count, precision)
    elif (
        config.preflight == "no"
        or (config.preflight == "quick" and not devices.has_gpu())
        or all(stage.views for member in members.values() for stage in member.stages)
    ):
        mode = StepMode(devices.device_count(), precision)
    elif state.preflight:
        mode = StepMode(**state.step_mode)
        print(f"an earlier session of this run chose: {mode}", flush=True)
    else:
        mode = _preflight(config, members, backbones, tables, state, factory)
        state.preflight["machine"] = here
    state.step_mode = dataclasses.asdict(mode)
    state.save()
    set_precision(mode.precision)
    return devices.make_strategy(mode.devices)


def _preflight(config, members, backbones, tables, state, factory) -> StepMode:
    """Try steps, note in `state` what was measured, and return the mode to go on with."""
    budget = BUDGETS[config.preflight]
    print(f"preflight: trying steps of training, at most {budget:.0f} s")
    gains = devices.has_tensor_cores() or (devices.has_gpu() and config.preflight == "full")
    precisions = allowed_precisions(config.mixed_precision, gains)
    gmacs = {name: gmacs_of(member, backbones) for name, member in members.items()}
    with tempfile.TemporaryDirectory(prefix="preflight-") as folder:
        process = WorkerProcess(tables, factory, Path(folder) / "printed.txt")
        trials = Preflight(process, members, gmacs, budget, TRIAL_SHARE * budget)
        try:
            mode = trials.choose(step_modes(devices.device_count(), precisions))
        except NoWorker as failure:
            mode, trials.micro_batches, trials.recomputed = SAFEST, {}, {}
            print(f"no process to try steps in ({failure})", flush=True)
        finally:
            process.stop()
    seconds = time.monotonic() - trials.began
    print(f"preflight: {mode} (after {seconds:.0f} s)", flush=True)
    state.preflight = {
        "rows": trials.rows,
        "chosen": dataclasses.asdict(mode),
        "speeds": trials.speeds,
        "predict": trials.predict,
    }
    state.micro_batches, state.recomputed = trials.micro_batches, trials.recomputed
    return mode


@dataclass
class Preflight:
    """The trials of a session, and what they measured."""

    process: "WorkerProcess"  # makes them
    members: Mapping  # the settings of each member, by its name
    gmacs: Mapping[str, float]  # billions of multiply-adds of a photo's forward pass, by member
    budget: float  # seconds for all
    patience: float  # seconds for one
    rows: list[dict] = field(default_factory=list)  # one for each trial, in order
    speeds: dict[str, float] = field(default_factory=dict)  # photos a second, by "MEMBER/STAGE"
    micro_batches: dict[str, int] = field(default_factory=dict)  # likewise, unlike the mode's
    recomputed: dict[str, bool] = field(default_factory=dict)  # likewise, whether blocks are
    predict: dict[str, float] = field(default_factory=dict)  # photos a second, by member
    began: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Return the seconds of the budget that are left."""
        return self.began + self.budget - time.monotonic()

    def tasks(self) -> list[tuple[str, object]]:
        """Return members' names with stages through the network, the most expensive first."""
        found = [
            (name, stage)
            for name, config in self.members.items()
            for stage in config.stages
            if not stage.views
        ]
        return sorted(found, key=lambda task: -self.gmacs[task[0]] * epoch_cost(task[1]))

    def choose(self, modes: list[StepMode]) -> StepMode:
        """Return the fastest mode in which every step that was tried works; else SAFEST."""
        for mode, row in self._compare(modes):
            if self._check(mode, row):
                return mode
        self.micro_batches, self.recomputed = {}, {}
        return SAFEST

    def _compare(self, modes: list[StepMode]) -> list[tuple[StepMode, dict]]:
        """Try modes on the most expensive step; return those that work, and their rows."""
        task, found, tried, most = self.tasks()[0], [], set(), None
        for mode in modes:
            if found and self.left() < (1 - CHOICE_SHARE) * self.budget:
                break
            if most:  # those that follow need no less memory
                mode = mode.at_most(most.micro_batch)
                mode = mode.recomputing() if most.recompute else mode
            if mode in tried:
                continue
            tried.add(mode)
            fitted, row = self._fit(mode, *task)
            if row["outcome"] == WORKED:
                most = fitted
                found.append((fitted, row))
        return sorted(found, key=lambda pair: -pair[1]["images_per_second"])

    def _check(self, mode: StepMode, row: dict) -> bool:
        """Take the other steps in a mode while there is time; return whether all work."""
        self.micro_batches, self.recomputed = {}, {}
        self.speeds, self.predict = {}, {}
        first, *others = self.tasks()
        self._note(mode, mode, first, row)
        for name, config in self.members.items():
            largest = max(config.stages, key=lambda stage: stage.scale)
            if self.left() > 0:
                row = self._try(mode, name, largest, trains=False)
                self.predict |= {name: row["predict"]} if row["predict"] else {}
                if row["outcome"] not in (WORKED, NO_MEMORY):
                    return False
        for task in others:
            if self.left() > 0:
                fitted, row = self._fit(mode.at_most(None).recomputing(False), *task)
                if row["outcome"] != WORKED:
                    return False
                self._note(mode, fitted, task, row)
        return True

    def _note(self, mode: StepMode, fitted: StepMode, task: tuple, row: dict) -> None:
        """Note a task's speed, and where `mode` differs how it is taken."""
        member, stage = task
        self.speeds[f"{member}/{stage.name}"] = row["images_per_second"]
        if fitted.recompute != mode.recompute:
            self.recomputed[f"{member}/{stage.name}"] = fitted.recompute
        if fitted.micro_batch != mode.micro_batch:
            at_once = fitted.at_once(self.members[member].batch_size)
            self.micro_batches[f"{member}/{stage.name}"] = at_once

    def _fit(self, mode: StepMode, member: str, stage) -> tuple[StepMode, dict]:
        """Try a mode with fewer and fewer photos at once until they fit; return it and its row."""
        batch_size = self.members[member].batch_size
        return fitting(lambda each: self._try(each, member, stage), mode, batch_size)

    def _try(self, mode: StepMode, member: str, stage, trains: bool = True) -> dict:
        """Try a mode on a member's stage; return the trial's row, and keep and print it."""
        trial = Trial(mode, member, self.members[member], stage, trains)
        limit = min(self.patience, max(self.left(), self.budget / 10))
        row = trial.row() | self.process.take(trial, limit)
        self.rows.append(row)
        print(_row_text(row), flush=True)
        return row


def fitting(
    take: Callable[[StepMode], dict], mode: StepMode, batch_size: int
) -> tuple[StepMode, dict]:
    """Take steps with fewer and fewer photos at once until they fit; return the mode and answer."""
    row = take(mode)
    while row["outcome"] in (NO_MEMORY, TOO_LARGE):
        fits = row.pop("fits", None)
        smaller = mode.at_most(fits) if fits else mode.halved(batch_size)
        if fits == 0:
            smaller = mode.at_most(None).recomputing()
        if smaller is None:
            break
        mode, row = smaller, take(smaller)
    return mode, row


def _row_text(row: dict) -> str:
    speed, peak = row["images_per_second"] or row["predict"], row["peak_bytes"]
    cells = (
        f"{row['member']}/{row['stage']}",
        size_text(row["image_size"]),
        f"{row['devices']} x {row['precision']}"
        + ", XLA" * row["xla"]
        + ", again" * row["recompute"],
        f"{row['micro_batch'] or 'all'} at once",
        f"{speed:.0f} images/s" if speed else "-",
        f"{peak / 2**30:.1f} GB" if peak else "-",
        row["outcome"],
    )
    return "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True))


class NoWorker(Exception):
    """No process could be started to try steps in."""


class WorkerProcess:
    """A process that takes orders, one after another; a new one takes its place after a failure."""

    def __init__(self, *arguments):
        self.arguments = arguments  # of `serve`, after the connection
        self.process = self.connection = None

    def take(self, order, seconds: float) -> dict:
        """Return an order's outcome and figures, see `answer`. Raises NoWorker without one."""
        if self.process is None:
            self._start()
        try:
            self.connection.send(order)
            if self.connection.poll(seconds if math.isfinite(seconds) else None):
                found = self.connection.recv()
            else:
                found = NOTHING | {"outcome": f"{NO_ANSWER} within {seconds:.0f} s"}
        except (EOFError, OSError):
            self.process.join(10)
            found = NOTHING | {"outcome": f"the process ended ({self._ending()})"}
        if found["outcome"] not in (WORKED, TOO_LARGE):
            self.stop()
        return found

    def _start(self) -> None:
        """Start the process and wait until it takes orders."""
        context = multiprocessing.get_context("spawn")
        try:
            self.connection, theirs = context.Pipe()
            self.process = context.Process(target=serve, args=(theirs, *self.arguments))
            self.process.start()
            theirs.close()
            if not self.connection.poll(START_LIMIT):
                raise TimeoutError(f"it did not start within {START_LIMIT:.0f} seconds")
            self.connection.recv()
        except BaseException as error:
            self.stop()
            if isinstance(error, Exception):
                raise NoWorker(str(error) or "it ended while it started") from error
            raise

    def _ending(self) -> str:
        code = self.process.exitcode
        if code is not None and code < 0:
            with suppress(ValueError):
                return signal.Signals(-code).name
        return f"exit status {code}"

    def stop(self) -> None:
        """End the process and its children, and wait for its end."""
        if self.process is None:
            return
        self.connection.close()
        if self.process.pid:
            if hasattr(os, "killpg"):
                with suppress(OSError):
                    os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
            self.process.join()
        self.process = self.connection = None
