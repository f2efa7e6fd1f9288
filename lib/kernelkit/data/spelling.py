"""Recognise names that are spelt a little differently in a table and on the disk."""

import re
import unicodedata
from collections.abc import Callable, Iterable

from ImageDataAugmentor.files import SUFFIXES

# Suffixes of files, which Ids may lack or have in another spelling.
SUFFIX = re.compile(rf"\.(?:{'|'.join(SUFFIXES)})$", re.I)
WHOLE_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")  # as it is usually written
ANY_WHOLE_NUMBER = re.compile(r"(-?\d{1,18})(?:\.0*)?")


def number_of(text: str) -> int | None:
    """Return the whole number that a text spells, as 7, 007 or 7.0; None where it is none."""
    match = ANY_WHOLE_NUMBER.fullmatch(text.strip())
    return int(match[1]) if match else None


def without_suffix(name: str) -> str:
    """Return a file's name without the suffix of a picture."""
    return SUFFIX.sub("", name.strip())


def last_part(name: str) -> str:
    """Return a path's last part, whichever system wrote it."""
    return re.split(r"[/\\]", name.strip())[-1]


def folded(name: str) -> str:
    """Return a name in one form of Unicode, without case and surrounding spaces."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def bare(name: str) -> str:
    """Return the folded name of a file, without its folders and the suffix of a picture."""
    return folded(without_suffix(last_part(name)))


def numeral(name: str) -> str:
    """Return the whole number that the bare name spells, in the usual way, or the bare name."""
    number = number_of(bare(name))
    return bare(name) if number is None else str(number)


# From exact to loose. A name is sought in one way only where all before found nothing.
WAYS_OF_LABELS: tuple[Callable[[str], str], ...] = (str, folded, numeral)
WAYS_OF_FILES: tuple[Callable[[str], str], ...] = (
    str,
    last_part,
    lambda name: folded(last_part(name)),
    bare,
    numeral,
)


class Spellings:
    """Finds names among others that may be spelt differently.

    Args:
        names: what is found; repeated names are found together.
        ways: functions that bring two spellings of a name to one, from exact to loose.
    """

    def __init__(self, names: Iterable[str], ways: tuple[Callable[[str], str], ...]):
        self.names, self.ways = list(names), ways
        self.tables: list[dict[str, list[int]]] = []

    def find(self, name: str) -> tuple[list[int], int]:
        """Return the positions of all names spelt like `name` in the most exact way there is.

        Returns:
            The positions, ascending, and the number of the way; none and -1 where nothing is found.
        """
        for number, way in enumerate(self.ways):
            if number == len(self.tables):
                self.tables.append(self.table(way))
            if found := self.tables[number].get(way(name)):
                return found, number
        return [], -1

    def only(self, name: str) -> str | None:
        """Return the one name that is spelt like `name`; None where there are none or several."""
        found = {self.names[position] for position in self.find(name)[0]}
        return found.pop() if len(found) == 1 else None

    def table(self, way: Callable[[str], str]) -> dict[str, list[int]]:
        """Return the positions of the names by what a way makes of them."""
        positions: dict[str, list[int]] = {}
        for position, name in enumerate(self.names):
            positions.setdefault(way(name), []).append(position)
        return positions
