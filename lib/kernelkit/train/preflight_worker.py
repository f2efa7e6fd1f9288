"""The child process of a preflight: it takes real steps of training, and times them."""

import dataclasses
import gc
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kernelkit.config.members import at_scale
from kernelkit.data.batches import make_iterator
from kernelkit.data.tables import PhotoTables
from kernelkit.train.backbones import unfreeze
from kernelkit.train.devices import OutOfMemory, make_strategy
from kernelkit.train.ema import Averaging
from kernelkit.train.memory import memory_limit, photos_that_fit
from kernelkit.train.precision import set_precision
from kernelkit.train.sharing import predict, share
from kernelkit.train.step_mode import Candidate

WARM_UP = 1  # passes over a trial's photos before those that are timed
TIMED = 3  # passes that are timed
BATCHES = 4  # in a pass
WORKED, NO_MEMORY = "worked", "out of memory"
TOO_LARGE = "too large for the memory (computed)"
READY = "ready"


@dataclass(frozen=True)
class Makers:
    """What makes a step of training: functions at the top level of a module."""

    weights: Callable
    """Settings to the file of the backbone's weights; None for random ones."""
    build: Callable
    """(settings, number of classes, that file) to a network."""
    compile: Callable
    """(settings, network, stage, learning rate, candidate) to the model that `fit` trains."""
    augment: Callable
    """Settings to the training's augmentation."""


@dataclass(frozen=True)
class Trial:
    """Steps to take: in one way, of one network, in one stage."""

    candidate: Candidate
    member: str
    """Its name."""
    config: object
    """The member's settings, of its full size."""
    stage: object
    """Of its schedule."""
    steps: bool = True
    """Whether steps of training are taken; else a prediction is made."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the photos."""
        return at_scale(self.config, self.stage.scale).image_size

    def row(self) -> dict:
        """Return what is tried, as the rows of `State.preflight` have it."""
        return dataclasses.asdict(self.candidate) | {
            "member": self.member,
            "stage": self.stage.name if self.steps else "prediction",
            "image_size": list(self.size),
            "recompute": False,
        }


class WrongNumbers(Exception):
    """A step left a loss or a weight that is no finite number."""


class TooLarge(Exception):
    """A step needs more memory than there is, by computation; `fits` photos at once may not."""

    def __init__(self, fits: int):
        super().__init__()
        self.fits = fits


class Stopwatch(keras.callbacks.Callback):
    """Times the passes after the first ones, and looks at every loss."""

    def on_train_batch_end(self, batch, logs=None):  # noqa: D102
        if not math.isfinite(logs["loss"]):
            raise WrongNumbers(f"the loss is {logs['loss']}")

    def on_epoch_end(self, epoch, logs=None):  # noqa: D102
        if epoch + 1 == WARM_UP:
            self.began = time.monotonic()
        self.seconds = time.monotonic() - self.began if epoch + 1 > WARM_UP else math.inf


def serve(connection, tables: PhotoTables, makers: Makers, said: Path) -> None:
    """Take the trials that come over a connection, and answer each with a dict.

    Args:
        connection: of multiprocessing; it brings `Trial`s.
        tables: the photos.
        makers: make the steps.
        said: a file for what libraries print in this process.
    """
    watch_parent()
    with said.open("w") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
        os.dup2(file.fileno(), sys.stdout.fileno())
    connection.send(READY)
    while True:
        try:
            trial = connection.recv()
        except EOFError:
            return
        connection.send(answer(trial, tables, makers))


def watch_parent() -> None:
    """Make this process the first of a group, and end it when its parent ends."""
    from multiprocessing import connection, parent_process

    def wait() -> None:
        connection.wait([parent_process().sentinel])
        os._exit(1)

    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    threading.Thread(target=wait, daemon=True).start()


