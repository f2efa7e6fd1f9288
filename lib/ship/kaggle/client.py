"""The only module that uses the kaggle client: a process that answers calls.

It is a process of its own because the client reads its environment when it is imported, prints to
stdout and knows no timeouts. It reads the raw JSON of an answer where the API's types hide
something: they turn a missing status into QUEUED, and raise an error for an unknown one.

Request: `{"id": 1, "op": NAME, "args": {...}}`. Answer: `{"id": 1, "ok": ...}` or `{"id": 1,
"error": {"kind": KIND, "status": HTTP status or null, "message": TEXT, "retry_after": s or null,
"sent": whether a request that changes something had been sent}}`.
While a request is at work: `{"event": "progress" | "log", ...}`.
"""

import builtins
import contextlib
import errno
import importlib
import io
import json
import os
import queue
import re
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import requests
from urllib3.exceptions import HTTPError as TransportError
from urllib3.util.retry import Retry

from ship.kaggle.download import download, told_md5

REPORT_PAUSE = 0.2  # seconds between two reports of a transfer's progress
READ_AHEAD = 1 << 16  # bytes of a zip at an address that are fetched at once
CHANGING = {  # methods of the API that change something at Kaggle
    *("SaveKernel", "CreateDataset", "CreateDatasetVersion"),
    *("CreateSubmission", "CreateCodeSubmission"),
    *("CreateModel", "CreateModelInstance", "CreateModelInstanceVersion"),
}
PROXY_LOGIN = "407 Proxy Authentication Required"  # in the error of a tunnel that needs a login

Emit = Callable[..., None]


class Fields(dict):
    """A request in the place of the client's own types: the JSON that Kaggle reads."""

    def to_dict(self) -> dict:
        """Return the JSON object, as the client asks its own types for it."""
        return dict(self)


class Raw:
    """An answer's type in the place of the client's own ones: it keeps all of the JSON."""

    @classmethod
    def prepare_from(cls, response: requests.Response) -> Any:
        """Return the answer's JSON."""
        return response.json()


class DroppedFile(Exception):
    """The client gave up on a file."""


class RemoteFile(io.RawIOBase):
    """A file at an address, of which only the bytes that are read are fetched."""

    def __init__(self, url: str, size: int):
        super().__init__()
        self.url, self.size, self.position = url, size, 0

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: D102
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = max(0, start + offset)
        return self.position

    def readinto(self, buffer) -> int:  # noqa: D102
        end = min(self.position + len(buffer), self.size)
        if end <= self.position:
            return 0
        headers = {"Range": f"bytes={self.position}-{end - 1}", "Accept-Encoding": "identity"}
        with requests.get(self.url, headers=headers, stream=True) as response:
            response.raise_for_status()
            if response.status_code != 206:
                raise ConnectionError("the server sends no parts of files")
            content = response.content
        buffer[: len(content)] = content
        self.position += len(content)
        return len(content)


def _watch_requests(seconds: float, sent: set[str]) -> None:
    """Give every HTTP request of this process a timeout, and leave its repetition to the caller.

    The last part of each requested address, which is the API's method, is added to `sent`.
    """
    send = requests.adapters.HTTPAdapter.send

    def bounded(self, request, stream=False, timeout=None, **settings):
        sent.add(request.url.rpartition("/")[2])
        self.max_retries = Retry(0, read=False)
        return send(self, request, stream=stream, timeout=timeout or seconds, **settings)

    requests.adapters.HTTPAdapter.send = bounded


