"""Scores a submission by its competition's metric, as the row of METRICS computes it."""

import csv
from collections.abc import Sequence
from pathlib import Path

Table = tuple[list[str], list[list[str]]]


def score_file(submission: Path, solution: Path, metric: str = "accuracy") -> tuple[float, str]:
    """Return a submission's score and what is wrong with the file, "" when nothing is.

    Args:
        submission: as it was uploaded.
        solution: the truth in the same columns: labels, or ones and zeros for probabilities.
        metric: the row of METRICS.
    """
    truth_header, truth = read_table(solution)
    try:
        header, predicted = read_table(submission)
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


def score(predicted: Sequence, truth: Sequence, metric: str) -> float:
    """Return the score of rows of values against those of the solution.

    Raises:
        ValueError: a value is no probability.
    """
    import numpy as np

    from inference.scores import METRICS  # imports scikit-learn, which starting does without

    of_class = METRICS[metric]
    if len(truth[0]) > 1 or metric in ("auc", "log-loss"):
        said, right = np.asarray(predicted, float), np.asarray(truth, float)
        if not ((said >= 0) & (said <= 1)).all():
            raise ValueError("a value is not between 0 and 1")
        if len(truth[0]) == 1:
            said, right = (np.hstack([1 - one, one]) for one in (said, right))
        sums = said.sum(1, keepdims=True)
        scaled = said / np.where(sums > 0, sums, 1) if metric == "log-loss" else said
        return of_class.score(scaled, right.argmax(1))
    labels = [row[0] for row in truth]
    ranked = [row[0].split() if metric == "map@5" else [row[0]] for row in predicted]
    known = {*labels, *(word for words in ranked for word in words)}
    classes = sorted(known, key=lambda word: (not word.isdecimal(), word.zfill(9)))
    position = {word: number for number, word in enumerate(classes)}
    said = np.zeros((len(labels), len(classes)))
    for row, words in enumerate(ranked):
        for place, word in enumerate(words):
            said[row, position[word]] = max(said[row, position[word]], 1 / (place + 1))
    return of_class.score(said, np.asarray([position[label] for label in labels]))


def read_table(path: Path) -> Table:
    """Return the header and the rows of a CSV file, all of the same number of columns.

    Raises:
        ValueError: the file is empty, or a row has more or fewer values than the header, or fewer
            than two.
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
