"""The client's process seen from `ship`: deadlines, repetition, and what errors mean.

Reads and uploads are repeated with growing pauses when Kaggle is busy or out of reach. A call that
changes something is sent once: when its answer is lost, `AnswerLost` is raised, and
`ship.kaggle.send_once` asks Kaggle what it has. While a caller is `patient`, an outage is waited
out, and announced once when it begins and once when it is over.
"""

import contextlib
import itertools
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelkit.core.problem import Problem
from kernelkit.core.progress import clock_text
from ship.kaggle import credentials
from ship.kaggle.credentials import Credentials, redact
from ship.kaggle.response_schemas import loads
from ship.kaggle.timeouts import Timeouts
from ship.output import say, silence

BUSY = (408, 425, 429, *range(500, 600))  # HTTP statuses after which another attempt may succeed
# What no other attempt can cure, and the cure, unless Kaggle has answered before.
CURES = {
    "tls": (
        "the certificate of the server that answers in Kaggle's place can't be verified: a company "
        "proxy or a virus scanner reads the connection. Put the path of its certificate (a .pem "
        "file) into REQUESTS_CA_BUNDLE."
    ),
    "proxy": (
        "the proxy wants a login (407): put it into HTTPS_PROXY, as http://user:password@host:port."
    ),
}
LOCAL = ("folder", "path", "part", "url", "file")  # arguments that are not sent to Kaggle


class AnswerLost(Exception):
    """The answer to a call that changes something was lost: nobody knows whether it took effect.

    With `late` no answer came in time, so that the call may still take effect.
    """

    def __init__(self, reason: str, late: bool = False):
        super().__init__(reason)
        self.late = late


class CredentialsRefused(Problem):
    """Kaggle answered with an HTTP 401: no other call will succeed either."""


class Refused(Problem):
    """Kaggle answered with another HTTP 4xx, whose status is kept."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class Unavailable(Problem):
    """Kaggle gave no usable answer in all attempts."""


class ClientDied(Problem):
    """The client's process ended without an answer."""


@dataclass
class _Outage:
    since: float  # seconds of the monotonic clock
    answers: int  # how many other calls Kaggle had answered before
    announced: bool


