"""The scores by which everything here is chosen."""

import numpy as np
from sklearn import metrics


def log_loss(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean negative logarithm of the true class' probability.

    Probabilities are taken as float32, which scikit-learn clips at 1.2e-7: a single photo, whose
    label may be wrong, costs 16 at most.

    Args:
        probabilities: float [photos, classes], rows that sum to 1.
        truth: int [photos], positions of the true classes.

    Raises:
        ValueError: the lengths differ, there are no photos, or a probability is not finite.
    """
    classes = np.arange(probabilities.shape[1])  # a class may be missing from the truth
    return float(metrics.log_loss(truth, probabilities.astype("float32"), labels=classes))


def losses(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the log loss of each photo, float64 [photos]; its mean is `log_loss`.

    Args:
        probabilities: float [photos, classes], rows that sum to 1.
        truth: int [photos], positions of the true classes.

    Raises:
        ValueError: the lengths differ, there are no photos, or a probability is not finite.
    """
    log_loss(probabilities, truth)  # checks what it gets
    of_truth = np.float32(probabilities)[np.arange(len(truth)), truth]
    return -np.log(np.float64(np.maximum(of_truth, np.finfo(np.float32).eps)))


def accuracy(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the fraction of photos whose most probable class is the true one, 0 to 1.

    Args:
        probabilities: float [photos, classes].
        truth: int [photos], positions of the true classes.

    Raises:
        ValueError: the lengths differ.
    """
    return float(metrics.accuracy_score(truth, probabilities.argmax(1)))
