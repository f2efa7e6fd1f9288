"""The one way in which files that must survive a crash are written."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

LONGEST_SUFFIX = 16  # letters of the suffixes that a temporary file keeps, dots included


def write_atomically(
    path: Path, content: bytes | str | Callable[[Path], object], size: int = 0
) -> None:
    """Write a file beside `path`, flush it to the disk, and rename it to `path`.

    After a crash at any moment `path` holds the old content or the new one, never a part. `content`
    is the file's bytes, its text, or a function that fills the file whose path it is given; `size`
    bytes must be free before that is called, for writers that a full disk would crash. Raises
    OSError if the file can't be written, and leaves nothing of it then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = temporary_name(path)
    try:
        if size:
            reserve(beside, size)
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


def temporary_name(path: Path) -> Path:
    """Return the hidden temporary file of `path`: in the same folder, and always the same one.

    Its name is short however long `path`'s is, which may be as long as the file system allows. It
    keeps `path`'s last two suffixes, by which some writers choose a format.
    """
    key = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]
    suffix = "".join(path.suffixes[-2:])  # Keras asks for `.weights.h5`
    return path.with_name(f".partial-{key}{suffix[-LONGEST_SUFFIX:]}")


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def numbered(path: Path) -> Iterator[Path]:
    """Yield a path and, without an end, those beside it: output, output-2, output-3, ..."""
    yield path
    yield from (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))


def scratch_folder(prefix: str, output: Path, fresh: bool = False) -> Path:
    """Return the temporary folder of an output folder, always the same; `fresh` empties it."""
    key = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"{prefix}-{key}"
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    return folder


def reserve(path: Path, size: int) -> None:
    """Make sure that a file of `size` bytes fits where `path` is. Raises OSError if it does not."""
    if hasattr(os, "posix_fallocate"):
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        path.unlink()
    elif shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def flush_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, where the system can (Windows can't)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def as_json(settings: Mapping) -> dict:
    """Return settings as JSON reads them back: tuples are lists."""
    return json.loads(json.dumps(settings))
