"""Where a run stands. With the files that it names, a killed run can go on."""

import contextlib
import dataclasses
import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kernelkit.core.files import write_atomically
from kernelkit.core.metrics import Metric, metric_named
from kernelkit.core.problem import Problem
from kernelkit.train.step_mode import Candidate

DIVERGED_FACTOR = 0.1  # by which the learning rate shrinks after a non-finite loss
# What h5py, NumPy, zipfile and zlib raise for files that are cut short or damaged.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
DIVERGENCES = 3  # in one stage, after which the schedule goes on to the next


@dataclass
class State:
    """The position of a run in its schedule. `commit` is the moment at which an epoch counts."""

    folder: Path
    """Holds state.json and the weight files that it names, nothing else."""
    settings: dict
    """The settings of the run that it belongs to."""
    fingerprint: str
    """A hash of the run's photos and labels."""
    jobs: list[dict] = field(default_factory=list)
    """One row for each finished job: member, fold, cost (see `Plan`) and seconds."""
    member: str = ""
    """The member of the job under way; "" before the first job."""
    fold: int = 0
    """The fold of the job under way."""
    carried_seconds: float = 0.0
    """Seconds of the epochs of that job that earlier sessions finished."""
    stage: int = 0
    """The stage to train next, as a position in the schedule."""
    epoch: int = 0
    """How many epochs of that stage are finished."""
    highest: float | None = None
    """The best merit over all stages, which is the metric's value with the sign by which greater is
    better; None before the first epoch."""
    margin: float = 0.0
    """The standard error of that epoch's value."""
    floor: float | None = None
    """The best merit taken as exact, below which no epoch is chosen; None before the first."""
    best: str = ""
    """The weight file of the chosen epoch; "" before the first."""
    best_score: float | None = None
    """The metric's value on the validation photos at that epoch."""
    best_stage: int = 0
    """The stage of that epoch, as a position in the schedule."""
    last: str = ""
    """The weight file to go on from."""
    optimizer: str = ""
    """The file of the optimizer's variables; "" where a stage starts with a new optimizer."""
    average: str = ""
    """The file of the averaged weights; "" where the average begins with the weights."""
    sizes: dict[str, int] = field(default_factory=dict)
    """The sizes in bytes of these files, by which one that was cut is known."""
    counters: dict = field(default_factory=dict)
    """The counters of early stopping and of the plateau, by callback."""
    last_epochs: int = 0
    """How many epochs the last stage has, where its own do not fit into a session; 0: its own."""
    learning_rate: float | None = None
    """The rate at which this stage starts, after a divergence lowered it; None for its own."""
    divergences: int = 0
    """How often this stage has diverged."""
    history: list[dict] = field(default_factory=list)
    """One row for each finished epoch, of all jobs."""
    predict_rate: float = 0.0
    """Prediction speed in photos a second; 0 while it is unknown."""
    preflight: dict = field(default_factory=dict)
    """What was measured on this machine before the first stage; empty where nothing was. It has
    machine (a text that identifies devices and versions); rows (one for each candidate tried:
    member, stage, image_size, devices, precision, micro_batch, recompute, xla, images_per_second,
    peak_bytes or None, outcome); chosen (the settings of the step that all members go on with);
    speeds ("MEMBER/STAGE": photos a second of a training step); predict ("MEMBER": of a
    prediction)."""
    unlike: list[tuple[str, float]] | None = None
    """Id and distance of the training photos that are unlike all others (see `unlike_others`); None
    before the first stage on cached features."""
    way: dict = field(default_factory=dict)
    """How steps are taken in this session: the fields of a `Candidate`."""
    micro_batches: dict[str, int] = field(default_factory=dict)
    """How many photos a device takes at once, by "MEMBER/STAGE", where that is not as in way."""
    resumed: bool = False
    """Whether this session goes on with an earlier one's run."""
    earlier_seconds: float = 0.0
    """Seconds of the epochs that earlier sessions finished."""
    stopped_by_time_limit: bool = False
    """Whether training or prediction was cut short by the session's end."""
    ended: bool = False
    """Whether the session has written its results, though time cut the run short."""

    def save(self) -> None:
        """Write state.json, then drop the files that it no longer names."""
        self.sizes = {name: self.size_of(name) for name in self.files}
        content = dataclasses.asdict(self) | {"folder": None}
        write_atomically(self.folder / "state.json", json.dumps(content, indent=1))
        for file in self.folder.glob("*epoch-*"):
            if file.name not in self.files:
                file.unlink()

    @property
    def files(self) -> list[str]:
        """The names of the files that count."""
        return list(filter(None, (self.best, self.last, self.optimizer, self.average)))

    def size_of(self, name: str) -> int:
        """Return a file's size in bytes; -1 where it is missing."""
        file = self.folder / name
        return file.stat().st_size if file.is_file() else -1

    def mend(self) -> None:
        """Go on without the files that are cut or missing, and say so.

        The job goes on from the chosen epoch, from the last one where that is lost, or from its
        beginning; what other jobs have finished is not in these files.
        """
        bad = [name for name in self.files if self.sizes.get(name, 0) != self.size_of(name)]
        bad = [name for name in bad if name in self.sizes]  # an earlier version's has none
        if not bad:
            return
        if self.best and self.best not in bad:
            said = "its training goes on from the chosen epoch"
            self.go_back()
        elif self.last not in bad:
            said = "its last epoch is the chosen one"
            self.best, self.optimizer, self.average = self.last, "", ""
            self.best_score, self.best_stage = self.rows[-1]["val_score"], self.stage
        else:
            said, member, fold = "its training begins anew", self.member, self.fold
            self.history = [row for row in self.history if row not in self.rows]
            self.member = ""
            self.begin_job(member, fold)
        print(f"{self.folder / bad[0]} is cut or missing: {said}.")

    @property
    def metric(self) -> Metric:
        """The competition's metric: the setting `metric`, or else accuracy."""
        return metric_named(self.settings.get("metric", "accuracy"))

    @property
    def rows(self) -> list[dict]:
        """The rows of the job under way."""
        return self.rows_of(self.member, self.fold)

    def rows_of(self, member: str, fold: int) -> list[dict]:
        """Return the rows of a member's fold."""
        return [row for row in self.history if (row["member"], row["fold"]) == (member, fold)]

    def begin_job(self, member: str, fold: int) -> None:
        """Stand before the first epoch of a member's fold, unless it is the job under way."""
        if (member, fold) == (self.member, self.fold):
            self.carried_seconds = sum(row["seconds"] for row in self.rows)
            return
        self.member, self.fold = member, fold
        self.stage, self.epoch, self.best_stage, self.carried_seconds = 0, 0, 0, 0.0
        self.highest = self.best_score = self.floor = None
        self.margin = self.predict_rate = 0.0
        self.best = self.last = self.optimizer = self.average = ""
        self.counters, self.learning_rate, self.divergences, self.last_epochs = {}, None, 0, 0
        for file in self.folder.glob("pseudo-*"):  # an earlier job's choice
            file.unlink()
        self.remove_features()

    def finish_job(self, cost: float, seconds: float, cut: bool = False) -> None:
        """Note what the job under way cost, and the seconds that it took in this session.

        `cut` tells that its schedule did not end: a later session goes on with it.
        """
        seconds += self.carried_seconds
        row = {"member": self.member, "fold": self.fold, "cost": cost, "seconds": seconds}
        row |= {"cut": True} if cut else {}
        self.jobs.append(row)
        self.save()

    def store(self, network, optimizer=None, averaging=None) -> None:
        """Write weights, and the optimizer's variables, under new names; `save` makes them count.

        Args:
            network: the model.
            optimizer: None where a stage is to start with a new one.
            averaging: the callback that keeps the average of the weights; None without one.

        Raises:
            OSError: a file can't be written, for example because the disk is full.
        """
        name = f"epoch-{len(self.history):04d}"
        self.last = f"{name}.weights.h5"
        write_weights(network, self.folder / self.last)
        self.optimizer = self.average = ""
        if averaging:
            self.average = f"{name}.average.weights.h5"
            averaging.averaged(lambda: write_weights(network, self.folder / self.average))
        if optimizer:
            variables = {}
            optimizer.save_own_variables(variables)
            self.optimizer = f"{name}.optimizer.npz"
            write_atomically(self.folder / self.optimizer, lambda path: np.savez(path, **variables))

    def keep_features(self, number: int, features: np.ndarray) -> None:
        """Keep the features of a pass for a later session, where the disk has room for them."""
        with contextlib.suppress(OSError):
            file = self.folder / f"features-{number}.npy"
            write_atomically(file, lambda beside: np.save(beside, features))

    def kept_features(self, number: int, photos: int) -> np.ndarray | None:
        """Return what an earlier session of this stage has kept of so many photos, or None."""
        try:
            features = np.load(self.folder / f"features-{number}.npy")
        except UNREADABLE:
            return None
        return features if len(features) == photos else None

    def remove_features(self) -> None:
        """Remove what was kept of the features of a stage."""
        for file in self.folder.glob("features-*"):
            file.unlink()

    def keep_first(self, network) -> None:
        """Keep a network that has not trained yet, the fallback if the first epoch diverges.

        Raises:
            OSError: a file can't be written.
        """
        if not self.last:
            self.store(network)
            self.save()

    def restore(self, network, optimizer=None, variables=()) -> None:
        """Load the weights to go on from, and the optimizer's variables if the stage has begun.

        The optimizer is built in any case: TensorFlow traces a first training step that makes
        variables a second time.

        Args:
            network: the model.
            optimizer: of the stage; None where it has none.
            variables: what it trains.

        Raises:
            Problem: a file that the state names is missing or damaged.
        """
        try:
            network.load_weights(self.folder / self.last)
            if optimizer:
                optimizer.build(variables)
            if self.optimizer and optimizer:
                with np.load(self.folder / self.optimizer) as stored:
                    optimizer.load_own_variables(dict(stored))
        except UNREADABLE as error:
            raise damaged(self.folder / (self.optimizer or self.last)) from error

    def load_best(self, network) -> None:
        """Load the weights of the chosen epoch, if any epoch is finished.

        Raises:
            Problem: its file is missing or damaged.
        """
        try:
            if self.best:
                network.load_weights(self.folder / self.best)
        except UNREADABLE as error:
            raise damaged(self.folder / self.best) from error

    def commit(
        self, row: dict, stage_is_over: bool, go_on: bool = False, error: float = 0.0
    ) -> None:
        """Count the epoch that `row` describes and that `store` has written.

        The later an epoch is, the more its network has learned. On a few hundred validation photos
        the best value is mostly luck: to take the latest epoch whose accuracy lies within one
        standard error of the highest gave 0.1 to 0.3 points more on test photos
        (tests/benchmarks/choices.md). The same rule holds for every metric. An epoch below one that
        was taken as exact, such as the head's on cached features, is never chosen.

        Args:
            row: the epoch's row of the history.
            stage_is_over: whether it is its stage's last.
            go_on: the next stage begins with this epoch's weights, and not with the chosen ones.
            error: the standard error of the metric's value; 0 takes it as exact.
        """
        merit = self.metric.sign * row["val_score"]
        if self.highest is None or merit > self.highest:
            self.highest, self.margin = merit, error
            if not error:
                self.floor = merit
        least = self.highest - self.margin
        if self.floor is not None:
            least = max(least, self.floor)
        if merit >= least:
            self.best_score, self.best_stage = row["val_score"], self.stage
            self.best = self.average or self.last
        self.epoch += 1
        if stage_is_over:
            self.next_stage(go_on)
        self.save()

    def next_stage(self, go_on: bool = False) -> None:
        """Advance to the next stage from the last weights or, by default, from the chosen ones."""
        self.stage, self.epoch, self.counters, self.divergences = self.stage + 1, 0, {}, 0
        self.optimizer = ""
        if not go_on:
            self.go_back()
        self.learning_rate = None

    def go_back(self) -> None:
        """Go back to the chosen weights, with a new optimizer."""
        self.last, self.optimizer, self.average = self.best or self.last, "", ""

    def diverge(self, learning_rate: float) -> str:
        """Recover from divergence; return a message.

        Args:
            learning_rate: the rate in force when the loss stopped being finite.
        """
        self.go_back()
        self.divergences += 1
        if self.divergences < DIVERGENCES:
            self.learning_rate = learning_rate * DIVERGED_FACTOR
            message = f"on from the best weights at learning rate {self.learning_rate:g}"
        else:
            self.next_stage()
            message = "the stage ends here, on the best weights"
        self.save()
        return message

    def way_of(self, stage: str) -> Candidate:
        """Return how the job under way takes the steps of a stage."""
        way, micro_batch = Candidate(**self.way), self.micro_batch(f"{self.member}/{stage}")
        return dataclasses.replace(way, micro_batch=micro_batch, xla=way.xla and not micro_batch)

    def micro_batch(self, name: str) -> int | None:
        """Return how many photos a device takes at once in "MEMBER/STAGE"; None is its share."""
        return self.micro_batches.get(name, self.way.get("micro_batch"))

    def photos_at_once(self, members: Mapping) -> dict[str, int]:
        """Return how many photos a device takes at once where that is not its share of a batch.

        Args:
            members: the settings of each member, by its name: stages.

        Returns:
            Numbers by "MEMBER/STAGE".
        """
        names = [f"{name}/{s.name}" for name, m in members.items() for s in m.stages if not s.views]
        return {name: photos for name in names if (photos := self.micro_batch(name))}

    def step_down(self, stage: str, batch_size: int) -> str:
        """Take half as many photos at once in a stage that ran out of memory; return a message.

        Raises:
            Problem: it took one photo at a time already.
        """
        way = self.way_of(stage).halved(batch_size)
        if way is None:
            raise Problem(
                f"Stage {stage} ran out of memory with one photo at a time on a device: give a "
                "smaller --image-size, or a smaller --backbone."
            )
        self.micro_batches[f"{self.member}/{stage}"] = way.micro_batch
        self.save()
        return f"on from the last epoch with at most {way.micro_batch} photos at once"

    def run_out_of_time(self) -> None:
        """Note that the session's end cut training or prediction short."""
        self.stopped_by_time_limit = True

    def end(self) -> None:
        """Remove the files of a run that has written its results.

        They stay where time cut it short, so that another session can go on.
        """
        if not self.stopped_by_time_limit:
            return shutil.rmtree(self.folder, ignore_errors=True)
        self.ended = True
        self.save()
        print("Time cut this run short: the same command goes on, on Kaggle `ship --continue`.")
        return None


def write_weights(network, path: Path) -> None:
    """Write a model's weights in Keras' format, atomically.

    Room for them is reserved first, because HDF5 crashes the process where a disk is full.

    Raises:
        OSError: the file can't be written, for example because the disk is full.
    """
    size = sum(weight.size * weight.itemsize + 4096 for weight in network.get_weights())
    write_atomically(path, network.save_weights, size + (1 << 16))


def damaged(file: Path) -> Problem:
    """Return the Problem of a file of the state that can't be read."""
    return Problem(f"{file} is damaged or missing: give --fresh, or another --output.")
