"""`ship sweep`: run a grid of settings, two at a time, and compare the results on the same photos.

All that is known lies in the runs' records, so a sweep that was killed, or that waits for days,
goes on where it was when the same command is given again. What was run before is not run again. A
sweep works on a copy of the project, made when it begins: edits change nothing in it.
"""

import argparse
import contextlib
import itertools
import math
import re
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from statistics import median

from kernelkit.core.locks import Occupied, only_one
from kernelkit.core.problem import Problem
from ship.command_line import number_of, one_of, parse_settings
from ship.commands import frozen
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
from ship.project.bundle import bundle
from ship.project.versions import new_run, run_at_kaggle, same_run

SESSIONS = 2
"""How many GPU sessions Kaggle lets one user have at once."""
FULL = re.compile(r"session|quota", re.IGNORECASE)
"""What Kaggle says when a run has to wait for another one's end, or for the next week."""
MOST_HOURS = 10_000
"""GPU hours of the longest sweep: four years of Kaggle's weekly quota."""
OCCUPIED = "another sweep is at work in this project ({holder}): wait for it, or end it."


@dataclass
class Cell:
    """One setting of the grid."""

    chosen: dict[str, str]
    """Its values of the fields that the grid varies."""
    settings: dict[str, str]
    config: dict
    wanted: Run
    """What its run is made of."""

    ignored: frozenset[str] = frozenset()
    """Names of runs that failed before and are to be run once more."""

    def run(self, context: Context) -> Run | None:
        """Return the newest run of this setting, whatever its time limit was; None without one."""
        runs = [
            run
            for run in context.ledger.runs()
            if run.version and run.name not in self.ignored and is_of(run, self.wanted)
        ]
        good = [run for run in runs if not run.useless]
        return (good or runs or [None])[-1]


def is_of(known: Run, wanted: Run) -> bool:
    """Tell whether a run is of the same code, data and settings but for its time limit."""
    return same_run(without_limit(known), without_limit(wanted))


def without_limit(run: Run) -> Run:
    """Return a run's record without its time limit among the settings."""
    kept = {name: text for name, text in run.settings.items() if name != "time_limit"}
    return replace(run, settings=kept)


def grid_of(words: list[str]) -> list[dict[str, str]]:
    """Return the combinations of `field=value,value` arguments, the last field varying fastest.

    Values that hold commas themselves are separated by semicolons.
    """
    axes = axes_of(words)
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def axes_of(words: list[str]) -> dict[str, list[str]]:
    """Return the values to try of each field of `field=value,value` arguments."""
    axes = {}
    for name, text in parse_settings(words).items():
        values = [value.strip() for value in text.split(";" if ";" in text else ",")]
        if not all(values):
            raise Problem(f"{name}={text} has an empty value: write {name}=one,another.")
        axes[name] = list(dict.fromkeys(values))
    return axes


def lib_of(cells: list[Cell]) -> dict[str, list[str]]:
    """Return what `bundle` needs to know of a dataset for all cells: the weights of all of them."""
    return {"weights_files": sorted({n for cell in cells for n in cell.config["weights_files"]})}


def cells_of(context: Context, arguments: argparse.Namespace) -> list[Cell]:
    """Return the grid's cells, each of them accepted by the kernel.

    Raises:
        Problem: the kernel refuses a setting, or its weights are missing.
    """
    base, cells = parse_settings(arguments.set or []), []
    combinations = grid_of(arguments.grid)
    failed = [run.name for run in context.ledger.runs() if run.useless]
    ignored = frozenset(failed if arguments.again else ())
    share = {}
    if arguments.hours:
        share = {"time_limit": str(max(1, round(arguments.hours * 60 / len(combinations))))}
    for chosen in combinations:
        settings = base | share | chosen
        config = context.shown_config(settings)
        wanted = new_run(context, settings, config)
        if any(same_run(cell.wanted, wanted) for cell in cells):
            continue
        cells.append(Cell(chosen, settings, config, wanted, ignored))
    return cells


def plan(context: Context, cells: list[Cell]) -> None:
    """Print what each cell is or will be, and what the sweep will cost."""
    runs = [cell.run(context) for cell in cells]
    for cell, run in zip(cells, runs, strict=True):
        state = f"{run.name}, {run.shown_status}" if run else "to be run"
        say(f"  {settings_text(cell.chosen)}: {state}")
    waiting = [cell for cell, run in zip(cells, runs, strict=True) if run is None]
    most = sum(cell.wanted.time_limit or SESSION_MINUTES for cell in waiting)
    runs_before = filter(context.is_here, context.ledger.runs())
    known = [run.gpu_minutes for run in runs_before if run.gpu_minutes]
    guess = ""
    if known and waiting:
        hours = len(waiting) * median(known) / 60
        guess = f", about {hours:.1f} h if they take as long as the runs before"
    computed = computed_hours(*(cell.config for cell in waiting))
    text = (
        f"{len(cells)} settings, {len(waiting)} to be run: at most {most / 60:.1f} GPU hours{guess}"
    )
    text += f", computed {computed}" if computed else ""
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


