"""What follows training: views, blending, calibration, and what probabilities tell.

views = views_of(config, rows)
portfolio.add(name, settings, predict(config, tables, network, clock, views, build, augment))
outcome = combine_members(portfolio.members, parts, seed)
suspects = label_suspects(outcome.held_out, outcome.validation, truth, classes)
"""

from common import import_lazily

MODULES = {
    "Blend": "blending",
    "Fold": "portfolio",
    "Judge": "scores",
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
    "label_suspects": "suspects",
    "passes_of": "view",
    "predict": "prediction",
    "predict_views": "views",
    "pseudo_labels": "pseudo",
    "temperature": "calibration",
    "views_of": "view",
    "with_pseudo_labels": "prediction",
}

__all__ = list(MODULES)
__getattr__ = import_lazily(__name__, MODULES)  # the kernel needs `View` early
