"""The HTTP side of the loopback Kaggle: routes, authentication, uploads, downloads and faults."""

import base64
import email.utils
import json
import re
import socket
import socketserver
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from .competitions import Competitions
from .datasets import Datasets
from .faults import Fault, Faults
from .kernels import UNFINISHED, Kernels
from .store import ApiError, Store

CHUNK = 1 << 16
HERE = ("localhost", "127.0.0.1")
LOG_STREAM = "/api/v1/kernels/logs/stream/"


@dataclass
class Answer:
    """What goes back: bytes, a file (ranges are served), or parts that come one by one.

    With a `share` below 1 the connection breaks after that share of the body, or the first part.
    """

    code: int = 200
    body: bytes | Path | Iterator[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)
    share: float = 1.0

    @classmethod
    def of(cls, value: Any, code: int = 200) -> "Answer":
        """Make an answer of a JSON value."""
        return cls(code, json.dumps(value).encode(), {"Content-Type": "application/json"})

    @classmethod
    def refusal(cls, code: int, message: str) -> "Answer":
        """Make an answer that the client raises as an error."""
        return cls.of({"code": code, "message": message}, code)


@dataclass
class Call:
    """One request as the server saw it; `status` is None when it got no answer."""

    name: str
    method: str
    path: str
    body: Any = None
    status: int | None = None


class Loopback:
    """A Kaggle on 127.0.0.1 (see the package's docstring for what it offers)."""

    def __init__(
        self,
        folder: Path | str,
        competitions: Mapping[str, tuple[Path | str, Path | str]] | None = None,
        mount: str = "official",
        *,
        user: str = "alice",
        key: str | None = None,
        token: str | None = None,
        port: int = 0,
        dataset_delay: float = 0.2,
        queue_delay: float = 0.1,
        scoring_delay: float = 0.2,
        daily_submissions: int = 5,
        gpu_sessions: int = 2,
        accepted: bool = True,
    ):
        self.folder = Path(folder).resolve()
        self.user, self.key, self.token = user, key, token
        self.faults = Faults()
        self.requests: list[Call] = []
        self.connects: list[str] = []
        self.closing = threading.Event()
        self._http = Server(("127.0.0.1", port), Handler)
        self._http.kaggle = self
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.store = Store(self.folder)
        self.datasets = Datasets(self.store, user, dataset_delay)
        self.competitions = Competitions(
            self.store,
            user,
            competitions or {},
            delay=scoring_delay,
            daily_submissions=daily_submissions,
            accepted=accepted,
            file_url=self.file_url,
        )
        self.kernels = Kernels(
            self.store,
            user,
            self.datasets,
            self.competitions,
            layout=mount,
            delay=queue_delay,
            gpu_sessions=gpu_sessions,
            file_url=self.file_url,
        )
        self.competitions.kernel_output = self._kernel_output
        self._services = {
            "datasets.DatasetApiService": self.datasets,
            "kernels.KernelsApiService": self.kernels,
            "competitions.CompetitionApiService": self.competitions,
            "blobs.BlobApiService": self,
            "security.OAuthService": self,
        }

    def __enter__(self) -> "Loopback":
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.closing.set()
        self.kernels.stop()
        self._http.shutdown()
        self._http.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables, to be laid over `os.environ`, that point the real client here."""
        home, temporary = self.folder / "home", self.folder / "tmp"
        for path in (home, temporary):
            path.mkdir(exist_ok=True)
        proxies = dict.fromkeys(
            ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), self.url
        )
        unset = ("no_proxy", "NO_PROXY", "ALL_PROXY", "all_proxy", "KAGGLE_API_TOKEN")
        return {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "KAGGLE_USERNAME": self.user,
            "KAGGLE_KEY": self.key or "loopback-key",
            "HOME": str(home),
            "USERPROFILE": str(home),
            "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
            "TMPDIR": str(temporary),
            **proxies,
            **dict.fromkeys(unset, ""),
        }

    @property
    def counts(self) -> dict[str, int]:
        """How many effects were accepted since the folder was new."""
        state = self.store.state
        kernels = [version for k in state["kernels"].values() for version in k["versions"]]
        return {
            "datasets": len(state["datasets"]),
            "dataset_versions": sum(len(d["versions"]) for d in state["datasets"].values()),
            "kernel_versions": len(kernels),
            "kernel_runs": sum(version["runs"] for version in kernels),
            "submissions": len(state["submissions"]),
        }

    def file_url(self, kind: str, name: str) -> str:
        """Return the address under which a file can be fetched or sent without credentials."""
        return f"{self.url}/files/{kind}/{quote(name)}"

    def StartBlobUpload(self, request: dict) -> dict:
        """Expect an upload."""
        token = self.store.new_blob(request.get("name"), request.get("contentLength", 0))
        return {"token": token, "createUrl": self.file_url("upload", token)}

    def IntrospectToken(self, request: dict) -> dict:
        """Tell whose token it is."""
        token = request.get("token")
        known = bool(token) and self.token in (None, token)
        return {"active": True, "username": self.user} if known else {"active": False}

    def allows(self, authorization: str) -> bool:
        """Tell whether an Authorization header is this user's: any key or token, or the set one."""
        kind, _, value = authorization.partition(" ")
        if kind == "Bearer":
            return self.IntrospectToken({"token": value})["active"]
        if kind != "Basic":
            return False
        name, _, key = base64.b64decode(value).decode(errors="replace").partition(":")
        return name == self.user and bool(key) and self.key in (None, key)

    def method(self, service: str, name: str) -> Callable[[dict], Any] | None:
        """Return the function that answers a method of the API; None where there is none."""
        owner = self._services.get(service)
        return getattr(owner, name, None) if owner and name[:1].isupper() else None

    def file(self, kind: str, name: str) -> Path:
        """Return the path of a file that may be fetched.

        Raises:
            ApiError: 404 for everything else.
        """
        if kind == "data":
            return self.competitions.data_file(*name.split("/", 1))
        if kind == "archive" and "/" not in name:
            path, folder = self.store.path("archives", name), self.folder
        elif kind == "output" and name.count("/") >= 3:
            owner, slug, number, inner = name.split("/", 3)
            folder = self.kernels.output_of(self.kernels.find(owner, slug, number))
            path = (folder / inner).resolve()
        else:
            raise ApiError(404, "Not found")
        if not path.is_file() or not path.is_relative_to(folder):
            raise ApiError(404, "Not found")
        return path

    def _kernel_output(self, request: dict) -> Path:
        owner, slug = request.get("kernelOwner"), request.get("kernelSlug")
        version = self.kernels.find(owner, slug, request.get("kernelVersion"))
        if version["status"] != "COMPLETE":
            raise ApiError(400, "The kernel version has not completed")
        return self.kernels.output_of(version)


