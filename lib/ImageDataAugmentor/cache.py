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
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .free_memory import available_memory
from .memory import SharedMemory, allocate
from .reading import CHANNELS, Loading

_MEGABYTE = 1 << 20
_SEGMENT_BYTES = 64 * _MEGABYTE
_SEGMENTS_AT_LEAST = 8  # smaller ones where the budget is small
_SEGMENTS_AT_MOST = 64  # each needs file descriptors
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
        self._sections: dict[Loading, Section] = {}
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

    def plan(self, files: list[tuple[str, Loading]]) -> "Plan":
        """Where these photos are, or where those that are not here yet are to be written."""
        plan = Plan()
        for path, loading in dict.fromkeys(files):
            section = self._sections[loading]
            with self._lock:
                entry = section.entry(path)
                slot = entry.slot if entry else section.take_slot()
            if slot is None:
                continue
            memory, offset = section.place(slot)
            plan.memories[memory.number] = memory
            plan.spots[path, loading] = Spot(
                memory.number, offset, section.shape, entry and entry.stamp
            )
            if entry is None:
                plan.taken[path, loading] = section, slot
        return plan

    def settle(self, plan: "Plan", stored: list[tuple[str, Loading, tuple | None]]) -> None:
        """Note what was written where the plan said; a stamp of None says that a file changed."""
        with self._lock:
            for path, loading, stamp in stored:
                section = self._sections.get(loading)
                if stamp is None and section:
                    section.forget(path)
                elif stamp and section is plan.taken[path, loading][0]:
                    section.commit(path, stamp, plan.taken.pop((path, loading))[1])
            for section, slot in plan.taken.values():
                section.give_back(slot)

    def reserve(self, size: int) -> bool:
        """Whether `size` more bytes fit, making room where nobody is looking."""
        if self.used + size > self.budget:
            self._drop_unused()
        return self.used + size <= self.budget

    def _drop_unused(self) -> None:
        for loading in [key for key in self._sections if not self._users.get(key)]:
            self._sections.pop(loading).drop()

    def _open_section(self, loading: Loading) -> "Section":
        raise NotImplementedError


@dataclass(frozen=True)
class Spot:
    """A photo's place in a cache; without a stamp (size, time) it is to be written there."""

    memory: int
    offset: int
    shape: tuple[int, ...]
    stamp: tuple[int, int] | None


@dataclass
class Plan:
    """What a process needs of a cache for its share of a batch."""

    spots: dict[tuple[str, Loading], Spot] = field(default_factory=dict)
    memories: dict[int, SharedMemory] = field(default_factory=dict)
    taken: dict[tuple[str, Loading], tuple["Section", int]] = field(default_factory=dict)


@dataclass
class Entry:
    """A photo that is held, of a file of this stamp (size, time in ns)."""

    slot: int
    stamp: tuple[int, int]
    crc: int | None = None  # to be checked before the photo is used


