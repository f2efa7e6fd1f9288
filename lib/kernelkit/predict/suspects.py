"""Find training photos whose label is probably wrong."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

# Below these bars most labels that a network contradicts are right: the mistakes are its own. Both
# were measured with planted wrong labels, by tests/benchmarks/planted_labels.py.
GOOD_ENOUGH = 0.7  # accuracy on the held-out photos whose label is not surely contradicted
ENOUGH = 10  # held-out photos of a class: its thresholds are means over them


def label_suspects(
    table: pd.DataFrame, probabilities: np.ndarray, truth: np.ndarray, classes: Sequence
) -> pd.DataFrame:
    """Return the photos whose label the networks that did not see them contradict.

    After Northcutt et al., "Confident Learning: Estimating Uncertainty in Dataset Labels" (2021):
    a class' threshold is its mean probability over the photos labelled so. A photo belongs to the
    most probable of the classes whose probabilities reach their thresholds, and where that is not
    its label it is off the diagonal of the confident joint. Two more conditions hold back what are
    mostly mistakes of the network: that class is the most probable of all, and the label is no more
    probable than it is on average for photos of other classes, which doubled the share of wrong
    labels among the accused. Suspects are ranked by the normalised margin: the label's probability
    less the largest of the others. Nobody is accused where `why_silent` has a reason.

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
    suggested, rows = probabilities.argmax(1), np.arange(len(truth))
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
    accused = contradicted(probabilities, truth) & (why_silent(probabilities, truth) == "")
    order = np.argsort(margins(probabilities, truth), kind="stable")
    return listed.iloc[order[accused[order]]].reset_index(drop=True)


def why_silent(probabilities: np.ndarray, truth: np.ndarray) -> str:
    """Return why no label is accused, a sentence; "" where labels may be.

    The arguments are those of `label_suspects`.
    """
    if judged(truth, probabilities.shape[1]).sum() < 2:
        return (
            f"Fewer than two classes have {ENOUGH} held-out photos, too few to know what is usual "
            "for a class: --folds 5 holds out every photo once."
        )
    right = probabilities.argmax(1) == truth
    accuracy = right[~contradicted(probabilities, truth)].mean()
    if accuracy < GOOD_ENOUGH:
        return (
            f"The network has {accuracy:.1%} right of the held-out photos whose label it does not "
            f"surely contradict. Below {GOOD_ENOUGH:.0%} most labels that it contradicts are "
            "right, so it accuses none."
        )
    return ""


def judged(truth: np.ndarray, classes: int) -> np.ndarray:
    """Return which classes have enough photos, bool [classes]."""
    return np.bincount(truth, minlength=classes) >= ENOUGH


def contradicted(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return which labels the network surely contradicts, good enough or not, bool [photos]."""
    classes, best, rows = probabilities.shape[1], probabilities.argmax(1), np.arange(len(truth))
    own, others = np.full(classes, np.inf), np.full(classes, -np.inf)
    for label in np.flatnonzero(judged(truth, classes)):
        inside = truth == label
        own[label] = probabilities[inside, label].mean(dtype="float64")
        others[label] = probabilities[~inside, label].mean(dtype="float64")
    confident = probabilities[rows, best] >= own[best]
    foreign = probabilities[rows, truth] <= others[truth]
    return (best != truth) & confident & foreign


def margins(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the label's probability less the largest of the others, float [photos]."""
    rows = np.arange(len(truth))
    others = probabilities.copy()
    others[rows, truth] = -np.inf
    return probabilities[rows, truth] - others.max(1)
