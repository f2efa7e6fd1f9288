"""Decoded and resized photos in shared memory, within a budget: one cache for the process."""

import os
import shutil
import tempfile
import threading
import warnings
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..reading import CHANNELS, ImageLoader
from .free_memory import available_memory
from .shared_memory import SharedMemory, allocate

_SEGMENT_BYTES = 64 << 20
_SEGMENTS_AT_LEAST = 8  # A small budget is divided into smaller segments.
_SEGMENTS_AT_MOST = 64  # Each segment needs a file descriptor, also in every worker process.
# The part of the free memory or disk that a cache takes when no budget is given. The rest is left
# to the model, the batches and other programs.
DEFAULT_FRACTION = 0.5

_cache: "Cache | None" = None
_cache_lock = threading.Lock()

Stamp = tuple[int, int]  # A file's size in bytes and its modification time in nanoseconds.


class Cache:
    """Photos, each known by its file and its loader. A file whose stamp changed is read again.

    When the budget is spent, photos whose loader no living iterator uses are dropped. The others
    stay: an epoch visits each photo once, so replacing one by another would gain nothing. The cache
    ends with the process.
    """

    def __init__(self):
        self.budget = int(available_memory() * DEFAULT_FRACTION)
        """Size in bytes that it may take."""
        self._overflow: Path | None = None
        self._memory_budget = self.budget
        self._lock = threading.RLock()
        self._sections: dict[ImageLoader, Section] = {}
        self._users: dict[ImageLoader, weakref.WeakSet] = {}

    @property
    def used(self) -> int:
        """Size in bytes of everything the cache holds."""
        return sum(section.used for section in list(self._sections.values()))

    def register(self, loader: ImageLoader, user: object) -> None:
        """Keep the photos of `loader` for as long as `user` lives."""
        with self._lock:
            self._users.setdefault(loader, weakref.WeakSet()).add(user)
            if loader not in self._sections:
                self._sections[loader] = Section(self, loader)

    def picture(self, path: str, loader: ImageLoader) -> np.ndarray:
        """Return the photo as `loader(path)` would, read-only. Raises UnreadableImage.

        A photo whose file is gone meanwhile is served as it was.
        """
        stamp, section = stamp_of(path), self._sections[loader]
        known = section.get(path, stamp)
        if known is None and stamp is None:
            return loader(path)  # The loader's error says what is wrong with the file.
        if known is not None:
            return known
        image = loader(path)
        image.flags.writeable = False
        with self._lock:
            section.put(path, stamp, image)
        return image

    def locate(self, files: list[tuple[str, ImageLoader]]) -> "Placement":
        """Find these photos for a worker process, and free slots for those not cached yet.

        The caller must pass the result to `settle` when the process is done.
        """
        placement = Placement()
        for path, loader in dict.fromkeys(files):
            section = self._sections[loader]
            with self._lock:
                entry = section.entry(path)
                slot = entry.slot if entry else section.take_slot()
            if slot is None:
                continue
            memory, offset = section.location(slot)
            placement.memories[memory.number] = memory
            placement.spots[path, loader] = Spot(
                memory.number, offset, section.shape, entry and entry.stamp
            )
            if entry is None:
                placement.taken[path, loader] = section, slot
        return placement

    def settle(
        self, placement: "Placement", stored: list[tuple[str, ImageLoader, Stamp | None]]
    ) -> None:
        """Record what a worker process stored, and take the unused slots back.

        A stamp of None means that the file changed after its photo was cached.
        """
        with self._lock:
            for path, loader, stamp in stored:
                section = self._sections.get(loader)
                if stamp is None and section:
                    section.forget(path)
                elif stamp and section is placement.taken[path, loader][0]:
                    section.commit(path, stamp, placement.taken.pop((path, loader))[1])
            for section, slot in placement.taken.values():
                section.give_back(slot)

    def make_room(self, size: int) -> bool:
        """Return whether `size` more bytes fit, dropping what no iterator uses if need be."""
        if self.used + size > self.budget:
            for loader in [key for key in self._sections if not self._users.get(key)]:
                self._sections.pop(loader).drop()
        return self.used + size <= self.budget

    def renew_lock(self) -> None:
        """Replace the lock, in a forked child where no thread is left that could release it."""
        self._lock = threading.RLock()

    def overflow_to(self, folder: Path) -> None:
        """Take a part of the free disk of `folder` too, once the budget of memory is spent."""
        if self._overflow is None:
            self._overflow, self._memory_budget = folder, self.budget
            self.budget += int(shutil.disk_usage(folder).free * DEFAULT_FRACTION)

    def new_segment(self, size: int) -> SharedMemory:
        """Return new memory or, where its budget is spent, a mapped file. Raises OSError."""
        spent = sum(section.in_memory for section in list(self._sections.values()))
        if self._overflow is None or spent + size <= self._memory_budget:
            return SharedMemory.anonymous(size)
        with tempfile.TemporaryFile(dir=self._overflow) as file:  # which no kill leaves behind
            allocate(file, size)
            return SharedMemory(os.dup(file.fileno()), size, on_disk=True)


@dataclass(frozen=True)
class Spot:
    """Where a photo lies in a cache. Without a stamp the photo is yet to be written there."""

    memory: int  # The number of a SharedMemory.
    offset: int
    shape: tuple[int, ...]
    stamp: Stamp | None


