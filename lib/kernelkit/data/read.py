"""Read a competition's folder into tables, in which every row is matched with its photo."""

import os
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kernelkit.core.problem import Problem, first_names
from kernelkit.data.duplicates import join_groups
from kernelkit.data.find import find_photos, read_table
from kernelkit.data.layout import Layout
from kernelkit.data.match import PhotoIndex, folders_of, with_labels
from kernelkit.data.names import (
    SUFFIX,
    WAYS_OF_FILES,
    WAYS_OF_LABELS,
    WHOLE_NUMBER,
    Spellings,
    class_names,
    common_end,
    folded,
    folder_labels,
    in_order,
    missing,
    near_folders,
    number_of,
    printable,
    role_of,
    spelling_notes,
)
from kernelkit.data.submission import check_form, fill

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


EXCLUDED_COLUMNS = ["Id", "set", "label", "path", "reason"]


@dataclass
class Competition:
    """The tables of one competition."""

    folder: Path
    """Where it was read from."""
    train: pd.DataFrame
    """Columns Id (str), label (an element of `classes`), path (str), group and near (int). Photos
    that are near-identical have the same number in near; these, and photos of which the table names
    the same group, are in one group. Where photos in several class folders have the same Id, it has
    the folder before it."""
    test: pd.DataFrame
    """Columns Id (str) and path (str, "" where there is no usable photo), one row for each row of
    the sample submission, in its order; once the photos are checked also near (int), the group of
    near-identical training photos that the photo belongs to, or -1."""
    classes: list
    """The label values as Python scalars of the competition's own type, sorted by value or as the
    block orders them."""
    sample: pd.DataFrame
    """The sample submission as read: its header and Ids count, its labels may be anything. Where
    there is none, a row a test photo."""
    excluded: pd.DataFrame
    """The rows and photos that can't be used. Columns Id, set ("train" or "test"), label, path and
    reason (all str)."""
    rows: pd.DataFrame | None = None
    """Every row of the training set, in its order: Id, label and group (str, as they stand there),
    class (an element of `classes`, or None), path, reason (why it is left out, or "") and counts
    (whether it is a loss if it is left out). `train` holds those without a reason."""
    layout: Layout = field(default_factory=Layout)
    """The block that it was read by."""

    def submission(self, probabilities: np.ndarray) -> pd.DataFrame:
        """Return the submission, in the rows and columns of the sample.

        Args:
            probabilities: float [rows of the sample, classes], in the order of `classes`.
        """
        return fill(self.sample, self.layout, self.classes, probabilities)


def read_competition(folder: str | Path, layout: Layout, scratch: str | Path) -> Competition:
    """Read a competition's tables and find the photo of every row.

    Photos are looked for in the places that `layout` names, at any depth, in class folders or all
    together. Zips are unpacked below `scratch`; the next run finds the photos there. Names are
    compared exactly first, and then without case, folders, suffix and the ways of writing a number,
    as long as only one photo or class is meant. Nothing is decoded yet: see `check_photos`.

    Args:
        folder: the competition's folder; never written to.
        layout: the competition's block.
        scratch: where zips are unpacked; needs about the zips' size, and must not be a folder whose
            contents are kept as the output of a run.

    Returns:
        The tables; the rows and photos that can't be used are in `excluded`, with the reason.

    Raises:
        Problem: a file is missing or unreadable, photos have several labels, or nothing usable is
            left.
    """
    folder, scratch = Path(folder).resolve(), Path(scratch).resolve()
    if layout.packed:
        folder, layout = unpacked(folder, layout, scratch)
    sample = read_sample(folder, layout, scratch)
    sample, tests = find_tests(folder, layout, scratch, sample)
    test, orphans_of_test = read_test(folder, layout, tests, sample.iloc[:, 0])
    tests = tests[tests["path"].isin(test["path"])]
    rows, classes, orphans = read_train(folder, layout, scratch, sample, tests)
    check_form(sample, layout, classes)
    if layout.submission == "label" and isinstance(classes[0], int):
        sample[sample.columns[1]] = as_integers(sample.iloc[:, 1])
    both = {*real_paths(test["path"]), *real_paths(rows["path"])}  # no set lacks the other's photos
    orphans, orphans_of_test = (
        part[(part["path"] == "") | ~real_paths(part["path"]).isin(both)]
        for part in (orphans, orphans_of_test)
    )
    parts = [rows[rows["reason"] != ""], orphans]
    excluded = [*map(excluded_rows, parts), excluded_rows(orphans_of_test, "test")]
    excluded = pd.concat(excluded, ignore_index=True)
    train = used_rows(rows, classes)
    return Competition(folder, train, test, classes, sample, excluded, rows, layout)


