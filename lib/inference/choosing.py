"""Choose which passes of test-time augmentation are worth their time."""

from collections.abc import Sequence

import numpy as np

from inference.scores import losses


def choose_views(passes: Sequence[np.ndarray], truth: np.ndarray) -> list[int]:
    """Return the positions of the views that are averaged.

    Each view is tried in the given order. It is left out where it surely harms: where the mean with
    it has a log loss that is more than one standard error, paired by photo, above that without. To
    keep only views with a lower loss was worse on test photos, since a few hundred validation
    photos are too few for it (tests/benchmarks/choices.md).

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
    kept, without = [0], losses(passes[0], truth)
    for position in range(1, len(passes)):
        mean = np.mean([passes[view] for view in (*kept, position)], axis=0, dtype="float64")
        with_it = losses(mean, truth)
        harm = with_it - without
        if harm.mean() < harm.std() / np.sqrt(len(harm)):
            kept.append(position)
            without = with_it
    return kept
