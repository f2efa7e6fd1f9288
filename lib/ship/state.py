"""What `ship` remembers in `runs/`: its state, the ledger of all runs, and the lock on both.

The state is what has to be known to go on after a kill: an intent is saved before anything is sent
that changes something at Kaggle, the outcome after it.
"""

import contextlib
import csv
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from photos.errors import Problem


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file beside `path`, flush it to the disk and rename it: it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    with open(beside, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


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
        write_atomic(self.path, json.dumps(self.values, indent=1, ensure_ascii=False) + "\n")


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


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a project's lock; raise Problem when another `ship` holds it.

    The operating system frees the lock when its process ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        if not _lock(file):
            raise Problem(
                f"another ship is at work in this project ({_holder(path)}): wait for it, or end "
                "it and run the same command again; it goes on where the other stopped."
            )
        holder = f"process {os.getpid()}, since {time.strftime('%H:%M:%S')}"
        path.with_name(path.name + ".who").write_text(holder, encoding="utf-8")
        yield


def _holder(path: Path) -> str:
    try:
        return path.with_name(path.name + ".who").read_text(encoding="utf-8")
    except OSError:
        return "just started"


def _lock(file) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
