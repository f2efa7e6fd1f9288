"""Resolve a config, once, into the final settings of each network that it trains."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

# Epochs through the network, all stages together, from which label smoothing pays: on three sets of
# car photos it was ahead on each after 36 epochs, and behind on one after 9.
LONG_SCHEDULE = 20
SMOOTHING = 0.1  # as in the published fine-tuning of EfficientNetV2 on cars (Tan and Le 2021)
# Steps of a whole schedule, in batches of the usual size, below which smaller ones pay (of six
# comparisons on car photos, with 80 to 390 steps, they were ahead in five, by 1 to 5 points), and
# for some backbones a hidden layer in the head.
FEW_STEPS = 500
BATCH, SMALL_BATCH = 32, 16  # photos a step, usually and where the steps would be few
# Settings that are those of the backbone's row where they are None.
BY_ROW = ("head_rate", "layer_decay", "weight_decay", "interpolate", "batchnorm")


def resolve(config, photos: int, backbones: Mapping):
    """Return the settings with those that follow from others; call it once for a config.

    Stages get no more epochs than `config.epochs` and the learning rates that suit the backbone. A
    backbone with stages of its own takes them in the place of the default ones, and trains at one
    size, for which its positions are resized. A setting that is None follows from the row of
    `backbones`, or from the length of the schedule in which so many `photos` train.
    """
    row, most = backbones[config.backbone], config.epochs or math.inf
    default = config.stages == type(config)().stages
    stages = tuple(
        dataclasses.replace(
            stage,
            epochs=min(stage.epochs, most),
            learning_rate=stage.learning_rate * row.rate,
            scale=1.0 if row.stages else stage.scale,
        )
        for stage in (row.stages if default and row.stages else config.stages)
    )
    epochs = sum(stage.epochs for stage in stages if not stage.views)  # through the network
    size, batch = config.image_size, config.batch_size
    smoothing, head = config.label_smoothing, config.head
    if size is None and not (config.members or config.candidates):  # else each has its own
        size = row.size
    few = photos * epochs < FEW_STEPS * BATCH
    if batch is None:
        batch = SMALL_BATCH if few else BATCH
    if head is None:
        head = row.head if few and epochs else "linear"
    if smoothing is None:
        smoothing = SMOOTHING if epochs >= LONG_SCHEDULE else 0.0
    resolved = {"image_size": size, "batch_size": batch, "label_smoothing": smoothing, "head": head}
    resolved |= {name: getattr(row, name) for name in BY_ROW if getattr(config, name) is None}
    return dataclasses.replace(config, stages=stages, **resolved)


def resolve_members(config, photos: int, recipes: Mapping, backbones: Mapping) -> dict:
    """Return the final settings of each member by name; one network alone has its backbone's."""
    members = expand_members(config, recipes) or {config.backbone: config}
    return {name: resolve(member, photos, backbones) for name, member in members.items()}


def expand_members(config, recipes: Mapping) -> dict:
    """Return the settings of each member, by its name; none where the config has no members.

    They name no members themselves, so that a member is the same whatever the others are. Where
    members are still to be chosen, they are the candidates. A member that names one of `recipes`
    takes its settings from there, but for the `shared` ones, which are the config's.
    """
    shared = [field.name for field in dataclasses.fields(config) if field.metadata.get("shared")]
    kept = {name: getattr(config, name) for name in shared}
    expanded = {}
    for row in config.members or config.candidates:
        own = dataclasses.asdict(row) | {"members": (), "candidates": ()}
        name, recipe = own.pop("name"), own.pop("recipe")
        given = own if recipe is None else kept | own
        given = {key: value for key, value in given.items() if value is not None}
        base = config if recipe is None else recipes[recipe]
        expanded[name] = dataclasses.replace(base, **given)
    return expanded


def scouts(config) -> bool:
    """Return whether a run is to choose its members among the candidates."""
    return bool(config.candidates) and not config.members


def at_scale(config, scale: float):
    """Return the settings for photos whose sides are `scale` times as long."""
    size = tuple(round(scale * side) for side in config.image_size)
    return dataclasses.replace(config, image_size=size)


def decisive(config) -> dict:
    """Return the settings that must be equal for a run, or a member of one, to be continued."""
    free = {field.name for field in dataclasses.fields(config) if field.metadata.get("may_change")}
    return {k: v for k, v in dataclasses.asdict(config).items() if k not in free}


def show_config(
    config, members: Mapping, competition: str, recipes, backbones: Mapping, lib: Path, minutes
) -> None:
    """Print the resolved `config` as one JSON object, with the weights that it needs.

    These are files (weights_files) and, of the backbones that are presets, the handles of Kaggle's
    models (model_sources). `presets` has the handle and the licence of every row that is one.
    `members` are the final settings of each network, by its name, and `lib` holds
    weights/manifest.json; `minutes` are those of two T4s, computed and not measured.
    """
    manifest = json.loads((lib / "weights" / "manifest.json").read_text(encoding="utf-8"))
    used = {member.backbone for member in members.values()}
    presets = {name: row for name, row in backbones.items() if row.handle}
    own = [manifest.get(name, {"file": name})["file"] for name in used if name not in presets]
    handles = [presets[name].handle for name in used if name in presets]
    files = {"none": [], "imagenet": sorted(own), "drawn": sorted(own)}
    content = {
        "config": dataclasses.asdict(config),
        "members": {name: dataclasses.asdict(member) for name, member in members.items()},
        "recipe": config.recipe,
        "backbone": config.backbone,
        "weights_files": files.get(config.weights, [config.weights]),
        "model_sources": sorted(handles) if config.weights == "imagenet" else [],
        "competition": competition,
        "gpu_minutes": minutes,
        "recipes": list(recipes),
        "backbones": list(backbones),
        "presets": {n: {"handle": r.handle, "licence": r.licence} for n, r in presets.items()},
    }
    print(json.dumps(content))
