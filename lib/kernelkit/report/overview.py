"""The page of all runs: public score against validation accuracy, and what changed between them."""

from collections.abc import Sequence
from pathlib import Path

from kernelkit.core.files import write_atomically
from kernelkit.report.charts import horizontal, nice_ticks, vertical
from kernelkit.report.writing import template


def write_overview(rows: Sequence[dict], file: Path) -> None:
    """Write the page.

    Args:
        rows: one a run, the best first: run, time, changed (a text), status, score, low and
            high (its interval), gpu_minutes, public_score (0 to 1, or None where unknown), page
            (an address, or "") and report (a path relative to the page, or "").
        file: where the page goes.

    Raises:
        Problem: Jinja2 is not installed.
        OSError: it can't be written.
    """
    page = template("runs.html.j2").render(rows=rows, chart=scatter(rows))
    write_atomically(file, page)


def scatter(rows: Sequence[dict]) -> dict | None:
    """Return the chart of public score by validation accuracy; None with fewer than two points."""
    points = [
        (row["score"], row["public_score"], row["run"])
        for row in rows
        if row["score"] is not None and row["public_score"] is not None
    ]
    if len(points) < 2:
        return None
    xs, ys, _ = zip(*points, strict=True)
    marks = [nice_ticks(min(values), max(values)) for values in (xs, ys)]
    across, up = horizontal(marks[0][0], marks[0][-1]), vertical(marks[1][0], marks[1][-1])
    return {
        "across": [(across.at(mark), f"{mark:.2%}") for mark in marks[0]],
        "ticks": [(up.at(mark), f"{mark:.1%}") for mark in marks[1]],
        "dots": [
            (across.at(x), up.at(y), f"{run}: validation {x:.2%}, public score {y:.5f}")
            for x, y, run in points
        ],
    }
