"""Read a config from its recipe, the overrides and the command line, in this order."""

import argparse
import dataclasses
import functools
import typing
from collections.abc import Callable, Iterable

from settings.values import read, text_of


def read_settings(
    parser: argparse.ArgumentParser,
    recipes: dict,
    recipe: Callable[[argparse.Namespace], str],
    overrides: dict[str, str],
    argv: list[str],
    names: dict[str, Iterable[str]],
) -> tuple:
    """Add an option for every field of a config, parse, and return (config, the other options).

    The values of recipes and overrides are checked like those of the command line. Any value that
    is not accepted ends the program with status 2 and one sentence.

    Args:
        parser: holds the options that are not settings.
        recipes: configs by name, all of one dataclass whose fields are `setting`s; its field
            `recipe` gets the name of the recipe that applied.
        recipe: returns the recipe that applies where none was asked for.
        overrides: settings as text; the command line takes precedence over them.
        argv: the command line.
        names: for each field that names something, in a config or in one of its rows, the accepted
            values, in any case.
    """
    config_class = type(next(iter(recipes.values())))
    readers = make_readers(config_class, {**names, "recipe": recipes})
    for field in dataclasses.fields(config_class):
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=readers[field.name],
            default=argparse.SUPPRESS,
            help=field.metadata["help"].replace("%", "%%"),
        )
    options = parser.parse_args(argv)
    given = {name: value for name, value in vars(options).items() if name in readers}

    given = read_texts(parser, readers, overrides, "OVERRIDES") | given
    configs = {}
    for name, config in recipes.items():
        values = read_texts(parser, readers, texts_of(config) | {"recipe": name}, f"recipe {name}")
        configs[name] = dataclasses.replace(config, **values)
    chosen = given.get("recipe") or recipe(options)
    return dataclasses.replace(configs[chosen], **{**given, "recipe": chosen}), options


def make_readers(config_class: type, names: dict[str, Iterable[str]]) -> dict[str, Callable]:
    """Return for every field the function that reads and checks its text."""
    hints = typing.get_type_hints(config_class)
    return {
        field.name: functools.partial(
            read,
            hint=hints[field.name],
            metadata=field.metadata,
            names=names.get(field.name),
            row_names=names,
        )
        for field in dataclasses.fields(config_class)
    }


def texts_of(config) -> dict[str, str]:
    """Return the values of a config as text."""
    fields = dataclasses.fields(config)
    return {field.name: text_of(getattr(config, field.name)) for field in fields}


def read_texts(
    parser: argparse.ArgumentParser,
    readers: dict[str, Callable],
    texts: dict[str, str],
    source: str,
) -> dict:
    """Return the values of settings given as text.

    An unknown setting, or a value that is not accepted, ends the program as `parser` does for a
    wrong argument; the sentence begins with `source`.
    """
    if unknown := set(texts) - set(readers):
        parser.error(f"{source} names no such setting: {', '.join(sorted(unknown))}")
    values = {}
    for name, text in texts.items():
        try:
            values[name] = readers[name](str(text))
        except argparse.ArgumentTypeError as error:
            parser.error(f"{source}, {name}: {error}")
    return values
