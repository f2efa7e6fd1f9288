"""Choose the test photos that are safe enough to train on with the label predicted for them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kernelkit.core.files import write_atomically


def pseudo_labels(
    file: Path, predict: Callable[[], Sequence[np.ndarray]], confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the photos of `agreeing`, chosen once: an interrupted stage goes on with the same.

    Args:
        file: keeps the choice.
        predict: returns the predictions; called where there is no such file.
        confidence: as in `agreeing`.

    Raises:
        OSError: the file can't be written or read.
    """
    if not file.is_file():
        rows, classes = agreeing(predict(), confidence)
        write_atomically(file, lambda beside: np.savez(beside, rows=rows, classes=classes))
    with np.load(file) as stored:
        return stored["rows"], stored["classes"]


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
