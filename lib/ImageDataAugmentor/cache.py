"""Decoded and resized photos, kept in memory or in a memory-mapped folder, within a budget."""

import dataclasses
import hashlib
import json
import os
import shutil
import threading
import warnings
import weakref
import zlib
from pathlib import Path

import numpy as np
import psutil

from .reading import CHANNELS, Loading

_MEGABYTE = 1 << 20
_SEGMENT_BYTES = 64 * _MEGABYTE
_SEGMENTS_AT_LEAST = 8  # smaller ones where the budget is small
# What a cache takes of the free memory or disk when no budget is given; the rest is for the
# model, the batches and everybody else.
_DEFAULT_SHARE = 0.5

_caches: dict[bool | str, "Cache"] = {}
_caches_lock = threading.Lock()


def open_cache(option: bool | str | os.PathLike | None, megabytes: float | None) -> "Cache | None":
    """The cache that a `cache=` option means, one for all who ask for the same; None for none.

    `megabytes` sets its budget, also when it is open already.
    """
    if option is None or option is False:
        return None
    if megabytes is not None and megabytes <= 0:
        raise ValueError(f"cache_mb={megabytes}: give a positive number of megabytes, or None")
    key = True if option is True else str(Path(option).resolve())
    with _caches_lock:
        if key not in _caches:
            _caches[key] = MemoryCache() if key is True else FolderCache(Path(key))
        cache = _caches[key]
    if megabytes is not None:
        cache.budget = int(megabytes * _MEGABYTE)
    return cache


class Cache:
    """Photos by file and way of loading; a file whose size or time changed is read anew.

    When the budget is spent, photos that no living iterator asks for make room. The others stay:
    an epoch visits each photo once, so dropping one for another would gain nothing.
    """

    def __init__(self, budget: int):
        self.budget = budget
        self._lock = threading.RLock()
        self._sections: dict[Loading, MemorySection | FolderSection] = {}
        self._users: dict[Loading, weakref.WeakSet] = {}

    @property
    def used(self) -> int:
        """Bytes held."""
        return sum(section.used for section in list(self._sections.values()))

    def register(self, loading: Loading, user: object) -> None:
        """Note that `user` asks for photos loaded so, for as long as it lives."""
        with self._lock:
            self._users.setdefault(loading, weakref.WeakSet()).add(user)
            if loading not in self._sections:
                self._sections[loading] = self._open_section(loading)

    def picture(self, path: str, loading: Loading) -> np.ndarray:
        """The photo as `loading(path)` gives it, not to be written to. Raises UnreadableImage."""
        try:
            status = os.stat(path)
        except OSError:
            return loading(path)  # which says what is wrong
        stamp = (status.st_size, status.st_mtime_ns)
        section = self._sections[loading]
        known = section.get(path, stamp)
        if known is not None:
            return known
        image = loading(path)
        image.flags.writeable = False
        with self._lock:
            section.put(path, stamp, image)
        return image

    def reserve(self, size: int) -> bool:
        """Whether `size` more bytes fit, making room where nobody is looking."""
        if self.used + size > self.budget:
            self._drop_unused()
        return self.used + size <= self.budget

    def _drop_unused(self) -> None:
        for loading in [key for key in self._sections if not self._users.get(key)]:
            self._sections.pop(loading).drop()

    def _open_section(self, loading: Loading):
        raise NotImplementedError


class MemoryCache(Cache):
    """Photos in this process's memory."""

    def __init__(self):
        super().__init__(int(_available_memory() * _DEFAULT_SHARE))

    def _open_section(self, loading):
        return MemorySection(self)


class MemorySection:
    """Photos loaded in one way."""

    def __init__(self, cache: Cache):
        self._cache = cache
        self._pictures: dict[str, tuple[tuple[int, int], np.ndarray]] = {}
        self.used = 0

    def get(self, path: str, stamp: tuple[int, int]) -> np.ndarray | None:
        """The photo as it was stored for a file of this size and time, or None."""
        known = self._pictures.get(path)
        return known[1] if known and known[0] == stamp else None

    def put(self, path: str, stamp: tuple[int, int], image: np.ndarray) -> None:
        """Store a photo, if there is room."""
        stale = self._pictures.pop(path, None)
        if stale:
            self.used -= stale[1].nbytes
        if self._cache.reserve(image.nbytes):
            self._pictures[path] = (stamp, image)
            self.used += image.nbytes

    def drop(self) -> None:
        """Give the room back."""
        self._pictures.clear()
        self.used = 0


