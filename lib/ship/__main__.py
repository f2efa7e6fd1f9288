"""The command `ship`: from the repository to a public score."""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common import Boundary
from common.locks import only_one
from ship import (
    bundle,
    doctor,
    fetch,
    follow,
    pipeline,
    push,
    rehearse,
    runs,
    submit,
    weights,
    wheels,
)
from ship.context import Context
from ship.credentials import Credentials, redact
from ship.project import Project

DESCRIPTION = """
Ship the kernel in this folder to Kaggle: pack lib/ as a dataset, push the kernel, follow its run,
fetch its output, submit it and wait for the score. `ship` alone does all of this, skips what is
done, and after an interruption goes on where it was. `ship rehearse` shows it without an account.
"""

OCCUPIED = (
    "another ship is at work in this project ({holder}): wait for it, or end it and run the same "
    "command again; it goes on where the other stopped."
)

SAFE = (
    "What was sent and what is known of it is safe: the same command goes on from here. If it "
    "fails again, `ship doctor` checks everything."
)

AddArguments = Callable[[argparse.ArgumentParser], None]


@dataclass(frozen=True)
class Command:
    """A command that works with Kaggle."""

    help: str
    run: Callable[[Context, argparse.Namespace], None]
    arguments: tuple[AddArguments, ...] = ()
    exclusive: bool = True
    """Only one such command may run in a project at a time."""


@dataclass(frozen=True)
class LocalCommand:
    """A command that needs neither Kaggle nor an account."""

    help: str
    run: Callable[[argparse.Namespace, Project], None]
    arguments: AddArguments


def settings_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the commands that depend on the kernel's settings."""
    parser.add_argument(
        "--set",
        action="append",
        metavar="FIELD=VALUE",
        default=argparse.SUPPRESS,
        help="a setting of the kernel (repeat it); without one, those of the last push",
    )
    parser.add_argument(
        "--defaults",
        action="store_true",
        default=argparse.SUPPRESS,
        help="the kernel's own settings, not those of the last push",
    )


def common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of all commands; before the command they mean the same as after it."""
    parser.add_argument(
        "--project",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="the project's folder (the one around the current folder)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        default=argparse.SUPPRESS,
        help="print what would be done, send and change nothing",
    )


PIPELINE = Command("", pipeline.run)

COMMANDS = {
    "doctor": Command(
        "check everything that could fail later", doctor.run, (settings_arguments,), exclusive=False
    ),
    "bundle": Command(
        "bring the lib dataset up to date", bundle.run, (settings_arguments, bundle.add_arguments)
    ),
    "push": Command(
        "push the kernel as a new version, which runs",
        push.run,
        (settings_arguments, push.add_arguments),
    ),
    "follow": Command("show a run until it ends", follow.run, (follow.add_arguments,)),
    "fetch": Command("fetch a run's output", fetch.run, (fetch.add_arguments,)),
    "submit": Command("submit, and wait for the score", submit.run, (submit.add_arguments,)),
    "runs": Command(
        "show the ledger of all runs", runs.run, (runs.add_arguments,), exclusive=False
    ),
}

LOCAL_COMMANDS = {
    "weights": LocalCommand(
        "download backbones' ImageNet weights",
        lambda arguments, project: weights.run(arguments, project.lib / "weights"),
        weights.add_arguments,
    ),
    "wheels": LocalCommand(
        "download what Kaggle's image may lack one day",
        lambda arguments, project: wheels.run(arguments, project.lib / "wheels"),
        wheels.add_arguments,
    ),
    "rehearse": LocalCommand(
        "run the whole pipeline on this machine, without an account",
        rehearse.rehearse,
        rehearse.add_arguments,
    ),
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of `ship` and all its commands."""
    parser = argparse.ArgumentParser(prog="ship", description=DESCRIPTION)
    common_arguments(parser)
    settings_arguments(parser)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    arguments = {name: command.arguments for name, command in COMMANDS.items()}
    arguments |= {name: (command.arguments,) for name, command in LOCAL_COMMANDS.items()}
    for name, command in (COMMANDS | LOCAL_COMMANDS).items():
        description = f"{command.help.capitalize()}."
        subparser = subparsers.add_parser(name, help=command.help, description=description)
        for add_arguments in (common_arguments, *arguments[name]):
            add_arguments(subparser)
    parser.set_defaults(set=None, defaults=False, dry_run=False, project=None)
    return parser


def perform(arguments: argparse.Namespace, boundary: Boundary) -> None:
    """Run the command that was asked for."""
    project = Project.find(arguments.project or Path.cwd())
    boundary.traceback_file = project.runs / "traceback.txt"
    boundary.doing = f"running `{' '.join(filter(None, ['ship', arguments.command]))}`"
    if arguments.command in LOCAL_COMMANDS:
        LOCAL_COMMANDS[arguments.command].run(arguments, project)
        return
    command = COMMANDS[arguments.command] if arguments.command else PIPELINE
    with contextlib.ExitStack() as stack:
        if command.exclusive and not arguments.dry_run:
            stack.enter_context(only_one(project.runs / ".lock", OCCUPIED))
        context = Context.of(project, boundary, arguments.dry_run)
        stack.enter_context(context.remote)
        command.run(context, arguments)


def without_secrets(text: str) -> str:
    """Return a text in which this machine's Kaggle credentials are replaced."""
    return redact(text, Credentials.find().secrets)


def main(argv: list[str] | None = None) -> int:
    """Run `ship` and return the exit status.

    0 means that all went well, 1 that one sentence on stderr says why not, 2 that the arguments are
    wrong, and 130 that Ctrl-C was pressed.
    """
    arguments = make_parser().parse_args(argv)
    outside = Path(tempfile.gettempdir(), "ship-traceback.txt")  # until the project is found
    boundary = Boundary("ship", outside, SAFE, hide=without_secrets)
    return boundary.run(lambda: perform(arguments, boundary))


if __name__ == "__main__":
    sys.exit(main())
