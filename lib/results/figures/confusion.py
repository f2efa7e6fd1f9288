"""Which classes a model takes for which."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from sklearn.metrics import confusion_matrix as count_pairs

from results.figures.drawing import GREY, lettering, new_figure, save

MOST_WITH_NUMBERS = 40


def confusion_matrix(
    true: Sequence, predicted: Sequence, classes: Sequence, path: str | os.PathLike
) -> None:
    """Draw how many photos of each class were taken for which, and the recall of each.

    The colour is the share of the true class, on a square-root scale: rare mistakes stay visible.

    Args:
        true: n labels, elements of `classes`.
        predicted: n labels.
        classes: in the order of rows and columns; above 40 of them the cells carry no numbers.
        path: of the PNG.
    """
    counts = count_pairs(true, predicted, labels=list(classes))
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    numbers = len(classes) <= MOST_WITH_NUMBERS
    side = 2.6 + len(classes) * (0.5 if len(classes) <= 20 else 0.38 if numbers else 0.16)

    figure = new_figure(side + 0.8, side)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    names = lettering(classes)
    small = 9 if len(classes) <= 20 else 7 if numbers else 5
    axes.set_xticks(range(len(classes)), names, fontsize=small, rotation=rotation(names))
    axes.set_yticks(range(len(classes)), names, fontsize=small)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1 if numbers else 0.4)
    axes.tick_params(which="minor", length=0)
    if numbers:
        for row, column in zip(*np.nonzero(counts), strict=True):
            axes.text(
                column,
                row,
                f"{counts[row, column]:,}",
                ha="center",
                va="center",
                fontsize=small,
                color="white" if shares[row, column] > 0.3 else "black",
            )
    for row, total in enumerate(totals):
        write_beside(axes, row, f"{shares[row, row]:.1%}" if total else "–", small)
    axes.set_title("recall", loc="right", fontsize=small, color=GREY)
    accuracy = np.trace(counts) / max(counts.sum(), 1)
    axes.set_title(f"{accuracy:.2%} of {counts.sum():,} photos right", loc="left")
    save(figure, path)


def write_beside(axes, row: float, text: str, size: int) -> None:
    """Write a text to the right of a row of the matrix."""
    axes.annotate(
        text,
        (1, row),
        (6, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        fontsize=size,
        color=GREY,
    )


def rotation(names: list[str]) -> int:
    """Return the angle at which names fit under their columns."""
    return 0 if max(map(len, names), default=0) <= 4 else 90
