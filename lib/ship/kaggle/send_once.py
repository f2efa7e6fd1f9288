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
    """Kaggle has what was sent."""

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

    what: str  # its name in sentences
    probe: Callable[[], DeliveryStatus]  # asks Kaggle once whether it has arrived
    forget: Callable[[], None]  # saves that it is not there
    decide: str  # ends the sentence "nobody knows whether ...": where to look, how to go on
    begin: Callable[[], None] | None = None  # saves that it is being sent
    send: Callable[[], dict] | None = None  # makes the one call, which may raise AnswerLost


def send_once(context: Context, transmission: Transmission) -> Any:
    """Send something; return Kaggle's answer, or `Found` when that was lost but it has arrived.

    Raises:
        Undecided: nobody knows whether it arrived.
        Problem: Kaggle refused it, or did not get it in all attempts.
    """
    retries = context.timeouts.retries
    for _ in range(retries):
        transmission.begin()
        try:
            return transmission.send()
        except AnswerLost as error:
            lost = error
        except Problem:
            transmission.forget()
            raise
        what = f"the answer to {transmission.what} was lost ({lost})"
        say(f"{what}; asking Kaggle whether it arrived")
        if found := settle(context, transmission, late=lost.late):
            return found
        say(f"Kaggle has not got {transmission.what}: sending it once more")
    transmission.forget()
    raise Unavailable(
        f"Kaggle gave no usable answer to {transmission.what} in {retries} attempts (the last: "
        f"{lost}) and did not get it: run the same command again later."
    )


def settle(context: Context, transmission: Transmission, late: bool = False) -> Found | None:
    """Find out whether something has arrived; None when its absence is proven.

    However long ago it was sent, its absence is proven anew: this machine's clock can be wrong, and
    Kaggle's lists may lag. With `late` no answer came in time: it may still take effect.

    Raises:
        Undecided: nobody knows.
    """
    needed = context.timeouts.prove + (context.timeouts.timeout if late else 0.0)
    status = _delivery_status(context, transmission, needed)
    if isinstance(status, Unknown):
        raise Undecided(
            f"nobody knows whether {transmission.what} arrived ({status.why}), so nothing is sent "
            f"again: {transmission.decide}"
        )
    return status if isinstance(status, Found) else None


def _delivery_status(context: Context, transmission: Transmission, needed: float) -> DeliveryStatus:
    """Probe until it is found, or was absent at every probe for `needed` seconds.

    Only the pauses between answered probes count: not an outage, nor a laptop's sleep.
    """
    waited = absent = 0.0
    for number, pause in enumerate(context.timeouts.polls()):
        try:
            with context.remote.patient(context.timeouts.outage):
                status = transmission.probe()
        except (Refused, Unavailable) as problem:
            status = Unknown(str(problem).rstrip("."))
        if isinstance(status, Found):
            return status
        if isinstance(status, Unknown):
            absent = 0.0
            if waited >= 2 * needed:
                return status
        elif number and absent >= needed:
            return status
        if number == 0 and needed > 10:
            say(f"it is not there yet; asking again for {needed / 60:.0f} minutes: lists lag")
        pause = min(pause, max(needed / 4, context.timeouts.poll))
        context.remote.wait(pause)
        waited, absent = waited + pause, absent + pause
    raise AssertionError("polling never ends by itself")