class FolderCache(Cache):
    """Photos in memory-mapped files of a folder, which outlive the process."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._leftovers = {
            section: sum(file.stat().st_size for file in section.iterdir())
            for section in folder.glob("*/")
            if (section / "section.json").exists()
        }
        super().__init__(0)
        self.budget = int((shutil.disk_usage(folder).free + self.used) * _DEFAULT_SHARE)

    @property
    def used(self) -> int:
        """Bytes held, those of earlier runs included."""
        return super().used + sum(self._leftovers.values())

    def _drop_unused(self):
        super()._drop_unused()
        for folder in list(self._leftovers):
            with (folder / "writer.lock").open("a") as lock:
                if _lock_exclusively(lock):
                    shutil.rmtree(folder, ignore_errors=True)
                    del self._leftovers[folder]

    def _open_section(self, loading):
        name = hashlib.sha256(repr(loading).encode()).hexdigest()[:16]
        self._leftovers.pop(self._folder / name, None)
        return FolderSection(self, self._folder / name, loading)


class FolderSection:
    """Photos of one size in segment files of fixed-size records, with an append-only index.

    Segments are allocated on the disk before they are mapped, so that a full disk is an error when
    one is made, not a crash when it is written. A record is listed in the index, with its
    checksum, after it is written. One process at a time writes; others read what was there.
    """

    def __init__(self, cache: Cache, folder: Path, loading: Loading):
        self._cache = cache
        self._folder = folder
        self._shape = (*loading.target_size, CHANNELS[loading.color_mode])
        self._record = int(np.prod(self._shape))
        self._pid = os.getpid()
        self._full = False
        folder.mkdir(exist_ok=True)
        self._lock_file = (folder / "writer.lock").open("a")
        self._writes = _lock_exclusively(self._lock_file)
        self._records = self._records_of_a_segment(loading)
        self._segments = self._map_segments()
        self._entries = self._read_index()
        taken = {entry["slot"] for entry in self._entries.values()}
        slots = len(self._segments) * self._records
        self._free = [slot for slot in range(slots) if slot not in taken]
        self._index = (folder / "index.jsonl").open("a", encoding="utf-8") if self._writes else None
        if self._index and self._index.tell():
            self._index.write("\n")  # ends a line that a killed process left half written

    def _records_of_a_segment(self, loading: Loading) -> int:
        description = self._folder / "section.json"
        if description.exists():
            return json.loads(description.read_text())["records"]
        size = min(_SEGMENT_BYTES, self._cache.budget // _SEGMENTS_AT_LEAST)
        records = max(1, size // self._record)
        description.write_text(json.dumps({"records": records} | dataclasses.asdict(loading)))
        return records

    def _map_segments(self) -> list[np.ndarray]:
        segments = []
        for path in sorted(self._folder.glob("segment-*.bin")):
            if path.stat().st_size == self._records * self._record:
                segments.append(self._map(path))
            elif self._writes:  # its process was killed while it allocated it
                path.unlink()
        return segments

    @property
    def used(self) -> int:
        """Bytes on the disk."""
        return len(self._segments) * self._records * self._record

    def get(self, path: str, stamp: tuple[int, int]) -> np.ndarray | None:
        """The photo as it was stored for a file of this size and time, or None."""
        entry = self._entries.get(path)
        if entry is None or (entry["size"], entry["mtime"]) != stamp:
            return None
        picture = self._picture(entry["slot"])
        if not entry.get("checked"):
            if zlib.crc32(picture) != entry["crc"]:
                return None
            entry["checked"] = True
        return picture

    def put(self, path: str, stamp: tuple[int, int], image: np.ndarray) -> None:
        """Store a photo, if there is room."""
        if not self._writes or self._full or self._pid != os.getpid():
            return
        try:
            if not self._free and not self._add_segment():
                return
            slot = self._free.pop()
            segment = self._segments[slot // self._records]
            segment[slot % self._records] = image
            entry = {
                "path": path,
                "size": stamp[0],
                "mtime": stamp[1],
                "slot": slot,
                "crc": zlib.crc32(image),
            }
            self._index.write(json.dumps(entry) + "\n")
            self._index.flush()
        except OSError as error:
            self._full = True
            warnings.warn(
                f"{self._folder}: the cache takes no more photos ({error.strerror or error}); "
                "the rest is decoded each time.",
                stacklevel=2,
            )
            return
        self._entries[path] = entry | {"checked": True}

    def drop(self) -> None:
        """Give the room back."""
        if self._writes:
            self._index.close()
            self._segments.clear()
            self._entries.clear()
            shutil.rmtree(self._folder, ignore_errors=True)
        self._lock_file.close()

    def _picture(self, slot: int) -> np.ndarray:
        picture = self._segments[slot // self._records][slot % self._records]
        picture.flags.writeable = False
        return picture

    def _read_index(self) -> dict[str, dict]:
        entries = {}
        index = self._folder / "index.jsonl"
        lines = index.read_text(encoding="utf-8").splitlines() if index.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # half written when its process was killed
                continue
            if entry["slot"] < len(self._segments) * self._records:
                entries[entry["path"]] = entry
        return entries

    def _add_segment(self) -> bool:
        size = self._records * self._record
        if not self._cache.reserve(size):
            return False
        path = self._folder / f"segment-{len(self._segments):05d}.bin"
        try:
            _allocate(path, size)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        first = len(self._segments) * self._records
        self._segments.append(self._map(path))
        self._free += reversed(range(first, first + self._records))
        return True

    def _map(self, path: Path) -> np.ndarray:
        mode = "r+" if self._writes else "r"
        return np.asarray(np.memmap(path, np.uint8, mode, shape=(self._records, *self._shape)))


def _allocate(path: Path, size: int) -> None:
    """Create a file whose blocks are all there; OSError when the disk is full."""
    with path.open("xb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            for start in range(0, size, _MEGABYTE):
                file.write(bytes(min(_MEGABYTE, size - start)))


def _lock_exclusively(file) -> bool:
    """Whether this process now holds the file's lock, which ends with the process."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _available_memory() -> int:
    """Bytes this process may still take, counting the limit of a container."""
    available = psutil.virtual_memory().available
    for limit, usage in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            available = min(available, int(Path(limit).read_text()) - int(Path(usage).read_text()))
        except (OSError, ValueError):  # no such container, or no limit ("max")
            continue
    return max(available, 0)


def _renew_locks() -> None:
    """In a forked child no thread is left that could release a lock held in the parent."""
    global _caches_lock
    _caches_lock = threading.Lock()
    for cache in _caches.values():
        cache._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
