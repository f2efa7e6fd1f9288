"""Splitting the training photos into training and validation."""

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from common import Problem


def split(train: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split photos into training and validation, stratified by label, groups kept whole.

    Args:
        train: columns label and group, as `Competition.train` has them.
        share: that of the validation photos, between 0 and 0.5; rounded to one fold of
            round(1 / share), and raised where a class is too small for that many folds.
        seed: of the shuffle; the same rows, share and seed give the same split.

    Returns:
        The training and the validation rows, in the order they had, each with every class.

    Raises:
        Problem: a class has too few photos, or too few that are not near-identical.
    """
    if not 0 < share <= 0.5:
        raise Problem(f"The validation share is {share}: give a number above 0 and up to 0.5.")
    check_class_sizes(train)
    for folds in range(round(1 / share), 1, -1):
        for validation in validation_folds(train, folds, seed):
            rest = train.drop(train.index[validation])
            held = train.iloc[validation]
            if held["label"].nunique() == rest["label"].nunique() == train["label"].nunique():
                return rest.reset_index(drop=True), held.reset_index(drop=True)
    smallest = train.groupby("label")["group"].nunique().idxmin()
    raise Problem(
        f"The photos can't be split so that training and validation both hold every class; class "
        f"{smallest} is the smallest: add photos of it, or raise the limit of photos of a class."
    )


def check_class_sizes(train: pd.DataFrame) -> None:
    """Raise a Problem for the first class that can't lie on both sides."""
    for label, rows in train.groupby("label"):
        if rows["group"].nunique() < 2:
            photos = f"{len(rows)} photos, all near-identical," if len(rows) > 1 else "1 photo"
            raise Problem(
                f"Class {label} has {photos} and can't be split into training and validation: add "
                "photos of it, remove its rows, or raise the limit of photos of a class."
            )


def validation_folds(train: pd.DataFrame, folds: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the row positions of each fold; none where there are fewer photos than folds.

    The groups are renumbered at random in place of the splitter's own shuffle, which mixes up
    which group has which labels (scikit-learn's pull request 32540) and so does not stratify.
    """
    groups = pd.factorize(train["group"])[0]
    groups = np.random.default_rng(seed).permutation(groups.max() + 1)[groups]
    labels = pd.factorize(train["label"])[0]
    if folds > np.bincount(labels).max() or folds > groups.max() + 1:
        return
    with warnings.catch_warnings():  # of classes smaller than the number of folds
        warnings.simplefilter("ignore", UserWarning)
        for _, validation in StratifiedGroupKFold(folds).split(train, labels, groups):
            yield validation
