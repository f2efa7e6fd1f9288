"""Hashes of files: within a process, a file that has not changed is read once."""

import functools
import os
import time
from pathlib import Path

from kernelkit.core.files import file_hash

SETTLED = 2_000_000_000  # nanoseconds after which a file's times show every later change of it


def known_hash(file: Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file's content in hexadecimal."""
    stat = file.stat()
    changed = max(stat.st_mtime_ns, stat.st_ctime_ns)
    if time.time_ns() - changed < SETTLED:  # it may be written again in the same tick
        return file_hash(file, algorithm)
    return _hash_of(Path(os.path.abspath(file)), algorithm, stat.st_size, changed, stat.st_ino)


@functools.cache
def _hash_of(file: Path, algorithm: str, *_state: int) -> str:
    return file_hash(file, algorithm)
