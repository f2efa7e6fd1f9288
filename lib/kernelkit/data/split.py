"""Split the training photos into training and validation, once or in folds."""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from kernelkit.core.problem import Problem

MOST_FOLDS = 20  # the time that stratifying takes grows with the number of folds
MOST_TRIES = 3


def split(train: pd.DataFrame, fraction: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split photos into training and validation, stratified by label, groups kept whole.

    The photos are divided into folds, of which some are held out.

    Args:
        train: columns label and group, as `Competition.train` has them.
        fraction: that of the validation photos, above 0 and up to 0.5. It is met to within 0.015
            where the groups are small; it is exceeded where a class is too small for it.
        seed: of the assignment of groups to folds; the same rows, fraction and seed give the same
            split.

    Returns:
        The training and the validation rows, in the order they had, each with every class; only
        the classes of `only_trained` are not validated.

    Raises:
        Problem: the photos can't be split so.
    """
    if not 0 < fraction <= 0.5:
        raise Problem(
            f"The validation fraction is {fraction}: give a number above 0 and up to 0.5."
        )
    free = free_to_validate(train)
    smallest = free.groupby("label")["group"].nunique()
    for held_out, folds in fold_counts(fraction, smallest.min()):
        for validation in validation_sets(free, held_out, folds, seed):
            held = free.iloc[validation]
            rest = train.drop(held.index)
            if held["label"].nunique() == free["label"].nunique() and whole(rest, train):
                return rest.reset_index(drop=True), held.reset_index(drop=True)
    raise Problem(
        "The photos can't be split so that training and validation both hold every class; class "
        f"{smallest.idxmin()} is the smallest: add photos of it, or raise the limit of photos of a "
        "class."
    )


def divide(train: pd.DataFrame, number: int, seed: int) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Divide photos into folds; return the training and the validation rows of each.

    Every photo validates exactly once, but for those of classes that are only trained (see
    `only_trained`). Folds are stratified by label, groups are kept whole, and every class is in
    every training part; a small class may be missing in a validation part.

    Args:
        train: columns label and group, as `Competition.train` has them.
        number: of folds, from 2 to `MOST_FOLDS`.
        seed: of the assignment of groups to folds; the same rows, number and seed give the same
            folds.

    Raises:
        Problem: the number is out of range, or a class is too small for it.
    """
    if not 2 <= number <= MOST_FOLDS:
        raise Problem(f"The number of folds is {number}: give a number from 2 to {MOST_FOLDS}.")
    free, pairs = free_to_validate(train), []
    for validation in validation_sets(free, 1, number, seed):
        held = free.iloc[validation]
        rest = train.drop(held.index).reset_index(drop=True)
        pairs.append((rest, held.reset_index(drop=True)))
    if not pairs or not all(whole(rest, train) for rest, _ in pairs):
        smallest = free.groupby("label")["group"].nunique()
        raise Problem(
            f"The photos can't be divided into {number} folds so that each training part holds "
            f"every class; class {smallest.idxmin()} is the smallest: ask for fewer --folds, or "
            "add photos of it."
        )
    return pairs


def whole(part: pd.DataFrame, train: pd.DataFrame) -> bool:
    """Tell whether a part has every class."""
    return part["label"].nunique() == train["label"].nunique()


def free_to_validate(train: pd.DataFrame) -> pd.DataFrame:
    """Return the photos that may be held out: a class with only one group of photos is trained.

    The other photos of these groups are trained too, and so may be other classes for want of them.

    Raises:
        Problem: none is left.
    """
    free = train
    while True:
        groups = free.groupby("label")["group"].transform("nunique")
        tied = free["group"].isin(free.loc[groups < 2, "group"])
        if not tied.any():
            break
        free = free[~tied]
    if free.empty:
        raise Problem(
            "No class has two photos that are not near-identical, so none can be held out for "
            "validation: add photos, or raise the limit of photos of a class."
        )
    return free


def only_trained(train: pd.DataFrame) -> list:
    """Return the classes that are too small to validate, in order."""
    return sorted(set(train["label"]) - set(free_to_validate(train)["label"]))


def fold_counts(fraction: float, smallest: int) -> list[tuple[int, int]]:
    """Return the numbers of folds to try, in order: (held out, in all).

    First come a few that give nearly `fraction`: those with no more folds than the smallest class
    has groups (`smallest`) before the others, then fewer folds before more. The rest hold out a
    larger fraction, one fold of fewer and fewer, which is more likely to hold the small classes.
    """
    tolerance = min(0.01, fraction / 10)
    most = max(MOST_FOLDS, round(1 / fraction))
    counts = [(round(fraction * folds), folds) for folds in range(2, most + 1)]
    close = [(held, folds) for held, folds in counts if abs(held / folds - fraction) <= tolerance]
    close.sort(key=lambda count: (count[1] > smallest, count[1]))
    larger = [(1, folds) for folds in range(math.ceil(1 / fraction) - 1, 1, -1)]
    close = close[:MOST_TRIES]
    return close + [count for count in larger if count not in close]


def validation_sets(
    train: pd.DataFrame, held_out: int, folds: int, seed: int
) -> Iterator[np.ndarray]:
    """Yield the sorted row positions of `held_out` consecutive folds, once from each fold on.

    Yields nothing where there are fewer photos than folds. The groups are renumbered at random in
    place of the splitter's own shuffle, which mixes up which group has which labels (scikit-learn's
    pull request 32540) and so does not stratify.
    """
    groups = pd.factorize(train["group"])[0]
    groups = np.random.default_rng(seed).permutation(groups.max() + 1)[groups]
    labels = pd.factorize(train["label"])[0]
    if folds > np.bincount(labels).max() or folds > groups.max() + 1:
        return
    with warnings.catch_warnings():  # about classes smaller than the number of folds
        warnings.simplefilter("ignore", UserWarning)
        parts = [part for _, part in StratifiedGroupKFold(folds).split(train, labels, groups)]
    for first in range(folds):
        chosen = [parts[(first + i) % folds] for i in range(held_out)]
        yield np.sort(np.concatenate(chosen))
