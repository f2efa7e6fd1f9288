"""Expand the members of a config into the settings of each."""

import dataclasses
from collections.abc import Iterable, Mapping


def expand_members(config, recipes: Mapping, shared: Iterable[str]) -> dict:
    """Return the settings of each member, by its name; none where the config has no members.

    Args:
        config: has members, rows with a name, a recipe or None, and settings of their own.
        recipes: configs by name; a member that names one takes its settings from there, and not
            from `config`.
        shared: the settings that every member takes from `config` in any case.
    """
    kept = {name: getattr(config, name) for name in shared}
    expanded = {}
    for row in config.members:
        own = dataclasses.asdict(row)
        base = recipes.get(own.pop("recipe"), config)
        expanded[own.pop("name")] = dataclasses.replace(base, **kept, **own)
    return expanded
