"""Flows read side by side, such as pictures and their masks."""

import keras
import numpy as np

from ..iterator import Iterator


class ZippedFlows(keras.utils.PyDataset):
    """Batches of two or three flows as pairs or triples, as a Keras sequence and for ever.

    Like its flows it has `n`, `batch_size`, `epoch`, `next` and `reset`.
    """

    def __init__(self, *flows: Iterator):
        super().__init__()
        if len(flows) not in {2, 3} or not all(isinstance(flow, Iterator) for flow in flows):
            raise TypeError("zip_flows takes two or three flows: pictures, targets and weights")
        self.flows = flows
        self.n = self.samples = flows[0].n
        for other in flows[1:]:
            _check_that_they_match(flows[0], other)
        for flow in flows:
            if getattr(flow, "class_mode", None) or getattr(flow, "y", None) is not None:
                raise ValueError("A flow of zip_flows must have no labels: pass class_mode=None.")

    @property
    def batch_size(self) -> int:
        """The number of samples in a batch."""
        return self.flows[0].batch_size

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        for flow in self.flows:
            flow.batch_size = value

    @property
    def epoch(self) -> int:
        """The number of the current epoch."""
        return self.flows[0].epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        for flow in self.flows:
            flow.epoch = value

    def __len__(self) -> int:
        return len(self.flows[0])

    def __getitem__(self, idx: int) -> tuple:
        return tuple(flow[idx] for flow in self.flows)

    def batch(self, number: int) -> tuple:
        """Return a batch as Iterator.batch does."""
        return tuple(flow.batch(number) for flow in self.flows)

    def __iter__(self):
        return self

    def __next__(self) -> tuple:
        return tuple(next(flow) for flow in self.flows)

    next = __next__

    def reset(self) -> None:
        """Let `next` begin its epoch again."""
        for flow in self.flows:
            flow.reset()

    def on_epoch_begin(self) -> None:
        """Note that Keras begins an epoch."""
        for flow in self.flows:
            flow.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Advance to the next epoch."""
        for flow in self.flows:
            flow.on_epoch_end()


def _check_that_they_match(first: Iterator, other: Iterator) -> None:
    if other.n != first.n:
        raise ValueError(
            f"The flows have {first.n} and {other.n} samples: give each picture its target."
        )
    for name in ("batch_size", "shuffle", "drop_remainder"):
        one, two = getattr(first, name), getattr(other, name)
        if one != two:
            raise ValueError(f"The flows differ in {name}, {one} and {two}: make it equal.")
    if not np.array_equal(first.index_array, other.index_array):
        raise ValueError(
            "The flows visit their samples in different orders: give both augmentors the same "
            "seed, as in ImageDataAugmentor(seed=1)."
        )


def zip_flows(*flows: Iterator) -> ZippedFlows:
    """Return the batches of two or three flows as pairs or triples, for `fit`.

    Keras 3 refuses Python's zip(images, masks), which Keras 2 took. Raises ValueError for flows of
    different lengths, batch sizes or orders, and for flows with labels.
    """
    return ZippedFlows(*flows)
