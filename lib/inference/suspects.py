"""Find training photos whose label is probably wrong."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def label_suspects(
    table: pd.DataFrame, probabilities: np.ndarray, truth: np.ndarray, classes: Sequence
) -> pd.DataFrame:
    """Return the photos whose label the networks that did not see them contradict.

    After Northcutt et al., "Confident Learning: Estimating Uncertainty in Dataset Labels" (2021):
    a class' threshold is its mean probability over the photos labelled so. A photo belongs to the
    most probable of the classes whose probabilities reach their thresholds, and is suspect where
    this is not its label. Suspects are ranked by the normalised margin: the label's probability
    less the largest of the others.

    Args:
        table: columns Id, label and path, a row a photo.
        probabilities: out-of-fold, float [photos, classes].
        truth: int [photos], positions of the labels in `classes`.
        classes: the labels in the order of the columns.

    Returns:
        A row for each suspect, the most suspicious first, with columns Id, label, suggested,
        probability_of_label, probability_of_suggested (both 0 to 1) and path.

    Raises:
        ValueError: the numbers of photos differ.
    """
    if not len(table) == len(probabilities) == len(truth):
        sizes = (len(table), len(probabilities), len(truth))
        raise ValueError(f"table, probabilities and truth have {sizes} photos")
    suggested, rows = confident_classes(probabilities, truth), np.arange(len(truth))
    listed = pd.DataFrame(
        {
            "Id": table["Id"].to_numpy(),
            "label": table["label"].to_numpy(),
            "suggested": np.asarray(classes)[suggested],
            "probability_of_label": probabilities[rows, truth],
            "probability_of_suggested": probabilities[rows, suggested],
            "path": table["path"].to_numpy(),
        }
    )
    order = np.argsort(margins(probabilities, truth), kind="stable")
    return listed.iloc[order[(suggested != truth)[order]]].reset_index(drop=True)


def confident_classes(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return each photo's most probable class that reaches its threshold, or else its label.

    A class without photos has no threshold, and nothing reaches it.
    """
    thresholds = np.full(probabilities.shape[1], np.inf)
    for label in np.unique(truth):
        thresholds[label] = probabilities[truth == label, label].mean(dtype="float64")
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    return np.where(reached.max(1) >= 0, reached.argmax(1), truth)


def margins(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the label's probability less the largest of the others, float [photos]."""
    rows = np.arange(len(truth))
    others = probabilities.copy()
    others[rows, truth] = -np.inf
    return probabilities[rows, truth] - others.max(1)
