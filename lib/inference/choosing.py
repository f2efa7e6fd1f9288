"""Choose which passes of test-time augmentation are worth their time."""

from collections.abc import Sequence

import numpy as np

from inference.scores import accuracy, log_loss


def choose_views(passes: Sequence[np.ndarray], truth: np.ndarray) -> list[int]:
    """Return the positions of the views whose mean is better than the plain view alone.

    Each view is tried in the given order. It is kept where the mean with it has a lower log loss
    than without, and no lower accuracy.

    Args:
        passes: probabilities of the validation photos, one float [photos, classes] a view; the
            first is the plain one.
        truth: int [photos], positions of the true classes.

    Returns:
        Positions in `passes`, ascending; the first is always 0.

    Raises:
        ValueError: there are no views or no photos, the lengths differ, or a probability is not
            finite.
    """
    if not len(passes):
        raise ValueError("there is no view to choose from")
    kept = [0]
    loss, right = scores([passes[0]], truth)
    for position in range(1, len(passes)):
        with_it = [passes[view] for view in (*kept, position)]
        new_loss, new_right = scores(with_it, truth)
        if new_loss < loss and new_right >= right:
            kept.append(position)
            loss, right = new_loss, new_right
    return kept


def scores(passes: Sequence[np.ndarray], truth: np.ndarray) -> tuple[float, float]:
    """Return log loss and accuracy of the mean of some views."""
    mean = np.mean(passes, axis=0, dtype="float64")
    return log_loss(mean, truth), accuracy(mean, truth)
