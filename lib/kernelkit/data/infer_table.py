"""Find the table of an unknown competition's labels and read it, or note what is in doubt."""

import posixpath
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from kernelkit.core.problem import Problem, first_names
from kernelkit.data.infer_draft import Draft, Photos, counted
from kernelkit.data.infer_folders import ENOUGH, level_pattern, levels_of
from kernelkit.data.labels import (
    are_numbers,
    known_names,
    labels_by,
    missing,
    one_form,
    one_hot,
    refuse_several,
    sample_labels,
    spelling_notes,
)
from kernelkit.data.layout import Layout
from kernelkit.data.names import (
    LABEL_KEYS,
    Spellings,
    common_folder,
    folders_of,
    named_role,
    number_of,
    role_of,
)

CALLED = "train|label"  # words in the names of tables of labels
TRIED = 300  # values of a column that are looked for among the photos
SPLIT = re.compile(  # columns that divide photos into sets
    r"(?:data.?)?(?:split|sub)?.?(?:set|split|phase|usage|partition)|is_(?:train|valid|test)", re.I
)
UNNAMED = re.compile(r"Unnamed: \d+|")  # what pandas calls a column without a name, its row numbers
LABEL_WORDS = ("label", "labels", "category", "category_id", "class", "classname", "class_name")
LABEL_WORDS += ("target", "species", "breed", "diagnosis", "has_cactus", "invasive")
LEVEL = "sub|super|fine|coarse|main|parent"  # words of columns that may be the label beside `label`
KIND = "(?:label|class|target|breed)(?:e?s)?|categor(?:y|ies)|species|genus|family|diagnosis"
RIVAL = re.compile(rf"(?:(?:{LEVEL})[ _.-]?)?(?:{LEVEL}|{KIND})(?:[ _.-]?(?:id|name))?", re.I)
GROUP = re.compile(
    r"\s*(?:.*_)?(?:subject|patient|driver|person|individual|seq|sequence|group|session|video|burst"
    r"|lesion|case|study)(?:_?id)?\s*",
    re.I,
)


@dataclass(frozen=True)
class LabelColumn:
    """Which column of a table holds the labels."""

    name: str | tuple[str, ...]  # several columns are a one-hot code
    others: tuple[str, ...] = ()  # that may hold them as well: then a person must decide
    proof: str = ""  # why the sample submission shows it

    @property
    def names(self) -> list[str]:
        """The column or the columns."""
        return [self.name] if isinstance(self.name, str) else list(self.name)

    def values(self, table: pd.DataFrame, where: str) -> pd.Series:
        """Return the label of each row of a table called `where`."""
        if isinstance(self.name, str):
            return table[self.name].str.strip()
        return one_hot(table[self.names], Path(where))

    def doubt_others(self, draft: "Draft", where: str) -> None:
        """Ask a person where other columns may hold the labels as well."""
        if self.others:
            question = f"whether the labels are in the column {self.name} of {where}, or in "
            question += first_names(list(self.others), 5)
            draft.doubt(question, label=[self.name, *self.others[:3]])


@dataclass(frozen=True)
class LabelTable:
    """The table of the training photos' labels, and how it is read."""

    name: str
    table: pd.DataFrame
    ids: list[str]  # the columns that name photos, of which the first is taken
    label: LabelColumn
    photos: list[str]  # that of each row, "" where it is none of the training set
    found: list[list[str]]  # all that each row may mean

    @property
    def labels(self) -> dict[str, str]:
        """The label of each training photo."""
        labels = self.table[self.label.names].agg(" ".join, axis=1).str.strip()
        return {name: label for name, label in zip(self.photos, labels, strict=True) if name}

    def labels_of(self, photos: Collection[str]) -> set[str]:
        """Return the different labels of the rows that mean only some of `photos`."""
        known = set(photos)
        inside = [bool(names) and known.issuperset(names) for names in self.found]
        rows = self.table.loc[inside, self.label.names]
        labels = {" ".join(row).strip() for row in rows.itertuples(index=False)}
        none = {"-1"} if isinstance(self.label.name, str) else {"-1", "0"}
        return {text for text in labels - missing(labels, set()) if set(text.split()) - none}


