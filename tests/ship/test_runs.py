"""Runs are compared on the photos that validated both, and shown as tables."""

import json

import numpy as np
import pytest
from sklearn.metrics import log_loss

from kernelkit.core.contract import ValidationPredictions
from ship.commands.runs import compared, table

CLASSES = ["0", "1", "2"]


def predictions(**photos: str) -> ValidationPredictions:
    """Return predictions of photos, each a label and the class that it is taken for."""
    rows = [[0.6 if name == best else 0.2 for name in CLASSES] for _, best in photos.values()]
    labels = [label for label, _ in photos.values()]
    return ValidationPredictions(list(photos), labels, CLASSES, np.float32(rows))


FIRST = predictions(a="00", b="10", c="11", d="22")
SECOND = predictions(e="00", c="11", b="11", a="01")


def test_runs_are_compared_on_the_photos_that_both_have():
    pair = compared(FIRST, SECOND, "accuracy")
    assert (pair.photos, pair.only_first, pair.only_second) == (3, ["a"], ["b"])
    assert (pair.difference, pair.p, pair.test) == (0.0, 1.0, "exact McNemar test")
    assert compared(FIRST, predictions(x="00"), "accuracy") is None
    assert compared(FIRST, predictions(a="10"), "accuracy") is None  # of another label
    assert compared(FIRST, FIRST, "accuracy").p == 1.0


def test_another_metric_is_compared_photo_by_photo():
    other = predictions(c="11", b="11", a="00")
    pair = compared(FIRST, other, "log-loss")
    truth, before = [0, 1, 1], [[0.6, 0.2, 0.2], [0.6, 0.2, 0.2], [0.2, 0.6, 0.2]]
    after = [[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.6, 0.2]]
    fall = log_loss(truth, after, labels=[0, 1, 2]) - log_loss(truth, before, labels=[0, 1, 2])
    assert pair.difference == pytest.approx(fall, abs=1e-6)
    assert 0 < pair.p < 1
    assert (pair.test, pair.only_second) == ("paired by photo", ["b"])


def test_runs_of_other_classes_are_compared_by_their_accuracy():
    other = ValidationPredictions(["a"], ["0"], ["0", "9"], np.float32([[0.1, 0.9]]))
    pair = compared(FIRST, other, "log-loss")
    assert (pair.difference, pair.test) == (-1.0, "exact McNemar test")


def test_columns_are_aligned_and_empty_ones_are_left_out():
    rows = [{"run": "a", "p": None, "status": "complete"}, {"run": "bc", "score": 0.5}]
    lines = table(rows, ("run", "val", "p", "status")).splitlines()
    assert lines == ["run  val     status", "a            complete", "bc   0.5000"]


def test_the_best_of_scores_of_which_the_lower_is_better(world):
    kernel = world.project / "kernel.py"
    kernel.write_text(kernel.read_text().replace("Layout(\n", 'Layout(\n    metric="log-loss",\n'))
    for number in range(3):  # 9, 8 and 7 of 9 are right, as if that were a loss
        rows = [f"{n}.jpg,{n % 3 if n > 101 + number else (n + 1) % 3}" for n in range(101, 110)]
        (world.project / f"{number}.csv").write_text("\n".join(["Id,Category", *rows]))
        outcome = world.ship("submit", f"{number}.csv")
        assert outcome.status == 0, outcome
    assert "to the best so far 0.88889" in outcome.out
    shown = json.loads(world.ship("runs", "--json").out)["runs"]
    scores = [row["public_score"] for row in shown]
    assert scores == sorted(scores)
