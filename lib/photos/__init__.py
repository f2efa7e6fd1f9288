"""From a Kaggle competition's folder to checked tables of photos.

competition = read_competition(folder, Layout(), scratch)
competition = check_photos(competition, workers=4)
train, validation = split(competition.train, share=0.15, seed=42)
"""

from importlib import import_module
from typing import Any

HOMES = {
    "Competition": "competition",
    "Layout": "competition",
    "PhotoTables": "tables",
    "load_tables": "tables",
    "check_photos": "checking",
    "conflicting_labels": "duplicates",
    "read_competition": "competition",
    "split": "splitting",
}

__all__ = list(HOMES)


def __getattr__(name: str) -> Any:
    """Import a name's module when it is first asked for."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"photos.{HOMES[name]}"), name)
