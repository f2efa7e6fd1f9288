"""`ship status`: all live runs, the GPU quota and today's submissions, on one screen."""

import argparse
from collections.abc import Callable

from common import EpochProgress
from ship.checks import Concern, gpu_minutes_left, submissions_left
from ship.context import Context
from ship.follow import refresh
from ship.output import say, tell
from ship.record import Run


def live_runs(context: Context) -> list[Run]:
    """Return the runs that are not known to be over."""
    return [run for run in context.ledger.runs() if run.version and not run.ended]


def progress_of(context: Context, run: Run) -> str:
    """Return how far a run is by the last epoch in its log, "" when it has none."""
    entries = context.remote.run_output(run.kernel, run.version)[1]
    for entry in reversed(entries):
        if progress := EpochProgress.parse(str(entry.get("data") or "")):
            return progress.summary()
    return ""


def told(question: Callable[[Context], float], context: Context) -> float | None:
    """Return what Kaggle answers, None when it does not tell."""
    try:
        return question(context)
    except Concern as concern:
        say(str(concern))
        return None


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship status`."""
    if context.dry_run:
        return say("would ask Kaggle about the live runs, the GPU quota and the submissions")
    context.doing("asking how things stand")
    shown = []
    for run in live_runs(context):
        word = refresh(context, run)
        progress = progress_of(context, run) if word == "RUNNING" else ""
        settings = " ".join(f"{name}={value}" for name, value in run.settings.items())
        shown.append({"run": run.name, "run_status": word, "progress": progress, "page": run.page})
        say("  ".join(filter(None, [f"{run.name}: {word}", settings, progress])), result=True)
    if not shown:
        say("no run is under way", result=True)
    if context.state.push:
        say("a push was cut short: the next `ship` asks Kaggle whether it arrived", result=True)
    minutes, left = told(gpu_minutes_left, context), told(submissions_left, context)
    if minutes is not None:
        say(f"{minutes / 60:.1f} h of GPU time left this week", result=True)
    if left is not None:
        say(f"{left} submissions left today", result=True)
    return tell(runs=shown, gpu_minutes_left=minutes, submissions_left=left)
