"""What the members of a run say together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kernelkit.core.metrics import Metric, accuracy, metric_named
from kernelkit.predict.blending import Blend, blend, combine
from kernelkit.predict.calibration import apply_temperature, temperature
from kernelkit.predict.portfolio import Fold, Member


@dataclass(frozen=True)
class Outcome:
    """The prediction that is submitted, and how good it is on photos that did not train it."""

    held_out: pd.DataFrame
    """Columns Id, label, path, group, fold: the photos that are judged, out of fold."""
    validation: np.ndarray
    """Calibrated probabilities of these photos, float32 [photos, classes]."""
    test: np.ndarray
    """The same of the test photos that can be read."""
    accuracy: float
    """On the held-out photos, 0 to 1, of what is submitted."""
    accuracies: dict[str, float]
    """The same of each member."""
    metric: Metric
    """The competition's."""
    score: float
    """Its value on the held-out photos of what is submitted."""
    score_plain: float
    """The mean over all networks, by their members' weights, of the plain prediction pass."""
    score_tta: float
    """The same of the mean over the chosen views."""
    accuracy_plain: float
    """The mean over all networks, by their members' weights, of the plain prediction pass."""
    accuracy_tta: float
    """The same of the mean over the chosen views, whether that was used or not."""
    blend: Blend
    """The members' weights, and how they were found."""
    temperatures: dict[str, float]
    """By which each member's logits are divided."""
    members: dict[str, Member]
    """The members that took part."""

    def sentence(self) -> str:
        """Return what the log says of the blend."""
        judged = f"validation {self.metric.name} {self.score:.4f} on {len(self.held_out)} photos"
        if len(self.members) == 1:
            return f"{next(iter(self.members))}: {judged}"
        parts = [
            f"{name} {self.blend.scores[name]:.4f} (weight {weight:.2f})"
            for name, weight in self.blend.weights.items()
        ]
        return f"blend of {', '.join(parts)}: {self.blend.method}, {judged}"


def combine_members(members: Mapping[str, Member], parts: list, seed: int) -> Outcome:
    """Calibrate every member, blend them, and judge the blend.

    Members are compared on the folds that all of them finished. Where there is none, the member
    with the most folds stands alone.

    Args:
        members: by name, each with at least one fold.
        parts: the run's photos, `photos.PhotoTables` of every fold, in order.
        seed: of the draws of `blend`.
    """
    members, common = comparable(members)
    held_out, truth = judged_on(parts, common)
    seen = {
        name: np.concatenate([member.folds[fold].validation for fold in common])
        for name, member in members.items()
    }
    degrees = {name: temperature(probabilities, truth) for name, probabilities in seen.items()}
    seen = {name: apply_temperature(seen[name], degrees[name]) for name in seen}
    metric = metric_named(parts[0].competition.layout.metric)
    blended = blend(seen, truth, held_out.group.to_numpy(), seed, metric)
    tests = {name: apply_temperature(m.test, degrees[name]) for name, m in members.items()}
    validation, test = together(seen, tests, blended, truth)
    plain, of_views = (
        lambda fold, said=said: metric.score(getattr(fold, said), fold.validation_positions)
        for said in ("validation_plain", "validation")
    )
    return Outcome(
        held_out=held_out,
        validation=validation,
        test=test,
        accuracy=accuracy(validation, truth),
        accuracies={name: accuracy(said, truth) for name, said in seen.items()},
        metric=metric,
        score=metric.score(validation, truth),
        score_plain=weighted(members, blended.weights, plain),
        score_tta=weighted(members, blended.weights, of_views),
        accuracy_plain=weighted(members, blended.weights, lambda fold: fold.accuracy),
        accuracy_tta=weighted(members, blended.weights, lambda fold: fold.accuracy_tta),
        blend=blended,
        temperatures=degrees,
        members=dict(members),
    )


def comparable(members: Mapping[str, Member]) -> tuple[Mapping[str, Member], list[int]]:
    """Return the members that can be compared, and the folds that all of them finished."""
    common = sorted(set.intersection(*(set(member.folds) for member in members.values())))
    if common:
        return members, common
    name = max(members, key=lambda name: len(members[name].folds))
    return {name: members[name]}, sorted(members[name].folds)


def judged_on(parts: list, folds: list[int]) -> tuple[pd.DataFrame, np.ndarray]:
    """Return `Outcome.held_out` of some folds, and the positions of its labels, int [photos]."""
    tables = [parts[fold].validation.assign(fold=fold) for fold in folds]
    truth = [parts[fold].positions(parts[fold].validation) for fold in folds]
    return pd.concat(tables, ignore_index=True), np.concatenate(truth)


def together(
    seen: Mapping[str, np.ndarray], tests: Mapping[str, np.ndarray], blend: Blend, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the blend of the validation and of the test photos' probabilities, calibrated.

    The mean of several calibrated members is not sure enough.
    """
    validation, test = combine(seen, blend.weights), combine(tests, blend.weights)
    if sum(weight > 0 for weight in blend.weights.values()) < 2:
        return validation, test
    degree = temperature(validation, truth)
    return apply_temperature(validation, degree), apply_temperature(test, degree)


def weighted(
    members: Mapping[str, Member],
    weights: Mapping[str, float],
    figure: Callable[[Fold], float],
) -> float:
    """Return the mean over the members, by weight, of a figure of their folds, by their photos."""
    total = 0.0
    for member, weight in weights.items():
        folds = members[member].folds.values()
        figures, photos = [figure(f) for f in folds], [len(f.validation) for f in folds]
        total += weight * float(np.average(figures, weights=photos))
    return total
