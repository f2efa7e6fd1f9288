"""Blend the members' predictions by weights chosen on photos that did not train them; score it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from kernelkit.core.contract import Fold, Member
from kernelkit.core.metrics import METRICS, Metric, accuracy, log_loss, metric_named
from kernelkit.data.split import group_folds
from kernelkit.data.tables import PhotoTables
from kernelkit.predict.calibration import apply_temperature, temperature

BAGS = 20
FEW_MEMBERS = 4  # up to here, bags are of photos: half of so few members may be the weak ones
ROUNDS = 40  # members added to the start; weights come in steps of about 1/40
FOLDS = 5  # of the nested validation
TIE = 1e-9  # log losses that differ by less are equal but for rounding
FLOOR = np.finfo("float32").eps  # where scikit-learn clips float32 probabilities


@dataclass(frozen=True)
class Blend:
    """The weights of members, and how they were chosen."""

    weights: dict[str, float]  # they sum to 1, and a member that is not used has 0
    method: Literal["greedy", "mean", "single"]  # "single" is the best member alone
    score: float  # the metric's value of this blend on the out-of-fold photos
    scores: dict[str, float]  # the same of each member


@dataclass(frozen=True)
class BlendResult:
    """The prediction that is submitted, and how good it and its parts are on held-out photos."""

    held_out: pd.DataFrame  # columns Id, label, path, group, fold: the out-of-fold photos
    truth: np.ndarray  # int [photos], positions of their labels among the classes
    validation: np.ndarray  # their calibrated probabilities, float32 [photos, classes]
    test: np.ndarray  # the same of the test photos that can be read
    accuracy: float  # on the held-out photos, 0 to 1, of what is submitted
    accuracies: dict[str, float]  # of each member
    metric: Metric  # the competition's
    score: float  # its value of what is submitted
    score_plain: float  # of the plain prediction pass
    score_tta: float  # of the mean over the chosen views
    accuracy_plain: float
    accuracy_tta: float  # of the mean over the views, whether that was used or not
    blend: Blend
    temperatures: dict[str, float]  # by which each member's logits are divided
    temperature: float  # by which those of the blend are divided, at last
    members: dict[str, Member]  # that took part

    def sentence(self) -> str:
        """Return the line of the log about the blend."""
        score = f"validation {self.metric.name} {self.score:.4f} on {len(self.held_out)} photos"
        if len(self.members) == 1:
            return f"{next(iter(self.members))}: {score}"
        members = [
            f"{name} {self.blend.scores[name]:.4f} (weight {weight:.2f})"
            for name, weight in self.blend.weights.items()
        ]
        return f"blend of {', '.join(members)}: {self.blend.method}, {score}"


def combine_members(
    members: Mapping[str, Member], folds: list[PhotoTables], seed: int
) -> BlendResult:
    """Calibrate every member, blend them, and score the blend.

    Members, each with at least one fold, are compared on the folds that all of them finished. Where
    there is none, the member with the most folds is taken alone.
    """
    members, common = _comparable(members)
    tables = [folds[number].validation.assign(fold=number) for number in common]
    held_out = pd.concat(tables, ignore_index=True)
    truth = folds[0].positions(held_out)
    metric = metric_named(folds[0].competition.layout.metric)
    seen, tests, degrees = {}, {}, {}
    for name, member in members.items():
        found = np.concatenate([member.folds[fold].validation for fold in common])
        degrees[name] = temperature(found, truth)
        seen[name] = apply_temperature(found, degrees[name])
        tests[name] = apply_temperature(member.test, degrees[name])
    blended = blend(seen, truth, held_out.group.to_numpy(), seed, metric)
    validation, test = (combine(each, blended.weights) for each in (seen, tests))
    degree = 1.0
    if sum(weight > 0 for weight in blended.weights.values()) > 1:
        # The mean of several calibrated members is underconfident.
        degree = temperature(validation, truth)
        validation, test = (apply_temperature(each, degree) for each in (validation, test))
    mean = partial(_weighted_mean, members, blended.weights)
    return BlendResult(
        held_out=held_out,
        truth=truth,
        validation=validation,
        test=test,
        accuracy=accuracy(validation, truth),
        accuracies={name: accuracy(each, truth) for name, each in seen.items()},
        metric=metric,
        score=metric.score(validation, truth),
        score_plain=mean(lambda f: metric.score(f.validation_plain, f.validation_positions)),
        score_tta=mean(lambda f: metric.score(f.validation, f.validation_positions)),
        accuracy_plain=mean(lambda fold: fold.accuracy),
        accuracy_tta=mean(lambda fold: fold.accuracy_tta),
        blend=blended,
        temperatures=degrees,
        temperature=degree,
        members=dict(members),
    )


def _comparable(members: Mapping[str, Member]) -> tuple[Mapping[str, Member], list[int]]:
    """Return the members that are compared, and the folds on which they are."""
    common = set.intersection(*(set(member.folds) for member in members.values()))
    if not common:
        name = max(members, key=lambda name: len(members[name].folds))
        members, common = {name: members[name]}, members[name].folds
    return members, sorted(common)


def _weighted_mean(
    members: Mapping[str, Member], weights: Mapping[str, float], value: Callable[[Fold], float]
) -> float:
    """Return the mean over the members, by weight, of a value of their folds, by their photos."""
    total = 0.0
    for member, weight in weights.items():
        folds = members[member].folds.values()
        values, photos = [value(f) for f in folds], [len(f.validation) for f in folds]
        total += weight * float(np.average(values, weights=photos))
    return total


def blend(
    members: Mapping[str, np.ndarray],
    truth: np.ndarray,
    groups: np.ndarray,
    seed: int,
    metric: Metric = METRICS["accuracy"],
) -> Blend:
    """Choose the weights with which members' probabilities are averaged.

    Greedy selection (see `greedy_weights`) is compared with the plain mean by nested validation:
    weights chosen on four fifths of the photos are scored on the last. They are taken where their
    log loss is lower than the mean's and the metric not worse. Where that blend is worse on all
    photos than the best member, this member is taken alone.

    The members' probabilities are out-of-fold, float32 [photos, classes], of the same photos in the
    same order; validation keeps near-identical photos (`groups`) together. The same arguments give
    the same blend, in any order of the members.
    """
    members = dict(sorted(members.items()))
    stack = np.stack(list(members.values()))
    merits = {name: metric.merit(member, truth) for name, member in members.items()}
    method, weights = "mean", np.full(len(stack), 1 / len(stack))
    if greedy_wins(nested_greedy(stack, truth, groups, seed), average(stack, None), truth, metric):
        method, weights = "greedy", greedy_weights(stack, truth, seed)
    achieved = metric.merit(average(stack, weights), truth)
    if len(stack) == 1 or achieved < max(merits.values()):
        # Of equally good members, that of the lowest log loss.
        best = max(members, key=lambda name: (merits[name], -log_loss(members[name], truth)))
        method, weights = "single", np.float64([name == best for name in members])
        achieved = merits[best]
    return Blend(
        weights=dict(zip(members, weights.tolist(), strict=True)),
        method=method,
        score=metric.sign * achieved,
        scores={name: metric.sign * merit for name, merit in merits.items()},
    )


def combine(members: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """Return the mean of probabilities by the weights above 0, float32 [photos, classes]."""
    used = {name: weight for name, weight in weights.items() if weight > 0}
    return average([members[name] for name in used], list(used.values())).astype("float32")


def greedy_wins(
    greedy: np.ndarray | None, mean: np.ndarray, truth: np.ndarray, metric: Metric
) -> bool:
    """Return whether greedy weights predict unseen photos better than the mean: a tie is no win."""
    if greedy is None or log_loss(greedy, truth) >= log_loss(mean, truth) - TIE:
        return False
    return metric.merit(greedy, truth) >= metric.merit(mean, truth)


def average(stack, weights) -> np.ndarray:
    """Return the weighted mean of probabilities [members, photos, classes], float64."""
    return np.average(np.asarray(stack, "float64"), axis=0, weights=weights)


def nested_greedy(
    stack: np.ndarray, truth: np.ndarray, groups: np.ndarray, seed: int
) -> np.ndarray | None:
    """Return what greedy weights predict for photos that did not choose them, float64 [n, classes].

    It is None where there is one member, or where the photos can't be divided.
    """
    folds = group_folds(truth, groups, FOLDS, seed) if len(stack) > 1 else []
    if not folds:
        return None
    predicted = np.empty(stack.shape[1:])
    for outside in folds:
        inside = np.setdiff1d(np.arange(len(truth)), outside)
        weights = greedy_weights(stack[:, inside], truth[inside], seed)
        predicted[outside] = average(stack[:, outside], weights)
    return predicted


def greedy_weights(stack: np.ndarray, truth: np.ndarray, seed: int) -> np.ndarray:
    """Return members' weights by bagged greedy selection with replacement; they sum to 1.

    After Caruana et al., "Ensemble Selection from Libraries of Models" (2004): each bag selects
    from a random half of the members, so that no lucky one gets everywhere, and the bags' weights
    are averaged. Where there are few members, a bag selects from all, on photos drawn at random
    with replacement. `stack` is float [members, photos, classes], the result float64 [members].
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
    """Add the member that helps most, again and again; return the weights of the best blend.

    The objective is log loss, for which every photo counts; accuracy, which a few photos of
    thousands change, would choose by chance. It decides between members of equal log loss.
    """
    of_truth = stack[:, np.arange(len(truth)), truth].astype("float64")  # all that log loss needs
    counts = _best_start(of_truth)
    best, lowest = counts, loss_of(counts @ of_truth / counts.sum())
    for _ in range(ROUNDS):
        # Goes on where nothing helps: with more members, the step of one more is finer.
        losses = loss_of((counts @ of_truth + of_truth) / (counts.sum() + 1))
        added = _first_choice(losses, counts, stack, truth)
        counts = counts + np.eye(len(stack))[added]
        if losses[added] < lowest - TIE:
            best, lowest = counts, losses[added]
    return best / best.sum()


def _best_start(of_truth: np.ndarray) -> np.ndarray:
    """Return counts, float64 [members], of the best members whose mean has the lowest log loss."""
    # This is the paper's sorted initialisation: selection that starts from one member overfits.
    order = np.argsort(loss_of(of_truth), kind="stable")
    sizes = np.arange(1, len(order) + 1)
    means = np.cumsum(of_truth[order], axis=0) / sizes[:, None]
    counts = np.zeros(len(order))
    counts[order[: sizes[loss_of(means).argmin()]]] = 1
    return counts


def _first_choice(
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
