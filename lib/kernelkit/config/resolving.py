"""Settings that follow from others."""

import dataclasses
import math
from collections.abc import Iterable, Mapping

LONG_SCHEDULE = 20
"""Epochs through the network, all stages together, from which label smoothing pays: on three sets
of car photos it was ahead on each after 36 epochs, and behind on one after 9."""
SMOOTHING = 0.1
"""As in the published fine-tuning of EfficientNetV2 on cars (Tan and Le 2021)."""
FEW_STEPS = 500
"""Steps of a whole schedule, in batches of the usual size, below which smaller ones pay: of six
comparisons on car photos, with 80 to 390 steps, they were ahead in five, by 1 to 5 points, and in
one as good (tests/benchmarks/choices.md)."""
BATCH, SMALL_BATCH = 32, 16
"""Photos a step, usually and where the steps would be few."""


def resolved(config, backbones: Mapping):
    """Return the settings with those that follow from others: no stage above the most epochs.

    Args:
        config: has backbone, members, image_size (height and width in pixels, or None for the
            backbone's own), stages, epochs (the most of a stage, or None) and label_smoothing
            (None leaves it to the length of the schedule).
        backbones: rows by name, each with a size.
    """
    most = config.epochs or math.inf
    stages = tuple(dataclasses.replace(s, epochs=min(s.epochs, most)) for s in config.stages)
    size = config.image_size
    if size is None and not config.members:  # else a member takes its own backbone's
        size = backbones[config.backbone].size
    smoothing = config.label_smoothing
    if smoothing is None:
        smoothing = SMOOTHING if trained_epochs(stages) >= LONG_SCHEDULE else 0.0
    return dataclasses.replace(config, image_size=size, stages=stages, label_smoothing=smoothing)


def trained_epochs(stages: Iterable) -> int:
    """Return the epochs of all stages that train through the network."""
    return sum(stage.epochs for stage in stages if not stage.views)


def at_own_batch(config, photos: int):
    """Return the settings with a batch size, which follows from the number of steps if it is None.

    Args:
        config: has batch_size and stages.
        photos: how many train.
    """
    if config.batch_size:
        return config
    few = photos * trained_epochs(config.stages) < FEW_STEPS * BATCH
    return dataclasses.replace(config, batch_size=SMALL_BATCH if few else BATCH)


def at_own_rate(config, backbones: Mapping):
    """Return the settings with the rates of the stages that suit the backbone.

    Args:
        config: has backbone and stages.
        backbones: rows by name, each with a rate, by which those of the stages are multiplied.
    """
    factor = backbones[config.backbone].rate
    stages = (dataclasses.replace(s, learning_rate=s.learning_rate * factor) for s in config.stages)
    return dataclasses.replace(config, stages=tuple(stages))


def at_scale(config, scale: float):
    """Return the settings for photos whose sides are `scale` times as long."""
    size = tuple(round(scale * side) for side in config.image_size)
    return dataclasses.replace(config, image_size=size)
