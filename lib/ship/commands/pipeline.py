"""`ship` without a command: the whole pipeline from the repository to a score.

Each step finds out by itself what is done already and skips it.
"""

import argparse

from kernelkit.core.problem import Problem
from ship.commands import doctor
from ship.commands.fetch import SUBMISSION, fetch
from ship.commands.follow import follow
from ship.commands.push import open_page, push, same_as, settle_push, take_up
from ship.commands.submit import submit
from ship.context import Context
from ship.ledger import Run
from ship.output import say
from ship.project.bundle import bundle
from ship.project.versions import known_run, new_run


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Check, bundle, push, follow, fetch and submit."""
    if arguments.adopt and context.dry_run:
        pushed = say(f"would take up version {arguments.adopt.number} of {context.kernel_ref}")
    elif arguments.adopt:
        pushed = take_up(context, arguments.adopt)
    else:
        pushed = ship(context, arguments)
    if pushed is None:
        return say("would then follow the run, fetch its output, submit it and wait for the score")
    if arguments.open:
        open_page(pushed)
    return None if arguments.no_wait else finish(context, pushed)


def ship(context: Context, arguments: argparse.Namespace) -> Run | None:
    """Check, bundle and push, and return the run; None in a dry run."""
    settings = context.settings(arguments)
    if not nothing_changed(context, settings):
        doctor.examine(context, settings, quiet=True)
    config = context.shown_config(settings)
    with context.remote.patient(context.timeouts.outage), context.sending():
        # A run of exactly the same needs no dataset, which may hold something else by now.
        if arguments.again or context.dry_run or not is_pushed(context, settings, config):
            bundle(context, config)
        return push(context, settings, config, arguments.again)


def finish(context: Context, run: Run) -> None:
    """Follow a run, fetch its output, submit it and wait for the score."""
    timeouts = context.timeouts  # another `ship` may follow the run for hours
    with context.holding(run, timeouts.score), context.remote.patient(timeouts.outage):
        follow(context, [run])
        folder = fetch(context, run)
        submit(context, run, folder / SUBMISSION)


def is_pushed(context: Context, settings: dict[str, str], config: dict) -> bool:
    """Tell whether a run of exactly this is known, after an unfinished push is settled."""
    settle_push(context)
    return bool(same_as(context, new_run(context, settings, config)))


def nothing_changed(context: Context, settings: dict[str, str]) -> bool:
    """Tell whether there is a run of exactly the present files that has not failed."""
    if context.dry_run or context.state.push:
        return False
    try:
        config = context.shown_config(settings)
        known = known_run(context, new_run(context, settings, config))
    except Problem:  # the doctor tells what is wrong
        return False
    return bool(known and not known.useless)
