"""Calls to Kaggle through the client's process: deadlines, repetition, and what the answers mean.

Reads and uploads are repeated with growing pauses when Kaggle is busy or out of reach. A call that
changes something is sent once. When its answer is lost, `AnswerLost` is raised, and the caller asks
Kaggle what it has before anything is sent again.
"""

import contextlib
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common import Problem
from ship.credentials import Credentials, redact
from ship.output import say
from ship.pace import Pace
from ship.shapes import SHAPES, misfit

KERNELS = "kernels.KernelsApiService"
DATASETS = "datasets.DatasetApiService"
COMPETITIONS = "competitions.CompetitionApiService"
BUSY = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses after which another attempt may succeed."""
CAUSES = {
    "tls": (
        "the certificate of the server that answers in Kaggle's place can't be verified: a company "
        "proxy or a virus scanner reads the connection. Put the path of its certificate (a .pem "
        "file) into REQUESTS_CA_BUNDLE."
    ),
    "proxy": (
        "the proxy wants a login (407): put it into HTTPS_PROXY, as http://user:password@host:port."
    ),
}
"""What no other attempt can cure, and the cure."""
PAGE = 100
"""How many entries of a list are asked for at once."""


class AnswerLost(Exception):
    """The answer to a call that changes something was lost: nobody knows whether it took effect.

    `late` tells that no answer came in time, so that the call may still take effect.
    """

    def __init__(self, reason: str, late: bool):
        super().__init__(reason)
        self.late = late


class Refused(Problem):
    """Kaggle answered with an HTTP 4xx, whose status is kept."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class Unavailable(Problem):
    """Kaggle gave no usable answer in all attempts."""


class ClientDied(Problem):
    """The client's process ended in the middle of a call."""


