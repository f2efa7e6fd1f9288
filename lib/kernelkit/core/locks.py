"""Locks between processes: the operating system frees them however their holder ends."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from kernelkit.core.problem import Problem


class Occupied(Problem):
    """Another process holds a lock."""


@contextmanager
def only_one(path: Path, occupied: str, remove: bool = False) -> Iterator[None]:
    """Hold the lock file `path` until the context ends; raise Occupied if another process does.

    A file of the same name with `.who` added says which one: `{holder}` in the sentence `occupied`
    becomes "process 123, since 12:34:56". `remove` removes both files at the end, for folders that
    should end up tidy: a process that opens the lock file at that very moment could then hold it
    beside a third one. Where the file system knows no locks, nothing is locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    who = path.with_name(path.name + ".who")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = "just started"
        with suppress(OSError):
            holder = who.read_text(encoding="utf-8")
        raise Occupied(occupied.replace("{holder}", holder)) from None
    except NotImplementedError:  # some network file systems
        yield
        return
    try:
        who.write_text(f"process {os.getpid()}, since {time.strftime('%H:%M:%S')}", "utf-8")
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            who.unlink(missing_ok=True)
            if remove:
                path.unlink(missing_ok=True)
        lock.release()
