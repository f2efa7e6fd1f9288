"""What Keras 3 does otherwise than Keras 2 with flows, mended or explained.

Keras has no public way to do this, so its own class is changed. A version that has no such class
goes without.
"""

import functools

import keras

from .iterator import Iterator
from .zipping import ZippedFlows

try:
    from keras.src.trainers.epoch_iterator import EpochIterator
except ImportError:
    EpochIterator = None


def begin_each_epoch_anew() -> None:
    """Let each epoch of fit and each evaluation begin a flow anew.

    With fewer steps than batches Keras 3 would go on with the rest of the flow, then stop early:
    8 batches and steps_per_epoch=7 give epochs of 7, 1, 7 and 1 batches.
    """
    original = getattr(EpochIterator, "_enumerate_iterator", None)
    if original is None:
        return

    @functools.wraps(original)
    def enumerate_iterator(self):
        flow = getattr(self.data_adapter, "py_dataset", None)
        if isinstance(flow, (Iterator, ZippedFlows)):
            self._current_iterator = None
        return original(self)

    EpochIterator._enumerate_iterator = enumerate_iterator


def explain_zip() -> None:
    """Make the error for fit(zip(...)) name the way out."""
    if EpochIterator is None:
        return
    original = EpochIterator.__init__

    @functools.wraps(original)
    def init(self, *args, **kwargs):
        if isinstance(kwargs.get("x", args[0] if args else None), zip):
            raise ValueError(
                "Keras 3 does not take the result of zip: write zip_flows(images, masks), "
                "after `from ImageDataAugmentor import zip_flows`."
            )
        original(self, *args, **kwargs)

    EpochIterator.__init__ = init


class _Dropped:
    """Stands for a method that keras.Model no longer has."""

    def __init__(self, name: str, instead: str):
        self._name, self._instead = name, instead

    def __get__(self, model, owner):
        raise AttributeError(
            f"Keras 3 has no {self._name}: write model.{self._instead}(flow, ...), which takes a "
            "flow as it takes arrays, without workers and max_queue_size.",
            name=self._name,
            obj=model or owner,
        )


def explain_generator_methods() -> None:
    """Make the AttributeError for model.fit_generator and the like name their successor."""
    for instead in ("fit", "evaluate", "predict"):
        name = f"{instead}_generator"
        if not hasattr(keras.Model, name):
            setattr(keras.Model, name, _Dropped(name, instead))
