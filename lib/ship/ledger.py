"""The record of a run: what it was made of, which steps it has behind it, and what verified each.

A record lives in the ledger as the row of its name: "car-classification-v3" for a kernel's version,
or "mine.csv-1a2b3c4d" for a file of one's own that was submitted.
"""

import dataclasses
import json
import math
import os
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from ship.kaggle.credentials import without_secrets
from ship.kaggle.response_schemas import REF, RUN, inward, loads, schema_error
from ship.output import say

REHEARSAL = "SHIP_REHEARSAL"
"""The environment variable that tells `ship` that it is rehearsed."""

MOST_VERSIONS = 1_000_000
"""No kernel has more versions."""

FAILED = ("error", "cancel_acknowledged")
"""Status words of runs that ended without a result, as a record has them."""
ENDED = ("complete", *FAILED)
LOST = "lost"
"""The status of a version that a sweep has given up, because Kaggle gave it no known status."""
REFUSED = "refused"
"""The status of a version that Kaggle runs without one of its sources."""


def rehearsing() -> bool:
    """Tell whether this `ship` is rehearsed: Kaggle, its pages and its user are played."""
    return REHEARSAL in os.environ


@dataclass
class Submission:
    """A file's submission; `digest` is "" where there is none."""

    digest: str = ""
    """The first 16 digits of the file's SHA-256."""
    file: str = ""
    mark: str = ""
    """A random text in the message, which tells this submission from all others."""
    ref: int = 0
    """Kaggle's number of it; 0 while nobody knows whether it arrived."""
    refs_before: list = field(default_factory=list)
    """The numbers of the submissions that were listed before it was sent."""
    count_before: int = -1
    """How many submissions Kaggle counted then; -1 when it did not tell."""

    @property
    def token(self) -> str:
        """What its message holds and no other does."""
        return f"{self.digest}.{self.mark}"


@dataclass
class Run:
    """One version of a kernel, or a file of one's own, from its push to its score."""

    name: str
    kernel: str = ""
    """"owner/slug" as Kaggle calls it; "" for a file of one's own."""
    version: int = 0
    time: str = ""
    commit: str = ""
    recipe: str = ""
    backbone: str = ""
    image_size: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    """The overrides that it was pushed with."""
    time_limit: float | None = None
    """The most minutes that it may take; None where the kernel does not tell."""
    code: str = ""
    """A hash of the script without its overrides, and of its metadata."""
    data: str = ""
    """A hash of what the run needs of the dataset: code, weights and wheels."""
    competition: str = ""
    """The competition's slug; "" in records of older versions of `ship`."""
    dataset: str = ""
    """"owner/slug/version" of the dataset that was to be mounted."""
    packages: str = ""
    """A hash of the packages in it."""
    found: str = ""
    """The hash of the packages that the run has found, as its metrics.json tells."""
    mark: str = ""
    continues: str = ""
    """The name of the run whose output it goes on from; "" where there is none."""
    status: str = ""
    """"pushed", "refused", or Kaggle's last word in small letters: "complete", "error", ..."""
    failure: str = ""
    """Why it failed, or which source was refused."""
    session: int = 0
    """The number of Kaggle's session, as its log tells it; 0 while unknown."""
    verified: dict[str, str] = field(default_factory=dict)
    """What verified each step that is done: pushed, ended, fetched, submitted, scored."""
    files: dict[str, int] = field(default_factory=dict)
    """The files that were fetched, with their sizes in bytes."""
    submission: Submission = field(default_factory=Submission)
    metric: str = "accuracy"
    """The competition's, as metrics.json names it."""
    greater_is_better: bool = True
    score: float | None = None
    """Its value on the validation photos of what is submitted."""
    score_low: float | None = None
    """The lower end of the value's 95 % interval."""
    score_high: float | None = None
    val_accuracy: float | None = None
    val_accuracy_tta: float | None = None
    val_accuracy_submitted: float | None = None
    val_images: int | None = None
    gpu_minutes: float | None = None
    public_score: float | None = None

    @property
    def page(self) -> str:
        """The address of the run's page."""
        return f"https://www.kaggle.com/code/{self.kernel}?scriptVersionNumber={self.version}"

    @property
    def shown_page(self) -> str:
        """The address of the run's page behind a colon; "" in a rehearsal, which has no pages."""
        return "" if rehearsing() else f": {self.page}"

    @property
    def ended(self) -> bool:
        """Whether the run is over, by a status that Kaggle has told."""
        return self.status in ENDED or "ended" in self.verified

    @property
    def failed(self) -> bool:
        """Whether the run is over and has no result, or lacks a source."""
        return self.status in (*FAILED, REFUSED)

    @property
    def of_other_code(self) -> bool:
        """Whether the run has found other packages than those that it was pushed for."""
        return bool(self.packages and self.found) and self.packages != self.found

    @property
    def useless(self) -> bool:
        """Whether the run has no result, none that is known, or one of other code."""
        return self.failed or self.status == LOST or self.of_other_code

    @property
    def shown_status(self) -> str:
        """The status as tables show it."""
        return "other code" if self.of_other_code else self.status

    @property
    def value(self) -> float | None:
        """The metric's value of what is submitted, or the nearest accuracy that is known."""
        known = (self.score, self.val_accuracy_submitted, self.val_accuracy_tta, self.val_accuracy)
        return next((value for value in known if value is not None), None)

    def merit(self, value: float | None) -> float:
        """Return a value with the sign by which greater is better; the least for an unknown one."""
        if value is None:
            return -math.inf
        return value if self.greater_is_better else -value

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Run":
        """Return the record in a row of the ledger; what can't be a part of one is left out."""
        run = typed(cls, row | {"name": row["run"]})
        if not REF.fullmatch(run.kernel):
            run.kernel, run.version = "", 0
        run.version = run.version if 0 <= run.version < MOST_VERSIONS else 0
        if not re.fullmatch(rf"{REF.pattern}/[0-9]{{1,9}}", run.dataset):
            run.dataset = ""
        run.files = {name: size for name, size in run.files.items() if inward(name)}
        return run

    def row(self) -> dict[str, Any]:
        """Return what a row of the ledger holds of it, without what is not known."""
        values = dataclasses.asdict(self)
        del values["name"]
        return values


