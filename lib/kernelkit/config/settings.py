"""Declare settings with the range that later code accepts, and read their values from text.

The type of a field says how its text is read: int and float; bool as yes or no; Literal as one of
its values; tuple[int, int] as a size, HEIGHTxWIDTH; tuple[Row, ...], where Row is a dataclass of
settings, as rows of values, a:b:c,a:b:c, or "none" for no row. The fields of a row that have a
default follow as name=value, in any order: a:b:c:size=300x400. Where the type is `kind | None`,
"none" is None. The field's metadata says which values are accepted.

Text in a row can hold neither , nor : because they end it.
"""

import dataclasses
import functools
import math
import re
import typing
from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping
from types import NoneType

from kernelkit.core.problem import did_you_mean

NONE = "none"  # the text of None, and of an empty tuple of rows
RESERVED = '[]:,/\\<>"|?*'  # they end a name in the progress line or in a row, or no file has them
LONGEST = 100  # bytes of a name, which is that of a folder and part of others
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.I)  # no names of files on Windows


def setting(
    default=dataclasses.MISSING,
    help: str = "",
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    unique: bool = False,
    group: str = "",
    shared: bool = False,
    may_change: bool = False,
):
    """Declare a field of a dataclass of settings, or of the dataclass of a setting's rows.

    Args:
        default: the field's default; leave it out where every row must give a value.
        help: the field's line of documentation.
        least: the smallest accepted number, inclusive; of a size, the smallest side.
        most: the largest accepted number, inclusive; of a size, the largest side.
        above: every accepted number is greater than this.
        below: every accepted number is less than this.
        unique: the field is the name of a row: no two rows have the same, and it is free of
            characters that would end it early in the progress line.
        group: the title, in the help, of the options from this one on.
        shared: a member takes the session's value, and not that of a recipe of its own.
        may_change: the value may differ from one session of a run to the next.
    """
    metadata = {"help": help, "least": least, "most": most, "above": above, "below": below}
    metadata |= {"unique": unique, "may_be_empty": default == (), "group": group}
    metadata |= {"shared": shared, "may_change": may_change}
    return dataclasses.field(default=default, metadata=metadata)


shared = functools.partial(setting, shared=True)
"""Declare a setting that every member takes from the session."""
session = functools.partial(shared, may_change=True)
"""Declare one that may also differ from one session of a run to the next."""


def size_text(size: tuple[int, int]) -> str:
    """Return (height, width) as the command line reads it: `384x512`."""
    return "x".join(map(str, size))


def text_of(value) -> str:
    """Return the text that `read` turns into `value`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == ():
        return NONE
    if not isinstance(value, tuple):
        return str(value)
    if dataclasses.is_dataclass(value[0]):
        return ",".join(map(row_text, value))
    return size_text(value)


def row_text(value) -> str:
    """Return the text of a row; its optional fields only where they differ from their defaults."""
    texts = []
    for field in dataclasses.fields(value):
        held = getattr(value, field.name)
        if is_required(field):
            texts.append(text_of(held))
        elif held != field.default:
            texts.append(f"{field.name}={text_of(held)}")
    return ":".join(texts)


def is_required(field: dataclasses.Field) -> bool:
    """Return whether every row must give a value for a field."""
    return field.default is dataclasses.MISSING


def read(
    text: str,
    hint,
    metadata: Mapping,
    names: Iterable[str] | None = None,
    row_names: Mapping[str, Iterable[str]] | None = None,
):
    """Return the value of type `hint` that `text` gives, within the field's `metadata`.

    `names` are the accepted values of a field that names something, in any case, and `row_names`
    those of the fields of rows, by their names. Raises ArgumentTypeError, whose text is a clause.
    """
    kinds = [kind for kind in typing.get_args(hint) if kind is not NoneType]
    if NoneType in typing.get_args(hint):
        is_none = text.lower() == NONE
        return None if is_none else read(text, kinds[0], metadata, names, row_names)
    if names or typing.get_origin(hint) is typing.Literal:
        return one_of(text, names or kinds)
    if hint is bool:
        return one_of(text, ["yes", "no"]) == "yes"
    if hint in (int, float):
        return number(text, hint, metadata)
    if hint is str:
        return name(text) if metadata["unique"] else not_blank(text)
    if dataclasses.is_dataclass(kinds[0]):
        if metadata["may_be_empty"] and text.lower() == NONE:
            return ()
        return rows(text, kinds[0], row_names or {})
    height, cross, width = text.lower().partition("x")  # 336 is a square
    return number(height, int, metadata), number(width if cross else height, int, metadata)


def one_of(text: str, names: Iterable[str]) -> str:
    """Return the one of `names` that `text` is, in any case."""
    known = {name.lower(): name for name in names}
    if text.lower() not in known:
        likely = did_you_mean(text, known.values())
        raise ArgumentTypeError(f"{text!r} is not one of {', '.join(known.values())}{likely}")
    return known[text.lower()]


def number(text: str, kind: type, metadata: Mapping):
    """Return `text` as a finite number of `kind` (int or float) in the field's range."""
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if isinstance(value, float) and not math.isfinite(value):
        kind_name = "whole number" if kind is int else "number"
        raise ArgumentTypeError(f"{text!r} is not a {kind_name}")
    accepted = metadata["least"] <= value <= metadata["most"]
    if not (accepted and metadata["above"] < value < metadata["below"]):
        raise ArgumentTypeError(f"{text} must be {range_text(metadata)}")
    return value


