"""Runs of the kernel on this machine, by the folders that hold their output."""

import argparse
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from kernelkit.core.problem import Problem
from ship.commands.fetch import measure, number, read_metrics
from ship.commands.push import chosen_run
from ship.context import Context
from ship.grammar import Version, version_arguments, version_or
from ship.ledger import Run

OPTIONS_OF_PLACE = ("data", "output", "fresh")
"""Options of the kernel that change nothing of what a run is made of."""


@dataclass
class LocalRun(Run):
    """A run whose output lies in a folder of a person's choice."""

    folder: Path = Path()


def run_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command take runs by their versions, or by the folders of their output."""
    version_arguments(parser, version_or(Path.is_dir), "RUN", ", or by the folder of its output")


def named_run(context: Context, wanted: Version | Path) -> Run:
    """Return the run of a version, or that whose output is in a folder.

    Raises:
        Problem: there is no such run.
    """
    if isinstance(wanted, Version):
        return chosen_run(context, wanted)
    for known in context.ledger.runs():
        if context.folder(known).resolve() == wanted.resolve():
            return known
    return run_in(wanted)


def run_in(folder: Path) -> LocalRun:
    """Return the record of the finished run of the kernel whose output is in a folder.

    Raises:
        Problem: there is no such folder, or no finished run in it.
    """
    if not folder.is_dir():
        raise Problem(f"{folder} is neither a folder that is there nor a version.")
    metrics = read_metrics(folder)
    if not metrics:
        raise Problem(
            f"{folder} holds no finished run: there is no metrics.json in it that can be read."
        )
    size, packages = metrics.get("image_size"), str(metrics.get("packages") or "")
    ended = time.localtime((folder / "metrics.json").stat().st_mtime)
    run = LocalRun(
        str(folder),
        time=time.strftime("%Y-%m-%d %H:%M:%S", ended),
        recipe=str(metrics.get("recipe") or ""),
        backbone=str(metrics.get("backbone") or ""),
        image_size="x".join(map(str, size)) if isinstance(size, list) else "",
        settings=settings_in(str(metrics.get("command") or "")),
        packages=packages,
        found=packages,
        status="complete",
        folder=folder,
    )
    measure(run, metrics)
    seconds = number(metrics.get("seconds"))
    if "GPU" in str(metrics.get("devices")) and seconds is not None:
        run.gpu_minutes = round(seconds / 60, 1)
    return run


def settings_in(command: str) -> dict[str, str]:
    """Return the settings in the command line of a run, under their names in the kernel."""
    try:
        words = shlex.split(command)
    except ValueError:
        return {}
    settings: dict[str, str] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, _, text = word[2:].partition("=")
            name = name.replace("-", "_")
            settings[name] = text
        elif name:
            settings[name] = f"{settings[name]} {word}".strip()
    return {name: text for name, text in settings.items() if name not in OPTIONS_OF_PLACE}