def run_name(kernel: str, version: int) -> str:
    """Return the name of a kernel's version in the ledger and in runs/: "slug-v3"."""
    return f"{kernel.split('/')[-1]}-v{version}"


def file_run_name(name: str, digest: str) -> str:
    """Return the name of the record of a file of one's own; any file's name gives a safe one."""
    safe = re.sub(r"[/\\:*?\"<>|\x00-\x1f\x7f\ud800-\udfff]", "-", name).lstrip(".") or "file"
    return f"{safe.encode()[:100].decode(errors='ignore')}-{digest[:8]}"


def settings_text(settings: dict[str, str]) -> str:
    """Return settings as they are given on the command line."""
    return " ".join(f"{name}={text}" for name, text in settings.items())


def typed(kind: type, values: dict[str, Any]) -> Any:
    """Return a dataclass filled with those values that have the type of their field.

    Whatever else a damaged or a newer file holds is left at its default.
    """
    hints = typing.get_type_hints(kind)
    kept = {}
    for name, hint in hints.items():
        value = values.get(name)
        if dataclasses.is_dataclass(hint):
            kept[name] = typed(hint, value if isinstance(value, dict) else {})
        elif name in values and fits(value, hint):
            kept[name] = value
    return kind(**kept)


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a JSON value is of a type; an int is a float, but a bool is no number."""
    if isinstance(hint, types.UnionType):
        return any(fits(value, kind) for kind in typing.get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int and isinstance(value, bool):
        return False
    if isinstance(hint, re.Pattern):
        return isinstance(value, str) and bool(hint.fullmatch(value))
    if typing.get_origin(hint) is dict:
        key, item = typing.get_args(hint)
        return isinstance(value, dict) and all(
            fits(k, key) and fits(v, item) for k, v in value.items()
        )
    return isinstance(value, hint)


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
                if reason := line and schema_error(values, {"run": RUN}):
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
