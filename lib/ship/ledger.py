"""What `ship` remembers in `runs/`: the record of every run, and what is being sent.

Both are saved before a change is sent to Kaggle, and again afterwards.
"""

import dataclasses
import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock
from pydantic import AfterValidator, Field, StrictBool, StrictFloat, StrictInt, ValidationError

from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from ship.kaggle.credentials import without_secrets
from ship.kaggle.response_schemas import (
    REF,
    RUN,
    adapter_of,
    error_text,
    loads,
    schema_error,
    stays_inside,
)
from ship.output import say

REHEARSAL = "SHIP_REHEARSAL"  # the environment variable of a `ship` that is rehearsed

FAILED = ("error", "cancel_acknowledged")  # how runs without a result end, in Kaggle's words
ENDED = ("complete", *FAILED)
LOST = "lost"  # given up by a sweep, because Kaggle gave no known status
REFUSED = "refused"  # running at Kaggle without one of its sources

Ref = Annotated[str, Field(pattern=f"^({REF.pattern})?$")]
"""A name "owner/slug", or "" where there is none."""


def _inside(files: dict[str, int]) -> dict[str, int]:
    return {name: size for name, size in files.items() if stays_inside(name)}


def rehearsing() -> bool:
    """Tell whether this `ship` is rehearsed: Kaggle, its pages and its user are simulated."""
    return REHEARSAL in os.environ


@dataclass
class Submission:
    """A file's submission; `digest` is "" where there is none."""

    digest: str = ""  # 16 digits of the file's SHA-256, or of that and the kernel's version
    file: str = ""
    mark: str = ""  # random text in its message, which tells it from all others
    ref: StrictInt = 0  # its number at Kaggle; 0 while nobody knows whether it arrived
    refs_before: list[StrictInt] = field(default_factory=list)  # those listed before it was sent
    count_before: StrictInt = -1  # how many Kaggle counted then; -1 where it did not tell
    after: StrictInt = 0  # the number of an earlier one of the same file
    user: str = ""  # who sent it

    @property
    def token(self) -> str:
        """The part of its message that no other has."""
        return f"{self.digest}.{self.mark}"


