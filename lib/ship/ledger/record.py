"""The record of a run: what it was made of, which steps it has behind it, and what verified each.

A record lives in the ledger as the row of its name: "car-classification-v3" for a kernel's version,
or "mine.csv-1a2b3c4d" for a file of one's own that was submitted.
"""

import dataclasses
import math
import os
import re
import types
import typing
from dataclasses import dataclass, field
from typing import Any

from ship.kaggle.shapes import REF, inward

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
