"""What Keras 3 does otherwise than Keras 2 with flows, mended or explained.

Keras has no public way to do this, so its own class is changed. A version that has no such class
goes without.
"""

import functools
import inspect
import math

import keras

from ..iterator import Iterator
from .zipping import ZippedFlows

try:
    from keras.src.trainers.epoch_iterator import EpochIterator
except ImportError:
    EpochIterator = None


def prepare_data() -> None:
    """Let fit, evaluate and predict make of a flow as many steps as they are asked for.

    Keras 3 would continue a flow where the last epoch ended, and end the epoch with the flow:
    8 batches and steps_per_epoch=7 would give epochs of 7, 1, 7 and 1 batches. Also make the error
    for the result of zip name the way out.
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
    """The first batches of each epoch of a flow, or all of them and some of the next epochs'.

    Arguments:
        flow: what the batches are taken from.
        steps: the number of batches in an epoch of Keras.
    """

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


class _Dropped:
    """Stands for a method that keras.Model no longer has."""

    def __init__(self, name: str, instead: str):
        self._name, self._instead = name, instead

    def __get__(self, model, owner):
        raise AttributeError(
            f"Keras 3 has no {self._name}: write model.{self._instead}(flow, ...) with the same "
            "arguments, but without workers, use_multiprocessing and max_queue_size.",
            name=self._name,
            obj=model or owner,
        )


def explain_generator_methods() -> None:
    """Make the AttributeError for model.fit_generator and the like name their successor."""
    for instead in ("fit", "evaluate", "predict"):
        name = f"{instead}_generator"
        if not hasattr(keras.Model, name):
            setattr(keras.Model, name, _Dropped(name, instead))
