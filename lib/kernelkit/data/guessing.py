"""What the columns and names of an unknown competition mean."""

import posixpath
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from kernelkit.data.matching import folders_of
from kernelkit.data.roles import ROLES, common_end, common_folder, roles_of
from kernelkit.data.rows import known_names, label_in, refuse_several
from kernelkit.data.spelling import WAYS_OF_FILES, WAYS_OF_LABELS, Spellings, number_of

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
    if metric == "map@5" or (words > 1 and all(set(c) <= labels for c in cells if len(c) > 1)):
        spaced = any(" " in label for label in labels)
        if not spaced:
            return "best", max(words, 5 if metric == "map@5" else 1)
    numbers = [cell[0] for cell in cells if cell]
    fractions = [text for text in numbers if number_of(text) is None and is_number(text)]
    if metric in ("auc", "log-loss") or (fractions and len(labels) <= 2):
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
