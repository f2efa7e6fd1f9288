"""Send each dataset, push or submission at most once.

It is sent again only when Kaggle provably did not receive it: after a lost answer Kaggle is probed
until it has shown at every probe for `timeouts.prove` seconds that it has nothing. Where the probes
can't tell, a person decides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kernelkit.core.problem import Problem
from ship.context import Context
from ship.kaggle.client_process import AnswerLost, Refused, Unavailable
from ship.output import say


@dataclass(frozen=True)
class Found:
    """Kaggle has what was sent; `evidence` is what the caller needs to know of it."""

    evidence: Any


@dataclass(frozen=True)
class Absent:
    """Kaggle shows that it does not have it."""


@dataclass(frozen=True)
class Unknown:
    """Kaggle does not tell, or contradicts itself."""

    why: str


DeliveryStatus = Found | Absent | Unknown


class Undecided(Problem):
    """Nobody knows whether something arrived: a person has to decide."""


@dataclass(frozen=True)
class Transmission:
    """Something that is sent to Kaggle at most once."""

    context: Context
    what: str  # its name in sentences
    probe: Callable[[], DeliveryStatus]  # asks Kaggle once whether it has arrived
    forget: Callable[[], None]  # saves that it is not there
    decide: str  # ends the sentence "nobody knows whether ...": where to look, how to go on

    def send(self, begin: Callable[[], None], call: Callable[[], Any]) -> Any:
        """Send it, and return the evidence of its arrival: that of `call`, or that of the probe.

        Args:
            begin: saves that it is being sent.
            call: makes the one call. It returns the evidence in a clear answer, raises AnswerLost
                where there is none, and Problem where Kaggle refuses.

        Raises Undecided where nobody knows whether it arrived, and Problem where Kaggle refused it,
        or did not get it in all attempts.
        """
        retries = self.context.timeouts.retries
        for _ in range(retries):
            begin()
            try:
                return call()
            except AnswerLost as error:
                lost = error
            except Problem:
                self.forget()
                raise
            say(f"the answer to {self.what} was lost ({lost}); asking Kaggle whether it arrived")
            if found := self._settle(late=lost.late):
                return found.evidence
            say(f"Kaggle has not got {self.what}: sending it once more")
        self.forget()
        raise Unavailable(
            f"Kaggle gave no usable answer to {self.what} in {retries} attempts (the last: {lost}) "
            "and did not get it: run the same command again later."
        )

    def settle_earlier(self, again: bool = False) -> Found | None:
        """Find out whether it arrived after its sending was cut short; if not, forget it.

        With `again` it is to be sent once more in any case. Raises Undecided where nobody knows.
        """
        if not again:
            say(f"{self.what} was cut short before; asking Kaggle whether it arrived")
            if found := self._settle():
                return found
        self.forget()
        return None

    def _settle(self, late: bool = False) -> Found | None:
        """Find out whether it has arrived; None when its absence is proven.

        However long ago it was sent, its absence is proven anew: this machine's clock can be wrong,
        and Kaggle's lists may lag. With `late` no answer came in time: it may still take effect.
        """
        timeouts = self.context.timeouts
        status = self._status(timeouts.prove + (timeouts.timeout if late else 0.0))
        if isinstance(status, Unknown):
            raise Undecided(
                f"nobody knows whether {self.what} arrived ({status.why}), so nothing is sent "
                f"again: {self.decide}"
            )
        return status if isinstance(status, Found) else None

    def _status(self, needed: float) -> DeliveryStatus:
        """Probe until it is found, or was absent at every probe for `needed` seconds.

        Only the pauses between answered probes count: not an outage, nor a laptop's sleep.
        """
        remote, timeouts = self.context.remote, self.context.timeouts
        waited = absent = 0.0
        for number, pause in enumerate(timeouts.polls()):
            try:
                with remote.patient(timeouts.outage):
                    status = self.probe()
            except (Refused, Unavailable) as problem:
                status = Unknown(str(problem).rstrip("."))
            if isinstance(status, Unknown):
                absent = 0.0
            proven = absent >= needed if isinstance(status, Absent) else waited >= 2 * needed
            if isinstance(status, Found) or (number and proven):
                return status
            if number == 0 and needed > 10:
                say(f"it is not there yet; asking again for {needed / 60:.0f} minutes: lists lag")
            pause = min(pause, max(needed / 4, timeouts.poll))
            remote.wait(pause)
            waited, absent = waited + pause, absent + pause
        raise AssertionError("polling never ends by itself")
