"""What a command prints: lines and progress for a person, or with --json one object for a program.

Nothing else in `ship` writes to the terminal. While progress is shown, lines appear above it.
"""

import contextlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from kernelkit.core.boundary import make_streams_safe
from ship.kaggle.credentials import mapped, whole, without_secrets
from ship.kaggle.response_schemas import loads

if TYPE_CHECKING:
    from rich.console import Console

# Every quantifier is possessive (it gives nothing back), so that no text takes more than one pass.
CONTROLS = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]{0,40}+m)"
    r"|(?P<return>\r(?!\n))"
    r"|(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]?"  # the cursor, the screen, modes
    # Titles, links and the like: a string and its end. Without an end it is shown as text.
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])(?:[^\x00-\x1f\x7f-\x9f]*+(?:\x07|\x1b\\|\x9c))?"
    r"|\x1b[ -/]*+[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    r"|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # marks that turn the direction of writing
)
RESET = "\x1b[0m"


@dataclass
class _Output:
    quiet: bool = False
    results: TextIO | None = None  # for the lines that --quiet leaves; None with --json
    facts: dict[str, Any] = field(default_factory=dict)  # the object of --json
    console: "Console | None" = None  # the terminal, as soon as progress was shown on it
    printed: float = field(default_factory=time.monotonic)  # when the last line was


_output = _Output()


def printable(text: str, colours: bool = False) -> str:
    """Return a text without what would control a terminal: only colours may stay.

    A carriage return inside a line becomes a blank.
    """

    def kept(found: re.Match) -> str:
        if found["colour"]:
            return found["colour"] if colours else ""
        return " " if found["return"] else ""

    lines = CONTROLS.sub(kept, text).split("\n")
    return "\n".join(line + RESET if "\x1b" in line else line for line in lines)


def in_colour(stream: Any) -> bool:
    """Tell whether a stream is a terminal that shows colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(text: str, result: bool = False) -> None:
    """Print a line for the user without delay; with --quiet only results."""
    _output.printed = time.monotonic()
    if _output.console:
        from rich.text import Text

        _output.console.print(Text.from_ansi(printable(text, colours=True)), soft_wrap=True)
    else:
        stream = (_output.results or sys.stdout) if result else sys.stdout
        print(printable(text, in_colour(stream)), flush=True, file=stream)


def silence() -> float:
    """Return for how many seconds nothing was printed."""
    return time.monotonic() - _output.printed


def emit_json(**facts: Any) -> None:
    """Add to the JSON object that --json prints at the end."""
    _output.facts |= facts


def _terminal() -> "Console | None":
    """Return the terminal on which lines appear, None where they go elsewhere.

    There progress could not be kept apart from them, as in `ship | tee log`.
    """
    if _output.console is None and not _output.quiet and sys.stdout.isatty():
        from rich.console import Console  # takes a tenth of a second

        class Terminal(Console):
            """A console that leaves the cursor visible, for a process that is killed or stopped."""

            def show_cursor(self, show: bool = True) -> bool:
                return False

        console = Terminal(file=sys.stdout)
        _output.console = console if console.is_interactive else None
    return _output.console


@contextlib.contextmanager
def progress_lines() -> Iterator[Callable[[str], None]]:
    """Show lines of progress below all others; give the function that changes them."""
    if (console := _terminal()) is None:
        yield lambda text: None
        return
    from rich.live import Live
    from rich.text import Text

    def change(text: str) -> None:
        _output.printed = time.monotonic()
        live.update(Text(printable(text)))

    with Live(console=console, transient=True) as live:
        yield change


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[..., None]]:
    """Show how many bytes of a transfer are done; `what` names it before the bar.

    Gives a function of the bytes that are done, of all bytes (None while unknown), and of another
    name from now on.
    """
    if (console := _terminal()) is None:
        yield lambda done, total, what="": None
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(20),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(compact=True),
    )
    shown = columns if console.width >= 70 else columns[:1] + columns[2:3]
    with progress.Progress(*shown, console=console, transient=True) as bar:
        task = bar.add_task(printable(what), total=None, visible=False)

        def advance(done: int, total: int | None, what: str = "") -> None:
            named = {"description": printable(what)} if what else {}
            bar.update(task, completed=done, total=total or None, visible=True, **named)

        yield advance


class _Hiding:
    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(without_secrets(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def output(quiet: bool, as_json: bool) -> Iterator[None]:
    """Print a command's lines as --quiet and --json ask for, without secrets, and its JSON last."""
    global _output
    make_streams_safe()
    for stream in (sys.stdout, sys.stderr):  # a bar of blocks is readable as question marks alone
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    stdout, stderr = _Hiding(sys.stdout), _Hiding(sys.stderr)
    _output = _Output(quiet, None if as_json else stdout)
    others = io.StringIO() if quiet else (stderr if as_json else stdout)
    with contextlib.redirect_stdout(others), contextlib.redirect_stderr(stderr):
        yield
    if as_json:
        facts = loads(json.dumps(_output.facts, default=str))  # without NaN and other types
        facts = mapped(facts, lambda text: without_secrets(whole(text)))
        print(json.dumps(facts), flush=True, file=stdout)
