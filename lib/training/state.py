"""Where a run stands: with the files it names, everything needed to go on after a kill."""

import dataclasses
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common import Problem, write_atomically

DIVERGED_FACTOR = 0.1  # by which a learning rate shrinks after a non-finite loss
DIVERGENCES = 3  # in one stage, after which the schedule goes on to the next


@dataclass
class State:
    """The position of a run in its schedule. `commit` is the moment at which an epoch counts."""

    folder: Path
    settings: dict  # of the run that it belongs to
    fingerprint: str  # of its data
    stage: int = 0  # the stage and the epoch in it that come next
    epoch: int = 0
    best_accuracy: float = -1.0  # on the validation photos, over all stages
    best: str = ""  # weight file of that epoch
    last: str = ""  # weight file to go on from
    optimizer: str = ""  # its optimizer's variables; "" where one starts afresh
    counters: dict = field(default_factory=dict)  # of early stopping and plateau
    learning_rate: float | None = None  # of this stage, once a divergence lowered it
    divergences: int = 0  # in this stage
    history: list[dict] = field(default_factory=list)  # a row an epoch
    predict_rate: float = 0.0  # photos a second, forward only
    resumed: bool = False
    earlier_seconds: float = 0.0  # of finished epochs in sessions before this one
    stopped_by_time_limit: bool = False

    def save(self) -> None:
        """Write state.json, then drop the files that it no longer names."""
        content = dataclasses.asdict(self) | {"folder": None}
        text = json.dumps(content, indent=1)
        write_atomically(self.folder / "state.json", lambda path: path.write_text(text))
        for file in self.folder.glob("epoch-*"):
            if file.name not in (self.best, self.last, self.optimizer):
                file.unlink()

    def store(self, network, optimizer=None) -> None:
        """Write weights (and optimizer) under names of their own; `save` makes them count."""
        name = f"epoch-{len(self.history):04d}"
        self.last = f"{name}.weights.h5"
        network.save_weights(self.folder / self.last)
        self.optimizer = ""
        if optimizer:
            variables = {}
            optimizer.save_own_variables(variables)
            self.optimizer = f"{name}.optimizer.npz"
            np.savez(self.folder / self.optimizer, **variables)

    def restore(self, network, optimizer=None, variables=()) -> None:
        """Load the weights to go on from, and the optimizer of the stage where there is one."""
        network.load_weights(self.folder / self.last)
        if self.optimizer and optimizer:
            optimizer.build(variables)
            with np.load(self.folder / self.optimizer) as stored:
                optimizer.load_own_variables(dict(stored))

    def commit(self, row: dict, stage_is_over: bool) -> None:
        """Count the epoch that `row` describes and that `store` has written."""
        if row["val_accuracy"] > self.best_accuracy:
            self.best_accuracy, self.best = row["val_accuracy"], self.last
        self.epoch += 1
        if stage_is_over:
            self.next_stage()
        self.save()

    def next_stage(self) -> None:
        """Stand before the next stage, on the best weights so far."""
        self.stage, self.epoch, self.counters, self.divergences = self.stage + 1, 0, {}, 0
        self.go_back()
        self.learning_rate = None

    def go_back(self) -> None:
        """Stand on the best weights so far, with a new optimizer."""
        self.last, self.optimizer = self.best or self.last, ""

    def diverge(self, learning_rate: float) -> str:
        """Stand where a non-finite loss can't hurt, and return what that is in words."""
        self.go_back()
        self.divergences += 1
        if self.divergences < DIVERGENCES:
            self.learning_rate = learning_rate * DIVERGED_FACTOR
            said = f"on from the best weights at learning rate {self.learning_rate:g}"
        else:
            self.next_stage()
            said = "the stage ends here, on the best weights"
        self.save()
        return said

    def stage_metrics(self, stage) -> dict:
        """Return what metrics.json says of a stage, from the epochs that it ran.

        `stage` has name, share and learning_rate; seconds and images a second are of training
        and validation, and of training alone.
        """
        rows = [row for row in self.history if row["stage"] == stage.name]
        rates = [row["images_per_second"] for row in rows]
        return {
            "name": stage.name,
            "share": stage.share,
            "learning_rate": stage.learning_rate,
            "epochs_run": len(rows),
            "best_val_accuracy": max((row["val_accuracy"] for row in rows), default=None),
            "seconds": sum(row["seconds"] for row in rows),
            "images_per_second": float(np.mean(rates)) if rates else None,
        }

    def stage_line(self, stage, what: str, left: str) -> str:
        """Return in one line what a finished stage did, what trained in it, and the time left."""
        metrics = self.stage_metrics(stage)
        return (
            f"stage {stage.name} is over: {what}, {metrics['epochs_run']} epochs in "
            f"{metrics['seconds']:.0f} s, best val_accuracy "
            f"{metrics['best_val_accuracy'] or 0:.4f} (of all stages {self.best_accuracy:.4f}), "
            f"{metrics['images_per_second'] or 0:.0f} images/s, left {left}"
        )


def open_state(folder: Path, settings: dict, fingerprint: str, fresh: bool) -> State:
    """Return the unfinished run in `folder` if it has these settings and data, or a new one.

    Args:
        folder: of the state alone; made, or emptied where `fresh` asks for it.
        settings: what must be equal for a run to go on; JSON values.
        fingerprint: of the data, likewise.
        fresh: throw an unfinished run away.

    Raises:
        Problem: an unfinished run with other settings or data lies there.
    """
    file = folder / "state.json"
    settings = json.loads(json.dumps(settings))  # tuples read back as lists
    if fresh or not file.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return State(folder, settings, fingerprint)
    try:
        state = State(**json.loads(file.read_text()) | {"folder": folder})
    except (ValueError, TypeError) as error:
        raise Problem(f"{file} is damaged: give --fresh, or another --output.") from error
    changed = [key for key in settings if settings[key] != state.settings.get(key)]
    if state.fingerprint != fingerprint:
        changed.append("the photos")
    if changed:
        raise Problem(
            f"{folder.parent} holds an unfinished run with other settings ({', '.join(changed)}): "
            "give the same settings to go on, another --output, or --fresh to throw it away."
        )
    state.resumed = True
    state.earlier_seconds = sum(row["seconds"] for row in state.history)
    return state
