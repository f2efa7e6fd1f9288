"""How long `ship` waits for Kaggle, and how often it asks."""

import os
import random
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from kernelkit.core.problem import Problem
from ship.kaggle.response_schemas import error_text

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
SomeSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Timeouts(BaseModel, frozen=True):
    """How long to wait for Kaggle; the variable SHIP_<NAME> sets a field."""

    timeout: SomeSeconds = 60.0  # for an answer, or for the next bytes of one
    retries: Annotated[int, Field(ge=1)] = 6  # attempts at a call that may be repeated
    backoff: Seconds = 1.0  # pause before the second attempt; it doubles with each further one
    poll: SomeSeconds = 2.0  # first pause between two questions about a run, a dataset or a score
    poll_max: Seconds = 60.0  # longest such pause
    prove: Seconds = 180.0  # how long Kaggle must show each time that it lacks what was sent
    ready: Seconds = 3600.0  # for a dataset to become READY
    score: Seconds = 43200.0  # for a score: a code competition runs the kernel again
    outage: Seconds = 86400.0  # to ask again without an answer while something goes on at Kaggle
    silence: Seconds = 240.0  # the longest that nothing is printed while `ship` waits

    @property
    def tick(self) -> float:
        """How long to wait at a time before checking whether to print something."""
        return max(self.silence / 8, 0.05)

    @property
    def lost(self) -> float:
        """How long one run may have no known status, or no output, while Kaggle answers."""
        return 10 * self.prove

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Timeouts":
        """Read SHIP_TIMEOUT, SHIP_RETRIES and so on; Problem where one is out of range."""
        names = {name: f"SHIP_{name.upper()}" for name in cls.model_fields}
        given = {name: environment[key] for name, key in names.items() if key in environment}
        try:
            return cls(**given)
        except ValidationError as error:
            name, _, reason = error_text(error).partition(": ")
            raise Problem(f"{names[name]}: {reason}.") from None

    def pause_after(self, attempt: int, asked: float | None) -> float:
        """Return the seconds before the next attempt; `asked` are those that Kaggle asks for."""
        growing = self.backoff * 2 ** min(attempt - 1, 10)
        return min(asked or min(growing, self.poll_max), 120.0) * random.uniform(1.0, 1.25)

    def polls(self) -> Iterator[float]:
        """Yield the pauses between questions: each 1.3 times the one before, up to poll_max."""
        pause = self.poll
        while True:
            yield pause
            pause = min(pause * 1.3, max(self.poll_max, self.poll))