class ClientProcess:
    """Calls Kaggle through the client's process, which is started when it is needed.

    `scratch` keeps the addresses of unfinished uploads; `environment` holds the client's variables.
    """

    def __init__(
        self, scratch: Path, timeouts: Timeouts, environment: Mapping[str, str] = os.environ
    ):
        self.scratch, self.timeouts = scratch, timeouts
        self.environment = dict(environment)
        self.on_log: Callable[[str, int, str | None], None] = lambda kernel, version, data: None
        self.on_progress: Callable[[int, int], None] = lambda done, total: None
        self.doing: Callable[[], str] = lambda: "waiting for Kaggle"
        self.starts = 0  # of the process: live logs end with it
        self.answers = 0  # calls that Kaggle has answered, be it with a refusal
        self._patience: float | None = None
        self._outages: dict[str, _Outage] = {}  # by what was asked
        self._process: subprocess.Popen | None = None
        self._errors: Any = None
        self._calls = 0

    def __enter__(self) -> "ClientProcess":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def secrets(self) -> tuple[str, ...]:
        """All secrets that are, or were, stored on this machine."""
        return credentials.stored_secrets(self.environment)

    @contextlib.contextmanager
    def reporting(self, on_progress: Callable[[int, int], None]) -> Iterator[None]:
        """Report the bytes that are done, and all bytes, of the transfers in this context."""
        before, self.on_progress = self.on_progress, on_progress
        try:
            yield
        finally:
            self.on_progress = before

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
        scratch = str(self.scratch.resolve())
        library = str(Path(__file__).resolve().parents[2])
        environment = self.environment | dict(found.variables)
        environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), scratch)
        environment["HOME"] = str(credentials.home_of(self.environment) or scratch)
        paths = filter(None, [library, self.environment.get("PYTHONPATH")])
        environment |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}
        environment["SHIP_TIMEOUT"] = str(self.timeouts.timeout)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ship.kaggle.client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        self.starts += 1
        self._received: queue.SimpleQueue = queue.SimpleQueue()
        streams = self._process.stdout, self._received
        threading.Thread(target=self._read, args=streams, daemon=True).start()

    def _read(self, stream, received: queue.SimpleQueue) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in stream:
                message = loads(line)
                known = () if message.get("event") == "progress" else self.secrets
                received.put(
                    credentials.mapped(
                        message, lambda text, known=known: redact(credentials.whole(text), known)
                    )
                )
        received.put(None)

    def _died(self) -> ClientDied:
        self._process.wait()
        self._errors.seek(0)
        last = redact(self._errors.read().decode(errors="replace"), self.secrets).strip()
        self.close()
        return ClientDied(
            "the kaggle client ended without an answer "
            f"({last.splitlines()[-1] if last else 'it printed nothing'}); "
            "reinstall it with: pip install --upgrade kaggle six"
        )

    def _message(self, until: float) -> dict | None:
        """Pass events on and return the client's next answer, None when the time is over.

        `until` is the deadline in seconds of the monotonic clock; progress extends it.
        """
        while True:
            left = max(0.0, until - time.monotonic())
            try:
                message = self._received.get(timeout=min(left, self.timeouts.tick))
            except queue.Empty:
                self._break_silence()
                if left <= self.timeouts.tick:
                    return None
                continue
            if message is None:
                raise self._died()
            if message.get("event") == "log":
                self.on_log(*message["run"], message["data"])
            elif message.get("event") == "progress":
                self.on_progress(message["done"], message["total"])
                until = max(until, time.monotonic() + 2 * self.timeouts.timeout)
            else:
                return message

    def _ask(self, op: str, args: dict) -> dict:
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
        until = time.monotonic() + 2 * self.timeouts.timeout + 5
        while (answer := self._message(until)) is not None:
            if answer.get("id") == self._calls:
                return answer
        self.close()
        return {"error": {"kind": "late", "message": "no answer in time", "sent": True}}

    # --- waiting ---

    def wait(self, seconds: float) -> None:
        """Pause while what the client reports is passed on, and never be silent for minutes."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._process:
                with contextlib.suppress(ClientDied):  # the next call starts it anew
                    self._message(until)
            else:
                time.sleep(min(left, self.timeouts.tick))
                self._break_silence()

    @contextlib.contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """Wait out an outage of so many seconds; 0 only lets others be asked in between."""
        before, self._patience = self._patience, max(seconds, self._patience or 0.0)
        try:
            yield
        finally:
            self._patience = before

    def _break_silence(self) -> None:
        """Say that the command is still at work when it has printed nothing for long."""
        if silence() < self.timeouts.silence:
            return
        for what, outage in self._outages.items():
            if outage.answers == self.answers:
                clock = clock_text(time.monotonic() - outage.since)
                return say(f"still no usable answer from Kaggle about {what}, for {clock}")
        return say(f"still {self.doing()}")

    def _note_failure(self, what: str, reason: str, attempt: int, pause: float) -> None:
        """Say that there was no answer; whoever is patient says only once that an outage began."""
        if self._patience is None:
            if attempt > 1 or pause > 10:
                say(f"no usable answer about {what} ({reason}); again in {pause:.0f} s")
        elif what not in self._outages and attempt > 1:
            known = any(outage.answers == self.answers for outage in self._outages.values())
            self._outages[what] = _Outage(time.monotonic(), self.answers, not known)
            if not known:
                say(
                    f"no usable answer from Kaggle about {what} since {time.strftime('%H:%M')} "
                    f"({reason}): asking again until there is one"
                )

    def _note_answer(self, what: str) -> None:
        """Note that Kaggle has answered, and say so where it had not for a while."""
        self.answers += 1
        outage = self._outages.pop(what, None)
        if outage and outage.announced:
            say(f"Kaggle answers again, after {clock_text(time.monotonic() - outage.since)}")

    # --- calls ---

    def call(
        self,
        op: str,
        what: str,
        wrong: Callable[[Any], str] = lambda answer: "",
        once: bool = False,
        **args,
    ) -> Any:
        """Make a call and return its result.

        Args:
            op: the operation, a method of `client.Client`.
            what: names the call in sentences, such as "the run's status".
            wrong: returns why an answer can't be one to this call, "" when it can.
            once: never repeat the call after Kaggle may have received it; raise AnswerLost then.
            args: the operation's arguments.

        Raises:
            CredentialsRefused, Refused: Kaggle answered with an HTTP 401, or with another 4xx.
            Unavailable: Kaggle gave no usable answer in all attempts.
            Problem: the client can't be used, or the arguments hold the user's credentials.
        """
        self._refuse_secrets(what, args)
        waited = 0.0
        for attempt in itertools.count(1):
            answer = self._attempt(op, args, once, wrong)
            if "ok" in answer:
                if op != "login":  # which need not ask Kaggle
                    self._note_answer(what)
                return answer["ok"]
            error = answer["error"]
            status, renewable = error.get("status"), self.answers and op != "create"
            if once and error["sent"] and (error["kind"] != "http" or status in BUSY):
                raise AnswerLost(error["message"] or f"HTTP {status}", error["kind"] == "late")
            if status == 401 and renewable and attempt < self.timeouts.retries:
                self.close()  # a new client reads the credentials anew, but knows of no upload
                reason = "401, the credentials are refused"
            else:
                reason = self._reason(error, what, args)
            if self._is_hopeless(what, attempt, waited):
                raise Unavailable(
                    f"Kaggle gave no usable answer about {what} in {attempt} attempts (the last: "
                    f"{reason}); run the same command again later: it goes on from here."
                )
            if op == "upload" and error["kind"] == "dropped" and attempt > 1:
                for unfinished in self.scratch.glob(".kaggle*"):  # the next one begins anew
                    shutil.rmtree(unfinished, ignore_errors=True)
            pause = self.timeouts.pause_after(attempt, error.get("retry_after"))
            self._note_failure(what, reason, attempt, pause)
            self.wait(pause)
            waited += pause
        raise AssertionError("counting never ends by itself")

    def _is_hopeless(self, what: str, attempt: int, waited: float) -> bool:
        last = attempt >= self.timeouts.retries
        if self._patience is None:
            return last
        # In an outage one attempt shows whether it is over.
        return (last or what in self._outages) and waited >= self._patience

    def _attempt(self, op: str, args: dict, once: bool, wrong: Callable[[Any], str]) -> dict:
        """Make an attempt at a call; an answer that makes no sense is an error too."""
        try:
            answer = self._ask(op, args)
        except ClientDied as died:
            if once:
                raise AnswerLost(str(died), late=True) from None
            if not self.answers:
                raise
            return {"error": {"kind": "died", "message": str(died), "sent": False}}
        if "ok" in answer and (reason := wrong(answer["ok"])):
            message = f"the answer makes no sense: {reason}"
            return {"error": {"kind": "answer", "message": message, "sent": False}}
        return answer

    def _refuse_secrets(self, what: str, args: dict) -> None:
        texts = {name: value for name, value in args.items() if name not in LOCAL}
        file = Path(args.get("file", ""))
        credentials.refuse_secrets(
            what, json.dumps(texts | {"file": file.name}).encode(), self.secrets
        )
        if file.is_file():
            credentials.refuse_secrets(str(file), file, self.secrets)

    def _reason(self, error: dict, what: str, args: dict) -> str:
        """Return the reason for an error that another attempt may cure; Problem if none can."""
        kind, status, message = error["kind"], error.get("status"), error["message"]
        if kind in CURES:
            if self._patience is None or not self.answers:
                raise Problem(CURES[kind])
            return CURES[kind].partition(":")[0]  # as of a hotel's page that wants a login
        found = Credentials.find(self.environment)
        if kind == "login" or (status == 401 and not found.kind):
            raise Problem(found.advice())
        if kind == "disk":
            folder = Path(args["path"]).parent if "path" in args else self.scratch
            raise Problem(
                f"the disk of {message if message not in ('', '.') else folder} is full (during "
                f"{what}): free some space and run the same command again; it goes on from here."
            )
        if kind == "client":
            cure = "`pip install --upgrade kaggle` where yours is an older one"
            raise Problem(f"the kaggle client can't handle {what}: {message} ({cure})")
        if kind == "dropped":
            return f"the upload of {message} failed"
        if kind == "http" and status == 401:
            raise CredentialsRefused(
                f"Kaggle refused the credentials (401; those from {found.source}): renew them with "
                "`kaggle auth login` or at https://www.kaggle.com/settings/api."
            )
        if kind == "http" and status not in BUSY:
            self._note_answer(what)
            raise Refused(
                f"Kaggle refused {what} ({status}): {message or 'no reason given'}", status
            )
        if message == "ProxyError":
            names = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")
            proxy = next(filter(None, map(self.environment.get, names)), "").rpartition("@")[2]
            return f"no connection to the proxy {proxy}, which HTTPS_PROXY names"
        return f"HTTP {status} {message}".strip() if kind == "http" else message
