"""Colours, lettering and the writing of files, shared by all figures."""

import os
import textwrap
from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kernelkit.core.files import write_atomically

# Blue, vermilion and a grey from Okabe and Ito's palette, which people with any kind of colour
# vision can tell apart (https://jfly.uni-koeln.de/color/).
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6B6B6B"


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, width and height in inches, that needs no display."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure as a PNG, atomically."""
    write_atomically(
        Path(path), lambda beside: figure.savefig(beside, format="png", facecolor="white")
    )


def lettering(values: Iterable, width: int = 24) -> list[str]:
    """Return values as text of at most `width` characters, of which nothing is read as TeX."""
    texts = (textwrap.shorten(str(value), width * 4) for value in values)
    return [(t if len(t) <= width else t[: width - 1] + "…").replace("$", r"\$") for t in texts]


def tidy(axes: Axes) -> None:
    """Hide the spines without ticks and draw a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