def unpacked(folder: Path, layout: Layout, scratch: Path) -> tuple[Path, Layout]:
    """Unpack photos that are pixels of a table or TFRecords; return the folder and its layout."""
    from kernelkit.data import packed  # which other competitions do not need

    unpack = {"pixels": packed.unpack_pixels, "tfrecords": packed.unpack_records}
    return unpack[layout.packed](folder, layout, scratch)


def read_train(
    folder: Path, layout: Layout, scratch: Path, sample: pd.DataFrame, tests: pd.DataFrame
) -> tuple[pd.DataFrame, list, pd.DataFrame]:
    """Return the rows as `Competition.rows`, the classes and the photos without a row.

    No photo that is to be predicted trains, also where the table has a row of it.

    Args:
        folder: the competition's.
        layout: its block.
        scratch: where zips are unpacked.
        sample: the sample submission.
        tests: the photos that are to be predicted, as `find_photos` lists them.
    """
    places = folder, layout.train_photos, scratch
    spelt = spelt_in_sample(sample, layout)
    if layout.train_csv:
        rows = rows_of_table(folder, layout, scratch, sample)
        photos = find_photos(*places, asked_for(rows["Id"]))
        predicted = rows_to_predict(rows["Id"], photos, tests)
        photos = photos[~real_paths(photos["path"]).isin(set(real_paths(tests["path"])))]
        kept, folders = rows[~predicted], class_folders_of(photos, rows)
        shown = known_names(sample)
        if not layout.single_labels:
            refuse_several(kept["label"], str(folder / layout.train_csv), folders | shown)
        kept, of_folder = judge_labels(kept, folders, spelt, shown)
        kept, orphans = match_train(kept, with_labels(photos, of_folder), layout)
        rest = rows[predicted].assign(**{"class": None, "path": "", "counts": False})
        rest["reason"] = f"its row of {layout.train_csv} is of a photo that is to be predicted"
        rows = pd.concat([kept, rest]).sort_index() if len(rest) else kept
    else:
        photos = find_photos(*places, lambda name: False, layout.test_photos)
        photos = photos[~real_paths(photos["path"]).isin(set(real_paths(tests["path"])))]
        rows, orphans = rows_of_photos(photos, layout)
        rows, _ = judge_labels(rows, set() if layout.pattern else set(rows["label"]), spelt)
        rows["counts"] = True
    cure = f"give them one spelling in {layout.train_csv or 'the names of photos and folders'}"
    for note in spelling_notes(rows.loc[rows["class"].notna(), "label"], cure):
        print(note)
    used = rows[rows["reason"] == ""]
    if used.empty and len(rows):
        raise Problem(
            f"No row of {folder / layout.table_name} can be used for training: of the first, "
            f"{rows['Id'].iloc[0]}, {rows['reason'].iloc[0]}."
        )
    if used.empty:
        raise Problem(
            f"None of the {len(photos)} photos in {folder} has a label: of the first, "
            f"{orphans['Id'].iloc[0]}, {orphans['reason'].iloc[0]}."
        )
    return rows, in_order(set(used["class"]), layout), orphans


