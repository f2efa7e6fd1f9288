"""`ship compare`: what changed between two runs, and which photos only one of them gets right."""

import argparse
import difflib

from kernelkit.core.problem import Problem
from ship.command_line import Usage
from ship.commands import runs
from ship.context import Context
from ship.ledger import Run
from ship.output import emit_json, say

MADE_OF = ("recipe", "backbone", "image_size", "commit", "packages")
MOST = 20  # photos of a kind that are listed; --json has all


def _changes(first: Run, second: Run) -> dict[str, tuple[str, str]]:
    ours, theirs = (
        {name: str(getattr(run, name)) for name in MADE_OF} | run.settings
        for run in (first, second)
    )
    both = {name: (ours.get(name, "-"), theirs.get(name, "-")) for name in ours | theirs}
    return {name: (a, b) for name, (a, b) in both.items() if a != b}


def _kernel_diff(context: Context, first: Run, second: Run) -> list[str]:
    """Return how the scripts that were pushed differ, as lines of a unified diff."""
    try:
        scripts = [_script_of(context, run) for run in (first, second)]
    except Problem as problem:
        return [f"(the scripts can't be compared: {problem})"]
    lines = [[line for line in text.splitlines() if "# ship:" not in line] for text in scripts]
    return list(difflib.unified_diff(*lines, first.name, second.name, n=2, lineterm=""))


def _script_of(context: Context, run: Run) -> str:
    if not run.version:
        raise Problem(f"{run.name} was run on this machine, which keeps no script")
    kept = context.project.runs / "kernels" / f"{run.name}.py"
    if kept.is_file():
        return kept.read_text(encoding="utf-8", errors="replace")
    return context.remote.source(run.kernel, run.version)


def _photo_lines(names: list[str], run: Run, other: dict) -> list[str]:
    if not names:
        return []
    lines = [f"only {run.name} gets {len(names)} right:"]
    lines += ["  {}: {}, taken for {}".format(name, *other[name]) for name in names[:MOST]]
    return lines + ([f"  and {len(names) - MOST} more"] if len(names) > MOST else [])


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Show how two runs differ: settings, kernel, photos."""
    if len(arguments.versions) != 2:
        raise Usage(
            "`ship compare` takes two runs, such as `ship compare 1 2` or two folders of output, "
            f"not {len(arguments.versions)}."
        )
    both = first, second = [runs.named_run(context, wanted) for wanted in arguments.versions]
    if len({first.competition, second.competition} - {""}) > 1:
        raise Problem(
            f"{first.name} is a run for {first.competition}, {second.name} for "
            f"{second.competition}: only runs for one competition are compared."
        )
    changed, diff = _changes(first, second), _kernel_diff(context, first, second)
    for name, (a, b) in changed.items():
        say(f"{name}: {a} -> {b}", result=True)
    say("\n".join(diff) if diff else "the scripts are the same", result=True)
    rows = runs.rows_of(context, both)
    say(runs.table(rows, ("run", *runs.RESULTS)), result=True)
    predictions = [runs.predictions_in(context.folder(run)) for run in both]
    pair = runs.compared(*predictions, second.metric) if all(predictions) else None
    emit_json(changed=changed, diff=diff, results=rows, photos=vars(pair) if pair else None)
    if pair:
        lines = [
            f"{pair.photos} photos validated both: the {second.metric} of {second.name} is "
            f"{abs(pair.difference):.4f} {'below' if pair.difference < 0 else 'above'} "
            f"{first.name}'s, p = {pair.p:.3f} ({pair.test})"
        ]
        lines += _photo_lines(pair.only_first, first, runs.answers(predictions[1]))
        lines += _photo_lines(pair.only_second, second, runs.answers(predictions[0]))
        return say("\n".join(lines), result=True)
    why = "none validated both"
    for one, found in zip(both, predictions, strict=True):
        if not found:
            why = f"there are no probabilities of {one.name} here"
            why += f": `ship fetch {one.name}` brings the output" if one.version else ""
            break
    return say(f"their photos can't be compared, because {why}", result=True)
