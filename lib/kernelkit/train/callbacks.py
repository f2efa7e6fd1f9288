"""The callback that makes every finished epoch count, whatever happens next."""

import math
import time
from collections.abc import Iterator

import keras
import numpy as np
from tqdm import tqdm

from kernelkit.core.metrics import Metric, ValidationMetrics
from kernelkit.core.progress import EpochProgress, clock_text
from kernelkit.train.batchnorm import Reestimate
from kernelkit.train.clock import Clock
from kernelkit.train.costs import Stage, epochs_of
from kernelkit.train.ema import Averaging
from kernelkit.train.feeding import waiting_share
from kernelkit.train.optimizer import WarmCosine, cosine_span
from kernelkit.train.state import State

LOWEST_RATE = 1e-7  # to which a plateau lowers the learning rate at most
MEASURED = ("loss", "accuracy", "val_loss", "val_accuracy", "val_score", "val_error")
COUNTED = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")


def make_counters(config, metric: Metric) -> dict[str, keras.callbacks.Callback]:
    """Return the callbacks that end a stage early and lower its rate, by name.

    Args:
        config: has patience and plateau_patience in epochs, and plateau_factor.
        metric: the competition's.
    """
    mode = "max" if metric.greater else "min"
    return {
        "early": keras.callbacks.EarlyStopping("val_score", patience=config.patience, mode=mode),
        "plateau": keras.callbacks.ReduceLROnPlateau(
            "val_loss", config.plateau_factor, config.plateau_patience, min_lr=LOWEST_RATE
        ),
    }


def make_callbacks(
    config, state: State, clock: Clock, network: keras.Model, batches, judge: ValidationMetrics
) -> list[keras.callbacks.Callback]:
    """Return the callbacks of the stage at which `state` stands; the last is the `Checkpoint`.

    Args:
        config: the kernel's settings: schedule, warmup, ema, reestimate, tensorboard, seed, and
            those of `make_counters`.
        state: has been restored.
        clock: has the stages.
        network: the model that trains, but uncompiled.
        batches: the training batches, an iterator with a settable `epoch`.
        judge: measures the validation photos after each epoch.
    """
    stage, go_on = clock.stages[state.stage], config.schedule != "plateau"
    callbacks, counters, averaging = [], {}, None
    if go_on:
        epochs = [0 if s.views else s.epochs for s in clock.stages]
        span = cosine_span(epochs, state.stage, config.schedule == "restarts")
        rate = state.learning_rate or stage.learning_rate
        callbacks.append(WarmCosine(rate, config.warmup, len(batches), span))
    else:
        counters = make_counters(config, state.metric)
        callbacks += counters.values()
    if config.ema:
        cached = {s.name for s in clock.stages if s.views}
        steps = len(batches) * sum(row["stage"] not in cached for row in state.rows)
        file = state.folder / state.average if state.average else None
        averaging = Averaging(network, config.ema, steps, file)
        callbacks.append(averaging)
    if config.reestimate:
        callbacks.append(Reestimate(network, batches))
    if config.tensorboard:
        logs = state.folder.parent / "tensorboard" / f"{state.member}-{state.fold}-{stage.name}"
        callbacks.append(keras.callbacks.TensorBoard(logs, write_graph=False))
    saver = Checkpoint(
        state, clock, network, batches, judge, counters, config.seed, averaging, go_on
    )
    return [*callbacks, saver]


class Diverged(Exception):
    """The loss is no longer a finite number.

    `learning_rate` is that of the stage or, where it was lowered on a plateau, the epoch's.
    """

    def __init__(self, learning_rate: float):
        super().__init__(f"at learning rate {learning_rate:g}")
        self.learning_rate = learning_rate