def describe(error: BaseException) -> dict[str, Any]:
    """Return what went wrong as JSON.

    The `kind` is "http" (an error status), "late" (no answer in time), "connection" (none at all),
    "proxy" (it wants a login), "tls" (a certificate that can't be verified), "answer" (no JSON),
    "dropped" (the client gave up on a file), "login" (no usable credentials), "disk" (it is full;
    the message is its folder) or "client" (anything else).
    """
    described = {"kind": "client", "status": None, "message": str(error), "retry_after": None}
    response = getattr(error, "response", None)
    if isinstance(error, requests.exceptions.SSLError):
        described["kind"] = "tls"
    elif PROXY_LOGIN in str(error) or getattr(response, "status_code", None) == 407:
        described["kind"] = "proxy"
    elif isinstance(error, requests.HTTPError) and response is not None:
        described |= {"kind": "http", **_http_error(response)}
    elif isinstance(error, requests.JSONDecodeError | json.JSONDecodeError | RecursionError):
        described |= {"kind": "answer", "message": "the answer is not JSON"}
    elif isinstance(error, requests.ReadTimeout | TimeoutError):
        described |= {"kind": "late", "message": "no answer in time"}
    elif isinstance(error, requests.RequestException | TransportError | ConnectionError):
        own = type(error) is ConnectionError and len(error.args) == 1
        described |= {"kind": "connection", "message": str(error) if own else type(error).__name__}
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        described |= {"kind": "disk", "message": str(Path(error.filename or "").parent)}
    elif isinstance(error, ImportError):
        described["message"] = f"{error} (pip install --upgrade kaggle six)"
    elif isinstance(error, DroppedFile):
        described["kind"] = "dropped"
    elif isinstance(error, SystemExit):
        described |= {"kind": "login", "message": "no usable credentials"}
    elif isinstance(error, ValueError) and "was denied" in str(error):
        described |= {"kind": "http", "status": 403, "message": "permission denied"}
    return described


def _http_error(response: requests.Response) -> dict[str, Any]:
    status, message = response.status_code, response.reason or ""
    with contextlib.suppress(ValueError, AttributeError):
        body = response.json()
        message = body["message"] if isinstance(body.get("message"), str) else message
        if status < 400 and isinstance(body.get("code"), int):
            status = body["code"]
    retry_after = None
    with contextlib.suppress(TypeError, ValueError):
        retry_after = float(response.headers.get("Retry-After"))
    return {"status": status, "message": message, "retry_after": retry_after}


class Progress(contextlib.nullcontext):
    """Reports a transfer to the caller, in the place of the client's progress bar too."""

    emit: Emit

    def __init__(self, *_, total: int = 0, initial: int = 0, **__):
        super().__init__(self)
        self.total, self.done, self.reported = total, initial, 0.0

    def update(self, count: int) -> None:
        """Report `count` more bytes."""
        self.report(self.done + count, self.total)

    def report(self, done: int, total: int | None) -> None:
        """Report how many bytes are done, and how many there are where that is known."""
        self.done, now = done, time.monotonic()
        if now - self.reported >= REPORT_PAUSE or done == total:
            self.reported = now
            Progress.emit(event="progress", done=done, total=total or 0)


