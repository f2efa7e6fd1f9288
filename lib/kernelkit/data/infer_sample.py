"""Find the sample submission of an unknown competition, and the photos that it names."""

import posixpath
import re
from typing import NoReturn

import pandas as pd

from kernelkit.core.problem import Problem
from kernelkit.data.infer_draft import Draft, Photos, unread, without_zip
from kernelkit.data.infer_table import SPLIT, UNNAMED, id_columns
from kernelkit.data.labels import are_numbers, sample_labels, with_label
from kernelkit.data.names import LABEL_KEYS, Spellings, named_role

SAMPLE = re.compile(r"sample|submi", re.I)


def choose_sample(draft: Draft) -> None:
    """Note the sample submission, if there is one, and which other tables there are."""
    names = map(without_zip, draft.source.names)
    csvs = {name for name in names if name.lower().endswith((".csv", ".tsv"))}
    csvs = sorted(csvs, key=lambda name: (name.count("/"), name))

    def is_called_sample(name: str) -> bool:
        return "sample" in posixpath.basename(name).lower()

    samples = [name for name in csvs if SAMPLE.search(posixpath.basename(name))]
    samples.sort(key=lambda name: not is_called_sample(name))
    if not samples and (samples := [name for name in csvs if _lists_tests(draft, name)]):
        draft.notes.append(f"{samples[0]} is taken for the sample submission")
    chosen = draft.given.get("sample_csv", samples[0] if samples else "")
    draft.fields["sample_csv"] = chosen
    draft.tables = [name for name in csvs if name not in {*samples, chosen}]
    if not chosen:
        return
    draft.sample = with_label(draft.source.table(chosen))
    _check_columns(draft, chosen)
    ids = set(draft.sample.iloc[:, 0].str.strip())
    for other in samples:
        if other == chosen or is_called_sample(other) != is_called_sample(chosen):
            continue
        table = draft.source.table(other)
        if set(table.iloc[:, 0].str.strip()) != ids or [*table] != [*draft.sample]:
            question = f"which of {chosen} and {other}, whose Ids or columns differ, is the sample "
            question += "submission"
            draft.doubt(question, sample_csv=[chosen, other])


def _lists_tests(draft: Draft, name: str) -> bool:
    """Tell whether a table lists photos to predict, alone or with what is submitted of each.

    It has rows of these photos only, and the columns of another table or one value in a new column.
    """
    table = draft.table(name)
    if table.shape[1] == 1:
        return named_role(name) == "test" and _names_photos(draft, table.iloc[:, 0])
    if table.shape[1] != 2 or not table.iloc[:, 0].is_unique:
        return False
    found = draft.photos.find(table.iloc[:, 0], "test")
    if not all(found) or {draft.photos.roles[n] for names in found for n in names} != {"test"}:
        return False
    csvs = {without_zip(other) for other in draft.source.names if other.lower().endswith(".csv")}
    others = [{*draft.table(other)} for other in csvs - {name}]
    second = table.iloc[:, 1]
    is_new = not any(second.name in columns for columns in others) or not any(second)
    return {*table} in others or (is_new and second.nunique() == 1)


def lists_all(draft: Draft, tests: list[str]) -> bool:
    """Tell whether the sample is one of photos and their labels: it names all, of no test set."""
    if (
        draft.sample is None
        or draft.given.get("sample_csv")
        or "test" in draft.photos.roles.values()
    ):
        return False
    called = re.search("submi", posixpath.basename(draft.fields["sample_csv"]), re.I)
    labels = sample_labels(draft.sample)
    return len(tests) == len(draft.photos.names) and not called and len(labels) > 1


def _check_columns(draft: Draft, where: str) -> None:
    """Refuse a sample with a column of row numbers, or one that tells parts of the test set."""
    sample = draft.sample
    first, *others = sample.columns
    more = [n for n in others[1:] if SPLIT.fullmatch(n.strip()) and not are_numbers(sample[n])]
    if others[1:] and UNNAMED.fullmatch(first) and _names_photos(draft, sample[others[0]]):
        more = [f"{first} (without a name)"]
    if more:
        question = f"{where} has the column {more[0]} beside the Ids and what is submitted"
        raise Problem(f"{question}: remove that column from the file")


