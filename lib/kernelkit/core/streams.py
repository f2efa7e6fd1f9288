"""Standard output and error on which a line can always be printed."""

import contextlib
import io
import os
import sys


class SafeStream:
    """A text stream that goes quiet where nobody can read it any more, as after `| head -1`."""

    def __init__(self, stream: io.TextIOWrapper):
        self.stream = stream

    def __getattr__(self, name: str):
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write a text, or drop it where the stream is closed; return its length."""
        try:
            return self.stream.write(text)
        except (OSError, ValueError):
            self.silence()
            return len(text)

    def flush(self) -> None:
        """Flush what was written, or drop it where the stream is closed."""
        try:
            self.stream.flush()
        except (OSError, ValueError):
            self.silence()

    def silence(self) -> None:
        """Let all further output vanish, also what Python flushes when it ends."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


def make_streams_safe() -> None:
    """Let no print end this program: streams escape letters they lack, and ignore a lost reader."""
    descriptor = 0
    while descriptor <= 2:  # a closed one would else be taken by the next file that is opened
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, SafeStream(stream))