class Room:
    """Whether Kaggle may have room for one more run, after it has refused one.

    While the week's GPU time is used up, Kaggle is asked only how much of it is left; where it does
    not tell, a push is tried after growing pauses. While all sessions are taken, one is tried when
    a run has ended, and every few minutes: the sessions may be those of another project.
    """

    def __init__(self, context: Context):
        self.context = context
        self.why = ""
        self.gpu: GpuTime | None = None
        self.pause, self.next, self.renewal = 0.0, 0.0, math.inf

    def refused(self, why: str) -> None:
        """Note that Kaggle has refused a push, and say so unless it said the same before."""
        now, shortest = time.monotonic(), 5 * self.context.timeouts.poll_max
        quota = "quota" in why.lower()
        self.gpu = self.told() if quota else None
        self.renewal = now + max(shortest, self.gpu.renewed_in) if self.gpu else math.inf
        if why != self.why:
            until = self.gpu.until if self.gpu and self.gpu.left < 1 else ""
            say(f"{why}: waiting{until}")
        self.why = why
        self.pause = min(2 * self.pause or shortest, 12 * shortest if quota else shortest)
        self.next = now + self.pause

    def change(self) -> None:
        """Note that a run was taken or has ended: Kaggle may have room from now on."""
        if self.gpu is None:
            self.pause, self.next = 0.0, 0.0

    def free(self) -> bool:
        """Tell whether it is time to push again."""
        now = time.monotonic()
        if now >= self.renewal or (now >= self.next and (not self.gpu or self.gpu.left >= 1)):
            return True
        if now < self.next:
            return False
        self.next = now + 5 * self.context.timeouts.poll_max
        gpu = self.told()
        return bool(gpu) and (gpu.left >= 1 or gpu.renewed != self.gpu.renewed)

    def told(self) -> GpuTime | None:
        """Return the week's GPU time, None where Kaggle does not tell it."""
        try:
            return gpu_time(self.context)
        except Concern:
            return None


@dataclass
class Fetching:
    """How often a run's output could not be fetched."""

    refusals: int = 0
    seconds: float = 0.0
    """For how long there was no usable answer, while Kaggle answered other questions."""
    why: str = ""


