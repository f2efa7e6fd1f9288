"""`ship runs`: the ledger as a table, best score first."""

import argparse
import sys
from typing import Any

from ship.context import Context, say
from ship.state import public_score

HEADINGS = {
    "run": "run",
    "time": "time",
    "commit": "commit",
    "recipe": "recipe",
    "backbone": "backbone",
    "image_size": "size",
    "settings": "settings",
    "val_accuracy": "val",
    "val_accuracy_tta": "val TTA",
    "public_score": "score",
    "gpu_minutes": "GPU min",
    "status": "status",
}
"""The table's columns: the key in the ledger to the heading."""

CSV_COLUMNS = (
    "run",
    "time",
    "commit",
    "recipe",
    "backbone",
    "image_size",
    "settings",
    "status",
    "val_accuracy",
    "val_accuracy_tta",
    "public_score",
    "gpu_minutes",
)


def sorted_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows by public score, best first; those without one follow, newest first."""

    def by_score(row: dict[str, Any]) -> float:
        score = public_score(row)
        return 1.0 if score is None else -score

    newest_first = rows[::-1]
    return sorted(newest_first, key=by_score)


def text_of(value: Any) -> str:
    """Return a value as the table shows it."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return " ".join(f"{name}={text}" for name, text in value.items())
    return str(value)


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as aligned columns; a column that is empty everywhere is left out."""
    import pandas as pd  # takes half a second, so other commands do without it

    shown = [key for key in HEADINGS if any(key in row for row in rows)]
    texts = [[text_of(row.get(key)) for key in shown] for row in rows]
    return pd.DataFrame(texts, columns=[HEADINGS[key] for key in shown]).to_string(index=False)


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Return rows as CSV with a header, all columns of a row."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(CSV_COLUMNS), dtype=object)
    return table.to_csv(index=False, lineterminator="\n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship runs`."""
    parser.add_argument("--csv", action="store_true", help="print CSV instead of a table")


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship runs`."""
    rows = sorted_rows(context.ledger.rows())
    if arguments.csv:
        sys.stdout.write(csv_text(rows))
    else:
        say(table(rows) if rows else "no runs yet")
