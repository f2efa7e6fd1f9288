"""What `ship` remembers in `runs/`: the state of the newest shipment, and the ledger of all runs.

The state holds what the next `ship` must know when this one is killed: it is saved before a change
is sent to Kaggle, and again when the outcome is known.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from common import Problem, write_atomically


class State:
    """`runs/state.json`: a dict of JSON values, `dataset` and `run` among them."""

    def __init__(self, path: Path):
        self.path = path
        self.values: dict[str, Any] = {}
        if path.exists():
            try:
                self.values = json.loads(path.read_text(encoding="utf-8"))
                if not isinstance(self.values, dict):
                    raise ValueError("it is no JSON object")
            except (OSError, ValueError) as error:
                raise Problem(
                    f"{path} can't be read ({error}): move it away and run `ship` again; the "
                    "dataset is then uploaded and the kernel pushed anew."
                ) from None

    @property
    def dataset(self) -> dict[str, Any]:
        """The lib dataset: ref, hash, version, ready and files.

        `sending` is there until it is known whether Kaggle has what was sent.
        """
        return self.values.setdefault("dataset", {})

    @property
    def run(self) -> dict[str, Any]:
        """The newest run: ref, version, mark, key, settings, config, status, folder, submission.

        `sending` is there until it is known whether Kaggle has the push.
        """
        return self.values.setdefault("run", {})

    def save(self) -> None:
        """Write the state to the disk."""
        write_atomically(self.path, json.dumps(self.values, indent=1, ensure_ascii=False) + "\n")


class Ledger:
    """`runs/ledger.jsonl`: one JSON object a line, only ever appended to.

    The lines of a run add up to its row: `run` names it, and a later value replaces an earlier one.
    Lines that can't be read, as a crash may leave one behind, are passed over.
    """

    def __init__(self, path: Path):
        self.path = path

    def append(self, run: str, **values: Any) -> None:
        """Add values to a run's row; None and values that the row has already are not written."""
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

    def best(self, excluding: str = "") -> float | None:
        """Return the best public score of all runs but `excluding`, None when there is none."""
        scores = [public_score(row) for row in self.rows() if row["run"] != excluding]
        return max((score for score in scores if score is not None), default=None)


def public_score(row: dict[str, Any]) -> float | None:
    """Return the public score in a row of the ledger, None when it has none."""
    score = row.get("public_score")
    return score if isinstance(score, int | float) else None