def rows_to_predict(ids: pd.Series, photos: pd.DataFrame, tests: pd.DataFrame) -> pd.Series:
    """Tell of each Id of the training table whether it means only photos to be predicted.

    Args:
        ids: of the table.
        photos: in the places of the training photos; those to be predicted may be among them.
        tests: the photos to be predicted.
    """
    both = pd.concat([photos[["name", "path"]], tests[["name", "path"]]])
    both = both.assign(path=real_paths(both["path"])).drop_duplicates("path")
    names, paths = both["name"].tolist(), both["path"].tolist()
    spellings, predicted = Spellings(names, WAYS_OF_FILES[1:]), set(real_paths(tests["path"]))

    def means_test(Id: str) -> bool:
        found = [paths[position] for position in spellings.find(Id)[0]]
        wanted = re.split(r"[/\\]", Id)
        alike = [common_end(wanted, path.split("/")) for path in found]
        likely = [path for path, n in zip(found, alike, strict=True) if n == max(alike)]
        return bool(likely) and predicted.issuperset(likely)

    return ids.map(means_test).astype(bool)


def real_paths(paths: pd.Series) -> pd.Series:
    """Return paths without links to folders, so that those of one photo are equal."""
    folders = {os.path.dirname(path) for path in paths}
    real = {folder: os.path.realpath(folder) if folder else "" for folder in folders}
    return paths.map(
        lambda path: os.path.join(real[os.path.dirname(path)], os.path.basename(path))
    ).astype(object)


def class_folders_of(photos: pd.DataFrame, rows: pd.DataFrame) -> set[str]:
    """Return the names of all folders that photos lie in, among which class folders may be.

    A folder `train` is none where `train` is the only label that has a folder.
    """
    folders, labels = folders_of(photos["name"]), set(rows["label"])
    lone = folders & labels if len(folders & labels) == 1 < len(labels) else set()
    return folders - set(filter(role_of, lone))


def spelt_in_sample(sample: pd.DataFrame, layout: Layout) -> set[str]:
    """Return the labels as the sample submission spells them, as far as it has any."""
    if layout.submission == "probability":
        return set()
    if layout.submission == "probabilities":
        return {name.strip() for name in sample.columns[1:]}
    cells = set(sample.iloc[:, 1].str.strip())
    return (
        {word for cell in cells for word in cell.split()} if layout.submission == "best" else cells
    )


def used_rows(rows: pd.DataFrame, classes: list) -> pd.DataFrame:
    """Return `Competition.train` of `Competition.rows`; no photo is near another yet."""
    used = rows[rows["reason"] == ""].reset_index(drop=True)
    train = used[["Id", "class", "path"]].rename(columns={"class": "label"})
    if isinstance(classes[0], int):
        train["label"] = train["label"].astype("int64")
    near = np.arange(len(train))
    given = used["group"] if "group" in used else pd.Series("", used.index)
    return train.assign(group=join_groups(near, given.to_numpy(str)), near=near)


def excluded_rows(rows: pd.DataFrame, part: str = "train") -> pd.DataFrame:
    """Return rows as `Competition.excluded` has them; a column that is missing is "" there."""
    rows = rows.assign(set=part).reindex(columns=EXCLUDED_COLUMNS).fillna("").astype(str)
    return rows.assign(Id=rows["Id"].map(printable), path=rows["path"].map(printable))


def asked_for(ids: pd.Series) -> Callable[[str], bool]:
    """Return a function that tells whether any of the Ids may mean a file of some name."""
    spellings = Spellings(ids, WAYS_OF_FILES)
    return lambda name: bool(spellings.find(name)[0])


def read_sample(folder: Path, layout: Layout, scratch: Path) -> pd.DataFrame:
    """Return the sample submission, without rows where there is none.

    Raises:
        Problem: it has not the columns that its form needs, or Ids are blank or repeated.
    """
    if not layout.sample_csv:
        return pd.DataFrame({"Id": [], "label": []}, dtype=object)
    sample = read_table(folder, layout.sample_csv, scratch)
    check_sample(sample, folder / layout.sample_csv, layout)
    return sample


