"""The HTTP side of the loopback Kaggle: routes, uploads, downloads, streams, injected faults."""

import email.utils
import json
import re
import socketserver
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .kernels import UNFINISHED
from .store import ApiError

CHUNK = 1 << 16
LOCAL_HOSTS = ("localhost", "127.0.0.1")
LOG_STREAM = "/api/v1/kernels/logs/stream/"


@dataclass
class Answer:
    """An answer to a request.

    The body is bytes, a file of which ranges are served, or parts that are sent one by one. With a
    `fraction` below 1 the connection breaks after that fraction of the body, or the first part.
    """

    code: int = 200
    body: bytes | Path | Iterator[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)
    fraction: float = 1.0
    with_length: bool = True  # whether a header tells the length of the body

    @classmethod
    def of(cls, value: Any, code: int = 200) -> "Answer":
        """Make an answer from a JSON value."""
        return cls(code, json.dumps(value).encode(), {"Content-Type": "application/json"})

    @classmethod
    def refusal(cls, code: int, message: str) -> "Answer":
        """Make an answer that refuses a request."""
        return cls.of({"code": code, "message": message}, code)


@dataclass
class Call:
    """One request as the server saw it; `status` is None while it has no answer."""

    name: str
    method: str
    path: str
    body: Any = None
    status: int | None = None


class Server(ThreadingHTTPServer):
    """A threaded server that does not ask the network for its own name."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, port: int, site: Any, handler: type["Handler"]):
        self.site = site  # the `server.Loopback` behind it
        self.uploading: dict[Path, object] = {}  # file -> the last request that is about it
        super().__init__(("127.0.0.1", port), handler)

    def server_bind(self) -> None:
        """Bind without looking up the host's full name, as HTTPServer would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up, which the tests make them do."""