def choose_table(draft: Draft, tests: set[str]) -> LabelTable | None:
    """Return the table of the labels, if any. Raises Problem if what a person gave does not fit."""
    given = draft.given.get("train_csv")
    names = draft.tables if given is None else list(filter(None, [given]))
    names = sorted(names, key=lambda name: not re.search(CALLED, name, re.I))
    found = list(filter(None, (_label_table(draft, name, tests) for name in names)))
    sure = _certain(found, draft.sample is not None)
    asked = [f"{n}={draft.given[n]}" for n in ("train_csv", "id", "label") if draft.given.get(n)]
    if given in draft.unusable:
        raise Problem(draft.unusable[given])
    if not sure and asked:
        raise Problem(
            f"no table fits {', '.join(asked)}, naming training photos; the tables are "
            f"{first_names(draft.tables) or 'none'}"
        )
    chosen = sure[0] if sure and _fits_folders(draft, sure[0]) else None
    _doubt_unusable(draft, chosen.name if chosen else "")
    if not chosen:
        return None
    if other := next((one for one in sure[1:] if _contradicts(one, chosen)), None):
        question = f"which of {chosen.name} and {other.name} holds the labels of the training "
        draft.doubt(f"{question}photos", train_csv=[chosen.name, other.name])
    return chosen


def _certain(found: list[LabelTable], has_sample: bool) -> list[LabelTable]:
    """Return the tables in whose labels nothing is in doubt, or else all.

    A larger one comes first where these have the labels of a part of the photos, unless the sample
    submission shows that they do.
    """
    sure = [one for one in found if not one.label.others]
    largest = max(found, key=lambda one: len(one.labels), default=None)
    if any(
        2 * len(one.labels) > len(largest.labels) or (has_sample and one.label.proof)
        for one in sure
    ):
        return sure
    return [largest, *sure] if sure else found


def _contradicts(other: LabelTable, chosen: LabelTable) -> bool:
    """Tell whether another table may as well hold the labels, and has others."""
    known, labels = chosen.labels, other.labels
    # Classes are listed by numbers, which may be names of photos as well.
    part = known.keys() > labels.keys() and 2 * len(labels) <= len(known)
    part = part and re.search(CALLED, chosen.name, re.I) and not re.search(CALLED, other.name, re.I)
    if part or _role_of_table(other.name) not in ("", "train", _role_of_table(chosen.name)):
        return False
    return other.label.proof >= chosen.label.proof and not labels.items() <= known.items()


def _role_of_table(name: str) -> str:
    """Return train, test or valid where a table's name or its folder says so, "" elsewhere."""
    roles = [named_role(name), *map(role_of, reversed(name.split("/")[:-1]))]
    return next(filter(None, roles), "")


def _doubt_unusable(draft: Draft, chosen: str) -> None:
    """Doubt tables that can't be read, unless others than the `chosen` one do not matter."""
    for name, reason in draft.unusable.items():
        if chosen and not re.search(CALLED, name, re.I):
            draft.notes.append(f"{name} is ignored: {reason}")
        else:
            draft.doubt(f"whether {name} holds the labels ({reason})", train_csv=chosen)


def _label_table(draft: Draft, name: str, tests: set[str]) -> LabelTable | None:
    table, sample, given = draft.table(name), draft.sample, draft.given
    preferred = draft.fields.get("id") or (sample.columns[0] if sample is not None else "")
    ids = [given["id"]] if given.get("id") else id_columns(table, draft.photos, preferred)
    label = LabelColumn(Layout.typed("label", given["label"])) if given.get("label") else None
    columns = {*ids, *(label.names if label else [])}
    if not ids or table.shape[1] < 2 or not columns <= set(table.columns):
        return None
    found = draft.photos.find(table[ids[0]], "train")
    names = [next((name for name in names if name not in tests), "") for names in found]
    if not any(names):
        return None
    if not label:
        kept = table[[bool(name) for name in names]]
        label = label_column(kept, ids[0], sample)
        label = label and _with_folders(kept, list(filter(None, names)), label)
    if label and draft.photos.spellings.find(ids[0])[0] and label.name in set(table[label.name]):
        draft.unusable[name] = (
            f"{name} has no header: its first line is that of a photo, {ids[0]}; add a line above "
            "it with the names of the columns, such as Id,label"
        )
        return None
    return LabelTable(name, table, ids, label, names, found) if label else None


