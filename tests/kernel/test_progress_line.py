"""The progress line that the kernel prints is the one that `ship follow` reads."""

import dataclasses
import math

import pytest

from kernelkit.core.progress import EpochProgress, clock_text
from ship.commands.live_runs import Log

HALF = EpochProgress(2, 4, "half", 3, 12, 0.412, 0.881, 0.912, 118, "0:12:34")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stage": "the upper half"},
        {"stage": "three-quarters (0.75)"},
        {"number": 10, "stages": 12, "epoch": 100, "epochs": 100},
        {"left": clock_text(math.inf)},
        {"left": clock_text(90_061)},
        {"left": clock_text(3 * 86_400)},
        {"left": "0:00:00", "val_accuracy": 1.0, "loss": 0.0, "images_per_second": 12_345.0},
        {"loss": math.inf},
        {"metric": "log-loss", "score": 0.4125},
        {"metric": "map@5", "score": 1.0},
    ],
)
def test_a_line_is_read_as_it_was_written(changes):
    progress = dataclasses.replace(HALF, **changes)
    assert EpochProgress.parse(progress.line()) == progress


def test_times_over_a_day_and_infinite_ones_are_written_out():
    assert clock_text(90_061) == "1 day, 1:01:01"
    assert clock_text(3 * 86_400) == "3 days, 0:00:00"
    assert clock_text(math.inf) == clock_text(math.nan) == "-"


def test_values_that_are_no_numbers_come_back_as_such():
    unknown = EpochProgress(1, 1, "all", 1, 2)
    read = EpochProgress.parse(unknown.line())
    values = (read.loss, read.accuracy, read.val_accuracy, read.images_per_second)
    assert all(map(math.isnan, values))
    assert (read.stage, read.epoch, read.left) == ("all", 1, "-")


def test_a_line_may_stand_after_a_progress_bar():
    assert EpochProgress.parse("100%|#####| 3/3\r" + HALF.line()) == HALF


@pytest.mark.parametrize(
    "text",
    [
        "",
        "epoch 3/12  loss 0.412",
        "[stage 2/4 half] 3/12",
        "[stage 2/4] epoch 3/12",
        "[stage two/4 half] epoch 3/12",
        "[stage 2/4 half] epoch 3/12  loss nothing  accuracy 0.5",
        "stage 2/4 half, epoch 3/12, val_accuracy 0.912",
    ],
)
def test_other_lines_tell_no_progress(text):
    assert EpochProgress.parse(text) is None


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "stage 2/4 half, epoch 3/12, val_accuracy 0.912, left 0:12:34"),
        ({"left": "-"}, "stage 2/4 half, epoch 3/12, val_accuracy 0.912"),
        (
            {"left": "-", "metric": "auc", "score": 0.98765},
            "stage 2/4 half, epoch 3/12, val_accuracy 0.912, val_auc 0.9877",
        ),
        ({"left": "1 day, 1:01:01", "val_accuracy": math.nan}, "stage 2/4 half, epoch 3/12"),
    ],
)
def test_follow_shows_the_progress_in_short(changes, shown, capsys):
    log = Log()
    log.add(dataclasses.replace(HALF, **changes).line() + "\nanother line\n")
    assert log.progress.startswith(shown)
    assert ("left 1 day, 1:01:01" in log.progress) == ("1 day" in changes.get("left", ""))
