"""Propose the block of an unknown competition from its files' names and its tables."""

import dataclasses
import posixpath
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from kernelkit.core.metrics import METRICS, metric_named, usual_metric
from kernelkit.core.problem import Problem, first_names
from kernelkit.data.find import names_below, read_table
from kernelkit.data.layout import Layout
from kernelkit.data.match import folders_of
from kernelkit.data.names import (
    ROLES,
    WAYS_OF_FILES,
    WAYS_OF_LABELS,
    Spellings,
    are_numbers,
    common_end,
    common_folder,
    is_unsure,
    missing,
    number_of,
    role_of,
    roles_of,
    spelling_notes,
    words_of,
)
from kernelkit.data.packed import RECORDS, pixel_columns
from kernelkit.data.read import (
    class_folders,
    known_names,
    label_in,
    labels_by,
    one_hot,
    refuse_several,
)

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
ENOUGH = 0.9  # of names or rows that must fit for a guess
TRIED = 300  # values of a column that are looked for among the photos


class Photos:
    """The photos of an unknown competition, found by Id.

    Args:
        names: paths below the competition's folder; of those in a zip, its name is a folder.
    """

    def __init__(self, names: Iterable[str]):
        self.names = list(names)
        self.roles = roles_of(self.names)
        self.spellings = Spellings(self.names, WAYS_OF_FILES[1:])  # in any folder

    def of(self, ids: Iterable[str], role: str) -> list[list[str]]:
        """Return the photos that each Id may mean.

        Of several, those count whose folders the Id names, then those in folders of the role, then
        those in the only folder that has a photo for every Id.

        Args:
            ids: such as a table has.
            role: train or test.
        """
        ids = list(ids)
        found = [self.alike(Id, role) for Id in ids]
        if all(len(names) < 2 for names in found) or len(set(ids)) < len(ids):
            return found
        depth = len(common_folder(self.names).split("/")) if common_folder(self.names) else 0
        branch = {name: "/".join(name.split("/")[:-1][: depth + 1]) for name in self.names}
        branches = {branch[name] for names in found for name in names}
        known = [names for names in found if names]
        whole = [b for b in branches if all(b in {branch[n] for n in names} for names in known)]
        sizes = pd.Series(list(branch.values())).value_counts()
        whole = sorted(whole, key=lambda one: sizes[one])
        if whole and (len(whole) == 1 or sizes[whole[0]] < sizes[whole[1]]):
            found = [[n for n in names if branch[n] == whole[0]] for names in found]
        return found

    def alike(self, Id: str, role: str) -> list[str]:
        """Return the photos of an Id, without looking at other Ids."""
        names = [self.names[position] for position in self.spellings.find(Id)[0]]
        if len(names) > 1:
            parts = re.split(r"[/\\]", Id.strip())
            alike = [common_end(parts, name.split("/")) for name in names]
            names = [n for n, end in zip(names, alike, strict=True) if end == max(alike)]
        own = [name for name in names if self.roles[name] == role]
        other = {"train": "test", "test": "train"}[role]
        return own or [name for name in names if self.roles[name] != other] or names

    def share(self, values: pd.Series) -> float:
        """Return which fraction of a column's first values name photos."""
        some = values.drop_duplicates().head(TRIED)
        return sum(bool(self.spellings.find(value)[0]) for value in some) / max(len(some), 1)


def place_of(names: Sequence[str], others: Sequence[str]) -> str:
    """Return the folder or the zip of a set's photos.

    Args:
        names: the set's photos.
        others: those of the other set, which may lie in the same zip.
    """
    folder = common_folder(names)
    archive, packed, inside = folder.partition(".zip")
    if not packed:
        return folder
    shared = any(name.startswith(f"{archive}.zip/") for name in others)
    return archive + inside if shared else f"{archive}.zip"


def id_columns(table: pd.DataFrame, photos: Photos, preferred: str) -> list[str]:
    """Return the columns that name photos, the likeliest first.

    Others follow that name other photos and spell these at least as exactly.

    Args:
        table: of photos.
        photos: of the competition.
        preferred: what the sample submission calls its Ids, "" without one.
    """
    known = Spellings(table.columns, WAYS_OF_LABELS).only(preferred) if preferred else None
    fitting = [name for name in table.columns if photos.share(table[name]) >= ENOUGH]
    meant = {name: [photos.spellings.find(v) for v in table[name].head(TRIED)] for name in fitting}
    different = {n: len({tuple(found) for found, _ in meant[n]}) for n in fitting}
    most = max(different.values(), default=0)
    fitting = [name for name in fitting if different[name] >= ENOUGH * most]
    loosest = {name: max(way for _, way in meant[name]) for name in fitting}
    fitting.sort(key=lambda name: (name != known, loosest[name]))
    photo = {name: [found for found, _ in meant[name]] for name in fitting}
    return [
        name
        for name in fitting
        if name == fitting[0]
        or (photo[name] != photo[fitting[0]] and loosest[name] <= loosest[fitting[0]])
    ]


