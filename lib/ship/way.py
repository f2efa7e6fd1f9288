"""`ship` alone: the whole way from the repository to a score, skipping what is done."""

import argparse

from ship import doctor
from ship.bundle import bundle
from ship.desk import Desk, say
from ship.fetch import fetch
from ship.follow import follow
from ship.push import OVER, push, run_key
from ship.submit import submit


def run(desk: Desk, arguments: argparse.Namespace) -> None:
    """Check, bundle, push, follow, fetch, submit; each step knows what is done."""
    settings = desk.settings(arguments)
    newest = desk.state.run
    known = newest.get("version") and newest.get("status") not in OVER
    if not known or newest["key"] != run_key(desk, settings):
        doctor.examine(desk, settings, quiet=True)
    config = desk.shown_config(settings)
    bundle(desk, config)
    push(desk, settings, config)
    if desk.dry_run:
        return say("would then follow the run, fetch its output, submit it and wait for the score")
    run = desk.state.run
    follow(desk, run)
    folder = fetch(desk, run)
    return submit(desk, run, folder / "submission.csv")
