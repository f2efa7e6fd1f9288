"""The caches of this process, one for memory and one for each folder."""

import os
import threading
from pathlib import Path

from .photo_cache import Cache, MemoryCache

_caches: dict[bool | str, Cache] = {}
_caches_lock = threading.Lock()


def open_cache(option: bool | str | os.PathLike | None, megabytes: float | None) -> Cache | None:
    """Return the cache that a `cache=` option means, the same one for equal options, or None.

    `megabytes` sets its budget, also if it is open already. Raises ValueError if that is not
    positive.
    """
    if option is None or option is False:
        return None
    if megabytes is not None and megabytes <= 0:
        raise ValueError(f"cache_mb={megabytes}: give a positive number of megabytes, or None")
    key = True if option is True else str(Path(option).resolve())
    with _caches_lock:
        if key not in _caches:
            _caches[key] = MemoryCache() if key is True else _open_folder(Path(key))
        cache = _caches[key]
    if megabytes is not None:
        cache.budget = int(megabytes * (1 << 20))
    return cache


def overflow_to(folder: Path) -> None:
    """Let the cache in memory go on in files of a folder that end with the process."""
    open_cache(True, None).overflow_to(folder)


def _open_folder(folder: Path) -> Cache:
    from .folder_cache import FolderCache  # It imports filelock, which nothing else here needs.

    return FolderCache(folder)


def _renew_locks() -> None:
    """Replace all locks, in a forked child where no thread is left that could release them."""
    global _caches_lock
    _caches_lock = threading.Lock()
    for cache in _caches.values():
        cache.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