def id_columns(table: pd.DataFrame, photos: Photos, preferred: str) -> list[str]:
    """Return the columns that name photos, that of the sample's name first, then the most exact."""
    # Others follow that name other photos and spell these at least as exactly.

    def share(values: pd.Series) -> float:
        some = values.drop_duplicates().head(TRIED)
        return sum(bool(photos.spellings.find(value)[0]) for value in some) / max(len(some), 1)

    known = Spellings(table.columns, LABEL_KEYS).only(preferred) if preferred else None
    fitting = [name for name in table.columns if share(table[name]) >= ENOUGH]
    fitting = [name for name in fitting if not UNNAMED.fullmatch(name)] or fitting
    found = {n: [photos.spellings.find(value) for value in table[n].head(TRIED)] for n in fitting}
    photo = {name: [tuple(positions) for positions, _ in found[name]] for name in fitting}
    most = max((len(set(photo[name])) for name in fitting), default=0)
    fitting = [name for name in fitting if len(set(photo[name])) >= ENOUGH * most]
    loosest = {name: max(level for _, level in found[name]) for name in fitting}
    fitting.sort(key=lambda name: (name != known, loosest[name]))
    return [
        name
        for name in fitting
        if name == fitting[0]
        or (photo[name] != photo[fitting[0]] and loosest[name] <= loosest[fitting[0]])
    ]


def label_column(
    table: pd.DataFrame, id_column: str, sample: pd.DataFrame | None
) -> LabelColumn | None:
    """Return the column of labels, or the columns of a one-hot code; None where none may be it.

    The column that holds what the sample submission holds comes first, then the one that is called
    as there, then one that is called as labels often are.
    """
    wanted = [] if sample is None else list(sample.columns[1:])
    others = [n for n in table.columns if n != id_column and not UNNAMED.fullmatch(n)]
    others = [n for n in others if n in wanted or not _tells_sets(table[n])]
    spelt = Spellings(others, LABEL_KEYS)
    if len(wanted) > 1:
        held = [name for name in others if _share_among(table[name], wanted) >= ENOUGH]
        if held:
            return LabelColumn(held[0], tuple(held[1:]), "the sample's columns are its values")
        columns = [spelt.only(name) for name in wanted]
        if None not in columns:
            return LabelColumn(tuple(columns), (), "the sample has the same columns")
    named = spelt.only(wanted[0]) if len(wanted) == 1 else None
    cells = sample_labels(sample) if len(wanted) == 1 else set()
    words = {word for cell in cells for word in cell.split()}
    values = {name: set(table[name].str.strip()) for name in others}
    holding = [n for n in others if cells and (cells <= values[n] or words <= values[n])]
    is_proof = len(words) > 1 or not are_numbers(words)  # a lone 0 is in many columns
    if named and (named in holding or not is_proof or not holding):
        return LabelColumn(named, (), "the sample has a column of its name")
    by_word = [name for word in LABEL_WORDS for name in others if name.lower() == word]
    if holding and is_proof:
        first = next((name for name in by_word if name in holding), holding[0])
        rest = [name for name in holding if name != first and name not in by_word[:1]]
        return LabelColumn(first, tuple(rest), "it holds what the sample holds")
    codes = table[others].apply(lambda column: column.str.strip())
    ones = codes.isin(["1", "1.0"])
    binary = (ones | codes.isin(["0", "0.0"])).all(axis=None)
    if len(others) > 1 and binary and (ones.sum(axis=1) == 1).all():
        return LabelColumn(tuple(others), (), "each row has a single 1")
    if by_word:
        rest = [n for n in by_word[1:] if sample is not None or not _alike(table, by_word[0], n)]
        return LabelColumn(by_word[0], tuple(rest))
    if len(others) == 1:
        return LabelColumn(others[0])
    usual = [n for n in others if 2 <= table[n].nunique() <= max(2, len(table) / 2)]
    if usual:
        first = next((name for name in usual if name in holding), usual[0])
        return LabelColumn(first, tuple(name for name in others if name != first))
    return None


