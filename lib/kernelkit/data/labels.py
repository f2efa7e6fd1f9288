"""From the labels of a table to classes."""

import math
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches

import pandas as pd

from kernelkit.core.problem import Problem, first_names
from kernelkit.data.layout import ORDINAL, Layout
from kernelkit.data.reading import printable
from kernelkit.data.spelling import WAYS_OF_LABELS, WHOLE_NUMBER, Spellings, number_of

# What programs write where a value is missing.
MISSING = {"", "nan", "null", "n/a", "#n/a", "<na>"}
MISSING_AMONG_NUMBERS = MISSING | {"na", "none", "?", "-"}
MONTH = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
MONTH += "|янв|фев|мар|апр|май|мая|июн|июл|авг|сен|окт|ноя|дек"
# What spreadsheets make of 1-2, 3/4, MAR5 or 1E5.
DATE = re.compile(
    rf"\d{{1,2}}[-. ]({MONTH})\.?([-. ]\d{{2,4}})?|({MONTH})[-. ]\d{{1,4}}"
    r"|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}|\d{4}-\d\d-\d\d( 00:00:00)?|\d([.,]\d+)?E\+\d+",
    re.I,
)


def missing(labels: Iterable[str], folders: set[str]) -> set[str]:
    """Return the labels that stand for none.

    A word such as NaN is a label where a folder has that name; None is one among other words.

    Args:
        labels: as the table has them.
        folders: names that are known to be of classes.
    """
    labels = set(labels)
    rest = {label for label in labels if label.casefold() not in MISSING_AMONG_NUMBERS}
    numbers = rest and all(number_of(label) is not None for label in rest)
    words = MISSING_AMONG_NUMBERS if numbers else MISSING
    return {la for la in labels if la.casefold() in words and (not la or la not in folders)}


def class_names(
    labels: Iterable[str], folders: set[str], sample: Iterable[str]
) -> dict[str, int | str]:
    """Return the class of each label.

    Labels that are all whole numbers are classes of that value, however they are spelt. Where the
    sample submission spells them in another way (8 for 08, or 08 for 8), they are spelt so; the
    usual spelling (8) is an int. Two spellings of one number are two classes only where there is a
    folder for each.

    Args:
        labels: as the table has them, without missing ones.
        folders: the names of the class folders.
        sample: the labels of the sample submission, which may be anything.
    """
    labels = set(labels)
    values = {label: number_of(label) for label in labels}
    apart = [number_of(folder) for folder in folders if number_of(folder) in values.values()]
    if None in values.values() or len(set(apart)) < len(apart):
        return {label: label for label in labels}
    if spell := spelling_of(set(sample) - labels, set(values.values())):
        return {label: spell(value) for label, value in values.items()}
    usual = [label for label in labels if WHOLE_NUMBER.fullmatch(label)]
    in_sample = [text for text in sample if WHOLE_NUMBER.fullmatch(text)]
    several = len(set(values.values())) < len(labels)
    if len(usual) == len(labels) or several or (in_sample and not usual):
        return dict(values)
    return {label: label for label in labels}


def spelling_of(
    texts: Iterable[str], numbers: Collection[int]
) -> Callable[[int], int | str] | None:
    """Return a function that spells numbers as some texts do, or None where none of them does.

    Args:
        texts: which may be anything; those count that spell one of the numbers.
        numbers: the classes.
    """
    spelt = {text: value for text in texts if (value := number_of(text)) in numbers}
    width = max(map(len, spelt), default=0)
    ways: tuple[Callable[[int], int | str], ...] = (int, lambda value: f"{value:0{width}d}")
    fits = (way for way in ways if all(str(way(value)) == text for text, value in spelt.items()))
    return next(fits, None) if spelt else None


