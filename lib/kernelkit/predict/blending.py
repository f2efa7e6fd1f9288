"""Blend members: choose a weight for each on the photos that did not train it."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from kernelkit.core.metrics import METRICS, Metric, accuracy, log_loss
from kernelkit.core.problem import Problem

BAGS = 20
FEW_MEMBERS = 4  # up to here, bags are of photos: half of so few members may be the weak ones
ROUNDS = 40  # members added to the start; weights come in steps of about 1/40
FOLDS = 5  # of the nested validation
TIE = 1e-9  # log losses that differ by less are equal but for rounding
FLOOR = np.finfo("float32").eps  # where scikit-learn clips float32 probabilities


@dataclass(frozen=True)
class Blend:
    """The weights of members, and how they were chosen."""

    weights: dict[str, float]
    """Member to weight; they sum to 1, and a member that is not used has 0."""
    method: Literal["greedy", "mean", "single"]
    """How they were chosen; "single" is the best member alone."""
    score: float
    """The metric's value of this blend on the out-of-fold photos."""
    scores: dict[str, float]
    """The same of each member."""
    nested: dict[str, float]
    """Log loss of "greedy" and "mean" on photos that did not choose the weights; without "greedy"
    where there is only one member, or too few photos to try it."""
    nested_scores: dict[str, float]
    """The metric's value of the same."""


def blend(
    members: Mapping[str, np.ndarray],
    truth: np.ndarray,
    groups: np.ndarray | None,
    seed: int,
    metric: Metric = METRICS["accuracy"],
) -> Blend:
    """Choose the weights with which members' probabilities are averaged.

    Greedy selection (see `greedy_weights`) is compared with the plain mean by nested validation:
    weights chosen on four fifths of the photos are scored on the last. They are taken where their
    log loss is lower than the mean's and the metric not worse. Where that blend is worse on all
    photos than the best member, this member is taken alone.

    Args:
        members: out-of-fold probabilities of each member, float32 [photos, classes], of the same
            photos in the same order. The order of the members makes no difference.
        truth: int [photos], positions of the true classes.
        groups: of near-identical photos, [photos], which validation keeps together; None where
            each photo stands alone.
        seed: of the bags and the folds; the same arguments give the same blend.
        metric: the competition's.

    Raises:
        Problem: there is no member or no photo, or a member's probabilities are of another shape or
            not finite.
    """
    check_members(members, truth)
    members = dict(sorted(members.items()))
    stack = np.stack(list(members.values()))
    merits = {name: metric.merit(member, truth) for name, member in members.items()}
    tried = nested_validation(stack, truth, groups, seed)
    nested = {method: log_loss(outside, truth) for method, outside in tried.items()}
    nested_merits = {method: metric.merit(outside, truth) for method, outside in tried.items()}

    method, weights = "mean", np.full(len(stack), 1 / len(stack))
    if greedy_wins(nested, nested_merits):
        method, weights = "greedy", greedy_weights(stack, truth, seed)
    achieved = metric.merit(average(stack, weights), truth)
    if len(stack) == 1 or achieved < max(merits.values()):
        method, weights = "single", best_member(stack, truth, metric)
        achieved = max(merits.values())
    of_names = dict(zip(members, weights.tolist(), strict=True))
    scores, nested_scores = (signed(each, metric.sign) for each in (merits, nested_merits))
    return Blend(of_names, method, metric.sign * achieved, scores, nested, nested_scores)


def signed(merits: Mapping[str, float], sign: int) -> dict[str, float]:
    """Return the metric's values of merits, or the other way round."""
    return {name: sign * merit for name, merit in merits.items()}


