"""The photos of a run: which train, which validate, and which are predicted."""

import contextlib
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kernelkit.core.boundary import doing
from kernelkit.core.problem import Problem, first_names
from kernelkit.core.tables import read_csv
from kernelkit.data.check import check_losses, check_photos, print_left_out
from kernelkit.data.duplicates import conflicting_labels
from kernelkit.data.find import open_competition
from kernelkit.data.infer_layout import layout_of
from kernelkit.data.layout import Layout
from kernelkit.data.names import FILE_KEYS, Spellings
from kernelkit.data.read import Competition, excluded_rows, read_competition, used_rows
from kernelkit.data.split import split, split_into_folds

LEAVE_OUT = "leave_out"  # the column in which a person decides about each photo of a list
YES, NO = {"yes", "y", "x", "1", "true"}, {"no", "n", "0", "false", ""}

Fold = tuple[pd.DataFrame, pd.DataFrame]  # the training and the validation rows


@dataclass(frozen=True)
class PhotoTables:
    """The tables of a fold, and the competition that they come from."""

    competition: Competition  # the whole competition, including what was left out
    train: pd.DataFrame  # columns Id, label, path, group, near
    validation: pd.DataFrame  # the same columns
    test: pd.DataFrame  # columns Id, path: the rows of the sample whose photo can be read
    fold: int = 0
    # Height and width at which decoded photos are kept, see `keep_decoded`; None for those at which
    # each network sees them.
    kept_size: tuple[int, int] | None = None

    @property
    def fingerprint(self) -> str:
        """A hash of Ids, labels and sets, which tells whether an unfinished run can go on."""
        sets = {"train": self.train, "validation": self.validation, "test": self.test}
        rows = pd.concat(table.assign(set=name) for name, table in sets.items())
        columns = rows[["Id", "set", "label"]].astype(str)
        return hashlib.sha256(columns.to_csv(index=False).encode()).hexdigest()

    def positions(self, table: pd.DataFrame) -> np.ndarray:
        """Return the position of each row's label among the classes, int64 [n]."""
        return pd.Index(self.competition.classes).get_indexer(table.label)

    def with_test_photos(self, rows: np.ndarray, classes: np.ndarray) -> "PhotoTables":
        """Return tables in which the test photos at int `rows`, of int `classes`, train too."""
        labels = np.asarray(self.competition.classes, dtype=object)[classes]
        more = self.test.iloc[rows].assign(label=labels, group=-1, near=-1)
        more["label"] = more["label"].astype(self.train["label"].dtype)
        return replace(self, train=pd.concat([self.train, more], ignore_index=True))

    def class_counts(self) -> pd.DataFrame:
        """Return a row for each class, with columns train and validation: numbers of photos."""
        return pd.DataFrame(
            {
                name: table.label.value_counts().reindex(self.competition.classes, fill_value=0)
                for name, table in (("train", self.train), ("validation", self.validation))
            }
        )

    def with_prior(self, probabilities: np.ndarray) -> np.ndarray:
        """Return a row for every Id of the sample submission, float32 [Ids, classes].

        Photos that can't be read, without probabilities, get the classes' fractions in training.
        """
        unreadable = (self.competition.test.path == "").to_numpy()
        if count := unreadable.sum():
            print(f"{count} test photos can't be read: they get the most frequent class.")
        counts = self.class_counts()["train"].to_numpy()
        rows = np.tile(np.float32(counts / counts.sum()), (len(unreadable), 1))
        rows[~unreadable] = probabilities
        return rows


def fingerprint(folds: list[PhotoTables]) -> str:
    """Return a hash of the photos, labels, classes in their order, and folds of a run."""
    known = [fold.fingerprint for fold in folds] + [str(folds[0].competition.classes)]
    return hashlib.sha256(" ".join(known).encode()).hexdigest()


