"""Photos that a person leaves out of a run with --exclude."""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from kernelkit.core.problem import Problem, first_names
from kernelkit.core.tables import read_csv
from kernelkit.data.names import WAYS_OF_FILES, Spellings
from kernelkit.data.read import Competition, excluded_rows

LEAVE_OUT = "leave_out"  # the column in which a person decides about each photo of a list
YES, NO = {"yes", "y", "x", "1", "true"}, {"no", "n", "0", "false", ""}


@dataclass(frozen=True)
class Exclusion:
    """What a list leaves out."""

    name: str = ""
    """Of the file."""
    ids: frozenset[str] = frozenset()
    """The Ids of photos that do not train."""
    reviewed: bool = False
    """Whether a person marked each of them; then they do not validate either."""


def read_exclusion(file: Path, competition: Competition) -> Exclusion:
    """Read a list of training photos to leave out.

    Where it has a column leave_out, the rows count in which a person wrote yes. A list without that
    column is taken whole, but nobody vouches for its rows: these photos stay in the validation, so
    that a network's own mistakes can't leave it and the score stays comparable.

    A line is printed of listed Ids that are no training photo's.

    Args:
        file: as `read_list` takes it.
        competition: as `read_competition` returns it.

    Raises:
        Problem: the file or the column is missing, no Id is a training photo's, a mark is neither
            yes nor no, no row is marked, or a class would lose all its photos.
    """
    train, before = competition.train, competition.excluded
    known = [*competition.rows["Id"], *before.loc[before["set"] == "train", "Id"]]
    listed = read_list(file, competition, Spellings(filter(None, known), WAYS_OF_FILES))
    reviewed = LEAVE_OUT in listed
    if reviewed:
        listed = listed[marked(listed[LEAVE_OUT], file)]
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


def read_list(file: Path, competition: Competition, known: Spellings) -> pd.DataFrame:
    """Return a CSV in whose column Id the Ids are spelt as the training photos' are.

    Args:
        file: a CSV with a column of the Ids, which is named Id or as in the competition, or is the
            only one, with or without a header. Of several such columns that counts which has the
            most Ids of training photos. Of a run's excluded.csv the training photos count.
        competition: the one of the photos.
        known: their Ids.

    Raises:
        Problem: the file or the column is missing.
    """
    if not file.is_file():
        raise Problem(f"--exclude {file}: there is no such file.")
    listed = read_csv(file, "give --exclude a CSV of the Ids of training photos")
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
            f"{file} has no column {id_column}; its columns are {', '.join(listed.columns)}: name "
            "that of the training photos' Ids so."
        )
    spelt = [listed[name].str.strip().map(lambda Id: known.only(Id) or Id) for name in names]
    return listed.assign(Id=max(spelt, key=lambda ids: ids.isin(known.names).sum()))


def marked(marks: pd.Series, file: Path) -> pd.Series:
    """Return which rows a person marked with yes, bool [rows].

    Raises:
        Problem: a mark is neither yes nor no, or none is yes.
    """
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
    """Return a list with the column leave_out: what a person wrote in the file, else "".

    Args:
        table: has the columns Id and label.
        file: an earlier version of the list, which may be missing or damaged.
    """
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


def not_a_loss(competition: Competition, exclusion: Exclusion) -> Competition:
    """Return the competition in whose rows the listed photos do not count as lost."""
    rows = competition.rows
    rows = rows.assign(counts=rows["counts"] & ~rows["Id"].isin(exclusion.ids))
    return replace(competition, rows=rows)


def leave_out(
    competition: Competition,
    pairs: list[tuple[pd.DataFrame, pd.DataFrame]],
    exclusion: Exclusion,
) -> tuple[Competition, list[tuple[pd.DataFrame, pd.DataFrame]]]:
    """Take the listed photos out of the training and, where a person marked them, the validation.

    It is done after the split, which so is that of a run without the list.

    Args:
        competition: after the checks.
        pairs: the training and the validation rows of each fold.
        exclusion: what to leave out.
    """
    if not exclusion.ids:
        return competition, pairs
    pairs = [thinned(*pair, exclusion) for pair in pairs]
    validating = {Id for _, validation in pairs for Id in validation["Id"]}
    rows, name = competition.rows, exclusion.name
    listed = rows["Id"].isin(exclusion.ids) & (rows["reason"] == "")
    gone = listed & ~rows["Id"].isin(validating)
    why = f"a person marked it in {name}" if exclusion.reviewed else f"it is listed in {name}"
    reason = pd.Series(why, rows.index).where(gone, f"{why}; it validates, but does not train")
    if exclusion.reviewed:
        print(
            f"The photos marked in {name} do not validate either, so this score is not comparable "
            "with one of a run with them; `ship compare` judges the photos that both have."
        )
    new = excluded_rows(rows.assign(reason=reason)[listed])
    kept = ~competition.train["Id"].isin(rows.loc[gone, "Id"])
    competition = replace(
        competition,
        train=competition.train[kept].reset_index(drop=True),
        rows=rows.assign(reason=rows["reason"].mask(gone, why)),
        excluded=pd.concat([competition.excluded, new], ignore_index=True),
    )
    return competition, pairs


def thinned(
    train: pd.DataFrame, validation: pd.DataFrame, exclusion: Exclusion
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a fold without the listed photos; what is left of a class trains, if need be."""
    rest = train[~train["Id"].isin(exclusion.ids)]
    listed = validation["Id"].isin(exclusion.ids)
    moved = ~validation["label"].isin(rest["label"]) & ~listed
    stays = ~moved & ~(listed & exclusion.reviewed)
    rest = pd.concat([rest, validation[moved]], ignore_index=True)
    return rest, validation[stays].reset_index(drop=True)
