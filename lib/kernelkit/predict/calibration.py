"""Calibrate probabilities by a temperature: a photo given 0.9 should be right nine times in ten."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from kernelkit.core.metrics import log_loss

SPREAD = 0.5  # standard deviation of the prior of the temperature's logarithm
RANGE = (0.2, 5.0)  # temperatures beyond it come from too few photos


def temperature(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the temperature that minimises log loss, 0.2 to 5; 1 where none lowers it.

    Above 1 the network is overconfident (Guo et al., "On Calibration of Modern Neural Networks",
    2017). Its logarithm is searched. A normal prior holds that near 0, which a few photos outweigh:
    without one, photos that are all right would make every prediction as sure as can be, and the
    first wrong test photo would cost more than they gain. Raises ValueError if the lengths differ,
    there are no photos, or a probability is not finite.
    """

    def cost(logarithm: float) -> float:
        prior = (logarithm / SPREAD) ** 2 / 2
        cooled = apply_temperature(probabilities, np.exp(logarithm))
        return log_loss(cooled, truth) + prior / len(truth)

    found = minimize_scalar(cost, bounds=np.log(RANGE), method="bounded")
    return float(np.exp(found.x)) if found.fun < log_loss(probabilities, truth) else 1.0


def apply_temperature(probabilities: np.ndarray, T: float) -> np.ndarray:
    """Return the softmax of the logits divided by T, above 0: float32 in the classes' order."""
    least = np.finfo("float32").tiny  # a probability of 0 has no logarithm
    logits = np.log(np.maximum(np.asarray(probabilities, "float64"), least))
    return softmax(logits / T, axis=1).astype("float32")


def reliability(probabilities: np.ndarray, truth: np.ndarray, bins: int) -> pd.DataFrame:
    """Return a row for each bin of confidence that has photos: confidence, accuracy, photos.

    Bins are of equal width, by the probability of a photo's most probable class; `bin` is their
    number from 1. Confidence and accuracy are means, 0 to 1.
    """
    confidence = np.asarray(probabilities, "float64").max(1)
    rows = pd.DataFrame({"confidence": confidence, "accuracy": probabilities.argmax(1) == truth})
    groups = rows.groupby(np.ceil(confidence * bins).clip(1, bins))
    return groups.mean().assign(photos=groups.size()).rename_axis("bin").reset_index()


def expected_calibration_error(
    probabilities: np.ndarray, truth: np.ndarray, bins: int = 15
) -> float:
    """Return the mean difference of confidence and accuracy, 0 to 1 (Guo et al. 2017)."""
    table = reliability(probabilities, truth, bins)
    gaps = (table.accuracy - table.confidence).abs()
    return float((gaps * table.photos).sum() / table.photos.sum())
