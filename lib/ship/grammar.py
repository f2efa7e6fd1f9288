"""The command line: one grammar for all commands, and one sentence for what does not fit it."""

import argparse
import difflib
import functools
import itertools
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from kernelkit.config.settings import number, setting
from kernelkit.core.problem import Problem
from ship.output import say, tell


class Usage(Problem):
    """The arguments are wrong; the sentence says how to mend them."""

    exit_status = 2


class Version(NamedTuple):
    """A kernel's version as a person names it."""

    number: int
    slug: str = ""
    """The kernel's; "" for the project's own."""

    def __str__(self) -> str:
        return f"{self.slug}-v{self.number}" if self.slug else str(self.number)


def version(text: str) -> Version:
    """Return the version that is named as 3, v3 or car-classification-v3, the name of its run.

    Raises:
        argparse.ArgumentTypeError: it is none of these.
    """
    found = re.fullmatch(r"(?:(?:([a-z0-9-]+)-)?v)?([1-9][0-9]{0,8})", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no version: write its number, or the run's name as `ship runs` shows it"
        )
    return Version(int(found[2]), found[1] or "")


def version_or(path: Callable[[Path], bool]) -> Callable[[str], Version | Path]:
    """Return the type of an argument that is a path of some kind, or a version where none is."""

    def named(text: str) -> Version | Path:
        try:
            return Path(text) if path(Path(text)) else version(text)
        except argparse.ArgumentTypeError:
            return Path(text)

    return named


def version_arguments(
    parser: argparse.ArgumentParser,
    kind: Callable[[str], Any] = version,
    name: str = "VERSION",
    more: str = "",
) -> None:
    """Let a command take versions as `ship COMMAND 3` and as `ship COMMAND --version 3`."""
    parser.add_argument(
        "versions",
        nargs="*",
        action="extend",
        type=kind,
        metavar=name,
        default=argparse.SUPPRESS,
        help=f"a run by its version (3) or its name (car-classification-v3){more}; the newest one",
    )
    parser.add_argument(
        "--version",
        action="append",
        dest="versions",
        type=version,
        metavar="N",
        default=argparse.SUPPRESS,
        help="the same as VERSION",
    )


def only_version(arguments: argparse.Namespace) -> Any:
    """Return the version (or path) that a command is asked for, None for the newest.

    Raises:
        Usage: it is asked for several.
    """
    several = list(dict.fromkeys(arguments.versions))
    if len(several) > 1:
        raise Usage(
            f"`ship {arguments.command}` takes one version, not {' and '.join(map(str, several))}."
        )
    return several[0] if several else None


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return the type of an argument that is one of some names; the nearest one is suggested."""
    known = list(names)

    def named(text: str) -> str:
        if text in known:
            return text
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of {', '.join(known)}{meant(text, known)}"
        )

    return named


def number_of(kind: type, **limits: float) -> Callable[[str], float]:
    """Return the type of an argument that is an int or a float within limits.

    They are those of `kernelkit.config.settings.setting`: least, most, above, below.
    """
    return functools.partial(number, kind=kind, metadata=setting(**limits).metadata)


def meant(word: str, known: Collection[str]) -> str:
    """Return the name that a person may have meant, as a question in brackets; "" without one."""
    names = {name.lstrip("-").lower(): name for name in known}
    near = difflib.get_close_matches(word.lstrip("-").lower().replace("_", "-"), names)
    return f" (did you mean {names[near[0]]}?)" if near else ""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are Usage, and whose help goes where all lines go."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, allow_abbrev=False, **settings)

    def error(self, message: str):
        """Raise Usage with argparse's words."""
        raise Usage(f"`{self.prog}`: {message}. `{self.prog} --help` shows what it takes.")

    def print_help(self, file=None) -> None:
        """Print the help, for a program as well."""
        text = self.format_help().rstrip()
        tell(help=text)
        say(text, result=True)

    @property
    def options(self) -> dict[str, argparse.Action]:
        """The options by their names."""
        return {name: action for action in self._actions for name in action.option_strings}

    def takes_a_value(self, word: str) -> bool:
        """Tell whether a word is an option whose value is the next word."""
        action = self.options.get(word)
        return action is not None and action.nargs != 0

    def parse(self, words: list[str]) -> argparse.Namespace:
        """Return the arguments in the words after the command's name.

        Raises:
            Usage: they are wrong.
        """
        for word in itertools.takewhile(lambda word: word != "--", words):
            option = word.partition("=")[0]
            if re.match(r"-\D", option) and option not in self.options:
                raise Usage(
                    f"`{self.prog}` has no option {option}{meant(option, self.options)}: "
                    f"`{self.prog} --help` shows what it takes."
                )
        arguments, more = self.parse_known_args(words)
        if more:
            self.error(f"it takes no {' '.join(map(repr, more))}")
        return arguments


def split_command(words: list[str], parser: Parser, commands: Collection[str]) -> tuple[str, list]:
    """Return the command's name, "" without one, and all other words.

    Options mean the same before and after the command.

    Raises:
        Usage: there is no such command.
    """

    def is_command(word: str, before: str) -> bool:
        if word.startswith("-") or parser.takes_a_value(before):
            return False
        of_command = before.startswith("-") and "=" not in before and before not in parser.options
        may_be_value = of_command or before == "--version"
        return word in commands or not may_be_value

    for place, (before, word) in enumerate(zip(["", *words], words, strict=False)):
        if is_command(word, before):
            if word in commands:
                return word, words[:place] + words[place + 1 :]
            raise Usage(
                f"there is no command {word!r}{meant(word, commands)}: `ship --help` lists all."
            )
    return "", words
