"""`ship status`: all live runs, the GPU quota and today's submissions, on one screen."""

import argparse
from collections.abc import Callable
from typing import Any

from kernelkit.core.progress import EpochProgress
from ship.commands.doctor import Concern, gpu_time, submissions_left
from ship.commands.follow import log_of, refresh
from ship.context import Context
from ship.ledger import Run, settings_text
from ship.output import printable, say, tell


def live_runs(context: Context) -> list[Run]:
    """Return the runs that are not known to be over."""
    return [run for run in context.ledger.runs() if run.version and not run.ended]


def progress_of(context: Context, run: Run) -> str:
    """Return how far a run is by the last epoch in its log, "" when it has none."""
    for entry in reversed(log_of(context, run)):
        if progress := EpochProgress.parse(printable(str(entry.get("data") or ""))):
            return progress.summary()
    return ""


def told(question: Callable[[Context], Any], context: Context) -> Any:
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
        settings = settings_text(run.settings)
        shown.append({"run": run.name, "run_status": word, "progress": progress, "page": run.page})
        say("  ".join(filter(None, [f"{run.name}: {word}", settings, progress])), result=True)
    if not shown:
        say("no run is under way", result=True)
    if context.state.push:
        say("a push was cut short: the next `ship` asks Kaggle whether it arrived", result=True)
    gpu, left = told(gpu_time, context), told(submissions_left, context)
    if gpu:
        say(f"{gpu.left / 60:.1f} h of GPU time left this week{gpu.until}", result=True)
    if left is not None:
        say(f"{left} submissions left today", result=True)
    return tell(runs=shown, gpu_minutes_left=gpu and gpu.left, submissions_left=left)
