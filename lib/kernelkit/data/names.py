"""Recognise the names of files, folders, columns and classes, however they are spelt."""

import functools
import math
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from operator import eq

import pandas as pd

from ImageDataAugmentor.files import SUFFIXES
from kernelkit.core.metrics import metric_named
from kernelkit.core.problem import Problem, first_names
from kernelkit.data.layout import Layout

SUFFIX = re.compile(rf"\.(?:{'|'.join(SUFFIXES)})$", re.I)  # which Ids may lack
WHOLE_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")  # as it is usually written

# -------------------------------------------------------------------------------- spellings


def number_of(text: str) -> int | None:
    """Return the whole number that a text spells, as 7, 007 or 7.0; None where it is none."""
    match = re.fullmatch(r"(-?\d{1,18})(?:\.0*)?", text.strip())
    return int(match[1]) if match else None


def printable(name: str) -> str:
    r"""Return a name with its bytes that are not UTF-8 as \xNN, which any report can hold."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def folded(name: str) -> str:
    """Return a name in one form of Unicode, without case and surrounding spaces."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def _file_name(name: str) -> str:
    return re.split(r"[/\\]", name.strip())[-1]


def _stem(name: str) -> str:
    return folded(SUFFIX.sub("", _file_name(name)))


def _number_or(spell: Callable[[str], str]) -> Callable[[str], str]:
    def key(name: str) -> str:
        number = number_of(spell(name))
        return spell(name) if number is None else str(number)

    return key


# Functions that make equal texts of two spellings of a name, from exact to loose.
LABEL_KEYS = (str, folded, _number_or(_stem))
FILE_KEYS = (str, _file_name, lambda name: folded(_file_name(name)), _stem, _number_or(_stem))


class Spellings:
    """Finds names that may be spelt differently; equal names are found together.

    Of `keys`, functions as in LABEL_KEYS, each is used only where all before it found nothing.
    """

    def __init__(self, names: Iterable[str], keys: Sequence[Callable[[str], str]]):
        self.names, self.keys = list(names), keys
        self._positions: list[dict[str, list[int]]] = []

    def find(self, name: str) -> tuple[list[int], int]:
        """Return the positions of all names spelt like `name`, and the number of the key."""
        for level, key in enumerate(self.keys):
            if level == len(self._positions):
                self._positions.append({})
                for position, known in enumerate(self.names):
                    self._positions[level].setdefault(key(known), []).append(position)
            if found := self._positions[level].get(key(name)):
                return found, level
        return [], -1

    def closest(self, path: str) -> tuple[list[int], int]:
        """Return what `find` does; of several paths those whose last folders are most alike."""
        found, level = self.find(path)
        if len(found) > 1:
            folders = re.split(r"[/\\]", path.strip())[-2::-1]
            ends = [self.names[position].split("/")[-2::-1] for position in found]
            alike = [[*map(eq, folders, end), False].index(False) for end in ends]
            found = [p for p, count in zip(found, alike, strict=True) if count == max(alike)]
        return found, level

    def only(self, name: str) -> str | None:
        """Return the one name that is spelt like `name`; None where there are none or several."""
        found = {self.names[position] for position in self.find(name)[0]}
        return found.pop() if len(found) == 1 else None


# ------------------------------------------------------------- folders: which sets they hold

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


def words_of(folder: str) -> list[str]:
    """Return the words and numbers in a folder's name, in lower case, without `.zip`."""
    name = re.sub(r"\.zip$", "", folder, flags=re.I)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+|\d+", name.lower())


@functools.cache
def role_of(folder: str) -> str:
    """Return train, test or valid for a folder whose name means nothing else, "" for others."""
    roles = set()
    for word in words_of(folder):
        joined = [r for r in ROLES if word.startswith(r) and word.removeprefix(r) in {"", *BESIDE}]
        if joined:
            roles.add(ROLES[joined[-1]])
        elif word not in BESIDE and not word.isdigit():
            return ""
    return roles.pop() if len(roles) == 1 else ""


