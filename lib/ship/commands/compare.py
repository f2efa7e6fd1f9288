"""`ship compare`: what changed between two runs, and which photos only one of them gets right."""

import argparse
import difflib

from kernelkit.core.contract import ValidationPredictions
from kernelkit.core.problem import Problem
from ship.commands.local import named_run, run_arguments
from ship.commands.paired import Pair, aligned, answers, columns, compared, predictions_of, texts
from ship.context import Context
from ship.grammar import Usage
from ship.ledger import Run
from ship.output import say, tell

MADE_OF = ("recipe", "backbone", "image_size", "commit", "packages")
MOST = 20
"""How many photos of a kind are listed; --json has all."""


def changes(first: Run, second: Run) -> dict[str, tuple[str, str]]:
    """Return what two runs were made of differently, by name as (first's, second's)."""
    parts = [
        {name: str(getattr(run, name)) for name in MADE_OF} | run.settings
        for run in (first, second)
    ]
    names = dict.fromkeys([*parts[0], *parts[1]])
    both = {name: (parts[0].get(name, "-"), parts[1].get(name, "-")) for name in names}
    return {name: (a, b) for name, (a, b) in both.items() if a != b}


def kernel_diff(context: Context, first: Run, second: Run) -> list[str]:
    """Return how the scripts that were pushed differ, as lines of a unified diff."""
    try:
        texts = [script_of(context, run) for run in (first, second)]
    except Problem as problem:
        return [f"(the scripts can't be compared: {problem})"]
    lines = [[line for line in text.splitlines() if "# ship:" not in line] for text in texts]
    return list(difflib.unified_diff(*lines, first.name, second.name, n=2, lineterm=""))


def script_of(context: Context, run: Run) -> str:
    """Return the script of a run as it was pushed, from here or from Kaggle.

    Raises:
        Problem: neither has it.
    """
    if not run.version:
        raise Problem(f"{run.name} was run on this machine, which keeps no script")
    kept = context.project.runs / "kernels" / f"{run.name}.py"
    if kept.is_file():
        return kept.read_text(encoding="utf-8", errors="replace")
    return context.remote.source(run.kernel, run.version)


def photo_lines(
    pair: Pair, first: Run, second: Run, predictions: list[ValidationPredictions]
) -> list[str]:
    """Return which photos only one of two runs gets right, with the other one's answer."""
    said = [answers(one) for one in predictions]
    lines = [
        f"{pair.photos} photos validated both: the {second.metric} of {second.name} is "
        f"{pair.difference:+.4f} to {first.name}'s, p = {pair.p:.3f} ({pair.test})"
    ]
    for run, names, wrong in (
        (first, pair.only_first, said[1]),
        (second, pair.only_second, said[0]),
    ):
        lines.append(f"only {run.name} gets {len(names)} right:")
        lines += [
            f"  {name}: {wrong[name][0]}, taken for {wrong[name][1]}" for name in names[:MOST]
        ]
        lines += [f"  and {len(names) - MOST} more"] if len(names) > MOST else []
    return lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship compare`."""
    run_arguments(parser)


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship compare`.

    Raises:
        Usage: not two runs are named.
    """
    if len(arguments.versions) != 2:
        raise Usage(
            "`ship compare` takes two runs, such as `ship compare 1 2` or two folders of output, "
            f"not {len(arguments.versions)}."
        )
    first, second = (named_run(context, wanted) for wanted in arguments.versions)
    if len({first.competition, second.competition} - {""}) > 1:
        raise Problem(
            f"{first.name} is a run for {first.competition}, {second.name} for "
            f"{second.competition}: only runs for one competition are compared."
        )
    changed, diff = changes(first, second), kernel_diff(context, first, second)
    for name, (a, b) in changed.items():
        say(f"{name}: {a} -> {b}", result=True)
    say("\n".join(diff) if diff else "the scripts are the same", result=True)
    folders = [context.folder(run) for run in (first, second)]
    rows = columns([first, second], folders)
    named = zip((first, second), rows, strict=True)
    say(aligned([{"run": run.name, **texts(row)} for run, row in named]), result=True)
    predictions = [predictions_of(folder) for folder in folders]
    pair = compared(*predictions, second.metric) if all(predictions) else None
    if pair is None:
        both = zip((first, second), predictions, strict=True)
        lacking = [run for run, found in both if not found]
        why = "none validated both"
        if lacking:
            of_kaggle = f": `ship fetch {lacking[0].name}` brings the output"
            why = f"there are no probabilities of {lacking[0].name} here"
            why += of_kaggle if lacking[0].version else ""
        say(f"their photos can't be compared, because {why}", result=True)
    else:
        say("\n".join(photo_lines(pair, first, second, predictions)), result=True)
    return tell(changed=changed, diff=diff, results=rows, photos=vars(pair) if pair else None)
