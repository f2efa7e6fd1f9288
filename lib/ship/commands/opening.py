"""`ship open`: show the report of a run in a browser."""

import argparse
import webbrowser

from kernelkit.core.problem import Problem
from ship.commands.push import chosen_run
from ship.context import Context
from ship.grammar import only_version
from ship.output import say, tell

REPORT = "report.html"


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship open`.

    Raises:
        Problem: the run's output was not fetched, or has no report.
    """
    chosen = chosen_run(context, only_version(arguments))
    report = context.folder(chosen) / REPORT
    if not report.is_file():
        raise Problem(
            f"there is no {report}: `ship fetch {chosen.name}` fetches the run's "
            f"output; `python kernel.py --report {report.parent}` makes the report anew."
        )
    tell(report=str(report))
    if context.dry_run:
        return say(f"would open {report}")
    webbrowser.open(report.resolve().as_uri())  # False where there is no browser
    return say(str(report), result=True)