def combine(members: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """Return the weighted mean of members' probabilities.

    Args:
        members: probabilities of each member, float [photos, classes].
        weights: member to weight, 0 or more; members without a weight are left out.

    Returns:
        float32 [photos, classes].

    Raises:
        Problem: no weight is above 0, or a member that has one is missing.
    """
    used = {name: weight for name, weight in weights.items() if weight > 0}
    if not used:
        raise Problem("No member of the blend has a weight.")
    if missing := [name for name in used if name not in members]:
        raise Problem(f"The blend needs members that are not there: {', '.join(missing)}.")
    return average([members[name] for name in used], list(used.values())).astype("float32")


def check_members(members: Mapping[str, np.ndarray], truth: np.ndarray) -> None:
    """Raise a Problem where members can't be blended."""
    if not members or not len(truth):
        raise Problem("There is nothing to blend: no member, or no photo to choose weights on.")
    shapes = {name: probabilities.shape for name, probabilities in members.items()}
    for name, shape in shapes.items():
        if len(shape) != 2 or shape[0] != len(truth):
            raise Problem(
                f"Member {name} has probabilities of shape {shape} of {len(truth)} photos."
            )
        if not np.isfinite(members[name]).all():
            raise Problem(f"Member {name} has probabilities that are not finite: train it again.")
    if len(set(shapes.values())) > 1:
        raise Problem(f"The members' numbers of classes differ: {shapes}.")


def best_member(stack: np.ndarray, truth: np.ndarray, metric: Metric) -> np.ndarray:
    """Return weight 1 for the best member, of equal ones for that of the lowest log loss."""
    scores = [(metric.merit(member, truth), -log_loss(member, truth)) for member in stack]
    return np.eye(len(stack))[scores.index(max(scores))]


def greedy_wins(losses: Mapping[str, float], merits: Mapping[str, float]) -> bool:
    """Tell whether greedy weights were tried and are better than the mean; on ties they aren't."""
    lower = losses.get("greedy", np.inf) < losses["mean"] - TIE
    return lower and merits["greedy"] >= merits["mean"]


def average(stack, weights) -> np.ndarray:
    """Return the weighted mean of probabilities [members, photos, classes], float64."""
    return np.average(np.asarray(stack, "float64"), axis=0, weights=weights)


# ------------------------------------------------------------------------- nested validation


def nested_validation(
    stack: np.ndarray, truth: np.ndarray, groups: np.ndarray | None, seed: int
) -> dict[str, np.ndarray]:
    """Return what "mean" and "greedy" predict for photos that did not choose the weights.

    Args:
        stack: float [members, photos, classes].
        truth: int [photos].
        groups: as in `blend`.
        seed: of folds and bags.

    Returns:
        Method to probabilities, float64 [photos, classes]; "greedy" is missing where there is one
        member, or where the photos can't be divided.
    """
    tried = {"mean": average(stack, None)}
    parts = list(outside_parts(truth, groups, seed)) if len(stack) > 1 else []
    if parts:
        tried["greedy"] = np.empty_like(tried["mean"])
    for outside in parts:
        inside = np.setdiff1d(np.arange(len(truth)), outside)
        weights = greedy_weights(stack[:, inside], truth[inside], seed)
        tried["greedy"][outside] = average(stack[:, outside], weights)
    return tried


def outside_parts(truth: np.ndarray, groups: np.ndarray | None, seed: int) -> Iterator[np.ndarray]:
    """Yield the photos' positions, part by part: stratified by class, groups kept whole.

    Groups are renumbered at random in place of the splitter's own shuffle, which mixes up which
    group has which labels (scikit-learn's pull request 32540) and so does not stratify. Yields
    nothing where no class has as many photos, or where there are not as many groups, as parts.
    """
    splitter: StratifiedKFold | StratifiedGroupKFold
    if groups is None:
        wholes = len(truth)
        splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    else:
        groups = pd.factorize(groups)[0]
        wholes = groups.max() + 1
        groups = np.random.default_rng(seed).permutation(wholes)[groups]
        splitter = StratifiedGroupKFold(FOLDS)
    if min(np.bincount(truth).max(), wholes) < FOLDS:
        return
    with warnings.catch_warnings():  # about classes smaller than the number of parts
        warnings.simplefilter("ignore", UserWarning)
        parts = [outside for _, outside in splitter.split(truth, truth, groups)]
    yield from (outside for outside in parts if len(outside) < len(truth))


# -------------------------------------------------------------------------- greedy selection


def greedy_weights(stack: np.ndarray, truth: np.ndarray, seed: int) -> np.ndarray:
    """Return members' weights by bagged greedy selection with replacement.

    After Caruana et al., "Ensemble Selection from Libraries of Models" (2004): each bag selects
    from a random half of the members, so that no lucky one gets everywhere, and the bags' weights
    are averaged. Where there are few members, a bag selects from all, on photos drawn at random
    with replacement.

    Args:
        stack: float [members, photos, classes].
        truth: int [photos].
        seed: of the bags.

    Returns:
        float64 [members]; sums to 1.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros(len(stack))
    for _ in range(BAGS):
        if len(stack) <= FEW_MEMBERS:
            photos = rng.integers(len(truth), size=len(truth))
            weights += select(stack[:, photos], truth[photos])
        else:
            half = np.sort(rng.choice(len(stack), -(-len(stack) // 2), replace=False))
            weights[half] += select(stack[half], truth)
    return weights / weights.sum()


def select(stack: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Add the member that helps most, again and again, and return the best of these blends.

    The objective is log loss. Accuracy changes only where a photo's most probable class does, for a
    few photos of thousands: it would choose by chance, while log loss hears from every photo. It
    decides between members of equal log loss.

    Args:
        stack: float [members, photos, classes].
        truth: int [photos].

    Returns:
        Weights, float64 [members]; they sum to 1.
    """
    of_truth = stack[:, np.arange(len(truth)), truth].astype("float64")  # all that log loss needs
    counts = best_start(of_truth)
    best, lowest = counts, loss_of(counts @ of_truth / counts.sum())
    for _ in range(ROUNDS):
        # Goes on where nothing helps: with more members, the step of one more is finer.
        losses = loss_of((counts @ of_truth + of_truth) / (counts.sum() + 1))
        added = first_choice(losses, counts, stack, truth)
        counts = counts + np.eye(len(stack))[added]
        if losses[added] < lowest - TIE:
            best, lowest = counts, losses[added]
    return best / best.sum()


def best_start(of_truth: np.ndarray) -> np.ndarray:
    """Return counts, float64 [members], of the best members whose mean has the lowest log loss.

    This is the paper's sorted initialisation: selection that starts from one member overfits.
    """
    order = np.argsort(loss_of(of_truth), kind="stable")
    sizes = np.arange(1, len(order) + 1)
    means = np.cumsum(of_truth[order], axis=0) / sizes[:, None]
    counts = np.zeros(len(order))
    counts[order[: sizes[loss_of(means).argmin()]]] = 1
    return counts


def first_choice(
    losses: np.ndarray, counts: np.ndarray, stack: np.ndarray, truth: np.ndarray
) -> int:
    """Return the member whose addition has the lowest log loss, of equal ones the most accurate."""
    tied = np.flatnonzero(losses <= losses.min() + TIE)
    if len(tied) == 1:
        return int(tied[0])
    blended = np.tensordot(counts, stack, axes=1)
    return int(max(tied, key=lambda member: accuracy(blended + stack[member], truth)))


def loss_of(of_truth: np.ndarray) -> np.ndarray:
    """Return the log loss of probabilities of the true classes, float [..., photos]."""
    return -np.log(np.maximum(of_truth, FLOOR)).mean(-1)
