"""Memory: how much is free, and pieces of it that several processes map."""

import contextlib
import itertools
import math
import mmap
import os
import tempfile
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil

_MEGABYTE = 1 << 20
_KEPT_FREE = 8  # buffers to keep: about as many as there are batches in work
# A reader that keeps more batches than this gets ordinary arrays: each buffer is an open file, and
# macOS allows a process only 256 of them.
_LENT_AT_MOST = 96
_HAS_PROC = os.path.isdir("/proc/self/fd")
# The files of the limit, the usage and the statistics of a control group, and the prefix of the
# statistics that include its children: for version 2 of control groups, then for version 1.
_CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat", ""),
    (
        *("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
        *("memory/memory.stat", "total_"),
    ),
)
_numbers = itertools.count()
_attached: "dict[int, SharedMemory]" = {}


def available_memory(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many bytes this process may still take, by the host and its control group."""
    available = psutil.virtual_memory().available
    for limit, usage, statistics, prefix in _CGROUP_FILES:
        try:
            free = int((cgroups / limit).read_text()) - int((cgroups / usage).read_text())
        except (OSError, ValueError):  # There is no such group, or no limit ("max").
            continue
        # The usage includes cached files, which the system can reclaim. The statistic "file" would
        # be wrong for them: it includes shared memory, which cannot be reclaimed.
        with contextlib.suppress(OSError, ValueError):
            lines = [line.split() for line in (cgroups / statistics).read_text().splitlines()]
            names = {f"{prefix}inactive_file", f"{prefix}active_file"}
            free += sum(int(value) for name, value in lines if name in names)
        available = min(available, free)
    return max(available, 0)


class SharedMemory:
    """Memory that is freed when no process maps it any more, even after a kill.

    A pickled copy maps the same memory in another process, as long as its owner holds it.
    (multiprocessing.shared_memory is limited by the size of /dev/shm, often 64 MB in containers.)
    With a `folder` it is a nameless file there in place of main memory. Raises OSError when there
    is not enough.
    """

    living: ClassVar["weakref.WeakValueDictionary[int, SharedMemory]"] = (
        weakref.WeakValueDictionary()
    )

    def __init__(self, size: int, folder: Path | None = None):
        if folder is None and hasattr(os, "memfd_create"):
            file = os.fdopen(os.memfd_create("ImageDataAugmentor"), "r+b", buffering=0)
            file.truncate(size)
        else:
            make_file = tempfile.TemporaryFile if _HAS_PROC else tempfile.NamedTemporaryFile
            file = make_file(dir=folder)
            allocate(file, size)
        self.number, self.size, self.on_disk = next(_numbers), size, folder is not None
        self.path = f"/proc/{os.getpid()}/fd/{file.fileno()}" if _HAS_PROC else file.name
        self.bytes = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_WRITE)
        weakref.finalize(self, file.close).atexit = False
        self.living[self.number] = self

    def __reduce__(self):
        return _attach, (self.number, self.size, self.path)


def _attach(number: int, size: int, path: str) -> SharedMemory:
    """Map another process's memory, or return it if it is mapped already."""
    if number not in _attached:
        memory = SharedMemory.__new__(SharedMemory)
        memory.number, memory.size, memory.path = number, size, path
        with open(path, "r+b") as file:
            memory.bytes = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_WRITE)
        _attached[number] = memory
    return _attached[number]


def detach_all_but(numbers: frozenset[int]) -> None:
    """Unmap another process's memory, except that of these numbers."""
    for number in _attached.keys() - numbers:
        del _attached[number]


@dataclass(frozen=True)
class SharedArray:
    """An array in shared memory; it can be sent to another process."""

    memory: SharedMemory
    shape: tuple[int, ...]
    dtype: np.dtype | str = "uint8"
    offset: int = 0  # bytes

    def array(self) -> np.ndarray:
        """Return a view of it."""
        count = math.prod(self.shape)
        return np.frombuffer(self.memory.bytes, self.dtype, count, self.offset).reshape(self.shape)


class Buffers:
    """Memory for the arrays of batches. It is used again when nobody holds its array any more."""

    def __init__(self):
        # Finalizers may run at any time in any thread, so `_take_back` must not need a lock.
        self._free: deque[SharedMemory] = deque(maxlen=_KEPT_FREE)
        self._lent: set[int] = set()

    def borrow(
        self, shape: tuple[int, ...], dtype: np.dtype
    ) -> tuple[SharedArray, np.ndarray] | None:
        """Return an array, for other processes and for this one.

        Its memory is free again when the second and all its views are gone. Return None when the
        reader keeps so many batches that the process might run out of file descriptors.
        """
        if len(self._lent) >= _LENT_AT_MOST:
            return None
        memory, size = None, math.prod(shape) * dtype.itemsize
        while memory is None or memory.size < size:  # A smaller one was for another iterator.
            try:
                memory = self._free.popleft()
            except IndexError:
                memory = SharedMemory(size)
        self._lent.add(memory.number)
        shared = SharedArray(memory, shape, dtype)
        array = shared.array()
        weakref.finalize(array.base, self._take_back, memory).atexit = False
        return shared, array

    def _take_back(self, memory: SharedMemory) -> None:
        self._lent.discard(memory.number)
        self._free.append(memory)


def allocate(file, size: int) -> None:
    """Allocate `size` bytes on disk for an open, empty file. Raises OSError when it is full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, _MEGABYTE):
        file.write(bytes(min(_MEGABYTE, size - start)))
    file.flush()
