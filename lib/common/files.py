"""The one way in which files that must survive a crash are written."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, content: bytes | str | Callable[[Path], object]) -> None:
    """Write a file beside `path`, flush it to the disk, and rename it to `path`.

    After a crash at any moment `path` holds the old content or the new one, never a part. The
    temporary file keeps `path`'s ending, by which some writers choose a format.

    Args:
        path: the file to write; missing parent folders are made.
        content: the file's bytes, its text (written as UTF-8), or a function that fills the file
            whose path it is given.

    Raises:
        OSError: the file can't be written, for example because the disk is full. Nothing is left
            of the temporary file then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"partial-{path.name}")
    try:
        if callable(content):
            content(beside)
        else:
            beside.write_bytes(content.encode() if isinstance(content, str) else content)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, where the system can (Windows can't)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
