"""Whether training steps wait for photos."""

from collections.abc import Sequence


def waiting_share(asked: Sequence[float], ready: Sequence[float], seconds: float) -> float:
    """Return the fraction of the time, 0 to 1, in which steps waited for their batches.

    The first step does not count: its time is that of compiling too.

    Args:
        asked: when each step could begin, in seconds of time.monotonic().
        ready: when its batch was there.
        seconds: that all steps together took.
    """
    pairs = list(zip(asked, ready, strict=False))[1:]
    waited = sum(max(0.0, there - wanted) for wanted, there in pairs)
    return min(1.0, waited / seconds) if seconds > 0 else 0.0
