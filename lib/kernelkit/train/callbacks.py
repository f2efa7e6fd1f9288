"""The callbacks of a stage: its learning rate, validation after each epoch, and the checkpoint."""

import math
import time
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kernelkit.core.metrics import Metric, ValidationMetrics
from kernelkit.core.progress import EpochProgress, clock_text
from kernelkit.train.costs import Stage, epochs_of
from kernelkit.train.devices import predict_batches
from kernelkit.train.ema import Average
from kernelkit.train.optimizer import WarmCosine, cosine_span
from kernelkit.train.plan import Clock
from kernelkit.train.train_step import changed

LOWEST_RATE = 1e-7  # to which a plateau lowers the learning rate at most
NORM_BATCHES = 30  # on which BatchNorm's statistics are estimated anew
NORM_MOMENTUM = 0.9  # with which the last 20 of them count for nearly all
MEASURED = ("loss", "accuracy", "val_loss", "val_accuracy", "val_score", "val_error")
COUNTED = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")


def rate_callbacks(config, clock: Clock, steps: int) -> list[keras.callbacks.Callback]:
    """Return the callbacks that set the learning rate of the current stage, end it early or log.

    config.schedule is "cosine" over all stages, "restarts" with one each, or "plateau", whose
    patience and plateau_patience are in epochs. An epoch has so many `steps`.
    """
    state, stage = clock.state, clock.stages[clock.state.stage]
    if config.schedule == "plateau":
        mode = "max" if state.metric.greater else "min"
        factor, patience = config.plateau_factor, config.plateau_patience
        callbacks = [
            keras.callbacks.EarlyStopping("val_score", patience=config.patience, mode=mode),
            keras.callbacks.ReduceLROnPlateau("val_loss", factor, patience, min_lr=LOWEST_RATE),
        ]
    else:
        epochs = [0 if s.views else s.epochs for s in clock.stages]
        span = cosine_span(epochs, state.stage, config.schedule == "restarts")
        rate = state.learning_rate or stage.learning_rate
        callbacks = [WarmCosine(rate, config.warmup, steps, span)]
    if config.tensorboard:
        logs = state.folder.parent / "tensorboard" / f"{state.member}-{state.fold}-{stage.name}"
        callbacks.append(keras.callbacks.TensorBoard(logs, write_graph=False))
    return callbacks


class Validate(keras.callbacks.Callback):
    """Predicts the validation photos after each epoch; adds val_loss, ... to the epoch's logs.

    It comes before the callbacks that read val_loss, val_accuracy, val_score (the metric's value)
    and val_error (its standard error). All are NaN where the network predicts one. The `average` of
    its weights validates in their place. The network takes uint8 [n, h, w, 3]; `photos` and the
    training `batches`, on which config.reestimate has BatchNorm's statistics estimated anew, are
    iterators; `truth` is int [photos].
    """

    def __init__(
        self, config, network: keras.Model, average: Average, photos, truth, metric: Metric, batches
    ):
        super().__init__()
        self.config, self.network, self.average = config, network, average
        self.photos, self.batches, self.measure = photos, batches, ValidationMetrics(metric, truth)
        self.seconds = 0.0  # of the last prediction

    def on_epoch_end(self, epoch, logs):  # noqa: D102
        with self.average.in_network():
            if self.config.reestimate:
                estimate_norms(self.network, self.batches)
            began = time.monotonic()
            figures = self.measure(predict_batches(self.network, self.photos))
            self.seconds = time.monotonic() - began
        logs.update({f"val_{name}": value for name, value in figures.items()})


def estimate_norms(network: keras.Model, batches) -> None:
    """Estimate the statistics of the backbone's opened BatchNorm layers on training batches.

    Moving averages lag behind weights that change, and the average of the statistics of many steps
    does not fit the average of the weights; "precise BatchNorm" (Wu and Johnson 2021) passes photos
    forward instead. An item of `batches` begins with uint8 [n, height, width, 3].
    """
    kind = keras.layers.BatchNormalization
    norms = [layer for layer in network.get_layer("backbone").layers if isinstance(layer, kind)]
    step = tf.function(lambda photos: network(photos, training=True), reduce_retracing=True)
    with changed(norms, "momentum", lambda _: NORM_MOMENTUM):
        for number in range(NORM_BATCHES):
            photos = batches[number % len(batches)][0]
            tf.distribute.get_strategy().run(step, args=(tf.convert_to_tensor(photos),))


class Diverged(Exception):
    """The loss is no longer a finite number; `learning_rate` is the one to lower."""

    def __init__(self, learning_rate: float):
        super().__init__(f"at learning rate {learning_rate:g}")
        self.learning_rate = learning_rate


