"""The loopback Kaggle scores as scikit-learn does, and shares no code with what it judges."""

import ast
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from kernelkit.core.metrics import METRICS
from loopback import scoring

LABELS = [str(number) for number in range(4)]


def scored(tmp_path, predicted: list[list], truth: list[list], metric: str, columns=("label",)):
    """Return what the loopback says of these rows of values, the score and the problem."""
    files = []
    for name, rows in (("submission", predicted), ("solution", truth)):
        table = pd.DataFrame([[f"{n}.jpg", *row] for n, row in enumerate(rows)])
        files.append(tmp_path / f"{name}.csv")
        table.set_axis(["Id", *columns], axis=1).to_csv(files[-1], index=False)
    return scoring.score_file(*files, metric)


def drawn(photos=60, classes=4):
    """Return probabilities [photos, classes], as a submission holds them, and the classes."""
    rng = np.random.default_rng(7)
    truth = rng.integers(classes, size=photos)
    said = rng.dirichlet(np.ones(classes), photos) + 0.4 * np.eye(classes)[truth]
    return (said / said.sum(1, keepdims=True)).round(6), truth


def expected(metric: str, said: np.ndarray, truth: np.ndarray) -> float:
    best, one_hot = said.argmax(1), np.eye(said.shape[1])[truth]
    order = np.argsort(-said, axis=1)
    return {
        "accuracy": lambda: metrics.accuracy_score(truth, best),
        "macro-f1": lambda: metrics.f1_score(truth, best, average="macro"),
        "micro-f1": lambda: metrics.f1_score(truth, best, average="micro"),
        "kappa": lambda: metrics.cohen_kappa_score(truth, best, weights="quadratic"),
        "log-loss": lambda: metrics.log_loss(truth, said / said.sum(1, keepdims=True)),
        "auc": lambda: metrics.roc_auc_score(truth, said[:, 1]),
        "mean-auc": lambda: metrics.roc_auc_score(one_hot, said, average="macro"),
        "map@5": lambda: np.mean(
            [
                1 / (list(row).index(t) + 1) if t in row[:5] else 0
                for row, t in zip(order, truth, strict=True)
            ]
        ),
    }[metric]()


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_scored_as_by_scikit_learn(tmp_path, metric):
    classes = {"auc": 2, "map@5": 9}.get(metric, 4)
    said, truth = drawn(classes=classes)
    columns, labels = ("label",), [[label] for label in truth]
    if metric in ("accuracy", "macro-f1", "micro-f1", "kappa"):
        predicted = [[best] for best in said.argmax(1)]
    elif metric == "auc":
        predicted = [[row[1]] for row in said]
    elif metric == "map@5":
        predicted = [[" ".join(map(str, row[:5]))] for row in np.argsort(-said, axis=1)]
    else:
        columns = tuple(map(str, range(classes)))
        predicted, labels = said.tolist(), np.eye(classes, dtype=int)[truth].tolist()
    score, problem = scored(tmp_path, predicted, labels, metric, columns)
    assert problem == ""
    assert score == pytest.approx(expected(metric, said, truth), abs=1e-9)
    assert score == pytest.approx(METRICS[metric].score(said, truth), abs=1e-6)  # who is judged


@pytest.mark.parametrize(
    ("metric", "predicted", "truth", "by_hand"),
    [
        ("accuracy", "0 1 2 2", "0 1 2 3", 3 / 4),
        ("macro-f1", "0 0 1 1", "0 1 1 1", (2 / 3 + 4 / 5) / 2),
        ("micro-f1", "0 0 1 1", "0 1 1 1", 3 / 4),
        ("kappa", "0 1 2 4", "0 1 4 4", 1 - 4 / (90 / 4)),  # of numbers with a gap: 3 is missing
        ("kappa", "a a", "a a", 1.0),
        ("auc", "0.9 0.8 0.3 0.1", "1 0 1 0", 3 / 4),
        ("log-loss", "0.8 0.5 0.5 0.2", "1 0 1 0", -(2 * math.log(0.8) + 2 * math.log(0.5)) / 4),
        ("map@5", "a|a+b|c+d+e+f+g+a|a+a+b", "a|b|a|b", (1 + 1 / 2 + 0 + 1 / 2) / 4),
    ],
)
def test_figures_by_hand(tmp_path, metric, predicted, truth, by_hand):
    split = "|" if metric == "map@5" else " "
    told, right = ([[v.replace("+", " ")] for v in t.split(split)] for t in (predicted, truth))
    assert scored(tmp_path, told, right, metric) == (pytest.approx(by_hand), "")


@pytest.mark.parametrize(
    ("metric", "predicted", "truth", "columns", "problem"),
    [
        ("auc", [[2], [0]], [[1], [0]], ("label",), "between 0 and 1"),
        ("auc", [[0.2], [0.3]], [[1], [1]], ("label",), "only one class"),
        ("log-loss", [["dog"], ["cat"]], [[1], [0]], ("label",), "can't be scored"),
        ("mean-auc", [[0.5, 0.5]], [[1, 0]], ("a", "b"), "only one class"),
    ],
)
def test_what_defines_no_score_is_a_problem(tmp_path, metric, predicted, truth, columns, problem):
    score, said = scored(tmp_path, predicted, truth, metric, columns)
    assert score == 0
    assert problem in said


def test_it_imports_nothing_of_what_it_judges():
    tree = ast.parse(Path(scoring.__file__).read_text(encoding="utf-8"))
    named = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    named |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert {name.partition(".")[0] for name in named} == {*("csv", "numpy", "pathlib", "sklearn")}
