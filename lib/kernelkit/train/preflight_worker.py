"""The process of a preflight: it takes real steps of training, and times them."""

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
from kernelkit.data.batches import make_iterator
from kernelkit.data.tables import PhotoTables
from kernelkit.train.backbones import flat_layers, unfreeze
from kernelkit.train.devices import OutOfMemory, make_strategy, predict_batches, share
from kernelkit.train.ema import Average
from kernelkit.train.step_mode import StepMode, set_precision

WARM_UP = 1  # passes over a trial's photos before those that are timed
TIMED = 3  # passes that are timed
BATCHES = 4  # in a pass
WORKED, NO_MEMORY = "worked", "out of memory"
TOO_LARGE = "too large for the memory (computed)"
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
    """Take the trials that come over a connection, and answer each with a dict.

    The process ends with its parent, and is the first of a group. Libraries' output goes to the
    file `printed`.
    """
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


def answer(trial: Trial, tables: PhotoTables, factory: StepFactory) -> dict:
    """Return a trial's outcome, images_per_second, peak_bytes and predict (photos a second).

    Where the outcome is TOO_LARGE it has `fits` too: how many photos at once may fit.
    """
    try:
        return NOTHING | {"outcome": WORKED} | _measure(trial, tables, factory)
    except (OutOfMemory, MemoryError):
        return NOTHING | {"outcome": NO_MEMORY}
    except TooLarge as large:
        return NOTHING | {"outcome": TOO_LARGE, "fits": large.args[0]}
    except WrongNumbers as wrong:
        return NOTHING | {"outcome": f"wrong numbers: {wrong}"}
    except Exception as error:
        text = " ".join(str(error).split())[:120]
        return NOTHING | {"outcome": f"failed: {type(error).__name__}: {text}"}


def _measure(trial: Trial, tables: PhotoTables, factory: StepFactory) -> dict:
    """Take the steps of a trial; return images_per_second or predict, and peak_bytes."""
    keras.utils.clear_session()
    gc.collect()
    set_precision(trial.mode.precision)
    keras.utils.set_random_seed(trial.config.seed)
    strategy, config = make_strategy(trial.mode.devices), trial.config
    gpus = [f"GPU:{number}" for number in range(len(tf.config.list_logical_devices("GPU")))]
    for gpu in gpus:
        tf.config.experimental.reset_memory_stats(gpu)
    with strategy.scope():
        replicas = strategy.num_replicas_in_sync
        batch_size = -(-config.batch_size // replicas) * replicas
        sized = dataclasses.replace(at_scale(config, trial.stage.scale), batch_size=batch_size)
        some = sample(tables, batch_size)
        network = factory.build(sized, len(tables.competition.classes), factory.weights(sized))
        if trial.trains:
            found = {"images_per_second": _train(trial, sized, some, network, factory)}
            if not all(np.isfinite(weight).all() for weight in network.get_weights()):
                raise WrongNumbers("a weight is not finite")
        else:
            flow = make_iterator(sized, some, some.train.drop(columns="label"))
            for _ in range(2):  # the second pass finds the photos decoded
                began = time.monotonic()
                predict_batches(network, flow)
            found = {"predict": flow.n / (time.monotonic() - began)}
    peaks = [tf.config.experimental.get_memory_info(gpu)["peak"] for gpu in gpus]
    return found | {"peak_bytes": max(peaks, default=None)}


def sample(tables: PhotoTables, batch_size: int) -> PhotoTables:
    """Return tables whose training photos make BATCHES whole batches."""
    rows = np.resize(np.random.default_rng(0).permutation(len(tables.train)), BATCHES * batch_size)
    return dataclasses.replace(tables, train=tables.train.iloc[rows].reset_index(drop=True))


def _train(trial: Trial, config, tables: PhotoTables, network, factory: StepFactory) -> float:
    """Take the steps; return the photos a second of those that are timed.

    Photos come through the real pipeline; the timed passes find them decoded, as most epochs do.
    """
    unfreeze(config, network.get_layer("backbone"), trial.stage)
    devices = device_lib.list_local_devices()
    limits = [device.memory_limit for device in devices if device.device_type == "GPU"]
    fits = photos_that_fit(network, min(limits, default=math.inf))
    if fits < trial.mode.at_once(config.batch_size) > 1:
        raise TooLarge(fits)
    model = factory.compile(config, network, trial.stage, trial.stage.learning_rate, trial.mode)
    flow = make_iterator(config, tables, tables.train, factory.augment(config), shuffle=True)
    stopwatch = Stopwatch()
    model.optimizer.build(model.trainable_variables)
    model.fit(
        share(flow.as_tf_dataset()),
        epochs=WARM_UP + TIMED,
        callbacks=[Average(network, config.ema), stopwatch],
        verbose=0,
    )
    return TIMED * flow.n / stopwatch.seconds


def activation_bytes(network: keras.Model) -> int:
    """Return the bytes that are kept of one photo for the backward pass.

    That is the output of each layer from the first that trains.
    """
    layers = flat_layers(network)
    first = next((n for n, layer in enumerate(layers) if layer.trainable_weights), len(layers))
    return sum(
        math.prod(output.shape[1:]) * np.dtype(output.dtype).itemsize
        for layer in layers[first:]
        for output in tf.nest.flatten(layer.output)
    )


def photos_that_fit(network: keras.Model, limit: float) -> int:
    """Return how many photos at once fit into `limit` bytes, at most; 1 where not even one does."""
    free = limit - WEIGHT_BYTES * network.count_params()
    return max(1, int(min(free / max(1, activation_bytes(network)), sys.maxsize)))
