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
    epochs: int


@dataclass
class Clock:
    """Decides whether the next epoch or prediction pass still fits into the session."""

    state: State
    """The run's state, whose history has the measured seconds."""
    stages: Sequence[Stage]
    """The schedule."""
    images: int
    """How many photos one prediction pass goes over."""
    passes: int
    """How many prediction passes the run wants."""
    end: float
    """When the session ends, in seconds of time.monotonic(); infinity without a limit."""

    def left(self) -> float:
        """Return the seconds until the session ends."""
        return self.end - time.monotonic()

    def note_prediction(self, images: int, seconds: float) -> None:
        """Remember how fast photos are predicted, from a pass over `images` of them."""
        self.state.predict_rate = images / max(seconds, 1e-6)

    def predict_seconds(self, passes: int, rate: float | None = None) -> float:
        """Return the seconds that prediction passes take; 0 while the speed is unknown.

        `rate` is in photos a second; None takes the measured one.
        """
        rate = self.state.predict_rate if rate is None else rate
        return PREDICTION_OVERHEAD * passes * self.images / rate if rate else 0.0

    def epoch_seconds(self, stage: int) -> float:
        """Return the cost of an epoch of a stage: the last epoch's, scaled by what trains.

        A forward pass costs 1. A backward pass costs 2 for the fraction that trains: as many
        multiplications as the forward pass for the inputs, and again for the weights.
        """
        if not self.state.history:
            return 0.0
        last = self.state.history[-1]
        cost = {stage.name: 1 + 2 * stage.fraction for stage in self.stages}
        return last["seconds"] * cost[self.stages[stage].name] / cost[last["stage"]]

    def remaining(self) -> float:
        """Return the most seconds that the rest of the run can take."""
        state = self.state
        seconds = self.predict_seconds(self.passes)
        for index in range(state.stage, len(self.stages)):
            done = state.epoch if index == state.stage else 0
            seconds += (self.stages[index].epochs - done) * self.epoch_seconds(index)
        return min(seconds, self.left())

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

    def pass_fits(self) -> bool:
        """Return whether one more prediction pass fits."""
        return self.predict_seconds(1) <= self.left()
