"""How long `ship` waits for Kaggle, and how often it asks."""

import os
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kernelkit.config.settings import number, setting
from kernelkit.core.problem import Problem


@dataclass(frozen=True)
class Timeouts:
    """How long to wait for Kaggle, in seconds; the variable SHIP_<NAME> sets a field."""

    timeout: float = 60.0  # for an answer, or for the next bytes of one
    retries: int = 6  # attempts at a call that may be repeated
    backoff: float = 1.0  # pause before the second attempt; it doubles with each further one
    poll: float = 2.0  # first pause between two questions about a run, a dataset or a score
    poll_max: float = 60.0  # longest such pause
    prove: float = 180.0  # how long Kaggle must show at every question that it lacks what was sent
    ready: float = 3600.0  # for a dataset to become READY
    score: float = 43200.0  # for a score: a code competition runs the kernel again
    outage: float = 86400.0  # to ask again without an answer while something goes on at Kaggle
    silence: float = 240.0  # the longest that nothing is printed while `ship` waits

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
        """Read SHIP_TIMEOUT, SHIP_RETRIES and so on.

        Raises:
            Problem: a variable is no number, or out of range.
        """
        values = {}
        for name, default in vars(cls()).items():
            if (text := environment.get(f"SHIP_{name.upper()}")) is None:
                continue
            limits = {"above": 0} if name in ("timeout", "poll") else {"least": 0}
            limits = {"least": 1} if name == "retries" else limits
            try:
                values[name] = number(text, type(default), setting(**limits).metadata)
            except ArgumentTypeError as error:
                raise Problem(f"SHIP_{name.upper()}: {error}.") from None
        return cls(**values)

    def polls(self) -> Iterator[float]:
        """Yield the pauses between questions: each 1.3 times the one before, up to poll_max."""
        pause = self.poll
        while True:
            yield pause
            pause = min(pause * 1.3, max(self.poll_max, self.poll))
