"""Find training photos whose label is probably wrong, by confident learning."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

# Below these bounds most labels that a network contradicts are right: the mistakes are its own.
# Both were measured with planted wrong labels, by tests/benchmarks/planted_labels.py.
LEAST_ACCURACY = 0.7  # on the held-out photos whose label is not confidently contradicted
LEAST_PHOTOS = 10  # held-out photos of a class: its thresholds are means over them


def find_label_issues(
    table: pd.DataFrame, probabilities: np.ndarray, truth: np.ndarray, classes: Sequence
) -> pd.DataFrame:
    """Return the photos whose label is contradicted by networks that did not train on them.

    After Northcutt et al., "Confident Learning: Estimating Uncertainty in Dataset Labels" (2021):
    a class' threshold is its mean probability over the photos labelled so. A photo belongs to the
    most probable of the classes whose probabilities reach their thresholds, and where that is not
    its label it is off the diagonal of the confident joint. Two more conditions hold back what are
    mostly mistakes of the network: that class is the most probable of all, and the label is no more
    probable than it is on average for photos of other classes, which doubled the share of wrong
    labels in the list. It is ranked by the normalised margin: the label's probability less the
    largest of the others. It is empty where `why_no_issues` has a reason.

    `table` has a row a photo with the columns Id, label and path, `probabilities` are out-of-fold,
    float [photos, classes], and `truth` is int [photos], the labels' positions in `classes`.
    Returns a row for each such photo, the most suspicious first, with columns Id, label, suggested,
    probability_of_label, probability_of_suggested (both 0 to 1) and path.
    """
    suggested, rows = probabilities.argmax(1), np.arange(len(truth))
    others = probabilities.copy()
    others[rows, truth] = -np.inf
    listed = table[["Id", "label"]].assign(
        suggested=np.asarray(classes)[suggested],
        probability_of_label=probabilities[rows, truth],
        probability_of_suggested=probabilities[rows, suggested],
        path=table["path"],
    )
    wrong = contradicted(probabilities, truth) & (why_no_issues(probabilities, truth) == "")
    order = np.argsort(probabilities[rows, truth] - others.max(1), kind="stable")
    return listed.iloc[order[wrong[order]]].reset_index(drop=True)


def why_no_issues(probabilities: np.ndarray, truth: np.ndarray) -> str:
    """Return why no label is listed, a sentence; "" where labels may be."""
    if _large_enough(truth, probabilities.shape[1]).sum() < 2:
        return (
            f"Fewer than two classes have {LEAST_PHOTOS} held-out photos, too few to know what is "
            "usual for a class: --folds 5 holds out every photo once."
        )
    right = probabilities.argmax(1) == truth
    accuracy = right[~contradicted(probabilities, truth)].mean()
    if accuracy < LEAST_ACCURACY:
        return (
            f"The network has {accuracy:.1%} right of the held-out photos whose label it does not "
            f"confidently contradict. Below {LEAST_ACCURACY:.0%} most labels that it contradicts "
            "are right, so none is listed."
        )
    return ""


def _large_enough(truth: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(truth, minlength=classes) >= LEAST_PHOTOS


def contradicted(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return which labels the network confidently contradicts, bool [photos]."""
    classes, best, rows = probabilities.shape[1], probabilities.argmax(1), np.arange(len(truth))
    own, others = np.full(classes, np.inf), np.full(classes, -np.inf)
    for label in np.flatnonzero(_large_enough(truth, classes)):
        inside = truth == label
        own[label] = probabilities[inside, label].mean(dtype="float64")
        others[label] = probabilities[~inside, label].mean(dtype="float64")
    confident = probabilities[rows, best] >= own[best]
    foreign = probabilities[rows, truth] <= others[truth]
    return (best != truth) & confident & foreign
