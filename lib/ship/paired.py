"""How good runs are on their validation photos, and whether two of them really differ.

Read from a run's output: probabilities.npz, or members/NAME/probabilities.npz of its only member.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ship.record import Run

# What NumPy and zipfile raise for files that are cut short, damaged or of another kind.
UNREADABLE = (OSError, ValueError, KeyError, EOFError)


@dataclass(frozen=True)
class Pair:
    """Two runs on the photos that both were validated on."""

    photos: int
    only_first: list[str]
    """The Ids that only the first run gets right."""
    only_second: list[str]
    difference: float
    """The second one's accuracy less the first one's, -1 to 1."""
    p: float
    """Of the exact McNemar test: how often chance alone gives so uneven a split."""


def answers(folder: Path) -> dict[str, tuple[str, str]]:
    """Return (label, prediction) of each validation photo by its Id, {} when a run tells none."""
    files = [folder / "probabilities.npz", *sorted(folder.glob("members/*/probabilities.npz"))]
    files = [file for file in files if file.is_file()]
    if not files or (len(files) > 1 and files[0].parent != folder):
        return {}
    import zipfile

    import numpy as np  # takes a quarter of a second, so other commands do without it

    try:
        with np.load(files[0]) as stored:
            ids, labels = stored["validation_ids"], stored["validation_labels"]
            predicted = stored["classes"][stored["validation"].argmax(1)]
    except (*UNREADABLE, zipfile.BadZipFile):
        return {}
    both = zip(map(str, labels.tolist()), map(str, predicted.tolist()), strict=True)
    return dict(zip(map(str, ids.tolist()), both, strict=True))


def pair_of(first: dict, second: dict) -> Pair | None:
    """Compare two runs' answers; None when they share no photo of the same label."""
    from scipy.stats import binomtest

    shared = [name for name in first if name in second and first[name][0] == second[name][0]]
    if not shared:
        return None
    right = {name: [a[0] == a[1] for a in (first[name], second[name])] for name in shared}
    only_first = [name for name, (a, b) in right.items() if a and not b]
    only_second = [name for name, (a, b) in right.items() if b and not a]
    split = len(only_first) + len(only_second)
    p = float(binomtest(len(only_second), split).pvalue) if split else 1.0
    difference = (len(only_second) - len(only_first)) / len(shared)
    return Pair(len(shared), only_first, only_second, difference, p)


def interval(run: Run) -> tuple[float, float] | None:
    """Return the 95 % interval (Wilson's) of a run's validation accuracy, None while unknown."""
    if run.accuracy is None or not run.val_images or not 0 <= run.accuracy <= 1:
        return None
    from scipy.stats import binomtest

    right = round(run.accuracy * run.val_images)
    low, high = binomtest(right, run.val_images).proportion_ci(method="wilson")
    return float(low), float(high)


def columns(runs: list[Run], output: Path) -> list[dict[str, Any]]:
    """Return what can be said of each run's results, compared with the first run of the list.

    Args:
        runs: their records.
        output: the folder that holds each run's folder.

    Returns:
        A dict a run: val_accuracy, low and high of its 95 % interval, difference to the first run
        and p of the exact McNemar test on the photos that validated both, how many these are,
        gpu_minutes, public_score; None where unknown.
    """
    first = answers(output / runs[0].name) if runs else {}
    rows = []
    for run in runs:
        low, high = interval(run) or (None, None)
        other = answers(output / run.name) if first and run is not runs[0] else {}
        pair = pair_of(first, other) if other else None
        rows.append(
            {
                "val_accuracy": run.accuracy,
                "low": low,
                "high": high,
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
        "val": text("val_accuracy", "{:.4f}"),
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
