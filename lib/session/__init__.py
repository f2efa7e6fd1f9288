"""Staying inside a session: what lets a training run stop in time, and go on after a kill.

state = open_state(folder, settings, fingerprint, fresh=False)
clock = Clock(state, shares, images, passes, seconds, began)
model.fit(..., callbacks=[*counters, Checkpoint(state, clock, ...)])
"""

from session.checkpoint import Checkpoint, Diverged
from session.clock import Clock, OutOfTime, clock_text
from session.files import write_atomically
from session.machine import peak_memory_mb, versions
from session.state import State, open_state

__all__ = [
    "Checkpoint",
    "Clock",
    "Diverged",
    "OutOfTime",
    "State",
    "clock_text",
    "open_state",
    "peak_memory_mb",
    "versions",
    "write_atomically",
]
