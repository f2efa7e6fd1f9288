"""Decoded and resized photos in memory-mapped files of a folder, within a budget."""

import dataclasses
import hashlib
import json
import shutil
import zlib
from pathlib import Path

from filelock import FileLock

from .memory import SharedMemory, allocate
from .photo_cache import DEFAULT_FRACTION, Cache, Entry, Section
from .reading import ImageLoader

_DESCRIPTION, _INDEX, _LOCK = "section.json", "index.jsonl", "writer.lock"


class FolderCache(Cache):
    """A cache in a folder, which outlives the process. Each loader has a sub-folder."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        # The sub-folders of loaders that this process has not used, and their sizes in bytes.
        self._leftovers = {
            section: sum(file.stat().st_size for file in section.iterdir())
            for section in folder.glob("*/")
            if (section / _DESCRIPTION).exists()
        }
        super().__init__(0)
        free = shutil.disk_usage(folder).free
        self.budget = int((free + self.used) * DEFAULT_FRACTION)

    @property
    def used(self) -> int:
        """Size in bytes of everything in the folder, including what earlier runs stored."""
        return super().used + sum(self._leftovers.values())

    def _drop_unused(self):
        super()._drop_unused()
        for folder in list(self._leftovers):
            lock = _try_to_lock(folder)
            if lock:
                shutil.rmtree(folder, ignore_errors=True)
                lock.release()
                del self._leftovers[folder]

    def _open_section(self, loader):
        fields = repr(dataclasses.astuple(loader))
        folder = self._folder / hashlib.sha256(fields.encode()).hexdigest()[:16]
        self._leftovers.pop(folder, None)
        return FolderSection(self, folder, loader)


class FolderSection(Section):
    """The photos of one loader in segment files, with an index to which lines are appended.

    Segments are allocated on the disk before they are mapped, so that a full disk is an error when
    a segment is made, not a crash when it is written to. The index lists a photo, with its
    checksum, after it was written. One process at a time writes; others read what was there when
    they opened the folder.
    """

    def __init__(self, cache: Cache, folder: Path, loader: ImageLoader):
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._lock = _try_to_lock(folder)
        super().__init__(cache, loader)
        description = folder / _DESCRIPTION
        if not description.exists():
            facts = {"records": self._slots_per_segment} | dataclasses.asdict(loader)
            description.write_text(json.dumps(facts))
        self._segments = self._map_segments()
        self._entries = self._read_index()
        taken = {entry.slot for entry in self._entries.values()}
        slots = len(self._segments) * self._slots_per_segment
        self._free = [slot for slot in range(slots) if slot not in taken]
        self._index = (folder / _INDEX).open("a", encoding="utf-8") if self._lock else None
        if self._index and self._index.tell():
            self._index.write("\n")  # Ends a line that a killed process may have left half written.

    def _choose_slots_per_segment(self):
        description = self._folder / _DESCRIPTION
        if description.exists():
            return json.loads(description.read_text())["records"]
        return super()._choose_slots_per_segment()

    def entry(self, path):
        """Return the entry of a file's photo, or None; also None if its checksum is wrong."""
        entry = super().entry(path)
        if entry and entry.crc is not None:
            if zlib.crc32(self._picture(entry.slot)) != entry.crc:
                self.forget(path)
                return None
            entry.crc = None
        return entry

    def take_slot(self):
        """Return a free slot as Section does, if this process may write."""
        return super().take_slot() if self._lock else None

    def commit(self, path, stamp, slot):
        """Record that a slot now holds a file's photo, for later processes too."""
        crc = zlib.crc32(self._picture(slot))
        entry = {"path": path, "size": stamp[0], "mtime": stamp[1], "slot": slot, "crc": crc}
        try:
            self._index.write(json.dumps(entry) + "\n")
            self._index.flush()
        except OSError as error:
            self._stop(error)
        super().commit(path, stamp, slot)

    def drop(self):
        """Remove the files; store nothing from now on."""
        super().drop()
        if self._lock:
            self._index.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._lock.release()

    def _map_segments(self) -> list[SharedMemory]:
        segments = []
        for path in sorted(self._folder.glob("segment-*.bin")):
            if path.stat().st_size == self._segment_bytes:
                writable = self._lock is not None
                segments.append(SharedMemory.of_file(path, self._segment_bytes, writable))
            elif self._lock:  # A process was killed while it allocated this file.
                path.unlink()
        return segments

    def _read_index(self) -> dict[str, Entry]:
        entries = {}
        index = self._folder / _INDEX
        lines = index.read_text(encoding="utf-8").splitlines() if index.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # A process was killed while it wrote this line.
                continue
            if entry["slot"] < len(self._segments) * self._slots_per_segment:
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
    """Create a file of `size` allocated bytes. Raises OSError when the disk is full."""
    with path.open("xb") as file:
        allocate(file, size)


def _try_to_lock(folder: Path) -> FileLock | None:
    """Lock a sub-folder for writing until this process ends; None if another process holds it."""
    lock = FileLock(folder / _LOCK, thread_local=False)  # Any thread may release it.
    try:
        lock.acquire(timeout=0)
    except (OSError, NotImplementedError):  # It is held, or this file system has no locks.
        return None
    return lock