@dataclass(frozen=True)
class LabelColumn:
    """Which column of a table holds the labels."""

    name: str | tuple[str, ...]
    """Several columns are a one-hot code."""
    others: tuple[str, ...] = ()
    """Columns that may hold them as well: then a person must decide."""
    proof: str = ""
    """What the sample submission says for it."""


def label_column(
    table: pd.DataFrame, id_column: str, sample: pd.DataFrame | None
) -> LabelColumn | None:
    """Return the column of labels, or the columns of a one-hot code; None where none may be it.

    The column that holds what the sample submission holds comes first, then the one that is called
    as there, then one that is called as labels often are.
    """
    others = [name for name in table.columns if name != id_column]
    spelt = Spellings(others, WAYS_OF_LABELS)
    wanted = [] if sample is None else list(sample.columns[1:])
    if len(wanted) > 1:
        held = [name for name in others if holds(wanted, table[name]) >= ENOUGH]
        if held:
            return LabelColumn(held[0], tuple(held[1:]), "the sample's columns are its values")
        columns = [spelt.only(name) for name in wanted]
        if None not in columns:
            return LabelColumn(tuple(columns), (), "the sample has the same columns")
    named = spelt.only(wanted[0]) if len(wanted) == 1 else None
    cells = set() if len(wanted) != 1 else set(sample.iloc[:, 1].str.strip()) - {""}
    words = {word for cell in cells for word in cell.split()}
    holding = [
        name
        for name in others
        if cells and any(values <= set(table[name].str.strip()) for values in (cells, words))
    ]
    telling = len(words) > 1 or not all(map(is_number, words))  # a lone 0 is in many columns
    if named and (named in holding or not telling or not holding):
        return LabelColumn(named, (), "the sample has a column of its name")
    by_word = [name for word in LABEL_WORDS for name in others if name.lower() == word]
    counts = {name: table[name].nunique() for name in others}
    usual = [name for name in others if 2 <= counts[name] <= max(2, len(table) / 2)]
    if holding and telling:
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
    if usual:
        first = next((name for name in usual if name in holding), usual[0])
        rest = [name for name in others if name != first]
        return LabelColumn(first, tuple(rest))
    return None


def holds(names: Iterable[str], column: pd.Series) -> float:
    """Return which fraction of a column's values is among names; 0 where it has only one."""
    known = Spellings(names, WAYS_OF_LABELS)
    values = column.str.strip().unique()
    inside = sum(known.only(value) is not None for value in values)
    return inside / len(values) if len(values) > 1 else 0


def group_column(table: pd.DataFrame, known: Iterable[str]) -> str:
    """Return a column of groups that a split must keep whole, "" where there is none.

    Args:
        table: of the training photos.
        known: the columns of Ids and labels.
    """
    for name in table.columns:
        if name not in set(known) and GROUP.fullmatch(name.strip()):
            groups = table[name].nunique()
            if 1 < groups < len(table):
                return name
    return ""


def names_pattern(names: Iterable[str], known: Collection[str] = ()) -> str:
    """Return a pattern that finds a label in most photos' names, "" where there is none.

    What cameras write before a number is no label, nor are numbers and dates.

    Args:
        names: of the photos.
        known: labels that the sample submission has, which count in any case.
    """
    bare = [posixpath.basename(name) for name in names]
    for pattern in PATTERNS:
        labels = pd.Series([label_in(pattern, name) for name in bare], dtype=object)
        counts = labels[labels != ""].value_counts()
        if any(is_of_camera(label) and label not in known for label in counts.index):
            continue
        if 2 <= len(counts) <= len(bare) / 4 and counts.sum() >= ENOUGH * len(bare):
            return pattern
    return ""


def is_of_camera(label: str) -> bool:
    """Tell whether all words of a label are those that cameras and programs write, or numbers."""
    words = re.findall(r"[^\W\d_]+", label.lower())
    return all(word in CAMERAS for word in words)


def form_of(sample: pd.DataFrame | None, labels: set[str], metric: str) -> tuple[str, int]:
    """Return the form of the submission ("" where it can't be told), and the labels in a cell.

    Args:
        sample: the sample submission.
        labels: of the training photos.
        metric: the row of METRICS, "" while it is unknown.
    """
    if sample is None:
        return "label", 1
    if sample.shape[1] > 2:
        return "probabilities", 1
    cells = [cell.split() for cell in sample.iloc[:, 1].str.strip().unique()]
    words = max((len(cell) for cell in cells), default=0)
    row = METRICS.get(metric)
    best = row is not None and row.submission == "best"
    if best or (words > 1 and all(set(c) <= labels for c in cells if len(c) > 1)):
        spaced = any(" " in label for label in labels)
        if not spaced:
            return "best", max(words, row.labels if best else 1)
    numbers = [cell[0] for cell in cells if cell]
    fractions = [text for text in numbers if number_of(text) is None and is_number(text)]
    if (row and row.submission == "probability") or (fractions and len(labels) <= 2):
        return "probability", 1
    binary = {number_of(label) for label in labels} == {0, 1}
    if binary and not metric and numbers:
        return "", 1
    return "label", 1


