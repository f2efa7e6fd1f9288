"""What the rest of a run costs, estimated from measured speed, against the end of the session."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from training.state import State

PREDICTION_OVERHEAD = 1.1  # loading weights and writing files come on top of the passes


class OutOfTime(Exception):
    """Training must stop so that the prediction still fits into the session."""


class Stage(Protocol):
    """The parts of a stage of the schedule that the clock and the checkpoint use."""

    name: str
    fraction: float
    learning_rate: float
    epochs: int
    scale: float
    views: int


def passes_of(stage: Stage) -> int:
    """Return how many epochs' time a stage takes: one where it trains on cached features."""
    return 1 if stage.views else stage.epochs


def epoch_cost(stage: Stage) -> float:
    """Return what one photo costs in an epoch of a stage, in forward passes of the full size.

    A forward pass costs 1. A backward pass costs 2 for the fraction that trains: as many
    multiplications as the forward pass for the inputs, and again for the weights. A stage on cached
    features passes forward over the photos and their augmented views, once.
    """
    return (stage.views + 1 if stage.views else 1 + 2 * stage.fraction) * stage.scale**2


@dataclass
class Clock:
    """Decides whether the next epoch or prediction pass of a job still fits into the session."""

    state: State
    """The run's state, whose history has the measured seconds."""
    stages: Sequence[Stage]
    """The schedule."""
    images: int
    """How many photos one prediction pass goes over."""
    passes: float
    """How many prediction passes the run wants; a pass over larger photos counts for more."""
    end: float
    """When the session ends, in seconds of time.monotonic(); infinity without a limit."""
    later: float = 0.0
    """The seconds that the jobs after this one are expected to take."""

    def left(self) -> float:
        """Return the seconds until the session ends."""
        return self.end - time.monotonic()

    def note_prediction(self, images: int, seconds: float) -> None:
        """Remember how fast photos are predicted, from a pass over `images` of them."""
        self.state.predict_rate = images / max(seconds, 1e-6)

    def predict_seconds(self, passes: float, rate: float | None = None) -> float:
        """Return the seconds that prediction passes take; 0 while the speed is unknown.

        `rate` is in photos a second; None takes the measured one.
        """
        rate = self.state.predict_rate if rate is None else rate
        return PREDICTION_OVERHEAD * passes * self.images / rate if rate else 0.0

    def epoch_seconds(self, stage: int) -> float:
        """Return the cost of an epoch of a stage: the last epoch's, scaled by `epoch_cost`."""
        rows = self.state.rows
        if not rows:
            return 0.0
        cost = {stage.name: epoch_cost(stage) for stage in self.stages}
        return rows[-1]["seconds"] * cost[self.stages[stage].name] / cost[rows[-1]["stage"]]

    def remaining(self) -> float:
        """Return the most seconds that the rest of the run can take."""
        state = self.state
        seconds = self.predict_seconds(self.passes)
        for index in range(state.stage, len(self.stages)):
            done = state.epoch if index == state.stage else 0
            seconds += (passes_of(self.stages[index]) - done) * self.epoch_seconds(index)
        return min(seconds + self.later, self.left())

    def check_epoch(self) -> None:
        """Raise OutOfTime when the next epoch and the prediction do not both fit."""
        need = self.predict_seconds(self.passes)
        if need + self.epoch_seconds(self.state.stage) > self.left():
            raise OutOfTime

    def check_batch(self, rate: float) -> None:
        """Raise OutOfTime when an epoch under way endangers the prediction.

        `rate` is the training speed in photos a second, which stands in for the prediction's while
        that is unknown. Before anything has been validated time for one plain pass is kept, after
        that time for all passes.
        """
        passes = self.passes if self.state.best else 1
        if self.predict_seconds(passes, self.state.predict_rate or rate) > self.left():
            raise OutOfTime

    def pass_fits(self, passes: float = 1) -> bool:
        """Return whether one more prediction pass fits; one over larger photos counts for more."""
        return self.predict_seconds(passes) <= self.left()
