"""What a person sees: whole lines above the progress, and nothing that controls the terminal."""

import random
import re
import time

import pytest

from ship.commands.live_runs import Log
from ship.output import printable
from shipping import until
from terminal import COLOURS, on_terminal, screen

NAME = "car-classification-v1"
HOSTILE = r"""
print("\x1b[31mred\x1b[0m \x1b[2J\x1b[H\x1b]0;a title\x07cleared \u202eright to left", flush=True)
print("one\rover it", flush=True)
"""
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def with_a_hostile_log(world):
    kernel = world.project / "kernel.py"
    text = kernel.read_text()
    kernel.write_text(text.replace("for epoch in (1, 2):", HOSTILE + "for epoch in (1, 2):"))
    return world


@pytest.mark.parametrize("width", [40, 80, 200])
def test_lines_appear_above_the_progress(world, width):
    with_a_hostile_log(world)
    status, written = on_terminal(world, "--set", "seconds=1", width=width)
    assert status == 0, written
    assert f"{NAME} running since" in " ".join(screen_during(written, "running since", width))
    lines = screen(written, width)
    page = f"https://www.kaggle.com/code/alice/car-classification?scriptVersionNumber={NAME[-1]}"
    assert f"following {NAME}: {page} (Ctrl-C leaves it running)" in lines
    for line in (
        f"{NAME}: RUNNING",
        "  | red cleared right to left",
        "  | over it",
        "  | [stage 1/1 all] epoch 2/2  loss 0.5  accuracy 0.6  val_accuracy 0.72  left 0:00:02",
        f"{NAME} is COMPLETE",
    ):
        assert lines.count(line) == 1, lines
    assert not [line for line in lines if "running since" in line]
    assert "\x1b[31mred\x1b[0m" in written


def screen_during(written, words, width):
    """Return the screen right after some words were written."""
    return screen(written[: written.index(words) + len(words)], width)


def test_a_sweep_shows_its_transfers_below_its_state(world):
    status, written = on_terminal(world, "sweep", "seconds=0,1", "--submit", "best", width=80)
    assert status == 0, written
    assert " under way, 0 waiting" in written
    lines = screen(written, 80)
    assert f"{NAME} (seconds=0): COMPLETE" in lines
    assert not [line for line in lines if "under way, " in line or line.startswith("fetch ")]


def test_what_goes_through_a_pipe_is_plain(world):
    with_a_hostile_log(world)
    outcome = world.ship()
    assert outcome.status == 0
    assert "  | red cleared right to left\n  | over it\n" in outcome.out
    assert not FORBIDDEN.search(outcome.out + outcome.err)
    assert "running since" not in outcome.out + outcome.err


def test_a_failure_controls_no_terminal(world):
    world.ship("bundle")
    assert world.ship("push", "--set", "fail=\x1b]0;title\x07\x1b[2Jboom").status == 0
    until(lambda: version_of(world)["status"] == "ERROR")
    words = {"status": "ERROR", "failureMessage": "no\x1b[2J memory\rship: all\nship: is well"}
    world.kaggle.faults.add("GetKernelSessionStatus", "body", body=words)
    outcome = world.ship("follow")
    assert outcome.status == 1
    assert "boom" in outcome.err
    assert not FORBIDDEN.search(outcome.out + outcome.err)
    said = [line for line in outcome.err.splitlines() if line.startswith("ship: ")]
    assert said == [f"ship: {NAME} ended with ERROR: no memory ship: all ship: is well"]


def version_of(world):
    """Return what Kaggle has of the only version of the kernel."""
    [version] = world.kaggle.store.state["kernels"]["alice/car-classification"]["versions"]
    return version


def test_only_colours_stay_of_any_text():
    rng = random.Random(0)
    pieces = [
        "\x1b",
        "\x1b[",
        "\x1b]",
        "\x9b",
        "\x9d",
        "\x90",
        "\x07",
        "\x1b\\",
        "\x9c",
        "31",
        ";",
        "m",
    ]
    pieces += [
        "2J",
        "H",
        "\r",
        "\n",
        "\t",
        "\x08",
        "\x00",
        "\u202e",
        "\u2067",
        "\u200f",
        "word",
        "8",
        " ",
    ]
    for _ in range(3000):
        text = "".join(rng.choices(pieces, k=12))
        assert not FORBIDDEN.search(printable(text)), repr(text)
        coloured = printable(text, colours=True)
        assert not FORBIDDEN.search(COLOURS.sub("", coloured)), repr(text)
        for line in coloured.split("\n"):
            assert "\x1b" not in line or line.endswith("\x1b[0m"), repr(text)


@pytest.mark.parametrize(
    "line",
    [
        "\r 50%|#####     | 10000/20000",
        "ship: session -111",
        "[stage 1/1 ",
        "[stage 1/1 all] epoch 1/2  loss ",
        "\x1b]",
        "\x9d0;",
        "\x1b[31",
    ],
)
def test_no_line_of_a_log_takes_long(line, capsys):
    log, began = Log(), time.process_time()
    for _ in range(20_000):
        log.add(line)
    log.add("\n")
    assert time.process_time() - began < 2
    assert capsys.readouterr().out.startswith("  | ")
