"""A competition's folder as tables: which photo belongs to which row, and what was left out."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common import Problem
from common.tables import read_csv
from photos.unpacking import unpack

# Clutter that macOS and Windows leave among photos.
CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}
WHOLE_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")
EXCLUDED_COLUMNS = ["Id", "set", "label", "path", "reason"]


@dataclass(frozen=True)
class Layout:
    """How a competition calls its files; all lie in one folder."""

    train_csv: str = "train.csv"
    """The labels: an id column and a label column, named as in `sample_csv`."""
    sample_csv: str = "sample-submission.csv"
    """The form of a submission: its first column holds Ids, its second labels."""
    train_photos: str = "train"
    """The folder of training photos, with or without a folder for each class."""
    test_photos: str = "test_upload"
    """The folder of test photos."""
    train_zip: str = "train.zip"
    """The archive that is unpacked where the folder `train_photos` is missing."""
    test_zip: str = "test.zip"
    """The archive that is unpacked where the folder `test_photos` is missing."""


@dataclass
class Competition:
    """The tables of one competition."""

    folder: Path
    """Where it was read from."""
    train: pd.DataFrame
    """Columns Id (str), label (an element of `classes`), path (str), group (int): photos of one
    group are near-identical."""
    test: pd.DataFrame
    """Columns Id (str), path (str, "" where there is no usable photo), in the sample's order."""
    classes: list
    """The label values as Python scalars of the competition's own type, sorted by value."""
    sample: pd.DataFrame
    """The sample submission as read; Ids are strings."""
    excluded: pd.DataFrame
    """What was left out. Columns Id, set ("train" or "test"), label, path, reason (all str)."""


def read_competition(
    folder: str | Path,
    layout: Layout,
    scratch: str | Path,
    limit: int | None = None,
    seed: int = 0,
) -> Competition:
    """Read a competition's tables and find the photo of every row.

    Photos come from the folders `layout` names (class folders, none, or all of it one level deeper,
    as unpacking sometimes leaves it) or else from the zips, which are unpacked below `scratch` and
    found there again by the next run. A row or photo that can't be used is named in `excluded`.
    Nothing is decoded here: see `check_photos`.

    Args:
        folder: the competition's folder; never written to.
        layout: the names of its files.
        scratch: where zips are unpacked; needs about the zips' size, and must not be a folder whose
            contents are kept as the output of a run.
        limit: the most training photos of a class, drawn at random; None for all. The test set
            stays whole.
        seed: of that draw.

    Raises:
        Problem: a file is missing or unreadable, or nothing usable is left.
    """
    folder, scratch = Path(folder).resolve(), Path(scratch).resolve()
    sample = read_sample(folder / layout.sample_csv)
    id_column, label_column = sample.columns
    rows = read_labels(folder / layout.train_csv, id_column, label_column, layout.sample_csv)

    photos = find_photos(folder, layout.train_photos, layout.train_zip, scratch)
    classes, rows = judge_labels(rows, set(photos["folder"]))
    train, excluded_train = match_train(rows, photos, layout)
    if train.empty:
        raise Problem(
            f"No row of {folder / layout.train_csv} can be used for training: of the first, "
            f"{excluded_train['Id'].iloc[0]}, {excluded_train['reason'].iloc[0]}."
        )

    photos = find_photos(folder, layout.test_photos, layout.test_zip, scratch)
    test, excluded_test = match_test(sample[id_column], photos, layout)
    if (test["path"] == "").all():
        raise Problem(
            f"None of the {len(test)} Ids of {folder / layout.sample_csv} has a photo among the "
            f"{len(photos)} test photos: is {layout.test_zip} of the same competition?"
        )

    if classes and isinstance(classes[0], int):
        train["label"] = train["label"].astype("int64")
        sample[label_column] = as_integers(sample[label_column])
    if limit is not None:
        train = draw_limit(train, limit, seed)
    train["group"] = np.arange(len(train))
    excluded = pd.concat([excluded_train, excluded_test], ignore_index=True)
    return Competition(folder, train, test, classes, sample, excluded)


def read_sample(path: Path) -> pd.DataFrame:
    """Read the sample submission: exactly an id column without blanks or duplicates and a label."""
    sample = read_csv(path)
    if sample.shape[1] != 2:
        raise Problem(
            f"{path} has {sample.shape[1]} columns ({', '.join(sample.columns)}); a table of two, "
            "Id and label, separated by a comma is needed."
        )
    ids = sample.iloc[:, 0]
    if (ids.str.strip() == "").any():
        row = int(np.argmax(ids.str.strip() == "")) + 2
        raise Problem(f"{path} has no Id in line {row}: download it again.")
    if ids.duplicated().any():
        twice = ids[ids.duplicated()].iloc[0]
        raise Problem(
            f"{path} has the Id {twice} more than once ({ids.duplicated().sum()} rows too many): "
            "download it again."
        )
    return sample


def read_labels(path: Path, id_column: str, label_column: str, sample_csv: str) -> pd.DataFrame:
    """Read the training rows as columns Id and label, both str and stripped."""
    table = read_csv(path)
    for column in (id_column, label_column):
        if column not in table.columns:
            raise Problem(
                f"{path} has no column {column}, which {sample_csv} has; its columns are "
                f"{', '.join(table.columns)}: take both files from the same competition."
            )
    rows = pd.DataFrame({"Id": table[id_column], "label": table[label_column]})
    return rows.apply(lambda column: column.str.strip())


