"""Hashes of files, which are not read again while size and times tell that nothing changed."""

import contextlib
import json
import os
import time
from pathlib import Path

from kernelkit.core.files import file_hash, write_atomically

SETTLED = 2_000_000_000
"""Nanoseconds after which a file's time tells every later change of it."""


class Hashes:
    """The hashes of files, kept by path, size and times: what has not changed is not read again."""

    def __init__(self) -> None:
        self.place: Path | None = None
        """Where they are kept for the next command; None for nowhere."""
        self._known: dict[str, list] = {}  # by "ALGORITHM PATH"
        self._news = False
        self._young: set[str] = set()
        """Files that were written just now, and may be again within the same tick of the clock."""

    def open(self, place: Path) -> None:
        """Take up what an earlier command has kept in a file."""
        self.place, self._known, self._news, self._young = place, {}, False, set()
        with contextlib.suppress(OSError, ValueError, RecursionError):
            kept = json.loads(place.read_text(encoding="utf-8"))
            self._known = kept if isinstance(kept, dict) else {}

    def of(self, file: Path, algorithm: str = "sha256") -> str:
        """Return the hash of a file's content in hexadecimal."""
        stat = file.stat()
        path = f"{algorithm} {os.path.abspath(file)}"
        key = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = self._known.get(path)
        if isinstance(known, list) and known[:-1] == key:
            return known[-1]
        settled = time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED
        self._known[path] = [*key, found := file_hash(file, algorithm)]
        self._news |= settled
        (self._young.discard if settled else self._young.add)(path)
        return found

    def keep(self) -> None:
        """Write what is new for the next command; files that are gone are forgotten."""
        if self.place and self._news:
            there = {
                path: row
                for path, row in self._known.items()
                if path not in self._young and os.path.exists(path.partition(" ")[2])
            }
            with contextlib.suppress(OSError):
                write_atomically(self.place, json.dumps(there))
            self._news = False


HASHES = Hashes()
"""Those of this process."""
