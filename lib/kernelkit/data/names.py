"""Recognise names of files, folders, columns and classes, however they are spelt."""

import functools
import math
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import get_close_matches

import pandas as pd

from ImageDataAugmentor.files import SUFFIXES
from kernelkit.core.metrics import metric_named
from kernelkit.core.problem import Problem, first_names
from kernelkit.data.layout import Layout

# Suffixes of files, which Ids may lack or have in another spelling.
SUFFIX = re.compile(rf"\.(?:{'|'.join(SUFFIXES)})$", re.I)
WHOLE_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")  # as it is usually written
ANY_WHOLE_NUMBER = re.compile(r"(-?\d{1,18})(?:\.0*)?")


def number_of(text: str) -> int | None:
    """Return the whole number that a text spells, as 7, 007 or 7.0; None where it is none."""
    match = ANY_WHOLE_NUMBER.fullmatch(text.strip())
    return int(match[1]) if match else None


def without_suffix(name: str) -> str:
    """Return a file's name without the suffix of a picture."""
    return SUFFIX.sub("", name.strip())


def printable(name: str) -> str:
    r"""Return a name with its bytes that are not UTF-8 as \xNN, which any report can hold."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def last_part(name: str) -> str:
    """Return a path's last part, whichever system wrote it."""
    return re.split(r"[/\\]", name.strip())[-1]


def folded(name: str) -> str:
    """Return a name in one form of Unicode, without case and surrounding spaces."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def bare(name: str) -> str:
    """Return the folded name of a file, without its folders and the suffix of a picture."""
    return folded(without_suffix(last_part(name)))


def numeral(name: str) -> str:
    """Return the whole number that the bare name spells, in the usual way, or the bare name."""
    number = number_of(bare(name))
    return bare(name) if number is None else str(number)


# From exact to loose. A name is sought in one way only where all before found nothing.
WAYS_OF_LABELS: tuple[Callable[[str], str], ...] = (str, folded, numeral)
WAYS_OF_FILES: tuple[Callable[[str], str], ...] = (
    str,
    last_part,
    lambda name: folded(last_part(name)),
    bare,
    numeral,
)


class Spellings:
    """Finds names among others that may be spelt differently.

    Args:
        names: what is found; repeated names are found together.
        ways: functions that bring two spellings of a name to one, from exact to loose.
    """

    def __init__(self, names: Iterable[str], ways: tuple[Callable[[str], str], ...]):
        self.names, self.ways = list(names), ways
        self.tables: list[dict[str, list[int]]] = []

    def find(self, name: str) -> tuple[list[int], int]:
        """Return the positions of all names spelt like `name` in the most exact way there is.

        Returns:
            The positions, ascending, and the number of the way; none and -1 where nothing is found.
        """
        for number, way in enumerate(self.ways):
            if number == len(self.tables):
                self.tables.append(self.table(way))
            if found := self.tables[number].get(way(name)):
                return found, number
        return [], -1

    def only(self, name: str) -> str | None:
        """Return the one name that is spelt like `name`; None where there are none or several."""
        found = {self.names[position] for position in self.find(name)[0]}
        return found.pop() if len(found) == 1 else None

    def table(self, way: Callable[[str], str]) -> dict[str, list[int]]:
        """Return the positions of the names by what a way makes of them."""
        positions: dict[str, list[int]] = {}
        for position, name in enumerate(self.names):
            positions.setdefault(way(name), []).append(position)
        return positions


ROLES = {"train": "train", "training": "train", "trn": "train"}
ROLES |= {"test": "test", "testing": "test", "tst": "test"}
ROLES |= {"val": "valid", "valid": "valid", "validation": "valid", "validate": "valid"}
ROLES |= {"dev": "valid", "eval": "valid", "evaluation": "valid"}
# Words beside a role in a folder's name: train_images, test_upload, stage_2_train, seg_test.
BESIDE = {"image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pic", "pics"}
BESIDE |= {"data", "dataset", "set", "folder", "dir", "file", "files", "upload", "split", "part"}
BESIDE |= {"stage", "seg", "jpg", "jpeg", "png", "tif", "tiff", "x", "px", "small", "full", "all"}
BESIDE |= {"new", "public", "private", "resized", "cropped", "v", "the", "unlabeled", "unlabelled"}
# Folders that may hold photos without a label, and may as well be classes.
UNSURE = {"unlabelled", "unlabeled", "unlabel", "unknown", "new", "predict", "prediction"}
UNSURE |= {"predictions", "pred", "preds", "holdout", "hold", "unseen", "inference", "infer"}
UNSURE |= {"unclassified", "unsorted", "unannotated", "pending", "todo", "inbox", "submission"}
UNSURE |= {"upload", "uploads", "submit", "score", "scoring", "hidden", "images", "photos"}
UNSURE |= {"pictures", "pics", "imgs", "files", "data", "dataset", "extra"}


def words_of(part: str) -> list[str]:
    """Return the words and numbers in a folder's name, in lower case, without `.zip`."""
    name = re.sub(r"\.zip$", "", part, flags=re.I)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+|\d+", name.lower())