class Drive:
    """Pushes, watches and fetches the cells of a sweep until nothing more can be done for them.

    What stays out of reach while Kaggle answers other questions is given up for its cell alone.
    """

    def __init__(self, context: Context, cells: list[Cell]):
        self.context, self.cells = context, cells
        self.room = Room(context)
        self.sights: dict[str, StatusPoll] = {}
        self.words: dict[str, str] = {}
        """Kaggle's last word on each run that is under way."""
        self.fetching: defaultdict[str, Fetching] = defaultdict(Fetching)
        self.unanswered: list[StatusPoll | Fetching] = []
        self.stopped: Problem | None = None
        """Why nothing more is pushed."""

    def finish(self) -> None:
        """Do all that can be done; outages are waited out."""
        timeouts, remote, started = self.context.timeouts, self.context.remote, time.monotonic()
        with progress_lines() as show, remote.patient(0):
            for pause in timeouts.polls():
                before, self.unanswered = remote.answers, []
                under_way = self.watch(pause)
                self.fetch_ended()
                waiting = [cell for cell in self.cells if cell.run(self.context) is None]
                under_way += self.push(waiting, SESSIONS - under_way)
                if all(self.settled(cell) for cell in self.cells):
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

    def watch(self, pause: float) -> int:
        """Ask once how each run goes on, and return how many take a session for all we know."""
        return sum(self.takes_session(run, pause) for run in live_runs(self.context))

    def takes_session(self, run: Run, pause: float) -> bool:
        """Ask how a run goes on, say what is new, and tell whether it takes a session."""
        sight = self.sights.setdefault(run.name, StatusPoll(self.context, run))
        word = ""
        try:
            word = "" if sight.lost else sight.ask(pause)
        except Unavailable:
            self.unanswered.append(sight)
        if word and word != self.words.get(run.name):
            say(f"{run.name} ({settings_text(run.settings)}): {word}")
            self.words[run.name] = word
        if word in ENDS:
            self.room.change()
        if sight.lost and run.status != LOST:
            why = sight.why or "Kaggle gives no usable answer about its status"
            self.give_up(run, f"{why}, for {self.context.timeouts.lost / 60:.0f} minutes")
        known = self.words.get(run.name) and sight.seconds <= self.context.timeouts.prove
        return bool(known) and not run.ended

    def give_up(self, run: Run, why: str) -> None:
        """Go on without a run whose status Kaggle does not tell."""
        run.status, run.failure = LOST, why
        self.context.ledger.keep(run)
        say(f"{run.name} is given up ({why}): see {run.page}")

    def push(self, waiting: list[Cell], most: int) -> int:
        """Push as many of the waiting cells as there is room for, and return how many."""
        pushed = 0
        while pushed < min(most, len(waiting)) and not self.stopped and self.room.free():
            run = self.start(waiting[pushed])
            if run is None:
                break
            pushed += 1
        return pushed

    def start(self, cell: Cell) -> Run | None:
        """Push a cell's kernel; None when that is not possible now.

        Where something else has been uploaded since, the dataset gets what the sweep needs again.
        """
        context = self.context
        try:
            with context.sending():
                settle_push(context)
                if (run := cell.run(context)) is None:
                    bundle(context, lib_of(self.cells), silent=True)
                    again = bool(cell.ignored)
                    run = push(context, cell.settings, cell.config, again, remembered=False)
        except NotTaken as refusal:
            if FULL.search(str(refusal)):
                self.room.refused(str(refusal))
            else:
                self.stop(refusal)
        except (Unavailable, Occupied):  # which was said when it began
            pass
        except CredentialsRefused:
            raise
        except Problem as problem:
            self.stop(problem)
        else:
            self.room = Room(context)
            self.words.setdefault(run.name, "PUSHED")
            return run
        return None

    def stop(self, problem: Problem) -> None:
        """Push nothing more, but finish what is under way."""
        self.stopped = problem
        say(f"{problem} (Nothing more is pushed; what is under way is waited for.)")

    def fetch_ended(self) -> None:
        """Fetch the output of the runs that are complete; a failure is tried again later."""
        for cell in self.cells:
            run = cell.run(self.context)
            if not run or run.status != "complete" or self.is_settled(run):
                continue
            trouble = self.fetching[run.name]
            try:
                with self.context.holding(run):
                    fetch(self.context, run)
                continue
            except Occupied as problem:
                why = str(problem)
            except Unavailable as problem:
                self.unanswered.append(trouble)
                why = trouble.why or str(problem)
            except CredentialsRefused:
                raise
            except Problem as problem:
                trouble.refusals += 1
                why = str(problem)
            if why != trouble.why:
                say(why)
            trouble.why = why

    def settled(self, cell: Cell) -> bool:
        """Tell whether nothing more is to be done for a cell."""
        run = cell.run(self.context)
        return self.is_settled(run) if run else self.stopped is not None

    def is_settled(self, run: Run) -> bool:
        """Tell whether nothing more is to be done for a run."""
        sight = self.sights.get(run.name)
        if run.failed or (sight and sight.lost):
            return True
        if not run.ended:
            return False
        trouble, timeouts = self.fetching[run.name], self.context.timeouts
        given_up = trouble.refusals >= timeouts.retries or trouble.seconds > timeouts.lost
        return given_up or is_verified(self.context.folder(run), run)

    def without_result(self) -> dict[str, str]:
        """Return why runs that have not failed have no result, by their names."""
        runs = [run for cell in self.cells if (run := cell.run(self.context))]
        why = {run.name: run.failure for run in runs if run.status == LOST}
        complete = [run for run in runs if run.status == "complete" and not run.files]
        return why | {run.name: self.fetching[run.name].why for run in complete}


def hand_in(context: Context, cells: list[Cell], which: str) -> tuple[bool, dict[str, Problem]]:
    """Submit the best run or all of them, as far as today's submissions go.

    A file that can't be scored does not keep the others back: the best is then the best of these.

    Returns:
        Whether all was submitted that was asked for, and why a run was not, by its name.
    """
    runs = [run for cell in cells if (run := cell.run(context)) and run.files and not run.useless]
    runs.sort(key=lambda run: run.merit(run.value), reverse=True)
    refused: dict[str, Problem] = {}
    tomorrow: set[str] = set()
    turns = [(run, True) for run in runs]
    if which == "all":  # one that waits long for its score does not keep the others back
        turns = [(run, False) for run in runs] + turns
    with context.remote.patient(context.timeouts.outage):
        for run, wait in turns:
            if run.name in refused or run.name in tomorrow:
                continue
            if not run.submission.ref and (
                tomorrow or answer_or_none(submissions_left, context) == 0
            ):
                if not tomorrow:
                    say("no submissions are left today: the same command goes on tomorrow (UTC)")
                tomorrow.add(run.name)
                continue
            try:
                with context.holding(run, context.timeouts.score):
                    submit(context, run, context.folder(run) / SUBMISSION, wait=wait)
            except Problem as problem:
                refused[run.name] = problem
                say(str(problem))
                if which == "best" and not isinstance(problem, Unscorable):
                    break
            else:
                if which == "best":
                    return True, refused
    return not refused, refused


