"""A typed config block as a command line: every field of a dataclass is an option of its name.

A field carries `metadata={"help": ..., "least": ..., "most": ...}`; its type says how it is read:
int and float (in that range), bool (yes, no), Literal, (height, width), rows of a dataclass.
"""

import argparse
import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterable


def setting(default, help: str, least: float = -math.inf, most: float = math.inf):
    """Declare a config field: its default, its line of documentation, a number's range."""
    return dataclasses.field(default=default, metadata={"help": help, "least": least, "most": most})


def size_text(size: tuple[int, int]) -> str:
    """Return (height, width) as the command line reads it: `384x512`."""
    return "x".join(map(str, size))


def reader(hint, field: dataclasses.Field, names: Iterable[str] | None) -> Callable[[str], object]:
    """Return what turns an option's text into a value of the type `hint`."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
    if isinstance(hint, types.UnionType):
        return reader(kinds[0], field, names)
    if names or typing.get_origin(hint) is typing.Literal:
        return lambda text: one_of(text, names or kinds)
    if hint is bool:
        return lambda text: one_of(text, ["yes", "no"]) == "yes"
    if typing.get_origin(hint) is tuple and dataclasses.is_dataclass(kinds[0]):
        return lambda text: rows(text, kinds[0])
    if typing.get_origin(hint) is tuple:
        return read_size
    if hint in (int, float):
        return lambda text: number(text, hint, field.metadata["least"], field.metadata["most"])
    return hint


def one_of(text: str, names: Iterable[str]) -> str:
    """Return the one of `names` that `text` is, in any case."""
    known = {name.lower(): name for name in names}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(known.values())}")
    return known[text.lower()]


def number(text: str, kind: type, least: float = -math.inf, most: float = math.inf):
    """Return `text` as a finite number of `kind` (int or float) in [least, most]."""
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        name = "whole number" if kind is int else "number"
        raise argparse.ArgumentTypeError(f"{text!r} is not a {name}")
    if not least <= value <= most:
        bounds = f"at least {least:g}" + (f" and at most {most:g}" if most < math.inf else "")
        raise argparse.ArgumentTypeError(f"{text} must be {bounds}")
    return value


def read_size(text: str) -> tuple[int, int]:
    """Return (height, width) of `384x512`, or of `336` for a square."""
    height, _, width = text.lower().partition("x")
    return number(height, int, least=1), number(width or height, int, least=1)


def rows(text: str, row: type) -> tuple:
    """Return the dataclass rows of `name:0.5:1e-4:12,...`, values in the order of its fields."""
    hints = typing.get_type_hints(row)
    read = []
    for line in text.split(","):
        values = line.split(":")
        if len(values) != len(hints):
            raise argparse.ArgumentTypeError(f"{line!r} is not of the form {':'.join(hints)}")
        kinds = zip(values, hints.values(), strict=True)
        read.append(row(*(v if kind is str else number(v, kind, least=0) for v, kind in kinds)))
    return tuple(read)


def read_settings(
    parser: argparse.ArgumentParser,
    recipes: dict,
    recipe: Callable[[argparse.Namespace], str],
    overrides: dict[str, str],
    argv: list[str],
    names: dict[str, Iterable[str]],
) -> tuple:
    """Add an option for each field, parse, and return (config, the parser's other options).

    Args:
        parser: holds the options that are no settings; a wrong argument ends the program with 2.
        recipes: named configs, of one dataclass whose fields are `setting`s.
        recipe: which of them applies where `--recipe` is not given.
        overrides: settings as text, which count before the command line.
        argv: the command line.
        names: the known values of fields that name something, in any case.
    """
    names = {**names, "recipe": recipes}
    config_class = type(next(iter(recipes.values())))
    hints = typing.get_type_hints(config_class)
    fields = dataclasses.fields(config_class)
    for field in fields:
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=reader(hints[field.name], field, names.get(field.name)),
            default=argparse.SUPPRESS,
            help=field.metadata["help"].replace("%", "%%"),
        )
    unknown = set(overrides) - {field.name for field in fields}
    if unknown:
        parser.error(f"OVERRIDES names no such setting: {', '.join(sorted(unknown))}")
    text = [f"--{name.replace('_', '-')}={value}" for name, value in overrides.items()]
    options = parser.parse_args(text + argv)
    given = {f.name: getattr(options, f.name) for f in fields if f.name in options}
    return dataclasses.replace(recipes[given.get("recipe") or recipe(options)], **given), options