class Client:
    """The operations of this process: each public method is one, with the request's arguments."""

    def __init__(self, emit: Emit):
        extended = importlib.import_module("kaggle.api.kaggle_api_extended")
        self.emit = emit
        self.extended = extended
        Progress.emit = emit
        extended.tqdm = Progress
        self.api = extended.KaggleApi()
        self.api.MAX_UPLOAD_RESUME_ATTEMPTS = 3  # the caller waits between more attempts
        self.resume_upload, self.api._resume_upload = self.api._resume_upload, self._resume
        self.arrived: dict[str, int] = {}  # by file, how much of it Kaggle has
        self.api.authenticate()
        self.web = requests.Session()  # keeps its connections, for thousands of files
        self.calls: Any = None
        self.pending: tuple[str, Any] | None = None  # an uploaded dataset that is not created yet
        self.upload_context: Any = None

    def login(self) -> dict[str, str]:
        """Return the name of the user to whom the credentials belong."""
        return {"username": self.api.get_config_value("username") or ""}

    def post(self, service: str, method: str, fields: dict) -> Any:
        """Call a method of the API and return all of the answer's JSON."""
        self.calls = self.calls or self.api.build_kaggle_client().__enter__().http_client()
        try:
            return self.calls.call(service, method, Fields(fields), Raw)
        except TypeError:  # the client looks for an error's code in whatever it gets
            raise json.JSONDecodeError("an answer of null or a number", "", 0) from None

    def upload(self, folder: str, new: bool) -> None:
        """Upload the files of a staged dataset; `create` then makes it of them.

        The client keeps the addresses of unfinished uploads in the temporary folder by the file's
        path, and resumes them when the same file is uploaded again.
        """
        uploads, before = SimpleNamespace(), None
        while True:
            uploads.files = []
            self.upload_context = self.extended.ResumableUploadContext().__enter__()
            request = uploads, None, folder, self.extended.ApiBlobType.DATASET
            try:
                with _dropped_files():
                    self.api.upload_files(*request, self.upload_context, False, "skip")
                break
            except DroppedFile:
                if self.arrived == before:  # a slow line goes on as long as it brings bytes
                    raise
                before = dict(self.arrived)
        meta = json.loads(Path(folder, "dataset-metadata.json").read_text("utf-8"))
        owner, slug = meta["id"].split("/")
        body = {"subtitle": meta.get("subtitle"), "description": meta.get("description")}
        body = {name: text for name, text in body.items() if text}
        body["categoryIds"] = meta.get("keywords") or []
        body["files"] = [file.to_dict() for file in uploads.files]
        if new:
            body |= {"ownerSlug": owner, "slug": slug, "title": meta["title"], "isPrivate": True}
            body["licenseName"] = meta["licenses"][0]["name"]
            self.pending = "CreateDataset", body
        else:
            version = {"ownerSlug": owner, "datasetSlug": slug, "body": body}
            self.pending = "CreateDatasetVersion", version

    def _resume(self, path: str, url: str, size: int, quiet: bool) -> Any:
        result = self.resume_upload(path, url, size, quiet)
        self.arrived[path] = max(self.arrived.get(path, 0), getattr(result, "start_at", 0))
        self.emit(event="progress", done=self.arrived[path], total=size)
        return result

    def create(self, notes: str) -> dict:
        """Make the dataset, or its next version, from what `upload` has sent."""
        method, fields = self.pending
        if method == "CreateDatasetVersion":
            fields["body"]["versionNotes"] = notes
        answer = self.post("datasets.DatasetApiService", method, fields)
        self.upload_context.__exit__(None, None, None)
        self.pending = None
        return {name: str(answer.get(name) or "") for name in ("status", "error")}

    def create_model(self, folder: str) -> dict:
        """Make a model, without a version, by the metadata in a folder; return Kaggle's error."""
        return {"error": self.api.model_create_new(folder).error or ""}

    def create_model_version(self, folder: str, handle: str, notes: str) -> dict:
        """Upload a folder as the next version of a model's variation; return Kaggle's error.

        Without notes it is the first one, which makes the variation.
        """
        self.api.with_retry = lambda method: method  # or the client would send it again unasked
        try:
            with _dropped_files():
                if notes:
                    answer = self.api.model_instance_version_create(handle, folder, notes, True)
                else:
                    answer = self.api.model_instance_create(folder, True)
        finally:
            del self.api.with_retry
        return {"error": answer.error or ""}

    def push(self, folder: str) -> dict:
        """Push a staged kernel; return version, ref, error, and refused sources by kind."""
        answer = self.api.kernels_push(folder)
        kinds = ("dataset", "competition", "kernel", "model")
        refused = {kind: list(getattr(answer, f"invalid_{kind}_sources") or ()) for kind in kinds}
        return {
            "version": answer.version_number,
            "ref": answer.ref or "",
            "error": answer.error or "",
            "refused": {kind: names for kind, names in refused.items() if names},
        }

    def submit(self, file: str, message: str, competition: str, **kernel: str | int) -> dict:
        """Submit a file, or to a code competition that output of `kernel` and `kernel_version`.

        Returns the submission's number (0 when refused) and Kaggle's message.
        """
        send = self.api.competition_submit_code if kernel else self.api.competition_submit
        answer = send(file, message, competition, quiet=True, **kernel)
        if answer.message == self.api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE and not answer.ref:
            raise DroppedFile(Path(file).name)
        return {"ref": answer.ref or 0, "message": answer.message or ""}

    def download(self, url: str, path: str, part: str) -> None:
        """Save a file at an address, without credentials; `part` keeps what attempts bring."""
        html = Path(path).suffix in (".html", ".htm")
        download(self.web.get, url, Path(part), Progress().report, html)
        os.replace(part, path)

    def download_data(self, competition: str, name: str, path: str) -> None:
        """Save a file of a competition's data."""
        with self._data_file(competition, name) as response:
            url = response.url
        self.download(url, path, f"{path}.part")

    def download_model(self, fields: dict, path: str) -> str:
        """Complete a file of a model's version; return its MD5, "" where the server tells none."""
        method = "models.ModelApiService", "DownloadModelInstanceVersion"
        with self._redirected(*method, Fields(fields)) as response:
            url = response.url
        return told_md5(download(self.web.get, url, Path(path), Progress().report))

    def zip_names(self, competition: str, name: str) -> list[str]:
        """Return the names of the files in a zip of a competition's data: only its end is read."""
        with self._zip(competition, name) as bundle:
            return [member for member in bundle.namelist() if not member.endswith("/")]

    def download_member(self, competition: str, name: str, member: str, path: str) -> None:
        """Save a file out of a zip of a competition's data."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with self._zip(competition, name) as bundle:
            Path(path).write_bytes(bundle.read(member))

    def _zip(self, competition: str, name: str) -> zipfile.ZipFile:
        with self._data_file(competition, name) as response:
            url, size = response.url, int(response.headers.get("Content-Length") or 0)
        return zipfile.ZipFile(io.BufferedReader(RemoteFile(url, size), READ_AHEAD))

    def _data_file(self, competition: str, name: str):
        fields = Fields(competitionName=competition, fileName=name)
        return self._redirected("competitions.CompetitionApiService", "DownloadDataFile", fields)

    @contextlib.contextmanager
    def _redirected(self, service: str, method: str, fields: Fields):
        """Give the answer of the address to which a method of the API redirects."""
        from kagglesdk.common.types.http_redirect import HttpRedirect

        with (
            self.api.build_kaggle_client() as kaggle,
            kaggle.http_client().call(service, method, fields, HttpRedirect) as response,
        ):
            if "text/html" in response.headers.get("Content-Type", ""):
                raise ConnectionError("a web page instead of the file")
            yield response

    def follow_log(self, kernel: str, version: int) -> None:
        """Start to report a version's live log in events."""

        def report() -> None:
            run = [kernel, version]
            try:
                for entry in self.api.kernels_logs_stream(f"{kernel}/{version}"):
                    self.emit(event="log", run=run, data=str(entry.get("data") or ""))
            except Exception as error:
                print(f"live log: {type(error).__name__}", file=sys.stderr)
            self.emit(event="log", run=run, data=None)

        threading.Thread(target=report, daemon=True).start()


