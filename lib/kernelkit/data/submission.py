"""The shape of a submission: labels, one probability, a column a class, or the k best."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from kernelkit.core.problem import Problem
from kernelkit.data.layout import Layout
from kernelkit.data.names import LABEL_KEYS, Spellings, without_prefix

DIGITS = 9  # significant ones, which tell all float32 apart


def fill(
    sample: pd.DataFrame, layout: Layout, classes: Sequence, probabilities: np.ndarray
) -> pd.DataFrame:
    """Return the sample submission filled in by float probabilities [its rows, classes]."""
    names, column = np.asarray(classes), sample.columns[1]
    if layout.submission == "label":
        return sample.assign(**{column: names[probabilities.argmax(1)]})
    if layout.submission == "best":
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : layout.k]
        return sample.assign(**{column: [" ".join(map(str, names[row])) for row in order]})
    if layout.submission == "probability":
        positions = {column: _positive_position(layout, classes)}
    else:
        positions = _class_columns(sample, classes)
    values = {
        name: [f"{value:.{DIGITS}g}" for value in probabilities[:, positions[name]]]
        if name in positions
        else "0"
        for name in sample.columns[1:]
    }
    return sample.assign(**values)


def check_form(sample: pd.DataFrame, layout: Layout, classes: Sequence) -> None:
    """Check that the classes fit the submission; print its columns without training photos.

    Raises Problem if they do not.
    """
    if layout.submission == "probability":
        _positive_position(layout, classes)
    if layout.submission == "probabilities":
        columns = _class_columns(sample, classes)
        if empty := [name for name in sample.columns[1:] if name not in columns]:
            print(
                f"{layout.sample_csv} has columns of classes without training photos, which get "
                f"the probability 0: {', '.join(empty)}"
            )


def _positive_position(layout: Layout, classes: Sequence) -> int:
    named = layout.positive or ("1" if {str(name) for name in classes} == {"0", "1"} else "")
    position = Spellings(map(str, classes), LABEL_KEYS).find(named)[0]
    if len(classes) != 2 or len(position) != 1:
        raise Problem(
            f"The submission is the probability of one of two classes, but positive={named!r} and "
            f"the classes are {', '.join(map(str, classes))}: name one of two in COMPETITION's "
            "positive, or another submission."
        )
    return position[0]


def _spaced(name: str) -> str:
    """Return a name with single spaces in place of what may stand for them between words."""
    return re.sub(r"(?<=\w)[\s_-]+(?=[^\W_])", " ", name.strip()).casefold()


def _class_columns(sample: pd.DataFrame, classes: Sequence) -> dict[str, int]:
    """Return the position of the class of each column of the sample submission that has one.

    Where not all classes have one, the columns may have a prefix: prob_cat, prob_dog.
    """
    names, columns = list(sample.columns[1:]), {}
    for spelt in (names, without_prefix(names)):
        known = Spellings(spelt, (*LABEL_KEYS, _spaced))
        found = [known.only(str(name)) for name in classes]
        if None not in found:
            break
    for position, (name, short) in enumerate(zip(classes, found, strict=True)):
        column = None if short is None else names[spelt.index(short)]
        if column is None or column in columns:
            raise Problem(
                f"The sample submission has no column for the class {name}; its columns are "
                f"{', '.join(sample.columns[:9])}: is the block's label right?"
            )
        columns[column] = position
    return columns
