"""What the columns and names of an unknown competition mean."""

import posixpath
import re
from collections.abc import Iterable, Sequence

import pandas as pd

from common import Problem
from photos.matching import folders_of
from photos.rows import class_folders, known_names, label_in, refuse_several
from photos.spelling import SUFFIX, WAYS_OF_FILES, WAYS_OF_LABELS, Spellings, number_of

LABEL_WORDS = ("label", "labels", "category", "category_id", "class", "classname", "class_name")
LABEL_WORDS += ("target", "species", "breed", "diagnosis", "has_cactus", "invasive")
GROUP = re.compile(
    r"(?:.*_)?(?:subject|patient|driver|person|individual|seq|sequence|group|session|video|burst)"
    r"(?:_?id)?",
    re.I,
)
# The label that begins a photo's name, before a number: dog.9174.jpg, great_pyrenees_12.jpg.
PATTERNS = (r"^(.+?)[._ -]+\d+\.[^.]+$", r"^([^\W\d]+)\d+\.[^.]+$", r"^([^._-]+)[._-]")
ENOUGH = 0.9  # of names or rows that must fit for a guess
TRIED = 300  # values of a column that are looked for among the photos


class Photos:
    """The photos of an unknown competition, found by Id.

    Args:
        names: paths below the competition's folder; of those in a zip, its name is a folder.
    """

    def __init__(self, names: Iterable[str]):
        self.names = [name for name in names if SUFFIX.search(name)]
        self.spellings = Spellings(self.names, WAYS_OF_FILES)

    def of(self, ids: Iterable[str], word: str) -> list[str]:
        """Return the photos of Ids; of several, those whose path has a word."""
        found = []
        for Id in ids:
            names = [self.names[position] for position in self.spellings.find(Id)[0]]
            found += [name for name in names if word in name.lower()] or names
        return found

    def share(self, values: pd.Series) -> float:
        """Return which fraction of a column's first values name photos."""
        some = values.drop_duplicates().head(TRIED)
        return sum(bool(self.spellings.find(value)[0]) for value in some) / max(len(some), 1)


def place_of(names: Sequence[str], others: Sequence[str]) -> str:
    """Return the folder or the zip of a set's photos.

    Args:
        names: the set's photos.
        others: those of the other set, which may lie in the same zip.
    """
    if not names:
        return ""
    folder = posixpath.commonpath([posixpath.dirname(name) for name in names])
    archive, packed, inside = folder.partition(".zip")
    if not packed:
        return folder
    shared = any(name.startswith(f"{archive}.zip/") for name in others)
    return archive + inside if shared else f"{archive}.zip"


def id_column(table: pd.DataFrame, photos: Photos, preferred: str) -> str | None:
    """Return the column that names photos; None where none does."""
    known = Spellings(table.columns, WAYS_OF_LABELS).only(preferred) if preferred else None
    ordered = sorted(table.columns, key=lambda name: name != known)
    if not photos.names:  # packed, so that nothing can be compared
        unique = [name for name in ordered if table[name].is_unique]
        return known or (unique or [None])[0]
    return next((name for name in ordered if photos.share(table[name]) >= ENOUGH), None)


def label_column(
    table: pd.DataFrame, id_column: str, sample: pd.DataFrame | None
) -> str | tuple[str, ...]:
    """Return the column of labels, or the columns of a one-hot code.

    Raises:
        Problem: it can't be told, or photos have several labels.
    """
    others = [name for name in table.columns if name != id_column]
    spelt = Spellings(others, WAYS_OF_LABELS)
    wanted = [] if sample is None else list(sample.columns[1:])
    if len(wanted) > 1:
        columns = [spelt.only(name) for name in wanted]
        if None not in columns:
            return tuple(columns)
        of_sample = Spellings(wanted, WAYS_OF_LABELS)
        for name in others:
            values = table[name].str.strip().unique()
            known = sum(of_sample.only(value) is not None for value in values)
            if len(values) > 1 and known >= ENOUGH * len(values):
                return name
    found = spelt.only(wanted[0]) if len(wanted) == 1 else None
    named = [name for word in LABEL_WORDS for name in others if name.lower() == word]
    counts = {name: table[name].nunique() for name in others}
    usual = [name for name in others if 2 <= counts[name] <= max(2, len(table) / 2)]
    found = found or next(iter(named), None)
    found = found or (others[0] if len(others) == 1 else usual[0] if len(usual) == 1 else None)
    if found is None:
        raise Problem(
            f"it can't be told which of the columns {', '.join(others[:12])} holds the labels: "
            "name it in the block's label"
        )
    return found


def group_column(table: pd.DataFrame, known: Iterable[str]) -> str:
    """Return a column of groups that a split must keep whole, "" where there is none.

    Args:
        table: of the training photos.
        known: the columns of Ids and labels.
    """
    for name in table.columns:
        if name not in set(known) and GROUP.fullmatch(name.strip()):
            groups = table[name].nunique()
            if 1 < groups < len(table):
                return name
    return ""


def names_pattern(names: Iterable[str]) -> str:
    """Return a pattern that finds a label in most photos' names, "" where there is none."""
    bare = [posixpath.basename(name) for name in names]
    for pattern in PATTERNS:
        labels = pd.Series([label_in(pattern, name) for name in bare], dtype=object)
        counts = labels[labels != ""].value_counts()
        if 2 <= len(counts) <= len(bare) / 4 and counts.sum() >= ENOUGH * len(bare):
            return pattern
    return ""


def has_class_folders(names: Sequence[str]) -> bool:
    """Tell whether photos lie in class folders.

    Args:
        names: below the place of the training photos.
    """
    labels = class_folders(pd.Series(names, dtype=object))
    inside = labels[labels != ""]
    return inside.nunique() > 1 and len(inside) >= ENOUGH * len(labels)


def form_of(sample: pd.DataFrame | None, labels: set[str], metric: str) -> tuple[str, int]:
    """Return the form of the submission ("" where it can't be told), and the labels in a cell.

    Args:
        sample: the sample submission.
        labels: of the training photos.
        metric: the row of METRICS, "" while it is unknown.
    """
    if sample is None:
        return "label", 1
    if sample.shape[1] > 2:
        return "probabilities", 1
    cells = [cell.split() for cell in sample.iloc[:, 1].str.strip().unique()]
    words = max((len(cell) for cell in cells), default=0)
    if metric == "map@5" or (words > 1 and all(set(c) <= labels for c in cells if len(c) > 1)):
        spaced = any(" " in label for label in labels)
        if not spaced:
            return "best", max(words, 5 if metric == "map@5" else 1)
    numbers = [cell[0] for cell in cells if cell]
    fractions = [text for text in numbers if number_of(text) is None and is_number(text)]
    if metric in ("auc", "log-loss") or (fractions and len(labels) <= 2):
        return "probability", 1
    binary = {number_of(label) for label in labels} == {0, 1}
    if binary and not metric and numbers:
        return "", 1
    return "label", 1


def is_number(text: str) -> bool:
    """Tell whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_single(
    table: pd.DataFrame,
    label: str | tuple[str, ...],
    where: str,
    photos: Photos,
    sample: pd.DataFrame | None,
) -> None:
    """Raise a Problem where photos have several labels."""
    if isinstance(label, str):
        single = folders_of(photos.names) | known_names(sample)
        refuse_several(table[label].str.strip(), where, single)
