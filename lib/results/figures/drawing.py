"""What all figures share: colours, lettering, and how a figure is written."""

import os
import textwrap
from collections.abc import Iterable
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Blue, vermilion and grey of Okabe and Ito's palette for all kinds of colour vision
# (https://jfly.uni-koeln.de/color/).
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6B6B6B"


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that many inches, drawn without a display."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write a PNG beside its place, then move it there: a crash leaves the old file or the new."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            figure.savefig(file, format="png", facecolor="white")
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def lettering(values: Iterable, width: int = 24) -> list[str]:
    """Return labels as text of at most `width` characters, with nothing read as a formula."""
    texts = (textwrap.shorten(str(value), width * 4) for value in values)
    return [(t if len(t) <= width else t[: width - 1] + "…").replace("$", r"\$") for t in texts]


def tidy(axes) -> None:
    """Leave an axes the two spines that carry ticks, and a faint grid behind its data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
