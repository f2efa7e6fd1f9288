"""Read a competition's folder into tables, in which every row is matched with its photo."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from common import Problem
from common.tables import read_csv
from photos.unpacking import unpack

# Names of files and folders that macOS and Windows leave among photos.
CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}
WHOLE_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")
EXCLUDED_COLUMNS = ["Id", "set", "label", "path", "reason"]


@dataclass(frozen=True)
class CompetitionFiles:
    """The names of a competition's files, which all lie in one folder."""

    train_csv: str = "train.csv"
    """The table of labels: an id column and a label column, named as in `sample_csv`."""
    sample_csv: str = "sample-submission.csv"
    """The sample submission: its first column holds Ids, its second labels."""
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
    """Columns Id (str), label (an element of `classes`), path (str) and group (int). Photos that
    are near-identical have the same group."""
    test: pd.DataFrame
    """Columns Id (str) and path (str, "" where there is no usable photo), one row for each row of
    the sample submission, in its order."""
    classes: list
    """The label values as Python scalars of the competition's own type, sorted by value."""
    sample: pd.DataFrame
    """The sample submission as read; Ids are strings."""
    excluded: pd.DataFrame
    """The rows and photos that can't be used. Columns Id, set ("train" or "test"), label, path and
    reason (all str)."""

    def submission(self, probabilities: np.ndarray) -> pd.DataFrame:
        """Return the sample submission with the most probable labels.

        Args:
            probabilities: float [rows of the sample, classes], in the order of `classes`.
        """
        labels = np.asarray(self.classes)[probabilities.argmax(1)]
        return self.sample.assign(**{self.sample.columns[1]: labels})


def read_competition(
    folder: str | Path, files: CompetitionFiles, scratch: str | Path
) -> Competition:
    """Read a competition's tables and find the photo of every row.

    Photos are looked for in the folders that `files` names. There they lie in a folder for each
    class or all together, possibly one level deeper, as some programs unpack them. Where there are
    none, the zips are unpacked below `scratch`; the next run finds the photos there. Nothing is
    decoded yet: see `check_photos`.

    Args:
        folder: the competition's folder; never written to.
        files: the names of its files.
        scratch: where zips are unpacked; needs about the zips' size, and must not be a folder whose
            contents are kept as the output of a run.

    Returns:
        The tables; the rows and photos that can't be used are in `excluded`, with the reason.

    Raises:
        Problem: a file is missing or unreadable, or nothing usable is left.
    """
    folder, scratch = Path(folder).resolve(), Path(scratch).resolve()
    sample = read_sample(folder / files.sample_csv)
    id_column, label_column = sample.columns
    rows = read_labels(folder / files.train_csv, id_column, label_column, files.sample_csv)
    classes, train, excluded_train = read_train(folder, files, scratch, rows)
    test, excluded_test = read_test(folder, files, scratch, sample[id_column])
    if classes and isinstance(classes[0], int):
        train["label"] = train["label"].astype("int64")
        sample[label_column] = as_integers(sample[label_column])
    train["group"] = np.arange(len(train))
    excluded = pd.concat([excluded_train, excluded_test], ignore_index=True)
    return Competition(folder, train, test, classes, sample, excluded)


def read_train(
    folder: Path, files: CompetitionFiles, scratch: Path, rows: pd.DataFrame
) -> tuple[list, pd.DataFrame, pd.DataFrame]:
    """Return the classes, the training rows with their photos, and the excluded ones."""
    photos = find_photos(folder, files.train_photos, files.train_zip, scratch)
    classes, rows = judge_labels(rows, set(photos["folder"]))
    train, excluded = match_train(rows, photos, files)
    if train.empty:
        raise Problem(
            f"No row of {folder / files.train_csv} can be used for training: of the first, "
            f"{excluded['Id'].iloc[0]}, {excluded['reason'].iloc[0]}."
        )
    return classes, train, excluded