def _tells_sets(column: pd.Series) -> bool:
    """Tell whether a column divides photos into sets, by names or numbers: it holds no labels."""
    values = set(column.str.strip().str.casefold())
    known = all(role_of(text) or number_of(text) is not None for text in values - {"true", "false"})
    return known and bool(SPLIT.fullmatch(column.name.strip()))


def _alike(table: pd.DataFrame, one: str, other: str) -> bool:
    """Tell whether two columns divide rows into the same classes, as numbers and names do."""
    pairs = table[[one, other]].drop_duplicates()
    return len(pairs) == pairs[one].nunique() == pairs[other].nunique()


def _with_folders(table: pd.DataFrame, photos: list[str], label: LabelColumn) -> LabelColumn:
    """Return the column that is called as labels are and holds the photos' folders, if any.

    Else `label` is returned, as where nothing is in doubt.
    """
    if not label.others:
        return label
    key = LABEL_KEYS[-1]
    folders = [set(map(key, posixpath.dirname(photo).split("/"))) for photo in photos]
    for name in filter(re.compile(KIND, re.I).search, [*label.names, *label.others]):
        values = table[name].map(key)
        if values.nunique() > 1 and all(map(set.__contains__, folders, values)):
            return LabelColumn(name, (), "it holds the photos' folders")
    return label


def _doubt_rivals(draft: Draft, where: str, table: pd.DataFrame, label: LabelColumn) -> None:
    """Doubt a column that has only the name of labels, where the sample does not decide.

    Others that are called so, or whose words divide its classes or unite them, may be the label.
    """
    if label.proof or label.others or draft.sample is None or draft.sample.shape[1] != 2:
        return
    if not isinstance(label.name, str) or label.name.lower() not in LABEL_WORDS:
        return
    stripped, cells = table.apply(lambda column: column.str.strip()), sample_labels(draft.sample)

    def may_be(name: str) -> bool:
        values, pairs = set(stripped[name]), stripped[[label.name, name]].drop_duplicates()
        if not 2 <= len(values) <= len(table) / 2 or SPLIT.fullmatch(name) or GROUP.fullmatch(name):
            return False
        words = not any(re.match(r"\d|.*/", value) for value in values)
        nested = any(not pairs[one].duplicated().any() for one in pairs)
        decided = cells and cells <= set(stripped[label.name]) and not cells <= values
        return not decided and bool(RIVAL.fullmatch(name.strip()) or (words and nested))

    rivals = [name for name in table if name != label.name and may_be(name)]
    replace(label, others=tuple(rivals)).doubt_others(draft, where)


def _share_among(column: pd.Series, names: Iterable[str]) -> float:
    """Return which fraction of a column's values is among names; 0 where it has only one."""
    known = Spellings(names, LABEL_KEYS)
    values = column.str.strip().unique()
    inside = sum(known.only(value) is not None for value in values)
    return inside / len(values) if len(values) > 1 else 0


def _fits_folders(draft: Draft, found: LabelTable) -> bool:
    """Tell whether a table's labels count, where photos lie in class folders as well."""
    # What the sample submission proves counts, and what a person gives. Labels that are those of
    # the folders do too. Others are in doubt; a column that only may hold labels is ignored.
    column, labels = found.label, pd.Series(found.labels)
    if column.proof or draft.given.keys() & {"label", "train_csv"}:
        return True
    folder = common_folder(list(labels.index))
    names = pd.Series([posixpath.relpath(photo, folder or ".") for photo in labels.index])
    levels = [labels_by(level_pattern(level), names) for level in levels_of(names)]
    levels = [each for each in levels if (each != "").mean() >= ENOUGH]
    levels = [each for each in levels if each.nunique() <= len(each) / 2]
    pairs = [set(zip(labels, each, strict=True)) for each in levels]
    alike = any(len(each) == labels.nunique() == len({b for _, b in each}) for each in pairs)
    if alike or not levels:
        return True
    if column.others:  # which column has the labels is asked, where the folders have none
        parts = all(map(_differ_in_numbers, levels))
        if not parts:
            draft.notes.append(f"{found.name} names photos, but no column is surely their labels")
        return parts
    question = f"whether the labels are in the column {column.name} of {found.name} or the "
    draft.doubt(f"{question}photos' folders", label=str(column.name), train_csv="")
    return True


