"""What the loopback Kaggle is set to, and what it stores: records, uploads and made files."""

import secrets
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class ApiError(Exception):
    """A refused request: HTTP status and message of the answer `{"code", "message"}`."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True)
class Settings:
    """What can be chosen about the loopback Kaggle; delays are in seconds.

    Attributes:
        metrics: by competition the row of METRICS that scores it, and Kaggle's name of that;
            accuracy where it is not named.
        hidden: by code competition the folder of its data in the run that is scored, in which the
            test set and the sample submission are the hidden ones, and the CSV of their labels.
    """

    user: str = "alice"  # the only one
    key: str | None = None  # the user's; None accepts any
    token: str | None = None  # the user's API token; None accepts any
    port: int = 0  # 0 lets the system choose one
    mount: str = "official"  # how sources are mounted: one of `sandbox.LAYOUTS`
    dataset_delay: float = 0.2  # until a dataset's version is READY
    queue_delay: float = 0.1  # until a run is RUNNING
    scoring_delay: float = 0.2  # until a submission has its score
    lag: float = 0.0  # until what was pushed or submitted is shown
    daily_submissions: int = 5  # that a competition takes
    gpu_sessions: int = 2  # runs with a GPU at a time
    metrics: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    hidden: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    scored_seconds: float = 9 * 3600  # that a run that is scored may last
    models: Mapping[str, Path] = field(default_factory=dict)
    gated: Collection[str] = ()  # models, as owner/model, whose license is not accepted
    accepted: bool = True  # whether the user has accepted the competitions' rules


def now() -> float:
    """Return the current time in seconds since the epoch."""
    return datetime.now(UTC).timestamp()


def iso(seconds: float) -> str:
    """Return a time as the API writes it: in UTC with milliseconds and a Z."""
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="milliseconds") + "Z"


def page_of(items: list, request: dict, default: int = 20) -> tuple[list, dict[str, str]]:
    """Return the page of `items` that is asked for, and the field that names the next one."""
    size = int(request.get("pageSize") or default)
    token = request.get("pageToken") or "0"
    if not token.isdigit():
        raise ApiError(400, f"Invalid page token {token!r}")
    start, end = int(token), int(token) + size
    return items[start:end], {"nextPageToken": str(end)} if end < len(items) else {}


class Store:
    """What the server knows, shared by its threads.

    `state` holds `datasets` and `kernels` by "owner/slug", the list `submissions`, and the uploads
    `blobs` by token. Their files lie at `path()`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)
        self.state: dict[str, Any] = {"datasets": {}, "kernels": {}, "submissions": [], "blobs": {}}

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Let one thread at a time change the state."""
        with self.lock:
            yield self.state

    def path(self, *parts: str | int) -> Path:
        """Return a path below the folder, and make its parent folders."""
        path = self.folder.joinpath(*map(str, parts))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def new_blob(self, name: str, size: int) -> str:
        """Prepare for an upload of `size` bytes and return its token; ApiError 400 if invalid."""
        if not name or name != Path(name).name or size < 0:
            raise ApiError(400, f"Invalid upload of {size} bytes under the name {name!r}")
        token = secrets.token_urlsafe(18)
        with self.changing() as state:
            state["blobs"][token] = {"name": name, "size": size}
        self.blob_path(token).touch()
        return token

    def blob_path(self, token: str) -> Path:
        """Return the file of an upload; ApiError 404 for an unknown token."""
        if token not in self.state["blobs"]:
            raise ApiError(404, "Upload not found or expired")
        return self.path("blobs", token)

    def finished_blob(self, token: str) -> tuple[str, Path]:
        """Return name and file of an upload; ApiError 400 if it is not complete, 404 if unknown."""
        path = self.blob_path(token)
        blob = self.state["blobs"][token]
        if path.stat().st_size != blob["size"]:
            raise ApiError(400, f"The upload of {blob['name']} is not complete")
        return blob["name"], path
