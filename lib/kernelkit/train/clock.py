"""What the rest of a run costs, estimated from measured speed, against the end of the session."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kernelkit.train.costs import Stage, epoch_cost, epochs_of
from kernelkit.train.state import State

PREDICTION_OVERHEAD = 1.1  # loading weights and writing files come on top of the passes


class OutOfTime(Exception):
    """Training must stop so that the prediction still fits into the session."""


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
    later: Callable[[], float] = lambda: 0.0
    """Returns the seconds that the jobs after this one are expected to take."""
    forecast: Callable[[Stage], float] = lambda _: 0.0
    """Returns the seconds of an epoch of a stage before one is measured; 0 while unknown."""
    news: Callable[[], str] = lambda: ""
    """Returns what is new about the plan, after an epoch; "" where nothing is."""
    several: bool = False
    """Whether the run has other jobs, so that lines name the member and the fold."""

    @property
    def network(self) -> str:
        """What lines call the network; "" where it is the only one."""
        return f"{self.state.member}, fold {self.state.fold}" if self.several else ""

    def name(self, stage: Stage) -> str:
        """Return what lines call a stage."""
        return ", ".join(filter(None, (self.network, f"stage {stage.name}")))

    def stages_left(self) -> Iterator[Stage]:
        """Yield the stage at which the state stands, until all are over."""
        while self.state.stage < len(self.stages):
            yield self.next_stage()

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
        """Return the seconds of an epoch of a stage: of its last one, or as forecast.

        Where there is neither it is the last epoch of any stage, scaled by `epoch_cost`.
        """
        rows, wanted = self.state.rows, self.stages[stage]
        if own := [row["seconds"] for row in rows if row["stage"] == wanted.name]:
            return own[-1]
        if forecast := self.forecast(wanted):
            return forecast
        if not rows:
            return 0.0
        cost = {stage.name: epoch_cost(stage) for stage in self.stages}
        return rows[-1]["seconds"] * cost[wanted.name] / cost[rows[-1]["stage"]]

    def next_stage(self) -> Stage:
        """Return the stage at which the state stands; the last one with as many epochs as fit.

        Its rate then still falls to its end. The number is kept: a later session goes on with it.
        """
        state, last = self.state, len(self.stages) - 1
        stage = self.stages[state.stage]
        if state.stage == last and not state.last_epochs and (one := self.epoch_seconds(last)):
            free = self.left() - self.predict_seconds(self.passes)
            fitting = max(1, math.floor(free / one)) if free < stage.epochs * one else stage.epochs
            if fitting < epochs_of(stage):
                print(f"{self.name(stage)} runs {fitting} of {stage.epochs} epochs: no more fit.")
                state.last_epochs = fitting
                state.run_out_of_time()
        if state.last_epochs and not stage.views:
            epochs = min(state.last_epochs, self.stages[last].epochs)
            self.stages[last] = dataclasses.replace(self.stages[last], epochs=epochs)
        return self.stages[state.stage]

    def rest(self) -> float:
        """Return the most seconds that the rest of the job can take."""
        state = self.state
        seconds = self.predict_seconds(self.passes)
        for index in range(state.stage, len(self.stages)):
            done = state.epoch if index == state.stage else 0
            seconds += (epochs_of(self.stages[index]) - done) * self.epoch_seconds(index)
        return seconds

    def remaining(self) -> float:
        """Return the most seconds that the rest of the run can take."""
        return min(self.rest() + self.later(), self.left())

    def check_epoch(self) -> None:
        """Raise OutOfTime when the next epoch and the prediction do not both fit.

        The first epoch of all begins in any case: `check_batch` watches over it.
        """
        need = self.predict_seconds(self.passes) + self.epoch_seconds(self.state.stage)
        if self.state.rows and need > self.left():
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
