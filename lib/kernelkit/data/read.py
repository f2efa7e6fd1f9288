"""Read a competition's folder into tables, in which every row is matched with its photo."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from kernelkit.core.problem import Problem
from kernelkit.data.find import find_photos, read_table
from kernelkit.data.labels import (
    class_names,
    folder_labels,
    known_names,
    labels_by,
    missing,
    near_folders,
    one_hot,
    ordered_classes,
    refuse_several,
    sample_labels,
    spelling_notes,
    with_label,
)
from kernelkit.data.layout import Layout
from kernelkit.data.names import (
    FILE_KEYS,
    LABEL_KEYS,
    SUFFIX,
    WHOLE_NUMBER,
    PhotoIndex,
    Spellings,
    are_masks,
    folders_of,
    is_predicted,
    named_role,
    number_of,
    printable,
    real_paths,
    role_of,
    with_labels,
)
from kernelkit.data.submission import check_form, fill

EXCLUDED_COLUMNS = ["Id", "set", "label", "path", "reason"]


@dataclass
class Competition:
    """The tables of one competition."""

    folder: Path  # that it was read from
    # Id (str), label (an element of `classes`) and path (str); of checked photos also group and
    # near (int). Near-identical photos have one number in near; these, and those of which the table
    # names one group, have one in group. An Id of several class folders has the folder before it.
    train: pd.DataFrame
    # Id (str) and path (str, "" where no photo is usable), in the order of the sample submission;
    # of checked photos also near (int), as in `train`, or -1.
    test: pd.DataFrame
    classes: list  # Python scalars, sorted by value or as the block orders them
    sample: pd.DataFrame  # as read, its labels may be anything; without one, a row a test photo
    excluded: pd.DataFrame  # what can't be used: Id, set (train or test), label, path, reason (str)
    # All rows of the training set, in order: Id, label and group (str, as they are there), class
    # (an element of `classes`, or None), path, reason (why it is left out, or "": then it is in
    # `train`) and counts (whether it is a loss if it is left out).
    rows: pd.DataFrame | None = None
    layout: Layout = field(default_factory=Layout)  # the block that it was read by

    def submission(self, probabilities: np.ndarray) -> pd.DataFrame:
        """Return the submission of float probabilities [rows of the sample, classes]."""
        return fill(self.sample, self.layout, self.classes, probabilities)


def read_competition(folder: str | Path, layout: Layout, scratch: str | Path) -> Competition:
    """Read a competition's tables and find the photo of every row.

    Names of photos, in the places that `layout` names, are compared exactly first, and then without
    case, folders, suffix and the spelling of numbers, as long as only one photo or class is meant.
    Nothing is decoded yet: see `check_photos`. Zips are unpacked below `scratch`, for the next run
    too. Raises Problem if a file is missing or unreadable, photos have several labels, or nothing
    usable is left.
    """
    folder, scratch = Path(folder).resolve(), Path(scratch).resolve()
    folder, layout = _unpacked(folder, layout, scratch)
    sample = read_sample(folder, layout, scratch)
    sample, test, tests, no_tests = _read_test(folder, layout, scratch, sample)
    rows, classes, orphans = _read_train(folder, layout, scratch, sample, tests)
    check_form(sample, layout, classes)
    if layout.submission == "label" and isinstance(classes[0], int):
        whole = all(map(WHOLE_NUMBER.fullmatch, sample.iloc[:, 1]))
        sample[sample.columns[1]] = sample.iloc[:, 1].astype("int64" if whole else object)
    both = {*real_paths(test["path"]), *real_paths(rows["path"])}  # no set lacks the other's photos
    orphans, no_tests = (
        part[(part["path"] == "") | ~real_paths(part["path"]).isin(both)]
        for part in (orphans, no_tests)
    )
    parts = [excluded_rows(rows[rows["reason"] != ""]), excluded_rows(orphans)]
    excluded = pd.concat([*parts, excluded_rows(no_tests, "test")], ignore_index=True)
    train = used_rows(rows, classes)
    return Competition(folder, train, test, classes, sample, excluded, rows, layout)


def _unpacked(folder: Path, layout: Layout, scratch: Path) -> tuple[Path, Layout]:
    """Return the folder and the layout, once photos in tables or records are unpacked."""
    if not layout.packed:
        return folder, layout
    from kernelkit.data import packed  # imports what other competitions do not need

    unpack = packed.unpack_pixels if layout.packed == "pixels" else packed.unpack_records
    return unpack(folder, layout, scratch)


def used_rows(rows: pd.DataFrame, classes: list) -> pd.DataFrame:
    """Return the columns Id, label and path of `Competition.rows` without a reason."""
    used = rows.loc[rows["reason"] == "", ["Id", "class", "path"]].reset_index(drop=True)
    train = used.rename(columns={"class": "label"})
    return train.astype({"label": "int64"}) if isinstance(classes[0], int) else train


def excluded_rows(rows: pd.DataFrame, part: str = "train") -> pd.DataFrame:
    """Return rows as `Competition.excluded` has them; a column that is missing is "" there."""
    rows = rows.assign(set=part).reindex(columns=EXCLUDED_COLUMNS).fillna("").astype(str)
    return rows.assign(Id=rows["Id"].map(printable), path=rows["path"].map(printable))


# --------------------------------------------------------------------------------- test set


def read_sample(folder: Path, layout: Layout, scratch: Path) -> pd.DataFrame:
    """Return the sample submission, if any. Raises Problem if columns or Ids are not as needed."""
    if not layout.sample_csv:
        return pd.DataFrame({"Id": [], "label": []}, dtype=object)
    sample, path = read_table(folder, layout.sample_csv, scratch), folder / layout.sample_csv
    if isinstance(layout.label, str) and named_role(layout.sample_csv) == "test":
        sample = with_label(sample, layout.label or "label")
    several = layout.submission == "probabilities"
    if (sample.shape[1] < 3) if several else (sample.shape[1] != 2):
        needed = "Id and a column for each of several classes" if several else "two, Id and label"
        raise Problem(
            f"{path} has {sample.shape[1]} columns ({', '.join(sample.columns[:9])}); a table of "
            f"{needed}, separated by a comma is needed: download it again, or correct "
            "COMPETITION's submission."
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
    return sample


def read_tests(folder: Path, layout: Layout, scratch: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the sample submission, and Id and path of its rows' photos, "" where one is missing.

    Nothing of the training set is read. Raises Problem if the sample can't be read.
    """
    folder, layout = _unpacked(folder, layout, scratch)
    sample = read_sample(folder, layout, scratch)
    try:
        sample, test, _, _ = _read_test(folder, layout, scratch, sample)
    except Problem as none:  # an empty folder, or photos of none of the rows
        if sample.empty:
            raise
        print(f"{none} All rows get the same values.")
        test = pd.DataFrame({"Id": sample.iloc[:, 0], "path": ""}, dtype=object)
    return sample, test