def accepted_text(hint, metadata: Mapping, names: Iterable[str] | None = None) -> str:
    """Return which values `read` accepts, for the help."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not NoneType]
    if NoneType in typing.get_args(hint):
        return f"{accepted_text(kinds[0], metadata, names)}, or none"
    if names or typing.get_origin(hint) is typing.Literal:
        return ", ".join(names or kinds)
    if hint is bool:
        return "yes, no"
    if hint in (int, float):
        kind = "whole number" if hint is int else "number"
        return " ".join(filter(None, (kind, range_text(metadata))))
    if hint is str:
        return "text"
    if dataclasses.is_dataclass(kinds[0]):
        return f"{row_form(dataclasses.fields(kinds[0]))}, several joined by commas"
    return f"N or HEIGHTxWIDTH in pixels, {range_text(metadata)}"


def range_text(metadata: Mapping) -> str:
    """Return a field's range in words: `at least 1 and at most 20`."""
    words = {"least": "at least", "above": "more than", "most": "at most", "below": "less than"}
    given = [key for key in words if math.isfinite(metadata[key])]
    return " and ".join(f"{words[key]} {metadata[key]}" for key in given)


def not_blank(text: str) -> str:
    """Return `text` unless it is blank."""
    if not text.strip():
        raise ArgumentTypeError(f"{text!r} is blank")
    return text


def name(text: str) -> str:
    """Return `text` if it can be the name of a row, and of its folder."""
    if text != not_blank(text).strip() or not text.isprintable() or set(text) & set(RESERVED):
        raise ArgumentTypeError(
            f"{text!r} must neither begin nor end with a blank and hold none of {RESERVED}"
        )
    if text.endswith(".") or DEVICES.fullmatch(text):
        raise ArgumentTypeError(f"{text!r} can't be the name of a folder on every machine")
    if (length := len(text.encode())) > LONGEST:
        raise ArgumentTypeError(f"{text[:20]!r}... has {length} bytes, more than {LONGEST}")
    return text


def rows(text: str, row_class: type, names: Mapping[str, Iterable[str]]) -> tuple:
    """Return the rows of `head:0.5:1e-4:12,...`: values in the order of the row's fields."""
    found = tuple(row(line, row_class, names) for line in text.split(","))
    for field in dataclasses.fields(row_class):
        if not field.metadata["unique"]:
            continue
        values = [getattr(one, field.name).casefold() for one in found]  # as some disks compare
        if repeated := [value for value in values if values.count(value) > 1]:
            raise ArgumentTypeError(
                f"the {field.name} {repeated[0]!r} stands in {len(repeated)} rows, but must differ "
                "from row to row"
            )
    return found


def row(line: str, row_class: type, names: Mapping[str, Iterable[str]]):
    """Return one row of `head:0.5:1e-4:12:scale=1.5`."""
    fields, hints = dataclasses.fields(row_class), typing.get_type_hints(row_class)
    values = {}
    for name, text in row_texts(line, fields).items():
        metadata = next(field.metadata for field in fields if field.name == name)
        try:
            values[name] = read(text, hints[name], metadata, names.get(name))
        except ArgumentTypeError as error:
            raise ArgumentTypeError(f"in {line!r}, {name}: {error}") from None
    return row_class(**values)


def row_texts(line: str, fields: Iterable[dataclasses.Field]) -> dict[str, str]:
    """Return the texts of a row's values by the names of their fields."""
    required = [field.name for field in fields if is_required(field)]
    optional = [field.name for field in fields if not is_required(field)]
    parts = line.split(":")
    texts = dict(zip(required, parts, strict=False))
    for part in parts[len(required) :]:
        name, equals, text = part.partition("=")
        if not equals or name not in optional or name in texts:
            break
        texts[name] = text
    if len(texts) != len(parts) or len(parts) < len(required):
        raise ArgumentTypeError(f"{line!r} is not of the form {row_form(fields)}")
    return texts


def row_form(fields: Iterable[dataclasses.Field]) -> str:
    """Return how a row is written: name:fraction[:views=...]."""
    return ":".join(field.name for field in fields if is_required(field)) + "".join(
        f"[:{field.name}=...]" for field in fields if not is_required(field)
    )
