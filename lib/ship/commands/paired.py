"""How good runs are on their validation photos, and whether two of them really differ.

Read from a run's output: probabilities.npz, or members/NAME/probabilities.npz of its only member.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelkit.core.contract import ValidationPredictions, read_validation
from kernelkit.core.problem import Problem
from ship.ledger import Run


@dataclass(frozen=True)
class Pair:
    """Two runs on the photos that both were validated on."""

    photos: int
    only_first: list[str]
    """The Ids that only the first run gets right."""
    only_second: list[str]
    difference: float
    """The second one's value of the metric less the first one's."""
    p: float
    """How often chance alone gives so large a difference."""
    test: str


def predictions_of(folder: Path) -> ValidationPredictions | None:
    """Return a run's validation predictions, None where there are none that can be read."""
    try:
        return read_validation(folder)
    except Problem:
        return None


def answers(predictions: ValidationPredictions) -> dict[str, tuple[str, str]]:
    """Return (label, most probable class) of each photo by its Id."""
    best = [predictions.classes[position] for position in predictions.probabilities.argmax(1)]
    return dict(zip(predictions.ids, zip(predictions.labels, best, strict=True), strict=True))


def compared(
    first: ValidationPredictions, second: ValidationPredictions, metric: str
) -> Pair | None:
    """Compare two runs by a row of METRICS on the photos that both were validated on.

    By the accuracy where their classes differ. None where they share no photo of the same label.
    """
    import numpy as np

    from kernelkit.core.metrics import mcnemar, metric_named

    ours, theirs = answers(first), answers(second)
    shared = [name for name in ours if name in theirs and ours[name][0] == theirs[name][0]]
    if not shared:
        return None
    right = {name: [a[0] == a[1] for a in (ours[name], theirs[name])] for name in shared}
    only_first = [name for name, (a, b) in right.items() if a and not b]
    only_second = [name for name, (a, b) in right.items() if b and not a]
    row = metric_named(metric)
    if row.is_fraction or first.classes != second.classes:
        difference = (len(only_second) - len(only_first)) / len(shared)
        p, test = mcnemar(len(only_second), len(only_first)), "exact McNemar test"
    else:
        places = [
            {name: position for position, name in enumerate(one.ids)} for one in (first, second)
        ]
        one, other = (
            run.probabilities[[place[name] for name in shared]]
            for run, place in zip((first, second), places, strict=True)
        )
        position = {name: number for number, name in enumerate(first.classes)}
        truth = np.asarray([position[ours[name][0]] for name in shared])
        gain, _ = row.gain(one, other, truth)
        difference, p, test = row.sign * gain, row.gain_p(one, other, truth), "paired by photo"
    return Pair(len(shared), only_first, only_second, difference, p, test)


def columns(runs: list[Run], folders: list[Path]) -> list[dict[str, Any]]:
    """Return what can be said of each run's results, compared with the first run of the list.

    Args:
        runs: their records.
        folders: of their output.

    Returns:
        A dict a run: metric, score and low and high of its 95 % interval, as metrics.json has them;
        difference to the first run and its p on the photos that validated both, how many these are,
        gpu_minutes, public_score; None where unknown.
    """
    first = predictions_of(folders[0]) if folders else None
    rows = []
    for run, folder in zip(runs, folders, strict=True):
        other = predictions_of(folder) if first and run is not runs[0] else None
        pair = compared(first, other, run.metric) if other else None
        rows.append(
            {
                "metric": None if run.value is None else run.metric,
                "score": run.value,
                "low": run.score_low,
                "high": run.score_high,
                "difference": pair.difference if pair else None,
                "p": pair.p if pair else None,
                "photos": pair.photos if pair else None,
                "gpu_minutes": run.gpu_minutes,
                "public_score": run.public_score,
            }
        )
    return rows


def texts(row: dict[str, Any]) -> dict[str, str]:
    """Return the columns of a run's results as a table shows them."""

    def text(name: str, form: str) -> str:
        return "" if row[name] is None else form.format(row[name])

    between = "" if row["low"] is None else f"{row['low']:.4f}..{row['high']:.4f}"
    return {
        "metric": row["metric"] if row["metric"] not in (None, "accuracy") else "",
        "val": text("score", "{:.4f}"),
        "95 %": between,
        "to first": text("difference", "{:+.4f}"),
        "p": text("p", "{:.3f}"),
        "on photos": text("photos", "{}"),
        "GPU min": text("gpu_minutes", "{:.1f}"),
        "score": text("public_score", "{:.5f}"),
    }


def aligned(rows: list[dict[str, str]]) -> str:
    """Return rows as aligned columns; a column that is empty everywhere is left out."""
    shown = [name for name in rows[0] if any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in shown}
    lines = [{name: name for name in shown}, *rows]
    return "\n".join(
        "  ".join(line[name].ljust(widths[name]) for name in shown).rstrip() for line in lines
    )
