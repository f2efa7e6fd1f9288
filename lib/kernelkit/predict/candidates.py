"""The candidates of a scout: what is known of each, in memory and on disk.

scout/NAME.npz in a run's output holds what the scout has found of a candidate:

| array | shape | content |
|---|---|---|
| ids | str [photos] | of all labelled photos: the first fold's that train, then the others |
| frozen | float32 [photos, classes] | out-of-fold probabilities by frozen features |
| tuned | float32 [validation, classes] | of the first fold's, fine-tuned shortly; empty without |
| figures | str | predict, images_per_second (photos a second) and peak_bytes, as JSON |
| fingerprint | str | a hash of the photos, labels and folds |
| settings, training | str | those that decide the features, and all, as JSON |

scout/NAME.npy beside it holds the features, float16 [views, photos, width], until members are
chosen. A later run, in whose inputs the output is mounted, takes all this up.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from kernelkit.config.members import decisive
from kernelkit.config.settings import size_text
from kernelkit.core.contract import UNREADABLE, CandidateMetrics, read_arrays, write_arrays
from kernelkit.core.files import as_json, write_atomically
from kernelkit.core.metrics import Metric
from kernelkit.core.problem import Problem
from kernelkit.offline import find_in_outputs
from kernelkit.train.costs import Job, epoch_cost, seconds_of
from kernelkit.train.state import State

EPOCHS = 2  # of the short fine-tuning
TITLES = "candidate", "size", "out of fold", "95 % interval", "tuned", "photos/s", "minutes", "GB"
ROW = "  {:<14} {:>9} {:>11} {:>17} {:>7} {:>9} {:>8} {:>6}  {}"
DECIDE_FEATURES = ("backbone", "weights", "image_size", "input_range", "interpolation", "seed")


@dataclass(eq=False)  # two are the same only where they are one
class Candidate:
    """What is known of a candidate."""

    name: str
    config: object  # its settings
    job: Job  # on the first fold
    features: np.ndarray | None = None  # float16 [views, photos, width] of all labelled photos
    frozen: np.ndarray | None = None  # out-of-fold probabilities [photos, classes]
    tuned: np.ndarray | None = None  # of the first fold's validation photos, after rung 1
    figures: dict = field(default_factory=dict)  # predict, images_per_second, peak_bytes
    reason: str = ""  # why it is not chosen
    weight: float = 0.0  # in the blend of the candidates

    @property
    def rate(self) -> float:
        """How fast it trains, in billions of multiply-adds a second, by what was measured."""
        rates = [self.figures["predict"] * self.job.gmacs]
        if speed := self.figures.get("images_per_second"):
            rates.append(speed * self.job.gmacs * epoch_cost(full_stage(self.config)))
        return min(rates)

    @property
    def seconds(self) -> float:
        """The seconds of its whole schedule on one fold."""
        return seconds_of(self.job, self.rate)

    def row(
        self, chosen: bool, metric: Metric, truth: np.ndarray, judged: np.ndarray, held: np.ndarray
    ) -> dict:
        """Return the fields of CandidateMetrics.

        `truth` are the classes of all labelled photos, `judged` the positions of those that judge
        the features, and `held` of the first fold's, which judge the fine-tuning.
        """
        score = low = high = tuned = None
        known = self.frozen is not None
        if known:
            seen = self.frozen[judged], truth[judged]
            score, (low, high) = metric.score(*seen), metric.interval(*seen)
        if self.tuned is not None:
            tuned = metric.score(self.tuned, truth[held])
        row = CandidateMetrics(
            name=self.name,
            backbone=self.config.backbone,
            image_size=list(self.config.image_size),
            score=score,
            score_low=low,
            score_high=high,
            tuned=tuned,
            images_per_second=self.figures.get("predict"),
            minutes=self.seconds / 60 if known else None,
            peak_bytes=self.figures.get("peak_bytes"),
            weight=self.weight if known else None,
            chosen=chosen,
            reason=self.reason,
        )
        return asdict(row)


def full_stage(config):
    """Return the last stage of a schedule with so few epochs as rung 1 has, at the full size."""
    last = config.stages[-1]
    return dataclasses.replace(
        last, name="scout", fraction=1.0, scale=1.0, views=0, pseudo=0.0, epochs=EPOCHS
    )


class KeptCandidates:
    """The files of the candidates that are finished.

    `folder` is this run's; the outputs of earlier sessions may be mounted below `inputs`. The
    state's fingerprint decides which files count; `ids` are of all labelled photos, str [photos].
    """

    def __init__(self, folder: Path, inputs: Path, state: State, ids: np.ndarray):
        self.folder, self.inputs, self.state, self.ids = folder, inputs, state, ids

    def keep(self, candidate: Candidate) -> None:
        """Write what is known of a candidate. Raises OSError if a file can't be written."""
        file = self.folder / f"{candidate.name}.npz"
        if candidate.features is not None:
            features = candidate.features
            write_atomically(file.with_suffix(".npy"), lambda beside: np.save(beside, features))
        tuned = candidate.frozen[:0] if candidate.tuned is None else candidate.tuned
        arrays = {"ids": self.ids, "frozen": candidate.frozen, "tuned": tuned}
        texts = self._keys(candidate) | {"figures": json.dumps(candidate.figures)}
        write_arrays(file, arrays | {name: np.asarray(text) for name, text in texts.items()})

    def take_up(self, candidate: Candidate) -> bool:
        """Take up what this run, or a mounted one, has found of a candidate; return if there is."""
        name = f"{candidate.name}.npz"
        own = [self.folder / name] if (self.folder / name).is_file() else []
        for file in [*own, *find_in_outputs(self.inputs, f"{self.folder.name}/{name}")]:
            try:
                taken = self._read(file, candidate)
            except (Problem, *UNREADABLE):
                print(f"{file} is damaged: {candidate.name} is scouted again.")
                continue
            if taken:
                if not own:
                    self.keep(candidate)
                return True
        return False

    def drop_features(self) -> None:
        """Remove the features, which nobody needs once members are chosen."""
        for file in self.folder.glob("*.npy"):
            file.unlink()

    def _read(self, file: Path, candidate: Candidate) -> bool:
        """Read a candidate's file into it, unless it is of other photos or settings."""
        stored, keys = read_arrays(file), self._keys(candidate)
        same = {key: str(stored[key]) == text for key, text in keys.items()}
        if not (same["fingerprint"] and same["settings"]):
            return False
        if not np.array_equal(stored["ids"], self.ids):
            return False
        candidate.figures, candidate.frozen = json.loads(str(stored["figures"])), stored["frozen"]
        if same["training"] and len(stored["tuned"]):
            candidate.tuned = stored["tuned"]
        features = file.with_suffix(".npy")
        candidate.features = np.load(features) if features.is_file() else None
        return True

    def _keys(self, candidate: Candidate) -> dict[str, str]:
        """Return what must be equal for the results of an earlier run to count, as text."""
        settings = as_json(decisive(candidate.config))
        return {
            "fingerprint": self.state.fingerprint,
            "settings": json.dumps({name: settings[name] for name in DECIDE_FEATURES}),
            "training": json.dumps(settings),
        }


def table(rows: Sequence[Mapping]) -> str:
    """Return the candidates as a table for the log."""

    def text(value, form: Callable[[float], str]) -> str:
        return "-" if value is None else form(value)

    lines = [ROW.format(*TITLES, "chosen or why not").rstrip()]
    for row in rows:
        interval = text(
            row["score"], lambda _, row=row: f"{row['score_low']:.4f} to {row['score_high']:.4f}"
        )
        cells = (
            row["name"],
            size_text(row["image_size"]),
            text(row["score"], "{:.4f}".format),
            interval,
            text(row["tuned"], "{:.4f}".format),
            text(row["images_per_second"], "{:.0f}".format),
            text(row["minutes"], "{:.1f}".format),
            text(row["peak_bytes"], lambda value: f"{value / 2**30:.1f}"),
            ("chosen: " if row["chosen"] else "") + row["reason"],
        )
        lines.append(ROW.format(*cells))
    return "\n".join(lines)
