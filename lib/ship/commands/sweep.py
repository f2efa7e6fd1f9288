"""`ship sweep`: run a grid of settings, two at a time, and compare the results on the same photos.

All that is known is in the runs' records, so a sweep that was killed, or that waits for days,
goes on where it was when the same command is given again. A setting that was run before is not run
again. A sweep works on a copy of the project, made when it begins: edits change nothing in it.
"""

import argparse
import contextlib
import itertools
import json
import re
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from statistics import median

from kernelkit.core.locks import Occupied, only_one
from kernelkit.core.problem import Problem
from ship.command_line import Parser, number_of, one_of, parse_settings
from ship.commands.doctor import (
    BEFORE_BUNDLE,
    BEFORE_PUSH,
    SESSION_MINUTES,
    Concern,
    GpuTime,
    computed_hours,
    gpu_time,
    require,
    submissions_left,
)
from ship.commands.fetch import SUBMISSION, fetch, is_verified
from ship.commands.live_runs import ENDS, StatusPoll, answer_or_none, live_runs
from ship.commands.push import NotTaken, push, settle_push
from ship.commands.runs import RESULTS, rows_of, table
from ship.commands.submit import Unscorable, submit
from ship.context import Context
from ship.kaggle.client_process import CredentialsRefused, Unavailable
from ship.ledger import LOST, Run, settings_text
from ship.output import emit_json, progress_lines, say
from ship.project import frozen
from ship.project.bundle import bundle
from ship.project.contents import sha256
from ship.project.versions import new_run, run_at_kaggle, same_run

SESSIONS = 2  # that Kaggle lets one user have at once
FULL = re.compile(r"session|quota", re.IGNORECASE)  # refusals that pass by themselves
MOST_HOURS = 10_000  # of the longest sweep: four years of Kaggle's weekly quota
OCCUPIED = "another sweep is at work in this project ({holder}): wait for it, or end it."


# --- the grid ---


@dataclass
class Cell:
    """One combination of the grid's settings."""

    chosen: dict[str, str]  # its values of the fields that the grid varies
    settings: dict[str, str]
    config: dict  # the kernel's answer to --show-config
    wanted: Run  # the record of its run, without a version
    ignored: frozenset[str] = frozenset()  # runs that failed before and are to be run once more

    def run(self, context: Context) -> Run | None:
        """Return the newest run of this setting, whatever its time limit was; None without one."""
        wanted = _without_limit(self.wanted)
        runs = [
            run
            for run in context.ledger.runs()
            if run.version
            and run.name not in self.ignored
            and same_run(_without_limit(run), wanted)
        ]
        good = [run for run in runs if not run.useless]
        return (good or runs or [None])[-1]


def _without_limit(run: Run) -> Run:
    kept = {name: text for name, text in run.settings.items() if name != "time_limit"}
    return replace(run, settings=kept)


def grid_of(words: list[str]) -> dict[str, list[str]]:
    """Return the values to try of each field of `field=value,value` arguments.

    Values that hold commas themselves are separated by semicolons.

    Raises:
        Problem: an argument has another form, or an empty value.
    """
    grid = {}
    for name, text in parse_settings(words).items():
        values = [value.strip() for value in text.split(";" if ";" in text else ",")]
        if not all(values):
            raise Problem(f"{name}={text} has an empty value: write {name}=one,another.")
        grid[name] = list(dict.fromkeys(values))
    return grid


def cells_of(context: Context, arguments: argparse.Namespace) -> list[Cell]:
    """Return the grid's cells, the last field varying fastest.

    Raises:
        Problem: the kernel refuses a setting, or its weights are missing.
    """
    base, grid, cells = parse_settings(arguments.set or []), grid_of(arguments.grid), []
    failed = [run.name for run in context.ledger.runs() if run.useless]
    ignored = frozenset(failed if arguments.again else ())
    combinations = list(itertools.product(*grid.values()))
    if arguments.hours:
        base["time_limit"] = str(max(1, round(arguments.hours * 60 / len(combinations))))
    for values in combinations:
        chosen = dict(zip(grid, values, strict=True))
        config = context.shown_config(base | chosen)
        wanted = new_run(context, base | chosen, config)
        cells.append(Cell(chosen, base | chosen, config, wanted, ignored))
    return cells