def _differ_in_numbers(folders: pd.Series) -> bool:
    """Tell whether folders differ in numbers alone, as images_001 and images_002: as parts do."""
    words = {re.sub(r"\d+", "", name) for name in folders}
    return len(words) == 1 and words != {""}


def rows_of_table(draft: Draft, found: LabelTable) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of photos that train, as Id, label and group; and these photos."""
    where, table, sample, notes = found.name, found.table, draft.sample, draft.notes
    Id, column, label = found.ids[0], found.label, found.label.name
    many = not isinstance(label, str)
    if len(found.ids) > 1:
        question = f"which of the columns {' and '.join(found.ids)} of {where} names the photos"
        draft.doubt(question, id=found.ids)
    column.doubt_others(draft, where)
    kept = table[[bool(name) for name in found.photos]]
    _doubt_rivals(draft, where, kept.drop(columns=found.ids), column)
    if len(kept) < len(table):
        notes.append(
            f"{len(table) - len(kept)} rows of {where} are of photos to predict or of none, and do "
            "not train"
        )
    labels = column.values(kept, where)
    known = folders_of(draft.photos.names) | known_names(sample)
    if not many and not Layout.typed("single_labels", draft.given.get("single_labels", "")):
        refuse_several(labels, f"the column {label} of {where}", known)
    others = [name for name in kept if name not in (Id, *column.names) and GROUP.fullmatch(name)]
    others = [n for n in others if kept.groupby(labels)[n].nunique().max() > 1]  # no coarser class
    group = next((name for name in others if 1 < kept[name].nunique() < len(kept)), "")
    of_sample = ["", ""] if sample is None else list(sample.columns)
    if draft.fields.get("id", Id) != Id:
        photo, other = draft.fields["id"], draft.fields["test_csv"]
        question = f"{other} names photos in the column {photo} and {where} in the column {Id}"
        raise Problem(f"{question}: give both columns one name")
    draft.fields |= {"train_csv": where, "group": group}
    draft.fields |= {"id": Id if Id != of_sample[0] else ""}
    draft.fields |= {"label": label if many or label != of_sample[1] else ""}
    blank = labels.isin(missing(labels, known))
    spelling = spelling_notes(labels[~blank], where)
    labels = labels.mask(blank, "").map(one_form(labels, sample_labels(sample)) | {"": ""})
    shown = f"the columns {', '.join(label)} as one-hot" if many else f"the column {label}"
    proof = f", since {column.proof}" if column.proof else ""
    notes.append(f"labels: {shown} of {where}{proof}; {counted(labels)}")
    if blank.any():
        notes.append(f"{blank.sum()} rows of {where} have no label and are left out")
    notes += spelling
    if group:
        notes.append(f"group: photos of one {group} are kept together in the split")
    _doubt_test_rows(draft, where, kept, ",".join(column.names), labels)
    rows = pd.DataFrame({"Id": kept[Id], "label": labels})
    rows = rows.assign(group=kept[group] if group else "")
    return rows, [name for name in found.photos if name]


def _doubt_test_rows(
    draft: Draft, where: str, table: pd.DataFrame, label: str, labels: pd.Series
) -> None:
    """Doubt rows whose label, or whose column of sets, suggests that they do not train."""
    numbers = {text: number_of(text) for text in set(labels) - {""}}
    if None not in numbers.values() and -1 in numbers.values() and max(numbers.values()) > 1:
        count = sum(numbers.get(text) == -1 for text in labels)
        question = f"whether -1, the label of {count} rows of {where}, is a class"
        draft.doubt(f"{question}; --exclude leaves rows out", label=label)
    for name in table.columns:
        values = table[name].str.strip()
        tested = values.map(lambda value: role_of(value) == "test")
        if SPLIT.fullmatch(name.strip()) and tested.any() and not tested.all():
            question = f"whether the {tested.sum()} rows of {where} with {values[tested].iloc[0]!r}"
            question += f" in the column {name} train; --exclude leaves rows out"
            draft.doubt(question, label=label)