def is_number(text: str) -> bool:
    """Tell whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_single(
    table: pd.DataFrame,
    label: str | tuple[str, ...],
    where: str,
    photos: Photos,
    sample: pd.DataFrame | None,
) -> None:
    """Raise a Problem where photos have several labels."""
    if isinstance(label, str):
        single = folders_of(photos.names) | known_names(sample)
        refuse_several(table[label].str.strip(), where, single)


PREVIEWED = 3  # rows
PIXELS = 50  # columns of numbers from which on a table holds photos
SAMPLE = re.compile(r"sample|submi", re.I)
SPLIT = re.compile(r"(?:data.?)?(?:split|sub)?.?(?:set|split|phase|usage|partition)|is_test", re.I)


@dataclass(frozen=True)
class Proposal:
    """The block of a competition, as far as its files tell."""

    layout: Layout
    notes: list[str]
    """What was concluded, and from what."""
    doubts: list[str]
    """What could not be told, and the option that decides it."""
    rows: pd.DataFrame
    """The first rows as they are understood: Id, label, group and photo ("" where unknown)."""


@dataclass(frozen=True)
class Source:
    """An unknown competition's files."""

    names: Sequence[str]
    """Below its folder; of members of zips the zip's name is a folder."""
    photos: Sequence[str]
    """Those of them that are photos."""
    table: Callable[[str], pd.DataFrame]
    """Reads a CSV as text."""
    slug: str = ""
    metric: str = ""
    """The row of METRICS; "" while it is unknown."""
    given: Mapping[str, str] = field(default_factory=dict)
    """Fields of the block that a person has decided."""


def source_of(folder: Path, scratch: Path, **known) -> Source:
    """Return the files of a competition's folder on this machine.

    Args:
        folder: the competition's.
        scratch: where zips with tables are unpacked.
        **known: other fields of `Source`.
    """
    return Source(*names_below(folder), lambda name: read_table(folder, name, scratch), **known)


def layout_of(
    folder: Path, layout: Layout, scratch: Path, given: Mapping[str, str] | None = None
) -> Layout:
    """Return the block if it fits a competition's folder, or one that is proposed for the folder.

    Args:
        folder: the competition's.
        layout: the kernel's block.
        scratch: where zips with tables are unpacked.
        given: fields of the block that a person has decided, as text.

    Raises:
        Problem: neither its files are there nor can another layout be told without doubt.
    """
    decided = with_fields(layout, given or {})
    missing = decided.missing(folder)
    if not missing:
        return decided
    sentence = f"There is no {missing} in {folder}, which the block COMPETITION names, and "
    cure = ": give the folder into which the competition's files were downloaded, or mend the block"
    if not folder.is_dir():
        raise Problem(f"There is no folder {folder}{cure}.")
    try:
        proposal = propose(source_of(folder, scratch, given=given or {}))
    except Problem as problem:
        reason = str(problem).rstrip(".")
        raise Problem(f"{sentence}no other layout is recognised ({reason}){cure}.") from None
    print(
        f"COMPETITION is another competition's. This folder is read as\n{proposal.layout.block()}"
    )
    for note in proposal.notes:
        print(f"  {note}")
    if proposal.doubts:
        raise Problem(
            f"{sentence}its own is in doubt: {'; '.join(proposal.doubts)}. Add to the same command "
            "what decides it, or paste the block above into kernel.py and mend it."
        )
    return proposal.layout


def with_fields(layout: Layout, given: Mapping[str, str]) -> Layout:
    """Return a block with fields that are given as text.

    Raises:
        Problem: it has no such field.
    """
    known = {one.name for one in dataclasses.fields(Layout)}
    for name in sorted(given.keys() - known):
        likely = "".join(f" (did you mean {near}?)" for near in get_close_matches(name, known, 1))
        raise Problem(f"a block has no field {name}{likely}; it has {', '.join(sorted(known))}")
    return dataclasses.replace(layout, **{name: typed(name, text) for name, text in given.items()})


def typed(name: str, text: str) -> str | int | bool | tuple[str, ...]:
    """Return the value of a block's field that is given as text; several are joined by commas."""
    if name == "k":
        return int(text) if text.isdecimal() else 0
    if name == "single_labels":
        return text.strip().casefold() in ("true", "yes", "1")
    if name in ("train_photos", "test_photos"):
        return tuple("" if place == "." else place for place in text.split(",") if place)
    if name == "order" or (name == "label" and "," in text):
        return tuple(text.split(",")) if text else ()
    return text


