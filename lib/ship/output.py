"""What a command tells: lines and progress for a person, or with --json one object for a program.

Nothing else in `ship` writes to the terminal. While progress is shown, lines appear above it.
"""

import contextlib
import io
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from kernelkit.core.streams import make_streams_safe
from ship.kaggle.credentials import whole, without_secrets

if TYPE_CHECKING:
    from rich.console import Console

FACTS: dict[str, Any] = {}
"""What the command has found out, for --json."""

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


class _Voice:
    """Where lines go: `results` is where the few go that --quiet leaves; None hides them."""

    quiet = False
    results = None
    console: "Console | None" = None
    """The terminal, as soon as progress was shown on it."""
    said = 0.0
    """When the last line was said, in seconds of the monotonic clock."""


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
    _Voice.said = time.monotonic()
    stream = (_Voice.results or sys.stdout) if result else sys.stdout
    if _Voice.console:
        from rich.text import Text

        _Voice.console.print(Text.from_ansi(printable(text, colours=True)), soft_wrap=True)
    else:
        print(printable(text, in_colour(stream)), flush=True, file=stream)


def silence() -> float:
    """Return for how many seconds nothing was said."""
    return time.monotonic() - _Voice.said


def tell(**facts: Any) -> None:
    """Add to the JSON object that --json prints."""
    FACTS.update(facts)


def terminal() -> "Console | None":
    """Return the terminal on which lines appear, None where progress can't be drawn between them.

    So that progress never mixes with lines on their way through a pipe, as in `ship | tee log`, it
    is drawn only where the lines themselves go to a terminal.
    """
    if _Voice.console is None and not _Voice.quiet and sys.stdout.isatty():
        from rich.console import Console  # takes a tenth of a second

        class Terminal(Console):
            """A console that leaves the cursor visible, for a process that is killed or stopped."""

            def show_cursor(self, show: bool = True) -> bool:
                return False

        console = Terminal(file=sys.stdout)
        _Voice.console = console if console.is_interactive else None
    return _Voice.console


@contextlib.contextmanager
def progress_lines() -> Iterator[Callable[[str], None]]:
    """Show lines of progress below all others; give the function that changes them.

    Where there is no terminal nothing is shown.
    """
    if (console := terminal()) is None:
        yield lambda text: None
        return
    from rich.live import Live
    from rich.text import Text

    def change(text: str) -> None:
        _Voice.said = time.monotonic()
        live.update(Text(printable(text)))

    with Live(console=console, transient=True) as live:
        yield change


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[..., None]]:
    """Show how many bytes of a transfer are done.

    Args:
        what: names the transfer before the bar.

    Yields:
        A function of the bytes that are done and of all bytes (None while unknown), and of another
        name from now on.
    """
    if (console := terminal()) is None:
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


class Hiding:
    """A stream of text that replaces the secrets in whatever is written to it."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text without its secrets."""
        return self._stream.write(without_secrets(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def hiding() -> Iterator[None]:
    """Let no secret reach standard output or standard error."""
    streams = Hiding(sys.stdout), Hiding(sys.stderr)
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        yield


def plain(value: Any) -> Any:
    """Return a value as JSON that every program can read: without NaN, halves of letters, secrets.

    What JSON does not know becomes text.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {plain(str(name)): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return without_secrets(whole(str(value)))


@contextlib.contextmanager
def voice(quiet: bool, as_json: bool) -> Iterator[None]:
    """Let the command speak as --quiet and --json ask for, and print its JSON at the end."""
    make_streams_safe()
    for stream in (sys.stdout, sys.stderr):  # a bar of blocks is readable as question marks alone
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    real = sys.stdout
    FACTS.clear()
    _Voice.said = time.monotonic()
    _Voice.quiet, _Voice.results, _Voice.console = quiet, None if as_json else real, None
    others = io.StringIO() if quiet else (sys.stderr if as_json else real)
    with contextlib.redirect_stdout(others):
        yield
    if as_json:
        print(json.dumps(plain(FACTS), allow_nan=False), flush=True)
