"""The process in which networks are tried: it takes real steps of training, and times them.

A preflight orders a `Trial`; the scout has orders of its own (`kernelkit.train.scouting`).
"""

import dataclasses
import gc
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.client import device_lib  # nothing else knows the limit of memory

from kernelkit.config.members import at_scale
from kernelkit.core.problem import Problem
from kernelkit.data.batches import make_iterator
from kernelkit.data.tables import PhotoTables
from kernelkit.train.backbones import flat_layers, is_block, unfreeze
from kernelkit.train.devices import OutOfMemory, make_strategy, predict_batches, share, shared_batch
from kernelkit.train.ema import Average
from kernelkit.train.presets import block_bytes
from kernelkit.train.step_mode import StepMode, set_precision

WARM_UP = 1  # passes over a trial's photos before those that are timed
TIMED = 3  # passes that are timed
BATCHES = 4  # in a pass
WORKED, NO_MEMORY = "worked", "out of memory"
TOO_LARGE = "too large for the memory (computed)"
LEAST_AT_ONCE = 4  # photos of a transformer, below which its blocks had better be recomputed
WEIGHT_BYTES = 20  # of a weight: itself, its gradient, Adam's two averages, and its own average
NOTHING = {"images_per_second": None, "peak_bytes": None, "predict": None}  # of a failed trial


@dataclass(frozen=True)
class StepFactory:
    """The functions that make a step of training; they are at the top level of a module."""

    weights: Callable  # settings to the file of the backbone's weights; None for random ones
    build: Callable  # (settings, number of classes, that file) to a network
    compile: Callable  # (settings, network, stage, learning rate, StepMode) to a compiled model
    augment: Callable  # settings to the training's augmentation


@dataclass(frozen=True)
class Trial:
    """Steps to take: in one mode, of one network, in one stage."""

    mode: StepMode
    member: str  # its name
    config: object  # the member's settings, of its full size
    stage: object  # of its schedule
    trains: bool = True  # takes steps of training; else it predicts

    def row(self) -> dict:
        """Return the fields of `State.preflight`'s rows that describe the trial."""
        return dataclasses.asdict(self.mode) | {
            "member": self.member,
            "stage": self.stage.name if self.trains else "prediction",
            "image_size": list(at_scale(self.config, self.stage.scale).image_size),
        }

    def take(self, tables: PhotoTables, factory: StepFactory) -> dict:
        """Take the steps; return images_per_second or predict, and peak_bytes."""
        with begin(self.mode, self.config.seed).scope():
            batch_size = shared_batch(self.config.batch_size)
            sized = at_scale(self.config, self.stage.scale)
            sized = dataclasses.replace(sized, batch_size=batch_size)
            some = sample(tables, batch_size)
            network = factory.build(sized, len(tables.competition.classes), factory.weights(sized))
            if self.trains:
                stopwatch, epochs = Stopwatch(), WARM_UP + TIMED
                train_briefly(self, sized, some, network, factory, epochs, [stopwatch])
                found = {"images_per_second": TIMED * len(some.train) / stopwatch.seconds}
                if not all(np.isfinite(weight).all() for weight in network.get_weights()):
                    raise WrongNumbers("a weight is not finite")
            else:
                flow = make_iterator(sized, some, some.train.drop(columns="label"))
                for _ in range(2):  # the second pass finds the photos decoded
                    began = time.monotonic()
                    predict_batches(network, flow)
                found = {"predict": flow.n / (time.monotonic() - began)}
        return found | {"peak_bytes": peak_bytes()}


class WrongNumbers(Exception):
    """A step left a loss or a weight that is no finite number."""


class TooLarge(Exception):
    """A step needs more memory than there is, by computation; its argument may be photos enough."""


class Stopwatch(keras.callbacks.Callback):
    """Times the passes after the first ones, and looks at every loss."""

    def on_train_batch_end(self, batch, logs=None):  # noqa: D102
        if not math.isfinite(logs["loss"]):
            raise WrongNumbers(f"the loss is {logs['loss']}")

    def on_epoch_end(self, epoch, logs=None):  # noqa: D102
        if epoch + 1 == WARM_UP:
            self.began = time.monotonic()
        self.seconds = time.monotonic() - self.began if epoch + 1 > WARM_UP else math.inf