def _read_test(
    folder: Path, layout: Layout, scratch: Path, sample: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the sample submission, the test table, its photos, and excluded Ids and photos."""
    # Without a sample submission each test photo is a row.
    photos = pd.DataFrame({"name": [], "path": []}, dtype=object)
    if layout.sample_csv or layout.test_photos:
        photos = find_photos(folder, layout.test_photos, scratch)
    if not layout.sample_csv:
        sample = pd.DataFrame({"Id": photos["name"], "label": ""}, dtype=object)
    elif Spellings(photos["name"], FILE_KEYS).find(header := sample.columns[0])[0]:
        raise Problem(
            f"{folder / layout.sample_csv} has no header: its first line is that of a photo, "
            f"{header}. Add a line above it with the names of the columns, such as Id,label."
        )
    ids, index = sample.iloc[:, 0], PhotoIndex(photos.assign(folder=""))
    names = _photo_names(folder, layout, scratch, ids)
    found = index.match(names)
    if found["near"].any():  # of photos of one name, those outside the training set's places count
        with contextlib.suppress(Problem):  # there are none
            rest = find_photos(folder, layout.test_photos, scratch, layout.train_photos)
            outside = PhotoIndex(rest.assign(folder="")).match(names)
            found = found.where(found["path"] != "", outside)
    test = pd.DataFrame({"Id": ids, "path": found["path"]}, dtype=object)
    gone = test["path"] == ""
    if len(test) and gone.all():
        raise Problem(
            f"None of the {len(test)} Ids of {folder / layout.sample_csv} has a photo among the "
            f"{len(photos)} test photos in {layout.test_photos[-1] or '.'}"
            f"{found['near'].iloc[0]}: are they of the same competition?"
        )
    lost = test[gone].assign(reason="its photo is missing" + found.loc[gone, "near"])
    orphans = index.without_row(test["path"], layout.sample_csv)
    excluded = pd.concat([lost, orphans], ignore_index=True)
    return sample, test, photos[photos["path"].isin(test["path"])], excluded


def _photo_names(folder: Path, layout: Layout, scratch: Path, ids: pd.Series) -> pd.Series:
    """Return what names the photo of each Id of the sample; "" where `test_csv` lacks the Id."""
    if not layout.test_csv:
        return ids
    if not (layout.sample_csv and layout.id):
        raise Problem(
            "COMPETITION has a test_csv: add sample_csv, whose Ids it has, and id, its column of "
            "photos' names."
        )
    table, path = read_table(folder, layout.test_csv, scratch), folder / layout.test_csv
    own, photo = (_column(table, path, name, ids.name, layout) for name in ("", layout.id))
    names = table.apply(lambda column: column.str.strip()).drop_duplicates([own, photo])
    if (twice := names[own].duplicated()).any():
        Id = names.loc[twice, own].iloc[0]
        raise Problem(f"{path} has several photos with the Id {Id}: download it again.")
    return ids.str.strip().map(names.set_index(own)[photo]).fillna("")


# ----------------------------------------------------------------------------- training set


def _read_train(
    folder: Path, layout: Layout, scratch: Path, sample: pd.DataFrame, tests: pd.DataFrame
) -> tuple[pd.DataFrame, list, pd.DataFrame]:
    """Return the rows as `Competition.rows`, the classes and the photos without a row."""
    # No photo that is to be predicted (`tests`) trains, also where the table has a row of it.
    table, spelt = layout.train_csv, sample_labels(sample)
    if layout.submission == "probability":
        spelt = set()
    elif layout.submission == "best":
        spelt = {word for cell in spelt for word in cell.split()}
    listed = _rows_of_table(folder, layout, scratch, sample) if table else None
    without = () if table else layout.test_photos
    found = find_photos(folder, layout.train_photos, scratch, without)
    photos = found[~real_paths(found["path"]).isin(set(real_paths(tests["path"])))]
    if table:
        predicted = is_predicted(listed["Id"], found, tests)
        kept, folders = listed[~predicted], _class_folders_among(photos, listed)
        if not layout.single_labels:
            single = folders | known_names(sample)
            refuse_several(kept["label"], str(folder / table), single)
        kept, of_folder = _with_classes(kept, folders, spelt, known_names(sample))
        rows, orphans = _match_rows(kept, with_labels(photos, of_folder), table)
        rest = listed[predicted].assign(**{"class": None, "path": "", "counts": False})
        rest["reason"] = f"its row of {table} is of a photo that is to be predicted"
        rows = pd.concat([rows, rest]).sort_index() if len(rest) else rows
    else:
        rows, orphans = _rows_of_photos(photos, layout)
        folders = set() if layout.pattern else set(rows["label"])
        rows = _with_classes(rows, folders, spelt)[0].assign(counts=True)
    where = table or "the names of photos and folders"
    for note in spelling_notes(rows.loc[rows["class"].notna(), "label"], where):
        print(note)
    used = rows[rows["reason"] == ""]
    if used.empty and len(rows):
        source = table or ("the pattern of names" if layout.pattern else "no class folder")
        raise Problem(
            f"No row of {folder / source} can be used for training: of the first, "
            f"{rows['Id'].iloc[0]}, {rows['reason'].iloc[0]}."
        )
    if used.empty:
        raise Problem(
            f"None of the {len(photos)} photos in {folder} has a label: of the first, "
            f"{orphans['Id'].iloc[0]}, {orphans['reason'].iloc[0]}."
        )
    return rows, ordered_classes(set(used["class"]), layout), orphans


def _class_folders_among(photos: pd.DataFrame, rows: pd.DataFrame) -> set[str]:
    """Return the names of all folders that photos lie in, among which class folders may be."""
    # A folder `train` is none where `train` is the only label that has a folder.
    folders, labels = folders_of(photos["name"]), set(rows["label"])
    lone = folders & labels if len(folders & labels) == 1 < len(labels) else set()
    return folders - set(filter(role_of, lone))


def _with_classes(
    rows: pd.DataFrame, folders: set[str], sample: set[str], known: set[str] = frozenset()
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Find the class of every training row, or the reason why its label can't be used.

    Where class folders exist, only labels that have one are classes, so that a mistyped label does
    not become a class; otherwise every label is one, and those in `known` whatever they are called.
    Returns also the labels of the class folders by the folders' names.
    """
    none = missing(rows["label"], folders | known)
    names = class_names(rows.loc[~rows["label"].isin(none), "label"], folders, sample)
    of_folder = folder_labels(folders, map(str, names.values()))
    classes = set(of_folder.values()) or set(map(str, names.values()))
    names = {label: name for label, name in names.items() if str(name) in classes}
    near = near_folders(set(rows["label"]) - set(names) - none, folders)

    def reason(label: str) -> str:
        if label in names:
            return ""
        if label in none:
            return f"its label {label} means none" if label else "its label is blank"
        return f"its label {label} names no class folder{near[label]}"

    kinds = pd.Series([names.get(label) for label in rows["label"]], rows.index, dtype=object)
    reasons = rows["label"].map(reason).astype(object)
    return rows.assign(**{"class": kinds, "reason": reasons}), of_folder


def _match_rows(
    rows: pd.DataFrame, photos: pd.DataFrame, table: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Match every row with its photo; return `Competition.rows` and the photos without a row."""
    index = PhotoIndex(photos)
    labels = rows["class"].map(lambda name: "" if name is None else str(name))
    found = index.match(rows["Id"], labels)
    rows = rows.assign(path=found["path"])
    elsewhere = (found["folder"] != "") & (found["folder"] != labels)
    disagrees = "its label " + rows["label"] + " disagrees with the folder " + found["folder"]

    def exclude(where: pd.Series, reason: str | pd.Series) -> None:
        rows["reason"] = rows["reason"].mask(where & (rows["reason"] == ""), reason)

    exclude(rows["Id"] == "", f"its row of {table} has no Id")
    exclude(rows["path"] == "", f"its row of {table} has no photo" + found["near"])
    exclude(elsewhere, disagrees + " it is in")
    counts = rows[rows["reason"] == ""].groupby("path")["class"].nunique()
    contradicted = rows["path"].isin(counts[counts > 1].index)
    exclude(contradicted, f"{table} gives its Id several different labels")
    again = (rows["reason"] == "") & rows["path"].where(rows["reason"] == "").duplicated()
    exclude(again, f"{table} repeats its Id; the first of the rows is used")
    used = rows["reason"] == ""
    several = used & rows["Id"].where(used).duplicated(keep=False)  # the label's folder decides
    ids = rows["Id"].mask(several, found["folder"] + "/" + rows["Id"])
    orphans = index.without_row(rows["path"], table)
    return rows.assign(Id=ids, counts=~again), orphans  # the photo of a repeated row is used


def _rows_of_table(
    folder: Path, layout: Layout, scratch: Path, sample: pd.DataFrame
) -> pd.DataFrame:
    table, path = read_table(folder, layout.train_csv, scratch), folder / layout.train_csv
    labels = [layout.label] if isinstance(layout.label, str) else layout.label
    labels = [_column(table, path, name, sample.columns[1], layout) for name in labels]
    ids = _column(table, path, layout.id, sample.columns[0], layout)
    rows = pd.DataFrame({"Id": table[ids]})
    rows["label"] = table[labels[0]] if len(labels) == 1 else one_hot(table[labels], path)
    rows["group"] = ""
    if layout.group:
        rows["group"] = table[_column(table, path, layout.group, "", layout)]
    return rows.apply(lambda column: column.str.strip())


def _column(table: pd.DataFrame, path: Path, name: str, in_sample: str, layout: Layout) -> str:
    """Return the name in a table of a column of the block, or else of the sample submission."""
    if (found := Spellings(table.columns, LABEL_KEYS).only(name or in_sample)) is not None:
        return found
    source = "the block COMPETITION" if name else layout.sample_csv
    cure = "correct the block" if name else "take both files from the same competition"
    first = table.columns[0]
    if SUFFIX.search(first) or number_of(first) is not None:
        cure = "its first line seems to be no header but a row; add one, such as Id,label"
    raise Problem(
        f"{path} has no column {name or in_sample}, which {source} has; its columns are "
        f"{', '.join(table.columns)}: {cure}."
    )


def _rows_of_photos(photos: pd.DataFrame, layout: Layout) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a row a photo, labelled by its folder or its name, and the photos without a label."""
    reason, masks = "it lies in no class folder", are_masks(photos["name"])
    labels = labels_by(layout.pattern, photos.loc[~masks, "name"])
    if layout.pattern:
        reason = f"its name does not match the pattern {layout.pattern}"
    labels = labels.reindex(photos.index, fill_value="")
    rows = photos.assign(Id=photos["name"], label=labels, group="")
    rows, none = rows[["Id", "label", "group", "path"]], labels == ""
    reasons = np.where(masks[none], "it is a mask of another photo", reason)
    return rows[~none].reset_index(drop=True), rows[none].assign(reason=reasons)
