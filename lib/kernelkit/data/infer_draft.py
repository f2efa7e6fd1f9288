"""What is known so far of an unknown competition: its files, its block, and the doubts."""

import posixpath
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from kernelkit.core.problem import Problem, first_names
from kernelkit.data.layout import Layout
from kernelkit.data.names import FILE_KEYS, Spellings, branches, roles_of

UNREAD = {  # suffixes of files that nothing here reads, and the cure
    "7z|tar|gz|tgz|bz2|xz|rar": "must be unpacked first",
    "npy|npz|h5|hdf5|mat|pkl": "holds arrays: photos must be files such as PNG",
    "xlsx?|ods|parquet|feather|jsonl?": "is no CSV: save its table as one",
}


@dataclass(frozen=True)
class Source:
    """An unknown competition's files."""

    names: Sequence[str]  # below its folder; the name of a zip, with or without .zip, is a folder
    photos: Sequence[str]  # those of them that are photos
    table: Callable[[str], pd.DataFrame]  # reads a CSV as text
    slug: str = ""
    metric: str = ""  # the row of METRICS; "" while it is unknown
    given: Mapping[str, str] = field(default_factory=dict)  # fields that a person has decided
    # Folders that are left out, and those of which they are copies.
    copies: Mapping[str, str] = field(default_factory=dict)


class Draft:
    """The fields of a competition's block that are known so far, with notes and doubts."""

    def __init__(self, source: Source):
        Layout().with_fields(source.given)  # which refuses unknown fields
        self.source, self.given = source, source.given
        kept = [name for name in source.photos if posixpath.dirname(name) not in source.copies]
        self.photos = Photos(dict.fromkeys(map(without_zip, kept)))
        self.fields: dict = {"slug": source.slug}
        self.notes: list[str] = []
        if source.copies:
            copied = [f"{name} of {other}" for name, other in source.copies.items()]
            self.notes.append(f"folders that are copies are left out: {first_names(copied, 3)}")
        self.doubts: list[str] = []
        self.sample: pd.DataFrame | None = None
        self.tables: list[str] = []
        self.unusable: dict[str, str] = {}  # why, by the tables' names

    def table(self, name: str) -> pd.DataFrame:
        """Return a table that may be of no use, an empty one where it can't be read."""
        try:
            return self.source.table(name)
        except Problem as problem:
            self.unusable[name] = str(problem).rstrip(".")
            return pd.DataFrame()

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
        branch = branches(self.names)
        known = [{branch[name] for name in names} for names in found if names]
        sizes = pd.Series(list(branch.values())).value_counts()
        whole = [one for one in set().union(*known) if all(one in each for each in known)]
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


def unread(names: Iterable[str]) -> str:
    """Return the clause about the first file that may hold what was not found; "" for none."""
    for pattern, cure in UNREAD.items():
        if found := next(
            (name for name in names if re.search(rf"\.(?:{pattern})$", name, re.I)), ""
        ):
            return f"; {found} {cure}"
    return ""


def counted(labels: pd.Series) -> str:
    """Return the number of classes and of the photos of the first ones."""
    counts = labels[labels != ""].value_counts(sort=False).sort_index()
    return f"{len(counts)} classes: " + first_names([f"{la} ({n})" for la, n in counts.items()])
