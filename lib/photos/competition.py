"""Read a competition's folder into tables, in which every row is matched with its photo."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from common import Problem
from common.tables import read_csv
from photos.labels import class_names, folder_labels, missing, near_folders
from photos.matching import PhotoIndex, find_files, folders_of, with_labels
from photos.reading import printable
from photos.spelling import WAYS_OF_FILES, WAYS_OF_LABELS, WHOLE_NUMBER, Spellings

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
    are near-identical have the same group. Where photos in several class folders have the same Id,
    it has the folder before it."""
    test: pd.DataFrame
    """Columns Id (str) and path (str, "" where there is no usable photo), one row for each row of
    the sample submission, in its order."""
    classes: list
    """The label values as Python scalars of the competition's own type, sorted by value."""
    sample: pd.DataFrame
    """The sample submission as read: its header and Ids count, its labels may be anything."""
    excluded: pd.DataFrame
    """The rows and photos that can't be used. Columns Id, set ("train" or "test"), label, path and
    reason (all str)."""
    rows: pd.DataFrame | None = None
    """Every row of the training table, in its order: Id and label (str, as they stand there), class
    (an element of `classes`, or None), path, reason (why it is left out, or "") and counts (whether
    it is a loss if it is left out). `train` holds those without a reason."""

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

    Photos are looked for in the folders that `files` names, at any depth, in class folders or all
    together. Where there are none, the zips are unpacked below `scratch`; the next run finds the
    photos there. Names are compared exactly first, and then without case, folders, suffix and the
    ways of writing a number, as long as only one photo or class is meant. Nothing is decoded yet:
    see `check_photos`.

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
    rows, classes, orphans = read_train(folder, files, scratch, rows, sample[label_column])
    test, excluded_test = read_test(folder, files, scratch, sample[id_column])
    if isinstance(classes[0], int):
        sample[label_column] = as_integers(sample[label_column])
    excluded = [excluded_rows(rows[rows["reason"] != ""]), excluded_rows(orphans), excluded_test]
    excluded = pd.concat(excluded, ignore_index=True)
    return Competition(folder, used_rows(rows, classes), test, classes, sample, excluded, rows)


def read_train(
    folder: Path, files: CompetitionFiles, scratch: Path, rows: pd.DataFrame, sample: pd.Series
) -> tuple[pd.DataFrame, list, pd.DataFrame]:
    """Return the rows as `Competition.rows`, the classes and the photos without a row.

    Args:
        folder: the competition's.
        files: the names of its files.
        scratch: where zips are unpacked.
        rows: columns Id and label.
        sample: the labels of the sample submission.
    """
    asked = asked_for(rows["Id"])
    photos = find_photos(folder, files.train_photos, files.train_zip, scratch, asked)
    rows, of_folder = judge_labels(rows, folders_of(photos["name"]), set(sample.str.strip()))
    rows, orphans = match_train(rows, with_labels(photos, of_folder), files)
    used = rows[rows["reason"] == ""]
    if used.empty:
        raise Problem(
            f"No row of {folder / files.train_csv} can be used for training: of the first, "
            f"{rows['Id'].iloc[0]}, {rows['reason'].iloc[0]}."
        )
    return rows, sorted(set(used["class"])), orphans


def used_rows(rows: pd.DataFrame, classes: list) -> pd.DataFrame:
    """Return `Competition.train` of `Competition.rows`; each photo is a group of its own."""
    used = rows[rows["reason"] == ""].reset_index(drop=True)
    train = used[["Id", "class", "path"]].rename(columns={"class": "label"})
    if isinstance(classes[0], int):
        train["label"] = train["label"].astype("int64")
    return train.assign(group=np.arange(len(train)))


def excluded_rows(rows: pd.DataFrame, part: str = "train") -> pd.DataFrame:
    """Return rows as `Competition.excluded` has them; a column that is missing is "" there."""
    rows = rows.assign(set=part).reindex(columns=EXCLUDED_COLUMNS).fillna("").astype(str)
    return rows.assign(Id=rows["Id"].map(printable), path=rows["path"].map(printable))


def asked_for(ids: pd.Series) -> Callable[[str], bool]:
    """Return a function that tells whether any of the Ids may mean a file of some name."""
    spellings = Spellings(ids, WAYS_OF_FILES)
    return lambda name: bool(spellings.find(name)[0])


