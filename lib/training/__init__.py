"""What serves the training loop: devices, backbones, the clock, and a state that survives a kill.

strategy = use_devices("auto")
state = open_state(folder, settings, fingerprint, fresh=False)
plan = make_plan(members, backbones, passes, parts, state, start, minutes)
clock = plan.clock(job, stages)
model.compile(make_optimizer(config, rate, layer_factors(network, 10, 1)), loss)
model.fit(..., callbacks=make_callbacks(config, state, clock, network, batches, validation.n))
"""

from common import import_lazily

MODULES = {
    "Averaging": "averaging",
    "Checkpoint": "checkpoint",
    "Clock": "clock",
    "Diverged": "checkpoint",
    "Job": "plan",
    "JobShape": "costs",
    "Mixing": "mixing",
    "OutOfTime": "clock",
    "Plan": "plan",
    "State": "state",
    "WarmCosine": "rates",
    "build_head": "head",
    "fit_head": "head",
    "gpu_minutes": "costs",
    "layer_factors": "rates",
    "layers_of": "backbones",
    "load_backbone": "backbones",
    "make_callbacks": "checkpoint",
    "make_counters": "checkpoint",
    "make_optimizer": "rates",
    "make_plan": "plan",
    "open_backbone": "backbones",
    "open_state": "state",
    "out_of_memory_explained": "devices",
    "published_rate": "costs",
    "unfreeze": "backbones",
    "use_devices": "devices",
    "write_weights": "state",
}

__all__ = list(MODULES)
__getattr__ = import_lazily(__name__, MODULES)  # costs are computed before TensorFlow is imported
