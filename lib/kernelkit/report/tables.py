"""The tables of a report that follow from what a run has saved, and their CSV files."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from kernelkit.core.metrics import Interval, paired_difference, unpacked
from kernelkit.core.tables import write_list
from kernelkit.data.duplicates import conflicting_labels
from kernelkit.data.tables import with_marks
from kernelkit.report.saved import Run

FOLDER = "report"  # beside report.html


def write_lists(run: Run) -> None:
    """Write a run's lists whole into the folder report/. Raises OSError if one can't be written."""
    copies, folder = conflicts(run.photos).drop(columns=["set"]), run.folder / FOLDER
    lists = {"duplicates": with_marks(copies, folder / "duplicates.csv")}
    if run.finished:
        lists |= {
            "mistakes": mistakes(run),
            "least_sure": least_sure(run),
            "resembling_none": resembling_none(run),
            "confused_pairs": confused_pairs(run),
            "classes": class_table(run),
        }
    for name, table in lists.items():
        write_list(table, folder / f"{name}.csv", "%.6g")


def class_table(run: Run) -> pd.DataFrame:
    """Return a row a class: precision, recall, f1 (0 to 1, NaN where undefined) and support."""
    best, numbers = run.validation.argmax(1), range(len(run.classes))
    columns = precision_recall_fscore_support(run.truth, best, labels=numbers, zero_division=np.nan)
    table = pd.DataFrame(dict(zip(("precision", "recall", "f1", "support"), columns, strict=True)))
    table.insert(0, "class", run.classes)
    return table


def confused_pairs(run: Run) -> pd.DataFrame:
    """Return the pairs of classes that were taken for each other, the most often first."""
    labels = range(len(run.classes))
    counts = confusion_matrix(run.truth, run.validation.argmax(1), labels=labels)
    both = np.triu(counts + counts.T, 1)
    rows, columns = np.nonzero(both)
    names = np.asarray(run.classes, object)
    table = pd.DataFrame(
        {
            "first": names[rows],
            "second": names[columns],
            "first_as_second": counts[rows, columns],
            "second_as_first": counts[columns, rows],
            "mistakes": both[rows, columns],
        }
    )
    return table.sort_values("mistakes", ascending=False, kind="stable").reset_index(drop=True)


def by_size(run: Run) -> pd.DataFrame:
    """Return the accuracy of the smallest, middle and largest third of the held-out photos.

    Columns pixels (the median's square root: the side of a square photo), right, photos. Empty
    where sizes are not known, or all much the same.
    """
    pixels = (run.held_out.width * run.held_out.height).to_numpy(float)
    known = np.isfinite(pixels)
    if known.sum() < 30:
        return pd.DataFrame()
    bounds = np.quantile(pixels[known], (1 / 3, 2 / 3))
    third = np.digitize(pixels[known], bounds)
    table = pd.DataFrame({"pixels": pixels[known], "right": run.right[known]}).groupby(third)
    if table.ngroups < 3:
        return pd.DataFrame()
    sides = np.sqrt(table.pixels.median())
    return pd.DataFrame({"pixels": sides, "right": table.right.sum(), "photos": table.size()})


def stage_table(history: pd.DataFrame, photos: Mapping[int, int]) -> pd.DataFrame:
    """Return a row for each stage that ran.

    Columns are member, fold, stage, epochs, seconds, speed (photos a second), best (val_accuracy, 0
    to 1) and gain: the `Interval` of its advantage over the best of the stages before on the same
    photos, or None. `photos` says how many validate, by fold.
    """
    rows = []
    for (member, fold), network in history.groupby(["member", "fold"], sort=False):
        before = None
        for stage, epochs in network.groupby("stage", sort=False):
            best = epochs.loc[epochs.val_accuracy.idxmax()]
            rows.append(
                {
                    "member": member,
                    "fold": fold,
                    "stage": stage,
                    "epochs": len(epochs),
                    "seconds": epochs.seconds.sum(),
                    "speed": epochs.images_per_second.mean(),
                    "best": best.val_accuracy,
                    "gain": _gain(best, before, photos.get(fold, 0)),
                }
            )
            if before is None or best.val_accuracy > before.val_accuracy:
                before = best
    return pd.DataFrame(rows).astype({"gain": object})


def _gain(epoch: pd.Series, before: pd.Series | None, photos: int) -> Interval | None:
    """Return by how much an epoch's accuracy exceeds another's, paired by photo, if it is known."""
    texts = [] if before is None else [epoch.get("right"), before.get("right")]
    if not texts or not photos or not all(isinstance(text, str) for text in texts):
        return None
    return paired_difference(*(unpacked(text, photos) for text in texts))


def conflicts(photos: pd.DataFrame) -> pd.DataFrame:
    """Return the training photos that are near-identical but have different labels, by group."""
    known = photos[(photos.set == "train") & (photos.group >= 0)]
    return conflicting_labels(known, "group")


def mistakes(run: Run) -> pd.DataFrame:
    """Return the held-out photos that are wrong, the most confident mistakes first."""
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
