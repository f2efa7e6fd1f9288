"""Find the labels of an unknown competition's photos: in a table, in folders or in names.

A guess that something contradicts is a doubt, which a person must decide.
"""

import posixpath
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kernelkit.core.problem import Problem, first_names
from kernelkit.data.layout import Layout
from kernelkit.data.match import folders_of
from kernelkit.data.names import (
    FILE_KEYS,
    LABEL_KEYS,
    ROLES,
    Spellings,
    are_numbers,
    common_folder,
    may_be_unlabelled,
    missing,
    number_of,
    role_of,
    roles_of,
    spelling_notes,
)
from kernelkit.data.read import known_names, labels_by, one_hot, refuse_several, sample_labels

ENOUGH = 0.9  # of names or rows that must fit for a guess
TRIED = 300  # values of a column that are looked for among the photos
SPLIT = re.compile(r"(?:data.?)?(?:split|sub)?.?(?:set|split|phase|usage|partition)|is_test", re.I)
LABEL_WORDS = ("label", "labels", "category", "category_id", "class", "classname", "class_name")
LABEL_WORDS += ("target", "species", "breed", "diagnosis", "has_cactus", "invasive")
GROUP = re.compile(
    r"(?:.*_)?(?:subject|patient|driver|person|individual|seq|sequence|group|session|video|burst)"
    r"(?:_?id)?",
    re.I,
)
# The label that begins a photo's name, before a number: dog.9174.jpg, great_pyrenees_12.jpg.
PATTERNS = (r"^(.+?)[._ -]+\d+\.[^.]+$", r"^([^\W\d]+)\d+\.[^.]+$", r"^([^._-]+)[._-]")
# What cameras, phones and programs begin the names of photos with.
CAMERAS = {"img", "image", "images", "imgp", "dsc", "dscn", "dscf", "dcim", "pxl", "p", "pict"}
CAMERAS |= {"dji", "gopr", "gp", "gh", "g", "mvi", "mov", "vid", "video", "sam", "cimg", "mg"}
CAMERAS |= {"wp", "whatsapp", "signal", "screenshot", "screen", "shot", "snapshot", "capture"}
CAMERAS |= {"photo", "photos", "foto", "bild", "pic", "pics", "picture", "pictures", "scan"}
CAMERAS |= {"frame", "frames", "page", "file", "item", "sample", "object", "thumb", "burst"}
CAMERAS |= {"rimg", "hpim", "kif", "sdc", "dc", "s", "cam", "camera", "untitled", "copy", "of"}
CAMERAS |= {"jpg", "jpeg", "png", "id", "no", "nr", "number", "unknown", "new", "edit", *ROLES}


@dataclass(frozen=True)
class Source:
    """An unknown competition's files."""

    names: Sequence[str]  # below its folder; the name of a zip, with or without .zip, is a folder
    photos: Sequence[str]  # those of them that are photos
    table: Callable[[str], pd.DataFrame]  # reads a CSV as text
    slug: str = ""
    metric: str = ""  # the row of METRICS; "" while it is unknown
    given: Mapping[str, str] = field(default_factory=dict)  # fields that a person has decided


class Draft:
    """The fields of a competition's block that are known so far, with notes and doubts."""

    def __init__(self, source: Source):
        Layout().with_fields(source.given)  # which refuses unknown fields
        self.source, self.given = source, source.given
        self.photos = Photos(dict.fromkeys(map(without_zip, source.photos)))
        self.fields: dict = {"slug": source.slug}
        self.notes: list[str] = []
        self.doubts: list[str] = []
        self.sample: pd.DataFrame | None = None
        self.tables: list[str] = []

    def doubt(self, question: str, **answers: str | list[str]) -> None:
        """Note what is uncertain and the fields' values that decide it, unless one is given."""
        if not self.given.keys() & answers.keys():
            options = [
                f"--set {shlex.quote(f'{name}={value}')}"
                for name, values in answers.items()
                for value in ([values] if isinstance(values, str) else values)
            ]
            self.doubts.append(f"{question} (decide it with {' or '.join(options)})")

    def in_given(self, field: str, names: Sequence[str]) -> list[str]:
        """Return the photos in the first of the places that a person gave that holds any."""
        held = (inside(names, [place]) for place in Layout.typed(field, self.given[field]))
        return next(filter(None, held), [])


