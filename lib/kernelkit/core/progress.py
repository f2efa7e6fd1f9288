"""The progress line: the kernel prints one after each epoch, `ship follow` reads it from the log.

[stage 2/4 half] epoch 3/12  loss 0.412  accuracy 0.881  val_accuracy 0.912  118 images/s  left
0:12:34  (one line)
"""

import math
import re
from dataclasses import dataclass
from datetime import timedelta

LINE = re.compile(
    r"\[stage (?P<number>\d+)/(?P<stages>\d+) (?P<stage>[^\[\]]+)\] "
    r"epoch (?P<epoch>\d+)/(?P<epochs>\d+)"
    r"(?:  loss (?P<loss>\S+))?"
    r"(?:  accuracy (?P<accuracy>\S+))?"
    r"(?:  val_accuracy (?P<val_accuracy>\S+))?"
    r"(?:  val_(?P<metric>(?!accuracy )\S+) (?P<score>\S+))?"
    r"(?:  (?P<images_per_second>\S+) images/s)?"
    r"(?:  left (?P<left>\d+:\d\d:\d\d|(?:\d+ days?, )\d+:\d\d:\d\d|-))?"
)
KINDS = dict.fromkeys(("number", "stages", "epoch", "epochs"), int)  # of its groups; else text
KINDS |= dict.fromkeys(("loss", "accuracy", "val_accuracy", "images_per_second", "score"), float)


def clock_text(seconds: float) -> str:
    """Return seconds as h:mm:ss, or `-` where they are infinite or not a number."""
    return str(timedelta(seconds=round(seconds))) if math.isfinite(seconds) else "-"


@dataclass(frozen=True)
class EpochProgress:
    """How far a run is after an epoch. Accuracies are fractions, 0 to 1."""

    number: int  # of the stage, from 1
    stages: int  # how many stages the schedule has
    stage: str  # the stage's name, without "]"
    epoch: int  # within the stage, from 1
    epochs: int  # the most that the stage runs
    loss: float = math.nan
    accuracy: float = math.nan
    val_accuracy: float = math.nan
    images_per_second: float = math.nan  # while training
    # The most time that the rest of the run can take, h:mm:ss; "-" while it is unknown.
    left: str = "-"
    metric: str = "accuracy"  # the competition's metric, as the row of METRICS is called
    score: float | None = None  # its value on the validation photos; None where it is the accuracy
    network: str = ""  # the member and the fold, where a run has several; `parse` leaves it out

    def line(self) -> str:
        """Return the line that the kernel prints."""
        network = f"{self.network}  " if self.network else ""
        return (
            f"{network}[stage {self.number}/{self.stages} {self.stage}] "
            f"epoch {self.epoch}/{self.epochs}  "
            f"loss {self.loss:.3f}  accuracy {self.accuracy:.3f}  "
            f"val_accuracy {self.val_accuracy:.3f}  {self.measured()}"
            f"{self.images_per_second:.0f} images/s  left {self.left}"
        )

    def measured(self) -> str:
        """Return the part of the line about a metric other than accuracy, with its blanks."""
        return "" if self.score is None else f"val_{self.metric} {self.score:.4f}  "

    @classmethod
    def parse(cls, text: str) -> "EpochProgress | None":
        """Return the progress that a line of a log tells, or None where it tells none."""
        found = LINE.search(text)
        if not found:
            return None
        values = {name: value for name, value in found.groupdict().items() if value is not None}
        try:
            return cls(**{name: KINDS.get(name, str)(value) for name, value in values.items()})
        except ValueError:
            return None

    def summary(self) -> str:
        """Return the progress in short, as it stands beside a clock."""
        text = f"stage {self.number}/{self.stages} {self.stage}, epoch {self.epoch}/{self.epochs}"
        if math.isfinite(self.val_accuracy):
            text += f", val_accuracy {self.val_accuracy:.3f}"
        if self.score is not None:
            text += f", val_{self.metric} {self.score:.4f}"
        return text + (f", left {self.left}" if self.left != "-" else "")