class Checkpoint(keras.callbacks.Callback):
    """Stores each epoch, prints its line, and stops training that diverges or runs out of time.

    Args:
        state: the run's state.
        clock: decides whether the next epoch fits.
        network: the model that trains, but uncompiled, so that its files hold weights alone.
        batches: the training batches, an iterator with a settable `epoch`.
        judge: measures the validation photos after each epoch.
        counters: the callbacks whose counters are kept, by name. They stand before this one in the
            list that `fit` gets.
        seed: makes dropout repeatable.
        averaging: the callback that averages the weights, which are then what counts; or None.
        go_on: the rate follows a schedule, and the next stage begins with the last weights and not
            with the chosen ones; of the epochs that are nearly as good as the best, the latest is
            chosen.

    Raises:
        Diverged: a loss is not finite; the epoch does not count.
        OutOfTime: as `clock` says.
    """

    def __init__(
        self,
        state: State,
        clock: Clock,
        network: keras.Model,
        batches,
        judge: ValidationMetrics,
        counters: dict[str, keras.callbacks.Callback],
        seed: int,
        averaging: Averaging | None = None,
        go_on: bool = False,
    ):
        super().__init__()
        self.averaging, self.go_on = averaging, go_on
        self.state, self.clock, self.network, self.seed = state, clock, network, seed
        self.batches, self.judge, self.counters = batches, judge, counters

    def on_train_begin(self, logs=None):  # noqa: D102
        for name, attributes in self.state.counters.items():
            vars(self.counters[name]).update(attributes)

    def on_epoch_begin(self, epoch, logs=None):  # noqa: D102
        finished = len(self.state.rows)  # of this job alone: whatever trained before it
        self.batches.epoch = finished
        reseed(self.model, self.seed, finished)
        # The epoch's own rate: at its end the plateau's callback may have lowered it already.
        self.learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.began, self.asked = time.monotonic(), []
        self.bar = tqdm(total=len(self.batches), leave=False, disable=None, unit="batch")

    def on_train_batch_begin(self, batch, logs=None):  # noqa: D102
        self.asked.append(time.monotonic())

    def on_train_batch_end(self, batch, logs=None):  # noqa: D102
        self.check_finite(logs["loss"])
        self.trained = time.monotonic() - self.began
        self.bar.update()
        self.clock.check_batch((batch + 1) * self.batches.batch_size / self.trained)

    def on_test_begin(self, logs=None):  # noqa: D102
        self.validation_began = time.monotonic()

    def on_test_end(self, logs=None):  # noqa: D102
        scale = self.clock.stages[self.state.stage].scale
        took = time.monotonic() - self.validation_began
        self.clock.note_prediction(len(self.judge.truth) * scale**2, took)

    def on_epoch_end(self, epoch, logs=None):  # noqa: D102
        self.bar.close()
        self.check_finite(logs["val_loss"])
        state, number = self.state, self.state.stage
        stage = self.clock.stages[number]
        seconds = time.monotonic() - self.began
        speed = min(self.batches.n, len(self.batches) * self.batches.batch_size) / self.trained
        waited = waiting_share(self.asked, self.batches.ready_times, self.trained)
        rate, right = self.learning_rate, self.judge.right
        row = epoch_row(state, stage, epoch + 1, logs, rate, seconds, speed, waited, right)
        state.history.append(row)
        state.store(self.network, self.model.optimizer, self.averaging)
        state.counters = {
            name: {key: value for key, value in vars(counter).items() if key in COUNTED}
            for name, counter in self.counters.items()
        }
        over = self.model.stop_training or epoch + 1 >= stage.epochs
        state.commit(row, over, self.go_on, row["val_error"] if self.go_on else 0.0)
        print(progress_line(self.clock, number, row), flush=True)
        if news := self.clock.news():
            print(news, flush=True)
        if not over:
            self.clock.check_epoch()

    def check_finite(self, loss: float) -> None:
        """Raise Diverged when a loss is not finite."""
        if not math.isfinite(loss):
            self.bar.close()
            own = self.clock.stages[self.state.stage].learning_rate
            scheduled = self.state.learning_rate or own
            raise Diverged(scheduled if self.go_on else self.learning_rate)


def epoch_row(
    state: State,
    stage: Stage,
    epoch: int,
    logs: dict,
    rate: float,
    seconds: float,
    speed: float,
    waited: float,
    right: str,
) -> dict:
    """Return the row of the history that tells of an epoch of `stage`.

    Args:
        state: has the job under way.
        stage: of the schedule.
        epoch: within the stage, from 1.
        logs: has loss, accuracy, val_loss, val_accuracy, and the metric's val_score with its
            standard error val_error.
        rate: the learning rate at the epoch's beginning.
        seconds: that training and validation took.
        speed: photos a second while training.
        waited: the fraction of that time in which steps waited for photos.
        right: which validation photos are right; see `kernelkit.core.metrics.packed`.
    """
    return {
        "member": state.member,
        "fold": state.fold,
        "stage": stage.name,
        "epoch": epoch,
        **{name: logs[name] for name in MEASURED},
        "learning_rate": rate,
        "seconds": seconds,
        "images_per_second": speed,
        "input_bound": waited,
        "right": right,
    }


def progress_line(clock: Clock, number: int, row: dict) -> str:
    """Return the line that tells of the epoch of `row`, in stage `number` (from 0)."""
    stage = clock.stages[number]
    measured = ("loss", "accuracy", "val_accuracy", "images_per_second")
    metric = clock.state.settings.get("metric", "accuracy")
    return EpochProgress(
        number=number + 1,
        stages=len(clock.stages),
        stage=stage.name,
        epoch=row["epoch"],
        epochs=epochs_of(stage),
        left=clock_text(clock.remaining()),
        network=clock.network,
        metric=metric,
        score=None if metric == "accuracy" else row["val_score"],
        **{name: row[name] for name in measured},
    ).line()


def reseed(network: keras.Model, seed: int, epoch: int) -> None:
    """Make all that layers draw depend on (seed, epoch) alone: a resumed run draws the same.

    Each layer draws by a seed of its own; the same one would drop the same photos in each block.
    """
    for number, generator in enumerate(generators(network)):
        words = np.random.SeedSequence([seed, epoch, number]).generate_state(2)
        generator.state.assign(words.astype(np.uint32))


def generators(network: keras.Model) -> Iterator[keras.random.SeedGenerator]:
    """Yield the seed generators of a network's layers, dropout's and the mixing layers'."""
    for layer in [*network.layers, *getattr(network, "mixers", [])]:
        if isinstance(layer, keras.Model):
            yield from generators(layer)
        for name in ("seed_generator", "generator"):
            if hasattr(layer, name):
                yield getattr(layer, name)