@functools.cache
def may_be_unlabelled(folder: str) -> bool:
    """Tell whether a folder's name suggests that its photos have no label."""
    words = [w for w in words_of(folder) if w not in BESIDE - UNSURE and not w.isdigit()]
    return bool(words) and all(word in UNSURE for word in words)


def common_folder(names: Sequence[str]) -> str:
    """Return the folder that all files lie in, "" for the uppermost."""
    return posixpath.commonpath([posixpath.dirname(name) for name in names]) if names else ""


def roles_of(names: Sequence[str]) -> dict[str, str]:
    """Return the role of each of all photos: that of its outermost folder that has one.

    Folders that hold all photos do not count, nor do words that folders beside each other share,
    such as cars_train and cars_test.
    """
    depth = len(common_folder(names).split("/")) if common_folder(names) else 0
    parents = {name: tuple(posixpath.dirname(name).split("/")[depth:]) for name in names}
    inside: dict[tuple[str, ...], set[str]] = {}
    for parts in set(parents.values()):
        for level, part in enumerate(parts):
            inside.setdefault(parts[:level], set()).add(part)
    roles = {above: _roles_of_siblings(parts) for above, parts in inside.items()}

    @functools.cache
    def outermost(parts: tuple[str, ...]) -> str:
        found = (roles[parts[:level]][part] for level, part in enumerate(parts))
        return next(filter(None, found), "")

    return {name: outermost(parts) for name, parts in parents.items()}


def _roles_of_siblings(folders: Iterable[str]) -> dict[str, str]:
    roles = {folder: role_of(folder) for folder in folders}
    alike: dict[tuple[str, ...], dict[str, str]] = {}  # folders by their other words
    for folder in (folder for folder, role in roles.items() if not role):
        words = words_of(folder)
        named = {ROLES[word] for word in words if word in ROLES}
        if len(named) == 1:
            others = tuple(word for word in words if word not in ROLES)
            alike.setdefault(others, {})[folder] = named.pop()
    for found in alike.values():
        if {"train", "test"} <= set(found.values()):
            roles |= found
    return roles


# --------------------------------------------------------------------------------- classes

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


def missing(labels: Iterable[str], known: set[str]) -> set[str]:
    """Return the labels that mean none: blanks and words such as NaN that are no known classes.

    None is a label among other words.
    """
    labels = set(labels)
    rest = {label for label in labels if label.casefold() not in MISSING_AMONG_NUMBERS}
    numbers = rest and all(number_of(label) is not None for label in rest)
    words = MISSING_AMONG_NUMBERS if numbers else MISSING
    return {la for la in labels if la.casefold() in words and (not la or la not in known)}


def class_names(
    labels: Iterable[str], folders: set[str], sample: Iterable[str]
) -> dict[str, int | str]:
    """Return the class of each label of a table, without those that mean none.

    Labels that are all whole numbers are classes of that value, however they are spelt. Where the
    sample submission spells them in another way (8 for 08, or 08 for 8), they are spelt so; the
    usual spelling (8) is an int. Two spellings of one number are two classes only where there is a
    class folder for each. The labels of the sample submission may be anything.
    """
    labels, sample = set(labels), set(sample)
    values = {label: number_of(label) for label in labels}
    numbers = set(values.values())
    apart = [number_of(folder) for folder in folders if number_of(folder) in numbers]
    if None in numbers or len(set(apart)) < len(apart):
        return {label: label for label in labels}
    other = {text: value for text in sample - labels if (value := number_of(text)) in numbers}
    width = max(map(len, other), default=0)
    for spell in (int, lambda value: f"{value:0{width}d}"):
        if other and all(str(spell(value)) == text for text, value in other.items()):
            return {label: spell(value) for label, value in values.items()}
    usual = [label for label in labels if WHOLE_NUMBER.fullmatch(label)]
    as_int = not usual and any(map(WHOLE_NUMBER.fullmatch, sample))
    if len(usual) == len(labels) or len(numbers) < len(labels) or as_int:
        return dict(values)
    return {label: label for label in labels}


