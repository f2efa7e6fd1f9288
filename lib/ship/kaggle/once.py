"""Once means once: what may not arrive twice is sent again only when its absence is proven.

After a lost answer every witness is asked, again and again: a witness may have seen what was sent,
deny it, or not know. Only when all of them deny it at every question for `pace.prove` seconds is it
sent again. Otherwise a person decides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kernelkit.core.problem import Problem
from ship.context import Context
from ship.kaggle.line import AnswerLost, Refused, Unavailable
from ship.output import say


@dataclass(frozen=True)
class Found:
    """A witness has seen what was sent."""

    what: Any


@dataclass(frozen=True)
class Absent:
    """Every witness denies that it is there."""


@dataclass(frozen=True)
class Unknown:
    """A witness does not know, or contradicts another one."""

    why: str


Verdict = Found | Absent | Unknown


class Undecided(Problem):
    """Nobody knows whether something arrived: a person has to decide."""


@dataclass(frozen=True)
class Errand:
    """Something that is sent to Kaggle and may not arrive twice."""

    what: str
    """Names it in sentences."""
    look: Callable[[], Verdict]
    """Asks every witness once."""
    forget: Callable[[], None]
    """Saves that it is not there."""
    decide: str
    """Follows "nobody knows whether ... arrived": where to look, and how to go on."""
    begin: Callable[[], None] | None = None
    """Saves that it is being sent; None where it can only be asked about."""
    send: Callable[[], dict] | None = None
    """Makes the one call; raises AnswerLost when nobody knows whether it took effect."""


def send_once(context: Context, errand: Errand) -> Any:
    """Send something, and send it again only when it is proven not to have arrived.

    Returns:
        Kaggle's answer as a dict, or `Found` when the answer was lost but a witness has seen it.

    Raises:
        Undecided: nobody knows whether it arrived.
        Problem: Kaggle refused it, or did not get it in all attempts.
    """
    for _ in range(context.pace.retries):
        errand.begin()
        try:
            return errand.send()
        except AnswerLost as error:
            lost = error
        except Problem:
            errand.forget()
            raise
        say(f"the answer to {errand.what} was lost ({lost}); asking Kaggle whether it arrived")
        found = settle(context, errand, late=lost.late)
        if found:
            return found
        say(f"Kaggle has not got {errand.what}: sending it once more")
    errand.forget()
    raise Unavailable(
        f"Kaggle gave no usable answer to {errand.what} in {context.pace.retries} attempts (the "
        f"last: {lost}) and did not get it: run the same command again later."
    )


def settle(context: Context, errand: Errand, late: bool = False) -> Found | None:
    """Find out whether something has arrived; None when its absence is proven.

    However long ago it was sent, its absence is proven anew: this machine's clock can be wrong, and
    Kaggle's lists may lag just now.

    Args:
        context: the project, Kaggle and the state.
        errand: what was sent.
        late: no answer came in time, so that it may still take effect.

    Raises:
        Undecided: nobody knows.
    """
    needed = context.pace.prove + (context.pace.timeout if late else 0.0)
    verdict = ask(context, errand, needed)
    if isinstance(verdict, Unknown):
        raise Undecided(
            f"nobody knows whether {errand.what} arrived ({verdict.why}), so nothing is sent "
            f"again: {errand.decide}"
        )
    return verdict if isinstance(verdict, Found) else None


def ask(context: Context, errand: Errand, needed: float) -> Verdict:
    """Ask all witnesses until one has seen it, or all have denied it for `needed` seconds.

    Only the pauses between questions that were answered count: not an outage, nor a laptop's sleep.
    """
    waited = denied = 0.0
    for looks, pause in enumerate(context.pace.polls()):
        try:
            with context.remote.patient(context.pace.outage):
                verdict = errand.look()
        except (Refused, Unavailable) as problem:
            verdict = Unknown(str(problem).rstrip("."))
        if isinstance(verdict, Found):
            return verdict
        if isinstance(verdict, Unknown):
            denied = 0.0
            if waited >= 2 * needed:
                return verdict
        elif looks and denied >= needed:
            return verdict
        if looks == 0 and needed > 10:
            say(f"it is not there yet; asking again for {needed / 60:.0f} minutes: lists lag")
        pause = min(pause, max(needed / 4, context.pace.poll))
        context.remote.wait(pause)
        waited, denied = waited + pause, denied + pause
    raise AssertionError("polling never ends by itself")
