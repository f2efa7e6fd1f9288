"""How good runs are on their validation photos, and whether two of them really differ.

Read from a run's output: probabilities.npz, or members/NAME/probabilities.npz of its only member.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ship.ledger import Run

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
    """The second one's value of the metric less the first one's."""
    p: float
    """How often chance alone gives so large a difference."""
    test: str = "exact McNemar test"


@dataclass(frozen=True)
class Said:
    """What a run says of its validation photos."""

    ids: list[str]
    labels: list[str]
    classes: list[str]
    probabilities: Any
    """float32 [photos, classes]."""

    @property
    def answers(self) -> dict[str, tuple[str, str]]:
        """Label and most probable class of each photo by its Id."""
        best = [self.classes[position] for position in self.probabilities.argmax(1)]
        return dict(zip(self.ids, zip(self.labels, best, strict=True), strict=True))


def said_of(folder: Path) -> Said | None:
    """Return what a run says of its validation photos, None when it tells nothing."""
    files = [folder / "probabilities.npz", *sorted(folder.glob("members/*/probabilities.npz"))]
    files = [file for file in files if file.is_file()]
    if not files or (len(files) > 1 and files[0].parent != folder):
        return None
    import zipfile

    import numpy as np  # takes a quarter of a second, so other commands do without it

    try:
        with np.load(files[0]) as stored:
            texts = ("validation_ids", "validation_labels", "classes")
            ids, labels, classes = ([str(v) for v in stored[name].tolist()] for name in texts)
            return Said(ids, labels, classes, stored["validation"])
    except (*UNREADABLE, zipfile.BadZipFile):
        return None


def answers(folder: Path) -> dict[str, tuple[str, str]]:
    """Return (label, prediction) of each validation photo by its Id, {} when a run tells none."""
    said = said_of(folder)
    return said.answers if said else {}


def compared(first: Said, second: Said, metric: str) -> Pair | None:
    """Compare two runs by a row of METRICS on the photos that both were validated on.

    None where they share no photo of the same label.
    """
    pair = pair_of(first.answers, second.answers)
    if pair is None or metric in ("accuracy", "micro-f1") or first.classes != second.classes:
        return pair
    import numpy as np

    from kernelkit.core.metrics import metric_named

    rows = {name: number for number, name in enumerate(second.ids)}
    both = [
        (number, rows[name])
        for number, name in enumerate(first.ids)
        if name in rows and first.labels[number] == second.labels[rows[name]]
    ]
    ours, theirs = np.asarray(both).T
    truth = np.asarray([first.classes.index(first.labels[number]) for number in ours])
    row = metric_named(metric)
    gain, error = row.gain(first.probabilities[ours], second.probabilities[theirs], truth)
    p = math.erfc(abs(gain) / error / math.sqrt(2)) if error else 1.0  # two-sided, normal
    return dataclasses.replace(pair, difference=row.sign * gain, p=p, test="paired by photo")


def pair_of(first: dict, second: dict) -> Pair | None:
    """Compare two runs' answers; None when they share no photo of the same label."""
    shared = [name for name in first if name in second and first[name][0] == second[name][0]]
    if not shared:
        return None
    right = {name: [a[0] == a[1] for a in (first[name], second[name])] for name in shared}
    only_first = [name for name, (a, b) in right.items() if a and not b]
    only_second = [name for name, (a, b) in right.items() if b and not a]
    p = exact_p(len(only_first), len(only_second))
    difference = (len(only_second) - len(only_first)) / len(shared)
    return Pair(len(shared), only_first, only_second, difference, p)


def exact_p(first: int, second: int) -> float:
    """Return the p of the exact McNemar test, two-sided, by how many photos only one gets right."""
    both = first + second
    tail = ways = 1  # to draw none of them, and so on up to the fewer
    for drawn in range(min(first, second)):
        ways = ways * (both - drawn) // (drawn + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**both)


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
    first = said_of(folders[0]) if folders else None
    rows = []
    for run, folder in zip(runs, folders, strict=True):
        other = said_of(folder) if first and run is not runs[0] else None
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
