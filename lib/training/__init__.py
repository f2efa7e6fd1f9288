"""What serves the training loop: devices, backbones, the clock, and a state that survives a kill.

state = open_state(folder, settings, fingerprint, fresh=False)
strategy = choose_step(config, members, backbones, tables, state, makers)
plan = make_plan(members, backbones, passes, parts, state, start, minutes)
clock = plan.clock(job, stages)
model.compile(make_optimizer(config, rate, layer_factors(network, 10, 1)), loss)
model.fit(..., callbacks=make_callbacks(config, state, clock, network, batches, judge))
"""

from common import import_lazily

MODULES = {
    "Averaging": "averaging",
    "Checkpoint": "checkpoint",
    "Clock": "clock",
    "Diverged": "checkpoint",
    "Job": "plan",
    "JobShape": "costs",
    "Makers": "trial",
    "Mixing": "mixing",
    "OutOfMemory": "devices",
    "OutOfTime": "clock",
    "Plan": "plan",
    "Run": "plan",
    "State": "state",
    "WarmCosine": "rates",
    "build_head": "head",
    "choose_step": "preflight",
    "failures_explained": "workers",
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
    "open_state": "opening",
    "own_folder": "workers",
    "preprocess": "backbones",
    "published_rate": "costs",
    "shared_batch": "devices",
    "unfreeze": "backbones",
    "workplace": "opening",
    "write_weights": "state",
}

__all__ = list(MODULES)
__getattr__ = import_lazily(__name__, MODULES)  # costs are computed before TensorFlow is imported
