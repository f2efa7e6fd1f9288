"""The callback that makes every finished epoch count, whatever happens next."""

import math
import time

import keras
from tqdm import tqdm

from common import EpochProgress, clock_text
from training.clock import Clock
from training.state import State

COUNTED = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")


class Diverged(Exception):
    """The loss is no longer a finite number."""


class Checkpoint(keras.callbacks.Callback):
    """Stores each epoch, prints its line, and stops training that diverges or runs out of time.

    Args:
        state, clock: of the run.
        network: the model that trains, but uncompiled, so that its files hold weights alone.
        batches: of training, as an iterator with a settable `epoch`.
        validation_images: how many photos an epoch is validated on.
        counters: the callbacks whose state is kept, by name. They stand before this one in the
            list that `fit` gets.

    Raises:
        Diverged: a loss is not finite; the epoch does not count.
        OutOfTime: see Clock.
    """

    def __init__(
        self,
        state: State,
        clock: Clock,
        network: keras.Model,
        batches,
        validation_images: int,
        counters: dict[str, keras.callbacks.Callback],
    ):
        super().__init__()
        self.state, self.clock, self.network = state, clock, network
        self.batches, self.validation_images, self.counters = batches, validation_images, counters

    def on_train_begin(self, logs=None):  # noqa: D102
        for name, attributes in self.state.counters.items():
            vars(self.counters[name]).update(attributes)

    def on_epoch_begin(self, epoch, logs=None):  # noqa: D102
        step = len(self.state.history)
        self.batches.epoch = step
        reseed(self.network, self.state.settings["seed"], step)
        self.began = time.monotonic()
        self.bar = tqdm(total=len(self.batches), leave=False, disable=None, unit="batch")

    def on_train_batch_end(self, batch, logs=None):  # noqa: D102
        if not math.isfinite(logs["loss"]):
            raise Diverged
        self.trained = time.monotonic() - self.began
        self.bar.update()
        self.clock.check_batch((batch + 1) * self.batches.batch_size / self.trained)

    def on_test_begin(self, logs=None):  # noqa: D102
        self.validation_began = time.monotonic()

    def on_test_end(self, logs=None):  # noqa: D102
        took = time.monotonic() - self.validation_began
        self.state.predict_rate = self.validation_images / took

    def on_epoch_end(self, epoch, logs=None):  # noqa: D102
        self.bar.close()
        if not math.isfinite(logs["val_loss"]):
            raise Diverged
        stage = self.clock.stages[self.state.stage]
        row = {
            "stage": stage.name,
            "epoch": epoch + 1,
            **{name: logs[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")},
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": time.monotonic() - self.began,
            "images_per_second": self.batches.n / self.trained,
        }
        self.state.history.append(row)
        self.state.store(self.network, self.model.optimizer)
        self.state.counters = {
            name: {key: value for key, value in vars(counter).items() if key in COUNTED}
            for name, counter in self.counters.items()
        }
        number = self.state.stage + 1
        over = self.model.stop_training or epoch + 1 >= stage.epochs
        self.state.commit(row, stage_is_over=over)
        progress = EpochProgress(
            number=number,
            stages=len(self.clock.stages),
            stage=stage.name,
            epoch=row["epoch"],
            epochs=stage.epochs,
            loss=row["loss"],
            accuracy=row["accuracy"],
            val_accuracy=row["val_accuracy"],
            images_per_second=row["images_per_second"],
            left=clock_text(self.clock.remaining()),
        )
        print(progress.line(), flush=True)
        if not over:
            self.clock.check_epoch()


def reseed(network: keras.Model, seed: int, step: int) -> None:
    """Make dropout depend on (seed, epoch) alone, so that a resumed run draws the same."""
    for layer in network._flatten_layers():
        if hasattr(layer, "seed_generator"):
            layer.seed_generator.state.assign([seed % 2**32, step])
