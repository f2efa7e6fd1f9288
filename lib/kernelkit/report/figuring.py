"""The figures of a report that follow from what a run has saved."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from kernelkit.core.metrics import Interval, paired_difference, unpacked
from kernelkit.report.saved import Run

BINS = 10  # of the calibration chart


def class_table(run: Run) -> pd.DataFrame:
    """Return a row a class: precision, recall, f1 (0 to 1, NaN where undefined) and support."""
    best, numbers = run.validation.argmax(1), range(len(run.classes))
    hits = np.bincount(run.truth[best == run.truth], minlength=len(run.classes))
    support = np.bincount(run.truth, minlength=len(run.classes))
    chosen = np.bincount(best, minlength=len(run.classes))
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall, f1 = hits / chosen, hits / support, 2 * hits / (chosen + support)
    names = [run.classes[number] for number in numbers]
    return pd.DataFrame(
        {"class": names, "precision": precision, "recall": recall, "f1": f1, "support": support}
    )


def confusion(run: Run) -> np.ndarray:
    """Return how many held-out photos of each class (row) were taken for each (column)."""
    counts = np.zeros((len(run.classes),) * 2, int)
    np.add.at(counts, (run.truth, run.validation.argmax(1)), 1)
    return counts


def confused_pairs(run: Run) -> pd.DataFrame:
    """Return the pairs of classes that were taken for each other, the most often first.

    Columns first, second, first_as_second, second_as_first and mistakes (both together).
    """
    counts = confusion(run)
    both = np.triu(counts + counts.T, 1)
    rows, columns = np.nonzero(both)
    table = pd.DataFrame(
        {
            "first": [run.classes[i] for i in rows],
            "second": [run.classes[i] for i in columns],
            "first_as_second": counts[rows, columns],
            "second_as_first": counts[columns, rows],
            "mistakes": both[rows, columns],
        }
    )
    return table.sort_values("mistakes", ascending=False, kind="stable").reset_index(drop=True)


def calibration(run: Run) -> pd.DataFrame:
    """Return a row for each bin of confidence that has photos: confidence, accuracy, photos.

    `centre` is the bin's own confidence.
    """
    confidence = run.validation.max(1)
    bins = np.ceil(confidence * BINS).clip(1, BINS)
    rows = pd.DataFrame({"confidence": confidence, "accuracy": run.right}).groupby(bins)
    table = rows.mean().assign(photos=rows.size())
    return table.assign(centre=(table.index - 0.5) / BINS).reset_index(drop=True)


def by_size(run: Run) -> pd.DataFrame:
    """Return the accuracy of the smallest, middle and largest third of the held-out photos.

    Columns pixels (the median's square root: the side of a square photo), right, photos. Empty
    where sizes are not known, or all much the same.
    """
    if "width" not in run.held_out:
        return pd.DataFrame()
    pixels = (run.held_out.width * run.held_out.height).to_numpy(float)
    known = np.isfinite(pixels)
    if known.sum() < 30:
        return pd.DataFrame()
    low, high = np.quantile(pixels[known], (1 / 3, 2 / 3))
    third = np.where(pixels < low, 0, np.where(pixels < high, 1, 2))[known]
    table = pd.DataFrame({"pixels": pixels[known], "right": run.right[known]}).groupby(third)
    if table.ngroups < 3:
        return pd.DataFrame()
    return pd.DataFrame(
        {
            "pixels": np.sqrt(table.pixels.median()),
            "right": table.right.sum(),
            "photos": table.size(),
        }
    )


def stage_table(history: pd.DataFrame, photos: Mapping[int, int]) -> pd.DataFrame:
    """Return a row for each stage that ran.

    Args:
        history: a row an epoch.
        photos: how many validate, by fold.

    Returns:
        Columns member, fold, stage, epochs, seconds, speed (photos a second), best (val_accuracy,
        0 to 1) and gain: the `Interval` of the advantage of its best epoch over the best one of the
        stages before on the same photos; None for the first stage, and where an earlier version
        wrote the history.
    """
    rows = []
    for (member, fold), network in history.groupby(["member", "fold"], sort=False):
        before = None
        for stage, epochs in network.groupby("stage", sort=False):
            best = epochs.loc[epochs.val_accuracy.idxmax()]
            gain = None if before is None else gain_over(best, before, photos.get(fold, 0))
            rows.append(
                (member, fold, stage, len(epochs), epochs.seconds.sum(),
                 epochs.images_per_second.mean(), best.val_accuracy, gain)
            )  # fmt: skip
            if before is None or best.val_accuracy > before.val_accuracy:
                before = best
    columns = ["member", "fold", "stage", "epochs", "seconds", "speed", "best", "gain"]
    return pd.DataFrame(rows, columns=columns).astype({"gain": object})


def gain_over(epoch: pd.Series, other: pd.Series, photos: int) -> Interval | None:
    """Return by how much an epoch's accuracy exceeds another's, paired by photo, if it is known."""
    told = epoch.get("right"), other.get("right")
    if not photos or not all(isinstance(text, str) for text in told):
        return None
    return paired_difference(*(unpacked(text, photos) for text in told))


def conflicts(photos: pd.DataFrame) -> pd.DataFrame:
    """Return the training photos that are near-identical but have different labels, by group."""
    train = photos[(photos.set == "train") & (photos.group >= 0)]
    several = train.groupby("group")["label"].transform("nunique") > 1
    return train[several].sort_values("group", kind="stable")


def mistakes(run: Run) -> pd.DataFrame:
    """Return the held-out photos that are wrong, those first that the blend is surest of."""
    wrong = run.held_out[~run.right]
    margin = wrong.probability_of_predicted - wrong.probability_of_label
    return wrong.loc[margin.sort_values(ascending=False, kind="stable").index]


def resembling_none(run: Run) -> pd.DataFrame:
    """Return the held-out photos in which no class reaches one half, the least sure first."""
    unsure = run.held_out[run.held_out.probability_of_predicted < 0.5]
    return unsure.sort_values("probability_of_predicted", kind="stable")


def least_sure(run: Run) -> pd.DataFrame:
    """Return the test photos, those first whose two most probable classes are closest."""
    margin = run.test.probability_of_predicted - run.test.probability_of_second
    return run.test.loc[margin.sort_values(kind="stable").index]
