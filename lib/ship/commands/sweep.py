"""`ship sweep`: run a grid of settings, two at a time, and compare the results on the same photos.

All that is known is in the runs' records, so a sweep that was killed, or that waits for days,
goes on where it was when the same command is given again. A setting that was run before is not run
again. A sweep works on a copy of the project, made when it begins: edits change nothing in it.
"""

import argparse
import contextlib
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import median

from kernelkit.core.files import write_atomically
from kernelkit.core.locks import only_one
from kernelkit.core.problem import Problem, first_names
from ship.command_line import Usage, number_of, one_of, option, parse_settings, switch
from ship.commands import doctor
from ship.commands.fetch import SUBMISSION
from ship.commands.live_runs import answer_or_none
from ship.commands.push import settle_push
from ship.commands.runs import RESULTS, rows_of, table
from ship.commands.submission import takes_kernels_only
from ship.commands.submit import Unscorable, submit
from ship.commands.sweep_loop import Cell, Sweep, weights_of
from ship.context import Context
from ship.kaggle.response_schemas import loads
from ship.ledger import Run, settings_text
from ship.output import emit_json, say
from ship.project.bundle import bundle
from ship.project.contents import sha256
from ship.project.project import Project, copy_project, sources
from ship.project.versions import new_run, run_at_kaggle

MOST_HOURS = 10_000  # of the longest sweep: four years of Kaggle's weekly quota
NOTE = "sweep.json"  # in the copy of a sweep: when it began, and the files' commit
OCCUPIED = "another sweep is at work in this project ({holder}): wait for it, or end it."


# --- the grid ---


def grid_of(words: list[str]) -> dict[str, list[str]]:
    """Return the values to try of each field of `field=value,value` arguments.

    Values that hold commas themselves are separated by semicolons.
    """
    grid = {}
    for name, text in parse_settings(words).items():
        values = [value.strip() for value in text.split(";" if ";" in text else ",")]
        if not all(values):
            raise Problem(f"{name}={text} has an empty value: write {name}=one,another.")
        grid[name] = list(dict.fromkeys(values))
    return grid


def _cells_of(context: Context, arguments: argparse.Namespace) -> list[Cell]:
    base, grid, cells = parse_settings(arguments.set or []), grid_of(arguments.grid), []
    failed = [run.name for run in context.ledger.runs() if run.useless]
    ignored = frozenset(failed if arguments.again else ())
    combinations = list(itertools.product(*grid.values()))
    any_limit = "time_limit" not in base | grid
    if arguments.hours and not any_limit:
        raise Usage("`ship sweep` takes --hours, which it shares evenly, or time_limit, not both.")
    if arguments.hours:
        base["time_limit"] = str(max(1, round(arguments.hours * 60 / len(combinations))))
    for values in combinations:
        chosen = dict(zip(grid, values, strict=True))
        settings = base | chosen
        config = context.shown_config(settings)
        wanted = new_run(context, settings, config)
        cells.append(Cell(chosen, settings, config, wanted, ignored, any_limit))
    return cells


def _plan(context: Context, cells: list[Cell]) -> None:
    """Print what each cell is or will be, and what the sweep will cost."""
    waiting = []
    for cell in cells:
        run = cell.run(context)
        waiting += [] if run else [cell]
        state = f"{run.name}, {run.shown_status}" if run else "to be run"
        limit = run and run.settings.get("time_limit")
        if limit and limit != cell.settings.get("time_limit"):
            state += f", whose time_limit was {limit} minutes"
        say(f"  {settings_text(cell.chosen)}: {state}")
    most = sum(cell.wanted.time_limit or doctor.SESSION_MINUTES for cell in waiting)
    text = f"{len(cells)} settings, {len(waiting)} to be run: at most {most / 60:.1f} GPU hours"
    earlier = filter(context.is_here, context.ledger.runs())
    known = [run.gpu_minutes for run in earlier if run.gpu_minutes]
    if known and waiting:
        hours = len(waiting) * median(known) / 60
        text += f", about {hours:.1f} h if they take as long as the runs before"
    minutes = [cell.config.gpu_minutes for cell in waiting]
    if computed := doctor.computed_hours(minutes):
        text += f", computed {computed}"
    gpu = None if context.dry_run else answer_or_none(doctor.gpu_time, context)
    if gpu:
        text += f"; {gpu.left / 60:.1f} h are left this week{gpu.until}"
        if most > gpu.left:
            text += " (--hours N bounds what all of them together may take)"
    say(text, result=True)
    emit_json(
        settings=[cell.chosen for cell in cells],
        waiting=len(waiting),
        most_gpu_minutes=most,
        computed_gpu_minutes=None if None in minutes else sum(minutes),
    )


def _key_of(context: Context, arguments: argparse.Namespace) -> str:
    asked = {
        "grid": {name: sorted(values) for name, values in grid_of(arguments.grid).items()},
        "settings": parse_settings(arguments.set or []),
        "gpu": context.gpu,
        "kernel": context.project.slug,
        "competition": context.project.competition,
        "continues": context.continued.name if context.continued else "",
    }
    return sha256(json.dumps(asked, sort_keys=True).encode())[:12]


# --- submissions and results ---


