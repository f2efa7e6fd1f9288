"""Staying inside a session: what lets a training run stop in time, and go on after a kill.

state = open_state(folder, settings, fingerprint, fresh=False)
clock = Clock(state, shares, images, passes, seconds, began)
model.fit(..., callbacks=[*counters, Checkpoint(state, clock, ...)])
"""

from training.checkpoint import Checkpoint, Diverged
from training.clock import Clock, OutOfTime
from training.state import State, open_state

__all__ = [
    "Checkpoint",
    "Clock",
    "Diverged",
    "OutOfTime",
    "State",
    "open_state",
]
