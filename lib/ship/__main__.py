"""The command `ship`: from the repository to a public score."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from common import Problem
from common.locks import only_one
from ship import bundle, doctor, fetch, follow, push, rehearse, runs, submit, way, weights, wheels
from ship.credentials import Credentials, redact
from ship.desk import Desk
from ship.project import Project

DESCRIPTION = """
Ship the kernel in this folder to Kaggle: pack lib/ as a dataset, push the kernel, follow its run,
fetch its output, submit it and wait for the score. `ship` alone does all of this, skips what is
done, and after an interruption goes on where it was. `ship rehearse` shows it without an account.
"""

AT_WORK = (
    "another ship is at work in this project ({holder}): wait for it, or end it and run the same "
    "command again; it goes on where the other stopped."
)

Command = tuple[str, Callable[[Desk, argparse.Namespace], None], list[Callable], bool]


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
    """Add the arguments of all commands."""
    parser.add_argument(
        "--project",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="the project's folder (the one around the current folder)",
    )
    if parser.prog.split()[-1] not in ("weights", "wheels"):  # they have their own
        parser.add_argument(
            "--dry-run",
            action="store_true",
            default=argparse.SUPPRESS,
            help="print what would be sent, send nothing",
        )


COMMANDS: dict[str, Command] = {
    "doctor": (
        "check everything that could fail later",
        doctor.run,
        [settings_arguments],
        False,
    ),
    "bundle": (
        "bring the lib dataset up to date",
        bundle.run,
        [settings_arguments, bundle.add_arguments],
        True,
    ),
    "push": (
        "push the kernel as a new version, which runs",
        push.run,
        [settings_arguments, push.add_arguments],
        True,
    ),
    "follow": ("show a run until it ends", follow.run, [follow.add_arguments], True),
    "fetch": ("fetch a run's output", fetch.run, [fetch.add_arguments], True),
    "submit": ("submit, and wait for the score", submit.run, [submit.add_arguments], True),
    "runs": ("show the ledger of all runs", runs.run, [runs.add_arguments], False),
}
"""A command's line of help, its function, its arguments, and whether only one may run at a time."""

ALONE: dict[str, tuple[str, Callable]] = {
    "weights": ("download backbones' ImageNet weights", weights.add_arguments),
    "wheels": ("download what Kaggle's image may lack one day", wheels.add_arguments),
    "rehearse": ("go the whole way on this machine, without an account", rehearse.add_arguments),
}
"""Commands that need no Kaggle."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of `ship` and all its commands."""
    parser = argparse.ArgumentParser(prog="ship", description=DESCRIPTION)
    common_arguments(parser)
    settings_arguments(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (text, _, adders, _) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
        for add in (common_arguments, *adders):
            add(command)
    for name, (text, add) in ALONE.items():
        command = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
        common_arguments(command)
        add(command)
    parser.set_defaults(set=None, defaults=False, dry_run=False, project=None)
    return parser


def perform(arguments: argparse.Namespace) -> None:
    """Run the command that was asked for."""
    project = Project.find(arguments.project or Path.cwd())
    match arguments.command:
        case "weights":
            weights.run(arguments, project.lib / "weights")
        case "wheels":
            wheels.run(arguments, project.lib / "wheels")
        case "rehearse":
            rehearse.rehearse(arguments, project)
        case command:
            at_kaggle(command, arguments, project)


def at_kaggle(command: str | None, arguments: argparse.Namespace, project: Project) -> None:
    """Run a command that needs Kaggle, or the whole way when none is named."""
    _, run, _, alone = COMMANDS.get(command, ("", way.run, [], True))
    with contextlib.ExitStack() as stack:
        if alone and not arguments.dry_run:
            stack.enter_context(only_one(project.runs / ".lock", AT_WORK))
        desk = Desk.at(project, arguments.dry_run)
        stack.enter_context(desk.remote)
        run(desk, arguments)


def main(argv: list[str] | None = None) -> int:
    """Run `ship`: 0, 1 with one sentence on stderr, 2 for wrong arguments, 130 after Ctrl-C."""
    arguments = make_parser().parse_args(argv)
    try:
        perform(arguments)
        return 0
    except Problem as problem:
        sentence = str(problem)
    except KeyboardInterrupt:
        print("\nship: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        sentence = f"{error.filename or 'the system'}: {error.strerror or error}."
    print(f"ship: {redact(sentence, Credentials.find().secrets)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
