"""`ship doctor`: make all checks, and say how to mend what would fail later."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from kernelkit.core.problem import Problem
from ship.commands.checks import AT_KAGGLE, LOCAL, Concern, Settings, make, with_way_round
from ship.context import Context
from ship.kaggle.client_process import CredentialsRefused
from ship.output import say, tell

NEED_SETTINGS = ("weights", "disk", "GPU quota")
"""Checks that need settings which the kernel accepts."""


@dataclass(frozen=True)
class Finding:
    """What a check found; mark is "ok", "warn", "FAIL" or "skip"."""

    name: str
    mark: str
    text: str
    whole: str = ""
    """The sentence about a failure, with how to override it if that can be."""


def skipped(name: str, failed: set[str], dry_run: bool) -> str:
    """Return why a check can't be made after others have failed, "" when it can."""
    if name in NEED_SETTINGS and "settings" in failed:
        return "needs settings that the kernel accepts"
    if name == "disk" and failed & {"weights", "wheels"}:
        return "needs the weights and wheels"
    if name in AT_KAGGLE and failed & {"client", "credentials", "owner"}:
        return "needs working credentials"
    return "would ask Kaggle" if name in AT_KAGGLE and dry_run else ""


def findings(context: Context, settings: Settings) -> Iterator[Finding]:
    """Make all checks; those that ask Kaggle come last and need a client and credentials."""
    failed: set[str] = set()
    for name in LOCAL | AT_KAGGLE:
        if reason := skipped(name, failed, context.dry_run):
            yield Finding(name, "skip", reason)
            continue
        try:
            yield Finding(name, "ok", make(name, context, settings))
        except Concern as concern:
            yield Finding(name, "warn", str(concern))
        except Problem as problem:
            failed.add(name)
            if isinstance(problem, CredentialsRefused):
                failed.add("credentials")
            yield Finding(name, "FAIL", str(problem), with_way_round(name, problem))


def examine(context: Context, settings: Settings, quiet: bool = False) -> None:
    """Make all checks and print what they found.

    Args:
        context: the project, Kaggle and the state.
        settings: the kernel's settings.
        quiet: print only the warnings, for a command that goes on afterwards.

    Raises:
        Problem: a check has failed.
    """
    found = []
    for finding in findings(context, settings):
        found.append(finding)
        if not quiet or finding.mark == "warn":
            say(f"{finding.mark:<5} {finding.name:<17} {finding.text}")
    tell(checks=[{"name": one.name, "mark": one.mark, "text": one.text} for one in found])
    failed = [finding for finding in found if finding.mark == "FAIL"]
    if failed:
        first = failed[0]
        others = ", `ship doctor` shows all" if quiet and len(failed) > 1 else ""
        text = first.whole if quiet else first.text.rstrip(".")
        raise Problem(f"{len(failed)} of {len(found)} checks failed{others}; {first.name}: {text}")
    say(f"{len(found)} checks, none failed")


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship doctor`."""
    examine(context, context.settings(arguments))
