"""Hashes of files, which are not read again while size and times show that nothing changed."""

import contextlib
import json
import os
import time
from pathlib import Path

from kernelkit.core.files import file_hash, write_atomically

SETTLED = 2_000_000_000  # nanoseconds after which a file's time shows every later change of it


class Hashes:
    """The hashes of files, kept by path, size and times."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self._known: dict[str, list] = {}  # by "ALGORITHM PATH"
        self._young: dict[str, list] = {}  # of files that may be written again in the same tick
        self._news = False

    def open(self, path: Path) -> None:
        """Read what an earlier command has kept in a file, and keep hashes there from now on."""
        self.path, self._known, self._young, self._news = path, {}, {}, False
        with contextlib.suppress(OSError, ValueError, RecursionError):
            kept = json.loads(path.read_text(encoding="utf-8"))
            self._known = kept if isinstance(kept, dict) else {}

    def of(self, file: Path, algorithm: str = "sha256") -> str:
        """Return the hash of a file's content in hexadecimal."""
        stat = file.stat()
        name = f"{algorithm} {os.path.abspath(file)}"
        key = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        for known in (self._young.get(name), self._known.get(name)):
            if isinstance(known, list) and known[:-1] == key:
                return known[-1]
        settled = time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED
        digest = file_hash(file, algorithm)
        (self._known if settled else self._young)[name] = [*key, digest]
        self._news |= settled
        return digest

    def keep(self) -> None:
        """Write what is new for the next command; files that are gone are forgotten."""
        if self.path and self._news:
            kept = {n: row for n, row in self._known.items() if os.path.exists(n.split(" ", 1)[1])}
            with contextlib.suppress(OSError):
                write_atomically(self.path, json.dumps(kept))
            self._news = False


HASHES = Hashes()
"""Those of this process."""
