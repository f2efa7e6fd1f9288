"""Faults on purpose: any call of the loopback Kaggle can be made to go wrong."""

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
    "partial": {"share"},
    "cut": {"share"},
}
"""What each kind of fault is told about itself."""


@dataclass
class Fault:
    """One thing that shall go wrong: the calls it waits for, and how often it still happens."""

    call: str
    kind: str
    times: int
    after: int
    details: dict[str, Any] = field(default_factory=dict)


class Faults:
    """The faults that are still to come, first come first served."""

    def __init__(self):
        self._pending: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, call: str, kind: str, times: int = 1, after: int = 0, **details: Any) -> None:
        """Make a call fail.

        Args:
            call: a method's name ("SaveKernel"), one of the other calls ("PUT blob", "GET output",
                "GET log", "GET data"), or "*" for any.
            kind: "status" (`code=500`, `message`, `retry_after` in seconds), "hang" (`seconds`;
                for good without), "drop" (the connection breaks; with `effect=True` only after the
                call took effect), "late" (`seconds=1`), "body" (`body`: JSON value, text or bytes;
                `code=200`, `content_type`, `effect=False`), "merge" (`fields` overwrite those of
                the true answer), "partial" (a PUT of which only `share=0.5` is kept, answered 503),
                "cut" (the connection breaks after `share=0.5` of the true answer's body, or the
                first part of a stream).
            times: how many calls fail.
            after: how many matching calls pass before that.
            details: as named above for each kind.

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
        """Return the fault that happens to this call, and count it down."""
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