def _hand_in(context: Context, cells: list[Cell], which: str) -> tuple[bool, dict[str, Problem]]:
    """Submit the best run or all of them, as far as today's submissions go.

    A file that can't be scored does not keep the others back: the best is then the best of these.
    Returns whether all was submitted that was asked for, and why a run was not, by its name.
    """
    runs = [run for cell in cells if (run := cell.run(context)) and run.files and not run.useless]
    # Of equally good ones, that which is submitted already is the best.
    runs.sort(key=lambda run: (run.merit(run.score), run.submission.ref > 0), reverse=True)
    turns = [(run, True) for run in runs]
    if which == "all":  # one that waits long for its score does not keep the others back
        turns = [(run, False) for run in runs] + turns
    refused: dict[str, Problem] = {}
    any_left = True
    for run, wait in turns:
        if any_left and not run.submission.ref:
            any_left = answer_or_none(doctor.submissions_left, context) != 0
            if not any_left:
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


def _show(context: Context, cells: list[Cell], left_out: dict[str, str]) -> None:
    rows = rows_of(context, [c.run(context) or Run("", settings=c.settings) for c in cells])
    both = list(zip(rows, cells, strict=True))
    named = [row | {"setting": settings_text(cell.chosen)} for row, cell in both]
    say(table(named, ("setting", "run", *RESULTS, "status")), result=True)
    for name, why in left_out.items():
        say(f"left out: {name}: {why}", result=True)
    emit_json(left_out=left_out, results=[row | {"setting": cell.chosen} for row, cell in both])


# --- the command ---


ARGUMENTS = (
    option("grid", "the values to try; all are combined", nargs="+", metavar="FIELD=VALUE,VALUE"),
    option("--submit", "what to submit at the end: best, all or none",
        type=one_of(("best", "all", "none")), metavar="WHICH", default="none"),
    option("--hours", "GPU hours for all runs together",
        type=number_of(float, above=0, most=MOST_HOURS), metavar="N"),
    switch("--again", "push those settings once more whose run failed"),
    switch("--fresh", "begin with the present files, not those of the same sweep before"),
)  # fmt: skip


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run a grid of settings and compare the results."""
    with contextlib.ExitStack() as stack:
        if not context.dry_run:
            lock = context.project.runs / "locks" / "sweep"
            stack.enter_context(only_one(lock, OCCUPIED))
        began = _take_copy(context, arguments)
        cells = _cells_of(context, arguments)
        if not context.dry_run:
            _refuse_kernels_only(context, arguments.submit)
            _take_up(context, cells)
        _plan(context, cells)
        if context.dry_run:
            return
        if any(cell.run(context) is None for cell in cells):
            in_the_plan = ("settings", "weights", "gpu-quota")
            checks = dict.fromkeys((*doctor.BEFORE_BUNDLE, *doctor.BEFORE_PUSH))
            doctor.require(context, cells[0].settings, [c for c in checks if c not in in_the_plan])
            for cell in cells[1:]:
                doctor.require(context, cell.settings, ["models"])
            with context.remote.patient(context.timeouts.outage):
                bundle(context, weights_of(cells))
        if not began:
            _note_begun(context.project)
        sweep = Sweep(context, cells)
        sweep.finish()
        done, refused = True, {}
        if arguments.submit != "none" and not sweep.stopped:
            with context.remote.patient(context.timeouts.outage):
                done, refused = _hand_in(context, cells, arguments.submit)
    _show(context, cells, sweep.left_out() | {name: str(why) for name, why in refused.items()})
    if sweep.stopped:
        raise sweep.stopped
    runs = [run for cell in cells if (run := cell.run(context))]
    if not any(run.files or run.name in refused for run in runs):
        raise Problem("no setting has a result: `ship follow VERSION` shows why a run failed.")
    if not done:
        raise Problem(f"not all was submitted; {'; '.join(map(str, refused.values()))}")


def _refuse_kernels_only(context: Context, which: str) -> None:
    if which != "none" and takes_kernels_only(context):
        raise Problem(
            f"{context.project.competition} takes kernels only, and a sweep submits files: give "
            "the sweep without --submit; `ship predict VERSION` then submits the best run."
        )


def _take_copy(context: Context, arguments: argparse.Namespace) -> bool:
    """Work on a copy of the project from now on; return whether the sweep began with it before."""
    project = context.project
    folder = project.runs / "sweeps" / _key_of(context, arguments)
    copy = None if arguments.fresh else _copy_in(folder, project)
    if copy:
        context.project = copy
        if changed := changed_files(copy, project):
            say(
                f"this sweep goes on with the files that it began with at {copy.copied}, kept in "
                f"{copy.root}; {first_names(changed, 3)} changed since: `--fresh` begins it again "
                "with the present files"
            )
    elif not context.dry_run:
        shutil.rmtree(folder, ignore_errors=True)
        context.project = copy_project(project, folder)
    return copy is not None


def _copy_in(folder: Path, project: Project) -> Project | None:
    """Return the copy in a folder, None unless a sweep has begun with it."""
    try:
        note = loads((folder / NOTE).read_text(encoding="utf-8"))
        return Project(folder, project.root, str(note["begun"]), str(note["commit"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note_begun(copy: Project) -> None:
    note = {"begun": copy.copied, "commit": copy.copied_commit}
    write_atomically(copy.root / NOTE, json.dumps(note, indent=1) + "\n")


def changed_files(copy: Project, project: Project) -> list[str]:
    """Return which files of a project have changed since it was copied."""
    before, now = (
        {name: sha256(file) for name, file in sources(one).items() if file.is_file()}
        for one in (copy, project)
    )
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _take_up(context: Context, cells: list[Cell]) -> None:
    unknown = [cell for cell in cells if cell.run(context) is None]
    if not unknown:
        return
    with context.sending():
        settle_push(context)
        shown = context.remote.kernel(context.kernel_ref)
        for cell in unknown:
            run_at_kaggle(context, replace(cell.wanted, verified={}), shown)
