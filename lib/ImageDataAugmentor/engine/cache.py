"""Decoded and resized photos in shared memory, within a budget: one cache for the process."""

import contextlib
import math
import os
import shutil
import threading
import warnings
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..reading import CHANNELS, ImageLoader
from .memory import SharedArray, SharedMemory, available_memory

# The budget is divided into about as many segments. Each needs a file descriptor, also in every
# worker process; what is not written yet takes no memory.
_SEGMENTS = 32
_LARGEST_SEGMENT = 1 << 28  # bytes: several sizes of photos share a large budget
# The part of the free memory or disk that a cache takes when no budget is given. The rest is left
# to the model, the batches and other programs.
_DEFAULT_FRACTION = 0.5

File = tuple[str, ImageLoader]  # a file, and the loader that reads it


@dataclass
class CachedPhotos:
    """The slots of the files of some samples. It can be sent to a worker process."""

    slots: dict[File, SharedArray] = field(default_factory=dict)
    filled: set[File] = field(default_factory=set)  # the files whose photos lie in their slots

    def picture(self, path: str, loader: ImageLoader) -> np.ndarray:
        """Return what `loader(path)` returns, by its slot if any. Raises UnreadableImage."""
        slot = self.slots.get((path, loader))
        if slot is None:
            return loader(path)
        picture = slot.array()
        if (path, loader) not in self.filled:
            picture[:] = loader(path)
            self.filled.add((path, loader))
        picture.flags.writeable = False
        return picture


class _Shelf:
    """The photos of one loader: slots of one size in segments of shared memory.

    A slot is written once, so that every process may go on reading a photo that it has found.
    """

    def __init__(self, loader: ImageLoader, budget: int):
        self.shape = (*loader.target_size, CHANNELS[loader.color_mode])
        photo = math.prod(self.shape)
        self.segment_bytes = max(1, min(budget // _SEGMENTS, _LARGEST_SEGMENT) // photo) * photo
        self.segments: list[SharedMemory] = []
        # By the path, the size in bytes and the modification time: a file that has changed since
        # is another one.
        self.photos: dict[tuple[str, int, int], SharedArray] = {}
        self.free: list[SharedArray] = []  # slots that were given back
        self.unused: Iterator[SharedArray] = iter(())  # slots of the newest segment
        self.users = weakref.WeakSet()

    def add(self, segment: SharedMemory) -> None:
        self.segments.append(segment)
        offsets = range(0, self.segment_bytes, math.prod(self.shape))
        self.unused = (SharedArray(segment, self.shape, offset=offset) for offset in offsets)

    def take(self) -> SharedArray | None:
        return self.free.pop() if self.free else next(self.unused, None)


class Cache:
    """Photos, each known by its file and its loader. A file that changed is read again.

    When the budget (bytes) is spent, photos whose loader no living iterator uses are dropped. The
    others stay: an epoch visits each photo once, so replacing one by another would gain nothing.
    The cache ends with the process.
    """

    def __init__(self):
        self.budget = self._memory_budget = int(available_memory() * _DEFAULT_FRACTION)
        self._overflow: Path | None = None
        self._full = False
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._shelves: dict[ImageLoader, _Shelf] = {}

    @property
    def _segments(self) -> list[SharedMemory]:
        return [one for shelf in self._shelves.values() for one in shelf.segments]

    @property
    def used(self) -> int:
        """Size in bytes of everything the cache holds."""
        return sum(segment.size for segment in self._segments)

    def register(self, loader: ImageLoader, user: object) -> None:
        """Keep the photos of `loader` for as long as `user` lives."""
        with self._lock:
            if loader not in self._shelves:
                self._shelves[loader] = _Shelf(loader, self.budget)
            self._shelves[loader].users.add(user)

    @contextlib.contextmanager
    def lend(self, files: Iterable[File]) -> Iterator[CachedPhotos]:
        """Lend the slots of these files, and free ones, which are the cache's once filled."""
        photos, new = CachedPhotos(), {}
        stamped = {file: _stamp(file[0]) for file in files}
        with self._lock:
            for file, stamp in stamped.items():
                shelf, key = self._shelves[file[1]], (file[0], *stamp)
                slot = shelf.photos.get(key)
                if slot:
                    photos.filled.add(file)
                elif stamp:
                    slot = self._free_slot(shelf)
                    new[file] = shelf, key, slot
                if slot:
                    photos.slots[file] = slot
        try:
            yield photos
        finally:
            with self._lock:
                for file, (shelf, key, slot) in new.items():
                    # Another thread may have stored it meanwhile.
                    if file in photos.filled and key not in shelf.photos:
                        shelf.photos[key] = slot
                    elif slot:
                        shelf.free.append(slot)

    def overflow_to(self, folder: Path) -> None:
        """Take a part of the free disk of `folder` too, once the budget of memory is spent."""
        if self._overflow is None:
            self._memory_budget = self.budget
            self.budget += int(shutil.disk_usage(folder).free * _DEFAULT_FRACTION)
        elif self._overflow.is_dir():
            return
        self._overflow, self._full = folder, False  # the one before ended with its run

    def _free_slot(self, shelf: _Shelf) -> SharedArray | None:
        # A forked child has its own list of free slots, but they lie in its parent's memory.
        if self._full or self._pid != os.getpid():
            return None
        slot = shelf.take()
        if slot is None and self._make_room(shelf.segment_bytes):
            try:
                shelf.add(self._new_segment(shelf.segment_bytes))
                slot = shelf.take()
            except OSError as error:
                self._full = True
                warnings.warn(
                    f"The cache takes no more photos ({error.strerror or error}); the rest is "
                    "decoded each time.",
                    stacklevel=2,
                )
        return slot

    def _make_room(self, size: int) -> bool:
        """Return whether `size` more bytes fit, dropping what no iterator uses if need be."""
        if self.used + size > self.budget:
            self._shelves = {key: shelf for key, shelf in self._shelves.items() if shelf.users}
        return self.used + size <= self.budget

    def _new_segment(self, size: int) -> SharedMemory:
        in_memory = sum(segment.size for segment in self._segments if not segment.on_disk)
        spent = self._overflow is not None and in_memory + size > self._memory_budget
        return SharedMemory(size, self._overflow if spent else None)


def _stamp(path: str) -> tuple[int, int] | tuple[()]:
    """Return a file's size in bytes and modification time in ns, or () if there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns


_cache: Cache | None = None


def open_cache(option: bool | None, megabytes: float | None = None) -> Cache | None:
    """Return the process's cache for `cache=True`, None for None or False.

    `megabytes` sets its budget, also if it is open already. Raises ValueError if the option is
    neither, or the budget is not positive.
    """
    global _cache
    if option is None or option is False:
        return None
    if option is not True:
        raise ValueError(f"cache={option!r}: give True, which keeps photos in memory, or None")
    if megabytes is not None and megabytes <= 0:
        raise ValueError(f"cache_mb={megabytes}: give a positive number of megabytes, or None")
    _cache = _cache or Cache()
    if megabytes is not None:
        _cache.budget = int(megabytes * (1 << 20))
    return _cache


def lend(cache: Cache | None, pipeline, indices: list[int]):
    """Return the context of Cache.lend for the files of samples, which gives None without cache."""
    return contextlib.nullcontext() if cache is None else cache.lend(pipeline.files(indices))


def overflow_to(folder: Path) -> None:
    """Let the cache go on in files of a folder that end with the process."""
    open_cache(True).overflow_to(folder)


def _renew_lock() -> None:
    """Replace the lock, in a forked child where no thread is left that could release it."""
    if _cache is not None:
        _cache._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
