"""A loopback Kaggle whose calls can be made to fail: what only tests need of it."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopback.server import Loopback
from loopback.wire import Answer, Handler

KINDS = {
    "status": {"code", "message", "retry_after"},
    "hang": {"seconds"},
    "drop": {"effect"},
    "late": {"seconds"},
    "body": {"body", "code", "content_type", "effect"},
    "merge": {"fields"},
    "partial": {"fraction"},
    "slow": {"rate"},
    "cut": {"fraction", "with_length"},
}
"""The kinds of faults, and the details that each of them takes."""


@dataclass
class Fault:
    """A fault that is still to happen to some calls.

    `times` and `after` count down: how often it still happens, and how many calls pass before.
    """

    call: str
    kind: str
    times: int
    after: int
    details: dict[str, Any] = field(default_factory=dict)


class Faults:
    """The faults that are still to happen, in the order in which they were added."""

    def __init__(self):
        self._pending: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, call: str, kind: str, times: int = 1, after: int = 0, **details: Any) -> None:
        """Make a call fail.

        Args:
            call: a method's name ("SaveKernel"), one of the other calls ("PUT blob", "GET output",
                "GET log", "GET data"), or "*" for any.
            kind: what happens, with its details:
                "status": the answer is an error (`code=500`, `message`, `retry_after` in seconds);
                "hang": no answer comes for `seconds`, or ever, and the connection breaks;
                "drop": the connection breaks; with `effect=True` after the call took effect;
                "late": the true answer comes after `seconds=1`;
                "body": the answer is `body` (a JSON value, text or bytes; `code=200`,
                `content_type`); with `effect=True` the call takes effect;
                "merge": `fields` replace those of the true answer;
                "partial": only `fraction=0.5` of an upload is kept, and the answer is 503;
                "slow": an upload arrives at `rate` bytes a second;
                "cut": the connection breaks after `fraction=0.5` of the true answer's body, or
                after the first part of a stream; with `with_length=False` nothing tells its length.
            times: how many calls fail.
            after: how many matching calls pass before that.
            details: the details of the kind.

        Raises:
            ValueError: there is no such kind, or it does not take such a detail.
        """
        if kind not in KINDS:
            raise ValueError(f"no such kind of fault: {kind!r}; there are {', '.join(KINDS)}")
        unknown = details.keys() - KINDS[kind]
        if unknown:
            raise ValueError(f"a fault of kind {kind!r} takes no {', '.join(sorted(unknown))}")
        with self._lock:
            self._pending.append(Fault(call, kind, times, after, details))

    def clear(self) -> None:
        """Forget all faults that have not happened yet."""
        with self._lock:
            self._pending.clear()

    def left(self) -> list[str]:
        """Return the calls of the faults that have not all happened yet."""
        with self._lock:
            return [fault.call for fault in self._pending]

    def take(self, call: str) -> Fault | None:
        """Return the fault that happens to this call, None when there is none, and count it."""
        with self._lock:
            for fault in self._pending:
                if fault.call not in (call, "*"):
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                fault.times -= 1
                if fault.times == 0:
                    self._pending.remove(fault)
                return fault
        return None


class FaultyHandler(Handler):
    """A connection on which faults happen."""

    def _answer(self, name: str, act: Callable[[], Answer]) -> Answer | None:
        fault = self.server.site.faults.take(name)
        if not fault:
            return self._act(act)
        return getattr(self, f"_fault_{fault.kind}")(act, **fault.details)

    def _fault_late(self, act: Callable[[], Answer], seconds: float = 1) -> Answer:
        self.server.site.closing.wait(seconds)
        return self._act(act)

    def _fault_merge(self, act: Callable[[], Answer], fields: dict) -> Answer:
        answer = self._act(act)
        return Answer.of({**json.loads(answer.body), **fields}, answer.code)

    def _fault_cut(
        self, act: Callable[[], Answer], fraction: float = 0.5, with_length: bool = True
    ) -> Answer:
        answer = self._act(act)
        answer.fraction, answer.with_length = fraction, with_length
        return answer

    def _fault_partial(self, act: Callable[[], Answer], fraction: float = 0.5) -> Answer:
        left, body = int(int(self.headers["Content-Length"]) * fraction), self._unread

        def beginning() -> Iterator[bytes]:
            nonlocal left
            for chunk in body:
                yield chunk[: max(0, left)]
                left -= len(chunk)

        self._unread = beginning()
        self._act(act)
        return Answer.refusal(503, "Only a part of it has arrived")

    def _fault_slow(self, act: Callable[[], Answer], rate: float) -> Answer:
        body = self._unread

        def slowly() -> Iterator[bytes]:
            for chunk in body:
                self.server.site.closing.wait(len(chunk) / rate)
                yield chunk

        self._unread = slowly()
        return self._act(act)

    def _fault_status(
        self,
        act: Callable[[], Answer],
        code: int = 500,
        message: str = "A fault on purpose",
        retry_after: float | None = None,
    ) -> Answer:
        answer = Answer.refusal(code, message)
        if retry_after is not None:
            answer.headers["Retry-After"] = str(retry_after)
        return answer

    def _fault_body(self, act: Callable[[], Answer], effect: bool = False, **made: Any) -> Answer:
        if effect:
            self._act(act)
        return made_up(**made)

    def _fault_drop(self, act: Callable[[], Answer], effect: bool = False) -> None:
        if effect:
            self._act(act)
        self._drain()
        self._reset()

    def _fault_hang(self, act: Callable[[], Answer], seconds: float | None = None) -> None:
        self._drain()
        self.server.site.closing.wait(seconds)
        self._reset()

    def _reset(self) -> None:
        """Break the connection with a reset."""
        self.close_connection = True
        linger_for_no_time = struct.pack("ii", 1, 0)  # closing then sends a reset
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_no_time)
        self.connection.close()


class FaultyLoopback(Loopback):
    """The loopback Kaggle with `faults`."""

    handler = FaultyHandler

    def __init__(self, *arguments, kaggle_errors: int = 0, **settings):
        """Open it; the first `kaggle_errors` scored runs end by Kaggle's own fault."""
        self.faults = Faults()
        super().__init__(*arguments, **settings)
        run_scored, ended = self.kernels.run_scored, []

        def run_or_fail(version: dict, competition: str) -> tuple[Path, str]:
            ended.append(version["number"])
            if len(ended) <= kaggle_errors:
                return self.folder / "none", "Kaggle Error"
            return run_scored(version, competition)

        self.kernels.run_scored = run_or_fail


def made_up(body: Any = "", code: int = 200, content_type: str | None = None) -> Answer:
    """Make an answer of bytes or text as they are, or of another value as JSON."""
    if isinstance(body, str | bytes):
        raw = body.encode() if isinstance(body, str) else body
        return Answer(code, raw, {"Content-Type": content_type or "text/html"})
    answer = Answer.of(body, code)
    if content_type:
        answer.headers["Content-Type"] = content_type
    return answer
