"""The command `ship`: from the repository to a public score."""

import sys

try:
    import argparse
    import contextlib
    import importlib.metadata
    import signal
    from collections.abc import Callable, Iterator
    from dataclasses import dataclass
    from pathlib import Path

    from kernelkit.core.boundary import DISK_FULL, Boundary
    from kernelkit.core.problem import Problem
    from ship.command_line import (
        Argument,
        Parser,
        Usage,
        one_of,
        only_version,
        option,
        split_command,
        switch,
        version_arguments,
    )
    from ship.commands import (
        doctor,
        download,
        fetch,
        init,
        live_runs,
        pipeline,
        predict,
        push,
        rehearse,
        runs,
        submit,
        sweep,
    )
    from ship.context import Context
    from ship.kaggle.credentials import without_secrets
    from ship.output import emit_json, in_colour, output, printable, say
    from ship.project import bundle
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
DEFAULTS = {
    **dict.fromkeys(("set", "project", "adopt", "gpu")),
    **dict.fromkeys(("defaults", "dry_run", "quiet", "json", "no_wait", "version"), False),
    **dict.fromkeys(("again", "open", "continues"), False),
    **{"force": [], "versions": []},
}
"""The values of options that a command does not have, or that are not given."""


@dataclass(frozen=True)
class Command:
    """A command, whose help is the first line of the docstring of what it runs."""

    run: Callable  # gets a Context and the arguments, or with `local` these and a Project
    arguments: tuple[Argument, ...] = ()
    runs: str = ""  # it takes "one" run or "several" by their versions
    checks: tuple[str, ...] = ()  # must not fail before
    local: bool = False  # it needs no account

    @property
    def help(self) -> str:
        """What it does, as in "would ..."."""
        description = self.run.__doc__.splitlines()[0]
        return description[0].lower() + description[1:].rstrip(".")


class ShipBoundary(Boundary):
    """The boundary of `ship`: with --json its last sentence is a part of the object."""

    def explain(self, error: Exception) -> str:
        """Return the sentence for an error that is no Problem; a full disk is always named."""
        is_full = isinstance(error, OSError) and error.errno in DISK_FULL
        if is_full and not error.filename and self.traceback_file:
            error.filename = str(self.traceback_file.parent)
        return super().explain(error)

    def say(self, sentence: str) -> None:
        """Print a sentence on standard error, without secrets and what controls a terminal."""
        sentence = self.hide(sentence)
        emit_json(sentence=printable(sentence))
        super().say(printable(sentence, in_colour(sys.stderr)))


COMMON = (
    option("--project", "the project's folder (the one around the current folder)",
        type=Path, metavar="DIR"),
    switch("--dry-run", "print what would be done, send and change nothing"),
    switch("--quiet", "print only results and errors"),
    switch("--json", "print one JSON object at the end; other lines go to standard error"),
)  # fmt: skip
SETTINGS = (
    option("--set", "a setting of the kernel (repeat it); without one, those of the last push",
        action="append", metavar="FIELD=VALUE"),
    switch("--defaults", "the kernel's own settings, not those of the last push"),
    option("--force", f"go on although this check fails (repeat it): {', '.join(doctor.FORCIBLE)}",
        action="append", metavar="CHECK", type=one_of(doctor.FORCIBLE)),
)  # fmt: skip
"""Of the commands that depend on the kernel's settings."""
NO_WAIT = switch("--no-wait", "do not wait for what Kaggle does with it")
PUSHING = (*SETTINGS, *push.ARGUMENTS)
COMMANDS = {
    "": Command(pipeline.run, (*PUSHING, NO_WAIT, *pipeline.ARGUMENTS)),
    "init": Command(init.run, init.ARGUMENTS),
    "doctor": Command(doctor.run, SETTINGS),
    "bundle": Command(bundle.run, (*SETTINGS, *bundle.ARGUMENTS), checks=doctor.BEFORE_BUNDLE),
    "push": Command(push.run_push, PUSHING, checks=doctor.BEFORE_PUSH),
    "adopt": Command(push.run_adopt, (*version_arguments(), live_runs.OPEN)),
    "follow": Command(live_runs.run_follow, (live_runs.OPEN,), runs="several"),
    "cancel": Command(live_runs.run_cancel, (live_runs.SESSION_NUMBER, NO_WAIT), runs="one"),
    "fetch": Command(fetch.run_fetch, fetch.ARGUMENTS, runs="one"),
    "submit": Command(submit.run, (*submit.ARGUMENTS, NO_WAIT)),
    "publish": Command(predict.run_publish, predict.PUBLISH_ARGUMENTS, runs="one"),
    "predict": Command(predict.run_predict, predict.PREDICT_ARGUMENTS, runs="one"),
    "open": Command(fetch.run_open, runs="one"),
    "status": Command(live_runs.run_status),
    "scout": Command(
        pipeline.run_scout, (*SETTINGS, *push.RUN_ARGUMENTS, *pipeline.SCOUT_ARGUMENTS)
    ),
    "sweep": Command(sweep.run, (*SETTINGS, *push.RUN_ARGUMENTS, *sweep.ARGUMENTS)),
    "runs": Command(runs.run_runs, runs.ARGUMENTS),
    "compare": Command(runs.run_compare, runs.RUNS),
    "weights": Command(download.run_weights, download.WEIGHTS_ARGUMENTS, local=True),
    "wheels": Command(download.run_wheels, download.WHEELS_ARGUMENTS, local=True),
    "rehearse": Command(rehearse.rehearse, rehearse.ARGUMENTS, local=True),
}