def _names_photos(draft: Draft, ids: pd.Series) -> bool:
    return ids.is_unique and any(draft.photos.find(ids, "test"))


def photos_to_predict(draft: Draft) -> list[str]:
    """Return the photos that the sample names, or else those whose folders are called test."""
    photos = draft.photos
    if draft.sample is not None:
        ids = _names_of_tests(draft)
        given = draft.given.get("test_photos")
        some = photos if given is None else Photos(draft.in_given("test_photos", photos.names))
        each = some.find(ids, "test")
        found = {name for names in each for name in names}
        if not found:
            _refuse_ids(draft, f"photo in {given}" if given else "photo")
        others = {name for name in found if photos.roles[name] != "train"}
        tests = [name for name in photos.names if name in (others or found)]
        _doubt_old_submission(draft, set(tests))
        if several := next((names for names in each if len({*names} & {*tests}) > 1), []):
            places = sorted({posixpath.dirname(name) for name in several})
            question = (
                f"which of {' and '.join(places)} holds the photos to predict, which all have "
            )
            draft.doubt(f"{question}the Id of {several[0]}", test_photos=places)
        return tests
    if "test_photos" in draft.given:
        return draft.in_given("test_photos", photos.names)
    return [name for name in photos.names if photos.roles[name] == "test"]


def _refuse_ids(draft: Draft, photo: str) -> NoReturn:
    """Raise Problem where no Id of the sample names a photo, with the column that does, if any."""
    where, (Id, *others) = draft.fields["sample_csv"], draft.sample.columns
    cures = [
        f"; its column {name} does: move it before {Id}"
        for name in others[:2]
        if _names_photos(draft, draft.sample[name])
    ]
    first = draft.sample.iat[0, 0]
    cure = next(iter(cures), unread(draft.source.names))
    raise Problem(f"no {photo} has one of the Ids of {where}, such as {first}{cure}")


def _names_of_tests(draft: Draft) -> pd.Series:
    """Return what names the photo of each row of the sample: its Id, or a column of a table."""
    ids, where = draft.sample.iloc[:, 0].str.strip(), draft.fields["sample_csv"]
    given = draft.given.get("test_csv")
    names = draft.tables if given is None else list(filter(None, [given]))
    names = names if ids.is_unique else []
    for name in sorted(names, key=lambda name: named_role(name) != "test"):
        table = draft.table(name).apply(lambda column: column.str.strip())
        own = Spellings(table.columns, LABEL_KEYS).only(ids.name)
        rows = table[table[own].isin(ids)] if own else table[:0]
        columns = id_columns(rows, draft.photos, own or "")
        others = [column for column in columns if column != own]
        if others and own in columns and not given:
            question = f"whether the Ids of {where} are the photos' names, since {name} has other "
            draft.doubt(f"{question}photos in the column {others[0]}", test_csv=["", name])
        elif others:
            if others[1:]:
                question = f"which of the columns {' and '.join(others)} of {name} names the photos"
                draft.doubt(question, id=others)
            photo = draft.given.get("id", others[0])
            draft.fields |= {"test_csv": name, "id": photo}
            draft.notes.append(f"photos to predict: the column {photo} of {name} names them")
            return ids.map(rows.drop_duplicates(own).set_index(own)[photo]).fillna("")
        elif given:
            raise Problem(f"no column of {given} names photos of the Ids of {where}")
    return ids


def _doubt_old_submission(draft: Draft, tests: set[str]) -> None:
    """Doubt a table that lacks photos of the test set, or one called a sample that lacks most."""
    where, folders = draft.fields["sample_csv"], set(map(posixpath.dirname, tests))
    lacking = [n for n, role in draft.photos.roles.items() if role == "test" and n not in tests]
    if is_sample := "sample" in posixpath.basename(where).lower():
        lacking = [name for name in lacking if posixpath.dirname(name) in folders]
        lacking = lacking if len(lacking) > len(tests) else []
    if lacking:
        question = f"whether {where} has all rows of a submission: it lacks {len(lacking)} photos "
        question += f"of the test set, such as {lacking[0]}; if not, add their rows to it"
        draft.doubt(question, sample_csv=where if is_sample else [where, ""])
