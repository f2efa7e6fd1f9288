"""Expand the members of a config into the settings of each."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping

from kernelkit.config.resolving import resolved


def members_of(config, recipes: Mapping, shared: Iterable[str], backbones: Mapping) -> dict:
    """Return the settings of each member, resolved, by its name.

    One network alone has the name of its backbone. The arguments are those of `expand_members` and
    of `resolved`.
    """
    expanded = expand_members(config, recipes, shared) or {config.backbone: config}
    return {name: resolved(member, backbones) for name, member in expanded.items()}


def decisive(config, may_change: Collection[str]) -> dict:
    """Return the settings that must be equal for a run, or a member of one, to go on.

    Args:
        config: a dataclass.
        may_change: its fields that may differ from one session of a run to the next.
    """
    return {k: v for k, v in dataclasses.asdict(config).items() if k not in may_change}


def expand_members(config, recipes: Mapping, shared: Iterable[str]) -> dict:
    """Return the settings of each member, by its name; none where the config has no members.

    They name no members themselves, so that a member is the same whatever the others are.

    Args:
        config: has members, rows with a name, a recipe or None, and settings of their own.
        recipes: configs by name; a member that names one takes its settings from there, and not
            from `config`, also where its row has None.
        shared: the settings that every member takes from `config` in any case but that of None.
    """
    kept = {name: getattr(config, name) for name in shared}
    expanded = {}
    for row in config.members:
        own = dataclasses.asdict(row) | {"members": ()}
        name, recipe = own.pop("name"), own.pop("recipe")
        given = own if recipe is None else kept | own
        given = {key: value for key, value in given.items() if value is not None}
        base = config if recipe is None else recipes[recipe]
        expanded[name] = dataclasses.replace(base, **given)
    return expanded