def load_tables(
    folder: Path, layout: Layout, scratch: Path, config, given: Mapping[str, str] | None = None
) -> list[PhotoTables]:
    """Read, check and split a competition, print what was found, and return its folds' tables.

    Where the folder is another competition's than that of `layout`, one is proposed for it, with
    the fields `given` that a person has decided. Raises Problem if a file is missing or unreadable,
    or too little is left.
    """
    doing("reading the photos")
    folder = open_competition(folder, scratch)
    layout = layout_of(folder, layout, scratch, given)
    competition = read_competition(folder, layout, scratch)
    exclusion = Exclusion()
    if config.exclude:
        exclusion = read_exclusion(Path(config.exclude), competition)
        rows = competition.rows  # the listed ones are no loss
        rows = rows.assign(counts=rows["counts"] & ~rows["Id"].isin(exclusion.ids))
        competition = replace(competition, rows=rows)
    check_losses(competition, config.most_excluded)
    if config.limit is not None:
        competition = draw_limit(competition, config.limit, config.seed, exclusion.ids)
    competition = check_photos(competition, config.workers)
    check_losses(competition, config.most_excluded)
    if config.folds > 1:
        pairs = split_into_folds(competition.train, config.folds, config.seed)
    else:
        pairs = [split(competition.train, config.validation_share, config.seed)]
    competition, pairs = leave_out(competition, pairs, exclusion)
    print_left_out(competition)
    test = competition.test[competition.test.path != ""].reset_index(drop=True)
    folds = [PhotoTables(competition, *pair, test, number) for number, pair in enumerate(pairs)]
    print(_summary(folds), flush=True)
    return folds


def draw_limit(
    competition: Competition, limit: int, seed: int, listed: Collection[str] = ()
) -> Competition:
    """Return the competition with at most `limit` training photos of each class.

    They are drawn with `seed` and keep their order; the test set stays whole. Photos whose Ids are
    listed do not count: as many others are drawn as without them.
    """
    shuffled = competition.train.sample(frac=1, random_state=seed)
    out = shuffled["Id"].isin(listed)
    drawn = shuffled.groupby("label").head(limit).index.intersection(shuffled.index[out])
    drawn = drawn.union(shuffled[~out].groupby("label").head(limit).index).sort_values()
    rows = competition.rows[competition.rows["reason"] == ""].iloc[drawn].reset_index(drop=True)
    return replace(competition, train=used_rows(rows, competition.classes), rows=rows)


def _summary(folds: list[PhotoTables]) -> str:
    competition, lines = folds[0].competition, []
    if conflicts := list(conflicting_labels(competition.train).Id):
        lines.append(f"Nearly the same photo, another label: {first_names(conflicts)}")
    counts = competition.train["label"].value_counts().reindex(competition.classes)
    lines.append(f"Classes: {first_names(f'{name} ({n})' for name, n in counts.items())}")
    validated = set().union(*(fold.validation["label"] for fold in folds))
    if small := [name for name in competition.classes if name not in validated]:
        lines.append(f"Classes with too few photos to validate: {first_names(map(str, small))}")
    photos, held = len(competition.train), len(folds[0].validation)
    divided = f"{len(folds[0].train)} photos to train, {held} to validate"
    if len(folds) > 1:
        held = round(photos / len(folds))
        divided = f"{photos} photos in {len(folds)} folds: about {photos - held} to train and "
        divided += f"{held} to validate in each"
    lines.append(
        f"{divided}, {len(competition.test)} to predict, {len(competition.classes)} classes; "
        f"{len(competition.excluded)} left out"
    )
    return "\n".join(lines)


@dataclass(frozen=True)
class Exclusion:
    """The photos that a list leaves out."""

    name: str = ""  # of the file
    ids: frozenset[str] = frozenset()  # that do not train
    reviewed: bool = False  # whether a person marked each of them; then they do not validate either


def read_exclusion(file: Path, competition: Competition) -> Exclusion:
    """Read a list of training photos to leave out; print which Ids are no training photo's.

    The column of Ids is named Id or as in the competition, or is the only one; of several, the one
    with the most Ids of training photos counts. Of a run's excluded.csv only the rows of training
    photos do. Where there is a column leave_out, the rows count in which a person wrote yes. A list
    without it is taken whole, but its photos stay in the validation: a network's own mistakes can't
    leave it, and the score stays comparable. Raises Problem if the file or the column is missing,
    no Id is a training photo's, a mark is neither yes nor no, no row is marked, or a class would
    lose all its photos.
    """
    train, before = competition.train, competition.excluded
    known = [*competition.rows["Id"], *before.loc[before["set"] == "train", "Id"]]
    listed = _read_list(file, competition, Spellings(filter(None, known), FILE_KEYS))
    reviewed = LEAVE_OUT in listed
    if reviewed:
        listed = listed[_marked(listed[LEAVE_OUT], file)]
    ids = frozenset(listed["Id"]) - {""}
    kept = set(train.loc[~train["Id"].isin(ids), "label"])
    if lost := sorted(set(train["label"]) - kept, key=str):
        raise Problem(f"{file} lists every photo of class {lost[0]}: leave some of them.")
    unknown = sorted(ids.difference(known))
    if unknown and len(unknown) == len(ids):
        raise Problem(
            f"No Id in {file} is a training photo's, so nothing would be left out: they are "
            f"{first_names(unknown, 3)}, the training photos' {first_names(train['Id'], 3)}."
        )
    if unknown:
        print(f"Ids in {file} of no training photo: {len(unknown)} ({first_names(unknown)})")
    return Exclusion(file.name, ids, reviewed)


