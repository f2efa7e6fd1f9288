"""The command `ship`: from the repository to a public score."""

import sys

try:
    import argparse
    import contextlib
    import importlib.metadata
    import signal
    import tempfile
    from collections.abc import Callable
    from dataclasses import dataclass
    from pathlib import Path

    from kernelkit.core.boundary import DISK_FULL, Boundary
    from kernelkit.core.problem import Problem
    from ship.commands import (
        cancel,
        compare,
        doctor,
        download,
        fetch,
        follow,
        init,
        opening,
        pipeline,
        push,
        rehearse,
        runs,
        status,
        submit,
        sweep,
    )
    from ship.context import Context
    from ship.grammar import Parser, one_of, split_command, version_arguments
    from ship.kaggle.credentials import without_secrets
    from ship.output import hiding, in_colour, printable, say, tell, voice
    from ship.project import bundle
    from ship.project.hashes import HASHES
    from ship.project.project import Project
except KeyboardInterrupt:  # while all this is imported
    print("ship: interrupted while starting: nothing was done.", file=sys.stderr)
    sys.exit(130)

DESCRIPTION = """
Ship the kernel in this folder to Kaggle: pack lib/ as a dataset, push the kernel, follow its run,
fetch its output, submit it and wait for the score. `ship` alone does all of this, skips what is
done, and after an interruption goes on where it was. `ship rehearse` shows it without an account.
"""

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
    before: tuple[str, ...] = ()
    """The checks that it depends on."""


@dataclass(frozen=True)
class LocalCommand:
    """A command that needs neither Kaggle nor an account."""

    help: str
    run: Callable[[argparse.Namespace, Project], None]
    arguments: AddArguments


class Teller(Boundary):
    """The boundary of `ship`: with --json its last sentence is told to programs too."""

    def explain(self, error: Exception) -> str:
        """Return the sentence for an error that is no Problem; a full disk is always named."""
        if isinstance(error, OSError) and error.errno in DISK_FULL and not error.filename:
            error.filename = str(self.traceback_file.parent)
        return super().explain(error)

    def say(self, sentence: str) -> None:
        """Print a sentence on standard error, without secrets and what controls a terminal."""
        sentence = self.hide(sentence)
        tell(sentence=printable(sentence))
        super().say(printable(sentence, in_colour(sys.stderr)))


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
    parser.add_argument(
        "--force",
        action="append",
        metavar="CHECK",
        type=one_of(doctor.FORCIBLE),
        default=argparse.SUPPRESS,
        help=f"go on although this check fails (repeat it): {', '.join(doctor.FORCIBLE)}",
    )