class Remote:
    """Kaggle, reached through one process of the client that starts at the first call.

    `scratch` is a folder in which the client keeps the addresses of unfinished uploads;
    `environment` holds the client's variables.
    """

    def __init__(self, scratch: Path, pace: Pace, environment: Mapping[str, str] = os.environ):
        self.scratch, self.pace = scratch, pace
        self.environment = dict(environment)
        self.secrets = Credentials.find(environment).secrets
        self.on_log: Callable[[str, int, str | None], None] = lambda kernel, version, data: None
        self.on_progress: Callable[[int, int], None] = lambda done, total: None
        self._process: subprocess.Popen | None = None
        self._errors: Any = None
        self._calls = 0

    def __enter__(self) -> "Remote":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # --- the process ---

    def close(self) -> None:
        """End the client's process."""
        if self._process:
            self._process.kill()
            self._process.wait()
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.stdout.close()
            self._errors.close()
            self._process = None

    def _start(self) -> None:
        found = Credentials.find(self.environment)
        if found.damaged and not found.kind:
            raise Problem(found.advice())
        self.scratch.mkdir(parents=True, exist_ok=True)
        library = str(Path(__file__).resolve().parent.parent)
        paths = [library, *filter(None, [self.environment.get("PYTHONPATH")])]
        folders = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self.scratch.resolve()))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ship.client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=self.environment
            | folders
            | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}
            | {"SHIP_TIMEOUT": str(self.pace.timeout)},
        )
        self._received: queue.SimpleQueue = queue.SimpleQueue()
        reading = threading.Thread(target=self._read, args=(self._process.stdout, self._received))
        reading.daemon = True
        reading.start()

    def _read(self, stream, received: queue.SimpleQueue) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in stream:
                received.put(json.loads(redact(line.decode(), self.secrets)))
        received.put(None)

    def _died(self) -> ClientDied:
        self._process.wait()
        self._errors.seek(0)
        last = redact(self._errors.read().decode(errors="replace"), self.secrets).strip()
        self.close()
        return ClientDied(
            "the kaggle client ended without an answer "
            f"({last.splitlines()[-1] if last else 'it said nothing'}); "
            "reinstall it with: pip install --upgrade kaggle six"
        )

    def _message(self, until: float) -> dict | None:
        """Pass events on and return the client's next answer, None when the time is over.

        Args:
            until: the deadline in seconds of the monotonic clock; progress extends it.
        """
        while True:
            try:
                message = self._received.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return None
            if message is None:
                raise self._died()
            if message.get("event") == "log":
                self.on_log(*message["run"], message["data"])
            elif message.get("event") == "progress":
                self.on_progress(message["done"], message["total"])
                until = max(until, time.monotonic() + 2 * self.pace.timeout)
            else:
                return message

    def wait(self, seconds: float) -> None:
        """Pause while what the client reports is passed on."""
        if self._process:
            self._message(time.monotonic() + seconds)
        else:
            time.sleep(seconds)

    def _ask(self, op: str, args: dict) -> dict:
        """Make one attempt at a call and return the client's answer, which may be an error."""
        if self._process is None:
            self._start()
        self._calls += 1
        request = {"id": self._calls, "op": op, "args": args}
        try:
            self._process.stdin.write((json.dumps(request) + "\n").encode())
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None
        # The client's own timeout comes first; this one ends a client that hangs in spite of it.
        until = time.monotonic() + 2 * self.pace.timeout + 5
        while (answer := self._message(until)) is not None:
            if answer.get("id") == self._calls:
                return answer
        self.close()
        return {"error": {"kind": "late", "message": "no answer in time", "sent": True}}

    def call(self, op: str, what: str, once: bool = False, **args) -> Any:
        """Make a call and return its result.

        Args:
            op: the operation, a method of `client.Client`.
            what: names the call in sentences, such as "the run's status".
            once: never repeat the call after Kaggle may have received it.
            args: the operation's arguments.

        Raises:
            AnswerLost: with `once`, when the call may have taken effect.
            Refused: Kaggle answered with an HTTP 4xx.
            Unavailable: Kaggle gave no usable answer in all attempts.
            Problem: the client can't be used.
        """
        for attempt in range(1, self.pace.retries + 1):
            try:
                answer = self._ask(op, args)
            except ClientDied as died:
                if once:
                    raise AnswerLost(str(died), late=True) from None
                raise
            if "ok" in answer:
                return answer["ok"]
            error = answer["error"]
            if once and error["sent"] and (error["kind"] != "http" or error["status"] in BUSY):
                raise AnswerLost(
                    error["message"] or f"HTTP {error['status']}", error["kind"] == "late"
                )
            reason = self._reason(error, what, args)
            if attempt < self.pace.retries:
                if op == "upload" and error["kind"] == "dropped" and attempt > 1:
                    self.forget_uploads()
                pause = error.get("retry_after") or self.pace.backoff * 2 ** (attempt - 1)
                pause = min(pause, 120.0) * random.uniform(1.0, 1.25)
                if attempt > 1 or pause > 10 or error["kind"] == "late":
                    say(f"no usable answer about {what} ({reason}); again in {pause:.0f} s")
                self.wait(pause)
        raise Unavailable(
            f"Kaggle gave no usable answer about {what} in {self.pace.retries} attempts "
            f"(the last: {reason}); run the same command again later: it goes on from here."
        )

    def _reason(self, error: dict, what: str, args: dict) -> str:
        """Return the reason for an error that another attempt may cure.

        Raises:
            Problem: no attempt can cure the error.
        """
        kind, status, message = error["kind"], error.get("status"), error["message"]
        if kind in CAUSES:
            raise Problem(CAUSES[kind])
        if kind == "login":
            raise Problem(Credentials.find(self.environment).advice())
        if kind == "disk":
            folder = Path(args["path"]).parent if "path" in args else self.scratch
            raise Problem(
                f"the disk of {message if message not in ('', '.') else folder} is full (during "
                f"{what}): free some space and run the same command again; it goes on from here."
            )
        if kind == "client":
            raise Problem(f"the kaggle client can't handle {what}: {message}")
        if kind == "dropped":
            return f"the upload of {message} failed"
        if kind == "http" and status == 401:
            source = Credentials.find(self.environment).source
            raise Refused(
                f"Kaggle refused the credentials (401; those from {source}): renew them with "
                "`kaggle auth login` or at https://www.kaggle.com/settings/api.",
                401,
            )
        if kind == "http" and status not in BUSY:
            raise Refused(
                f"Kaggle refused {what} ({status}): {message or 'no reason given'}", status
            )
        if message == "ProxyError":
            return f"no connection to the proxy {self._proxy()}, which HTTPS_PROXY names"
        return f"HTTP {status} {message}".strip() if kind == "http" else message

    def _proxy(self) -> str:
        """Return the address of the proxy that the client uses, without its login."""
        names = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")
        found = next(filter(None, (self.environment.get(name) for name in names)), "")
        return found.rpartition("@")[2]

    def forget_uploads(self) -> None:
        """Drop the addresses of unfinished uploads, so that the next upload begins anew.

        The client keeps them in `.kaggle/uploads`, since version 2.2.5 in `.kaggle-uploads-UID`.
        """
        for folder in self.scratch.glob(".kaggle*"):
            shutil.rmtree(folder, ignore_errors=True)

    def post(self, service: str, method: str, what: str, **fields) -> dict:
        """Call a method of the API by its name, and return the JSON object of its answer.

        Raises:
            Unavailable: the answer has another shape than Kaggle gives to such calls.
            Problem: the reasons of `call`.
        """
        answer = self.call("post", what, service=service, method=method, fields=fields)
        if wrong := misfit(answer, SHAPES[method]):
            raise Unavailable(
                f"Kaggle's answer about {what} makes no sense ({wrong}): run the same command "
                "again later."
            )
        return answer

    def pages(self, service: str, method: str, what: str, **fields) -> Iterator[dict]:
        """Yield all pages of a list.

        Raises:
            Problem: Kaggle repeats a page.
        """
        seen = set()
        token = ""
        while True:
            page = self.post(
                service, method, what, **fields, **({"pageToken": token} if token else {})
            )
            yield page
            token = page.get("nextPageToken") or ""
            if token in seen:
                raise Problem(
                    f"Kaggle lists the same page of {what} over and over; try again later."
                )
            if not token:
                return
            seen.add(token)

    # --- questions to Kaggle ---

    def username(self) -> str:
        """Return the name of the user to whom the credentials belong."""
        name = self.call("login", "your user name")["username"]
        if not name:
            found = Credentials.find(self.environment)
            if found.kind in ("", "API token"):
                raise Problem(found.advice())
            raise Problem(
                "your credentials have no user name: renew them with `kaggle auth login`."
            )
        return name

    def dataset(self, ref: str) -> tuple[int, list[dict]] | None:
        """Return a dataset's current version and its list of versions; None when there is none."""
        owner, slug = ref.split("/")
        try:
            found = self.post(
                DATASETS, "GetDataset", f"dataset {ref}", ownerSlug=owner, datasetSlug=slug
            )
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise
        return found.get("currentVersionNumber") or 1, found.get("versions") or []

    def dataset_status(self, ref: str) -> str:
        """Return a dataset's status word, "" when Kaggle gave none."""
        owner, slug = ref.split("/")
        answer = self.post(
            DATASETS, "GetDatasetStatus", f"dataset {ref}", ownerSlug=owner, datasetSlug=slug
        )
        return str(answer.get("status") or "").upper()

    def dataset_files(self, ref: str, version: int) -> list[tuple[str, int]]:
        """Return the names and the sizes in bytes of the files of a dataset's version."""
        owner, slug = ref.split("/")
        fields = {"ownerSlug": owner, "datasetSlug": slug, "datasetVersionNumber": version}
        pages = self.pages(
            DATASETS, "ListDatasetFiles", f"the files of {ref}", pageSize=PAGE, **fields
        )
        return [
            (file.get("name") or "", file.get("totalBytes") or 0)
            for page in pages
            for file in page.get("datasetFiles") or []
        ]

    def kernel(self, ref: str) -> tuple[int, str] | None:
        """Return a kernel's newest version and its source; None when Kaggle does not show it.

        Kaggle answers 403 for a kernel that is not there, also to its would-be owner.
        """
        try:
            return self._kernel(ref)
        except Refused as refusal:
            if refusal.status in (403, 404):
                return None
            raise

    def source(self, ref: str, version: int) -> str:
        """Return the source of a kernel's version.

        Raises:
            Refused: Kaggle does not show it.
        """
        return self._kernel(ref, versionLabel=f"v{version}")[1]

    def _kernel(self, ref: str, **label: str) -> tuple[int, str]:
        owner, slug = ref.split("/")
        what = f"kernel {ref}{f' {label}' if label else ''}"
        found = self.post(KERNELS, "GetKernel", what, userName=owner, kernelSlug=slug, **label)
        metadata, blob = found.get("metadata") or {}, found.get("blob") or {}
        return metadata.get("currentVersionNumber") or 0, blob.get("source") or ""

    def own_kernels(self, ref: str) -> list[str]:
        """Return which of the owner's kernels have a slug that begins with that of `ref`."""
        pages = self.pages(
            KERNELS,
            "ListKernels",
            "your kernels",
            user=ref.split("/")[0],
            group="PROFILE",
            sortBy="DATE_CREATED",
            pageSize=PAGE,
        )
        found = (kernel.get("ref") or "" for page in pages for kernel in page.get("kernels") or [])
        return [name for name in found if name.startswith(ref)]

    def cancel(self, session: int) -> str:
        """Ask Kaggle to end a session; return why it does not, "" when it will."""
        what = f"the end of session {session}"
        answer = self.post(KERNELS, "CancelKernelSession", what, kernelSessionId=session)
        return answer.get("errorMessage") or ""

    def run_status(self, ref: str, version: int) -> tuple[str, str]:
        """Return a run's status word ("" when Kaggle gave none) and its failure message."""
        what = f"the status of {ref} version {version}"
        answer = self.post(KERNELS, "GetKernelSessionStatus", what, **run_fields(ref, version))
        return str(answer.get("status") or "").upper(), answer.get("failureMessage") or ""

    def run_output(self, ref: str, version: int) -> tuple[list[tuple[str, str]], list[dict]]:
        """Return a run's output files as (name, URL), and the entries of its log."""
        what = f"the output of {ref} version {version}"
        fields = run_fields(ref, version) | {"pageSize": PAGE}
        pages = self.pages(KERNELS, "ListKernelSessionOutput", what, **fields)
        files, log = [], ""
        for page in pages:
            files += [
                (file.get("fileName") or "", file.get("url") or "")
                for file in page.get("files") or []
            ]
            log = log or page.get("log") or ""
        return files, log_entries(log)

    def submissions(self, competition: str) -> Iterator[dict]:
        """Yield the submissions to a competition, newest first."""
        pages = self.pages(
            COMPETITIONS,
            "ListSubmissions",
            "your submissions",
            competitionName=competition,
            sortBy="SUBMISSION_SORT_BY_DATE",
            group="SUBMISSION_GROUP_ALL",
            pageSize=PAGE,
        )
        for page in pages:
            yield from page.get("submissions") or []

    def submissions_left(self, competition: str) -> dict:
        """Return numToday, numTotal and numAllowedNow of a competition."""
        return self.post(
            COMPETITIONS,
            "GetSubmissionLimits",
            "your submission limits",
            competitionName=competition,
        )

    def data_files(self, competition: str) -> list[str]:
        """Return the names of a competition's data files.

        Raises:
            Refused: there is no such competition, or its rules are not accepted.
        """
        pages = self.pages(
            COMPETITIONS,
            "ListDataFiles",
            f"the data of {competition}",
            competitionName=competition,
            pageSize=PAGE,
        )
        return [file.get("name") or "" for page in pages for file in page.get("files") or []]

    def quota(self) -> dict:
        """Return quotaRefreshTime and gpuQuota {timeUsed, timeReserved, totalTimeAllowed}."""
        return self.post(KERNELS, "GetAcceleratorQuotaStatistics", "your GPU quota")


def run_fields(ref: str, version: int) -> dict[str, str]:
    """Return the fields that name the run of a kernel's version in a request."""
    owner, slug = ref.split("/")
    # Kaggle answers 404 for a version label that is a bare number.
    return {"userName": owner, "kernelSlug": slug, "versionLabel": f"v{version}"}


def log_entries(log: str) -> list[dict]:
    """Return the entries {stream_name, time, data} of a run's log.

    A log that is no JSON is taken as plain text, whose entries have only `data`.
    """
    try:
        entries = json.loads(log)
    except ValueError:
        return [{"data": line + "\n"} for line in log.splitlines()]
    return (
        [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    )
