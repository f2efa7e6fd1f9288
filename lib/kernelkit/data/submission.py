"""The shape of a submission: labels, one probability, a column a class, or the k best."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kernelkit.core.problem import Problem
from kernelkit.data.layout import Layout
from kernelkit.data.names import WAYS_OF_LABELS, Spellings

DIGITS = 9  # significant ones, which tell all float32 apart


def fill(
    sample: pd.DataFrame, layout: Layout, classes: Sequence, probabilities: np.ndarray
) -> pd.DataFrame:
    """Return a submission: the sample's rows and columns, with what the network says.

    Args:
        sample: the sample submission.
        layout: says what is submitted.
        classes: the labels in the order of the columns of `probabilities`.
        probabilities: float [rows of the sample, classes].
    """
    names = np.asarray(classes)
    if layout.submission == "label":
        return sample.assign(**{sample.columns[1]: names[probabilities.argmax(1)]})
    if layout.submission == "best":
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : layout.k]
        cells = [" ".join(map(str, names[row])) for row in order]
        return sample.assign(**{sample.columns[1]: cells})
    if layout.submission == "probability":
        position = positive_position(layout, classes)
        return sample.assign(**{sample.columns[1]: written(probabilities[:, position])})
    columns = class_columns(sample, classes)
    values = {
        name: written(probabilities[:, columns[name]]) if name in columns else "0"
        for name in sample.columns[1:]
    }
    return sample.assign(**values)


def written(probabilities: np.ndarray) -> list[str]:
    """Return probabilities as text, with as many digits as they have."""
    return [f"{value:.{DIGITS}g}" for value in probabilities]


def check_form(sample: pd.DataFrame, layout: Layout, classes: Sequence) -> None:
    """Check before training that the classes fit the submission.

    Raises:
        Problem: they don't.
    """
    if layout.submission == "probability":
        positive_position(layout, classes)
    if layout.submission == "probabilities":
        columns = class_columns(sample, classes)
        if empty := [name for name in sample.columns[1:] if name not in columns]:
            print(
                f"{layout.sample_csv} has columns of classes without training photos, which get "
                f"the probability 0: {', '.join(empty)}"
            )


def positive_position(layout: Layout, classes: Sequence) -> int:
    """Return the position of the class whose probability is submitted.

    Raises:
        Problem: there are not two classes, or it is none of them.
    """
    named = layout.positive or ("1" if {str(name) for name in classes} == {"0", "1"} else "")
    position = Spellings(map(str, classes), WAYS_OF_LABELS).find(named)[0]
    if len(classes) != 2 or len(position) != 1:
        raise Problem(
            f"The submission is the probability of one of two classes, but positive={named!r} and "
            f"the classes are {', '.join(map(str, classes))}: name one of two in COMPETITION's "
            "positive, or another submission."
        )
    return position[0]


def class_columns(sample: pd.DataFrame, classes: Sequence) -> dict[str, int]:
    """Return the position of the class of each column of the sample submission that has one.

    Raises:
        Problem: a class has no column.
    """
    spellings = Spellings(sample.columns[1:], WAYS_OF_LABELS)
    columns = {}
    for position, name in enumerate(classes):
        column = spellings.only(str(name))
        if column is None or column in columns:
            raise Problem(
                f"The sample submission has no column for the class {name}; its columns are "
                f"{', '.join(sample.columns[:9])}: is the block's label right?"
            )
        columns[column] = position
    return columns
