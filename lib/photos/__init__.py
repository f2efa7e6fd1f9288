"""Read a Kaggle competition's folder into checked tables of photos.

competition = read_competition(folder, CompetitionFiles(), scratch)
competition = check_photos(competition, workers=4)
train, validation = split(competition.train, fraction=0.15, seed=42)
"""

from importlib import import_module
from typing import Any

MODULES = {
    "Competition": "competition",
    "CompetitionFiles": "competition",
    "PhotoTables": "tables",
    "load_tables": "tables",
    "divide": "splitting",
    "draw_limit": "competition",
    "check_photos": "checking",
    "conflicting_labels": "duplicates",
    "read_competition": "competition",
    "split": "splitting",
}

__all__ = list(MODULES)


def __getattr__(name: str) -> Any:
    """Import the module of a name when the name is first used: some modules are slow to import."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"photos.{MODULES[name]}"), name)