class Server(ThreadingHTTPServer):
    """A threaded server that does not ask the network for its own name."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    kaggle: Loopback

    def server_bind(self) -> None:
        """Bind, without the look-up of the host's full name that HTTPServer does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about clients that hang up, which here is part of the play."""


class Handler(BaseHTTPRequestHandler):
    """One connection of a client, be it direct or as to a proxy."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Write no log."""

    def do_CONNECT(self) -> None:
        """Refuse the tunnel to the outside that somebody asked for, and remember it."""
        self.server.kaggle.connects.append(self.path)
        self.close_connection = True
        self.send_error(403, "This is a rehearsal: nothing outside it can be reached")

    def do_GET(self) -> None:
        """Send a file or a log stream."""
        self._serve()

    def do_POST(self) -> None:
        """Answer a method of the API."""
        self._serve()

    def do_PUT(self) -> None:
        """Take (a part of) an upload."""
        self._serve()

    def _serve(self) -> None:
        target = urlsplit(self.path)
        kaggle = self.server.kaggle
        self._unread = self._chunks()
        if target.hostname not in (None, *HERE):
            kaggle.connects.append(self.path)
            self._send(Answer.refusal(403, "This is a rehearsal: nothing outside it exists"))
            return
        path = unquote(target.path)
        name, act = self._route(path, {k: v[0] for k, v in parse_qs(target.query).items()})
        self._call = Call(name, self.command, path)
        kaggle.requests.append(self._call)
        fault = kaggle.faults.take(name)
        answer = self._misbehave(fault, act) if fault else self._act(act)
        if answer is not None:
            self._send(answer)

    def _route(self, path: str, query: dict[str, str]) -> tuple[str, Callable[[], Answer]]:
        """Return the name of a call and what answers it."""
        parts = path.strip("/").split("/")
        if self.command == "POST" and len(parts) == 4 and parts[:2] == ["api", "v1"]:
            return parts[3], lambda: self._method(parts[2], parts[3])
        if self.command == "GET" and path.startswith(LOG_STREAM) and len(parts) == 7:
            return "GET log", lambda: self._log(parts[5], parts[6], query.get("versionLabel"))
        if len(parts) >= 3 and parts[0] == "files":
            kind, name = parts[1], "/".join(parts[2:])
            if self.command == "PUT" and kind == "upload":
                return "PUT blob", lambda: self._upload(name)
            if self.command == "GET":
                return f"GET {kind}", lambda: Answer(body=self.server.kaggle.file(kind, name))
        return f"{self.command} {path}", lambda: Answer.refusal(404, "Not found")

    def _act(self, act: Callable[[], Answer]) -> Answer:
        try:
            return act()
        except ApiError as error:
            return Answer.refusal(error.code, error.message)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            traceback.print_exc()
            return Answer.refusal(500, f"The loopback Kaggle broke: {error!r}")

    def _method(self, service: str, name: str) -> Answer:
        kaggle = self.server.kaggle
        request = json.loads(b"".join(self._unread) or b"{}")
        if name != "IntrospectToken":
            self._call.body = request
            self._authenticate()
        method = kaggle.method(service, name)
        if method is None:
            raise ApiError(404, f"The loopback Kaggle has no method {service}/{name}")
        with kaggle.store.lock:
            result = method(request)
        return (
            Answer(302, headers={"Location": result})
            if isinstance(result, str)
            else Answer.of(result)
        )

    def _authenticate(self) -> None:
        if not self.server.kaggle.allows(self.headers.get("Authorization", "")):
            raise ApiError(401, "Unauthenticated")

    def _log(self, owner: str, slug: str, label: str | None) -> Answer:
        """Stream the log of a run that goes on as events; give that of a finished one whole."""
        self._authenticate()
        kernels = self.server.kaggle.kernels
        version = kernels.find(owner, slug, label)
        if version["status"] not in UNFINISHED:
            return Answer.of(kernels.log_of(version))

        def events() -> Iterator[bytes]:
            sent, going_on = 0, True
            while going_on:
                going_on = version["status"] in UNFINISHED
                for entry in kernels.log_of(version)[sent:]:
                    yield f"data: {json.dumps(entry)}\n\n".encode()
                    sent += 1
                time.sleep(0.1 if going_on else 0)
            yield b"data: END_OF_LOG\n\n"

        return Answer(body=events(), headers={"Content-Type": "text/event-stream"})

    def _upload(self, token: str, share: float = 1.0) -> Answer:
        """Take an upload, whole or the rest of it, or say how much of it is here."""
        kaggle = self.server.kaggle
        path, size = kaggle.store.blob_path(token), kaggle.store.state["blobs"][token]["size"]
        wanted = re.fullmatch(
            r"bytes (?:\*|(\d+)-\d+)/(\d+)", self.headers.get("Content-Range", "")
        )
        if wanted and int(wanted[2]) != size:
            raise ApiError(400, f"The upload was announced as {size} bytes, not {wanted[2]}")
        asked = wanted is not None and wanted[1] is None
        start = int(wanted[1]) if wanted and not asked else 0
        if start > path.stat().st_size:
            raise ApiError(400, f"Bytes before {start} are missing")
        if not asked:
            length = int(self.headers.get("Content-Length") or 0)
            self._write(path, start, start + int(length * share) if share < 1 else size)
        if share < 1:
            return Answer.refusal(503, "Only a part of it has arrived")
        here = path.stat().st_size
        if here == size:
            return Answer.of({})
        return Answer(308, headers={"Range": f"bytes=0-{here - 1}"} if here else {})

    def _write(self, path: Path, start: int, end: int) -> None:
        """Write the request's body to a file from `start`; what goes beyond `end` is not kept."""
        with path.open("r+b") as file:
            file.truncate(start)
            file.seek(start)
            for chunk in self._unread:
                file.write(chunk[: max(0, end - file.tell())])

    def _misbehave(self, fault: Fault, act: Callable[[], Answer]) -> Answer | None:
        """Do what a fault says; None when there is nothing to send."""
        details = fault.details
        if fault.kind == "late":
            self.server.kaggle.closing.wait(details.get("seconds", 1))
            return self._act(act)
        if fault.kind == "merge":
            answer = self._act(act)
            return Answer.of({**json.loads(answer.body), **details["fields"]}, answer.code)
        if fault.kind == "cut":
            answer = self._act(act)
            answer.share = details.get("share", 0.5)
            return answer
        if fault.kind == "partial":
            token = self.path.rsplit("/", 1)[1]
            return self._act(lambda: self._upload(token, details.get("share", 0.5)))
        if details.get("effect"):
            self._act(act)
        for _ in self._unread:  # a client that still sends would not see the answer
            pass
        if fault.kind == "status":
            code = details.get("code", 500)
            answer = Answer.refusal(code, details.get("message", f"A fault on purpose ({code})"))
            if "retry_after" in details:
                answer.headers["Retry-After"] = str(details["retry_after"])
            return answer
        if fault.kind == "body":
            return made_up(**{k: v for k, v in details.items() if k != "effect"})
        if fault.kind == "hang":
            self.server.kaggle.closing.wait(details.get("seconds"))
        self._reset()
        return None

    def _reset(self) -> None:
        """Break the connection, so that the client sees a reset instead of an answer."""
        self.close_connection = True
        now_and_hard = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now_and_hard)
        self.connection.close()

    def _chunks(self) -> Iterator[bytes]:
        """Yield the request's body."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0:
            chunk = self.rfile.read1(min(left, CHUNK))
            if not chunk:
                raise ConnectionResetError("the client hung up in the middle of a body")
            left -= len(chunk)
            yield chunk

    def _send(self, answer: Answer) -> None:
        for _ in self._unread:
            pass
        if hasattr(self, "_call"):
            self._call.status = answer.code
        if isinstance(answer.body, Path):
            self._send_file(answer)
            return
        if not isinstance(answer.body, bytes):
            self._send_parts(answer)
            return
        self._send_head(answer.code, answer.headers, len(answer.body))
        self.wfile.write(answer.body[: int(len(answer.body) * answer.share)])
        if answer.share < 1:
            self._reset()

    def _send_parts(self, answer: Answer) -> None:
        """Send each part as a chunk of its own, which a client gets as soon as it is there."""
        self._send_head(answer.code, answer.headers, None)
        for part in answer.body:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            if answer.share < 1:
                self._reset()
                return
        self.wfile.write(b"0\r\n\r\n")

    def _send_head(self, code: int, headers: Mapping[str, str], length: int | None) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send_file(self, answer: Answer) -> None:
        """Send a file, or the range of it that the client still lacks."""
        status = answer.body.stat()
        tag = f'"{status.st_size:x}-{status.st_mtime_ns:x}"'
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, end = 0, status.st_size
        if wanted and self.headers.get("If-Range", tag) == tag:
            start, end = int(wanted[1]), min(end, int(wanted[2] or end - 1) + 1)
        headers = {
            "Content-Type": "application/octet-stream",
            "Last-Modified": email.utils.formatdate(int(status.st_mtime), usegmt=True),
            "ETag": tag,
            "Accept-Ranges": "bytes",
        }
        if start and start >= end:
            headers["Content-Range"] = f"bytes */{status.st_size}"
            self._send_head(416, headers, 0)
            return
        if start or end < status.st_size:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{status.st_size}"
        self._send_head(206 if "Content-Range" in headers else 200, headers, end - start)
        left = int((end - start) * answer.share)
        with answer.body.open("rb") as file:
            file.seek(start)
            while left > 0 and (chunk := file.read(min(CHUNK, left))):
                self.wfile.write(chunk)
                left -= len(chunk)
        if answer.share < 1:
            self._reset()


def made_up(body: Any = "", code: int = 200, content_type: str | None = None) -> Answer:
    """Make an answer of anything: bytes and text as they are, other values as JSON."""
    if isinstance(body, str | bytes):
        raw = body.encode() if isinstance(body, str) else body
        return Answer(code, raw, {"Content-Type": content_type or "text/html"})
    answer = Answer.of(body, code)
    if content_type:
        answer.headers["Content-Type"] = content_type
    return answer
