"""What the loopback Kaggle remembers: one JSON file, and the uploaded bytes beside it."""

import json
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class ApiError(Exception):
    """A refusal: the HTTP status and the sentence that go back as `{"code", "message"}`."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code, self.message = code, message


def now() -> float:
    """Return the time of this moment, in seconds since the epoch."""
    return datetime.now(UTC).timestamp()


def iso(seconds: float) -> str:
    """Write a time as the API does: UTC with milliseconds and a Z."""
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="milliseconds") + "Z"


def page_of(items: list, request: dict, default: int = 20) -> tuple[list, dict[str, str]]:
    """Return the page of `items` that a request asks for and the field that names the next one.

    Raises:
        ApiError: 400 for a page token that is none.
    """
    size = int(request.get("pageSize") or default)
    token = request.get("pageToken") or "0"
    if not token.isdigit():
        raise ApiError(400, f"Invalid page token {token!r}")
    start, end = int(token), int(token) + size
    return items[start:end], {"nextPageToken": str(end)} if end < len(items) else {}


class Store:
    """The server's memory in a folder, shared by its threads and found again after a restart.

    `folder/state.json` holds `datasets` (by "owner/slug"), `kernels` (likewise), `submissions`
    (a list) and `blobs` (by token); `path()` is where the bytes of each of them lie.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.RLock()
        self.file = folder / "state.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.state: dict[str, Any] = {"datasets": {}, "kernels": {}, "submissions": [], "blobs": {}}
        if self.file.exists():
            self.state = json.loads(self.file.read_text(encoding="utf-8"))

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Give the state to one thread, and save it when that thread is done."""
        with self.lock:
            yield self.state
            beside = self.file.with_suffix(".new")
            with beside.open("w", encoding="utf-8") as file:
                json.dump(self.state, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.file)

    def path(self, *parts: str | int) -> Path:
        """Return a path below the folder, its parent folders made."""
        path = self.folder.joinpath(*map(str, parts))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def new_blob(self, name: str, size: int) -> str:
        """Expect an upload of `size` bytes and return its token.

        Raises:
            ApiError: 400 for a name that is not a file's name, or a size below 0.
        """
        if not name or name != Path(name).name or size < 0:
            raise ApiError(400, f"Invalid upload of {size} bytes under the name {name!r}")
        token = secrets.token_urlsafe(18)
        with self.changing() as state:
            state["blobs"][token] = {"name": name, "size": size}
        self.blob_path(token).touch()
        return token

    def blob_path(self, token: str) -> Path:
        """Return where the bytes of an upload lie.

        Raises:
            ApiError: 404 for an unknown token.
        """
        if token not in self.state["blobs"]:
            raise ApiError(404, "Upload not found or expired")
        return self.path("blobs", token)

    def finished_blob(self, token: str) -> tuple[str, Path]:
        """Return name and path of an upload that is complete.

        Raises:
            ApiError: 400 when bytes of it are missing, 404 when it is unknown.
        """
        path = self.blob_path(token)
        blob = self.state["blobs"][token]
        if path.stat().st_size != blob["size"]:
            raise ApiError(400, f"The upload of {blob['name']} is not complete")
        return blob["name"], path
