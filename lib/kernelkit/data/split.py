"""Split the training photos into training and validation, once or in folds."""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from kernelkit.core.problem import Problem

MOST_FOLDS = 20  # the time that stratifying takes grows with the number of folds
MOST_TRIES = 3
MANY_CLASSES = 1000  # from which on stratifying groups of several labels takes minutes
# Photos that validate well enough without some small classes: more are not held out for their sake.
ENOUGH_HELD = 100
ENOUGH_OF_CLASS = 2  # photos of a class in the fraction, with which the class must validate
MOST_HELD = 0.6  # of the photos, where any other division holds less
MOST_VALIDATED = 0.9  # of the classes, below which no other folds are tried


def split(train: pd.DataFrame, fraction: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split photos into training and validation, stratified by label, groups kept whole.

    Some of several folds are held out. Both parts keep the order of rows. Every class trains, and
    all with several groups of photos validate. The `fraction` of the validation photos, up to 0.5,
    is met to within 0.015 where the groups are small. Where a class is too small for that, either
    the fraction is exceeded, or, where it makes enough photos, some small classes do not validate.
    Raises Problem if the photos can't be split so.
    """
    free, most = _free_to_validate(train), MOST_HELD * len(train)
    smallest = free.groupby("label")["group"].nunique()
    without_some = too_large = None
    for held_out, folds in _fold_counts(fraction, smallest.min()):
        if without_some and held_out / folds > 1.5 * fraction:
            return without_some
        for rest, held in _divisions(train, free, held_out, folds, seed, pooled=True):
            whole = rest["label"].nunique() == train["label"].nunique()
            if whole and held["label"].nunique() == free["label"].nunique():
                if len(held) <= most:
                    return rest, held
                too_large = too_large or (rest, held)
            elif not without_some:
                without_some = _without_small_classes(train, free, rest, held, fraction)
        validated = without_some[1]["label"].nunique() if without_some else 0
        if 0 < validated < MOST_VALIDATED * len(smallest):
            return without_some  # other folds would not help so many
    if found := without_some or too_large:
        return found
    raise Problem(
        "The photos can't be split so that training and validation both hold every class; class "
        f"{smallest.idxmin()} is the smallest: add photos of it, or raise the limit of photos of a "
        "class."
    )


def _without_small_classes(
    train: pd.DataFrame, free: pd.DataFrame, rest: pd.DataFrame, held: pd.DataFrame, fraction: float
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Return both parts of a split in which only small classes do not validate; None for others.

    The classes that would not train are given back.
    """
    lost = held.loc[~held["label"].isin(rest["label"]), "group"]
    held = held[~held["group"].isin(lost)].reset_index(drop=True)
    lacking = train["label"].isin(free["label"]) & ~train["label"].isin(held["label"])
    largest = train.loc[lacking, "label"].value_counts().max()
    if len(held) < ENOUGH_HELD or largest * fraction >= ENOUGH_OF_CLASS:
        return None
    return train[~train["group"].isin(held["group"])].reset_index(drop=True), held


def split_into_folds(
    train: pd.DataFrame, number: int, seed: int
) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Divide photos into folds; return the training and the validation rows of each.

    Every photo validates exactly once, but for those of classes with only one group. Folds are
    stratified by label, groups are kept whole, and every class is in every training part, though
    perhaps not in a validation part. Raises Problem if a class is too small for the number.
    """
    free = _free_to_validate(train)
    pairs, classes = list(_divisions(train, free, 1, number, seed)), train["label"].nunique()
    if not pairs or any(rest["label"].nunique() < classes for rest, _ in pairs):
        smallest = free.groupby("label")["group"].nunique()
        raise Problem(
            f"The photos can't be divided into {number} folds so that each training part holds "
            f"every class; class {smallest.idxmin()} is the smallest: ask for fewer --folds, or "
            "add photos of it."
        )
    return pairs


def _free_to_validate(train: pd.DataFrame) -> pd.DataFrame:
    """Return the photos that may be held out: a class with only one group of photos is trained.

    The other photos of these groups are trained too, and so may be other classes for want of them.
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


def _fold_counts(fraction: float, smallest: int) -> list[tuple[int, int]]:
    """Return the numbers of folds to try, in order: (held out, in all)."""
    # First come a few that give nearly `fraction`: those with no more folds than the smallest class
    # has groups (`smallest`) before the others, then fewer folds before more. The rest hold out a
    # larger fraction, one fold of fewer and fewer, which is more likely to hold the small classes.
    tolerance = min(0.01, fraction / 10)
    most = max(MOST_FOLDS, round(1 / fraction))
    counts = [(round(fraction * folds), folds) for folds in range(2, most + 1)]
    close = [(held, folds) for held, folds in counts if abs(held / folds - fraction) <= tolerance]
    close = sorted(close, key=lambda count: (count[1] > smallest, count[1]))[:MOST_TRIES]
    larger = [(1, folds) for folds in range(math.ceil(1 / fraction) - 1, 1, -1)]
    return close + [count for count in larger if count not in close]


def group_folds(labels: np.ndarray, groups: np.ndarray, number: int, seed: int) -> list[np.ndarray]:
    """Return the positions of each fold's photos: stratified by label (int), groups kept whole.

    None are returned where no label has as many photos, or where there are fewer groups, than
    folds. The groups are renumbered at random in place of the splitter's own shuffle, which mixes
    up which group has which labels (scikit-learn's pull request 32540) and so does not stratify.
    """
    groups = pd.factorize(groups)[0]
    groups = np.random.default_rng(seed).permutation(groups.max() + 1)[groups]
    splitter, units = StratifiedGroupKFold(number), np.arange(len(labels))
    if labels.max() >= MANY_CLASSES:  # each group counts by its first label
        splitter, units = StratifiedKFold(number), np.unique(groups, return_index=True)[1]
    if number > np.bincount(labels[units]).max() or number > groups.max() + 1:
        return []
    with warnings.catch_warnings():  # about classes smaller than the number of folds
        warnings.simplefilter("ignore", UserWarning)
        parts = [part for _, part in splitter.split(units, labels[units], groups[units])]
    return [np.flatnonzero(np.isin(groups, groups[units[part]])) for part in parts]


def _divisions(
    train: pd.DataFrame,
    free: pd.DataFrame,
    held_out: int,
    folds: int,
    seed: int,
    pooled: bool = False,
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield training and validation rows, with `held_out` consecutive folds of the free rows held.

    The first of these is each fold once. Nothing is yielded where there are too few photos, or
    where all classes are smaller than the number of folds, unless `pooled`: then these are not
    stratified.
    """
    labels = pd.factorize(free["label"])[0]
    parts = group_folds(labels, free["group"], folds, seed)
    if pooled and not parts:
        parts = group_folds(np.zeros_like(labels), free["group"], folds, seed)
    for first in range(len(parts)):
        chosen = [parts[(first + i) % folds] for i in range(held_out)]
        held = free.iloc[np.sort(np.concatenate(chosen))]
        rest = train.drop(held.index)
        yield rest.reset_index(drop=True), held.reset_index(drop=True)
