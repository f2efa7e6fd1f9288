"""What follows training: views, blending, calibration, and what probabilities tell.

passes = predict_views(views, clock, predict)
portfolio.add(name, settings, choose_prediction(tables, views, passes))
outcome = combine_members(portfolio.members, parts, seed)
suspects = label_suspects(outcome.held_out, outcome.validation, truth, classes)
"""

from importlib import import_module
from typing import Any

MODULES = {
    "Blend": "blending",
    "Fold": "portfolio",
    "Member": "portfolio",
    "Outcome": "outcome",
    "Portfolio": "portfolio",
    "View": "view",
    "agreeing": "pseudo",
    "apply_temperature": "calibration",
    "blend": "blending",
    "choose_prediction": "views",
    "choose_views": "choosing",
    "combine": "blending",
    "combine_members": "outcome",
    "expected_calibration_error": "calibration",
    "fingerprint": "portfolio",
    "label_suspects": "suspects",
    "predict_views": "views",
    "pseudo_labels": "pseudo",
    "temperature": "calibration",
}

__all__ = list(MODULES)


def __getattr__(name: str) -> Any:
    """Import the module of a name when the name is first used: the kernel needs `View` early."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"inference.{MODULES[name]}"), name)
