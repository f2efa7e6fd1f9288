"""A terminal for the tests: what a program writes to it, and the lines that it then shows."""

import contextlib
import os
import re
import subprocess

from shipping import World

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
SEQUENCES = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(.)", re.DOTALL)


def on_terminal(world: World, *arguments: str, width: int = 80, **changes: str) -> tuple[int, str]:
    """Run `ship` on a terminal; return its exit status, and all that it wrote there."""
    import pty
    import termios

    terminal, other_end = pty.openpty()
    termios.tcsetwinsize(other_end, (24, width))
    sizes = {"COLUMNS": None, "LINES": None}  # of the terminal in which the tests run
    kind = {"TERM": "xterm-256color", "NO_COLOR": None, **sizes, **changes}
    process = world.start(*arguments, stdout=other_end, stderr=subprocess.STDOUT, **kind)
    os.close(other_end)
    written = b""
    with contextlib.suppress(OSError):  # the terminal is closed
        while some := os.read(terminal, 9999):
            written += some
    os.close(terminal)
    return process.wait(), written.decode()


def screen(written: str, width: int) -> list[str]:
    """Return the lines that a terminal of endless height shows at last.

    What the terminal has broken into several rows is one line again. Of the sequences that control
    it only those are known by which `rich` redraws its lines.
    """
    rows, broken, row, column = [""], set(), 0, 0
    for code, kind, letter in SEQUENCES.findall(COLOURS.sub("", written)):
        if letter == "\r":
            column = 0
        elif letter == "\n":
            row += 1
        elif letter:
            assert letter.isprintable(), repr(letter)
            if column == width:
                row, column = row + 1, 0
                broken.add(row)
            rows += [""] * (row + 1 - len(rows))
            rows[row] = f"{rows[row][:column]:<{column}}{letter}{rows[row][column + 1 :]}"
            column += 1
        elif kind == "A":
            row = max(0, row - int(code or 1))
        else:
            assert (code, kind) == ("2", "K"), (code, kind)
            rows[row] = ""
            broken.discard(row)
        rows += [""] * (row + 1 - len(rows))
    lines: list[str] = []
    for number, text in enumerate(rows):
        if number in broken:
            lines[-1] += text
        else:
            lines.append(text)
    return [line.rstrip() for line in lines]