def plan(context: Context, cells: list[Cell]) -> None:
    """Print what each cell is or will be, and what the sweep will cost."""
    waiting = []
    for cell in cells:
        run = cell.run(context)
        waiting += [] if run else [cell]
        state = f"{run.name}, {run.shown_status}" if run else "to be run"
        say(f"  {settings_text(cell.chosen)}: {state}")
    most = sum(cell.wanted.time_limit or SESSION_MINUTES for cell in waiting)
    text = f"{len(cells)} settings, {len(waiting)} to be run: at most {most / 60:.1f} GPU hours"
    earlier = filter(context.is_here, context.ledger.runs())
    known = [run.gpu_minutes for run in earlier if run.gpu_minutes]
    if known and waiting:
        hours = len(waiting) * median(known) / 60
        text += f", about {hours:.1f} h if they take as long as the runs before"
    if computed := computed_hours(*(cell.config for cell in waiting)):
        text += f", computed {computed}"
    gpu = None if context.dry_run else answer_or_none(gpu_time, context)
    if gpu:
        text += f"; {gpu.left / 60:.1f} h are left this week{gpu.until}"
        if most > gpu.left:
            text += " (--hours N bounds what all of them together may take)"
    say(text, result=True)
    minutes = [cell.config.get("gpu_minutes") for cell in waiting]
    emit_json(
        settings=[cell.chosen for cell in cells],
        waiting=len(waiting),
        most_gpu_minutes=most,
        computed_gpu_minutes=None if None in minutes else sum(minutes),
    )


def key_of(context: Context, arguments: argparse.Namespace) -> str:
    """Return a hash of a sweep's arguments, which names its frozen copy of the project."""
    asked = {
        "grid": {name: sorted(values) for name, values in grid_of(arguments.grid).items()},
        "settings": parse_settings(arguments.set or []),
        "gpu": context.gpu,
        "kernel": context.project.slug,
        "competition": context.project.competition,
        "continues": context.continued.name if context.continued else "",
    }
    return sha256(json.dumps(asked, sort_keys=True).encode())[:12]


# --- running it ---


class Refusal:
    """Whether a run may be pushed, after Kaggle has refused one for lack of sessions or GPU time.

    While the week's GPU time is used up, Kaggle is asked only how much is left; where it does not
    tell, a push is tried after growing pauses. While all sessions are taken, one is tried when a
    run has ended, and every few minutes: the sessions may be those of another project.
    """

    def __init__(self, context: Context):
        self.context = context
        self.why = ""
        self.gpu: GpuTime | None = None  # of the refusal, where it is about the quota
        self.pause, self.next = 0.0, 0.0

    def note(self, why: str) -> None:
        """Note that Kaggle has refused a push, and say so unless it gave the same reason before."""
        shortest = 5 * self.context.timeouts.poll_max
        quota = "quota" in why.lower()
        self.gpu = self._gpu_time() if quota else None
        if why != self.why:
            until = self.gpu.until if self.gpu and self.gpu.left < 1 else ""
            say(f"{why}: waiting{until}")
        self.why = why
        self.pause = min(2 * self.pause or shortest, 12 * shortest if quota else shortest)
        self.next = time.monotonic() + (shortest if self.gpu else self.pause)

    def run_has_ended(self) -> None:
        """Note that a session is free."""
        if not self.gpu:
            self.next = 0.0

    def is_over(self) -> bool:
        """Return whether it is time to push again."""
        if time.monotonic() < self.next:
            return False
        if not self.gpu:
            return True
        self.next = time.monotonic() + 5 * self.context.timeouts.poll_max
        gpu = self._gpu_time()
        return gpu is None or gpu.left >= 1 or gpu.renewed != self.gpu.renewed

    def _gpu_time(self) -> GpuTime | None:
        with contextlib.suppress(Concern):
            return gpu_time(self.context)
        return None


@dataclass
class Fetching:
    """For how long a run's output could not be fetched while Kaggle answered other questions."""

    seconds: float = 0.0
    why: str = ""


