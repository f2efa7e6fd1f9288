"""What `ship` remembers in `runs/`: the state of what is being sent, and the ledger of all runs.

The state holds the lib dataset, and a push whose outcome is not known yet. The ledger holds the
record of every run. Both are saved before a change is sent to Kaggle, and again afterwards.
"""

import json
import os
from pathlib import Path
from typing import Any

from filelock import FileLock

from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from ship.kaggle.credentials import without_secrets
from ship.kaggle.shapes import REF, RUN, loads, misfit
from ship.ledger.record import Run, fits
from ship.output import say

DATASET = {
    "ref": REF,
    "holds": list,
    "hashes": dict[str, str],
    "files": dict[str, int],
    "version": int | None,
    "ready": bool,
    "sending": dict,
}
PUSH = {
    "kernel": REF,
    "mark": str,
    "before": int,
    "run": dict,
}


class State:
    """`runs/state.json`: JSON values by name, `dataset`, `push` and `settings` among them."""

    def __init__(self, path: Path):
        self.path = path
        self.values: dict[str, Any] = {}
        self.read()

    def read(self) -> None:
        """Read the file anew, because another `ship` may have changed it.

        Raises:
            Problem: it can't be read, or holds something else than a state.
        """
        if not self.path.exists():
            return
        try:
            self.values = loads(self.path.read_text(encoding="utf-8"))
            check(self.values)
        except (OSError, ValueError) as error:
            raise Problem(
                f"{self.path} can't be read ({error}): move it away and run `ship` again. What "
                "Kaggle has is then looked up there; runs and scores are in the ledger."
            ) from None

    @property
    def dataset(self) -> dict[str, Any]:
        """The lib dataset: ref, version, ready, the files' sizes, and the hashes that it `holds`.

        Of a version that an older `ship` has sent it has the files' `hashes` instead.

        `sending` is there until it is known whether Kaggle has what was sent.
        """
        return self.values.setdefault("dataset", {})

    @property
    def push(self) -> dict[str, Any]:
        """The push whose outcome is unknown, {} when there is none.

        It has kernel, mark, the newest version `before` it, and the `run` that it will be.
        """
        return self.values.get("push") or {}

    @push.setter
    def push(self, values: dict[str, Any]) -> None:
        self.values["push"] = values
        self.save()

    def save(self) -> None:
        """Write the state to the disk."""
        write_atomically(self.path, json.dumps(without_secrets(self.values), indent=1) + "\n")


def check(values: Any) -> None:
    """Raise ValueError when JSON values are no state."""
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    for name, shape in (("dataset", DATASET), ("push", PUSH)):
        part = values.get(name, {})
        if not isinstance(part, dict):
            raise ValueError(f"{name} is no JSON object")
        wrong = [key for key, kind in shape.items() if key in part and not fits(part[key], kind)]
        if wrong:
            raise ValueError(f"{wrong[0]} of {name} is {part[wrong[0]]!r}")
    for name in ("settings", "versions"):
        if not fits(values.get(name, {}), dict[str, str]):
            raise ValueError(f"the {name} are no texts")


class Ledger:
    """`runs/ledger.jsonl`: one JSON object a line, only ever appended to.

    The lines of a run add up to its row: `run` names it, and a later value replaces an earlier one.
    Lines that can't be read, as a crash may leave one behind, are passed over.
    """

    def __init__(self, path: Path):
        self.path = path
        self._wrong: list[str] = []

    def append(self, run: str, **values: Any) -> None:
        """Add values to a run's row; None and values that the row has already are not written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(".ledger.lock")):
            row = next((row for row in self.rows() if row["run"] == run), None)
            news = {k: v for k, v in values.items() if v is not None and (row or {}).get(k) != v}
            if row and not news:
                return
            line = json.dumps(without_secrets({"run": run, **news}), ensure_ascii=False) + "\n"
            with open(self.path, "a+b") as file:
                if file.tell() and not self._ends_a_line(file):
                    line = "\n" + line
                file.write(line.encode(errors="replace"))
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
        wrong = []
        for number, line in enumerate(text.split("\n"), start=1):
            try:
                values = loads(line) if line else {}
                if reason := line and misfit(values, {"run": RUN}):
                    raise ValueError(reason)
            except ValueError as error:
                wrong.append(f"line {number} of {self.path} is passed over: {error}")
                continue
            known = {name: value for name, value in values.items() if value is not None}
            if "run" in known:
                rows.setdefault(known["run"], {}).update(known)
        self._say(wrong)
        return list(rows.values())

    def _say(self, wrong: list[str]) -> None:
        """Say once which lines can't be read."""
        if wrong and wrong != self._wrong:
            others = f" (and {len(wrong) - 1} other lines)" if len(wrong) > 1 else ""
            say(f"{wrong[0]}{others}")
        self._wrong = wrong

    def runs(self) -> list[Run]:
        """Return the record of every run, in the order in which they began."""
        return [Run.of(row) for row in self.rows()]

    def keep(self, run: Run) -> None:
        """Write a run's record: whatever of it is news."""
        row = next((row for row in self.rows() if row["run"] == run.name), {})
        empty = Run(run.name).row()
        self.append(run.name, **{k: v for k, v in run.row().items() if k in row or v != empty[k]})

    def best(self, competition: str, excluding: str = "") -> float | None:
        """Return the best public score in a competition of all runs but `excluding`, or None."""
        runs = [r for r in self.runs() if r.competition in ("", competition)]
        scored = [r for r in runs if r.name != excluding and r.public_score is not None]
        best = max(scored, key=lambda run: run.merit(run.public_score), default=None)
        return best.public_score if best else None