def spelling_notes(labels: pd.Series, where: str) -> list[str]:
    """Return a line for each kind of labels that are probably not spelt as they were meant.

    `labels` are those of the rows that train; they can be corrected in `where`.
    """
    counts, lines = labels.value_counts(), []
    numbers = {label: number_of(label) for label in counts.index}
    if None not in numbers.values():
        if named := _alike(counts, numbers):
            lines.append(f"Spellings of one number count as one class: {named}")
    elif named := _alike(counts, {label: _visible(label) for label in counts.index}):
        lines.append(
            "Labels that differ only in case, blanks or invisible characters are separate classes: "
            f"{named}. If they mean the same, give them one spelling in {where}."
        )
    dates = counts[[bool(DATE.fullmatch(label)) for label in counts.index]]
    if len(dates):
        lines.append(
            "Labels that a spreadsheet may have changed into dates or powers: "
            f"{first_names(map(_with_count, dates.index, dates))}. If they were other names, give "
            f"them one spelling in {where}."
        )
    return lines


def _visible(label: str) -> str:
    """Return a label without case, kinds of blanks, and invisible characters."""
    text = unicodedata.normalize("NFKC", label)
    seen = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return " ".join(seen.split()).casefold()


def _alike(counts: pd.Series, keys: dict[str, object]) -> str:
    """Return the labels that have the same key, with the number of their rows; "" for none."""
    of_key = pd.Series(keys, dtype=object)
    groups = [counts[same.index] for _, same in of_key.groupby(of_key) if len(same) > 1]
    return first_names(" and ".join(map(_with_count, each.index, each)) for each in groups)


def _with_count(label: str, rows: int) -> str:
    plain = unicodedata.normalize("NFKC", label) == label  # else invisible letters are escaped
    return f"{label!r} ({rows} rows)" if plain else f"{label!a} ({rows} rows)"


def are_numbers(labels: Iterable[str]) -> bool:
    """Tell whether labels are all finite numbers, which gives them an order."""
    try:
        return all(math.isfinite(float(label)) for label in labels)
    except ValueError:
        return False


def ordered_classes(classes: Iterable[int | str], layout: Layout) -> list:
    """Return the classes in the order of the block, or else sorted by value.

    Raises Problem if the order is not of these classes, or the metric needs one and they are words.
    """
    by_name = {str(name): name for name in classes}
    if layout.order:
        if differing := sorted(by_name.keys() ^ set(layout.order)):
            raise Problem(
                f"COMPETITION's order {layout.order} is not of the {len(by_name)} classes: it "
                f"differs in {', '.join(differing)}."
            )
        return [by_name[name] for name in dict.fromkeys(layout.order)]
    if not metric_named(layout.metric).ordinal:
        return sorted(by_name.values())
    if not are_numbers(by_name):
        raise Problem(
            f"COMPETITION has the metric {layout.metric}, for which the order of the classes "
            f"counts, but they are words ({', '.join(sorted(by_name)[:9])}): give order, a tuple "
            "of all classes from the least to the greatest."
        )
    return [by_name[name] for name in sorted(by_name, key=float)]


def folder_labels(folders: Iterable[str], labels: Iterable[str]) -> dict[str, str]:
    """Return the label of each class folder, without the folders that are of none.

    A folder 01 is of the label 1 where no label is spelt 01, and no other folder is of that label.
    """
    known, names = Spellings(sorted(set(labels)), LABEL_KEYS), sorted(set(folders))
    of_folder = {name: label for name in names if (label := known.only(name)) is not None}
    exact, claimed = set(of_folder.values()) & set(names), list(of_folder.values())
    return {
        name: label
        for name, label in of_folder.items()
        if name == label or (label not in exact and claimed.count(label) == 1)
    }


def near_folders(labels: Iterable[str], folders: set[str]) -> dict[str, str]:
    """Return for each label without a folder the clause that names folders of nearly its name."""
    known, near = Spellings(sorted(folders), LABEL_KEYS), {}
    for label in labels:
        found = [known.names[position] for position in known.find(label)[0]]
        found = found or get_close_matches(label, known.names)
        near[label] = f"; it may be {' or '.join(map(printable, found))}" if found else ""
    return near
