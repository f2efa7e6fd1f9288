"""The runs of a sweep: pushed two at a time, followed and fetched until nothing is left to do."""

import contextlib
import re
import time
from collections import defaultdict
from dataclasses import dataclass

from kernelkit.core.locks import Occupied
from kernelkit.core.problem import Problem
from ship.commands.doctor import Concern, GpuTime, gpu_time
from ship.commands.fetch import fetch, is_verified
from ship.commands.live_runs import ENDS, StatusPoll
from ship.commands.push import NotTaken, push, settle_push
from ship.context import Context, ShownConfig
from ship.kaggle.client_process import CredentialsRefused, Unavailable
from ship.ledger import LOST, Run, settings_text
from ship.output import progress_lines, say
from ship.project.versions import known_run

SESSIONS = 2  # that Kaggle lets one user have at once
FULL = re.compile(r"session|quota", re.IGNORECASE)  # refusals that pass by themselves


@dataclass
class Cell:
    """One combination of the grid's settings."""

    chosen: dict[str, str]  # its values of the fields that the grid varies
    settings: dict[str, str]
    config: ShownConfig
    wanted: Run  # the record of its run, without a version
    ignored: frozenset[str] = frozenset()  # runs that failed before and are to be run once more
    any_limit: bool = True  # a run counts whatever its time limit was, because nobody has named one

    def run(self, context: Context) -> Run | None:
        """Return the newest run of this setting, None without one."""
        return known_run(context, self.wanted, self.ignored, self.any_limit)


def weights_of(cells: list[Cell]) -> list[str]:
    """Return the weights files of all cells, which the dataset needs."""
    return sorted({name for cell in cells for name in cell.config.weights_files})


@dataclass
class Fetching:
    """For how long a run's output could not be fetched while Kaggle answered other questions."""

    seconds: float = 0.0
    why: str = ""