class Photos:
    """The photos of an unknown competition, found by Id; the name of a zip is a folder."""

    def __init__(self, names: Iterable[str]):
        self.names = list(names)
        self.roles = roles_of(self.names)
        self.spellings = Spellings(self.names, FILE_KEYS[1:])  # in any folder

    def find(self, ids: Iterable[str], role: str) -> list[list[str]]:
        """Return the photos that each Id may mean, in a role: train or test.

        Of several, those count whose folders the Id names, then those in folders of the role, then
        those in the only folder that has a photo for every Id.
        """
        ids = list(ids)
        found = [self.alike(Id, role) for Id in ids]
        if all(len(names) < 2 for names in found) or len(set(ids)) < len(ids):
            return found
        depth = len(common_folder(self.names).split("/")) if common_folder(self.names) else 0
        branch = {name: "/".join(name.split("/")[:-1][: depth + 1]) for name in self.names}
        branches = {branch[name] for names in found for name in names}
        known = [{branch[name] for name in names} for names in found if names]
        sizes = pd.Series(list(branch.values())).value_counts()
        whole = [one for one in branches if all(one in each for each in known)]
        whole = sorted(whole, key=lambda one: sizes[one])
        if whole and (len(whole) == 1 or sizes[whole[0]] < sizes[whole[1]]):
            found = [[name for name in names if branch[name] == whole[0]] for names in found]
        return found

    def alike(self, Id: str, role: str) -> list[str]:
        """Return the photos of an Id, without looking at other Ids."""
        names = [self.names[position] for position in self.spellings.closest(Id)[0]]
        own = [name for name in names if self.roles[name] == role]
        other = {"train": "test", "test": "train"}[role]
        return own or [name for name in names if self.roles[name] != other] or names


def without_zip(name: str) -> str:
    """Return a path in which a zip is called as the folder that it is unpacked into."""
    return re.sub(r"\.zip(?=/|$)", "", name, flags=re.I)


def inside(names: Sequence[str], places: Iterable[str]) -> list[str]:
    """Return the photos that lie in any of some places."""
    heads = tuple(f"{without_zip(place)}/" if place else "" for place in places)
    return [name for name in names if name.startswith(heads)]


# ----------------------------------------------------------------------------- labels from a table


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

    @property
    def labels(self) -> dict[str, str]:
        """The label of each training photo."""
        labels = self.table[self.label.names].agg(" ".join, axis=1).str.strip()
        return {name: label for name, label in zip(self.photos, labels, strict=True) if name}


def choose_table(draft: Draft, tests: set[str]) -> LabelTable | None:
    """Return the table that has the labels of photos other than `tests`, if any.

    Raises Problem if a person has given a table or column that does not fit.
    """
    given = draft.given.get("train_csv")
    names = draft.tables if given is None else list(filter(None, [given]))
    names = sorted(names, key=lambda name: not re.search("train|label", name, re.I))
    found = list(filter(None, (_label_table(draft, name, tests) for name in names)))
    sure = [one for one in found if not one.label.others] or found
    asked = [f"{n}={draft.given[n]}" for n in ("train_csv", "id", "label") if draft.given.get(n)]
    if not sure and asked:
        raise Problem(
            f"no table fits {', '.join(asked)}, naming training photos; the tables are "
            f"{first_names(draft.tables) or 'none'}"
        )
    if not sure or not _fits_folders(draft, sure[0]):
        return None
    chosen, known = sure[0], sure[0].labels
    for other in sure[1:]:
        if other.label.proof >= chosen.label.proof and not other.labels.items() <= known.items():
            question = f"which of {chosen.name} and {other.name} holds the labels of the training "
            draft.doubt(f"{question}photos", train_csv=[chosen.name, other.name])
            break
    return chosen


