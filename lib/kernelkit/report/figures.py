"""Draw the figures of a run with matplotlib: once, for PNG files and for the SVG of report.html.

Colours are those of the page in light mode (templates/style.css); in an SVG they become its CSS
variables. Nothing uses pyplot: a caller's backend and figures stay as they are.
"""

import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import (
    FixedLocator,
    LogFormatter,
    MaxNLocator,
    PercentFormatter,
    StrMethodFormatter,
)
from sklearn.metrics import confusion_matrix as count_pairs

from kernelkit.core.files import write_atomically
from kernelkit.core.metrics import Interval

BLUE, ORANGE, TEXT, SOFT = "#1d5fb8", "#b34a00", "#1b1c1e", "#575b62"
LINE, SUNK, CARD = "#e0e0dc", "#f0f0ed", "#ffffff"
VARIABLES = {BLUE: "blue", ORANGE: "orange", TEXT: "text", SOFT: "soft", LINE: "line"}
VARIABLES |= {SUNK: "sunk", CARD: "card"}
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.labelcolor": SOFT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": SOFT,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.size": 11,
    "grid.color": LINE,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "report",
    "text.color": SOFT,
    "text.parse_math": False,  # a class may be called $x$
    "xtick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.color": SOFT,
    "ytick.major.size": 0,
}
WIDTH, HEIGHT = 360, 210  # points; so small that a phone need not shrink the lettering
DPI = 200  # of a PNG
TIP = "tip: "  # begins the gid of what shows a text when it is pointed at

MOST_BARS = 60  # classes whose balance is drawn
MOST_CONFUSED, MOST_CELLS = 40, 100  # classes that are drawn where there are more than so many
WITH_COUNTS = 40  # classes up to which the cells have room for their counts

styled = matplotlib.rc_context(STYLE)


# ------------------------------------------------------------------------------------ writing


@styled
def write_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, atomically; raises OSError if it can't be written."""
    write_atomically(path, lambda beside: figure.savefig(beside, format="png", dpi=DPI))


@styled
def svg(figure: Figure, label: str, css: str = "chart") -> Markup:
    """Return a figure as an SVG element for a page; `label` describes it to who can't see it."""
    content = io.StringIO()
    figure.savefig(content, format="svg", transparent=True)
    text = content.getvalue()
    box = re.search(r'viewBox="([^"]*)"', text)[1]
    text = text[text.index(">", text.index("<svg")) + 1 :]
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", text, flags=re.S)
    text = re.sub(f'<g id="{TIP}([^"]*)">', r"<g><title>\1</title>", text)
    text = re.sub('<g id="[^"]*"', "<g", text)  # names that other figures have too
    text = re.sub('font-family: [^;"]*', "font-family: system-ui, sans-serif", text)
    for colour, name in VARIABLES.items():
        text = text.replace(colour, f"var(--{name})")
    width = box.split()[2]
    start = f'<svg class="{css}" viewBox="{box}" style="--w:{width}" role="img" '
    start += f'aria-label="{escape(label)}">'
    return Markup(start + text)


def lettering(values: Iterable, width: int = 24) -> list[str]:
    """Return values as text of at most `width` characters."""
    texts = [textwrap.shorten(str(value), 4 * width) for value in values]
    return [text if len(text) <= width else text[: width - 1] + "…" for text in texts]


def _two_lines(values: Iterable) -> list[str]:
    """Return values as text of at most two lines, which may be broken after an underscore."""
    texts = (str(value).replace("_", "_ ") for value in values)
    wrapped = (textwrap.wrap(text, 14, max_lines=2, placeholder="…") for text in texts)
    return ["\n".join(lines).replace("_ ", "_") for lines in wrapped]


def new_figure(width: float = WIDTH, height: float = HEIGHT) -> Figure:
    """Return an empty figure of a size in points; call it from a function that is `styled`."""
    return Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2, borderpad=0,
        fontsize=10, handlelength=1.5, columnspacing=1, labelcolor=SOFT,
    )  # fmt: skip


# ------------------------------------------------------------------------------------ figures


