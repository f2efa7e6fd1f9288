"""`ship` without a command: the whole pipeline from the repository to a score.

Each step finds out by itself what is done already and skips it.
"""

import argparse

from common import Problem
from ship import doctor
from ship.bundle import bundle
from ship.contents import content_hash, upload_files
from ship.context import Context, say
from ship.fetch import fetch
from ship.follow import follow
from ship.push import FAILED, push, run_key
from ship.submit import submit


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Check, bundle, push, follow, fetch and submit."""
    settings = context.settings(arguments)
    if not nothing_changed(context, settings):
        doctor.examine(context, settings, quiet=True)
    config = context.shown_config(settings)
    bundle(context, config)
    push(context, settings, config)
    if context.dry_run:
        return say("would then follow the run, fetch its output, submit it and wait for the score")
    newest = context.state.run
    follow(context, newest)
    folder = fetch(context, newest)
    return submit(context, newest, folder / "submission.csv")


def nothing_changed(context: Context, settings: dict[str, str]) -> bool:
    """Tell whether the newest run has not failed and was made of exactly the present files."""
    newest = context.state.run
    if not newest.get("version") or newest.get("status") in FAILED:
        return False
    if newest["key"] != run_key(context, settings):
        return False
    try:
        files = upload_files(context.project.lib, newest["config"]["weights_files"])
    except Problem:  # the doctor tells what is wrong with them
        return False
    return content_hash(files) == context.state.dataset.get("hash")