def _label_table(draft: Draft, name: str, tests: set[str]) -> LabelTable | None:
    table, sample, given = draft.source.table(name), draft.sample, draft.given
    preferred = sample.columns[0] if sample is not None else ""
    ids = [given["id"]] if given.get("id") else _id_columns(table, draft.photos, preferred)
    label = LabelColumn(Layout.typed("label", given["label"])) if given.get("label") else None
    columns = {*ids, *(label.names if label else [])}
    if not ids or table.shape[1] < 2 or not columns <= set(table.columns):
        return None
    found = draft.photos.find(table[ids[0]], "train")
    names = [next((name for name in names if name not in tests), "") for names in found]
    if not any(names):
        return None
    label = label or label_column(table[[bool(name) for name in names]], ids[0], sample)
    return LabelTable(name, table, ids, label, names) if label else None


def _id_columns(table: pd.DataFrame, photos: Photos, preferred: str) -> list[str]:
    """Return the columns that name photos, that of the sample's name first, then the most exact.

    Others follow that name other photos and spell these at least as exactly.
    """

    def share(values: pd.Series) -> float:
        some = values.drop_duplicates().head(TRIED)
        return sum(bool(photos.spellings.find(value)[0]) for value in some) / max(len(some), 1)

    known = Spellings(table.columns, LABEL_KEYS).only(preferred) if preferred else None
    fitting = [name for name in table.columns if share(table[name]) >= ENOUGH]
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
    others = [name for name in table.columns if name != id_column]
    spelt = Spellings(others, LABEL_KEYS)
    wanted = [] if sample is None else list(sample.columns[1:])
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
        return LabelColumn(by_word[0], tuple(by_word[1:]))
    if len(others) == 1:
        return LabelColumn(others[0])
    usual = [n for n in others if 2 <= table[n].nunique() <= max(2, len(table) / 2)]
    if usual:
        first = next((name for name in usual if name in holding), usual[0])
        return LabelColumn(first, tuple(name for name in others if name != first))
    return None


def _share_among(column: pd.Series, names: Iterable[str]) -> float:
    """Return which fraction of a column's values is among names; 0 where it has only one."""
    known = Spellings(names, LABEL_KEYS)
    values = column.str.strip().unique()
    inside = sum(known.only(value) is not None for value in values)
    return inside / len(values) if len(values) > 1 else 0


def _fits_folders(draft: Draft, found: LabelTable) -> bool:
    """Tell whether a table's labels count, where photos lie in class folders as well.

    What the sample submission proves counts, and what a person gives. Labels that are those of the
    folders do too. Others are in doubt; a column that only may hold labels is ignored.
    """
    column, labels = found.label, pd.Series(found.labels)
    if column.proof or draft.given.keys() & {"label", "train_csv"}:
        return True
    folder = common_folder(list(labels.index))
    names = pd.Series([posixpath.relpath(photo, folder or ".") for photo in labels.index])
    levels = [labels_by(_level_pattern(level), names) for level in _levels_of(names)]
    levels = [each for each in levels if (each != "").mean() >= ENOUGH]
    levels = [each for each in levels if each.nunique() <= len(each) / 2]
    pairs = [set(zip(labels, each, strict=True)) for each in levels]
    alike = any(len(each) == labels.nunique() == len({b for _, b in each}) for each in pairs)
    if alike or not levels:
        return True
    if column.others:
        draft.notes.append(f"{found.name} names photos, but no column is surely their labels")
        return False
    question = f"whether the labels are in the column {column.name} of {found.name} or the "
    draft.doubt(f"{question}photos' folders", label=str(column.name), train_csv="")
    return True


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
    if len(kept) < len(table):
        notes.append(
            f"{len(table) - len(kept)} rows of {where} are of photos to predict or of none, and do "
            "not train"
        )
    labels = column.values(kept, where)
    known = folders_of(draft.photos.names) | known_names(sample)
    if not many and not Layout.typed("single_labels", draft.given.get("single_labels", "")):
        refuse_several(labels, f"the column {label} of {where}", known)
    group = _group_column(kept, [Id, *column.names])
    of_sample = ["", ""] if sample is None else list(sample.columns)
    draft.fields |= {"train_csv": where, "group": group}
    draft.fields |= {"id": Id if Id != of_sample[0] else ""}
    draft.fields |= {"label": label if many or label != of_sample[1] else ""}
    blank = labels.isin(missing(labels, known))
    labels, named = labels.mask(blank, ""), labels[~blank]
    shown = f"the columns {', '.join(label)} as one-hot" if many else f"the column {label}"
    proof = f", since {column.proof}" if column.proof else ""
    notes.append(f"labels: {shown} of {where}{proof}; {counted(named)}")
    if blank.any():
        notes.append(f"{blank.sum()} rows of {where} have no label and are left out")
    notes += spelling_notes(named, where)
    if group:
        notes.append(f"group: photos of one {group} are kept together in the split")
    _doubt_test_rows(draft, where, kept, ",".join(column.names), labels)
    rows = pd.DataFrame({"Id": kept[Id], "label": labels})
    rows = rows.assign(group=kept[group] if group else "")
    return rows, [name for name in found.photos if name]


