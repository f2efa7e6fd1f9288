"""Bars and curves: the classes' sizes, and how a training went."""

import os

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, PercentFormatter

from results.figures.drawing import BLUE, GREY, ORANGE, lettering, new_figure, save, tidy

LETTERS = 90  # that fit side by side above the learning curves


def class_balance(counts: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw the photos of each class, training and validation, as one bar a class.

    Args:
        counts: a row a class (the index names it), columns train and validation: numbers of photos.
        path: of the PNG.
    """
    rows = np.arange(len(counts))
    total = counts["train"] + counts["validation"]
    figure = new_figure(8, 1.3 + 0.3 * len(counts))
    axes = figure.add_subplot()
    axes.barh(rows, counts["train"], 0.72, color=BLUE, label="training")
    axes.barh(
        rows, counts["validation"], 0.72, left=counts["train"], color=ORANGE, label="validation"
    )
    for row, (train, validation) in enumerate(counts[["train", "validation"]].to_numpy()):
        axes.annotate(
            f"{train:,} + {validation:,}",
            (train + validation, row),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=GREY,
        )
    axes.set_yticks(rows, lettering(counts.index))
    axes.set_ylim(len(counts) - 0.4, -0.6)
    axes.set_xlim(0, max(total.max(), 1) * 1.14)
    axes.set_xlabel("photos")
    axes.set_title(f"{total.sum():,} photos of {len(counts)} classes", loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(axes)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    legend_above(axes, 1)
    save(figure, path)


def learning_curves(history: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw accuracy, loss and learning rate over all epochs, the stages marked and named.

    Args:
        history: a row an epoch in order, columns stage (its name), loss, accuracy, val_loss,
            val_accuracy (0 to 1), learning_rate.
        path: of the PNG.
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
    mark_stages(figure, (accuracy, loss, rate), history["stage"])
    legend_above(accuracy, 1.07)
    save(figure, path)


def mark_best(axes, val_accuracy: pd.Series) -> None:
    """Ring the epoch of the best validation accuracy and write the figure beside it."""
    if val_accuracy.isna().all():
        return
    best = int(np.nanargmax(val_accuracy))
    axes.set_title(
        f"best validation accuracy {val_accuracy.iloc[best]:.2%} in epoch {best + 1}",
        loc="left",
        pad=22,
    )
    axes.plot(best + 1, val_accuracy.iloc[best], "o", ms=13, mfc="none", mec="black", mew=1.2)


def mark_stages(figure, panels, stages: pd.Series) -> None:
    """Shade every second stage, and name each above the first panel, a narrow one in it."""
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


def legend_above(axes, height: float) -> None:
    """Put the legend above an axes on the right, level with its title."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, height),
        ncols=2,
        frameon=False,
        borderaxespad=0.2,
        borderpad=0,
    )
