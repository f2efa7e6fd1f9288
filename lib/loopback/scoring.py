"""Scores a submission by its competition's metric, with scikit-learn alone.

The project's own metrics are what this checks, so they are not used. scikit-learn is imported where
it is needed, since starting the server does without.
"""

import csv
from pathlib import Path

Rows = list[list[str]]
OF_PROBABILITIES = ("log-loss", "auc", "mean-auc")
TOP = 5  # of MAP@5


def score_file(submission: Path, solution: Path, metric: str = "accuracy") -> tuple[float, str]:
    """Return a submission's score and what is wrong with the file, "" when nothing is.

    Args:
        submission: as it was uploaded.
        solution: the truth in the same columns: labels, or ones and zeros for probabilities.
        metric: "accuracy", "macro-f1", "micro-f1", "kappa", "map@5" or one of `OF_PROBABILITIES`.
    """
    truth_header, truth = _read_table(solution)
    try:
        header, predicted = _read_table(submission)
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
        return 0.0, f"The submission can't be read as CSV: {error}"
    if header != truth_header:
        return 0.0, f"The columns must be {', '.join(truth_header)}, not {', '.join(header)}"
    keys = [row[0] for row in predicted]
    if len(set(keys)) != len(keys):
        return 0.0, f"The column {header[0]} holds a value twice"
    if len(keys) != len(truth):
        return 0.0, f"The submission must have {len(truth)} rows, but has {len(keys)}"
    values = {row[0]: row[1:] for row in predicted}
    missing = [row[0] for row in truth if row[0] not in values]
    if missing:
        return 0.0, f"{len(missing)} required values are missing in the column {header[0]}"
    if not all(all(row) for row in values.values()):
        return 0.0, f"The column {header[1]} holds empty values"
    ordered = [values[row[0]] for row in truth]
    try:
        return score(ordered, [row[1:] for row in truth], metric), ""
    except ValueError as error:
        return 0.0, f"The submission can't be scored: {error}"


def score(predicted: Rows, truth: Rows, metric: str) -> float:
    """Return the score of the values behind the Ids, in the solution's order and columns.

    Raises ValueError where a value is no probability, or the truth does not define the score.
    """
    import numpy as np

    if metric == "map@5":
        return _average_precision(predicted, truth)
    if len(truth[0]) == 1 and metric not in OF_PROBABILITIES:
        return _score_labels([row[0] for row in predicted], [row[0] for row in truth], metric)
    scores, actual = _probabilities_of(predicted), _probabilities_of(truth)
    if scores.shape[1] == 1:
        scores, actual = (np.hstack([1 - one, one]) for one in (scores, actual))
    if metric in OF_PROBABILITIES:
        return _score_probabilities(scores, actual, metric)
    return _score_labels(*(list(map(str, one.argmax(1))) for one in (scores, actual)), metric)


def _probabilities_of(rows: Rows):
    """Return rows of values as float64 [rows, columns]; ValueError where one is not in 0..1."""
    import numpy as np

    values = np.asarray(rows, float)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a value is not between 0 and 1")
    return values


def _score_labels(predicted: list[str], truth: list[str], metric: str) -> float:
    from sklearn import metrics

    if metric == "accuracy":
        return float(metrics.accuracy_score(truth, predicted))
    if metric == "kappa":
        return _kappa(predicted, truth)
    average = metric.removesuffix("-f1")
    return float(metrics.f1_score(truth, predicted, average=average, zero_division=0))


def _kappa(predicted: list[str], truth: list[str]) -> float:
    """Return quadratic kappa; whole numbers are as far apart as they are, also with gaps."""
    from sklearn.metrics import cohen_kappa_score

    if predicted == truth:
        return 1.0  # scikit-learn divides by 0 where there is only one class
    known = {*predicted, *truth}
    if all(label.isdecimal() for label in known):
        predicted, truth = ([int(label) for label in one] for one in (predicted, truth))
        labels = list(range(max(map(int, known)) + 1))
    else:
        labels = sorted(known)
    return float(cohen_kappa_score(truth, predicted, labels=labels, weights="quadratic"))


def _score_probabilities(scores, actual, metric: str) -> float:
    """Return log loss or AUC of probabilities [rows, classes]; `actual` holds ones and zeros."""
    import numpy as np
    from sklearn import metrics

    if metric == "log-loss":
        sums = scores.sum(1, keepdims=True)
        scaled = np.divide(
            scores, sums, out=np.full_like(scores, 1 / scores.shape[1]), where=sums > 0
        )
        return float(metrics.log_loss(actual.argmax(1), scaled, labels=range(scores.shape[1])))
    defined = actual.any(0) & ~actual.all(0)  # a class of none or all of the rows has no curve
    if not defined.any():
        raise ValueError("the solution holds only one class")
    if scores.shape[1] == 2:
        return float(metrics.roc_auc_score(actual[:, 1], scores[:, 1]))
    return float(metrics.roc_auc_score(actual[:, defined], scores[:, defined], average="macro"))


def _average_precision(predicted: Rows, truth: Rows) -> float:
    """Return the mean of 1 / rank of each row's class, 0 where it is none of the best five."""
    import numpy as np

    named = [list(dict.fromkeys(row[0].split())) for row in predicted]
    actual = [row[0] for row in truth]
    if len(truth[0]) > 1:  # probabilities: the columns are ranked
        named = np.argsort(-_probabilities_of(predicted), axis=1, kind="stable").tolist()
        actual = _probabilities_of(truth).argmax(1).tolist()
    rows = zip(named, actual, strict=True)
    return float(np.mean([1 / (best.index(c) + 1) if c in best[:TOP] else 0.0 for best, c in rows]))


def _read_table(path: Path) -> tuple[list[str], Rows]:
    """Return the header and the rows of a CSV file.

    Raises ValueError where it is empty, or a row has not as many values as the header, or one.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [[value.strip() for value in row] for row in csv.reader(file) if row]
    if not rows:
        raise ValueError("it is empty")
    width = max(2, len(rows[0]))
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            raise ValueError(f"line {number} has {len(row)} values instead of {width}")
    return rows[0], rows[1:]
