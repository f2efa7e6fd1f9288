"""The command line: one grammar for all commands, and one sentence for what does not fit it."""

import argparse
import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from kernelkit.config import settings
from kernelkit.config.command_line import field_and_value, fields_of
from kernelkit.core.problem import Problem, did_you_mean
from ship.output import emit_json, say


class Usage(Problem):
    """The arguments are wrong."""

    exit_status = 2


class Parser(argparse.ArgumentParser):
    """A parser whose errors are Usage, and whose help goes where all lines go.

    `more_help` returns what else the help shows at its end.
    """

    more_help: Callable[[], str] = staticmethod(str)

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, allow_abbrev=False, **settings)

    def error(self, message: str):
        """Raise Usage with argparse's words."""
        end = "" if message.endswith("?") else "."
        raise Usage(f"`{self.prog}`: {message}{end} `{self.prog} --help` shows what it takes.")

    def print_help(self, file=None) -> None:
        """Print the help, for a program as well."""
        text = self.format_help().rstrip() + self.more_help()
        emit_json(help=text)
        say(text, result=True)

    @property
    def options(self) -> dict[str, argparse.Action]:
        """The options by their names."""
        return {name: action for action in self._actions for name in action.option_strings}

    def parse(self, words: list[str], defaults: argparse.Namespace) -> argparse.Namespace:
        """Return the arguments in the words after the command, with defaults; Usage if wrong."""
        for word in itertools.takewhile(lambda word: word != "--", words):
            option = word.partition("=")[0]
            if re.match(r"-\D", option) and option not in self.options:
                self.error(f"it has no option {option}{did_you_mean(option, self.options)}")
        arguments, more = self.parse_known_args(words, defaults)
        if more:
            self.error(f"it takes no {' '.join(map(repr, more))}")
        return arguments


Argument = tuple[str, dict[str, Any]]
"""An argument of a command: its name, and what else argparse is to know of it."""


def option(name: str, help: str, **settings: Any) -> Argument:
    """Return an argument; the settings are those of `argparse.ArgumentParser.add_argument`."""
    return name, {"help": help, **settings}


def switch(name: str, help: str, **settings: Any) -> Argument:
    """Return an option without a value, which is False unless it is given."""
    return option(name, help, action="store_true", **settings)


class Version(NamedTuple):
    """A kernel's version as a person names it."""

    number: int
    slug: str = ""  # the kernel's; "" for the project's own

    def __str__(self) -> str:
        return f"{self.slug}-v{self.number}" if self.slug else str(self.number)


def version(text: str) -> Version:
    """Return the version named as 3, v3 or by its run; ArgumentTypeError if it is none."""
    found = re.fullmatch(r"(?:(?:([a-z0-9-]+)-)?v)?([1-9][0-9]{0,8})", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no version: write its number, or the run's name as `ship runs` shows it"
        )
    return Version(int(found[2]), found[1] or "")


def version_or(is_path: Callable[[Path], bool]) -> Callable[[str], Version | Path]:
    """Return the type of an argument that is an existing path, a version, or else another path."""

    def read(text: str) -> Version | Path:
        with contextlib.suppress(argparse.ArgumentTypeError):
            if not is_path(Path(text)):
                return version(text)
        return Path(text)

    return read


def version_arguments(
    kind: Callable[[str], Any] = version, name: str = "VERSION", more: str = ""
) -> tuple[Argument, ...]:
    """Return the arguments by which a command takes versions: as 3 and as --version 3.

    `kind`, `name` and `more` are the type, the name and the end of the help of the first form.
    """
    help = f"a run by its version (3) or its name (car-classification-v3){more}; the newest one"
    return (
        option("versions", help, nargs="*", action="extend", type=kind, metavar=name),
        option("--version", f"the same as {name}", action="append", dest="versions",
            type=version, metavar="N"),
    )  # fmt: skip


def only_version(arguments: argparse.Namespace) -> Any:
    """Return the version (or path) that is asked for, None for the newest; Usage for several."""
    several = list(dict.fromkeys(arguments.versions))
    if len(several) > 1:
        raise Usage(
            f"`ship {arguments.command}` takes one version, not {' and '.join(map(str, several))}."
        )
    return several[0] if several else None


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return the type of an argument that is one of some names; the nearest one is suggested."""
    return functools.partial(settings.one_of, names=tuple(names))


def number_of(kind: type, **limits: float) -> Callable[[str], float]:
    """Return the type of an argument that is a number; the limits are those of `setting`."""
    metadata = settings.setting(**limits).metadata
    return functools.partial(settings.number, kind=kind, metadata=metadata)


def parse_settings(words: Iterable[str]) -> dict[str, str]:
    """Return the settings in words of the form `field=value`; Usage where a word has another."""
    try:
        return fields_of(map(field_and_value, words))
    except argparse.ArgumentTypeError as error:
        raise Usage(f"{error}, for example backbone=Xception.") from None


def split_command(words: list[str], parsers: dict[str, Parser]) -> tuple[str, list[str]]:
    """Return the command's name, "" without one, and all other words; Usage for an unknown one.

    Options mean the same before and after the command. `parsers` are those of the commands by
    name, and that of no command under "".
    """
    options = {name: one for parser in parsers.values() for name, one in parser.options.items()}
    before = ""
    for place, word in enumerate(words):
        if before in options:
            may_be_value = options[before].nargs != 0
        else:
            may_be_value = before.startswith("-") and word not in parsers
        if word and not word.startswith("-") and not may_be_value:
            if word in parsers:
                return word, words[:place] + words[place + 1 :]
            likely = did_you_mean(word, parsers) or "."
            raise Usage(f"there is no command {word!r}{likely} `ship --help` lists them all.")
        before = word
    return "", words
