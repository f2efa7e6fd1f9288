"""Memory that several processes map. It has no name, so that nothing can be left behind."""

import itertools
import math
import mmap
import os
import tempfile
import weakref
from collections import deque

import numpy as np

_MEGABYTE = 1 << 20
_KEPT_FREE = 8  # Buffers to keep: about as many as there are batches in work.
# A reader that keeps more batches than this gets ordinary arrays: each buffer is an open file, and
# macOS allows a process only 256 of them.
_LENT_AT_MOST = 96
_numbers = itertools.count()


class SharedMemory:
    """A mapped file that other processes map by its descriptor.

    The system frees an anonymous one when no process maps it any more.
    """

    def __init__(self, descriptor: int, size: int, on_disk: bool = False):
        self.on_disk = on_disk
        self.number = next(_numbers)  # It identifies this memory in messages to other processes.
        self.descriptor, self.size = descriptor, size
        self._map = mmap.mmap(descriptor, size, access=mmap.ACCESS_WRITE)
        weakref.finalize(self, os.close, descriptor).atexit = False

    @classmethod
    def anonymous(cls, size: int) -> "SharedMemory":
        """Return new memory of `size` bytes. Raises OSError when there is none."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("ImageDataAugmentor")
            os.ftruncate(descriptor, size)
        else:
            with tempfile.TemporaryFile() as file:
                allocate(file, size)
                descriptor = os.dup(file.fileno())
        return cls(descriptor, size)

    def bytes(self) -> np.ndarray:
        """Return all bytes as one uint8 array, which is the base of all views of it."""
        return np.frombuffer(self._map, np.uint8)

    def array(self, shape: tuple[int, ...], dtype="uint8", offset: int = 0) -> np.ndarray:
        """Return the bytes from `offset` on as an array."""
        count = math.prod(shape)
        return np.frombuffer(self._map, dtype, count, offset).reshape(shape)


class Buffers:
    """Memory for batches. It is used again when nobody holds the batch any more."""

    def __init__(self):
        # Finalizers may run at any time in any thread, so `_take_back` must not need a lock.
        self._free: deque[SharedMemory] = deque(maxlen=_KEPT_FREE)
        self._lent: set[int] = set()

    def borrow(self, size: int) -> tuple[SharedMemory, np.ndarray] | None:
        """Return memory of at least `size` bytes, and an array of all its bytes.

        The memory is free again when the array and all its views are gone. Return None when the
        reader keeps so many batches that the process might run out of file descriptors.
        """
        if len(self._lent) >= _LENT_AT_MOST:
            return None
        memory = None
        while memory is None or memory.size < size:  # A smaller one was for another iterator.
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
    """Allocate `size` bytes on disk for an open, empty file. Raises OSError when it is full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, _MEGABYTE):
        file.write(bytes(min(_MEGABYTE, size - start)))
    file.flush()
