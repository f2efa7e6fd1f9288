"""What the rest of a run costs, from measured speed, against the end of the session."""

import time
from dataclasses import dataclass

from training.state import State

WRITING = 1.1  # predictions take a little more than their passes: loading weights, writing files


class OutOfTime(Exception):
    """Training must stop so that the prediction still fits into the session."""


@dataclass
class Clock:
    """Decides whether the next epoch still fits."""

    state: State
    stages: tuple  # objects with name, share (of the backbone that trains, 0..1) and epochs
    images: int  # that a prediction pass goes over
    passes: int  # of the prediction
    end: float  # of the session, in time.monotonic()'s seconds; infinity without a limit

    def left(self) -> float:
        """Return the seconds until the session ends."""
        return self.end - time.monotonic()

    def predict_seconds(self, passes: int, rate: float) -> float:
        """Return the cost of `passes` at `rate` photos a second; 0 while that is unknown."""
        return WRITING * passes * self.images / rate if rate else 0.0

    def epoch_seconds(self, stage: int) -> float:
        """Return the cost of an epoch of a stage: the last epoch's, scaled by what trains.

        Forward costs 1 and the way back 2 for the share that trains (both are as many
        multiplications as the forward pass: by the inputs and by the weights).
        """
        if not self.state.history:
            return 0.0
        last = self.state.history[-1]
        shares = {stage.name: stage.share for stage in self.stages}
        return (
            last["seconds"] * (1 + 2 * self.stages[stage].share) / (1 + 2 * shares[last["stage"]])
        )

    def remaining(self) -> float:
        """Return the most seconds that the rest of the run can take."""
        state = self.state
        seconds = self.predict_seconds(self.passes, state.predict_rate)
        for index in range(state.stage, len(self.stages)):
            done = state.epoch if index == state.stage else 0
            seconds += (self.stages[index].epochs - done) * self.epoch_seconds(index)
        return min(seconds, self.left())

    def check_epoch(self) -> None:
        """Raise OutOfTime when the next epoch and the prediction do not both fit."""
        need = self.predict_seconds(self.passes, self.state.predict_rate)
        if need + self.epoch_seconds(self.state.stage) > self.left():
            raise OutOfTime

    def check_batch(self, rate: float) -> None:
        """Raise OutOfTime when an epoch under way, at `rate`, endangers the prediction.

        Before anything has been validated one plain pass alone is kept safe, after that all.
        """
        passes = self.passes if self.state.best else 1
        if self.predict_seconds(passes, self.state.predict_rate or rate) > self.left():
            raise OutOfTime