@dataclass
class Run:
    """A version of a kernel, or a file of one's own, from its push to its score."""

    name: str  # "car-classification-v3" of a version, "mine.csv-1a2b3c4d" of a file
    kernel: Ref = ""  # "" for a file of one's own
    version: Annotated[StrictInt, Field(ge=0, lt=1_000_000)] = 0
    time: str = ""
    commit: str = ""
    recipe: str = ""
    backbone: str = ""
    image_size: str = ""
    settings: dict[str, str] = field(default_factory=dict)  # the overrides it was pushed with
    time_limit: StrictFloat | None = None  # minutes; None where the kernel does not tell
    code: str = ""  # hash of the script without its overrides, and of its metadata
    data: str = ""  # hash of the packages, weights and wheels that it needs
    competition: str = ""
    dataset: Annotated[str, Field(pattern=f"^({REF.pattern}/[0-9]{{1,9}})?$")] = ""  # with version
    packages: str = ""  # hash of the packages in that dataset
    found: str = ""  # hash of the packages that the run found, by its metrics.json
    mark: str = ""
    continues: str = ""  # the run whose output it goes on from
    status: str = ""  # "pushed", "refused", "lost", or Kaggle's last word in small letters
    failure: str = ""  # why it failed, or which source was refused
    session: StrictInt = 0  # number of Kaggle's session, from its log
    verified: dict[str, str] = field(default_factory=dict)  # each step that is done: what proves it
    files: Annotated[dict[str, StrictInt], AfterValidator(_inside)] = field(default_factory=dict)
    submission: Submission = field(default_factory=Submission)
    metric: str = "accuracy"  # the competition's
    greater_is_better: StrictBool = True
    score: StrictFloat | None = None  # the metric of what is submitted, on the validation photos
    score_low: StrictFloat | None = None  # its 95 % interval
    score_high: StrictFloat | None = None
    gpu_minutes: StrictFloat | None = None
    predicted: dict[str, float] = field(default_factory=dict)  # photos, seconds, peak_memory_mb
    public_score: StrictFloat | None = None

    @property
    def slug(self) -> str:
        """The kernel's slug."""
        return self.kernel.rpartition("/")[2]

    @property
    def page(self) -> str:
        """The address of the run's page."""
        return f"https://www.kaggle.com/code/{self.kernel}?scriptVersionNumber={self.version}"

    @property
    def shown_page(self) -> str:
        """The address behind a colon; "" in a rehearsal, which has no pages."""
        return "" if rehearsing() else f": {self.page}"

    @property
    def ended(self) -> bool:
        """Whether the run is over, by a status of Kaggle's."""
        return self.status in ENDED or "ended" in self.verified

    @property
    def failed(self) -> bool:
        """Whether the run is over without a result, or lacks a source."""
        return self.status in (*FAILED, REFUSED)

    @property
    def of_other_code(self) -> bool:
        """Whether the run found other packages than those that it was pushed for."""
        return bool(self.packages and self.found) and self.packages != self.found

    @property
    def useless(self) -> bool:
        """Whether the run has no result, none that is known, or one of other code."""
        return self.failed or self.status == LOST or self.of_other_code

    @property
    def shown_status(self) -> str:
        """The status as tables show it."""
        return "other code" if self.of_other_code else self.status

    def merit(self, value: float | None) -> float:
        """Return a value with the sign by which greater is better; -inf for None."""
        if value is None:
            return -math.inf
        return value if self.greater_is_better else -value

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Run":
        """Return the record in a row of the ledger, without values that no record can have."""
        values = row | {"name": row["run"]}
        try:
            run = adapter_of(cls).validate_python(values)
        except ValidationError as error:
            wrong = {fault["loc"][0] for fault in error.errors()}
            kept = {name: value for name, value in values.items() if name not in wrong}
            run = adapter_of(cls).validate_python(kept)
        run.version = run.version if run.kernel else 0
        if run.verified and "scored" not in run.verified:
            run.public_score = None  # of an earlier submission, or kernel of this name
        return run

    def row(self) -> dict[str, Any]:
        """Return all values but the name, as the ledger keeps them."""
        values = dataclasses.asdict(self)
        del values["name"]
        return values


def run_name(kernel: str, version: int) -> str:
    """Return the name of a kernel's version in the ledger and in runs/: "slug-v3"."""
    return f"{kernel.split('/')[-1]}-v{version}"


def file_run_name(name: str, digest: str) -> str:
    """Return the name of the record of a file of one's own, safe whatever the file's is."""
    safe = re.sub(r"[/\\:*?\"<>|\x00-\x1f\x7f\ud800-\udfff]", "-", name).lstrip(".") or "file"
    return f"{safe.encode()[:100].decode(errors='ignore')}-{digest[:8]}"


def settings_text(settings: dict[str, str]) -> str:
    """Return settings as they are given on the command line."""
    return " ".join(f"{name}={text}" for name, text in settings.items())


