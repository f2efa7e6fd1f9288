"""`ship runs`: the ledger as a table, best score first."""

import argparse
import sys
from typing import Any

from ship.desk import Desk, say

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


def sorted_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows by public score, best first; those without one follow, newest first."""
    newest = rows[::-1]
    return sorted(newest, key=lambda row: -row.get("public_score", -1.0))


def text_of(value: Any) -> str:
    """Return a value as the table shows it."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return " ".join(f"{name}={text}" for name, text in value.items())
    return str(value)


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as aligned columns; a column that is empty everywhere is left out."""
    shown = {key: title for key, title in HEADINGS.items() if any(key in row for row in rows)}
    lines = [list(shown.values())]
    lines += [[text_of(row.get(key)) for key in shown] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship runs`."""
    parser.add_argument("--csv", action="store_true", help="print CSV instead of a table")


def run(desk: Desk, arguments: argparse.Namespace) -> None:
    """Run `ship runs`."""
    rows = sorted_rows(desk.ledger.rows())
    if arguments.csv:
        desk.ledger.write_csv(rows, sys.stdout)
    elif rows:
        say(table(rows))
    else:
        say("no runs yet")