def _read_list(file: Path, competition: Competition, known: Spellings) -> pd.DataFrame:
    if not file.is_file():
        raise Problem(f"--exclude {file}: there is no such file.")
    listed = read_csv(
        file, "give --exclude a CSV of the Ids of training photos, below a line such as Id"
    )
    if {"set", "reason"} <= {*listed.columns}:
        listed = listed[listed["set"] != "test"]
    if listed.shape[1] == 1:
        (header,) = listed.columns
        first = [header] if known.find(header)[0] else []
        listed = pd.DataFrame({"Id": [*first, *listed[header]]})
    id_column = competition.sample.columns[0]
    names = [n for n in ("Id", id_column, competition.layout.id) if n in listed.columns]
    if not names:
        raise Problem(
            f"{file} has no column {id_column}; its columns are {', '.join(listed.columns)}: give "
            "the column of the training photos' Ids that name."
        )
    spelt = [listed[name].str.strip().map(lambda Id: known.only(Id) or Id) for name in names]
    return listed.assign(Id=max(spelt, key=lambda ids: ids.isin(known.names).sum()))


def _marked(marks: pd.Series, file: Path) -> pd.Series:
    marks = marks.str.strip().str.lower()
    if (wrong := ~marks.isin(YES | NO)).any():
        row = wrong.idxmax()
        raise Problem(
            f"{file} has {marks[row]!r} in the column {LEAVE_OUT} in line {row + 2}: write yes "
            "where the photo is to be left out, and no or nothing where it stays."
        )
    if not marks.isin(YES).any():
        raise Problem(
            f"Nobody has marked a row of {file}, so nothing would be left out: look at the photos, "
            f"and write yes in the column {LEAVE_OUT} of those that are to be left out."
        )
    return marks.isin(YES)


def with_marks(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """Return a list with the column leave_out, as a person filled it in its earlier version."""
    marks = {}
    with contextlib.suppress(Problem):
        before = read_csv(file) if file.is_file() else pd.DataFrame()
        if {"Id", "label", LEAVE_OUT} <= set(before):
            keys = zip(before["Id"], before["label"], strict=True)
            marks = dict(zip(keys, before[LEAVE_OUT], strict=True))
    keys = zip(table["Id"], table["label"].astype(str), strict=True)
    column = pd.Series([marks.get(key, "") for key in keys], table.index, dtype=object)
    names = [name for name in table if name not in ("Id", "label")]
    return table.assign(**{LEAVE_OUT: column})[["Id", "label", LEAVE_OUT, *names]]


def leave_out(
    competition: Competition, folds: list[Fold], exclusion: Exclusion
) -> tuple[Competition, list[Fold]]:
    """Take the listed photos out of the training and, where a person marked them, the validation.

    The split so is that of a run without the list. What is left of a class trains, if need be.
    """
    if not exclusion.ids:
        return competition, folds
    thinned = []
    for train, validation in folds:
        rest = train[~train["Id"].isin(exclusion.ids)]
        listed = validation["Id"].isin(exclusion.ids)
        moved = ~validation["label"].isin(rest["label"]) & ~listed
        stays = ~moved & ~(listed & exclusion.reviewed)
        rest = pd.concat([rest, validation[moved]], ignore_index=True)
        thinned.append((rest, validation[stays].reset_index(drop=True)))
    validating = {Id for _, validation in thinned for Id in validation["Id"]}
    rows, name = competition.rows, exclusion.name
    listed = rows["Id"].isin(exclusion.ids) & (rows["reason"] == "")
    gone = listed & ~rows["Id"].isin(validating)
    why = f"a person marked it in {name}" if exclusion.reviewed else f"it is listed in {name}"
    reason = pd.Series(why, rows.index).where(gone, f"{why}; it validates, but does not train")
    if exclusion.reviewed:
        print(
            f"The photos marked in {name} do not validate either, so this score is not comparable "
            "with one of a run with them; `ship compare` compares the photos that both have."
        )
    new = excluded_rows(rows.assign(reason=reason)[listed])
    kept = ~competition.train["Id"].isin(rows.loc[gone, "Id"])
    competition = replace(
        competition,
        train=competition.train[kept].reset_index(drop=True),
        rows=rows.assign(reason=rows["reason"].mask(gone, why)),
        excluded=pd.concat([competition.excluded, new], ignore_index=True),
    )
    return competition, thinned
