"""Tell other programs of the settings."""

import dataclasses
import json
from collections.abc import Iterable, Mapping

from kernelkit.config.members import members_of


def show_config(
    config,
    competition: str,
    recipes: Mapping,
    shared: Iterable[str],
    backbones: Mapping,
    gpu_minutes: float,
) -> None:
    """Print the settings as one JSON object, with the files of weights that they need.

    Args:
        config: resolved; weights is "none", "imagenet" or "drawn" for the backbones' own files, or
            the path of a file.
        competition: its name at Kaggle.
        recipes: as in `members_of`.
        shared: as in `members_of`.
        backbones: rows by name, each with a size and a file of weights.
        gpu_minutes: that a run takes on two T4s, computed and not measured.
    """
    members = members_of(config, recipes, shared, backbones)
    own = sorted({backbones[member.backbone].file for member in members.values()})
    files = {"none": [], "imagenet": own, "drawn": own}
    content = {
        "config": dataclasses.asdict(config),
        "recipe": config.recipe,
        "backbone": config.backbone,
        "weights_files": files.get(config.weights, [config.weights]),
        "competition": competition,
        "gpu_minutes": gpu_minutes,
        "recipes": list(recipes),
        "backbones": list(backbones),
    }
    print(json.dumps(content))
