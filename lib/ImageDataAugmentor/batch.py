"""The arrays of one batch, filled sample by sample, by this process or by others."""

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .memory import Buffers, SharedMemory

_ALIGNMENT = 64  # bytes: a cache line


@dataclass(frozen=True)
class Part:
    """The pictures, or the targets, of a batch: one sample's shape, and the dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def size(self, n: int) -> int:
        """Bytes of n samples."""
        size = n * math.prod(self.shape) * self.dtype.itemsize
        return -(-size // _ALIGNMENT) * _ALIGNMENT


Layout = tuple[Part | None, ...]  # of (x, y); y may be missing


class Batch:
    """The arrays (x, y) of n samples, allocated when their layout is known.

    With a layout from an earlier batch and `buffers` they lie in memory that other processes can
    fill; otherwise the first sample tells the layout.
    """

    def __init__(
        self, n: int, dtypes: tuple, layout: Layout | None = None, buffers: Buffers | None = None
    ):
        self.n, self._dtypes = n, dtypes
        self._lock = threading.Lock()
        self.arrays: list[np.ndarray | None] | None = None
        self.memory: SharedMemory | None = None
        self.layout = layout
        lent = buffers.borrow(sum(part.size(n) for part in layout if part)) if buffers else None
        if lent:
            self.memory, whole = lent
            self.arrays = arrays_in(whole, layout, n)

    def put(self, position: int, sample: tuple) -> None:
        """Copy one sample's (x, y) in; y may be None."""
        with self._lock:
            if self.arrays is None:
                self.layout = tuple(map(_part, sample, self._dtypes))
                self.arrays = [
                    None if part is None else np.empty((self.n, *part.shape), part.dtype)
                    for part in self.layout
                ]
        put(self.arrays, position, sample)


def slots(arrays: list[np.ndarray | None] | None, positions: range) -> Iterable:
    """Where the pictures of these samples belong; Nones while that is not known."""
    if arrays is None:
        return [None] * len(positions)
    return arrays[0][positions.start : positions.stop]


def put(arrays: list[np.ndarray | None], position: int, sample: tuple) -> None:
    """Copy one sample into the arrays of its batch; ValueError where its shape is another."""
    for array, part in zip(arrays, sample, strict=True):
        if array is None:
            continue
        if np.shape(part) != array.shape[1:]:
            raise ValueError(
                "A batch needs samples of one shape, but the transforms gave "
                f"{np.shape(part)} and {array.shape[1:]}; end `augment` with "
                "albumentations.Resize(height, width)."
            )
        if not _is_same(part, array[position]):
            array[position] = part


def _is_same(part, slot) -> bool:
    """Whether a picture was made where it belongs; not so a view of it, as x[..., ::-1]."""
    return (
        isinstance(part, np.ndarray)
        and isinstance(slot, np.ndarray)
        and (part.dtype, part.strides) == (slot.dtype, slot.strides)
        and part.__array_interface__["data"] == slot.__array_interface__["data"]
    )


def arrays_in(whole: np.ndarray, layout: Layout, n: int) -> list[np.ndarray | None]:
    """The arrays of n samples within the bytes of a buffer."""
    arrays: list[np.ndarray | None] = []
    start = 0
    for part in layout:
        if part is None:
            arrays.append(None)
            continue
        end = start + n * math.prod(part.shape) * part.dtype.itemsize
        arrays.append(whole[start:end].view(part.dtype).reshape(n, *part.shape))
        start += part.size(n)
    return arrays


def _part(sample, dtype) -> Part | None:
    if sample is None:
        return None
    own = np.asarray(sample).dtype
    if own.kind in "SU":  # the next text may be longer
        own = np.dtype(object)
    if dtype is not None and own.kind != "b" and not np.can_cast(own, dtype, "same_kind"):
        raise ValueError(
            f"dtype={dtype!r} would cut off the {own} values that preprocessing gives; "
            "ask for a float dtype."
        )
    return Part(np.shape(sample), np.dtype(dtype or own))
