"""The rows of the training set, from a table, from class folders or from the photos' names."""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from kernelkit.core.problem import Problem, first_names
from kernelkit.data.layout import Layout
from kernelkit.data.places import read_table
from kernelkit.data.spelling import SUFFIX, WAYS_OF_LABELS, Spellings, folded, number_of

WORDS = {"true": "1", "false": "0", "": "0"}  # in a one-hot code
BETWEEN = r"[\s,|;]"  # what separates several labels in one text


def rows_of_table(
    folder: Path, layout: Layout, scratch: Path, sample: pd.DataFrame
) -> pd.DataFrame:
    """Read the training table as columns Id, label and group, all str and stripped.

    Raises:
        Problem: the table or a column is missing, or a one-hot code has several ones.
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
    return rows.apply(lambda column: column.str.strip())


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
    first = table.columns[0]
    if SUFFIX.search(first) or number_of(first) is not None:
        cure = "its first line seems to be no header but a row; add one, such as Id,label"
    raise Problem(
        f"{path} has no column {name}, which {source} has; its columns are "
        f"{', '.join(table.columns)}: {cure}."
    )


def one_hot(columns: pd.DataFrame, path: Path) -> pd.Series:
    """Return for each row the name of the column that holds 1, "" where none does.

    Raises:
        Problem: a value is neither 0 nor 1, or rows hold several ones.
    """
    text = columns.apply(lambda column: column.str.strip().str.casefold().replace(WORDS))
    values = text.apply(pd.to_numeric, errors="coerce")
    ones, known = values == 1, values.isin([0, 1])
    if not known.all(axis=None):
        row = int(known.all(axis=1).argmin())
        raise Problem(
            f"{path} line {row + 2} holds values other than 0 and 1 in the columns of the classes "
            f"({first_names(columns.columns)}), so it names no single label: name other columns in "
            "the block's label."
        )
    if (several := ones.sum(axis=1) > 1).any():
        row = int(several.argmax())
        raise Problem(
            f"{path} gives photos several labels (line {row + 2}: "
            f"{', '.join(ones.columns[ones.iloc[row]])}): only competitions with one label a photo "
            "are supported, and this one is not."
        )
    return ones.idxmax(axis=1).where(ones.any(axis=1), "")


def refuse_several(labels: Iterable[str], where: str, single: Iterable[str]) -> None:
    """Refuse labels that are several in one text, separated by spaces, commas, | or ;.

    So it is where each word of most such labels is itself a label of another row, or where few
    words make up many labels of different lengths. `sea lion` is one label beside `lion`, as long
    as `sea` is none.

    Args:
        labels: of all rows.
        where: they stand.
        single: names that are known to be of classes, such as folders. Where one of them has
            several words, no label is refused.

    Raises:
        Problem: there are such labels.
    """
    known = set(labels) - {""}
    words = {
        label: set(re.split(f"{BETWEEN}+", label)) for label in known if re.search(BETWEEN, label)
    }
    if set(map(folded, words)) & set(map(folded, single)):
        return
    alone = known - set(words)
    joined = sorted(label for label in words if words[label] <= alone)
    vocabulary, lengths = alone.union(*words.values()), {len(each) for each in words.values()}
    if len(words) > 2 * len(vocabulary) and len(lengths) > 1:
        joined = sorted(words)
    if len(joined) > len(words) / 2:
        raise Problem(
            f"{where} gives photos several labels in one text ({first_names(map(repr, joined))}): "
            "only competitions with one label a photo are supported, and this one is not. If each "
            "of these texts is a single label, decide it with --set single_labels=True, or by that "
            "field of the block COMPETITION."
        )


def known_names(sample: pd.DataFrame | None) -> set[str]:
    """Return the names that a sample submission shows to be single labels.

    They are those of its columns of classes, or its labels where they differ between rows.
    """
    if sample is None or sample.shape[1] < 2:
        return set()
    if sample.shape[1] > 2:
        return {name.strip() for name in sample.columns[1:]}
    values = set(sample.iloc[:, 1].str.strip())
    return values if len(values) > 1 else set()


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
        labels = labels_by(layout.pattern, photos["name"])
        reason = f"its name does not match the pattern {layout.pattern}"
    else:
        labels, reason = class_folders(photos["name"]), "it lies in no class folder"
    rows = photos.assign(Id=photos["name"], label=labels.fillna(""), group="")
    rows = rows[["Id", "label", "group", "path"]]
    none = rows["label"] == ""
    return rows[~none].reset_index(drop=True), rows[none].assign(reason=reason)


def labels_by(pattern: str, names: pd.Series) -> pd.Series:
    """Return the label that a pattern finds in each photo's name, "" where it finds none.

    A pattern with a / is sought in the name with its folders, others in the bare name.
    """
    sought = names if "/" in pattern else names.str.rpartition("/")[2]
    return sought.map(lambda name: label_in(pattern, name)).astype(object)


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