@styled
def learning_curves(
    history: pd.DataFrame, panels: Sequence[str] = ("accuracy", "loss", "learning rate")
) -> Figure:
    """Draw panels ("accuracy", "loss", "learning rate") over the epochs of history.csv."""
    epochs = np.arange(1, len(history) + 1)
    figure = new_figure(WIDTH, sum(110 if name == "learning rate" else HEIGHT for name in panels))
    ratios = [1 if name == "learning rate" else 2 for name in panels]
    drawn = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    for axes, name in zip(drawn, panels, strict=True):
        if name == "learning rate":
            axes.plot(epochs, history["learning_rate"], "o-", ms=3, color=SOFT, ds="steps-mid")
            axes.set_yscale("log")  # whose usual labels need text.parse_math
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
        else:
            percent = name == "accuracy"
            _curve(axes, epochs, history[name], "training", SOFT, "--", percent)
            _curve(axes, epochs, history[f"val_{name}"], "validation", BLUE, "-", percent)
            axes.margins(y=0.12)  # for the stages' numbers
            _legend_above(axes)
            if percent:
                axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
                if history["val_accuracy"].notna().any():
                    best = int(np.nanargmax(history["val_accuracy"]))
                    value = history["val_accuracy"].iloc[best]
                    axes.plot(best + 1, value, "o", ms=11, mfc="none", mec=ORANGE, mew=1.5,
                              gid=f"{TIP}best: {value:.2%} in epoch {best + 1}")  # fmt: skip
        axes.set_title(name if len(panels) > 1 else "")
    names = _mark_stages(drawn, history["stage"])
    drawn[-1].set_xlabel(textwrap.fill("epoch of " + ", ".join(names), 62), fontsize=10)
    drawn[-1].set_xlim(0.5, max(len(history), 1) + 0.5)
    drawn[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    return figure


def _curve(axes: Axes, epochs, values, name: str, colour: str, line: str, percent: bool) -> None:
    axes.plot(epochs, values, line, color=colour, label=name, lw=2)
    for epoch, value in zip(epochs, values, strict=True):
        if np.isfinite(value):
            text = f"{100 * value:.4g}%" if percent else f"{value:.4g}"
            tip = f"{TIP}epoch {epoch}, {name}: {text}"
            axes.plot(epoch, value, "o", ms=5, color=colour, gid=tip)


def _mark_stages(panels: Sequence[Axes], stages: pd.Series) -> list[str]:
    """Shade every second stage, and return the stages' names with their numbers."""
    runs, names = (stages != stages.shift()).cumsum().to_numpy(), []
    for number in range(1, (runs.max() if len(runs) else 0) + 1):
        first, last = np.flatnonzero(runs == number)[[0, -1]] + 1
        names.append(f"{number} {stages.iloc[first - 1]}")
        for axes in panels:
            if number % 2 == 0:
                axes.axvspan(first - 0.5, last + 0.5, color=SUNK, lw=0, zorder=0)
            axes.annotate(str(number), ((first + last) / 2, 1), (0, -3), fontsize=9, va="top",
                          ha="center", xycoords=("data", "axes fraction"),
                          textcoords="offset points")  # fmt: skip
    return names


@styled
def scouting(rows: Sequence[dict]) -> Figure:
    """Draw each candidate's score with its 95 % interval; a ring is that after fine-tuning."""
    figure = new_figure(WIDTH, 60 + 22 * len(rows))
    axes = figure.add_subplot()
    for number, row in enumerate(rows):
        colour, score = BLUE if row["chosen"] else SOFT, row["score"]
        error = [[score - row["score_low"]], [row["score_high"] - score]]
        axes.errorbar(score, number, xerr=error, fmt="o", color=colour, ms=5)
        if row["tuned"] is not None:
            axes.plot(row["tuned"], number, "o", mfc="none", color=colour, ms=9)
    axes.set_yticks(range(len(rows)), lettering(row["name"] for row in rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("dot: frozen features, out of fold; ring: fine-tuned shortly")
    return figure


@styled
def confusion_matrix(
    truth: Sequence, predicted: Sequence, classes: Sequence, recall: bool = True
) -> Figure:
    """Draw how many photos of each class (row) were taken for which (column).

    The colour is the fraction of the true class, on a square-root scale that keeps rare mistakes
    visible. Up to 40 classes the cells also carry the number of photos. Of more than 100 classes
    only the 40 that are confused most are drawn, and the title says so. Truth and predictions are
    elements of `classes`; with `recall`, that of each class is written beside its row.
    """
    pairs = pd.DataFrame({"true": list(truth), "predicted": list(predicted)})
    right = pairs["true"] == pairs["predicted"]
    title, shown = f"{right.mean():.2%} of {len(pairs):,} photos right", list(classes)
    if len(shown) > MOST_CELLS:
        shown = _most_confused(pairs, shown)
        title += f"\nshown: the {len(shown)} most confused of {len(classes):,} classes"
    count = len(shown)
    names, long = _two_lines(shown), max(len(str(name)) for name in shown) > 3
    least, font = (23, 12 if count <= 12 else 9) if count <= WITH_COUNTS else (7, 5)  # points
    beside = 100 + 35 * recall  # points that names and recall take
    width = max(WIDTH, beside + least * count)
    height = count * min(28, (width - beside) / count) + (135 if long else 75)
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    axes.add_patch(Rectangle((-0.5, -0.5), count, count, color=SUNK, lw=0))
    counts = count_pairs(pairs["true"], pairs["predicted"], labels=shown)
    totals = pairs["true"].value_counts().reindex(shown, fill_value=0).to_numpy()
    _draw_cells(axes, counts, totals, shown)
    axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
    axes.set_xticks(range(count), names, fontsize=font, rotation=90 if long else 0)
    axes.set_yticks(range(count), names, fontsize=font)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.tick_params(which="both", length=0)
    axes.grid(False)
    axes.grid(which="minor", color=CARD, linewidth=1.5 if count <= WITH_COUNTS else 0.4)
    axes.set_axisbelow(False)
    axes.spines[:].set_visible(False)
    if recall:
        _write_recall(axes, counts.diagonal(), totals, font)
    figure.suptitle(f"{title} (rows are labels)", x=0.01, ha="left", fontsize=11)
    return figure


def _draw_cells(axes: Axes, counts: np.ndarray, totals: np.ndarray, shown: list) -> None:
    for row, column in zip(*np.nonzero(counts), strict=True):
        number, share = counts[row, column], np.sqrt(counts[row, column] / totals[row])
        tip = f"{TIP}{shown[row]}, taken for {shown[column]}: {number}"
        colour, alpha = (BLUE, 0.3 * share) if row == column else (ORANGE, 0.08 + 0.4 * share)
        cell = Rectangle((column - 0.5, row - 0.5), 1, 1, lw=0, color=colour, alpha=alpha, gid=tip)
        axes.add_patch(cell)
        if len(shown) <= WITH_COUNTS:
            axes.text(column, row, f"{number:,}", ha="center", va="center", color=TEXT, gid=tip,
                      fontsize=12 if number < 1000 else 8)  # fmt: skip


def _most_confused(pairs: pd.DataFrame, classes: list) -> list:
    """Return the classes of the most frequent mistakes; others fill up where these are few."""
    mistakes = pairs[pairs["true"] != pairs["predicted"]].value_counts(sort=False)
    mistakes = mistakes.sort_values(ascending=False, kind="stable")
    by_mistakes = [label for pair in mistakes.index for label in pair]
    chosen = set(list(dict.fromkeys([*by_mistakes, *pairs["true"], *classes]))[:MOST_CONFUSED])
    return [label for label in classes if label in chosen]


def _write_recall(axes: Axes, right: np.ndarray, totals: np.ndarray, font: int) -> None:
    axes.set_title("recall", loc="right", fontsize=font)
    for row, (hits, total) in enumerate(zip(right, totals, strict=True)):
        axes.annotate(f"{hits / total:.0%}" if total else "–", (1, row), (4, 0), va="center",
                      xycoords=("axes fraction", "data"), textcoords="offset points",
                      fontsize=font)  # fmt: skip


@styled
def class_balance(counts: pd.DataFrame) -> Figure:
    """Draw the photos that train and validate of each class, or of the 30 largest and smallest."""
    title, half = f"{counts.to_numpy().sum():,} photos of {len(counts):,} classes", MOST_BARS // 2
    some = len(counts) > MOST_BARS
    if some:
        title = f"shown: the {half} largest and the {half} smallest classes\n{title}"
        order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
        counts = counts.loc[[*order[:half], *order[-half:]]]
    figure = new_figure(WIDTH, 70 + 17 * len(counts))
    axes, rows = figure.add_subplot(), np.arange(len(counts))
    train, validation = counts["train"], counts["validation"]
    axes.barh(rows, train, 0.72, color=BLUE, label="training")
    axes.barh(rows, validation, 0.72, left=train, color=ORANGE, label="validation")
    for row, (trained, held_out) in enumerate(zip(train, validation, strict=True)):
        axes.annotate(f"{trained:,} + {held_out:,}", (trained + held_out, row), (4, 0), va="center",
                      textcoords="offset points", fontsize=9)  # fmt: skip
    if some:
        axes.axhline(half - 0.5, color=SOFT, lw=1, ls="--")
    axes.set_yticks(rows, lettering(counts.index), fontsize=10)
    axes.set(ylim=(len(counts) - 0.4, -0.6), xlim=(0, max((train + validation).max(), 1) * 1.3))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(False, axis="y")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    _legend_above(axes)
    return figure


@styled
def calibration(table: pd.DataFrame, bins: int) -> Figure:
    """Draw accuracy by confidence; `table` is of `kernelkit.predict.calibration.reliability`."""
    figure = new_figure()
    axes = figure.add_subplot()
    for row in table.itertuples():
        tip = f"{TIP}{row.photos} photos: confidence {row.confidence:.1%}, right {row.accuracy:.1%}"
        axes.bar((row.bin - 0.5) / bins, row.accuracy, 0.85 / bins, color=BLUE)[0].set_gid(tip)
    axes.plot([0, 1], [0, 1], ":", color=SOFT)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
        axis.set_major_formatter(PercentFormatter(1))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    return figure


@styled
def photo_sizes(photos: pd.DataFrame, size: Sequence[int]) -> Figure:
    """Draw the photos' widths and heights, counted in cells, and those that the network sees."""
    widest = max(photos.width.quantile(0.995), size[1]) * 1.02
    tallest = max(photos.height.quantile(0.995), size[0]) * 1.02
    x = (photos.width.clip(upper=widest) * 40 / widest).round() * widest / 40
    y = (photos.height.clip(upper=tallest) * 25 / tallest).round() * tallest / 25
    cells = pd.DataFrame({"x": x, "y": y}).value_counts().reset_index()
    figure = new_figure()
    axes = figure.add_subplot()
    level = np.ceil(4 * np.sqrt(cells["count"] / cells["count"].max()))  # 1 to 4
    for diameter, rows in cells.groupby(3 * level):
        axes.plot(rows.x, rows.y, "o", ms=diameter, color=BLUE, alpha=0.5, mew=0)
    axes.add_patch(Rectangle((0, 0), size[1], size[0], fill=False, ec=ORANGE, lw=2))
    axes.set(xlim=(0, widest * 1.03), ylim=(0, tallest * 1.05))
    return figure


@styled
def interval_strip(interval: Interval, marks: Sequence[float]) -> Figure:
    """Draw an accuracy with its interval, and published ones beside it, on one line."""
    low = max(0.0, min(np.floor(20 * min([interval.low, *marks])) / 20, 0.95))
    figure = Figure(figsize=(WIDTH / 72, 44 / 72), dpi=72)
    axes = figure.add_axes((0.02, 0.4, 0.96, 0.6))
    axes.axhline(0, color=LINE, lw=1)
    axes.plot([interval.low, interval.high], [0, 0], color=BLUE, alpha=0.35, lw=10,
              solid_capstyle="round")  # fmt: skip
    axes.vlines(marks, -1, 1, color=ORANGE, lw=2)
    axes.plot(interval.value, 0, "o", ms=12, color=BLUE, mec=CARD, mew=2, clip_on=False)
    axes.set(xlim=(low, 1), ylim=(-1.6, 1.6), yticks=[])
    axes.set_xticks([low, 1], [f"{low:.0%}", "100%"])
    for text, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
        text.set_ha(side)
    axes.spines[:].set_visible(False)
    axes.grid(False)
    return figure


@styled
def scores(points: Sequence[tuple[float, float, str]]) -> Figure:
    """Draw runs' public scores by their validation accuracies; a point is both and its text."""
    figure = new_figure()
    axes = figure.add_subplot()
    for across, up, text in points:
        axes.plot(across, up, "o", ms=8, color=BLUE, gid=TIP + text)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.2%}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.1%}"))
    return figure


@styled
def photo_grid(images: np.ndarray, titles: Sequence, columns: int) -> Figure:
    """Draw photos, uint8 [n, height, width, 3], row by row, each under its title."""
    count, height, width, _ = images.shape
    rows, cell = -(-count // columns), 2 * WIDTH / columns
    figure = new_figure(2 * WIDTH, rows * (cell * height / width + 14))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, image, title in zip(panels, images, lettering(titles, int(cell / 5)), strict=False):
        axes.imshow(image, interpolation="antialiased")
        axes.set_title(title, fontsize=8, pad=2, loc="center")
    return figure