class Handler(BaseHTTPRequestHandler):
    """One connection of a client, which may take this server for a proxy."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer on a kept connection would take 40 ms
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Write no log."""

    def do_CONNECT(self) -> None:
        """Refuse a tunnel to an address outside, and remember the address."""
        self.server.site.connects.append(self.path)
        self.close_connection = True
        self.send_error(403, "This is a rehearsal: nothing outside it can be reached")

    def do_POST(self) -> None:
        """Answer a method of the API, send a file or a log stream, or take an upload."""
        target = urlsplit(self.path)
        site = self.server.site
        self._unread, self._call = self._chunks(), None
        if target.hostname not in (None, *LOCAL_HOSTS):
            site.connects.append(self.path)
            self._send(Answer.refusal(403, "This is a rehearsal: nothing outside it exists"))
            return
        path = unquote(target.path)
        try:
            body = json.loads(b"".join(self._unread) or b"{}") if self.command == "POST" else None
        except ValueError:
            self._send(Answer.refusal(400, "The request's body is not JSON"))
            return
        name, act = self._route(path, parse_qs(target.query), body)
        self._call = Call(name, self.command, path, None if name == "IntrospectToken" else body)
        site.requests.append(self._call)
        answer = self._answer(name, act)
        if answer is not None:
            self._send(answer)

    def _answer(self, name: str, act: Callable[[], Answer]) -> Answer | None:
        return self._act(act)  # tests let faults happen here; None is a connection that is gone

    def _route(
        self, path: str, query: dict[str, list[str]], body: Any
    ) -> tuple[str, Callable[[], Answer]]:
        parts = path.strip("/").split("/")
        if self.command == "POST" and len(parts) == 4 and parts[:2] == ["api", "v1"]:
            return parts[3], lambda: self._method(parts[2], parts[3], body)
        if self.command == "GET" and path.startswith(LOG_STREAM) and len(parts) == 7:
            return "GET log", lambda: self._log(parts[5], parts[6], *query.get("versionLabel", []))
        if len(parts) >= 3 and parts[0] == "files":
            kind, name = parts[1], "/".join(parts[2:])
            if self.command == "PUT" and kind == "upload":
                return "PUT blob", lambda: self._upload(name)
            if self.command == "GET":
                return f"GET {kind}", lambda: Answer(body=self.server.site.file(kind, name))
        return f"{self.command} {path}", lambda: Answer.refusal(404, "Not found")

    do_GET = do_PUT = do_POST

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

    def _method(self, service: str, name: str, request: dict) -> Answer:
        site = self.server.site
        if name != "IntrospectToken":
            self._authenticate()
        method = site.method(service, name)
        if method is None:
            raise ApiError(404, f"The loopback Kaggle has no method {service}/{name}")
        with site.store.lock:
            result = method(request)
        if isinstance(result, str):
            return Answer(302, headers={"Location": result})
        return Answer.of(without_defaults(result))

    def _authenticate(self) -> None:
        if not self.server.site.allows(self.headers.get("Authorization", "")):
            raise ApiError(401, "Unauthenticated")

    def _log(self, owner: str, slug: str, label: str | None = None) -> Answer:
        self._authenticate()
        kernels = self.server.site.kernels
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

    def _upload(self, token: str) -> Answer:
        site = self.server.site
        path, size = site.store.blob_path(token), site.store.state["blobs"][token]["size"]
        wanted = re.fullmatch(
            r"bytes (?:\*|(\d+)-\d+)/(\d+)", self.headers.get("Content-Range", "")
        )
        if wanted and int(wanted[2]) != size:
            raise ApiError(400, f"The upload was announced as {size} bytes, not {wanted[2]}")
        asked = wanted is not None and wanted[1] is None
        start = int(wanted[1]) if wanted and not asked else 0
        self.server.uploading[path] = self
        if start > path.stat().st_size:
            raise ApiError(400, f"Bytes before {start} are missing")
        if not asked:
            self._write(path, start, size)
        here = path.stat().st_size
        if here == size:
            return Answer.of({})
        return Answer(308, headers={"Range": f"bytes=0-{here - 1}"} if here else {})

    def _write(self, path: Path, start: int, end: int) -> None:
        with path.open("r+b") as file:
            file.truncate(start)
            file.seek(start)
            for chunk in self._unread:
                if self.server.uploading[path] is not self:
                    raise ConnectionResetError("the client has begun anew")
                file.write(chunk[: max(0, end - file.tell())])
                file.flush()

    def _drain(self) -> None:
        """Read the rest of the request: a client that still sends would miss the answer."""
        deque(self._unread, maxlen=0)

    def _chunks(self) -> Iterator[bytes]:
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
        self._drain()
        if self._call:
            self._call.status = answer.code
        self.close_connection |= answer.fraction < 1
        if isinstance(answer.body, Path):
            self._send_file(answer)
        elif isinstance(answer.body, bytes):
            self._send_head(answer.code, answer.headers, len(answer.body))
            self.wfile.write(answer.body[: int(len(answer.body) * answer.fraction)])
        else:
            self._send_head(answer.code, answer.headers | {"Transfer-Encoding": "chunked"})
            for part in answer.body:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                if answer.fraction < 1:
                    return
            self.wfile.write(b"0\r\n\r\n")

    def _send_head(self, code: int, headers: Mapping[str, str], length: int | None = None) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send_file(self, answer: Answer) -> None:
        """Send a file, or the range of it that the client still lacks."""
        status = answer.body.stat()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, end = 0, status.st_size
        if wanted:
            start, end = int(wanted[1]), min(end, int(wanted[2] or end - 1) + 1)
        headers = {
            "Content-Type": "application/octet-stream",
            "Last-Modified": email.utils.formatdate(int(status.st_mtime), usegmt=True),
            "Accept-Ranges": "bytes",
        }
        if start and start >= end:
            headers["Content-Range"] = f"bytes */{status.st_size}"
            self._send_head(416, headers, 0)
            return
        if start or end < status.st_size:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{status.st_size}"
        code = 206 if "Content-Range" in headers else 200
        self._send_head(code, headers, end - start if answer.with_length else None)
        left = int((end - start) * answer.fraction)
        with answer.body.open("rb") as file:
            file.seek(start)
            while left > 0 and (chunk := file.read(min(CHUNK, left))):
                self.wfile.write(chunk)
                left -= len(chunk)


def without_defaults(value: Any) -> Any:
    """Return a JSON value as Kaggle tells it: fields that have their default are left out."""
    if isinstance(value, dict):
        return {
            k: without_defaults(v)
            for k, v in value.items()
            if v not in (None, "", 0, False, [], {})
        }
    return [without_defaults(entry) for entry in value] if isinstance(value, list) else value
