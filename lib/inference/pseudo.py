"""Choose the test photos that are safe enough to train on with the label predicted for them."""

from collections.abc import Sequence

import numpy as np


def agreeing(predictions: Sequence[np.ndarray], confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the photos on which all predictions agree, and are sure enough on average.

    Args:
        predictions: of every view and every member, each float [photos, classes].
        confidence: what the mean probability of the agreed class must reach, 0 to 1.

    Returns:
        The photos' positions, ascending, and the class agreed on for each: both int64 [agreed].

    Raises:
        ValueError: there are no predictions, or their shapes differ.
    """
    if not len(predictions):
        raise ValueError("there are no predictions to agree")
    stack = np.stack(predictions)
    classes = stack.argmax(2)
    same = (classes == classes[0]).all(0)
    sure = stack.mean(0, dtype="float64").max(1) >= confidence
    positions = np.flatnonzero(same & sure)
    return positions, classes[0, positions]