def find_tests(
    folder: Path, layout: Layout, scratch: Path, sample: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the sample submission and the test photos, as `find_photos` lists them.

    Without a sample submission each test photo is a row, with the name of its file.

    Raises:
        Problem: there are no photos, or the sample submission has no header.
    """
    places = folder, layout.test_photos, scratch
    if layout.sample_csv:
        photos, header = find_photos(*places, asked_for(sample.iloc[:, 0])), sample.columns[0]
        if Spellings(photos["name"], WAYS_OF_FILES).find(header)[0]:
            raise Problem(
                f"{folder / layout.sample_csv} has no header: its first line is that of a photo, "
                f"{header}. Add a line above it with the names of the columns, such as Id,label."
            )
        return sample, photos
    if not layout.test_photos:
        return sample, pd.DataFrame({"name": [], "path": [], "packed": []}, dtype=object)
    photos = find_photos(*places, lambda name: False)
    return pd.DataFrame({"Id": photos["name"], "label": ""}, dtype=object), photos


def check_sample(sample: pd.DataFrame, path: Path, layout: Layout) -> None:
    """Raise a Problem where a sample submission can't be filled in."""
    columns = sample.shape[1]
    if (columns < 3) if layout.submission == "probabilities" else (columns != 2):
        needed = {"probabilities": "Id and a column for each of several classes"}
        raise Problem(
            f"{path} has {columns} columns ({', '.join(sample.columns[:9])}); a table of "
            f"{needed.get(layout.submission, 'two, Id and label')}, separated by a comma is "
            "needed: download it again, or mend COMPETITION's submission."
        )
    ids = sample.iloc[:, 0].str.strip()
    if (ids == "").any():
        row = int(np.argmax(ids == "")) + 2
        raise Problem(f"{path} has no Id in line {row}: download it again.")
    if ids.duplicated().any():
        twice = ids[ids.duplicated()].iloc[0]
        raise Problem(
            f"{path} has the Id {twice} more than once ({ids.duplicated().sum()} rows too many): "
            "download it again."
        )


def read_tests(folder: Path, layout: Layout, scratch: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the sample submission and the photos of its rows, without looking at labelled photos.

    Args:
        folder: the competition's.
        layout: its block.
        scratch: where zips and packed photos are unpacked.

    Returns:
        The sample, and columns Id and path, "" where a row's photo is missing.

    Raises:
        Problem: the sample can't be read.
    """
    if layout.packed:
        folder, layout = unpacked(folder, layout, scratch)
    sample = read_sample(folder, layout, scratch)
    try:
        sample, photos = find_tests(folder, layout, scratch, sample)
        test, _ = read_test(folder, layout, photos, sample.iloc[:, 0])
    except Problem as none:  # an empty folder, or photos of none of the rows
        if sample.empty:
            raise
        print(f"{none} All rows get the same values.")
        test = pd.DataFrame({"Id": sample.iloc[:, 0], "path": ""}, dtype=object)
    return sample, test


def read_test(
    folder: Path, layout: Layout, photos: pd.DataFrame, ids: pd.Series
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the test table and the excluded Ids and photos."""
    index = PhotoIndex(photos.assign(folder=""))
    found = index.match(ids)
    test = pd.DataFrame({"Id": ids, "path": found["path"]}, dtype=object)
    if len(test) and (test["path"] == "").all():
        raise Problem(
            f"None of the {len(test)} Ids of {folder / layout.sample_csv} has a photo among the "
            f"{len(photos)} test photos: is {layout.test_photos[-1]} of the same competition?"
        )
    gone = test["path"] == ""
    reasons = "its photo is missing" + found.loc[gone, "near"]
    orphans = index.without_row(test["path"], layout.sample_csv)
    return test, pd.concat([test[gone].assign(reason=reasons), orphans], ignore_index=True)


def judge_labels(
    rows: pd.DataFrame, folders: set[str], sample: set[str], shown: set[str] = frozenset()
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Find the classes and judge the label of every training row.

    Where class folders exist, only labels that have one are classes, so that a mistyped label does
    not become a class. Otherwise every label is a class.

    Args:
        rows: columns Id and label.
        folders: the names of all folders that photos lie in.
        sample: the labels of the sample submission.
        shown: those of them that surely are classes, whatever they are called.

    Returns:
        The rows with the columns class and reason (why the label can't be used, "" where it can),
        and the classes of the class folders, as text, by the folders' names.
    """
    blank = missing(rows["label"], folders | shown)
    names = class_names(set(rows["label"]) - blank, folders, sample - {""})
    of_folder = folder_labels(folders, map(str, names.values()))
    known = set(of_folder.values()) or {str(name) for name in names.values()}
    names = {label: name for label, name in names.items() if str(name) in known}
    near = near_folders(set(rows["label"]) - set(names) - blank, folders)
    near = rows["label"].map(lambda label: near.get(label, ""))
    reason = "its label " + rows["label"] + " names no class folder" + near
    reason = reason.mask(rows["label"].isin(blank), "its label " + rows["label"] + " means none")
    reason = reason.mask(rows["label"] == "", "its label is blank")
    reason = reason.mask(rows["label"].isin(names), "")
    kinds = pd.Series([names.get(label) for label in rows["label"]], rows.index, dtype=object)
    return rows.assign(**{"class": kinds, "reason": reason}), of_folder


def match_train(
    rows: pd.DataFrame, photos: pd.DataFrame, layout: Layout
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Match every row with its photo; return `Competition.rows` and the photos without a row."""
    index = PhotoIndex(photos)
    labels = rows["class"].map(lambda name: "" if name is None else str(name))
    found = index.match(rows["Id"], labels)
    rows = rows.assign(path=found["path"], counts=True)

    def exclude(where: pd.Series, reason: str | pd.Series) -> None:
        rows["reason"] = rows["reason"].mask(where & (rows["reason"] == ""), reason)

    exclude(rows["Id"] == "", f"its row of {layout.train_csv} has no Id")
    exclude(rows["path"] == "", f"its row of {layout.train_csv} has no photo" + found["near"])
    exclude(
        (found["folder"] != "") & (found["folder"] != labels),
        "its label "
        + rows["label"]
        + " disagrees with the folder "
        + found["folder"]
        + " it is in",
    )
    usable = rows[rows["reason"] == ""]
    contradicted = usable.groupby("path")["class"].nunique().loc[lambda count: count > 1].index
    exclude(
        rows["path"].isin(contradicted), f"{layout.train_csv} gives its Id several different labels"
    )
    again = (rows["reason"] == "") & rows["path"].where(rows["reason"] == "").duplicated()
    exclude(again, f"{layout.train_csv} repeats its Id; the first of the rows is used")
    rows["counts"] = ~again  # the photo is used
    used = rows["reason"] == ""
    several = used & rows["Id"].where(used).duplicated(keep=False)  # the label's folder tells which
    rows["Id"] = rows["Id"].mask(several, found["folder"] + "/" + rows["Id"])
    return rows, index.without_row(rows["path"], layout.train_csv)


def as_integers(values: pd.Series) -> pd.Series:
    """Return a column of text as int64 if all of it is whole numbers, else unchanged."""
    whole = all(WHOLE_NUMBER.fullmatch(value) for value in values)
    return values.astype("int64") if whole else values


def draw_limit(
    competition: Competition, limit: int, seed: int, listed: Collection[str] = ()
) -> Competition:
    """Return the competition with at most `limit` training photos of each class.

    They are drawn with `seed` and keep their order; the test set stays whole. Photos whose Ids are
    listed do not count: as many others are drawn as without them.

    Raises:
        Problem: the limit is below 1.
    """
    if limit < 1:
        raise Problem(f"limit is {limit}: give the most training photos of a class, 1 or more.")
    shuffled = competition.train.sample(frac=1, random_state=seed)
    out = shuffled["Id"].isin(listed)
    drawn = shuffled.groupby("label").head(limit).index.intersection(shuffled.index[out])
    drawn = drawn.union(shuffled[~out].groupby("label").head(limit).index).sort_values()
    rows = competition.rows[competition.rows["reason"] == ""].iloc[drawn].reset_index(drop=True)
    return replace(competition, train=used_rows(rows, competition.classes), rows=rows)
