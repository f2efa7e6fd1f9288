"""The rows of the training set, from a table, from class folders or from the photos' names."""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from common import Problem
from photos.layout import Layout
from photos.places import read_table
from photos.spelling import WAYS_OF_LABELS, Spellings

ONES, ZEROS = {"1", "1.0", "true", "True"}, {"0", "0.0", "false", "False", ""}
NAMED = 3  # labels that the refusal of several labels a photo names


def rows_of_table(
    folder: Path, layout: Layout, scratch: Path, sample: pd.DataFrame
) -> pd.DataFrame:
    """Read the training table as columns Id, label and group, all str and stripped.

    Raises:
        Problem: the table or a column is missing, or photos have several labels.
    """
    table, path = read_table(folder, layout.train_csv, scratch), folder / layout.train_csv
    wanted = (layout.label,) if isinstance(layout.label, str) else layout.label
    labels = [column_of(table, path, name, sample, 1, layout) for name in wanted]
    ids = column_of(table, path, layout.id, sample, 0, layout)
    rows = pd.DataFrame({"Id": table[ids]})
    rows["label"] = table[labels[0]] if len(labels) == 1 else one_hot(table[labels], path)
    rows["group"] = ""
    if layout.group:
        rows["group"] = table[column_of(table, path, layout.group, sample, 0, layout)]
    rows = rows.apply(lambda column: column.str.strip())
    refuse_several(rows["label"], f"the column {labels[0]} of {path}")
    return rows


def column_of(
    table: pd.DataFrame, path: Path, name: str, sample: pd.DataFrame, position: int, layout: Layout
) -> str:
    """Return the name in a table of a column of the block or else of the sample submission."""
    of_sample = not name
    name = name or sample.columns[position]
    if (found := Spellings(table.columns, WAYS_OF_LABELS).only(name)) is not None:
        return found
    source = layout.sample_csv if of_sample else "the block COMPETITION"
    cure = "take both files from the same competition" if of_sample else "mend the block"
    raise Problem(
        f"{path} has no column {name}, which {source} has; its columns are "
        f"{', '.join(table.columns)}: {cure}."
    )


def one_hot(columns: pd.DataFrame, path: Path) -> pd.Series:
    """Return for each row the name of the column that holds 1, "" where none does.

    Raises:
        Problem: a value is neither 0 nor 1, or rows hold several ones.
    """
    text = columns.apply(lambda column: column.str.strip())
    ones = text.isin(ONES)
    if not (ones | text.isin(ZEROS)).all(axis=None):
        row = int((ones | text.isin(ZEROS)).all(axis=1).argmin())
        raise Problem(
            f"{path} line {row + 2} holds values other than 0 and 1 in the columns of the classes "
            f"({', '.join(columns.columns)}): name other columns in the block's label."
        )
    if (several := ones.sum(axis=1) > 1).any():
        row = int(several.argmax())
        raise Problem(
            f"{path} gives photos several labels (line {row + 2}: "
            f"{', '.join(ones.columns[ones.iloc[row]])}): only competitions with one label a photo "
            "are supported, and this one is not."
        )
    return ones.idxmax(axis=1).where(ones.any(axis=1), "")


def refuse_several(labels: Iterable[str], where: str) -> None:
    """Refuse labels that are several in one text, separated by spaces or commas.

    A label is several where each of its words is a label of another row too. So `Scentless Mayweed`
    is one.

    Raises:
        Problem: there are such labels.
    """
    known = set(labels)
    words = {label: re.split(r"[\s,|;]+", label) for label in known if re.search(r"[\s,|;]", label)}
    alone = known - set(words)
    counts: dict[str, int] = {}
    for label in words:
        for word in set(words[label]):
            counts[word] = counts.get(word, 0) + 1
    joined = [
        label
        for label in sorted(words)
        if all(word in alone or counts[word] > 1 for word in words[label])
        and any(word in alone for word in words[label])
    ]
    if joined:
        named = ", ".join(map(repr, joined[:NAMED]))
        raise Problem(
            f"{where} gives photos several labels in one text ({named}): only competitions with "
            "one label a photo are supported, and this one is not."
        )


def rows_of_photos(photos: pd.DataFrame, layout: Layout) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a row a photo, labelled by its folder or its name, and the photos without a label.

    Args:
        photos: as `find_photos` lists them.
        layout: says where labels are.

    Returns:
        Columns Id (the name below the place of the training photos), label, group and path; and
        the others as rows to exclude, with a reason.
    """
    if layout.pattern:
        bare = photos["name"].str.rpartition("/")[2]
        labels = bare.map(lambda name: label_in(layout.pattern, name))
        reason = f"its name does not match the pattern {layout.pattern}"
    else:
        labels, reason = class_folders(photos["name"]), "it lies in no class folder"
    rows = photos.assign(Id=photos["name"], label=labels.fillna(""), group="")
    rows = rows[["Id", "label", "group", "path"]]
    none = rows["label"] == ""
    return rows[~none].reset_index(drop=True), rows[none].assign(reason=reason)


def label_in(pattern: str, name: str) -> str:
    """Return the label that a photo's name tells, "" where it tells none."""
    found = re.search(pattern, name)
    return (found[1] or "").strip() if found else ""


def class_folders(names: pd.Series) -> pd.Series:
    """Return the folder of each photo on the outermost level that has several folders, or ""."""
    parents = names.str.rpartition("/")[0].str.split("/")
    depth = int(parents.str.len().max()) if len(parents) else 0
    labels = parents.str[0]
    for level in range(depth):
        labels = parents.str[level]
        if labels.replace("", None).nunique() > 1:
            break
    return labels.fillna("")