def read_test(
    folder: Path, files: CompetitionFiles, scratch: Path, ids: pd.Series
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the test table and the excluded Ids and photos."""
    photos = find_photos(folder, files.test_photos, files.test_zip, scratch, asked_for(ids))
    index = PhotoIndex(photos.assign(folder=""))
    found = index.match(ids)
    test = pd.DataFrame({"Id": ids, "path": found["path"]})
    if (test["path"] == "").all():
        raise Problem(
            f"None of the {len(test)} Ids of {folder / files.sample_csv} has a photo among the "
            f"{len(photos)} test photos: is {files.test_zip} of the same competition?"
        )
    gone = test["path"] == ""
    reasons = "its photo is missing" + found.loc[gone, "near"]
    orphans = index.without_row(test["path"], files.sample_csv)
    parts = [excluded_rows(part, "test") for part in (test[gone].assign(reason=reasons), orphans)]
    return test, pd.concat(parts, ignore_index=True)


def read_sample(path: Path) -> pd.DataFrame:
    """Read the sample submission: an id column without blanks or duplicates, and a label column."""
    sample = read_csv(path)
    if sample.shape[1] != 2:
        raise Problem(
            f"{path} has {sample.shape[1]} columns ({', '.join(sample.columns)}); a table of two, "
            "Id and label, separated by a comma is needed: download it again."
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


def read_labels(path: Path, id_column: str, label_column: str, sample_csv: str) -> pd.DataFrame:
    """Read the training rows as columns Id and label, both str and stripped."""
    table = read_csv(path)
    spellings = Spellings(table.columns, WAYS_OF_LABELS)
    names = [spellings.only(column) for column in (id_column, label_column)]
    for column, name in zip((id_column, label_column), names, strict=True):
        if name is None:
            raise Problem(
                f"{path} has no column {column}, which {sample_csv} has; its columns are "
                f"{', '.join(table.columns)}: take both files from the same competition."
            )
    rows = pd.DataFrame({"Id": table[names[0]], "label": table[names[1]]})
    return rows.apply(lambda column: column.str.strip())


def find_photos(
    folder: Path, photos: str, archive: str, scratch: Path, asked: Callable[[str], bool]
) -> pd.DataFrame:
    """List the photos of the training or test set, unpacking the archive where there are none.

    They are looked for in the folder `photos` and in one named like the archive, into which some
    programs unpack it (`test/test_upload/`).

    Returns:
        Columns name (below that folder, with /), path and packed, as `find_files` has them.
    """
    for name in (photos, Path(archive).stem):
        if (folder / name).is_dir():
            found = find_files(folder / name, scratch, asked)
            if len(found):
                return found
    if not (folder / archive).is_file():
        raise Problem(
            f"{folder} holds neither photos in {photos}/ nor {archive}: download the competition's "
            "photos into it."
        )
    found = find_files(folder / archive, scratch, asked)
    if found.empty:
        raise Problem(f"{folder / archive} holds no photos: download it again.")
    return found


def judge_labels(
    rows: pd.DataFrame, folders: set[str], sample: set[str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Find the classes and judge the label of every training row.

    Where class folders exist, only labels that have one are classes, so that a mistyped label does
    not become a class. Otherwise every label is a class.

    Args:
        rows: columns Id and label.
        folders: the names of all folders that photos lie in.
        sample: the labels of the sample submission.

    Returns:
        The rows with the columns class and reason (why the label can't be used, "" where it can),
        and the classes of the class folders, as text, by the folders' names.
    """
    blank = missing(rows["label"], folders)
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
    rows: pd.DataFrame, photos: pd.DataFrame, files: CompetitionFiles
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Match every row with its photo; return `Competition.rows` and the photos without a row."""
    index = PhotoIndex(photos)
    labels = rows["class"].map(lambda name: "" if name is None else str(name))
    found = index.match(rows["Id"], labels)
    rows = rows.assign(path=found["path"], counts=True)

    def exclude(where: pd.Series, reason: str | pd.Series) -> None:
        rows["reason"] = rows["reason"].mask(where & (rows["reason"] == ""), reason)

    exclude(rows["Id"] == "", f"its row of {files.train_csv} has no Id")
    exclude(rows["path"] == "", f"its row of {files.train_csv} has no photo" + found["near"])
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
        rows["path"].isin(contradicted), f"{files.train_csv} gives its Id several different labels"
    )
    again = (rows["reason"] == "") & rows["path"].where(rows["reason"] == "").duplicated()
    exclude(again, f"{files.train_csv} repeats its Id; the first of the rows is used")
    rows["counts"] = ~again  # the photo is used
    used = rows["reason"] == ""
    several = used & rows["Id"].where(used).duplicated(keep=False)  # the label's folder tells which
    rows["Id"] = rows["Id"].mask(several, found["folder"] + "/" + rows["Id"])
    return rows, index.without_row(rows["path"], files.train_csv)


def as_integers(values: pd.Series) -> pd.Series:
    """Return a column of text as int64 if all of it is whole numbers, else unchanged."""
    whole = all(WHOLE_NUMBER.fullmatch(value) for value in values)
    return values.astype("int64") if whole else values


def draw_limit(competition: Competition, limit: int, seed: int) -> Competition:
    """Return the competition with at most `limit` training photos of each class.

    They are drawn with `seed` and keep their order; the test set stays whole.

    Raises:
        Problem: the limit is below 1.
    """
    if limit < 1:
        raise Problem(f"limit is {limit}: give the most training photos of a class, 1 or more.")
    shuffled = competition.train.sample(frac=1, random_state=seed)
    drawn = shuffled.groupby("label").head(limit).sort_index().index
    rows = competition.rows[competition.rows["reason"] == ""].iloc[drawn].reset_index(drop=True)
    return replace(competition, train=used_rows(rows, competition.classes), rows=rows)