def show(context: Context, cells: list[Cell], left_out: dict[str, str]) -> None:
    """Print the table of the results, in the order of the grid, and what was left out and why."""
    rows = rows_of(context, [c.run(context) or Run("", settings=c.settings) for c in cells])
    shown = [
        row | {"setting": settings_text(cell.chosen)} for row, cell in zip(rows, cells, strict=True)
    ]
    say(table(shown, ("setting", "run", *RESULTS, "status")), result=True)
    for name, why in left_out.items():
        say(f"left out: {name}: {why}", result=True)
    results = [row | {"setting": cell.chosen} for row, cell in zip(rows, cells, strict=True)]
    emit_json(left_out=left_out, results=results)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship sweep`."""
    parser.add_argument(
        "grid", nargs="+", metavar="FIELD=VALUE,VALUE", help="the values to try; all are combined"
    )
    parser.add_argument(
        "--submit",
        type=one_of(("best", "all", "none")),
        metavar="WHICH",
        default="none",
        help="what to submit at the end: best, all or none (none)",
    )
    parser.add_argument(
        "--hours",
        type=number_of(float, above=0, most=MOST_HOURS),
        metavar="N",
        help="GPU hours that all runs together may take",
    )
    parser.add_argument(
        "--again", action="store_true", help="push those settings once more whose run failed"
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="begin with the present files, not those that the same sweep began with before",
    )


def key_of_sweep(context: Context, arguments: argparse.Namespace) -> str:
    """Return the key of a sweep: of its grid, settings and accelerator, kernel and competition."""
    asked = {
        "grid": {name: sorted(parts) for name, parts in axes_of(arguments.grid).items()},
        "settings": parse_settings(arguments.set or []),
        "gpu": context.gpu,
        "kernel": context.project.slug,
        "competition": context.project.competition,
        "continues": context.continued.name if context.continued else "",
    }
    return frozen.key_of(asked)


def take_up(context: Context, cells: list[Cell]) -> None:
    """Take up the versions at Kaggle that this machine does not know, of cells that have no run."""
    unknown = [cell for cell in cells if cell.run(context) is None]
    if context.dry_run or not unknown:
        return
    with context.sending():
        settle_push(context)
        shown = context.remote.kernel(context.kernel_ref)
        for cell in unknown:
            run_at_kaggle(context, replace(cell.wanted, verified={}), shown)


def work_on_copy(context: Context, key: str, fresh: bool) -> bool:
    """Let the sweep work on the copy that it began with, or else on a new one.

    Returns:
        Whether the copy is a new one, which `frozen.keep` is still to make the sweep's own.
    """
    project = context.project
    copy = None if fresh else frozen.frozen_copy(project, key)
    if copy is None:
        if not context.dry_run:
            context.project = frozen.freeze(project, key)
        return not context.dry_run
    context.project = copy
    if changed := frozen.differences(copy, project):
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        say(
            f"this sweep goes on with the files that it began with at {copy.begun}, kept in "
            f"{copy.root}; {', '.join(changed[:3])}{more} changed since: `--fresh` begins it again "
            "with the present files"
        )
    return False


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run a grid of settings and compare the results."""
    key = key_of_sweep(context, arguments)
    with contextlib.ExitStack() as stack:
        if not context.dry_run:
            lock = context.project.runs / "locks" / "sweep"
            stack.enter_context(only_one(lock, OCCUPIED))
        new = work_on_copy(context, key, arguments.fresh)
        cells = cells_of(context, arguments)
        take_up(context, cells)
        plan(context, cells)
        if context.dry_run:
            return
        if any(cell.run(context) is None for cell in cells):
            told_by_the_plan = ("settings", "weights", "gpu-quota")
            checks = dict.fromkeys((*BEFORE_BUNDLE, *BEFORE_PUSH))
            checks = [name for name in checks if name not in told_by_the_plan]
            require(context, cells[0].settings, checks)
            with context.remote.patient(context.timeouts.outage):
                bundle(context, lib_of(cells))
        if new:
            context.project = frozen.keep(context.project, key)
        drive = Drive(context, cells)
        drive.finish()
        done, refused = True, {}
        if arguments.submit != "none" and not drive.stopped:
            done, refused = hand_in(context, cells, arguments.submit)
    left_out = drive.without_result() | {name: str(why) for name, why in refused.items()}
    show(context, cells, left_out)
    runs = [run for cell in cells if (run := cell.run(context))]
    if drive.stopped:
        raise drive.stopped
    if not any(run.files or run.name in refused for run in runs):
        raise Problem("no setting has a result: `ship follow VERSION` shows why a run failed.")
    if not done:
        raise Problem(f"not all was submitted; {'; '.join(map(str, refused.values()))}")