def _make_parsers() -> dict[str, Parser]:
    """Return the parser of each command by its name, and that of `ship` alone under ""."""
    parsers = {"": Parser(prog="ship", description=DESCRIPTION)}
    parsers[""].add_argument("--version", action="store_true", help="print versions, only")
    subparsers = parsers[""].add_subparsers(metavar="COMMAND")
    for name, command in COMMANDS.items():
        if name:
            description = command.run.__doc__.splitlines()[0]
            parsers[name] = subparsers.add_parser(name, help=command.help, description=description)
        versions = version_arguments() if command.runs else ()
        for argument, settings in (*COMMON, *versions, *command.arguments):
            parsers[name].add_argument(argument, **settings)
        if name in ("push", "sweep"):
            parsers[name].more_help = _settings_help
    return parsers


def _settings_help() -> str:
    try:
        settings = Project.find(Path.cwd()).settings()
    except Problem:
        return ""
    lines = [f"  {s.name:<18} {s.default:<14} {s.help}" for s in settings]
    return "\n".join(["\n\nsettings (name, default, what it is):", *lines])


def parse(words: list[str]) -> argparse.Namespace:
    """Return the command and its arguments; Usage where they are wrong."""
    emit_json(command="ship")
    parsers = _make_parsers()
    if words[:1] == ["help"]:  # as git and others take it
        words = [*words[1:], "--help"]
    command, others = split_command(words, parsers)
    emit_json(command=command or "ship")
    return parsers[command].parse(others, argparse.Namespace(**DEFAULTS, command=command))


def _show_versions() -> None:
    versions = {}
    for name, package in {"ship": "car-classification", "kaggle": "kaggle"}.items():
        try:
            versions[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    emit_json(versions=versions)
    say(f"ship {versions['ship']}, kaggle client {versions['kaggle']}", result=True)


def _refuse_with_adopt(arguments: argparse.Namespace) -> None:
    changing = {"defaults": "defaults", "gpu": "gpu", "again": "again", "continues": "continue"}
    given = [name for field, name in changing.items() if getattr(arguments, field)]
    if arguments.adopt and given:
        raise Usage(f"--adopt takes up what Kaggle has as it is: leave out --{given[0]}.")


def perform(arguments: argparse.Namespace, boundary: Boundary) -> None:
    """Run the command that was asked for."""
    if arguments.version:
        return _show_versions()
    _refuse_with_adopt(arguments)
    project = Project.find(arguments.project or Path.cwd())
    boundary.traceback_file = project.runs / "traceback.txt"
    boundary.doing = f"running `{f'ship {arguments.command}'.rstrip()}`"
    command = COMMANDS[arguments.command]
    if command.local:
        return command.run(arguments, project)
    if arguments.command == "push" and arguments.adopt:
        command, arguments.versions = COMMANDS["adopt"], [arguments.adopt]
    context = Context.of(
        project, boundary, arguments.dry_run, forced=tuple(arguments.force), gpu=arguments.gpu or ""
    )
    if arguments.continues:
        context.continued = push.run_to_continue(context)
    if command.runs == "one":
        arguments.versions = [only_version(arguments)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(context.remote)
        if command.checks:
            doctor.require(context, context.settings(arguments), command.checks)
        if command.runs:
            versions = dict.fromkeys(arguments.versions or [None])
            arguments.runs = [push.chosen_run(context, version) for version in versions]
            if context.dry_run and arguments.command != "open":  # which shows what it would
                return say(f"would {command.help}: {' and '.join(r.name for r in arguments.runs)}")
        return command.run(context, arguments)


@contextlib.contextmanager
def _interrupted_by_signals() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP interrupt as Ctrl-C does; the list that is given gets the signal."""
    received: list[int] = []

    def interrupt(number: int, _: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    with contextlib.ExitStack() as stack:
        for name in ("SIGTERM", "SIGHUP"):
            # Windows has no SIGHUP, and only the main thread can receive signals.
            with contextlib.suppress(AttributeError, ValueError):
                number = getattr(signal, name)
                stack.callback(signal.signal, number, signal.signal(number, interrupt))
        yield received


def main(argv: list[str] | None = None) -> int:
    """Run `ship` and return its exit status.

    1: a sentence on stderr says what went wrong, 2: the arguments are wrong, 130: Ctrl-C was
    pressed, 143: SIGTERM came, 129: SIGHUP came.
    """
    words = sys.argv[1:] if argv is None else argv
    boundary = ShipBoundary("ship", safe=SAFE, hide=without_secrets)
    with _interrupted_by_signals() as received, output("--quiet" in words, "--json" in words):
        try:
            status = boundary.run(lambda: perform(parse(words), boundary))
        except SystemExit:  # after the help
            status = 0
        status = 128 + received[0] if received and status == 130 else status
        emit_json(exit_status=status)
    return status


if __name__ == "__main__":
    sys.exit(main())
