"""What serves the training loop: devices, backbones, the clock, and a state that survives a kill.

strategy = use_devices("auto")
state = open_state(folder, settings, fingerprint, fresh=False)
plan = make_plan(members, backbones, passes, parts, state, start, minutes)
clock = plan.clock(job, stages)
model.compile(make_optimizer(config, rate, layer_factors(network, 10, 1)), loss)
model.fit(..., callbacks=make_callbacks(config, state, clock, network, batches, validation.n))
"""

from training.averaging import Averaging
from training.backbones import layers_of, load_backbone, open_backbone, unfreeze
from training.checkpoint import Checkpoint, Diverged, make_callbacks, make_counters
from training.clock import Clock, OutOfTime
from training.devices import out_of_memory_explained, use_devices
from training.head import build_head, fit_head
from training.mixing import Mixing
from training.plan import Job, JobShape, Plan, make_plan
from training.rates import WarmCosine, layer_factors, make_optimizer
from training.state import State, open_state, write_weights

__all__ = [
    "Averaging",
    "Checkpoint",
    "Clock",
    "Diverged",
    "Job",
    "JobShape",
    "Mixing",
    "OutOfTime",
    "Plan",
    "State",
    "WarmCosine",
    "build_head",
    "fit_head",
    "layer_factors",
    "layers_of",
    "load_backbone",
    "make_callbacks",
    "make_counters",
    "make_optimizer",
    "make_plan",
    "open_backbone",
    "open_state",
    "out_of_memory_explained",
    "unfreeze",
    "use_devices",
    "write_weights",
]