class Checkpoint(keras.callbacks.Callback):
    """Stores each epoch, prints its line, and stops training that diverges or runs out of time.

    It is the last in the list that `fit` gets, and its clock's state has been restored. config.seed
    makes dropout repeatable; without the schedule "plateau", of the epochs that are nearly as good
    as the best the latest is chosen. `batches` is an iterator with a settable `epoch`. `validate`
    comes before; its network is the one that trains, but uncompiled, so that files hold weights
    alone. `rates` are the callbacks whose counters are kept. Raises Diverged if a loss is not
    finite (the epoch does not count), and OutOfTime if the session's end comes too near.
    """

    def __init__(self, config, clock: Clock, batches, validate: Validate, rates: Sequence = ()):
        super().__init__()
        self.config, self.clock, self.state = config, clock, clock.state
        self.batches, self.validate = batches, validate
        self.counting = {type(callback).__name__: callback for callback in rates}

    @property
    def stage(self) -> Stage:
        """The current stage."""
        return self.clock.stages[self.state.stage]

    def on_train_begin(self, logs=None):  # noqa: D102
        for name, attributes in self.state.counters.items():
            vars(self.counting[name]).update(attributes)

    def on_epoch_begin(self, epoch, logs=None):  # noqa: D102
        finished = len(self.state.rows)  # of this job alone: whatever trained before it
        self.batches.epoch = finished
        reseed(self.model, self.config.seed, finished)
        # The epoch's own rate: at its end the plateau's callback may have lowered it already.
        self.learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.began, self.asked = time.monotonic(), []
        self.bar = tqdm(total=len(self.batches), leave=False, disable=None, unit="batch")

    def on_train_batch_begin(self, batch, logs=None):  # noqa: D102
        self.asked.append(time.monotonic())

    def on_train_batch_end(self, batch, logs=None):  # noqa: D102
        self._check_finite(logs["loss"])
        self.trained = time.monotonic() - self.began
        self.bar.update()
        self.clock.check_batch((batch + 1) * self.batches.batch_size / self.trained)

    def on_epoch_end(self, epoch, logs=None):  # noqa: D102
        self.bar.close()
        self._check_finite(logs["val_loss"])
        state, measure, batches = self.state, self.validate.measure, self.batches
        self.clock.note_prediction(len(measure.truth) * self.stage.scale**2, self.validate.seconds)
        state.counters = {
            name: {key: value for key, value in vars(callback).items() if key in COUNTED}
            for name, callback in self.counting.items()
        }
        over = self.model.stop_training or epoch + 1 >= self.stage.epochs
        finish_epoch(
            *(self.clock, epoch + 1, logs),
            *(self.validate.network, self.model.optimizer, self.validate.average),
            error=0.0 if self.config.schedule == "plateau" else logs["val_error"],
            stage_over=over,
            learning_rate=self.learning_rate,
            seconds=time.monotonic() - self.began,
            images_per_second=min(batches.n, len(batches) * batches.batch_size) / self.trained,
            input_bound=waiting_share(self.asked, batches.ready_times, self.trained),
            right=measure.right,
        )
        if news := self.clock.plan.news():
            print(news, flush=True)
        if not over:
            self.clock.check_epoch()

    def _check_finite(self, loss: float) -> None:
        if math.isfinite(loss):
            return
        self.bar.close()
        if self.config.schedule == "plateau":
            raise Diverged(self.learning_rate)
        raise Diverged(self.state.learning_rate or self.stage.learning_rate)


def finish_epoch(
    clock: Clock,
    epoch: int,
    logs: dict,
    network: keras.Model,
    optimizer=None,
    average: Average | None = None,
    *,
    error: float,
    head_only: bool = False,
    stage_over: bool,
    **figures,
) -> None:
    """Record an epoch of the current stage, and print its line.

    `epoch` counts from 1, `logs` has MEASURED; for `error` and `head_only` see `record_epoch`.
    `figures` are the row's learning_rate, seconds of training and validation,
    images_per_second while training, input_bound (the share of it in which steps waited for photos)
    and right (see `kernelkit.core.metrics.packed`).
    """
    state, stage = clock.state, clock.stages[clock.state.stage]
    row = {"member": state.member, "fold": state.fold, "stage": stage.name, "epoch": epoch}
    row |= {name: logs[name] for name in MEASURED} | figures
    chosen_by = {"error": error, "head_only": head_only, "stage_over": stage_over}
    state.record_epoch(row, network, optimizer, average, **chosen_by)
    metric = state.settings.get("metric", "accuracy")
    line = EpochProgress(
        number=state.stage + 1,
        stages=len(clock.stages),
        stage=stage.name,
        epoch=epoch,
        epochs=epochs_of(stage),
        loss=row["loss"],
        accuracy=row["accuracy"],
        val_accuracy=row["val_accuracy"],
        images_per_second=row["images_per_second"],
        left=clock_text(clock.remaining()),
        network=clock.network,
        metric=metric,
        score=None if metric == "accuracy" else row["val_score"],
    ).line()
    print(line, flush=True)


def waiting_share(asked: Sequence[float], ready: Sequence[float], seconds: float) -> float:
    """Return the fraction, 0 to 1, of the `seconds` of all steps in which they waited for batches.

    Each step could begin when it `asked`, and its batch was `ready`, in seconds of
    time.monotonic(). The first does not count: its time is that of compiling too.
    """
    pairs = list(zip(asked, ready, strict=False))[1:]
    waited = sum(max(0.0, there - wanted) for wanted, there in pairs)
    return min(1.0, waited / seconds) if seconds > 0 else 0.0


def reseed(network: keras.Model, seed: int, epoch: int) -> None:
    """Make all random draws of layers depend on (seed, epoch) alone, for each layer its own."""
    for number, generator in enumerate(_generators(network)):
        words = np.random.SeedSequence([seed, epoch, number]).generate_state(2)
        generator.state.assign(words.astype(np.uint32))


def _generators(network: keras.Model) -> Iterator[keras.random.SeedGenerator]:
    for layer in [*network.layers, *getattr(network, "mixers", [])]:
        if isinstance(layer, keras.Model):
            yield from _generators(layer)
        for name in ("seed_generator", "generator"):
            if hasattr(layer, name):
                yield getattr(layer, name)
