"""How Keras 3 differs from Keras 2 in reading flows, corrected or explained in errors.

Keras has no public way to do this, so its own class is changed, if it has that class.
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