@functools.cache
def role_of(part: str) -> str:
    """Return train, test or valid for a folder whose name says nothing else, "" for others."""
    roles = set()
    for word in words_of(part):
        joined = [r for r in ROLES if word.startswith(r) and word.removeprefix(r) in {"", *BESIDE}]
        if joined:
            roles.add(ROLES[joined[-1]])
        elif word not in BESIDE and not word.isdigit():
            return ""
    return roles.pop() if len(roles) == 1 else ""


@functools.cache
def is_unsure(part: str) -> bool:
    """Tell whether a folder's name says that its photos may have no label."""
    words = [word for word in words_of(part) if word not in BESIDE - UNSURE and not word.isdigit()]
    return bool(words) and all(word in UNSURE for word in words)


def common_folder(names: Sequence[str]) -> str:
    """Return the folder that all files lie in, "" for the uppermost."""
    return posixpath.commonpath([posixpath.dirname(name) for name in names]) if names else ""


def roles_of(names: Sequence[str]) -> dict[str, str]:
    """Return the role of each photo: that of its outermost folder that has one.

    Folders that hold all photos do not count. Of folders beside each other, such as cars_train and
    cars_test, the words that both have do not count either.

    Args:
        names: of all photos, below the competition's folder.
    """
    depth = len(common_folder(names).split("/")) if common_folder(names) else 0
    parents = {name: tuple(posixpath.dirname(name).split("/")[depth:]) for name in names}
    inside: dict[tuple[str, ...], set[str]] = {}
    for parts in set(parents.values()):
        for level, part in enumerate(parts):
            inside.setdefault(parts[:level], set()).add(part)
    of_part = {above: siblings_roles(parts) for above, parts in inside.items()}

    @functools.cache
    def outermost(parts: tuple[str, ...]) -> str:
        found = (of_part[parts[:level]][part] for level, part in enumerate(parts))
        return next(filter(None, found), "")

    return {name: outermost(parts) for name, parts in parents.items()}


def siblings_roles(parts: Iterable[str]) -> dict[str, str]:
    """Return the role of each of the folders that lie in one."""
    roles = {part: role_of(part) for part in parts}
    rests: dict[tuple[str, ...], dict[str, str]] = {}
    for part in (part for part, role in roles.items() if not role):
        words = words_of(part)
        said = {ROLES[word] for word in words if word in ROLES}
        if len(said) == 1:
            rest = tuple(word for word in words if word not in ROLES)
            rests.setdefault(rest, {})[part] = said.pop()
    for alike in rests.values():
        if {"train", "test"} <= set(alike.values()):
            roles |= alike
    return roles


def common_end(some: Sequence[str], others: Sequence[str]) -> int:
    """Return how many of the last folders of two paths are equal; the files' names don't count."""
    pairs = list(zip(some[-2::-1], others[-2::-1], strict=False))
    return next((n for n, (one, other) in enumerate(pairs) if one != other), len(pairs))


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
    if metric_named(layout.metric).ordinal and not are_numbers(by_name):
        raise Problem(
            f"COMPETITION has the metric {layout.metric}, for which the order of the classes "
            f"counts, but they are words ({', '.join(sorted(by_name)[:9])}): give order, a tuple "
            "of all classes from the least to the greatest."
        )
    if metric_named(layout.metric).ordinal:
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