class Ledger:
    """`runs/ledger.jsonl`: one JSON object a line, only ever appended to.

    The lines of a run add up to its row: `run` names it, and a later value replaces an earlier one.
    Lines that can't be read, as a crash may leave one behind, are skipped.
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
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else f"\n{line}"
                file.write(line.encode(errors="replace"))
                file.flush()
                os.fsync(file.fileno())

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for every run, in the order in which they began."""
        rows: dict[str, dict[str, Any]] = {}
        text = self.path.read_bytes().decode(errors="replace") if self.path.exists() else ""
        wrong = []
        for number, line in enumerate(text.split("\n"), start=1):
            try:
                values = loads(line or "null")
                if isinstance(values, dict) and RUN.fullmatch(str(values.get("run"))):
                    known = {name: value for name, value in values.items() if value is not None}
                    rows.setdefault(known["run"], {}).update(known)
                elif line:
                    raise ValueError("it names no run")
            except ValueError as error:
                wrong.append(f"line {number} of {self.path} is skipped: {error}")
        if wrong and wrong != self._wrong:
            others = f" (and {len(wrong) - 1} other lines)" if len(wrong) > 1 else ""
            say(f"{wrong[0]}{others}")
        self._wrong = wrong
        return list(rows.values())

    def runs(self) -> list[Run]:
        """Return the record of every run, in the order in which they began."""
        return [Run.of(row) for row in self.rows()]

    def live_runs(self) -> list[Run]:
        """Return the runs at Kaggle that are not known to be over."""
        return [run for run in self.runs() if run.version and not run.ended]

    def find(self, name: str) -> Run | None:
        """Return the record of this name, None without one."""
        return next((run for run in self.runs() if run.name == name), None)

    def keep(self, run: Run) -> None:
        """Write what is new in a run's record."""
        row = next((row for row in self.rows() if row["run"] == run.name), {})
        empty = Run(run.name).row()
        self.append(run.name, **{k: v for k, v in run.row().items() if k in row or v != empty[k]})

    def best(self, competition: str, beside: Run | None = None) -> float | None:
        """Return the best public score in a competition of all runs but `beside`, or None.

        What `beside` counts as better is: the metric of a run before it may have been corrected.
        """
        beside = beside or Run("")
        runs = [r for r in self.runs() if r.competition in ("", competition)]
        scored = [r for r in runs if r.name != beside.name and r.public_score is not None]
        return max((run.public_score for run in scored), key=beside.merit, default=None)


@dataclass
class Sending:
    """A version of the dataset that is being sent."""

    base: StrictInt  # the newest version before it; 0 where there was no dataset
    note: str  # random text in its notes
    holds: list[str]
    files: dict[str, StrictInt]


@dataclass
class Dataset:
    """A dataset as Kaggle was last known to have it."""

    version: StrictInt | None = None
    ready: StrictBool = False
    holds: list[str] = field(default_factory=list)  # hashes of its parts
    files: dict[str, StrictInt] = field(default_factory=dict)  # path to size in bytes
    sending: Sending | None = None  # until it is known whether Kaggle has it


@dataclass
class PendingPush:
    """A push whose outcome is unknown."""

    run: Run
    before: StrictInt  # the kernel's newest version before it


@dataclass
class State:
    """`runs/state.json`: what is being sent, and what the next command goes on from."""

    path: Path
    datasets: dict[Ref, Dataset] = field(default_factory=dict)  # lib/, and a run's networks
    model: str = ""  # what the version of a Kaggle Model holds that is being sent
    push: PendingPush | None = None
    settings: dict[str, str] = field(default_factory=dict)  # of the last push
    settings_for: str = ""  # its kernel and competition
    versions: dict[str, str] = field(default_factory=dict)  # the mark in "owner/slug/version"

    @classmethod
    def open(cls, path: Path) -> "State":
        """Return the state in a file, or an empty one; Problem where it can't be read."""
        if not path.exists():
            return cls(path)
        try:
            values = loads(path.read_text(encoding="utf-8"))
            if wrong := schema_error(values, dict):
                raise ValueError(wrong)
            return adapter_of(cls).validate_python(values | {"path": path})
        except (OSError, ValueError) as error:
            reason = error_text(error) if isinstance(error, ValidationError) else error
            raise Problem(
                f"{path} can't be read ({reason}): move it away and run `ship` again. What Kaggle "
                "has is then looked up there; runs and scores are in the ledger."
            ) from None

    def read(self) -> None:
        """Read the file anew, because another `ship` may have changed it."""
        if self.path.exists():
            vars(self).update(vars(State.open(self.path)))

    def save(self) -> None:
        """Write the state to the disk."""
        values = dataclasses.asdict(self)
        del values["path"]
        write_atomically(self.path, json.dumps(without_secrets(values), indent=1) + "\n")
