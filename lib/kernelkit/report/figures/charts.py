"""Draw the sizes of the classes, and the curves of a training."""

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from kernelkit.report.figures.drawing import BLUE, GREY, ORANGE, lettering, new_figure, save, tidy

LETTERS = 90  # how many characters fit side by side above the learning curves
MOST_CLASSES = 120  # above that only some have a bar: matplotlib draws at most 65,536 pixels


def class_balance(counts: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw the numbers of training and validation photos of each class as one bar.

    Of more than 120 classes only the 60 largest and the 60 smallest are drawn, sorted by size, and
    the title says so.

    Args:
        counts: a row for each class (the index names it), columns train and validation: the
            numbers of photos.
        path: the PNG to write.
    """
    title = f"{counts.to_numpy().sum():,} photos of {len(counts):,} classes"
    half = MOST_CLASSES // 2
    some = len(counts) > MOST_CLASSES
    if some:
        title = f"shown: the {half} largest and the {half} smallest classes\n{title}"
        order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
        counts = counts.loc[[*order[:half], *order[-half:]]]
    figure = new_figure(8, 1.3 + 0.3 * len(counts))
    axes = figure.add_subplot()
    draw_bars(axes, counts)
    if some:
        axes.axhline(half - 0.5, color=GREY, lw=1, ls="--")
    axes.set_title(title, loc="left")
    legend_above(axes, 1)
    save(figure, path)


def draw_bars(axes: Axes, counts: pd.DataFrame) -> None:
    """Draw the bars of `class_balance` and write the numbers beside them."""
    rows, train, validation = np.arange(len(counts)), counts["train"], counts["validation"]
    axes.barh(rows, train, 0.72, color=BLUE, label="training")
    axes.barh(rows, validation, 0.72, left=train, color=ORANGE, label="validation")
    for row, (trained, held_out) in enumerate(zip(train, validation, strict=True)):
        axes.annotate(
            f"{trained:,} + {held_out:,}",
            (trained + held_out, row),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=GREY,
        )
    axes.set_yticks(rows, lettering(counts.index))
    axes.set_ylim(len(counts) - 0.4, -0.6)
    axes.set_xlim(0, max((train + validation).max(), 1) * 1.14)
    axes.set_xlabel("photos")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(axes)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def learning_curves(history: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw accuracy, loss and learning rate over all epochs, and mark and name the stages.

    Args:
        history: a row for each epoch, in order, with the columns stage (its name), loss, accuracy,
            val_loss, val_accuracy (accuracies from 0 to 1) and learning_rate.
        path: the PNG to write.
    """
    epochs = np.arange(1, len(history) + 1)
    figure = new_figure(9, 7.5)
    accuracy, loss, rate = figure.subplots(3, 1, sharex=True, height_ratios=(4, 3, 1.4))
    for axes, column in ((accuracy, "accuracy"), (loss, "loss")):
        axes.plot(epochs, history[column], "o-", ms=4, color=BLUE, label="training")
        axes.plot(epochs, history[f"val_{column}"], "s-", ms=4, color=ORANGE, label="validation")
        axes.set_ylabel(column)
    rate.plot(epochs, history["learning_rate"], "o-", ms=3, color=GREY, drawstyle="steps-mid")
    rate.set_yscale("log")
    rate.set_ylabel("learning rate")
    rate.set_xlabel("epoch")
    rate.set_xlim(0.5, max(len(history), 1) + 0.5)
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (accuracy, loss, rate):
        tidy(axes)
    mark_best(accuracy, history["val_accuracy"])
    mark_stages((accuracy, loss, rate), history["stage"])
    legend_above(accuracy, 1.07)
    save(figure, path)


def mark_best(axes: Axes, val_accuracy: pd.Series) -> None:
    """Circle the best validation accuracy and give its value in the title."""
    if val_accuracy.isna().all():
        return
    best = int(np.nanargmax(val_accuracy))
    axes.set_title(
        f"best validation accuracy {val_accuracy.iloc[best]:.2%} in epoch {best + 1}",
        loc="left",
        pad=22,
    )
    axes.plot(best + 1, val_accuracy.iloc[best], "o", ms=13, mfc="none", mec="black", mew=1.2)


def mark_stages(panels: Sequence[Axes], stages: pd.Series) -> None:
    """Shade every second stage and name each above the first panel.

    The name of a stage that is narrower than its name is written upright, inside the panel.
    """
    runs = (stages != stages.shift()).cumsum().to_numpy()
    for number in range(1, (runs.max() if len(runs) else 0) + 1):
        first, last = np.flatnonzero(runs == number)[[0, -1]] + 1
        for axes in panels:
            if number % 2 == 0:
                axes.axvspan(first - 0.5, last + 0.5, color="#F1F1F1", lw=0, zorder=0)
            if number > 1:
                axes.axvline(first - 0.5, color=GREY, lw=1, ls="--")
        name = lettering([stages.iloc[first - 1]])[0]
        narrow = len(name) > LETTERS * (last - first + 1) / len(stages)
        panels[0].annotate(
            name,
            ((first + last) / 2, 0 if narrow else 1),
            (0, 5),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            rotation=90 if narrow else 0,
            color=GREY,
        )


def legend_above(axes: Axes, height: float) -> None:
    """Put the legend above the right end of the axes.

    Args:
        axes: whose curves or bars the legend explains.
        height: of the legend's lower edge, as a multiple of the axes' height.
    """
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, height),
        ncols=2,
        frameon=False,
        borderaxespad=0.2,
        borderpad=0,
    )
