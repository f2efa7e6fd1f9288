"""`ship sweep`: run a grid of settings, two at a time, and compare the results on the same photos.

All that is known lies in the runs' records, so a sweep that was killed, or that waits for days,
goes on where it was when the same command is given again. What was run before is not run again. A
sweep works on a copy of the project, made when it begins: edits change nothing in it.
"""

import argparse
import contextlib
import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median

from common import Problem
from common.locks import Occupied, only_one
from ship import frozen
from ship.bundle import bundle
from ship.checks import (
    BEFORE_BUNDLE,
    BEFORE_PUSH,
    SESSION_MINUTES,
    computed_hours,
    gpu_time,
    require,
    submissions_left,
)
from ship.context import Context, parse_settings
from ship.fetch import SUBMISSION, fetch, is_verified
from ship.follow import refresh
from ship.grammar import one_of
from ship.line import Unavailable
from ship.output import progress_lines, say, tell
from ship.paired import aligned, columns, texts
from ship.push import NotTaken, push, settle_push
from ship.record import Run, settings_text
from ship.status import live_runs, told
from ship.submit import submit
from ship.versions import new_run, same_run

SESSIONS = 2
"""How many GPU sessions Kaggle lets one user have at once."""
FULL = re.compile(r"session|quota", re.IGNORECASE)
"""What Kaggle says when a run has to wait for another one's end, or for the next week."""
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
    gpu = None if context.dry_run else told(gpu_time, context)
    if gpu:
        text += f"; {gpu.left / 60:.1f} h are left this week{gpu.until}"
        if most > gpu.left:
            text += " (--hours N bounds what all of them together may take)"
    say(text, result=True)
    minutes = [cell.config.get("gpu_minutes") for cell in waiting]
    tell(
        settings=[cell.chosen for cell in cells],
        waiting=len(waiting),
        most_gpu_minutes=most,
        computed_gpu_minutes=None if None in minutes else sum(minutes),
    )


def drive(context: Context, cells: list[Cell]) -> None:
    """Push, watch and fetch until every cell has a run that is over and whose output is here.

    Raises:
        Problem: a push can't be decided, or Kaggle refuses one for good.
    """
    failures: Counter[str] = Counter()
    seen: dict[str, str] = {}
    started, finished = time.monotonic(), False
    with progress_lines() as show:
        for pause in context.pace.polls():
            live = [run for run in live_runs(context) if not watched(context, run, seen)]
            fetch_ended(context, cells, failures)
            waiting = [cell for cell in cells if cell.run(context) is None]
            while waiting and len(live) < SESSIONS:
                run = start(context, waiting.pop(0), lib_of(cells))
                if run is None:
                    break
                live.append(run)
            finished = all(settled(context, cell, failures) for cell in cells)
            if finished:
                return
            show(
                f"{len(live)} under way, {len(waiting)} waiting, "
                f"{(time.monotonic() - started) / 60:.0f} min"
            )
            context.remote.wait(pause)


def watched(context: Context, run: Run, seen: dict[str, str]) -> bool:
    """Ask once how a run goes on, say what is new, and tell whether it is over."""
    word = refresh(context, run)
    if seen.get(run.name) != word:
        say(f"{run.name} ({settings_text(run.settings)}): {word}")
    seen[run.name] = word
    return run.ended


def start(context: Context, cell: Cell, lib: dict[str, list[str]]) -> Run | None:
    """Push a cell's kernel; None when Kaggle has no room for it now.

    Where something else has been uploaded since, the dataset gets what the sweep needs again.
    """
    try:
        with context.sending():
            settle_push(context)
            if run := cell.run(context):
                return run
            bundle(context, lib, silent=True)
            return push(context, cell.settings, cell.config, bool(cell.ignored), remembered=False)
    except NotTaken as refusal:
        if not FULL.search(str(refusal)):
            raise
        say(f"{refusal}: waiting")
    except (Unavailable, Occupied) as problem:
        say(str(problem))
    return None


@contextlib.contextmanager
def held(context: Context, run: Run) -> Iterator[None]:
    """Hold a run as `Context.holding` does, but wait while another `ship` is at work on it."""
    with contextlib.ExitStack() as stack:
        for _ in context.asking():
            try:
                stack.enter_context(context.holding(run))
                break
            except Occupied as problem:
                say(str(problem))
        yield


def fetch_ended(context: Context, cells: list[Cell], failures: Counter[str]) -> None:
    """Fetch the output of the runs that are complete; a failure is tried again later."""
    for cell in cells:
        run = cell.run(context)
        if not run or run.status != "complete" or failures[run.name] >= context.pace.retries:
            continue
        if is_verified(context.folder(run), run):
            continue
        try:
            with context.holding(run):
                fetch(context, run)
        except Occupied as problem:
            say(str(problem))
        except Problem as problem:
            failures[run.name] += 1
            say(str(problem))


def settled(context: Context, cell: Cell, failures: Counter[str]) -> bool:
    """Tell whether nothing more is to be done for a cell."""
    run = cell.run(context)
    if run is None or not (run.ended or run.failed):
        return False
    given_up = failures[run.name] >= context.pace.retries
    return run.failed or given_up or is_verified(context.folder(run), run)


def hand_in(context: Context, cells: list[Cell], which: str) -> None:
    """Submit the best run or all of them, as far as today's submissions go."""
    runs = [run for cell in cells if (run := cell.run(context)) and run.files and not run.useless]
    runs.sort(key=lambda run: run.merit(run.value), reverse=True)
    for run in runs[:1] if which == "best" else runs:
        if run.public_score is None and told(submissions_left, context) == 0:
            say("no submissions are left today: the same command goes on with them tomorrow (UTC)")
            return
        with held(context, run):
            submit(context, run, context.folder(run) / SUBMISSION)


def show(context: Context, cells: list[Cell]) -> None:
    """Print the table of the results, in the order of the grid."""
    runs = [cell.run(context) or Run("", settings=cell.settings) for cell in cells]
    results = columns(runs, [context.folder(run) for run in runs])
    named = list(zip(cells, runs, results, strict=True))
    rows = [
        {
            "setting": settings_text(cell.chosen),
            "run": run.name,
            **texts(row),
            "status": run.shown_status,
        }
        for cell, run, row in named
    ]
    say(aligned(rows), result=True)
    tell(
        results=[
            {"setting": c.chosen, "run": r.name, "status": r.shown_status, **v} for c, r, v in named
        ]
    )


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
        "--hours", type=float, metavar="N", help="GPU hours that all runs together may take"
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
    """Run `ship sweep`."""
    key = key_of_sweep(context, arguments)
    with contextlib.ExitStack() as stack:
        if not context.dry_run:
            lock = context.project.runs / "locks" / "sweep"
            stack.enter_context(only_one(lock, OCCUPIED))
        new = work_on_copy(context, key, arguments.fresh)
        cells = cells_of(context, arguments)
        plan(context, cells)
        if context.dry_run:
            return
        if any(cell.run(context) is None for cell in cells):
            told_by_the_plan = ("settings", "weights", "GPU quota")
            checks = dict.fromkeys((*BEFORE_BUNDLE, *BEFORE_PUSH))
            checks = [name for name in checks if name not in told_by_the_plan]
            require(context, cells[0].settings, checks)
            bundle(context, lib_of(cells))
        if new:
            context.project = frozen.keep(context.project, key)
        drive(context, cells)
        if arguments.submit != "none":
            hand_in(context, cells, arguments.submit)
    show(context, cells)
    if not any(run and run.files for run in (cell.run(context) for cell in cells)):
        raise Problem("no setting has a result: `ship follow VERSION` shows why a run failed.")