def _group_column(table: pd.DataFrame, known: Sequence[str]) -> str:
    for name in table.columns:
        is_group = name not in known and GROUP.fullmatch(name.strip())
        if is_group and 1 < table[name].nunique() < len(table):
            return name
    return ""


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


def counted(labels: pd.Series) -> str:
    """Return the number of classes and of the photos of the first ones."""
    counts = labels[labels != ""].value_counts(sort=False).sort_index()
    return f"{len(counts)} classes: " + first_names([f"{la} ({n})" for la, n in counts.items()])


# ------------------------------------------------------- labels from the photos' folders and names


def training_photos(draft: Draft, tests: Sequence[str]) -> list[str]:
    """Return the training photos where no table lists them: all that are not to be predicted.

    Those in a folder called train come first; where it is only one class folder among others, a
    class is called train.
    """
    photos, place = draft.photos, common_folder(tests)
    given = Layout.typed("test_photos", draft.given.get("test_photos", ""))
    out = {*tests, *inside(photos.names, [*given, *([place] if place else [])])}
    left = [name for name in photos.names if name not in out]
    if "train_photos" in draft.given:
        return draft.in_given("train_photos", left)
    if not left:
        raise Problem(f"none of the {len(photos.names)} photos is one of the training set")
    named = [name for name in left if photos.roles[name] == "train"]
    if not named:
        return [name for name in left if photos.roles[name] != "valid"] or left
    flat = not _levels_of(named) and len({posixpath.dirname(name) for name in named}) == 1
    if flat and len(named) < len(left) and not names_pattern(named):
        if draft.sample is None and tests and not _levels_of(tests):
            question = f"whether {place} is a class, as train is, or holds the photos to predict"
            draft.doubt(question, test_photos=[place, ""])
        return left  # train, bus, car
    return named


def rows_of_photos(draft: Draft, trains: Sequence[str], tests: Sequence[str]) -> pd.DataFrame:
    """Return rows of photos whose folder or name is the label: Id, label and group.

    Raises Problem if neither is.
    """
    place = common_folder(trains)
    names = [posixpath.relpath(name, place or ".") for name in trains]
    rows = pd.DataFrame({"Id": names, "label": "", "group": ""}, dtype=object)
    levels, pattern = _levels_of(names), draft.given.get("pattern", "")
    if not pattern and levels:
        pattern = _choose_level(draft, rows["Id"], levels)
    elif not pattern and (pattern := names_pattern(names, sample_labels(draft.sample))):
        labels = labels_by(pattern, rows["Id"])
        known = draft.given.get("positive") in set(labels) or _is_in_sample(draft, labels)
        if not known:
            question = f"whether the photos' names begin with their labels: {counted(labels)}"
            draft.doubt(question, pattern=pattern)
    elif not pattern:
        raise Problem(
            f"no table names the {len(trains)} training photos' labels, nor do folders or names, "
            f"such as {trains[0] if trains else 'none'}; --set pattern=REGEX finds labels in names"
        )
    rows["label"] = labels_by(pattern, rows["Id"])
    if pattern:
        draft.fields["pattern"] = pattern
    where = "names" if pattern and "/" not in pattern else "folders"
    draft.notes.append(f"labels: the photos' {where}; {counted(rows['label'])}")
    draft.notes += spelling_notes(rows["label"], f"the {where}")
    if where == "folders":
        _doubt_folders(draft, rows["label"], place, common_folder(tests))
    return rows[rows["label"] != ""].reset_index(drop=True)


