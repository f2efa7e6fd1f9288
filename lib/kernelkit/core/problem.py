"""The one exception whose text is meant for a person."""

from collections.abc import Iterable
from difflib import get_close_matches

NAMED = 9  # of many things that a sentence names


class Problem(Exception):
    """A problem with the data, the settings or the machine: its text is one clear sentence.

    The sentence names the file, row or setting and the way out. Programs print it without a
    traceback and end with its exit status.
    """

    exit_status = 1


def first_names(names: Iterable[str], most: int = NAMED) -> str:
    """Return the first of many names, and how many more there are: a last one is named too."""
    names = list(names)
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean NAME?" for the known name that is nearest to a word, or ""."""
    names = {name.lower().replace("_", "-"): name for name in known}
    near = get_close_matches(word.lower().replace("_", "-"), names, 1)
    return f"; did you mean {names[near[0]]}?" if near else ""
