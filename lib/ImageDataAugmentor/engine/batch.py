"""The arrays of one batch, filled sample by sample, in this process or in others."""

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .shared_memory import Buffers, SharedMemory

_ALIGNMENT = 64  # bytes: the size of a cache line of the processor


@dataclass(frozen=True)
class ArraySpec:
    """The shape and the dtype of one sample in an array of samples."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def size(self, n: int) -> int:
        """Return the size in bytes of n samples, rounded up to whole cache lines."""
        size = n * math.prod(self.shape) * self.dtype.itemsize
        return -(-size // _ALIGNMENT) * _ALIGNMENT


BatchSpec = tuple[ArraySpec | None, ...]  # (x, y), where y may be None


class Batch:
    """The arrays (x, y) of n samples, allocated when their spec is known.

    With a `spec`, which an earlier batch had, and `buffers`, the arrays lie in memory that other
    processes can fill. Otherwise the first sample determines the spec.
    """

    def __init__(
        self, n: int, dtypes: tuple, spec: BatchSpec | None = None, buffers: Buffers | None = None
    ):
        self.n, self._dtypes = n, dtypes
        self._lock = threading.Lock()
        self.arrays: list[np.ndarray | None] | None = None
        self.memory: SharedMemory | None = None
        self.spec = spec
        lent = buffers.borrow(sum(part.size(n) for part in spec if part)) if buffers else None
        if lent:
            self.memory, whole = lent
            self.arrays = arrays_in(whole, spec, n)

    def put(self, position: int, sample: tuple) -> None:
        """Copy one sample (x, y) into the arrays; y may be None."""
        with self._lock:
            if self.arrays is None:
                self.spec = tuple(map(_spec_of, sample, self._dtypes))
                self.arrays = [
                    None if part is None else np.empty((self.n, *part.shape), part.dtype)
                    for part in self.spec
                ]
        put(self.arrays, position, sample)


def slots(arrays: list[np.ndarray | None] | None, positions: range) -> Iterable:
    """Return where the pictures of these samples belong: views of x, or None if x is not known."""
    if arrays is None:
        return [None] * len(positions)
    return arrays[0][positions.start : positions.stop]


def put(arrays: list[np.ndarray | None], position: int, sample: tuple) -> None:
    """Copy one sample into the arrays of its batch. Raises ValueError if its shape differs."""
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
    """Return whether `part` already lies in its slot; a view such as x[..., ::-1] does not."""
    return (
        isinstance(part, np.ndarray)
        and isinstance(slot, np.ndarray)
        and (part.dtype, part.strides) == (slot.dtype, slot.strides)
        and part.__array_interface__["data"] == slot.__array_interface__["data"]
    )


def arrays_in(whole: np.ndarray, spec: BatchSpec, n: int) -> list[np.ndarray | None]:
    """Return the arrays of n samples as views of the bytes of a buffer."""
    arrays: list[np.ndarray | None] = []
    start = 0
    for part in spec:
        if part is None:
            arrays.append(None)
            continue
        end = start + n * math.prod(part.shape) * part.dtype.itemsize
        arrays.append(whole[start:end].view(part.dtype).reshape(n, *part.shape))
        start += part.size(n)
    return arrays


def _spec_of(sample, dtype) -> ArraySpec | None:
    if sample is None:
        return None
    own = np.asarray(sample).dtype
    if own.kind in "SU":  # A fixed length would cut off the longer text of another sample.
        own = np.dtype(object)
    if dtype is not None and own.kind != "b" and not np.can_cast(own, dtype, "same_kind"):
        raise ValueError(
            f"dtype={dtype!r} would cut off the {own} values that preprocessing gives; "
            "ask for a float dtype."
        )
    return ArraySpec(np.shape(sample), np.dtype(dtype or own))