def read_test(
    folder: Path, files: CompetitionFiles, scratch: Path, ids: pd.Series
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the test table and the excluded Ids and photos."""
    photos = find_photos(folder, files.test_photos, files.test_zip, scratch)
    test, excluded = match_test(ids, photos, files)
    if (test["path"] == "").all():
        raise Problem(
            f"None of the {len(test)} Ids of {folder / files.sample_csv} has a photo among the "
            f"{len(photos)} test photos: is {files.test_zip} of the same competition?"
        )
    return test, excluded


def read_sample(path: Path) -> pd.DataFrame:
    """Read the sample submission: an id column without blanks or duplicates, and a label column."""
    sample = read_csv(path)
    if sample.shape[1] != 2:
        raise Problem(
            f"{path} has {sample.shape[1]} columns ({', '.join(sample.columns)}); a table of two, "
            "Id and label, separated by a comma is needed: download it again."
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
    """List the photos of the training or test set, unpacking the archive where there are none.

    They are looked for in the folder `photos` and in one named like the archive, into which some
    programs unpack it (`test/test_upload/`).

    Returns:
        Columns name (of the file), folder (the class folder, or "") and path, all str.
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
    """List the files below `root` in a stable order, without hidden ones and clutter."""
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
    """Find the classes and judge the label of every training row.

    Where class folders exist, only labels that name one are classes, so that a mistyped label does
    not become a class. Otherwise every label is a class.

    Returns:
        The sorted classes (int where all are whole numbers, else str), and the rows with a column
        reason: why the label can't be used, "" where it can.
    """
    labels = set(rows["label"]) - {""}
    classes = (labels & folders) or labels
    reason = "its label " + rows["label"] + " names no class folder"
    reason = reason.mask(rows["label"] == "", "its label is blank")
    rows = rows.assign(reason=reason.mask(rows["label"].isin(classes), ""))
    if all(WHOLE_NUMBER.fullmatch(label) for label in classes):
        return sorted(int(label) for label in classes), rows
    return sorted(classes), rows


def match_train(
    rows: pd.DataFrame, photos: pd.DataFrame, files: CompetitionFiles
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Match every usable row with its photo; return the used rows and the excluded ones."""
    index = PhotoIndex(photos)
    class_folders = set(rows.loc[rows["reason"] == "", "label"]) & set(photos["folder"])
    matched = [index.find(Id, label) for Id, label in zip(rows["Id"], rows["label"], strict=True)]
    rows = rows.assign(path=[path for path, _ in matched], folder=[f for _, f in matched])

    def exclude(where: pd.Series, reason: str | pd.Series) -> None:
        rows["reason"] = rows["reason"].mask(where & (rows["reason"] == ""), reason)

    exclude(rows["Id"] == "", f"its row of {files.train_csv} has no Id")
    exclude(rows["path"] == "", f"its row of {files.train_csv} has no photo")
    exclude(
        rows["folder"].isin(class_folders) & (rows["folder"] != rows["label"]),
        "its label " + rows["label"] + " disagrees with the folder " + rows["folder"] + " it is in",
    )
    usable = rows[rows["reason"] == ""]
    contradicted = usable.groupby("Id")["label"].nunique().loc[lambda count: count > 1].index
    exclude(
        rows["Id"].isin(contradicted), f"{files.train_csv} gives its Id several different labels"
    )
    exclude(
        rows["Id"].where(rows["reason"] == "").duplicated(),
        f"{files.train_csv} repeats its Id; the first of the rows is used",
    )

    used = rows["reason"] == ""
    train = rows.loc[used, ["Id", "label", "path"]].reset_index(drop=True)
    orphans = index.without_row(rows["path"], files.train_csv)
    excluded = pd.concat([rows[~used], orphans], ignore_index=True).assign(set="train")
    return train, excluded[EXCLUDED_COLUMNS].fillna("")


def match_test(
    ids: pd.Series, photos: pd.DataFrame, files: CompetitionFiles
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Match every Id with its photo; return the test table and the excluded Ids and photos."""
    index = PhotoIndex(photos)
    test = pd.DataFrame({"Id": ids, "path": [index.find(Id)[0] for Id in ids]})
    missing = test[test["path"] == ""].assign(reason="its photo is missing")
    orphans = index.without_row(test["path"], files.sample_csv)
    excluded = pd.concat([missing, orphans], ignore_index=True).assign(set="test", label="")
    return test, excluded[EXCLUDED_COLUMNS].fillna("")


class PhotoIndex:
    """Finds photos by Id: the name of the file, with or without its suffix."""

    def __init__(self, photos: pd.DataFrame):
        self.photos = photos
        self.by_id: dict[str, list[tuple[str, str]]] = {}
        for name, folder, path in photos.itertuples(index=False):
            for key in {name, Path(name).stem}:
                self.by_id.setdefault(key, []).append((path, folder))

    def find(self, Id: str, label: str = "") -> tuple[str, str]:
        """Return the path and class folder of a photo, or "" and "" where there is none.

        Of several photos with the same Id, the one in the class folder `label` is preferred.
        """
        found = self.by_id.get(Id, [("", "")])
        return next((photo for photo in found if photo[1] == label), found[0])

    def without_row(self, used: pd.Series, csv: str) -> pd.DataFrame:
        """Return the photos whose path is not in `used` as rows to exclude."""
        orphans = self.photos[~self.photos["path"].isin(used)]
        return orphans.rename(columns={"name": "Id"}).assign(reason=f"{csv} has no row for it")


def as_integers(values: pd.Series) -> pd.Series:
    """Return a column of text as int64 if all of it is whole numbers, else unchanged."""
    return values.astype("int64") if values.map(WHOLE_NUMBER.fullmatch).all() else values


def draw_limit(competition: Competition, limit: int, seed: int) -> Competition:
    """Return the competition with at most `limit` training photos of each class.

    They are drawn with `seed` and keep their order; the test set stays whole.

    Raises:
        Problem: the limit is below 1.
    """
    if limit < 1:
        raise Problem(f"limit is {limit}: give the most training photos of a class, 1 or more.")
    shuffled = competition.train.sample(frac=1, random_state=seed)
    drawn = shuffled.groupby("label").head(limit).sort_index().reset_index(drop=True)
    return replace(competition, train=drawn)
