"""Draw which classes a model takes for which."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from sklearn.metrics import confusion_matrix as count_pairs

from kernelkit.report.figures.drawing import GREY, lettering, new_figure, save

MOST_CLASSES = 100  # above that only some are drawn, so that the picture stays small enough
MOST_CONFUSED = 40  # the number of classes that are drawn then
MOST_WITH_NUMBERS = 40  # above that the cells are too small for numbers


@dataclass(frozen=True)
class Style:
    """Sizes that depend on the number of classes drawn."""

    cell: float  # inches
    font: int  # points
    numbers: bool  # whether the cells carry their counts


def confusion_matrix(
    true: Sequence, predicted: Sequence, classes: Sequence, path: str | os.PathLike
) -> None:
    """Draw how many photos of each class were taken for which, and the recall of each class.

    The colour is the fraction of the true class, on a square-root scale that keeps rare mistakes
    visible. Up to 40 classes the cells also carry the number of photos. Of more than 100 classes
    only the 40 that are confused most are drawn, and the title says so.

    Args:
        true: n labels, elements of `classes`.
        predicted: n labels, elements of `classes`.
        classes: in the order of rows and columns.
        path: the PNG to write.
    """
    pairs = pd.DataFrame({"true": list(true), "predicted": list(predicted)})
    right = pairs["true"] == pairs["predicted"]
    title = f"{right.sum() / max(len(pairs), 1):.2%} of {len(pairs):,} photos right"
    shown = list(classes)
    if len(shown) > MOST_CLASSES:
        shown = most_confused(pairs, shown, MOST_CONFUSED)
        title += f"\nshown: the {len(shown)} most confused of {len(classes):,} classes"

    counts = count_pairs(pairs["true"], pairs["predicted"], labels=shown)
    totals = pairs["true"].value_counts().reindex(shown, fill_value=0).to_numpy()
    style = style_of(len(shown))
    side = 2.6 + len(shown) * style.cell
    figure = new_figure(side + 0.8, side)
    axes = figure.add_subplot()
    draw_cells(axes, counts, counts / np.maximum(totals, 1)[:, None], style)
    name_classes(axes, lettering(shown), style)
    write_recall(axes, counts.diagonal(), totals, style.font)
    axes.set_title(title, loc="left")
    save(figure, path)


def most_confused(pairs: pd.DataFrame, classes: list, most: int) -> list:
    """Return the classes of the most frequent mistakes.

    Args:
        pairs: a row for each photo, columns true and predicted.
        classes: all classes.
        most: how many classes to return, at most as many as there are. Where there are too few
            mistakes for that, classes without any fill up the list.

    Returns:
        `most` of the classes, in their order.
    """
    mistakes = pairs[pairs["true"] != pairs["predicted"]].value_counts(sort=False)
    mistakes = mistakes.sort_values(ascending=False, kind="stable")
    by_mistakes = [label for pair in mistakes.index for label in pair]
    chosen = set(list(dict.fromkeys([*by_mistakes, *pairs["true"], *classes]))[:most])
    return [label for label in classes if label in chosen]


def style_of(count: int) -> Style:
    """Return the sizes for a number of classes."""
    if count <= 20:
        return Style(cell=0.5, font=9, numbers=True)
    if count <= MOST_WITH_NUMBERS:
        return Style(cell=0.38, font=7, numbers=True)
    return Style(cell=0.16, font=5, numbers=False)


def draw_cells(axes: Axes, counts: np.ndarray, fractions: np.ndarray, style: Style) -> None:
    """Draw the matrix.

    Args:
        axes: where to draw.
        counts: int [classes, classes], the photos of a true class (row) by predicted class.
        fractions: float [classes, classes], of the photos of the true class, 0 to 1.
        style: says whether the cells carry their counts.
    """
    axes.imshow(fractions, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    axes.spines[:].set_visible(False)
    borders = np.arange(len(counts) + 1) - 0.5
    axes.set_xticks(borders, minor=True)
    axes.set_yticks(borders, minor=True)
    axes.grid(which="minor", color="white", linewidth=1 if style.numbers else 0.4)
    axes.tick_params(which="minor", length=0)
    if not style.numbers:
        return
    for row, column in zip(*np.nonzero(counts), strict=True):
        axes.text(
            column,
            row,
            f"{counts[row, column]:,}",
            ha="center",
            va="center",
            fontsize=style.font,
            color="white" if fractions[row, column] > 0.3 else "black",
        )


def name_classes(axes: Axes, names: list[str], style: Style) -> None:
    """Write the classes' names under the columns and beside the rows."""
    short = max(map(len, names), default=0) <= 4
    axes.set_xticks(range(len(names)), names, fontsize=style.font, rotation=0 if short else 90)
    axes.set_yticks(range(len(names)), names, fontsize=style.font)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")


def write_recall(axes: Axes, right: np.ndarray, totals: np.ndarray, font: int) -> None:
    """Write the recall of each class to the right of its row.

    Args:
        axes: of the matrix.
        right: int [classes], the photos that were classified rightly.
        totals: int [classes], all photos of the class.
        font: in points.
    """
    axes.set_title("recall", loc="right", fontsize=font, color=GREY)
    for row, (hits, total) in enumerate(zip(right, totals, strict=True)):
        axes.annotate(
            f"{hits / total:.1%}" if total else "–",
            (1, row),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=font,
            color=GREY,
        )