class Sweep:
    """Pushes, follows and fetches the cells until nothing more can be done for them.

    What stays out of reach while Kaggle answers other questions is given up for its cell alone.
    Where Kaggle has no session or GPU time left, a push is tried when a run has ended, and every
    few minutes: the sessions may be those of another project.
    """

    def __init__(self, context: Context, cells: list[Cell]):
        self.context, self.cells = context, cells
        self.polls: dict[str, StatusPoll] = {}
        self.statuses: dict[str, str] = {}  # the last that was printed of each run
        self.fetching: defaultdict[str, Fetching] = defaultdict(Fetching)
        self.unanswered: list[StatusPoll | Fetching] = []
        self.refused = ""  # why Kaggle took no run, until it takes one
        self.next_push = 0.0  # when to try again, in seconds of the monotonic clock
        self.stopped: Problem | None = None  # why nothing more is pushed

    def finish(self) -> None:
        """Do all that can be done, and wait out outages; only CredentialsRefused ends it."""
        remote, started = self.context.remote, time.monotonic()
        with progress_lines() as show, remote.patient(0):
            for pause in self.context.timeouts.polls():
                before, self.unanswered = remote.answers, []
                live = self.context.ledger.live_runs()
                under_way = sum([self._takes_session(run, pause) for run in live])
                self._fetch_ended(pause)
                waiting = [cell for cell in self.cells if cell.run(self.context) is None]
                for cell in waiting[: max(0, SESSIONS - under_way)]:
                    if self.stopped or not self._may_push() or not self._push(cell):
                        break
                    under_way += 1
                if all(self._is_settled(cell) for cell in self.cells):
                    return
                if self.unanswered and remote.answers == before:
                    self._gpu_time()  # or is it Kaggle that gives no answer?
                if remote.answers > before:
                    for one in self.unanswered:
                        one.seconds += pause
                state = f"{under_way} under way, {len(waiting)} waiting"
                self.context.doing(f"running the sweep ({state})")
                show(f"{state}, {(time.monotonic() - started) / 60:.0f} min")
                remote.wait(pause)

    def _takes_session(self, run: Run, pause: float) -> bool:
        context, poll = self.context, self.polls.setdefault(run.name, StatusPoll(self.context, run))
        status = ""
        try:
            status = "" if poll.lost else poll.ask(pause)
        except Unavailable:
            self.unanswered.append(poll)
        if status and status != self.statuses.get(run.name):
            say(f"{run.name} ({settings_text(run.settings)}): {status}")
            self.statuses[run.name] = status
        if status in ENDS and "quota" not in self.refused.lower():
            self.next_push = 0.0  # a session is free
        if poll.lost and run.status != LOST:
            why = poll.why or "Kaggle gives no usable answer about its status"
            run.status = LOST
            run.failure = f"{why}, for {context.timeouts.lost / 60:.0f} minutes"
            context.ledger.keep(run)
            say(f"{run.name} is given up ({run.failure}): see {run.page}")
        known = run.name in self.statuses and poll.seconds <= context.timeouts.prove
        return known and not run.ended

    def _may_push(self) -> bool:
        if time.monotonic() < self.next_push:
            return False
        gpu = self._gpu_time() if "quota" in self.refused.lower() else None
        if gpu and gpu.left < 1:
            self.next_push = time.monotonic() + 5 * self.context.timeouts.poll_max
        return not gpu or gpu.left >= 1

    def _gpu_time(self) -> GpuTime | None:
        with contextlib.suppress(Concern):
            return gpu_time(self.context)
        return None

    def _push(self, cell: Cell) -> bool:
        """Push a cell's kernel; return False where that is not possible now.

        Where other files have been uploaded since, those of the sweep are uploaded again.
        """
        context = self.context
        try:
            with context.sending():
                settle_push(context)
                run = cell.run(context) or push(
                    context,
                    cell.settings,
                    cell.config,
                    again=bool(cell.ignored),
                    remembered=False,
                    weights=weights_of(self.cells),
                )
        except CredentialsRefused:
            raise
        except (Unavailable, Occupied):  # a line was printed when it began
            return False
        except Problem as problem:
            if isinstance(problem, NotTaken) and FULL.search(str(problem)):
                self._wait_for_room(str(problem))
            else:
                self.stopped = problem
                say(f"{problem} (Nothing more is pushed; what is under way is waited for.)")
            return False
        self.refused, self.next_push = "", 0.0
        self.statuses.setdefault(run.name, "PUSHED")
        return True

    def _wait_for_room(self, why: str) -> None:
        """Push nothing for some minutes, and say why unless it was the same before."""
        if why != self.refused:
            gpu = self._gpu_time() if "quota" in why.lower() else None
            say(f"{why}: waiting{gpu.until if gpu and gpu.left < 1 else ''}")
        self.refused = why
        self.next_push = time.monotonic() + 5 * self.context.timeouts.poll_max

    def _fetch_ended(self, pause: float) -> None:
        """Fetch the output of the runs that are complete; a failure is tried again later."""
        for run in filter(None, [cell.run(self.context) for cell in self.cells]):
            if run.status != "complete" or self._is_over(run):
                continue
            trouble, began = self.fetching[run.name], time.monotonic()
            try:
                with self.context.holding(run):
                    fetch(self.context, run)
                continue
            except CredentialsRefused:
                raise
            except Problem as problem:
                why = str(problem)
                if isinstance(problem, Unavailable):
                    self.unanswered.append(trouble)
                    why = trouble.why or why
                elif not isinstance(problem, Occupied):
                    trouble.seconds += pause + time.monotonic() - began
            if why != trouble.why:
                say(why)
            trouble.why = why

    def _is_settled(self, cell: Cell) -> bool:
        run = cell.run(self.context)
        return self._is_over(run) if run else self.stopped is not None

    def _is_over(self, run: Run) -> bool:
        poll = self.polls.get(run.name)
        if run.failed or (poll and poll.lost):
            return True
        given_up = self.fetching[run.name].seconds > self.context.timeouts.lost
        return run.ended and (given_up or is_verified(self.context.folder(run), run))

    def left_out(self) -> dict[str, str]:
        """Return why runs that have not failed have no result, by their names."""
        runs = [run for cell in self.cells if (run := cell.run(self.context))]
        why = {run.name: run.failure for run in runs if run.status == LOST}
        complete = [run for run in runs if run.status == "complete" and not run.files]
        return why | {run.name: self.fetching[run.name].why for run in complete}