class Draft:
    """What is known so far of a competition's block, while its files are looked through.

    Args:
        source: the competition's files.
    """

    def __init__(self, source: Source):
        self.source, self.given = source, source.given
        self.photos = Photos(source.photos)
        self.fields: dict = {"slug": source.slug}
        self.notes: list[str] = []
        self.doubts: list[str] = []
        self.sample: pd.DataFrame | None = None
        self.tables: list[str] = []
        with_fields(Layout(), source.given)

    def doubt(self, what: str, **ways: str | list[str]) -> None:
        """Note what could not be told, with the options that decide it, unless one was given.

        Args:
            what: the question.
            ways: fields of the block with one or several values, each of which decides it.
        """
        if not self.given.keys() & ways.keys():
            several = {n: v if isinstance(v, list) else [v] for n, v in ways.items()}
            options = [f"{name}={value}" for name, values in several.items() for value in values]
            said = " or ".join(f"--set {shlex.quote(option)}" for option in options)
            self.doubts.append(f"{what} (decide it with {said})")

    def places(self, name: str) -> tuple[str, ...]:
        """Return the places of photos that a person has given."""
        return typed(name, self.given.get(name, ""))

    def inside(self, names: Sequence[str], places: Sequence[str]) -> list[str]:
        """Return the photos that lie in any of some places."""
        if "" in places:
            return list(names)
        stems = {re.sub(r"\.zip$", "", place, flags=re.I) for place in places}
        heads = tuple(f"{stem}{end}" for stem in stems for end in ("/", ".zip/"))
        return [name for name in names if name.startswith(heads)]


def propose(source: Source) -> Proposal:
    """Return the block of a competition.

    Raises:
        Problem: it can't be told, or is of a kind that is not supported.
    """
    draft = Draft(source)
    choose_sample(draft)
    if not source.photos:
        return propose_packed(draft)
    sample, photos, fields = draft.sample, draft.photos, draft.fields
    tests = tests_of(draft)
    found = choose_table(draft, set(tests))
    if found:
        rows, trains = rows_of(draft, *found, set(tests))
    else:
        trains = trained(draft, tests)
        rows = unlisted_rows(draft, trains, tests)
    if sample is None:
        draft.notes.append(
            "there is no sample submission: each test photo is a row of the submission"
        )
    note_unused(draft, {*trains, *tests})
    for name, own, others in (("train_photos", trains, tests), ("test_photos", tests, trains)):
        fields[name] = (place_of(own, others),) if own else ()
    if sample is None and draft.inside(trains, fields["test_photos"]) and not found:
        where = " and ".join(sorted({posixpath.dirname(name) for name in tests}))
        draft.doubt(f"which of {where} holds the photos to predict", test_photos=tests[0])
    first = rows.head(PREVIEWED)
    previews = [([*photos.alike(Id, "train"), ""])[0] for Id in first["Id"]]
    proposal = concluded(draft, rows)
    return dataclasses.replace(proposal, rows=first.assign(photo=previews))


# ------------------------------------------------------------------------------ the test set


def choose_sample(draft: Draft) -> None:
    """Find the sample submission and the other tables."""
    names, given = draft.source.names, draft.given
    stems = [re.sub(r"\.zip(?=/|$)", "", name, flags=re.I) for name in names]
    csvs = sorted(
        {stem for stem in stems if stem.lower().endswith(".csv")}, key=lambda n: (n.count("/"), n)
    )
    samples = [name for name in csvs if SAMPLE.search(posixpath.basename(name))]
    samples.sort(key=lambda name: "sample" not in posixpath.basename(name).lower())
    chosen = given.get("sample_csv", samples[0] if samples else "")
    draft.fields["sample_csv"] = chosen
    draft.tables = [name for name in csvs if name not in {*samples, chosen}]
    if not chosen:
        return
    draft.sample = draft.source.table(chosen)
    alike = "sample" in posixpath.basename(chosen).lower()
    for other in samples:
        rival = other != chosen and ("sample" in posixpath.basename(other).lower()) == alike
        if rival and ids_of(draft.source.table(other)) != ids_of(draft.sample):
            what = f"which of {chosen} and {other}, whose Ids differ, is the sample submission"
            draft.doubt(what, sample_csv=[chosen, other])


def ids_of(table: pd.DataFrame) -> set[str]:
    """Return what a table's first column holds."""
    return set(table.iloc[:, 0].str.strip())


def tests_of(draft: Draft) -> list[str]:
    """Return the photos to predict: those of the sample's Ids, else those in folders of tests.

    Raises:
        Problem: no photo has one of the sample's Ids.
    """
    photos, places = draft.photos, draft.places("test_photos")
    if draft.sample is not None:
        ids = draft.sample.iloc[:, 0]
        found = {name for names in photos.of(ids, "test") for name in names}
        if not found:
            where = draft.fields["sample_csv"]
            raise Problem(f"no photo has one of the Ids of {where}, such as {ids.iat[0]}")
        return [name for name in photos.names if name in found]
    if "test_photos" in draft.given:
        held = (draft.inside(photos.names, [place]) for place in places)
        return next(filter(None, held), [])
    return [name for name in photos.names if photos.roles[name] == "test"]


def note_unused(draft: Draft, used: set[str]) -> None:
    """Note the photos that neither train nor are predicted."""
    unused = [name for name in draft.photos.names if name not in used]
    if unused:
        counts = pd.Series([posixpath.dirname(name) or "." for name in unused]).value_counts()
        where = first_names([f"{folder} ({count})" for folder, count in counts.items()], 3)
        draft.notes.append(
            f"{len(unused)} photos are left out, neither to train nor to be predicted: {where}"
        )


# --------------------------------------------------------------------- labels from a table


@dataclass(frozen=True)
class Reading:
    """How a table is read as that of the training photos."""

    ids: list[str]
    """The columns that name photos, of which the first is taken."""
    label: LabelColumn | None
    names: list[str]
    """The photo of each row, "" where it is none of the training set."""