def serve(orders, tables: PhotoTables, factory: StepFactory, printed: Path) -> None:
    """Answer each trial that comes over a connection; libraries' output goes to a file."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with printed.open("w") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
        os.dup2(file.fileno(), sys.stdout.fileno())
    orders.send("ready")
    while True:
        try:
            trial = orders.recv()
        except EOFError:
            return
        orders.send(answer(trial, tables, factory))


def _end_with_parent() -> None:
    connection.wait([parent_process().sentinel])
    os._exit(1)


def answer(order, tables: PhotoTables, factory: StepFactory) -> dict:
    """Return the outcome of an order: images_per_second, peak_bytes, predict (photos a second).

    An order has `take`, as a `Trial` has. Where the outcome is TOO_LARGE it has `fits` too: how
    many photos at once may fit, or 0 where blocks had better be recomputed.
    """
    try:
        return NOTHING | {"outcome": WORKED} | order.take(tables, factory)
    except (OutOfMemory, MemoryError):
        return NOTHING | {"outcome": NO_MEMORY}
    except TooLarge as large:
        return NOTHING | {"outcome": TOO_LARGE, "fits": large.args[0]}
    except WrongNumbers as wrong:
        return NOTHING | {"outcome": f"wrong numbers: {wrong}"}
    except Problem as problem:
        return NOTHING | {"outcome": str(problem)}
    except Exception as error:
        text = " ".join(str(error).split())[:120]
        return NOTHING | {"outcome": f"failed: {type(error).__name__}: {text}"}


def begin(mode: StepMode, seed: int) -> tf.distribute.Strategy:
    """Forget the network before, take a mode's precision, and return its strategy."""
    keras.utils.clear_session()
    gc.collect()
    set_precision(mode.precision)
    keras.utils.set_random_seed(seed)
    for gpu in _gpus():
        tf.config.experimental.reset_memory_stats(gpu)
    return make_strategy(mode.devices)


def peak_bytes() -> int | None:
    """Return the most memory that a GPU has taken since `begin`; None without a GPU."""
    peaks = [tf.config.experimental.get_memory_info(gpu)["peak"] for gpu in _gpus()]
    return max(peaks, default=None)


def _gpus() -> list[str]:
    return [f"GPU:{number}" for number in range(len(tf.config.list_logical_devices("GPU")))]


def sample(tables: PhotoTables, batch_size: int) -> PhotoTables:
    """Return tables whose training photos make BATCHES whole batches."""
    rows = np.resize(np.random.default_rng(0).permutation(len(tables.train)), BATCHES * batch_size)
    return dataclasses.replace(tables, train=tables.train.iloc[rows].reset_index(drop=True))


def train_briefly(
    order, config, tables: PhotoTables, network, factory: StepFactory, epochs: int, callbacks: list
) -> Average:
    """Train a network in an order's stage and mode; return the average of its weights.

    After the first pass photos are found decoded, as in most epochs of a run. Raises TooLarge if so
    many photos at once do not fit into a device's memory, by computation.
    """
    stage, mode = order.stage, order.mode
    unfreeze(config, network.get_layer("backbone"), stage)
    devices = device_lib.list_local_devices()
    limits = [device.memory_limit for device in devices if device.device_type == "GPU"]
    recompute, limit = mode.recompute, min(limits, default=math.inf)
    fits = photos_that_fit(network, limit, recompute)
    if fits < mode.at_once(config.batch_size) > 1:
        better = fits < LEAST_AT_ONCE and fits < photos_that_fit(network, limit, True)
        raise TooLarge(0 if better and not recompute else fits)
    model = factory.compile(config, network, stage, stage.learning_rate, mode)
    flow = make_iterator(config, tables, tables.train, factory.augment(config), shuffle=True)
    average = Average(network, config.ema)
    model.optimizer.build(model.trainable_variables)
    batches, callbacks = share(flow.as_tf_dataset()), [average, *callbacks]
    model.fit(batches, epochs=epochs, callbacks=callbacks, verbose=0)
    return average


def activation_bytes(network: keras.Model, recompute: bool = False) -> int:
    """Return the bytes that are kept of one photo for the backward pass.

    That is the output of each layer from the first that trains, and all that a transformer's blocks
    keep; where they `recompute`, their inputs and what one block keeps.
    """
    layers = flat_layers(network)
    first = next((n for n, layer in enumerate(layers) if layer.trainable_weights), len(layers))
    kept = [layer for layer in layers[first:] if layer._inbound_nodes and not is_block(layer)]
    outputs = [output for layer in kept for output in tf.nest.flatten(layer.output)]
    whole = sum(math.prod(o.shape[1:]) * np.dtype(o.dtype).itemsize for o in outputs)
    blocks = sum(map(is_block, layers[first:]))
    if not blocks:
        return whole
    one, entry = block_bytes(network)
    return whole + (blocks * entry + one if recompute else blocks * one)


def photos_that_fit(network: keras.Model, limit: float, recompute: bool = False) -> int:
    """Return how many photos at once fit into `limit` bytes, at most; 1 where not even one does."""
    free = limit - WEIGHT_BYTES * network.count_params()
    kept = max(1, activation_bytes(network, recompute))
    return max(1, int(min(free / kept, sys.maxsize)))
