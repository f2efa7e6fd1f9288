"""What serves the training loop: devices, backbones, the clock, and a state that survives a kill.

strategy = use_devices("auto")
state = open_state(folder, settings, fingerprint, fresh=False)
clock = Clock(state, stages, images, passes, end)
model.fit(..., callbacks=[*counters.values(), Checkpoint(state, clock, ...)])
"""

from training.backbones import layers_of, load_backbone, open_backbone
from training.checkpoint import Checkpoint, Diverged, make_counters
from training.clock import Clock, OutOfTime
from training.devices import adam, out_of_memory_explained, use_devices
from training.state import State, open_state, write_weights

__all__ = [
    "Checkpoint",
    "Clock",
    "Diverged",
    "OutOfTime",
    "State",
    "adam",
    "layers_of",
    "load_backbone",
    "make_counters",
    "open_backbone",
    "open_state",
    "out_of_memory_explained",
    "use_devices",
    "write_weights",
]
