"""Read a config from its recipe, the overrides and the command line, in this order."""

import argparse
import dataclasses
import functools
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from kernelkit.config.settings import accepted_text, read, text_of
from kernelkit.core.problem import did_you_mean


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and to which `_` and `-` in an option are the same."""

    def __init__(self, **arguments):
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=form, allow_abbrev=False, **arguments)

    def error(self, message: str) -> typing.NoReturn:
        """Print one line and end the program with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")

    def parse_args(self, args=None, namespace=None):  # noqa: D102
        found, unknown = self.parse_known_args(list(map(with_dashes, args)), namespace)
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            likely = did_you_mean(unknown[0].partition("=")[0], known)
            likely = likely or "; --help lists all options"
            self.error(f"unrecognized arguments: {' '.join(unknown)}{likely}")
        for option in ("run", "sample", "all"):
            if getattr(found, option, None) and not found.predict:
                self.error(f"--{option} belongs to --predict PHOTOS, which is not given")
        return found


def make_parser(description: str) -> Parser:
    """Return the parser of the kernel, with the options that are not settings."""
    usage = "%(prog)s [--data DIR] [--OPTION VALUE ...]"
    parser = Parser(prog="kernel.py", usage=usage, description=description)
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="the competition's folder (drawn cars)")
    add("--output", type=Path, metavar="DIR", help="where results go (./output)")
    add("--fresh", action="store_true", help="write over what an earlier run has left there")
    add("--plan", action="store_true", help="print what a run takes, and end: changes nothing")
    add("--show-config", action="store_true", help="print the settings as JSON, and end")
    add("--predict", type=Path, metavar="PHOTOS", help="a folder, zip, photo or CSV to predict")
    add("--run", type=Path, metavar="DIR", help="the finished run that predicts (./output)")
    add("--sample", type=Path, metavar="CSV", help="write a submission in the rows of this one too")
    add("--all", action="store_true", help="with --predict: add a column a class, its probability")
    add("--report", type=Path, metavar="DIR", help="remake the report of a run in DIR, and end")
    add(
        "--set",
        type=field_and_value,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a field of the block COMPETITION, such as metric=auc or positive=dog (repeat it)",
    )
    return parser


def field_and_value(text: str) -> tuple[str, str]:
    """Return the two sides of FIELD=VALUE."""
    field, equals, value = text.partition("=")
    if not equals or not field.strip().isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form FIELD=VALUE")
    return field.strip(), value.strip()


def fields_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the values by their fields. Raises ArgumentTypeError if one has two values."""
    fields: dict[str, str] = {}
    for name, value in pairs:
        if fields.setdefault(name, value) != value:
            both = f"{fields[name]!r} and {value!r}"
            raise argparse.ArgumentTypeError(f"{name} is given twice, as {both}: give one value")
    return fields


def with_dashes(word: str) -> str:
    """Return a word of the command line; in an option's name, - in place of _."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word


def read_settings(
    parser: argparse.ArgumentParser,
    recipes: dict,
    recipe: Callable[[argparse.Namespace], str],
    overrides: dict[str, str],
    argv: list[str],
    names: dict[str, Iterable[str]],
) -> tuple:
    """Add an option for every field of a config, parse, and return (config, the other options).

    `recipes` are configs by name, all of one dataclass of `setting`s, whose field `recipe` gets the
    name of the one that applied: the one asked for, or else what `recipe` returns. The help shows
    the first one's values. The command line takes precedence over `overrides`, settings as text.
    `names` has the accepted values, in any case, of each field that names something. A value that
    is not accepted, in a recipe or an override too, ends the program with status 2 and a sentence.
    """
    config_class = type(next(iter(recipes.values())))
    names = {**names, "recipe": recipes}
    readers = make_readers(config_class, names)
    add_options(parser, readers, next(iter(recipes.values())), names)
    options = parser.parse_args(argv)
    try:
        options.set = fields_of(getattr(options, "set", ()))
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument --set: {error}")
    given = {name: value for name, value in vars(options).items() if name in readers}

    given = read_texts(parser, readers, overrides, "OVERRIDES") | given
    configs = {}
    for name, config in recipes.items():
        texts = {field: text_of(getattr(config, field)) for field in readers} | {"recipe": name}
        values = read_texts(parser, readers, texts, f"recipe {name}")
        configs[name] = dataclasses.replace(config, **values)
    chosen = given.get("recipe") or recipe(options)
    return dataclasses.replace(configs[chosen], **{**given, "recipe": chosen}), options


def add_options(
    parser: argparse.ArgumentParser,
    readers: Mapping[str, Callable],
    defaults,
    names: Mapping[str, Iterable[str]],
) -> None:
    """Add an option for every field of a config, in the groups that its fields begin."""
    hints, group = typing.get_type_hints(type(defaults)), parser
    for field in dataclasses.fields(defaults):
        if title := field.metadata["group"]:
            group = parser.add_argument_group(title)
        accepted = accepted_text(hints[field.name], field.metadata, names.get(field.name))
        default = text_of(getattr(defaults, field.name))
        help = f"{field.metadata['help']} [{accepted}] (default: {default})"
        group.add_argument(
            "--" + field.name.replace("_", "-"),
            type=readers[field.name],
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=help.replace("%", "%%"),
        )


def make_readers(config_class: type, names: dict[str, Iterable[str]]) -> dict[str, Callable]:
    """Return for every field the function that reads and checks its text."""
    hints = typing.get_type_hints(config_class)

    def reader(field: dataclasses.Field) -> Callable:
        known = {"names": names.get(field.name), "row_names": names}
        return functools.partial(read, hint=hints[field.name], metadata=field.metadata, **known)

    return {field.name: reader(field) for field in dataclasses.fields(config_class)}


def read_texts(
    parser: argparse.ArgumentParser, readers: dict[str, Callable], texts: dict, source: str
) -> dict:
    """Return the values of settings given as text; errors name `source` and end the program."""
    if unknown := [name for name in texts if name not in readers]:
        likely = did_you_mean(unknown[0], readers)
        parser.error(f"{source}: there is no setting {unknown[0]!r}{likely}")
    values = {}
    for name, text in texts.items():
        try:
            values[name] = readers[name](str(text))
        except argparse.ArgumentTypeError as error:
            parser.error(f"{source}, {name}: {error}")
    return values