def answer(trial: Trial, tables: PhotoTables, makers: Makers) -> dict:
    """Return what became of a trial: outcome, images_per_second, peak_bytes and predict.

    Where the outcome is TOO_LARGE it has `fits` too: how many photos at once may fit.
    """
    row = {"outcome": WORKED, "images_per_second": None, "peak_bytes": None, "predict": None}
    try:
        return row | measure(trial, tables, makers)
    except (OutOfMemory, MemoryError):
        return row | {"outcome": NO_MEMORY}
    except TooLarge as large:
        return row | {"outcome": TOO_LARGE, "fits": large.fits}
    except WrongNumbers as wrong:
        return row | {"outcome": f"wrong numbers: {wrong}"}
    except Exception as error:
        text = " ".join(str(error).split())[:120]
        return row | {"outcome": f"failed: {type(error).__name__}: {text}"}


def measure(trial: Trial, tables: PhotoTables, makers: Makers) -> dict:
    """Take the steps of a trial; return images_per_second, peak_bytes and predict.

    Raises:
        WrongNumbers: a loss or a weight is no finite number.
        OutOfMemory: the memory of a device did not suffice.
    """
    keras.utils.clear_session()
    gc.collect()
    set_precision(trial.candidate.precision)
    keras.utils.set_random_seed(trial.config.seed)
    strategy, config = make_strategy(trial.candidate.devices), trial.config
    forget_peaks()
    with strategy.scope():
        replicas = strategy.num_replicas_in_sync
        batch_size = -(-config.batch_size // replicas) * replicas
        sized = dataclasses.replace(at_scale(config, trial.stage.scale), batch_size=batch_size)
        some = sample(tables, batch_size)
        network = makers.build(sized, len(tables.competition.classes), makers.weights(sized))
        if trial.steps:
            found = {"images_per_second": train(trial, sized, some, network, makers)}
            if not all(np.isfinite(weight).all() for weight in network.get_weights()):
                raise WrongNumbers("a weight is not finite")
        else:
            found = {"predict": predicted_per_second(sized, some, network)}
    return found | {"peak_bytes": peak_bytes()}


def sample(tables: PhotoTables, batch_size: int) -> PhotoTables:
    """Return tables whose training photos make BATCHES whole batches."""
    rows = np.resize(np.random.default_rng(0).permutation(len(tables.train)), BATCHES * batch_size)
    return dataclasses.replace(tables, train=tables.train.iloc[rows].reset_index(drop=True))


def train(trial: Trial, config, tables: PhotoTables, network, makers: Makers) -> float:
    """Take the steps; return the photos a second of those that are timed.

    Photos come through the real pipeline; the timed passes find them decoded, as most epochs do.

    Raises:
        TooLarge: it is not worth an attempt.
    """
    unfreeze(config, network.get_layer("backbone"), trial.stage)
    fits = photos_that_fit(network, memory_limit())
    if fits < trial.candidate.at_once(config.batch_size) > 1:
        raise TooLarge(fits)
    model = makers.compile(config, network, trial.stage, trial.stage.learning_rate, trial.candidate)
    flow = make_iterator(config, tables, tables.train, makers.augment(config), shuffle=True)
    stopwatch = Stopwatch()
    average = [Averaging(network, config.ema, 0, None)] if config.ema else []
    model.optimizer.build(model.trainable_variables)
    model.fit(
        share(flow.as_tf_dataset()),
        epochs=WARM_UP + TIMED,
        callbacks=[*average, stopwatch],
        verbose=0,
    )
    return TIMED * flow.n / stopwatch.seconds


def predicted_per_second(config, tables: PhotoTables, network) -> float:
    """Return how many photos a second the network predicts, which are decoded already."""
    flow = make_iterator(config, tables, tables.train.drop(columns="label"))
    for _ in range(2):
        began = time.monotonic()
        predict(network, flow)
    return flow.n / (time.monotonic() - began)


def gpus() -> list[str]:
    """Return the names by which TensorFlow knows the memory of the GPUs."""
    return [f"GPU:{number}" for number in range(len(tf.config.list_logical_devices("GPU")))]


def forget_peaks() -> None:
    """Begin to note the most memory that is in use on each GPU."""
    for gpu in gpus():
        tf.config.experimental.reset_memory_stats(gpu)


def peak_bytes() -> int | None:
    """Return the most memory in use on any GPU since `forget_peaks`; None without GPUs."""
    peaks = [tf.config.experimental.get_memory_info(gpu)["peak"] for gpu in gpus()]
    return max(peaks, default=None)
