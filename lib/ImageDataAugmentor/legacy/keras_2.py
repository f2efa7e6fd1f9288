"""How Keras 3 differs from Keras 2 in reading flows, corrected or explained in errors; zip_flows.

Keras has no public way to do this, so its own class is changed, if it has that class.
"""

import functools
import inspect
import math

import keras
import numpy as np

from ..iterator import Iterator

try:
    from keras.src.trainers.epoch_iterator import EpochIterator
except ImportError:
    EpochIterator = None


def _shared(name: str) -> property:
    """Return a property that is that of the first flow, and is set for all."""

    def set_all(self, value) -> None:
        for flow in self.flows:
            setattr(flow, name, value)

    return property(lambda self: getattr(self.flows[0], name), set_all)


def _on_all(name: str):
    """Return a method that calls that of each flow."""

    def call(self) -> None:
        for flow in self.flows:
            getattr(flow, name)()

    return call


class ZippedFlows(keras.utils.PyDataset):
    """Batches of two or three flows as pairs or triples, with a flow's methods and attributes."""

    batch_size, epoch = _shared("batch_size"), _shared("epoch")
    reset, on_epoch_begin = _on_all("reset"), _on_all("on_epoch_begin")
    on_epoch_end = _on_all("on_epoch_end")

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


def prepare_data() -> None:
    """Let fit, evaluate and predict take as many steps of a flow as they are asked for.

    Keras 3 would continue a flow where the last epoch ended, and end the epoch with the flow:
    8 batches and steps_per_epoch=7 would give epochs of 7, 1, 7 and 1 batches. The error for the
    result of zip names zip_flows.
    """
    if EpochIterator is None:
        return
    original = EpochIterator.__init__
    signature = inspect.signature(original)

    @functools.wraps(original)
    def init(self, *args, **kwargs):
        given = signature.bind(self, *args, **kwargs)
        data, steps = given.arguments.get("x"), given.arguments.get("steps_per_epoch")
        if isinstance(data, zip):
            raise ValueError(
                "Keras 3 does not take the result of zip: write zip_flows(images, masks), "
                "after `from ImageDataAugmentor import zip_flows`."
            )
        if steps and isinstance(data, (Iterator, ZippedFlows)) and len(data):
            # Old notebooks also pass fractions, such as len(x_train) / 32.
            given.arguments["steps_per_epoch"] = steps = math.ceil(steps)
            given.arguments["x"] = Steps(data, steps)
        original(*given.args, **given.kwargs)

    EpochIterator.__init__ = init


class Steps(keras.utils.PyDataset):
    """Epochs of `steps` batches of a flow: the first of its own epochs, or several of these."""

    def __init__(self, flow: Iterator | ZippedFlows, steps: int):
        super().__init__(flow.workers, flow.use_multiprocessing, flow.max_queue_size)
        self.flow, self.steps = flow, steps
        self._within_epoch = False

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, idx: int):
        return self.flow.batch(idx)

    def on_epoch_begin(self) -> None:
        """Note that Keras begins an epoch."""
        self._within_epoch = True
        self.flow.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Advance to the first epoch of which nothing was read."""
        if self._within_epoch:
            self.flow.epoch += -(-self.steps // len(self.flow)) - 1
        self._within_epoch = False
        self.flow.on_epoch_end()


def explain_generator_methods() -> None:
    """Let the AttributeError for model.fit_generator and the like name their successor."""
    for method in ("fit", "evaluate", "predict"):

        def refuse(model, method=method):
            raise AttributeError(
                f"Keras 3 has no {method}_generator: write model.{method}(flow, ...) with the same "
                "arguments, but without workers, use_multiprocessing and max_queue_size."
            )

        if not hasattr(keras.Model, f"{method}_generator"):
            setattr(keras.Model, f"{method}_generator", property(refuse))