@contextlib.contextmanager
def _dropped_files():
    """Raise DroppedFile in the place of the client's error for a file that it could not upload."""
    try:
        yield
    except ValueError as error:
        if failed := re.fullmatch("Upload unsuccessful: (.+)", str(error)):
            raise DroppedFile(failed[1]) from error
        raise


def _receive(requests: queue.SimpleQueue) -> None:
    """Read requests until the caller is gone, which ends the process at once."""
    for line in sys.stdin:
        requests.put(json.loads(line))
    os._exit(0)


def serve() -> None:
    """Answer requests until the caller closes stdin."""
    for name in ("SIGINT", "SIGHUP"):  # Ctrl-C and a closed terminal are for the caller to decide
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # The exit() of module `site`, which the client calls, closes the stdin that a thread reads here
    # and waits for that thread for ever.
    builtins.exit = builtins.quit = sys.exit
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the client prints to stdout
    writing = threading.Lock()

    def emit(**message) -> None:
        with writing:
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    sent: set[str] = set()
    _watch_requests(float(os.environ["SHIP_TIMEOUT"]), sent)
    received: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(received,), daemon=True).start()
    client = None
    while True:
        request = received.get()
        sent.clear()
        try:
            client = client or Client(emit)
            emit(id=request["id"], ok=getattr(client, request["op"])(**request["args"]))
        except (Exception, SystemExit) as error:
            print(f"{time.strftime('%X')} {request['op']}: {error!r}", file=sys.stderr)
            changing = not sent.isdisjoint(CHANGING)
            emit(id=request["id"], error=describe(error) | {"sent": changing})


if __name__ == "__main__":
    serve()