def find_photos(folder: Path, photos: str, archive: str, scratch: Path) -> pd.DataFrame:
    """List a set's photos: columns name, folder (that of its class, or ""), path (all str).

    An archive is sometimes unpacked into a folder of its own name (`test/test_upload/`).
    """
    for name in (photos, Path(archive).stem):
        found = list_photos(folder / name, photos)
        if len(found):
            return found
    if not (folder / archive).is_file():
        raise Problem(
            f"{folder} holds neither photos in {photos}/ nor {archive}: download the competition's "
            "photos into it."
        )
    found = list_photos(unpack(folder / archive, scratch), photos)
    if found.empty:
        raise Problem(f"{folder / archive} holds no photos: download it again.")
    return found


def list_photos(root: Path, photos: str) -> pd.DataFrame:
    """List the files below `root`, hidden ones and clutter aside, in an order that is stable."""
    found = []
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in CLUTTER and not f.startswith("."))
        here = Path(parent)
        class_folder = "" if here == root or here.name == photos else here.name
        found += [
            (name, class_folder, os.path.join(parent, name))
            for name in sorted(names)
            if name not in CLUTTER and not name.startswith(".")
        ]
    return pd.DataFrame(found, columns=["name", "folder", "path"], dtype=object)


def judge_labels(rows: pd.DataFrame, folders: set[str]) -> tuple[list, pd.DataFrame]:
    """Find the classes, and give each row the reason why its label can't be used ("" if it can).

    Where class folders exist, the classes are the labels that name one: a mistyped label must not
    become a class. Otherwise every label is a class.
    """
    labels = set(rows["label"]) - {""}
    classes = (labels & folders) or labels
    reason = rows["label"].map(
        lambda label: (
            ""
            if label in classes
            else "its label is blank"
            if label == ""
            else f"its label {label} names no class folder"
        )
    )
    if all(WHOLE_NUMBER.fullmatch(label) for label in classes):
        return sorted(int(label) for label in classes), rows.assign(reason=reason)
    return sorted(classes), rows.assign(reason=reason)


def match_train(
    rows: pd.DataFrame, photos: pd.DataFrame, layout: Layout
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give every usable row its photo; return the used rows and what is excluded."""
    index = PhotoIndex(photos)
    class_folders = set(rows.loc[rows["reason"] == "", "label"]) & set(photos["folder"])
    matched = [index.find(Id, label) for Id, label in zip(rows["Id"], rows["label"], strict=True)]
    rows = rows.assign(path=[path for path, _ in matched], folder=[f for _, f in matched])

    def exclude(where: pd.Series, reason: str | pd.Series) -> None:
        rows["reason"] = rows["reason"].mask(where & (rows["reason"] == ""), reason)

    exclude(rows["Id"] == "", f"its row of {layout.train_csv} has no Id")
    exclude(rows["path"] == "", f"its row of {layout.train_csv} has no photo")
    exclude(
        rows["folder"].isin(class_folders) & (rows["folder"] != rows["label"]),
        "its label " + rows["label"] + " disagrees with the folder " + rows["folder"] + " it is in",
    )
    usable = rows[rows["reason"] == ""]
    contradicted = usable.groupby("Id")["label"].nunique().loc[lambda count: count > 1].index
    exclude(
        rows["Id"].isin(contradicted), f"{layout.train_csv} gives its Id several different labels"
    )
    exclude(
        rows["Id"].where(rows["reason"] == "").duplicated(),
        f"{layout.train_csv} repeats its Id; the first of the rows is used",
    )

    used = rows["reason"] == ""
    train = rows.loc[used, ["Id", "label", "path"]].reset_index(drop=True)
    orphans = index.without_row(rows["path"], layout.train_csv)
    excluded = pd.concat([rows[~used], orphans], ignore_index=True).assign(set="train")
    return train, excluded[EXCLUDED_COLUMNS].fillna("")


def match_test(
    ids: pd.Series, photos: pd.DataFrame, layout: Layout
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give every Id of the sample its photo, or ""; return the test table and what is excluded."""
    index = PhotoIndex(photos)
    test = pd.DataFrame({"Id": ids, "path": [index.find(Id)[0] for Id in ids]})
    missing = test[test["path"] == ""].assign(reason="its photo is missing")
    orphans = index.without_row(test["path"], layout.sample_csv)
    excluded = pd.concat([missing, orphans], ignore_index=True).assign(set="test", label="")
    return test, excluded[EXCLUDED_COLUMNS].fillna("")


class PhotoIndex:
    """Finds a photo by its Id, which is its file's name with or without the suffix."""

    def __init__(self, photos: pd.DataFrame):
        self.photos = photos
        self.by_id: dict[str, list[tuple[str, str]]] = {}
        for name, folder, path in photos.itertuples(index=False):
            for key in {name, Path(name).stem}:
                self.by_id.setdefault(key, []).append((path, folder))

    def find(self, Id: str, label: str = "") -> tuple[str, str]:
        """Return the path and class folder of a photo, of several the one in folder `label`."""
        found = self.by_id.get(Id, [("", "")])
        return next((photo for photo in found if photo[1] == label), found[0])

    def without_row(self, used: pd.Series, csv: str) -> pd.DataFrame:
        """List the photos whose path is not in `used`, as rows to exclude."""
        orphans = self.photos[~self.photos["path"].isin(used)]
        return orphans.rename(columns={"name": "Id"}).assign(reason=f"{csv} has no row for it")


def as_integers(values: pd.Series) -> pd.Series:
    """Return text as int64 where all of it is whole numbers, else as it is."""
    return values.astype("int64") if values.map(WHOLE_NUMBER.fullmatch).all() else values


def draw_limit(train: pd.DataFrame, limit: int, seed: int) -> pd.DataFrame:
    """Keep at most `limit` rows of each label, drawn with `seed`, in the order they had."""
    if limit < 1:
        raise Problem(f"limit is {limit}: give the most training photos of a class, 1 or more.")
    shuffled = train.sample(frac=1, random_state=seed)
    return shuffled.groupby("label").head(limit).sort_index().reset_index(drop=True)
