"""What `ship` remembers in `runs/`: its state, the ledger of all runs, and the lock on both.

The state is what has to be known to go on after a kill: an intent is saved before anything is sent
that changes something at Kaggle, the outcome after it.
"""

import contextlib
import csv
import json
import os
from pathlib import Path
from typing import Any, TextIO

from common import Problem, write_atomically


class State:
    """`runs/state.json`: a dict of JSON values, `dataset` and `run` among them."""

    def __init__(self, path: Path):
        self.path = path
        self.values: dict[str, Any] = {}
        if path.exists():
            try:
                self.values = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise Problem(
                    f"{path} can't be read ({error}): move it away and run `ship` again; the "
                    "dataset is then uploaded and the kernel pushed anew."
                ) from None

    @property
    def dataset(self) -> dict[str, Any]:
        """The lib dataset: ref, hash, version, ready, files; `sending` while it is unknown."""
        return self.values.setdefault("dataset", {})

    @property
    def run(self) -> dict[str, Any]:
        """The newest run: id, key, ref, version, settings, status, folder, submission."""
        return self.values.setdefault("run", {})

    def save(self) -> None:
        """Write the state to the disk."""
        write_atomically(self.path, json.dumps(self.values, indent=1, ensure_ascii=False) + "\n")


class Ledger:
    """`runs/ledger.jsonl`: one JSON object a line, only ever appended to.

    A run's lines add up to its row: `run` names it, a later value replaces an earlier one. A line
    that a crash has cut short is passed over.
    """

    COLUMNS = (
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

    def __init__(self, path: Path):
        self.path = path

    def append(self, run: str, **values: Any) -> None:
        """Add to a run's row; a value of None, or one that is there, says nothing."""
        row = next((row for row in self.rows() if row["run"] == run), None)
        news = {k: v for k, v in values.items() if v is not None and (row or {}).get(k) != v}
        if row and not news:
            return
        line = json.dumps({"run": run, **news}, ensure_ascii=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            if file.tell() and not self._ends_a_line(file):
                line = "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def _ends_a_line(file) -> bool:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for every run, in the order in which they began."""
        rows: dict[str, dict[str, Any]] = {}
        text = self.path.read_bytes().decode(errors="replace") if self.path.exists() else ""
        for line in text.split("\n"):
            with contextlib.suppress(ValueError, TypeError, KeyError):
                values = json.loads(line)
                rows.setdefault(values["run"], {}).update(values)
        return list(rows.values())

    def best(self, besides: str = "") -> float | None:
        """Return the best public score of all runs but one."""
        scores = [
            row["public_score"]
            for row in self.rows()
            if row["run"] != besides and row.get("public_score") is not None
        ]
        return max(scores, default=None)

    def write_csv(self, rows: list[dict[str, Any]], out: TextIO) -> None:
        """Write rows as CSV, all columns of a row."""
        writer = csv.DictWriter(out, self.COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
