"""The one way in which a run writes files that must survive a crash."""

import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, flush it to disk, and put it in `path`'s place.

    The file beside it keeps `path`'s ending, which some writers go by.
    """
    beside = path.with_name("partial-" + path.name)
    write(beside)
    with beside.open("rb+") as file:
        os.fsync(file.fileno())
    beside.replace(path)
