"""Memory that several processes map: without a name, so that nothing can be left behind."""

import itertools
import math
import mmap
import os
import tempfile
import weakref
from collections import deque
from pathlib import Path

import numpy as np

_MEGABYTE = 1 << 20
_KEPT_FREE = 8  # buffers: as many as batches are on their way
# A reader that keeps more batches gets copies: each is an open file, of which macOS allows 256.
_LENT_AT_MOST = 96
_numbers = itertools.count()


class SharedMemory:
    """A mapped file; other processes map it by its descriptor. It goes when nobody maps it."""

    def __init__(self, descriptor: int, size: int, writable: bool = True):
        self.number = next(_numbers)  # names it between two processes
        self.descriptor, self.size, self.writable = descriptor, size, writable
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map = mmap.mmap(descriptor, size, access=access)
        weakref.finalize(self, os.close, descriptor).atexit = False

    @classmethod
    def anonymous(cls, size: int) -> "SharedMemory":
        """New memory of `size` bytes; OSError when there is none."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("ImageDataAugmentor")
            os.ftruncate(descriptor, size)
        else:
            with tempfile.TemporaryFile() as file:
                allocate(file, size)
                descriptor = os.dup(file.fileno())
        return cls(descriptor, size)

    @classmethod
    def of_file(cls, path: Path, size: int, writable: bool) -> "SharedMemory":
        """A file's bytes."""
        mode = os.O_RDWR if writable else os.O_RDONLY
        return cls(os.open(path, mode | getattr(os, "O_BINARY", 0)), size, writable)

    def bytes(self) -> np.ndarray:
        """All bytes as the array that any view of it will have as its base."""
        return np.frombuffer(self._map, np.uint8)

    def array(self, shape: tuple[int, ...], dtype="uint8", offset: int = 0) -> np.ndarray:
        """An array over the bytes from `offset`."""
        count = math.prod(shape)
        return np.frombuffer(self._map, dtype, count, offset).reshape(shape)


class Buffers:
    """Memory for batches; a batch's serves again when nobody holds the batch any more."""

    def __init__(self):
        # Finalizers run anywhere, so that they can only use what needs no lock.
        self._free: deque[SharedMemory] = deque(maxlen=_KEPT_FREE)
        self._lent: set[int] = set()

    def borrow(self, size: int) -> tuple[SharedMemory, np.ndarray] | None:
        """Memory of at least `size` bytes, and its bytes, which give it back when they die.

        None when the reader keeps so many batches that their descriptors might run out.
        """
        if len(self._lent) >= _LENT_AT_MOST:
            return None
        memory = None
        while memory is None or memory.size < size:  # too small: of other pictures
            try:
                memory = self._free.popleft()
            except IndexError:
                memory = SharedMemory.anonymous(size)
        self._lent.add(memory.number)
        whole = memory.bytes()
        weakref.finalize(whole, self._take_back, memory).atexit = False
        return memory, whole

    def _take_back(self, memory: SharedMemory) -> None:
        self._lent.discard(memory.number)
        self._free.append(memory)


def allocate(file, size: int) -> None:
    """Give an open file blocks for all of its `size` bytes; OSError when the disk is full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, _MEGABYTE):
        file.write(bytes(min(_MEGABYTE, size - start)))
    file.flush()