def wait_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument of the commands that wait for Kaggle at their end."""
    parser.add_argument(
        "--no-wait",
        action="store_true",
        default=argparse.SUPPRESS,
        help="do not wait for what Kaggle does with it",
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
    switches = {
        "--dry-run": "print what would be done, send and change nothing",
        "--quiet": "print only results and errors",
        "--json": "print one JSON object at the end; all other lines go to standard error",
    }
    for name, text in switches.items():
        parser.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=text)


PIPELINE = Command("", pipeline.run, (settings_arguments, push.add_arguments, wait_arguments))

COMMANDS = {
    "init": Command(
        "propose the kernel's block and the metadata of a competition",
        init.run,
        (init.add_arguments,),
    ),
    "doctor": Command("check everything that could fail later", doctor.run, (settings_arguments,)),
    "bundle": Command(
        "bring the lib dataset up to date",
        bundle.run,
        (settings_arguments, bundle.add_arguments),
        doctor.BEFORE_BUNDLE,
    ),
    "push": Command(
        "push the kernel as a new version, which runs",
        push.run,
        (settings_arguments, push.add_arguments),
        doctor.BEFORE_PUSH,
    ),
    "adopt": Command(
        "take up a version that this machine does not know",
        push.run_adopt,
        (version_arguments, push.open_argument),
    ),
    "follow": Command("show runs until they end", follow.run, (follow.add_arguments,)),
    "cancel": Command("end a run at Kaggle", cancel.run, (cancel.add_arguments, wait_arguments)),
    "fetch": Command("fetch a run's output", fetch.run, (fetch.add_arguments,)),
    "submit": Command(
        "submit, and wait for the score", submit.run, (submit.add_arguments, wait_arguments)
    ),
    "open": Command("show a run's report in a browser", opening.run, (version_arguments,)),
    "status": Command("show live runs, GPU quota and submissions left", status.run),
    "sweep": Command(
        "run a grid of settings and compare the results",
        sweep.run,
        (settings_arguments, push.run_arguments, sweep.add_arguments),
    ),
    "runs": Command("show the ledger of all runs", runs.run, (runs.add_arguments,)),
    "compare": Command(
        "show how two runs differ: settings, kernel, photos", compare.run, (compare.add_arguments,)
    ),
}

LOCAL_COMMANDS = {
    "weights": LocalCommand(
        "download backbones' ImageNet weights",
        download.run_weights,
        download.add_weights_arguments,
    ),
    "wheels": LocalCommand(
        "download what Kaggle's image may lack one day",
        download.run_wheels,
        download.add_wheels_arguments,
    ),
    "rehearse": LocalCommand(
        "run the whole pipeline on this machine, without an account",
        rehearse.rehearse,
        rehearse.add_arguments,
    ),
}


def tell_versions() -> None:
    """Print the versions of `ship` and of the kaggle client."""

    def version(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    ship, client = version("car-classification"), version("kaggle")
    tell(versions={"ship": ship, "kaggle": client})
    say(f"ship {ship}, kaggle client {client}", result=True)


def list_settings(parser: argparse.ArgumentParser) -> None:
    """Let a command's help end in the kernel's settings, with their defaults."""
    base = parser.format_help

    def with_settings() -> str:
        try:
            settings = Project.find(Path.cwd()).settings()
        except Problem:
            return base()
        lines = [f"  {s.name:<18} {s.default:<14} {s.help}" for s in settings]
        return "\n".join([base(), "settings (name, default, what it is):", *lines, ""])

    parser.format_help = with_settings


def make_parsers() -> dict[str, Parser]:
    """Return the parser of each command by its name, and that of `ship` alone under ""."""
    parser = Parser(prog="ship", description=DESCRIPTION)
    parser.add_argument(
        "--version", action="store_true", help="print versions, and do nothing else"
    )
    for add_arguments in (common_arguments, *PIPELINE.arguments):
        add_arguments(parser)
    subparsers = parser.add_subparsers(metavar="COMMAND")
    arguments = {name: command.arguments for name, command in COMMANDS.items()}
    arguments |= {name: (command.arguments,) for name, command in LOCAL_COMMANDS.items()}
    parsers = {"": parser}
    for name, command in (COMMANDS | LOCAL_COMMANDS).items():
        description = f"{command.help[0].upper()}{command.help[1:]}."
        parsers[name] = subparsers.add_parser(name, help=command.help, description=description)
        for add_arguments in (common_arguments, *arguments[name]):
            add_arguments(parsers[name])
        if name in ("push", "sweep"):
            list_settings(parsers[name])
    return parsers


def parse(words: list[str]) -> argparse.Namespace:
    """Return the command and its arguments.

    Raises:
        Usage: they are wrong.
    """
    tell(command="ship")
    parsers = make_parsers()
    if words[:1] == ["help"]:  # as git and others take it
        words = [*words[1:], "--help"]
    command, others = split_command(words, parsers[""], COMMANDS | LOCAL_COMMANDS)
    tell(command=command or "ship")
    switches = ("defaults", "dry_run", "quiet", "json", "no_wait", "again", "open", "goes_on")
    default = dict.fromkeys(("set", "project", "adopt", "gpu")) | dict.fromkeys(switches, False)
    default |= {"force": [], "versions": [], "version": False, "command": command}
    return argparse.Namespace(**(default | vars(parsers[command].parse(others))))


def perform(arguments: argparse.Namespace, boundary: Boundary) -> None:
    """Run the command that was asked for."""
    if arguments.version:
        return tell_versions()
    project = Project.find(arguments.project or Path.cwd())
    boundary.traceback_file = project.runs / "traceback.txt"
    boundary.doing = f"running `{' '.join(filter(None, ['ship', arguments.command]))}`"
    if arguments.command in LOCAL_COMMANDS:
        return LOCAL_COMMANDS[arguments.command].run(arguments, project)
    command = COMMANDS[arguments.command] if arguments.command else PIPELINE
    if command is COMMANDS["push"] and arguments.adopt:  # which is `ship adopt`
        command, arguments.versions = COMMANDS["adopt"], [arguments.adopt]
    context = Context.of(
        project,
        boundary,
        arguments.dry_run,
        forced=tuple(arguments.force),
        gpu=push.gpu_name(arguments.gpu),
    )
    if arguments.goes_on:
        context.continued = push.run_to_continue(context)
    with contextlib.ExitStack() as stack:
        stack.enter_context(context.remote)
        if not context.dry_run:
            stack.callback(HASHES.keep)
        if command.before:
            doctor.require(context, context.settings(arguments), command.before)
        return command.run(context, arguments)


@contextlib.contextmanager
def interrupted_by_signals():
    """Let SIGTERM and SIGHUP interrupt as Ctrl-C does; the list that is given gets the signal."""
    received: list[int] = []

    def interrupt(number: int, _: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    names = ("SIGTERM", "SIGHUP")
    before = {}
    with contextlib.suppress(ValueError):  # another thread than the main one
        for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
            before[number] = signal.signal(number, interrupt)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@hiding()
def main(argv: list[str] | None = None) -> int:
    """Run `ship` and return the exit status.

    0 means that all went well, 1 that one sentence on stderr says why not, 2 that the arguments are
    wrong, 130 that Ctrl-C was pressed, 143 that SIGTERM and 129 that SIGHUP came.
    """
    words = sys.argv[1:] if argv is None else argv
    outside = Path(tempfile.gettempdir(), "ship-traceback.txt")  # until the project is found
    boundary = Teller("ship", outside, SAFE, hide=without_secrets)
    with interrupted_by_signals() as received, voice("--quiet" in words, "--json" in words):
        try:
            status = boundary.run(lambda: perform(parse(words), boundary))
        except SystemExit:  # after the help
            status = 0
        status = 128 + received[0] if received and status == 130 else status
        tell(exit_status=status)
    return status


if __name__ == "__main__":
    sys.exit(main())
