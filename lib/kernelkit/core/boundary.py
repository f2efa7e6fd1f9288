"""The boundary at which a program turns whatever went wrong into one sentence, on safe streams."""

import contextlib
import errno
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


@dataclass
class Boundary:
    """Runs a program's work: a person gets one sentence, the traceback goes to a file."""

    program: str  # its name, which begins every sentence
    # Gets the traceback of an error that nobody expected; made, parents included, only then. None
    # is a file in the folder for temporary files.
    traceback_file: Path | None = None
    safe: str = ""  # a sentence: what is safe after an error or an interruption, and how to go on
    hide: Callable[[str], str] = str  # takes secrets out of a text before it is printed or written
    # What the program is doing now, as it follows "while": the program keeps it up to date.
    doing: str = "starting"
    running: ClassVar["Boundary | None"] = None  # the one that runs, or ran last

    def run(self, work: Callable[[], object]) -> int:
        """Do the work and return the exit status: 0, 1 after an error, 130 after Ctrl-C."""
        Boundary.running = self
        try:
            work()
            self.remove_traceback()
            return 0
        except (Exception, KeyboardInterrupt) as error:
            return self.end(error)

    def end(self, error: BaseException) -> int:
        """Print the sentence of what ended the program and return its exit status."""
        if isinstance(error, KeyboardInterrupt):
            self.say(f"interrupted while {self.doing}. {self.safe}".rstrip())
            return 130
        if isinstance(error, Problem):
            self.say(str(error))
            return error.exit_status
        self.say(self.explain(error).rstrip())
        return 1

    def remove_traceback(self) -> None:
        """Remove the traceback of an earlier run, but no file of another's."""
        with contextlib.suppress(OSError, UnicodeError):
            if "Traceback (most recent" in self.kept_in.read_text(encoding="utf-8"):
                self.kept_in.unlink()

    @property
    def kept_in(self) -> Path:
        """The file that gets tracebacks."""
        if self.traceback_file:
            return self.traceback_file
        return Path(tempfile.gettempdir(), f"{self.program}-traceback.txt")

    def explain(self, error: BaseException) -> str:
        """Return the sentence for an error that is no Problem; keep its traceback in the file."""
        if isinstance(error, ImportError):
            return (
                f"a package is missing or broken ({type(error).__name__}: {error}): `pip install "
                f"-e .` in the project's folder installs all that {self.program} needs. {self.safe}"
            )
        if isinstance(error, OSError) and not has_current_folder():
            return f"the current folder can't be used ({error.strerror}): change to another one."
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            full = f"the disk of {error.filename} is full" if error.filename else "the disk is full"
            return f"{full} (while {self.doing}): free some space. {self.safe}"
        if isinstance(error, OSError) and error.errno in UNUSABLE and error.filename:
            reason = f"({error.strerror}) while {self.doing}: check the path and its permissions"
            return f"{error.filename} can't be used {reason}. {self.safe}"
        if isinstance(error, MemoryError):
            return f"out of memory while {self.doing}: close other programs. {self.safe}"
        words = " ".join(self.hide(str(error)).split())[:200]
        reason = f"{type(error).__name__}: {words}" if words else type(error).__name__
        text = "".join(traceback.format_exception(error))
        try:
            write_atomically(self.kept_in, self.hide(text))
            where = f"the full traceback is in {self.kept_in}"
        except OSError as failure:
            where = f"its traceback could not be written ({failure.strerror or failure})"
        return f"an unexpected error while {self.doing} ({reason}); {where}. {self.safe}"

    def say(self, sentence: str) -> None:
        """Print a sentence on standard error, without secrets."""
        print(f"{self.program}: {self.hide(sentence)}", file=sys.stderr, flush=True)


def doing(what: str) -> None:
    """Note what the program is doing now, for the sentence about an error."""
    if Boundary.running:
        Boundary.running.doing = what


def has_current_folder() -> bool:
    """Tell whether there is a current folder, which may have been removed or closed."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def guard(program: str) -> None:
    """Protect a program until its boundary runs: from errors in imports, and from its streams.

    Whatever ends it before is one sentence too; its traceback is in the folder for temporary files.
    That folder is also the home of a user who has none, because packages look for their settings.
    """
    make_streams_safe()
    try:
        Path.home()
    except RuntimeError:  # an unknown user without HOME, as in some containers
        os.environ["HOME"] = tempfile.gettempdir()

    def end(_kind: type, error: BaseException, _traceback: object) -> None:
        Boundary(program).end(error)

    sys.excepthook = end


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