class Section:
    """Photos loaded in one way, in slots of segments of memory that other processes can map.

    A slot is written once: whoever looks at a photo, in whichever process, may go on doing so.
    """

    def __init__(self, cache: Cache, loading: Loading):
        self._cache = cache
        self.shape = (*loading.target_size, CHANNELS[loading.color_mode])
        self._record = int(np.prod(self.shape))
        self._pid = os.getpid()
        self._full = False
        self._records = self._records_of_a_segment()
        self._segments: list[SharedMemory] = []
        self._entries: dict[str, Entry] = {}
        self._free: list[int] = []

    def _records_of_a_segment(self) -> int:
        budget = self._cache.budget
        size = max(min(_SEGMENT_BYTES, budget // _SEGMENTS_AT_LEAST), budget // _SEGMENTS_AT_MOST)
        return max(1, size // self._record)

    @property
    def used(self) -> int:
        """Bytes held."""
        return len(self._segments) * self._records * self._record

    def entry(self, path: str) -> Entry | None:
        """What is known of a file's photo, or None."""
        return self._entries.get(path)

    def get(self, path: str, stamp: tuple[int, int]) -> np.ndarray | None:
        """The photo as it was stored for a file of this size and time, or None."""
        entry = self.entry(path)
        if entry is None or entry.stamp != stamp:
            return None
        picture = self._picture(entry.slot)
        picture.flags.writeable = False
        return picture

    def put(self, path: str, stamp: tuple[int, int], image: np.ndarray) -> None:
        """Store a photo, if there is room."""
        slot = self.take_slot()
        if slot is not None:
            self._picture(slot)[:] = image
            self.commit(path, stamp, slot)

    def take_slot(self) -> int | None:
        """A slot to write a photo to, for `commit` or `give_back`; None if there is no room."""
        # A forked child has a list of free slots of its own, but the same memory.
        if self._full or self._pid != os.getpid():
            return None
        try:
            return self._free.pop() if self._free or self._add_segment() else None
        except OSError as error:
            self._stop(error)
        return None

    def give_back(self, slot: int) -> None:
        """Take a slot back that holds nothing."""
        self._free.append(slot)

    def commit(self, path: str, stamp: tuple[int, int], slot: int) -> None:
        """Note that a slot now holds a file's photo."""
        known = self._entries.get(path)
        if known and known.stamp == stamp:  # somebody else was faster
            self.give_back(slot)
        else:
            self._entries[path] = Entry(slot, stamp)

    def forget(self, path: str) -> None:
        """Drop the photo of a file that changed."""
        self._entries.pop(path, None)

    def place(self, slot: int) -> tuple[SharedMemory, int]:
        """Where a slot is: its segment, and the offset in bytes."""
        segment, record = divmod(slot, self._records)
        return self._segments[segment], record * self._record

    def drop(self) -> None:
        """Give the room back."""
        self._segments.clear()
        self._entries.clear()
        self._free.clear()
        self._full = True

    def _picture(self, slot: int) -> np.ndarray:
        memory, offset = self.place(slot)
        return memory.array(self.shape, offset=offset)

    def _add_segment(self) -> bool:
        size = self._records * self._record
        if not self._cache.reserve(size):
            return False
        self._segments.append(self._new_segment(size))
        first = (len(self._segments) - 1) * self._records
        self._free += reversed(range(first, first + self._records))
        return True

    def _new_segment(self, size: int) -> SharedMemory:
        return SharedMemory.anonymous(size)

    def _stop(self, error: OSError) -> None:
        self._full = True
        warnings.warn(
            f"{self._name}: the cache takes no more photos ({error.strerror or error}); "
            "the rest is decoded each time.",
            stacklevel=2,
        )

    @property
    def _name(self) -> str:
        return "memory"


class MemoryCache(Cache):
    """Photos in memory."""

    def __init__(self):
        super().__init__(int(available_memory() * _DEFAULT_SHARE))

    def _open_section(self, loading):
        return Section(self, loading)


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


class FolderSection(Section):
    """Photos of one size in segment files of fixed-size records, with an append-only index.

    Segments are allocated on the disk before they are mapped, so that a full disk is an error when
    one is made, not a crash when it is written. A record is listed in the index, with its
    checksum, after it is written. One process at a time writes; others read what was there.
    """

    def __init__(self, cache: Cache, folder: Path, loading: Loading):
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._lock_file = (folder / "writer.lock").open("a")
        self._writes = _lock_exclusively(self._lock_file)
        super().__init__(cache, loading)
        description = folder / "section.json"
        if not description.exists():
            facts = {"records": self._records} | dataclasses.asdict(loading)
            description.write_text(json.dumps(facts))
        self._segments = self._map_segments()
        self._entries = self._read_index()
        taken = {entry.slot for entry in self._entries.values()}
        slots = len(self._segments) * self._records
        self._free = [slot for slot in range(slots) if slot not in taken]
        self._index = (folder / "index.jsonl").open("a", encoding="utf-8") if self._writes else None
        if self._index and self._index.tell():
            self._index.write("\n")  # ends a line that a killed process left half written

    def _records_of_a_segment(self) -> int:
        description = self._folder / "section.json"
        if description.exists():
            return json.loads(description.read_text())["records"]
        return super()._records_of_a_segment()

    def entry(self, path):
        """What is known of a file's photo, if it is still as it was written."""
        entry = super().entry(path)
        if entry and entry.crc is not None:
            if zlib.crc32(self._picture(entry.slot)) != entry.crc:
                self.forget(path)
                return None
            entry.crc = None
        return entry

    def take_slot(self):
        """As for memory, where this process may write."""
        return super().take_slot() if self._writes else None

    def commit(self, path, stamp, slot):
        """Note that a slot now holds a file's photo, for later processes too."""
        crc = zlib.crc32(self._picture(slot))
        entry = {"path": path, "size": stamp[0], "mtime": stamp[1], "slot": slot, "crc": crc}
        try:
            self._index.write(json.dumps(entry) + "\n")
            self._index.flush()
        except OSError as error:
            self._stop(error)
        super().commit(path, stamp, slot)

    def drop(self):
        """Give the room back."""
        super().drop()
        if self._writes:
            self._index.close()
            shutil.rmtree(self._folder, ignore_errors=True)
        self._lock_file.close()

    def _map_segments(self) -> list[SharedMemory]:
        segments, size = [], self._records * self._record
        for path in sorted(self._folder.glob("segment-*.bin")):
            if path.stat().st_size == size:
                segments.append(SharedMemory.of_file(path, size, self._writes))
            elif self._writes:  # its process was killed while it allocated it
                path.unlink()
        return segments

    def _read_index(self) -> dict[str, Entry]:
        entries = {}
        index = self._folder / "index.jsonl"
        lines = index.read_text(encoding="utf-8").splitlines() if index.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # half written when its process was killed
                continue
            if entry["slot"] < len(self._segments) * self._records:
                stamp = entry["size"], entry["mtime"]
                entries[entry["path"]] = Entry(entry["slot"], stamp, entry["crc"])
        return entries

    def _new_segment(self, size):
        path = self._folder / f"segment-{len(self._segments):05d}.bin"
        try:
            _allocate(path, size)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return SharedMemory.of_file(path, size, writable=True)

    @property
    def _name(self):
        return str(self._folder)


def _allocate(path: Path, size: int) -> None:
    """Create a file whose blocks are all there; OSError when the disk is full."""
    with path.open("xb") as file:
        allocate(file, size)


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


def _renew_locks() -> None:
    """In a forked child no thread is left that could release a lock held in the parent."""
    global _caches_lock
    _caches_lock = threading.Lock()
    for cache in _caches.values():
        cache._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
