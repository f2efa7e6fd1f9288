"""`ship cancel`: end a run at Kaggle.

Kaggle ends a session by its number, which no public call tells. The pushed script prints the name
of its container, which ends in that number, as its first line; `ship` reads it from the log.
"""

import argparse

from kernelkit.core.problem import Problem
from ship.commands.follow import refresh, session_in
from ship.commands.push import chosen_run
from ship.context import Context
from ship.grammar import number_of, only_version, version_arguments
from ship.kaggle.client_process import Refused
from ship.ledger import Run
from ship.output import say, tell


def cancel(context: Context, run: Run, session: int | None = None, wait: bool = True) -> None:
    """End a run, unless it is over, and wait until Kaggle says so.

    Raises:
        Problem: the session's number is unknown, or Kaggle does not end it.
    """
    context.doing(f"cancelling {run.name}")
    status = refresh(context, run)
    if run.ended:
        return say(f"{run.name} is over already: {status}")
    number = session or run.session or session_in_log(context, run)
    if not number:
        raise Problem(
            f"{run.name} is {status}, and Kaggle tells the number of its session only in the run's "
            f"own log, which has no line yet: try again when it runs, or end it at {run.page}."
        )
    if refusal := refusal_of(context, number):
        if (status := refresh(context, run)) and run.ended:
            return say(f"{run.name} was over before it could be cancelled: {status}")
        raise Problem(f"Kaggle does not end {run.name} ({refusal}): end it at {run.page}.")
    say(f"Kaggle was asked to end {run.name}")
    for waited in context.asking():
        status = refresh(context, run)
        if run.ended or not wait:
            break
        if waited > context.timeouts.prove:
            raise Problem(f"{run.name} is still {status}: see {run.page}.")
    tell(run=run.name, run_status=run.status)
    early = " (it was complete before Kaggle could end it)" if status == "COMPLETE" else ""
    return say(f"{run.name}: {status}{early}")


def refusal_of(context: Context, session: int) -> str:
    """Ask Kaggle to end a session, and return why it does not, "" when it will."""
    try:
        return context.remote.cancel(session)
    except Refused as refusal:
        return str(refusal).rstrip(".")


def session_in_log(context: Context, run: Run) -> int:
    """Return the number of the run's session that its log tells, 0 while it tells none."""
    entries = context.remote.run_output(run.kernel, run.version)[1]
    text = "".join(str(entry.get("data") or "") for entry in entries)
    return next(filter(None, (session_in(line.rstrip()) for line in text.split("\n"))), 0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship cancel`."""
    version_arguments(parser)
    parser.add_argument(
        "--session",
        type=number_of(int, least=1),
        metavar="N",
        help="the number of Kaggle's session, as its log has it",
    )


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship cancel`."""
    chosen = chosen_run(context, only_version(arguments))
    if context.dry_run:
        return say(f"would cancel {chosen.name}: {chosen.page}")
    return cancel(context, chosen, arguments.session, not arguments.no_wait)
