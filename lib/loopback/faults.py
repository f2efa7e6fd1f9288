"""Fault injection: any call of the loopback Kaggle can be made to fail."""

import threading
from dataclasses import dataclass, field
from typing import Any

KINDS = {
    "status": {"code", "message", "retry_after"},
    "hang": {"seconds"},
    "drop": {"effect"},
    "late": {"seconds"},
    "body": {"body", "code", "content_type", "effect"},
    "merge": {"fields"},
    "partial": {"fraction"},
    "slow": {"rate"},
    "cut": {"fraction", "told"},
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
                after the first part of a stream; with `told=False` nothing tells its length.
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