@dataclass
class Placement:
    """What a worker process needs of a cache for its share of a batch."""

    spots: dict[tuple[str, ImageLoader], Spot] = field(default_factory=dict)
    memories: dict[int, SharedMemory] = field(default_factory=dict)
    taken: dict[tuple[str, ImageLoader], tuple["Section", int]] = field(default_factory=dict)


@dataclass
class Entry:
    """A cached photo, made of a file that had this stamp."""

    slot: int
    stamp: Stamp


class Section:
    """The photos of one loader: equal slots in segments of memory that other processes can map.

    A slot is written once, so that every process may go on reading a photo that it has found.
    """

    def __init__(self, cache: Cache, loader: ImageLoader):
        self._cache = cache
        self.shape = (*loader.target_size, CHANNELS[loader.color_mode])
        self._photo_bytes = int(np.prod(self.shape))
        self._pid = os.getpid()
        self._full = False
        size = max(
            min(_SEGMENT_BYTES, cache.budget // _SEGMENTS_AT_LEAST),
            cache.budget // _SEGMENTS_AT_MOST,
        )
        self._slots_per_segment = max(1, size // self._photo_bytes)
        self._segments: list[SharedMemory] = []
        self._entries: dict[str, Entry] = {}
        self._free: list[int] = []

    @property
    def _segment_bytes(self) -> int:
        return self._slots_per_segment * self._photo_bytes

    @property
    def used(self) -> int:
        """Size in bytes of all segments."""
        return len(self._segments) * self._segment_bytes

    @property
    def in_memory(self) -> int:
        """Size in bytes of the segments that are no files on the disk."""
        return sum(segment.size for segment in self._segments if not segment.on_disk)

    def entry(self, path: str) -> Entry | None:
        """Return the entry of a file's photo, or None."""
        return self._entries.get(path)

    def get(self, path: str, stamp: Stamp | None) -> np.ndarray | None:
        """Return the photo, read-only, if it was made of the file with this stamp, or of any."""
        entry = self.entry(path)
        if entry is None or stamp not in (entry.stamp, None):
            return None
        picture = self._picture(entry.slot)
        picture.flags.writeable = False
        return picture

    def put(self, path: str, stamp: Stamp, image: np.ndarray) -> None:
        """Store a photo if there is room."""
        slot = self.take_slot()
        if slot is not None:
            self._picture(slot)[:] = image
            self.commit(path, stamp, slot)

    def take_slot(self) -> int | None:
        """Return a free slot, to be passed to `commit` or `give_back`, or None if there is none."""
        # A forked child has its own list of free slots, but they lie in its parent's memory.
        if self._full or self._pid != os.getpid():
            return None
        try:
            return self._free.pop() if self._free or self._add_segment() else None
        except OSError as error:
            self._full = True
            warnings.warn(
                f"The cache takes no more photos ({error.strerror or error}); the rest is decoded "
                "each time.",
                stacklevel=2,
            )
        return None

    def give_back(self, slot: int) -> None:
        """Take back a slot that was not used."""
        self._free.append(slot)

    def commit(self, path: str, stamp: Stamp, slot: int) -> None:
        """Record that a slot now holds a file's photo."""
        known = self._entries.get(path)
        if known and known.stamp == stamp:  # Another thread or process stored it first.
            self.give_back(slot)
        else:
            self._entries[path] = Entry(slot, stamp)

    def forget(self, path: str) -> None:
        """Drop the photo of a file that changed."""
        self._entries.pop(path, None)

    def location(self, slot: int) -> tuple[SharedMemory, int]:
        """Return a slot's segment and its offset in bytes within it."""
        segment, number = divmod(slot, self._slots_per_segment)
        return self._segments[segment], number * self._photo_bytes

    def drop(self) -> None:
        """Free all memory; store nothing from now on."""
        self._segments.clear()
        self._entries.clear()
        self._free.clear()
        self._full = True

    def _picture(self, slot: int) -> np.ndarray:
        memory, offset = self.location(slot)
        return memory.array(self.shape, offset=offset)

    def _add_segment(self) -> bool:
        if not self._cache.make_room(self._segment_bytes):
            return False
        self._segments.append(self._cache.new_segment(self._segment_bytes))
        first = (len(self._segments) - 1) * self._slots_per_segment
        self._free += reversed(range(first, first + self._slots_per_segment))
        return True


def stamp_of(path: str) -> Stamp | None:
    """Return a file's stamp, or None if there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def open_cache(option: bool | None, megabytes: float | None = None) -> Cache | None:
    """Return the process's cache for `cache=True`, None for None or False.

    `megabytes` sets its budget, also if it is open already.

    Raises:
        ValueError: the option is neither, or the budget is not positive.
    """
    global _cache
    if option is None or option is False:
        return None
    if option is not True:
        raise ValueError(f"cache={option!r}: give True, which keeps photos in memory, or None")
    if megabytes is not None and megabytes <= 0:
        raise ValueError(f"cache_mb={megabytes}: give a positive number of megabytes, or None")
    with _cache_lock:
        _cache = _cache or Cache()
    if megabytes is not None:
        _cache.budget = int(megabytes * (1 << 20))
    return _cache


def overflow_to(folder: Path) -> None:
    """Let the cache go on in files of a folder that end with the process."""
    open_cache(True).overflow_to(folder)


def _renew_locks() -> None:
    """Replace all locks, in a forked child where no thread is left that could release them."""
    global _cache_lock
    _cache_lock = threading.Lock()
    if _cache is not None:
        _cache.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