def _levels_of(names: Sequence[str]) -> list[int]:
    """Return the levels, from 0, on which photos lie in several folders."""
    parents = [name.split("/")[:-1] for name in names]
    depth = max(map(len, parents), default=0)
    folders = [{parts[level] for parts in parents if len(parts) > level} for level in range(depth)]
    return [level for level, found in enumerate(folders) if len(found) > 1]


def _level_pattern(level: int) -> str:
    """Return the pattern of a path's folder on a level, from 0 for the outermost."""
    return "^" + level * "[^/]+/" + "([^/]+)/"


def _choose_level(draft: Draft, names: pd.Series, levels: list[int]) -> str:
    """Return the pattern of the level of the class folders, "" for the outermost."""
    if len(levels) == 1:
        return ""
    labels = {level: labels_by(_level_pattern(level), names) for level in levels}
    shown = [level for level in levels if _is_in_sample(draft, labels[level])]
    if len(shown) == 1:
        return "" if shown[0] == levels[0] else _level_pattern(shown[0])
    ends = (levels[0], levels[-1])
    outer, inner = (first_names(sorted(set(labels[level]) - {""}), 3) for level in ends)
    question = f"whether the classes are the outer folders ({outer}) or the inner ({inner})"
    draft.doubt(question, pattern=[_level_pattern(level) for level in ends])
    return ""


def _is_in_sample(draft: Draft, labels: pd.Series) -> bool:
    """Tell whether the sample submission holds only, or has columns of, these labels."""
    wanted, known = sample_labels(draft.sample), Spellings(sorted(set(labels) - {""}), LABEL_KEYS)
    return bool(wanted) and all(known.only(text) is not None for text in wanted)


def names_pattern(names: Iterable[str], known: Collection[str] = ()) -> str:
    """Return a pattern that finds a label in most photos' names, "" where there is none.

    What cameras write before a number is no label, nor are numbers and dates, but for `known` ones.
    """
    bare = pd.Series([posixpath.basename(name) for name in names], dtype=object)
    for pattern in PATTERNS:
        labels = labels_by(pattern, bare)
        counts = labels[labels != ""].value_counts()
        words = {label: re.findall(r"[^\W\d_]+", label.lower()) for label in counts.index}
        if any(CAMERAS.issuperset(words[label]) for label in words.keys() - set(known)):
            continue
        if 2 <= len(counts) <= len(bare) / 4 and counts.sum() >= ENOUGH * len(bare):
            return pattern
    return ""


def _doubt_folders(draft: Draft, labels: pd.Series, place: str, tests: str) -> None:
    """Doubt class folders in `place` whose name suggests that their photos have no label."""
    shown = sample_labels(draft.sample) if _is_in_sample(draft, labels) else set()
    for name, count in labels.value_counts().items():
        lone_test = role_of(name) == "test" and not tests
        if (may_be_unlabelled(name) and name not in shown) or lone_test:
            folder = posixpath.join(place, name)
            draft.doubt(
                f"whether {folder} ({count} photos) is a class or is to be predicted or left out",
                train_photos=place or ".",
                test_photos=",".join(filter(None, [tests, folder])),
            )