class Sweep:
    """Pushes, follows and fetches the cells until nothing more can be done for them.

    What stays out of reach while Kaggle answers other questions is given up for its cell alone.
    """

    def __init__(self, context: Context, cells: list[Cell]):
        self.context, self.cells = context, cells
        self.refusal = Refusal(context)
        self.polls: dict[str, StatusPoll] = {}
        self.statuses: dict[str, str] = {}  # the last that was printed of each run
        self.fetching: defaultdict[str, Fetching] = defaultdict(Fetching)
        self.unanswered: list[StatusPoll | Fetching] = []
        self.stopped: Problem | None = None  # why nothing more is pushed

    def finish(self) -> None:
        """Do all that can be done; outages are waited out.

        Raises:
            CredentialsRefused: no call can succeed any longer.
        """
        remote, started = self.context.remote, time.monotonic()
        with progress_lines() as show, remote.patient(0):
            for pause in self.context.timeouts.polls():
                before, self.unanswered = remote.answers, []
                live = live_runs(self.context)
                under_way = sum([self._takes_session(run, pause) for run in live])
                self._fetch_ended(pause)
                waiting = [cell for cell in self.cells if cell.run(self.context) is None]
                under_way += self._push(waiting, SESSIONS - under_way)
                if all(self._is_settled(cell) for cell in self.cells):
                    return
                if self.unanswered and remote.answers == before:
                    with contextlib.suppress(Concern):  # or is it Kaggle that gives no answer?
                        gpu_time(self.context)
                if remote.answers > before:
                    for one in self.unanswered:
                        one.seconds += pause
                state = f"{under_way} under way, {len(waiting)} waiting"
                self.context.doing(f"running the sweep ({state})")
                show(f"{state}, {(time.monotonic() - started) / 60:.0f} min")
                remote.wait(pause)

    def _takes_session(self, run: Run, pause: float) -> bool:
        """Ask once for a run's status, print a new one, and return whether it takes a session."""
        context, poll = self.context, self.polls.setdefault(run.name, StatusPoll(self.context, run))
        status = ""
        try:
            status = "" if poll.lost else poll.ask(pause)
        except Unavailable:
            self.unanswered.append(poll)
        if status and status != self.statuses.get(run.name):
            say(f"{run.name} ({settings_text(run.settings)}): {status}")
            self.statuses[run.name] = status
        if status in ENDS:
            self.refusal.run_has_ended()
        if poll.lost and run.status != LOST:
            why = poll.why or "Kaggle gives no usable answer about its status"
            run.status = LOST
            run.failure = f"{why}, for {context.timeouts.lost / 60:.0f} minutes"
            context.ledger.keep(run)
            say(f"{run.name} is given up ({run.failure}): see {run.page}")
        known = run.name in self.statuses and poll.seconds <= context.timeouts.prove
        return known and not run.ended

    def _push(self, waiting: list[Cell], most: int) -> int:
        """Push as many of the waiting cells as Kaggle takes, and return how many."""
        for pushed, cell in enumerate(waiting[: max(0, most)]):
            if self.stopped or not self.refusal.is_over() or not self._start(cell):
                return pushed
        return max(0, min(most, len(waiting)))

    def _start(self, cell: Cell) -> bool:
        """Push a cell's kernel unless that is not possible now.

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
                    prepare=lambda: bundle(context, weights_of(self.cells), silent=True),
                )
        except NotTaken as problem:
            if FULL.search(str(problem)):
                self.refusal.note(str(problem))
            else:
                self._stop(problem)
        except CredentialsRefused:
            raise
        except (Unavailable, Occupied):  # a line was printed when it began
            pass
        except Problem as problem:
            self._stop(problem)
        else:
            self.refusal = Refusal(context)
            self.statuses.setdefault(run.name, "PUSHED")
            return True
        return False

    def _stop(self, problem: Problem) -> None:
        self.stopped = problem
        say(f"{problem} (Nothing more is pushed; what is under way is waited for.)")

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
            except Occupied as problem:
                why = str(problem)
            except Unavailable as problem:
                self.unanswered.append(trouble)
                why = trouble.why or str(problem)
            except Problem as problem:
                trouble.seconds += pause + time.monotonic() - began
                why = str(problem)
            if why != trouble.why:
                say(why)
            trouble.why = why

    def _is_settled(self, cell: Cell) -> bool:
        """Return whether nothing more is to be done for a cell."""
        run = cell.run(self.context)
        return self._is_over(run) if run else self.stopped is not None

    def _is_over(self, run: Run) -> bool:
        """Return whether nothing more is to be done for a run."""
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


def weights_of(cells: list[Cell]) -> dict[str, list[str]]:
    """Return what `bundle` needs to know of a dataset for all cells: the weights of all of them."""
    return {"weights_files": sorted({n for cell in cells for n in cell.config["weights_files"]})}


# --- submissions and results ---


def hand_in(context: Context, cells: list[Cell], which: str) -> tuple[bool, dict[str, Problem]]:
    """Submit the best run or all of them, as far as today's submissions go.

    A file that can't be scored does not keep the others back: the best is then the best of these.

    Returns:
        Whether all was submitted that was asked for, and why a run was not, by its name.
    """
    runs = [run for cell in cells if (run := cell.run(context)) and run.files and not run.useless]
    runs.sort(key=lambda run: run.merit(run.value), reverse=True)
    turns = [(run, True) for run in runs]
    if which == "all":  # one that waits long for its score does not keep the others back
        turns = [(run, False) for run in runs] + turns
    refused: dict[str, Problem] = {}
    any_left = True
    with context.remote.patient(context.timeouts.outage):
        for run, wait in turns:
            if (
                any_left
                and not run.submission.ref
                and answer_or_none(submissions_left, context) == 0
            ):
                any_left = False
                say("no submissions are left today: the same command goes on tomorrow (UTC)")
            if run.name in refused or not (any_left or run.submission.ref):
                continue
            try:
                with context.holding(run, context.timeouts.score):
                    submit(context, run, context.folder(run) / SUBMISSION, wait=wait)
                if which == "best":
                    return True, refused
            except Problem as problem:
                refused[run.name] = problem
                say(str(problem))
                if which == "best" and not isinstance(problem, Unscorable):
                    break
    return not refused, refused


def show(context: Context, cells: list[Cell], left_out: dict[str, str]) -> None:
    """Print the table of the results, in the order of the grid, and what was left out."""
    rows = rows_of(context, [c.run(context) or Run("", settings=c.settings) for c in cells])
    both = list(zip(rows, cells, strict=True))
    named = [row | {"setting": settings_text(cell.chosen)} for row, cell in both]
    say(table(named, ("setting", "run", *RESULTS, "status")), result=True)
    for name, why in left_out.items():
        say(f"left out: {name}: {why}", result=True)
    emit_json(left_out=left_out, results=[row | {"setting": cell.chosen} for row, cell in both])


# --- the command ---


def add_arguments(parser: Parser) -> None:
    """Add the arguments of `ship sweep`."""
    help = "the values to try; all are combined"
    parser.add_argument("grid", nargs="+", metavar="FIELD=VALUE,VALUE", help=help)
    kind, help = one_of(("best", "all", "none")), "what to submit at the end: best, all or none"
    parser.add_argument("--submit", type=kind, metavar="WHICH", default="none", help=help)
    kind, help = number_of(float, above=0, most=MOST_HOURS), "GPU hours for all runs together"
    parser.add_argument("--hours", type=kind, metavar="N", help=help)
    parser.switch("--again", "push those settings once more whose run failed")
    parser.switch("--fresh", "begin with the present files, not those of the same sweep before")


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run a grid of settings and compare the results.

    Raises:
        Problem: something stopped it, no setting has a result, or not all could be submitted.
    """
    project, key = context.project, key_of(context, arguments)
    with contextlib.ExitStack() as stack:
        if not context.dry_run:
            stack.enter_context(only_one(project.runs / "locks" / "sweep", OCCUPIED))
        copy = None if arguments.fresh else frozen.frozen_copy(project, key)
        if copy:
            context.project = copy
            if changed := frozen.changed_files(copy, project):
                more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
                say(
                    f"this sweep goes on with the files that it began with at {copy.begun}, kept "
                    f"in {copy.root}; {', '.join(changed[:3])}{more} changed since: `--fresh` "
                    "begins it again with the present files"
                )
        elif not context.dry_run:
            context.project = frozen.freeze(project, key)
        cells = cells_of(context, arguments)
        if not context.dry_run:
            take_up(context, cells)
        plan(context, cells)
        if context.dry_run:
            return
        if any(cell.run(context) is None for cell in cells):
            in_the_plan = ("settings", "weights", "gpu-quota")
            checks = dict.fromkeys((*BEFORE_BUNDLE, *BEFORE_PUSH))
            checks = [name for name in checks if name not in in_the_plan]
            require(context, cells[0].settings, checks)
            for cell in cells[1:]:
                require(context, cell.settings, ["models"])
            with context.remote.patient(context.timeouts.outage):
                bundle(context, weights_of(cells))
        if not copy:
            frozen.keep(context.project)
        sweep = Sweep(context, cells)
        sweep.finish()
        done, refused = True, {}
        if arguments.submit != "none" and not sweep.stopped:
            done, refused = hand_in(context, cells, arguments.submit)
    show(context, cells, sweep.left_out() | {name: str(why) for name, why in refused.items()})
    if sweep.stopped:
        raise sweep.stopped
    runs = [run for cell in cells if (run := cell.run(context))]
    if not any(run.files or run.name in refused for run in runs):
        raise Problem("no setting has a result: `ship follow VERSION` shows why a run failed.")
    if not done:
        raise Problem(f"not all was submitted; {'; '.join(map(str, refused.values()))}")


def take_up(context: Context, cells: list[Cell]) -> None:
    """Take up the versions at Kaggle that this machine does not know, of cells that have no run."""
    unknown = [cell for cell in cells if cell.run(context) is None]
    if not unknown:
        return
    with context.sending():
        settle_push(context)
        shown = context.remote.kernel(context.kernel_ref)
        for cell in unknown:
            run_at_kaggle(context, replace(cell.wanted, verified={}), shown)
