"""The callback that makes every finished epoch count, whatever happens next."""

import math
import time

import keras
from tqdm import tqdm

from common import EpochProgress, clock_text
from training.clock import Clock
from training.state import State

LOWEST_RATE = 1e-7  # to which a plateau lowers the learning rate at most
COUNTED = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")


def make_counters(config) -> dict[str, keras.callbacks.Callback]:
    """Return the callbacks that end a stage early and lower its rate, by name.

    `config` has patience and plateau_patience in epochs, and plateau_factor.
    """
    return {
        "early": keras.callbacks.EarlyStopping("val_accuracy", patience=config.patience),
        "plateau": keras.callbacks.ReduceLROnPlateau(
            "val_loss", config.plateau_factor, config.plateau_patience, min_lr=LOWEST_RATE
        ),
    }


class Diverged(Exception):
    """The loss is no longer a finite number."""

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
        validation_images: how many photos an epoch is validated on.
        counters: the callbacks whose counters are kept, by name. They stand before this one in the
            list that `fit` gets.
        seed: makes dropout repeatable.

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
        validation_images: int,
        counters: dict[str, keras.callbacks.Callback],
        seed: int,
    ):
        super().__init__()
        self.state, self.clock, self.network, self.seed = state, clock, network, seed
        self.batches, self.validation_images, self.counters = batches, validation_images, counters

    def on_train_begin(self, logs=None):  # noqa: D102
        for name, attributes in self.state.counters.items():
            vars(self.counters[name]).update(attributes)

    def on_epoch_begin(self, epoch, logs=None):  # noqa: D102
        finished = len(self.state.history)
        self.batches.epoch = finished
        reseed(self.network, self.seed, finished)
        # The epoch's own rate: at its end the plateau's callback may have lowered it already.
        self.learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.began = time.monotonic()
        self.bar = tqdm(total=len(self.batches), leave=False, disable=None, unit="batch")

    def on_train_batch_end(self, batch, logs=None):  # noqa: D102
        self.check_finite(logs["loss"])
        self.trained = time.monotonic() - self.began
        self.bar.update()
        self.clock.check_batch((batch + 1) * self.batches.batch_size / self.trained)

    def on_test_begin(self, logs=None):  # noqa: D102
        self.validation_began = time.monotonic()

    def on_test_end(self, logs=None):  # noqa: D102
        self.clock.note_prediction(self.validation_images, time.monotonic() - self.validation_began)

    def on_epoch_end(self, epoch, logs=None):  # noqa: D102
        self.bar.close()
        self.check_finite(logs["val_loss"])
        state, number = self.state, self.state.stage
        stage = self.clock.stages[number]
        row = {
            "stage": stage.name,
            "epoch": epoch + 1,
            **{name: logs[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")},
            "learning_rate": self.learning_rate,
            "seconds": time.monotonic() - self.began,
            "images_per_second": self.batches.n / self.trained,
        }
        state.history.append(row)
        state.store(self.network, self.model.optimizer)
        state.counters = {
            name: {key: value for key, value in vars(counter).items() if key in COUNTED}
            for name, counter in self.counters.items()
        }
        over = self.model.stop_training or epoch + 1 >= stage.epochs
        state.commit(row, stage_is_over=over)
        print(self.progress(number, row).line(), flush=True)
        if not over:
            self.clock.check_epoch()

    def check_finite(self, loss: float) -> None:
        """Raise Diverged when a loss is not finite."""
        if not math.isfinite(loss):
            self.bar.close()
            raise Diverged(self.learning_rate)

    def progress(self, number: int, row: dict) -> EpochProgress:
        """Return how far the run is after the epoch of `row` in stage `number` (from 0)."""
        stage = self.clock.stages[number]
        measured = ("loss", "accuracy", "val_accuracy", "images_per_second")
        return EpochProgress(
            number=number + 1,
            stages=len(self.clock.stages),
            stage=stage.name,
            epoch=row["epoch"],
            epochs=stage.epochs,
            left=clock_text(self.clock.remaining()),
            **{name: row[name] for name in measured},
        )


def reseed(network: keras.Model, seed: int, epoch: int) -> None:
    """Make dropout depend on (seed, epoch) alone, so that a resumed run draws the same."""
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            reseed(layer, seed, epoch)
        elif hasattr(layer, "seed_generator"):
            layer.seed_generator.state.assign([seed % 2**32, epoch])