def spelling_notes(labels: pd.Series, cure: str) -> list[str]:
    """Return a line for each kind of labels that are probably not spelt as they were meant.

    Args:
        labels: of the rows that train, as they stand in the table.
        cure: how to give labels one spelling, as a clause.
    """
    counts = labels.value_counts()
    lines = []
    numbers = {label: number_of(label) for label in counts.index}
    if None not in numbers.values():
        if named := alike(counts, numbers):
            lines.append(f"Spellings of one number count as one class: {named}")
    elif named := alike(counts, {label: loosened(label) for label in counts.index}):
        lines.append(
            f"Labels that differ only in case, blanks or invisible characters are separate classes:"
            f" {named}. If they mean the same, {cure}."
        )
    dates = counts[[bool(DATE.fullmatch(label)) for label in counts.index]]
    if len(dates):
        lines.append(
            f"Labels that a spreadsheet may have changed into dates or powers: "
            f"{first_names(map(counted, dates.index, dates))}. If they were other names, {cure}."
        )
    return lines


def loosened(label: str) -> str:
    """Return a label without case, the kinds of its blanks, and characters that nobody sees."""
    text = unicodedata.normalize("NFKC", label)
    seen = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return " ".join(seen.split()).casefold()


def alike(counts: pd.Series, keys: dict[str, object]) -> str:
    """Return the labels that have the same key, with the number of their rows; "" for none."""
    of_key = pd.Series(keys, dtype=object)
    groups = [counts[same.index] for _, same in of_key.groupby(of_key) if len(same) > 1]
    return first_names(" and ".join(map(counted, each.index, each)) for each in groups)


def counted(label: str, rows: int) -> str:
    """Return a label, in which nothing is invisible, with the number of its rows."""
    plain = unicodedata.normalize("NFKC", label) == label
    return f"{label!r} ({rows} rows)" if plain else f"{label!a} ({rows} rows)"


def in_order(classes: Iterable[int | str], layout: Layout) -> list:
    """Return the classes in the order of the block, or else sorted by value.

    Raises:
        Problem: the block's order has not just these classes, or the metric needs an order and the
            classes are words.
    """
    by_name = {str(name): name for name in classes}
    if layout.order:
        if differing := sorted(by_name.keys() ^ set(layout.order)):
            raise Problem(
                f"COMPETITION's order {layout.order} is not of the {len(by_name)} classes: it "
                f"differs in {', '.join(differing)}."
            )
        return [by_name[name] for name in dict.fromkeys(layout.order)]
    if layout.metric in ORDINAL and not are_numbers(by_name):
        raise Problem(
            f"COMPETITION has the metric {layout.metric}, for which the order of the classes "
            f"counts, but they are words ({', '.join(sorted(by_name)[:9])}): give order, a tuple "
            "of all classes from the least to the greatest."
        )
    if layout.metric in ORDINAL:
        return [by_name[name] for name in sorted(by_name, key=float)]
    return sorted(by_name.values())


def are_numbers(labels: Iterable[str]) -> bool:
    """Tell whether labels are all finite numbers, which gives them an order."""
    try:
        return all(math.isfinite(float(label)) for label in labels)
    except ValueError:
        return False


def folder_labels(folders: Iterable[str], labels: Iterable[str]) -> dict[str, str]:
    """Return the label that each class folder is of, without the folders that are of none.

    A folder 01 is of the label 1 where no label is spelt 01, and no other folder is of that label.
    """
    known, names = Spellings(sorted(set(labels)), WAYS_OF_LABELS), sorted(set(folders))
    of_folder = {name: label for name in names if (label := known.only(name)) is not None}
    exact = set(of_folder.values()) & set(names)
    claims = pd.Series(list(of_folder.values()), dtype=object).value_counts()
    return {
        name: label
        for name, label in of_folder.items()
        if name == label or (label not in exact and claims[label] == 1)
    }


def near_folders(labels: Iterable[str], folders: set[str]) -> dict[str, str]:
    """Return for labels without a folder what a reason adds: the folders that may be meant."""
    known = Spellings(sorted(folders), WAYS_OF_LABELS)

    def near(label: str) -> str:
        found = [known.names[position] for position in known.find(label)[0]]
        found = found or get_close_matches(label, known.names)
        return f"; it may be {' or '.join(map(printable, found))}" if found else ""

    return {label: near(label) for label in labels}