def choose_table(draft: Draft, tests: set[str]) -> tuple[str, pd.DataFrame, Reading] | None:
    """Return the table of the training photos' labels, and how it is read; None without one."""
    given = draft.given.get("train_csv")
    names = draft.tables if given is None else list(filter(None, [given]))
    names = sorted(names, key=lambda name: not re.search("train|label", name, re.I))
    found = []
    for name in names:
        table = draft.source.table(name)
        reading = reading_of(draft, table, tests)
        if reading and reading.label:
            found.append((name, table, reading))
    sure = [one for one in found if not one[2].label.others] or found
    asked = {
        name: draft.given[name] for name in ("train_csv", "id", "label") if draft.given.get(name)
    }
    if not sure and asked:
        said = ", ".join(f"{name}={text}" for name, text in asked.items())
        where = first_names(draft.tables) or "none"
        raise Problem(f"no table fits {said}, naming training photos; the tables are {where}")
    if not sure:
        return None
    chosen = sure[0]
    if not fits_folders(draft, chosen):
        return None
    known = labels_of(chosen)
    for other in sure[1:]:
        told = labels_of(other)
        if other[2].label.proof >= chosen[2].label.proof and not told.items() <= known.items():
            what = f"which of {chosen[0]} and {other[0]} holds the labels of the training photos"
            draft.doubt(what, train_csv=[chosen[0], other[0]])
            break
    return chosen


def fits_folders(draft: Draft, found: tuple[str, pd.DataFrame, Reading]) -> bool:
    """Tell whether a table's labels count, where photos lie in class folders as well.

    What the sample submission proves counts, and what a person gives. Labels that are those of the
    folders do too. Others are in doubt; a column that only may hold labels is passed over.
    """
    name, _, reading = found
    column, told = reading.label, pd.Series(labels_of(found))
    if column.proof or draft.given.keys() & {"label", "train_csv"}:
        return True
    folder = common_folder(list(told.index))
    names = pd.Series([posixpath.relpath(photo, folder or ".") for photo in told.index])
    levels = [labels_by(level_pattern(level), names) for level in levels_of(names)]
    levels = [labels for labels in levels if (labels != "").mean() >= ENOUGH]
    levels = [labels for labels in levels if labels.nunique() <= len(labels) / 2]
    pairs = [set(zip(told, labels, strict=True)) for labels in levels]
    alike = any(len(each) == told.nunique() == len({b for _, b in each}) for each in pairs)
    if alike or not levels:
        return True
    if column.others:
        draft.notes.append(f"{name} names photos, but no column of it is surely their labels")
        return False
    what = f"whether the labels are in the column {column.name} of {name} or the photos' folders"
    draft.doubt(what, label=str(column.name), train_csv="")
    return True


def labels_of(found: tuple[str, pd.DataFrame, Reading]) -> dict[str, str]:
    """Return the label of each photo of a table."""
    _, table, reading = found
    wanted = [reading.label.name] if isinstance(reading.label.name, str) else reading.label.name
    labels = table[list(wanted)].agg(" ".join, axis=1).str.strip()
    return {name: label for name, label in zip(reading.names, labels, strict=True) if name}


def reading_of(draft: Draft, table: pd.DataFrame, tests: set[str]) -> Reading | None:
    """Return how a table is read; None where it names no training photos."""
    sample, given = draft.sample, draft.given
    ids = id_columns(table, draft.photos, sample.columns[0] if sample is not None else "")
    wanted = [given["id"]] if given.get("id") else ids
    labels = typed("label", given.get("label", ""))
    columns = [*wanted, *([labels] if isinstance(labels, str) else labels)]
    if not wanted or table.shape[1] < 2 or not set(filter(None, columns)) <= set(table.columns):
        return None
    ids = wanted
    found = draft.photos.of(table[ids[0]], "train")
    names = [next((name for name in names if name not in tests), "") for names in found]
    if not any(names):
        return None
    label = label_column(table[[bool(name) for name in names]], ids[0], sample)
    if labels:
        label = LabelColumn(labels)
    return Reading(ids, label, names)


