"""Checkpointable state of a run, and the files of weights that it names."""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kernelkit.core.contract import UNREADABLE
from kernelkit.core.files import write_atomically
from kernelkit.core.metrics import Metric, metric_named
from kernelkit.core.problem import Problem
from kernelkit.train.ema import Average
from kernelkit.train.step_mode import StepMode

DIVERGED_FACTOR = 0.1  # by which the learning rate shrinks after a non-finite loss
DIVERGENCES = 3  # in one stage, after which the schedule goes on to the next


@dataclass
class State:
    """The position of a run in its schedule; an epoch counts once `record_epoch` has returned."""

    folder: Path  # holds state.json and the files of weights that it names, nothing else
    settings: dict  # of the run, which must be equal for it to go on
    fingerprint: str  # a hash of the run's photos and labels
    history: list[dict] = field(default_factory=list)  # a row for each finished epoch of all jobs
    jobs: list[dict] = field(default_factory=list)  # finished: member, fold, cost, seconds, cut

    # The current job: a member's fold.
    member: str = ""  # "" before the first job
    fold: int = 0
    carried_seconds: float = 0.0  # of its epochs that earlier sessions finished
    stage: int = 0  # the position of the current stage in the schedule
    epoch: int = 0  # how many epochs of that stage are finished
    stage_over: bool = False  # whether its last epoch is among them
    last_epochs: int = 0  # how many the last stage has where time does not suffice; 0: its own
    learning_rate: float | None = None  # of this stage, after a divergence; None: its own
    divergences: int = 0  # in this stage
    counters: dict = field(default_factory=dict)  # of early stopping and plateau, by callback
    predict_rate: float = 0.0  # photos predicted a second; 0 while unknown

    # Its chosen epoch. The merit is the metric's value with the sign by which greater is better.
    highest: float | None = None  # the best merit over all stages; None before the first epoch
    margin: float = 0.0  # the standard error of that epoch's value
    floor: tuple[float, float] | None = None  # merit and loss of the best with the `head_only`
    best_score: float | None = None  # the metric's value at the chosen epoch
    best_stage: int = 0  # the position of its stage

    # Its files. "" where there is none.
    best: str = ""  # weights of the chosen epoch
    start: str = ""  # weights with the fitted head, before the backbone trained
    last: str = ""  # weights to go on from
    optimizer: str = ""  # the optimizer's variables; a stage starts with a new optimizer
    average: str = ""  # the averaged weights; else the average begins with the weights
    averaged_steps: int = 0  # of training, in the average
    sizes: dict[str, int] = field(default_factory=dict)  # in bytes, to notice files cut short

    preflight: dict = field(default_factory=dict)
    """What was measured on this machine before the first stage: machine (a text that identifies
    devices and versions); rows (one for each trial: member, stage, image_size, devices, precision,
    micro_batch, xla, images_per_second, peak_bytes or None, outcome); chosen (a `StepMode`); speeds
    ("MEMBER/STAGE": photos a second of a training step); predict ("MEMBER": of a prediction)."""
    step_mode: dict = field(default_factory=dict)  # the fields of this session's `StepMode`
    micro_batches: dict[str, int] = field(default_factory=dict)  # other than its, by "MEMBER/STAGE"
    recomputed: dict[str, bool] = field(default_factory=dict)  # likewise, blocks of a transformer
    outliers: list[tuple[str, float]] | None = None  # Id and distance; None while not computed

    scouting: dict = field(default_factory=dict)
    """What the scout found and chose: rows (the fields of `CandidateMetrics`), speeds (photos a
    second of a prediction, by name), and once it has chosen members (names), length, folds and
    reason, as `kernelkit.train.costs.Filling` has them."""

    resumed: bool = False  # whether this session goes on with an earlier one's run
    earlier_seconds: float = 0.0  # of the epochs that earlier sessions finished
    stopped_by_time_limit: bool = False
    ended: bool = False  # whether the session wrote its results, though time cut the run short

    @property
    def metric(self) -> Metric:
        """The competition's metric: the setting `metric`, or else accuracy."""
        return metric_named(self.settings.get("metric", "accuracy"))

    @property
    def rows(self) -> list[dict]:
        """The history of the current job."""
        return self.rows_of(self.member, self.fold)

    def rows_of(self, member: str, fold: int) -> list[dict]:
        """Return the history of a member's fold."""
        return [row for row in self.history if (row["member"], row["fold"]) == (member, fold)]

    def run_out_of_time(self) -> None:
        """Note that the session's end cut training or prediction short."""
        self.stopped_by_time_limit = True

    def begin_job(self, member: str, fold: int) -> None:
        """Go before the first epoch of a member's fold, unless it is the current job."""
        if (member, fold) == (self.member, self.fold):
            self.carried_seconds = sum(row["seconds"] for row in self.rows)
            return
        self.member, self.fold = member, fold
        self.stage, self.epoch, self.stage_over, self.last_epochs = 0, 0, False, 0
        self.learning_rate, self.divergences, self.counters = None, 0, {}
        self.carried_seconds, self.predict_rate = 0.0, 0.0
        self.highest, self.margin, self.floor = None, 0.0, None
        self.best_score, self.best_stage = None, 0
        self.best = self.start = self.last = self.optimizer = self.average = ""
        self.averaged_steps = 0
        for file in self.folder.glob("pseudo-*"):  # an earlier job's choice
            file.unlink()
        self.remove_features()

    def finish_job(self, cost: float, seconds: float, cut: bool = False) -> None:
        """Note the current job's cost and seconds; later sessions go on with a `cut` one."""
        seconds += self.carried_seconds
        row = {"member": self.member, "fold": self.fold, "cost": cost, "seconds": seconds}
        self.jobs.append(row | ({"cut": True} if cut else {}))
        self.save()

    def record_epoch(
        self,
        row: dict,
        network,
        optimizer=None,
        average: Average | None = None,
        *,
        error: float = 0.0,
        head_only: bool = False,
        stage_over: bool,
    ) -> None:
        """Write an epoch's weights, choose between it and earlier ones, and save: it counts now.

        The later an epoch is, the more its network has learned, and the best value of a few hundred
        validation photos is mostly luck: the latest epoch within one standard error (`error`) of
        the highest was 0.1 to 0.3 points better on test photos (tests/benchmarks/choices.md). None
        is chosen whose value and loss are both worse than those with the `head_only`, fitted on
        cached features. `average` may be chosen in place of the weights. Raises OSError if a file
        can't be written.
        """
        self.history.append(row)
        self._write_files(network, optimizer, average)
        merit, loss = self.metric.sign * row["val_score"], row["val_loss"]
        if self.highest is None or merit > self.highest:
            self.highest, self.margin = merit, error
        if head_only:
            self.floor = merit, loss
        worse = self.floor and merit < self.floor[0] and loss > self.floor[1]
        if merit >= self.highest - min(self.margin, error) and not worse:
            self.best_score, self.best_stage = row["val_score"], self.stage
            self.best = self.average or self.last
        self.epoch, self.stage_over = self.epoch + 1, stage_over
        self.save()

    def advance(self, restore_best: bool, head_only: bool = False) -> None:
        """Go to the next stage, from the chosen epoch's weights or else from the last ones.

        Those of a stage that trained the `head_only` are kept, as the start of the fine-tuning.
        """
        self.stage, self.epoch, self.stage_over = self.stage + 1, 0, False
        self.counters, self.divergences, self.learning_rate, self.optimizer = {}, 0, None, ""
        if restore_best:
            self.restore_best()
        if head_only:
            self.start = self.last
        self.save()

    def restore_best(self) -> None:
        """Go on from the chosen epoch's weights, with a new optimizer."""
        self.last, self.optimizer, self.average = self.best or self.last, "", ""

    def diverge(self, learning_rate: float) -> str:
        """Go back to the chosen epoch, at a tenth of the rate; the third time the stage ends.

        Returns a clause that says so.
        """
        self.restore_best()
        self.divergences += 1
        self.stage_over = self.divergences == DIVERGENCES
        self.learning_rate = learning_rate * DIVERGED_FACTOR
        self.save()
        if self.stage_over:
            return "the stage ends here, on the best weights"
        return f"on from the best weights at learning rate {self.learning_rate:g}"

    def mode_of(self, stage: str) -> StepMode:
        """Return how the current job takes the steps of a stage."""
        name, mode = f"{self.member}/{stage}", StepMode(**self.step_mode)
        mode = mode.recomputing(self.recomputed.get(name, mode.recompute))
        return mode.at_most(self._micro_batch(name))

    def _micro_batch(self, name: str) -> int | None:
        return self.micro_batches.get(name, self.step_mode.get("micro_batch"))

    def halve_micro_batch(self, stage: str, batch_size: int) -> str:
        """Halve the micro-batch of a stage; return a clause that says so.

        Raises Problem if it is one photo already.
        """
        mode = self.mode_of(stage).halved(batch_size)
        if mode is None:
            raise Problem(
                f"Stage {stage} ran out of memory with one photo at a time on a device: give a "
                "smaller --image-size, or a smaller --backbone."
            )
        self.micro_batches[f"{self.member}/{stage}"] = mode.micro_batch
        self.save()
        return f"on from the last epoch with at most {mode.micro_batch} photos at once"

    def photos_at_once(self, members: Mapping) -> dict[str, int]:
        """Return the micro-batch of each "MEMBER/STAGE" that has one; members by name: stages."""
        names = [f"{name}/{s.name}" for name, m in members.items() for s in m.stages if not s.views]
        return {name: photos for name in names if (photos := self._micro_batch(name))}

    @property
    def files(self) -> list[str]:
        """The names of the files that count."""
        return list(filter(None, (self.best, self.start, self.last, self.optimizer, self.average)))

    def save(self) -> None:
        """Write state.json, then drop the files that it no longer names."""
        self.sizes = {name: self._size_of(name) for name in self.files}
        content = dataclasses.asdict(self) | {"folder": None}
        write_atomically(self.folder / "state.json", json.dumps(content, indent=1))
        for file in self.folder.glob("*epoch-*"):
            if file.name not in self.files:
                file.unlink()

    def _size_of(self, name: str) -> int:
        file = self.folder / name
        return file.stat().st_size if file.is_file() else -1

    def _write_files(self, network, optimizer=None, average: Average | None = None) -> None:
        """Write weights, and the optimizer's variables, under new names; `save` counts them."""
        name = f"epoch-{len(self.history):04d}"
        self.last = f"{name}.weights.h5"
        write_weights(network, self.folder / self.last)
        self.optimizer = self.average = ""
        if average and average.momentum:
            self.average, self.averaged_steps = f"{name}.average.weights.h5", average.steps
            with average.in_network():
                write_weights(network, self.folder / self.average)
        if optimizer:
            variables = {}
            optimizer.save_own_variables(variables)
            self.optimizer = f"{name}.optimizer.npz"
            write_atomically(self.folder / self.optimizer, lambda path: np.savez(path, **variables))

    def keep_first(self, network) -> None:
        """Keep a network that has not trained yet, the fallback if the first epoch diverges."""
        if not self.last:
            self._write_files(network)
            self.save()

    def restore(self, network, optimizer=None, variables=()) -> None:
        """Load the weights to go on from, and the optimizer's variables if the stage has begun.

        The optimizer is built for `variables` in any case: TensorFlow traces a first training step
        that makes its own a second time. Raises Problem if a file is missing or damaged.
        """
        with readable(self.folder / self.last) as file:
            network.load_weights(file)
        if optimizer:
            optimizer.build(variables)
        if self.optimizer and optimizer:
            with readable(self.folder / self.optimizer) as file, np.load(file) as stored:
                optimizer.load_own_variables(dict(stored))

    def restore_average(self, network, momentum: float) -> Average:
        """Return the average of the network's weights as it was; a new one at the beginning."""
        file = self.folder / self.average if self.average else None
        return Average(network, momentum, self.averaged_steps, file)

    def load_best(self, network) -> None:
        """Load the chosen epoch's weights, if any. Raises Problem if the file is damaged."""
        if self.best:
            with readable(self.folder / self.best) as file:
                network.load_weights(file)

    def recover_files(self) -> None:
        """Go on without the files that are cut or missing, and print a line.

        The job goes on from the chosen epoch, from the last one where that is lost, or from its
        beginning; the results of other jobs are not in these files.
        """
        bad = [name for name in self.files if self.sizes[name] != self._size_of(name)]
        if self.start in bad:  # nothing but `interpolate` needs it
            bad, self.start = [name for name in bad if name != self.start], ""
        if not bad:
            return
        if self.best and self.best not in bad:
            cure = "its training goes on from the chosen epoch"
            self.restore_best()
        elif self.last not in bad:
            cure = "its last epoch is the chosen one"
            self.best, self.optimizer, self.average = self.last, "", ""
            self.best_score, self.best_stage = self.rows[-1]["val_score"], self.stage
        else:
            cure, member, fold = "its training begins anew", self.member, self.fold
            self.history = [row for row in self.history if row not in self.rows]
            self.member = ""
            self.begin_job(member, fold)
        print(f"{self.folder / bad[0]} is cut or missing: {cure}.")

    def keep_features(self, number: int, features: np.ndarray) -> None:
        """Keep the features of a pass for a later session, where the disk has room for them."""
        with contextlib.suppress(OSError):
            file = self.folder / f"features-{number}.npy"
            write_atomically(file, lambda beside: np.save(beside, features))

    def kept_features(self, number: int, photos: int) -> np.ndarray | None:
        """Return the features of so many photos that an earlier session has kept, or None."""
        try:
            features = np.load(self.folder / f"features-{number}.npy")
        except UNREADABLE:
            return None
        return features if len(features) == photos else None

    def remove_features(self) -> None:
        """Remove the features that were kept."""
        for file in self.folder.glob("features-*"):
            file.unlink()

    def end(self) -> None:
        """Remove the files of a run that has written its results, unless time cut it short."""
        if self.stopped_by_time_limit:
            self.ended = True
            self.save()
            print("Time cut this run short: the same command goes on, on Kaggle `ship --continue`.")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def write_weights(network, path: Path) -> None:
    """Write a model's weights in Keras' format, atomically. Raises OSError if it can't be written.

    Room for them is reserved first, because HDF5 crashes the process where a disk is full.
    """
    write_atomically(path, network.save_weights, bytes_on_disk(network))


def bytes_on_disk(network) -> int:
    """Return how many bytes a file of a model's weights takes, or a little less."""
    weights = network.get_weights()
    return sum(weight.size * weight.itemsize + 4096 for weight in weights) + (1 << 16)


@contextlib.contextmanager
def readable(file: Path) -> Iterator[Path]:
    """Give a file of the state; a Problem names it where it is damaged or missing."""
    try:
        yield file
    except (*UNREADABLE, TypeError) as error:
        raise Problem(f"{file} is damaged or missing: give --fresh or another --output.") from error
