"""Choose which passes of test-time augmentation are worth their time."""

from collections.abc import Sequence

import numpy as np

from kernelkit.core.metrics import METRICS, Metric


def choose_views(
    passes: Sequence[np.ndarray], truth: np.ndarray, metric: Metric = METRICS["accuracy"]
) -> list[int]:
    """Return the positions of the views that are averaged.

    Each view is tried in the given order, and the mean with it is compared with the mean without
    it on the validation photos, by the log loss and by the metric. A view is left out where either
    is worse by more than one standard error, paired by photo, or where it changes nothing. To keep
    only views with a lower loss was worse on test photos, since a few hundred validation photos
    are too few for it (tests/benchmarks/choices.md). The log loss has no say where only the order
    of the photos counts.

    Args:
        passes: probabilities of the validation photos, one float [photos, classes] a view; the
            first is the plain one.
        truth: int [photos], positions of the true classes.
        metric: the competition's.

    Returns:
        Positions in `passes`, ascending; the first is always 0.

    Raises:
        ValueError: there are no views or no photos, the lengths differ, or a probability is not
            finite.
    """
    if not len(passes):
        raise ValueError("there is no view to choose from")
    judges = [metric, METRICS["log-loss"]] if metric.by_loss else [metric]
    kept, without = [0], np.float64(passes[0])
    METRICS["log-loss"].score(without, truth)  # checks what it gets
    for position in range(1, len(passes)):
        mean = np.mean([passes[view] for view in (*kept, position)], axis=0, dtype="float64")
        gains = [judge.gain(without, mean, truth) for judge in judges]
        if all(gain >= -error for gain, error in gains) and any(map(any, gains)):
            kept.append(position)
            without = mean
    return kept