def rows_of(
    draft: Draft, where: str, table: pd.DataFrame, reading: Reading, tests: set[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Return a table's rows as Id, label and group, and the training photos.

    Rows of photos that are to be predicted are left out.
    """
    Id, column, sample = reading.ids[0], reading.label, draft.sample
    label, many = column.name, not isinstance(column.name, str)
    if len(reading.ids) > 1:
        what = f"which of the columns {' and '.join(reading.ids)} of {where} names the photos"
        draft.doubt(what, id=reading.ids)
    if column.others:
        others = first_names(list(column.others), 5)
        what = f"whether the labels are in the column {label} of {where}, or in {others}"
        draft.doubt(what, label=[label, *column.others[:3]])
    kept = table[[bool(name) for name in reading.names]]
    if len(kept) < len(table):
        draft.notes.append(
            f"{len(table) - len(kept)} rows of {where} are of photos to predict or of none, and do "
            "not train"
        )
    if not typed("single_labels", draft.given.get("single_labels", "")):
        check_single(kept, label, f"the column {label} of {where}", draft.photos, sample)
    labels = one_hot(kept[list(label)], Path(where)) if many else kept[label].str.strip()
    group = group_column(kept, [Id, *([label] if isinstance(label, str) else label)])
    of_sample = ["", ""] if sample is None else list(sample.columns)
    draft.fields |= {"train_csv": where, "group": group}
    draft.fields |= {"id": Id if Id != of_sample[0] else ""}
    draft.fields |= {"label": label if many or label != of_sample[1] else ""}
    shown = f"the columns {', '.join(label)} as one-hot" if many else f"the column {label}"
    proof = f", since {column.proof}" if column.proof else ""
    known = folders_of(draft.photos.names) | known_names(sample)
    blank = labels.isin(missing(labels, known))
    labels, named = labels.mask(blank, ""), labels[~blank]
    draft.notes.append(f"labels: {shown} of {where}{proof}; {counted(named)}")
    if blank.any():
        draft.notes.append(f"{blank.sum()} rows of {where} have no label and are left out")
    draft.notes += spelling_notes(named, f"give them one spelling in {where}")
    if group:
        draft.notes.append(f"group: photos of one {group} are kept together in the split")
    doubt_unlabelled(draft, where, kept, label, labels)
    rows = pd.DataFrame({"Id": kept[Id], "label": labels})
    return rows.assign(group=kept[group] if group else ""), [name for name in reading.names if name]


def doubt_unlabelled(
    draft: Draft, where: str, table: pd.DataFrame, label: str | tuple[str, ...], labels: pd.Series
) -> None:
    """Doubt rows whose label, or whose column of parts, says that they are no training rows."""
    field_text = label if isinstance(label, str) else ",".join(label)
    numbers = {text: number_of(text) for text in set(labels) - {""}}
    if None not in numbers.values() and -1 in numbers.values() and max(numbers.values()) > 1:
        count = sum(numbers.get(text) == -1 for text in labels)
        what = f"whether -1, the label of {count} rows of {where}, is a class"
        draft.doubt(f"{what}; --exclude leaves rows out", label=field_text)
    for name in table.columns:
        values = table[name].str.strip()
        tested = values.map(lambda value: role_of(value) == "test")
        if SPLIT.fullmatch(name.strip()) and tested.any() and not tested.all():
            what = f"whether the {tested.sum()} rows of {where} with {values[tested].iloc[0]!r} in "
            draft.doubt(
                f"{what}the column {name} train; --exclude leaves rows out", label=field_text
            )


def counted(labels: pd.Series) -> str:
    """Return the number of classes and of the photos of the first ones."""
    counts = labels[labels != ""].value_counts(sort=False).sort_index()
    return f"{len(counts)} classes: " + first_names([f"{la} ({n})" for la, n in counts.items()])


# ---------------------------------------------------- labels from the photos' folders and names


def trained(draft: Draft, tests: Sequence[str]) -> list[str]:
    """Return the training photos where no table lists them: all that are not to be predicted.

    Of several folders that one counts which is called train. Where it is only one class folder
    among others, a class is called train.

    Raises:
        Problem: there are none.
    """
    photos, out = (
        draft.photos,
        {*tests, *draft.inside(draft.photos.names, draft.places("test_photos"))},
    )
    place = common_folder(tests)
    left = [n for n in photos.names if n not in out and not (place and n.startswith(f"{place}/"))]
    if "train_photos" in draft.given:
        held = (draft.inside(left, [place]) for place in draft.places("train_photos"))
        return next(filter(None, held), [])
    named = [name for name in left if photos.roles[name] == "train"]
    free = [name for name in left if photos.roles[name] != "valid"]
    if not left:
        raise Problem(f"none of the {len(photos.names)} photos is one of the training set")
    if not named:
        return free or left
    others = [name for name in left if photos.roles[name] != "train"]
    flat = len(levels_of(named)) == 0 and len({posixpath.dirname(name) for name in named}) == 1
    if flat and others and not names_pattern(named):
        if draft.sample is None and tests and not levels_of(tests):
            what = f"whether {place} is a class, as train is, or holds the photos to predict"
            draft.doubt(what, test_photos=[place, ""])
        return left  # train, bus, car
    return named


def levels_of(names: Sequence[str]) -> list[int]:
    """Return the levels, from 0, on which photos lie in several folders."""
    parents = [name.split("/")[:-1] for name in names]
    depth = max(map(len, parents), default=0)
    return [
        level
        for level in range(depth)
        if len({parts[level] for parts in parents if len(parts) > level}) > 1
    ]


def unlisted_rows(draft: Draft, trains: Sequence[str], tests: Sequence[str]) -> pd.DataFrame:
    """Return rows of photos whose folder or name is the label.

    Raises:
        Problem: neither is.
    """
    place = place_of(trains, tests)
    names = [posixpath.relpath(name, place or ".") for name in trains]
    rows = pd.DataFrame({"Id": names, "label": "", "group": ""}, dtype=object)
    levels, pattern = levels_of(names), draft.given.get("pattern", "")
    if not pattern and levels:
        pattern = chosen_level(draft, rows["Id"], levels)
    elif not pattern and (pattern := names_pattern(names, told_labels(draft.sample))):
        rows["label"] = labels_by(pattern, rows["Id"])
        known = draft.given.get("positive") in set(rows["label"])
        if not known and not is_in_sample(draft, rows["label"]):
            what = f"whether the photos' names begin with their labels: {counted(rows['label'])}"
            draft.doubt(what, pattern=pattern)
    elif not pattern:
        raise Problem(
            f"no table names the {len(trains)} training photos' labels, nor do folders or names, "
            f"such as {trains[0] if trains else 'none'}; --set pattern=REGEX finds labels in names"
        )
    rows["label"] = labels_by(pattern, rows["Id"]) if pattern else class_folders(rows["Id"])
    if pattern:
        draft.fields["pattern"] = pattern
    where = "names" if pattern and "/" not in pattern else "folders"
    draft.notes.append(f"labels: the photos' {where}; {counted(rows['label'])}")
    draft.notes += spelling_notes(rows["label"], f"give them one spelling in the {where}")
    if where == "folders":
        doubt_folders(draft, rows, place, place_of(tests, trains))
    return rows[rows["label"] != ""].reset_index(drop=True)


def level_pattern(level: int) -> str:
    """Return the pattern of a path's folder on a level, from 0 for the outermost."""
    return "^" + level * "[^/]+/" + "([^/]+)/"


def chosen_level(draft: Draft, names: pd.Series, levels: list[int]) -> str:
    """Return the pattern of the level of the class folders, "" for the outermost.

    Where several levels have several folders, the sample submission tells, or a person must.
    """
    if len(levels) == 1:
        return ""
    patterns = {level: level_pattern(level) for level in levels}
    labels = {level: labels_by(pattern, names) for level, pattern in patterns.items()}
    told = [level for level in levels if is_in_sample(draft, labels[level])]
    if len(told) == 1:
        return "" if told[0] == levels[0] else patterns[told[0]]
    inner = levels[-1]
    examples = [first_names(sorted(set(labels[level]) - {""}), 3) for level in (levels[0], inner)]
    what = f"whether the classes are the outer folders ({examples[0]}) or the inner ({examples[1]})"
    draft.doubt(what, pattern=[patterns[levels[0]], patterns[inner]])
    return ""


def told_labels(sample: pd.DataFrame | None) -> list[str]:
    """Return what a sample submission has as labels: its columns, or its values but for blanks."""
    if sample is None:
        return []
    if sample.shape[1] > 2:
        return list(sample.columns[1:])
    return [text for text in sample.iloc[:, 1].str.strip().unique() if text]


def is_in_sample(draft: Draft, labels: pd.Series) -> bool:
    """Tell whether the sample submission holds only, or has columns of, these labels."""
    told = told_labels(draft.sample)
    known = Spellings(sorted(set(labels) - {""}), WAYS_OF_LABELS)
    return bool(told) and all(known.only(text) is not None for text in told)


def doubt_folders(draft: Draft, rows: pd.DataFrame, place: str, tests: str) -> None:
    """Doubt class folders whose name says that their photos have no label.

    Args:
        draft: what is known of the competition.
        rows: of the training photos.
        place: of these photos.
        tests: the place of the photos to predict, "" where there are none.
    """
    labels = rows["label"].value_counts()
    told = told_labels(draft.sample) if is_in_sample(draft, rows["label"]) else []
    for name in labels.index:
        lone_test = role_of(name) == "test" and not tests
        if (is_unsure(name) and name not in told) or lone_test:
            folder = posixpath.join(place, name)
            held = [tests] if tests else []
            draft.doubt(
                f"whether {folder} ({labels[name]} photos) is a class or is to be predicted or "
                "left out",
                train_photos=place or ".",
                test_photos=",".join([*held, folder]),
            )


# --------------------------------------------------------------------------- the submission


def concluded(draft: Draft, rows: pd.DataFrame) -> Proposal:
    """Return the proposal, with the submission's form and the metric."""
    sample, metric, given = draft.sample, draft.source.metric, draft.given
    metric = given.get("metric") or metric
    labels, before = set(rows["label"]) - {""}, draft.doubts
    draft.doubts = []
    form, k = form_of(sample, labels, metric)
    if not form:
        draft.doubt(
            "whether labels or probabilities are submitted: labels are 0 and 1, the sample has "
            f"{sample.iat[0, 1]!r}",
            submission=["label", "probability"],
            metric="auc",
        )
    form = given.get("submission") or form or "label"
    if form == "label" and sample is not None and len(rows):
        doubt_values(draft, labels)
    usual = usual_metric(form)
    if not metric:
        draft.notes.append(f"the files do not tell the metric: {usual} is the usual one")
        numbers = {number_of(label) for label in labels}
        if form == "label" and len(numbers) > 2 and numbers == set(range(len(numbers))):
            draft.notes.append(
                f"labels are the numbers 0 to {len(numbers) - 1}: if they are grades in order, "
                "--set metric=kappa is the quadratic weighted kappa"
            )
    metric = metric or usual
    if metric_named(metric).ordinal and "order" not in given and not are_numbers(labels):
        classes = sorted(labels)
        what = f"which order the classes {first_names(classes)} have, which counts for {metric}"
        draft.doubt(f"{what}: name them from the least to the greatest", order=",".join(classes))
    fields = draft.fields | {"submission": form, "metric": metric}
    if form == "best":
        fields["k"] = k
    if form == "probability" and labels - {"0", "1"}:  # unknown while they are packed in records
        column = sample.columns[1]
        likely = column if column in labels else max(labels)
        fields["positive"] = likely
        if column not in labels:
            what = f"which of {' and '.join(sorted(labels))} the probability is of"
            others = sorted(labels - {likely})
            draft.doubt(f"{what}: {likely} is a guess", positive=[likely, *others])
    layout = with_fields(Layout(**fields), given)
    doubts = draft.doubts + before
    return Proposal(layout, draft.notes, doubts, rows.head(PREVIEWED).assign(photo=""))


def doubt_values(draft: Draft, labels: set[str]) -> None:
    """Doubt that labels are submitted where the sample submission holds none of them."""
    values = [text for text in draft.sample.iloc[:, 1].str.strip().unique() if text]
    known = Spellings(sorted(labels), WAYS_OF_LABELS)
    if values and not any(known.find(text)[0] for text in values):
        numbers = [number_of(text) is not None for text in (*values, *labels)]
        if not all(numbers):
            draft.doubt(
                f"whether labels such as {min(labels)} are submitted: the sample has {values[0]!r}",
                submission=["label", "probability"],
            )


# ------------------------------------------------------------------ photos in tables or records


def propose_packed(draft: Draft) -> Proposal:
    """Return the block of a competition without photos: they are in tables or records, if at all.

    Raises:
        Problem: there are none.
    """
    names, fields = draft.source.names, draft.fields
    records = [name for name in names if RECORDS.search(name)]
    if records:
        places = sorted({posixpath.dirname(name) for name in records}, key=by_size)
        largest = [place for place in places if by_size(place) == by_size(places[-1])]
        if len(places) == 1:  # the names of the files tell the sets apart
            largest = records
        parts = {place: [part.partition(".")[0] for part in place.split("/")] for place in largest}
        tests = [place for place in largest if "test" in map(role_of, parts[place])]
        trains = [place for place in largest if place not in tests]
        fields |= {"packed": "tfrecords", "train_photos": tuple(trains), "test_photos": (*tests,)}
        draft.notes.append("photos: in TFRecords")
        return concluded(draft, pd.DataFrame({"Id": [], "label": [], "group": []}))
    for name in sorted(draft.tables, key=lambda name: said_role(name) != "train"):
        table = draft.source.table(name)
        pixels = set(pixel_columns(table.columns, name))
        others = [column for column in table.columns if column not in pixels]
        if len(pixels) >= PIXELS and others and said_role(name) == "train":
            return propose_pixels(draft, name, table[others], len(pixels))
    archives = [n for n in names if re.search(r"\.(7z|tar|gz|tgz|rar)$", n, re.I)]
    said = f"; {archives[0]} must be unpacked first" if archives else ""
    raise Problem(f"its {len(names)} files hold no photos{said}")


def propose_pixels(draft: Draft, name: str, table: pd.DataFrame, pixels: int) -> Proposal:
    """Return the block of a competition whose photos are rows of numbers.

    Args:
        draft: what is known of it.
        name: of the training table.
        table: its columns that are no pixels.
        pixels: how many are.
    """
    sample = draft.sample
    preferred = sample.columns[0] if sample is not None else ""
    Id = Spellings(table.columns, WAYS_OF_LABELS).only(preferred) if preferred else None
    column = label_column(table, Id or "", sample) or LabelColumn(table.columns[0])
    label = typed("label", draft.given["label"]) if "label" in draft.given else column.name
    if column.others:
        what = f"whether {label} or {first_names(list(column.others))} of {name} is the label"
        draft.doubt(what, label=[column.name, *column.others[:3]])
    many = not isinstance(label, str)
    labels = one_hot(table[list(label)], Path(name)) if many else table[label].str.strip()
    tests = [other for other in draft.tables if said_role(other) == "test"]
    draft.fields |= {"packed": "pixels", "train_csv": name, "label": label}
    draft.fields |= {"train_photos": (name,), "test_photos": tuple(tests[:1])}
    draft.notes.append(f"photos: {pixels} columns of pixels in {name}; {counted(labels)}")
    rows = pd.DataFrame({"Id": table.index.astype(str), "label": labels})
    return concluded(draft, rows.assign(group=""))


def said_role(name: str) -> str:
    """Return the role that a word of a table's name says, "" where none or several do."""
    words = words_of(re.sub(r"\.csv$", "", posixpath.basename(name), flags=re.I))
    roles = {ROLES[word] for word in words if word in ROLES}
    return roles.pop() if len(roles) == 1 else ""


def by_size(place: str) -> int:
    """Return the number in a folder's name, such as the photos' side: the largest are taken."""
    return max((int(digits) for digits in re.findall(r"\d+", place)), default=0)
