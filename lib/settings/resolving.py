"""Settings that follow from others."""

import dataclasses
import math
from collections.abc import Mapping


def resolved(config, backbones: Mapping):
    """Return the settings with the backbone's own size, and no stage above the most epochs.

    Args:
        config: has backbone, image_size (height and width in pixels, or None for the backbone's
            own), stages, and epochs (the most of a stage, or None).
        backbones: rows by name, each with a size.
    """
    most = config.epochs or math.inf
    stages = (dataclasses.replace(s, epochs=min(s.epochs, most)) for s in config.stages)
    size = config.image_size or backbones[config.backbone].size
    return dataclasses.replace(config, image_size=size, stages=tuple(stages))


def at_scale(config, scale: float):
    """Return the settings for photos whose sides are `scale` times as long."""
    size = tuple(round(scale * side) for side in config.image_size)
    return dataclasses.replace(config, image_size=size)
