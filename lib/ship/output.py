"""What a command tells: lines for a person, or with --json one JSON object for a program."""

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

FACTS: dict[str, Any] = {}
"""What the command has found out, for --json."""


class _Voice:
    """Where lines go: `results` is where the few go that --quiet leaves; None hides them."""

    quiet = False
    results = None


def say(text: str, result: bool = False) -> None:
    """Print a line for the user without delay; with --quiet only results."""
    print(text, flush=True, file=(_Voice.results or sys.stdout) if result else None)


def tell(**facts: Any) -> None:
    """Add to the JSON object that --json prints."""
    FACTS.update(facts)


def bar(**settings: Any) -> tqdm:
    """Return a progress bar, which shows itself on terminals only and never with --quiet."""
    return tqdm(**{"disable": True if _Voice.quiet else None} | settings)


def interactive() -> bool:
    """Tell whether a line of progress may be drawn."""
    return sys.stderr.isatty() and not _Voice.quiet


@contextlib.contextmanager
def voice(quiet: bool, as_json: bool) -> Iterator[None]:
    """Let the command speak as --quiet and --json ask for, and print its JSON at the end."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a code page lacks most of a log's letters
            stream.reconfigure(errors="replace")
    real = sys.stdout
    FACTS.clear()
    _Voice.quiet, _Voice.results = quiet, None if as_json else real
    others = io.StringIO() if quiet else (sys.stderr if as_json else real)
    with contextlib.redirect_stdout(others):
        yield
    if as_json:
        print(json.dumps(FACTS, default=str), flush=True)
