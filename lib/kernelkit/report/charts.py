"""The geometry of a report's charts: numbers in, coordinates of an SVG out.

Every chart is drawn on the same small canvas, so that its lettering stays readable on a phone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kernelkit.report.saved import Run

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 38, 10, 18, 26  # margins, which hold the axes' lettering


@dataclass(frozen=True)
class Axis:
    """Maps values from `low` to `high` to coordinates from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return a value's coordinate."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign, as it is typeset; what rounds to 0 has a plus."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about `count` round numbers that cover low to high, ends included."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def line(xs: Sequence[float], ys: Sequence[float], across: Axis, up: Axis) -> str:
    """Return the points of a polyline; values that are not finite are left out."""
    pairs = zip(xs, ys, strict=True)
    return " ".join(f"{across.at(x)},{up.at(y)}" for x, y in pairs if math.isfinite(y))


def horizontal(low: float, high: float) -> Axis:
    """Return the axis along the bottom of the canvas."""
    return Axis(low, high, LEFT, WIDTH - RIGHT)


def vertical(low: float, high: float) -> Axis:
    """Return the axis up the left of the canvas."""
    return Axis(low, high, HEIGHT - BOTTOM, TOP)


def curves(rows: pd.DataFrame, columns: dict[str, str], percent: bool) -> dict:
    """Return a chart of a network's epochs.

    Args:
        rows: of the history, in order.
        columns: names of columns, with what the legend says of them.
        percent: whether the values are fractions.
    """
    xs = np.arange(1, len(rows) + 1)
    values = rows[list(columns)].to_numpy(float)
    finite = values[np.isfinite(values)]
    ticks = nice_ticks(finite.min(), finite.max()) if len(finite) else [0.0, 1.0]
    if percent:
        ticks = [tick for tick in ticks if tick <= 1.0001]
        ticks = ticks if len(ticks) > 1 else [0.0, 1.0]
    across, up = horizontal(0.5, len(rows) + 0.5), vertical(ticks[0], ticks[-1])
    label = (lambda v: f"{100 * v:g}%") if percent else (lambda v: f"{v:g}")
    return {
        "bands": stage_bands(rows, across),
        "ticks": [(up.at(tick), label(tick)) for tick in ticks],
        "across": [(across.at(x), str(x)) for x in epoch_ticks(len(rows))],
        "lines": [
            {
                "text": text,
                "points": line(xs, rows[name], across, up),
                "dots": [
                    (across.at(x), up.at(y), f"epoch {x}, {text}: {label(round(y, 4))}")
                    for x, y in zip(xs, rows[name], strict=True)
                    if math.isfinite(y)
                ],
            }
            for name, text in columns.items()
        ],
    }


def epoch_ticks(epochs: int) -> list[int]:
    """Return the numbers of the epochs that are written below a chart."""
    step = max(1, -(-epochs // 8))
    return [1, *range(step, epochs + 1, step)] if step > 1 else list(range(1, epochs + 1))


def stage_bands(rows: pd.DataFrame, across: Axis) -> list[dict]:
    """Return the stages of a network's epochs as bands: x, width, number and name."""
    bands, names = [], rows.stage.tolist()
    starts = [0] + [i for i in range(1, len(names)) if names[i] != names[i - 1]]
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(names)], strict=True), 1):
        left, right = across.at(start + 0.5), across.at(end + 0.5)
        width = round(right - left, 1)
        bands.append({"x": left, "width": width, "number": number, "name": names[start]})
    return bands


def calibration_chart(table: pd.DataFrame) -> dict:
    """Return the chart of confidence against accuracy: a bar a bin, and the diagonal."""
    across, up = horizontal(0, 1), vertical(0, 1)
    width = (WIDTH - LEFT - RIGHT) / 10 - 4
    return {
        "ticks": [(up.at(v), f"{100 * v:g}%") for v in (0, 0.25, 0.5, 0.75, 1)],
        "across": [(across.at(v), f"{100 * v:g}%") for v in (0, 0.25, 0.5, 0.75, 1)],
        "bars": [
            {
                "x": round(across.at(row.centre) - width / 2, 1),
                "y": up.at(row.accuracy),
                "width": round(width, 1),
                "height": round(up.start - up.at(row.accuracy), 1),
                "text": f"{row.photos:.0f} photos: said {row.confidence:.1%}, "
                f"right {row.accuracy:.1%}",
            }
            for row in table.itertuples()
        ],
        "diagonal": (across.at(0), up.at(0), across.at(1), up.at(1)),
    }


def size_cloud(photos: pd.DataFrame, size: Sequence[int]) -> dict | None:
    """Return the chart of the photos' widths and heights, and of what the network sees.

    Sizes are counted in cells, so that thousands of photos make a small chart. None where no size
    is known.
    """
    known = photos[(photos.width > 0) & (photos.height > 0)]
    if known.empty:
        return None
    widest = max(known.width.quantile(0.995), size[1])
    tallest = max(known.height.quantile(0.995), size[0])
    xs, ys = nice_ticks(0, widest), nice_ticks(0, tallest)
    across, up = horizontal(0, xs[-1]), vertical(0, ys[-1])
    cells = known.assign(
        x=(known.width.clip(upper=xs[-1]) * 60 / xs[-1]).round() * xs[-1] / 60,
        y=(known.height.clip(upper=ys[-1]) * 40 / ys[-1]).round() * ys[-1] / 40,
    )
    counts = cells.groupby(["x", "y"]).size()
    most = counts.max()
    return {
        "ticks": [(up.at(v), f"{v:g}") for v in ys],
        "across": [(across.at(v), f"{v:g}") for v in xs],
        "spots": [
            (across.at(x), up.at(y), round(1.5 + 6 * math.sqrt(count / most), 1),
             f"about {x:.0f} x {y:.0f} pixels: {count} photos")
            for (x, y), count in counts.items()
        ],
        "seen": (across.at(size[1]), up.at(size[0])),
    }  # fmt: skip


def networks(run: Run) -> list[dict]:
    """Return for each network of a run its name and its charts of accuracy and loss.

    A network of one epoch has no curve.
    """
    if run.history.empty:
        return []
    charts = []
    groups = run.history.groupby(["member", "fold"], sort=False)
    for (member, fold), rows in groups:
        if len(rows) < 2:
            continue
        accuracy = {"accuracy": "training", "val_accuracy": "validation"}
        loss = {"loss": "training", "val_loss": "validation"}
        drawn = {
            "Accuracy": curves(rows, accuracy, True),
            "Loss": curves(rows, loss, False),
        }
        name = f"{member}, fold {fold}" if groups.ngroups > 1 else str(member)
        bands = drawn["Accuracy"]["bands"]
        charts.append({"name": name, "charts": drawn, "stages": bands, "epochs": len(rows)})
    return charts
