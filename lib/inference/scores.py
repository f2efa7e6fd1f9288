"""The scores by which everything here is chosen. Another metric is another row of METRICS."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from sklearn import metrics

from common import Problem

DRAWS = 60  # of the bootstrap, where a score is no mean over photos
SIDES = 1.96  # standard errors of a 95 % interval to each side
TOP = 5  # of MAP@5


def log_loss(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean negative logarithm of the true class' probability.

    Probabilities are taken as float32, which scikit-learn clips at 1.2e-7: a single photo, whose
    label may be wrong, costs 16 at most.

    Args:
        probabilities: float [photos, classes], rows that sum to 1.
        truth: int [photos], positions of the true classes.

    Raises:
        ValueError: the lengths differ, there are no photos, or a probability is not finite.
    """
    classes = np.arange(probabilities.shape[1])  # a class may be missing from the truth
    return float(metrics.log_loss(truth, probabilities.astype("float32"), labels=classes))


def losses(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the log loss of each photo, float64 [photos]; its mean is `log_loss`.

    Args:
        probabilities: float [photos, classes], rows that sum to 1.
        truth: int [photos], positions of the true classes.

    Raises:
        ValueError: the lengths differ, there are no photos, or a probability is not finite.
    """
    log_loss(probabilities, truth)  # checks what it gets
    of_truth = np.float32(probabilities)[np.arange(len(truth)), truth]
    return -np.log(np.maximum(of_truth, np.finfo(np.float32).eps).astype(np.float64))


def accuracy(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the fraction of photos whose most probable class is the true one, 0 to 1.

    Args:
        probabilities: float [photos, classes].
        truth: int [photos], positions of the true classes.

    Raises:
        ValueError: the lengths differ.
    """
    return float(metrics.accuracy_score(truth, probabilities.argmax(1)))


def hits(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return 1 for each photo whose most probable class is the true one, else 0."""
    return np.float64(probabilities.argmax(1) == truth)


def f1(average: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """Return the score F1, averaged over classes ("macro") or photos ("micro"), 0 to 1."""

    def score(probabilities: np.ndarray, truth: np.ndarray) -> float:
        predicted = probabilities.argmax(1)
        return float(metrics.f1_score(truth, predicted, average=average, zero_division=0))

    return score


def auc(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the area under the ROC curve of the second of two classes; 0.5 where one is missing.

    Of more classes it is the mean over them.
    """
    if probabilities.shape[1] > 2:
        return mean_auc(probabilities, truth)
    if truth.min() == truth.max():
        return 0.5
    return float(metrics.roc_auc_score(truth, probabilities[:, 1]))


def mean_auc(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean over the classes of the area under the ROC curve, each against the rest.

    Classes that no photo, or every photo, is of are left out.
    """
    of_class = np.equal.outer(truth, np.arange(probabilities.shape[1]))
    judged = of_class.any(0) & ~of_class.all(0)
    if not judged.any():
        return 0.5
    areas = metrics.roc_auc_score(of_class[:, judged], probabilities[:, judged], average="macro")
    return float(areas)


def kappa(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return Cohen's kappa with quadratic weights, of classes in their order, up to 1."""
    predicted, labels = probabilities.argmax(1), np.arange(probabilities.shape[1])
    if (predicted == predicted[0]).all() and (truth == predicted[0]).all():
        return 1.0  # scikit-learn divides by 0
    return float(metrics.cohen_kappa_score(truth, predicted, labels=labels, weights="quadratic"))


def precisions(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return 1 / rank of each photo's true class, 0 where it is not among the five best."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    rank = (order == truth[:, None]).argmax(1) + 1
    return np.where(rank <= TOP, 1 / rank, 0.0)


def mean_of(each: Callable) -> Callable[[np.ndarray, np.ndarray], float]:
    """Return the score that is the mean over photos."""
    return lambda probabilities, truth: float(each(probabilities, truth).mean())


@dataclass(frozen=True)
class Metric:
    """How a competition judges; probabilities are [photos, classes], truth positions [photos]."""

    name: str
    """As people call it."""
    score: Callable[[np.ndarray, np.ndarray], float]
    called: str
    """A regular expression of Kaggle's names for it, in lower case."""
    greater: bool = True
    """Whether a greater value is better."""
    each: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    """The values of photos whose mean it is; None where it is no mean."""
    by_loss: bool = True
    """Whether a lower log loss helps: not where only the order of photos counts."""

    def merit(self, probabilities: np.ndarray, truth: np.ndarray) -> float:
        """Return the score, negative where less is better: the greater of two is better."""
        return self.sign * self.score(probabilities, truth)

    @property
    def sign(self) -> int:
        """1 where a greater value is better, else -1."""
        return 1 if self.greater else -1

    def error(self, probabilities: np.ndarray, truth: np.ndarray) -> float:
        """Return the score's standard error, by photos or by a bootstrap of fixed draws."""
        if self.each:
            return float(self.each(probabilities, truth).std() / math.sqrt(len(truth)))
        return float(np.std(self.drawn((probabilities,), truth)))

    def drawn(self, several: tuple[np.ndarray, ...], truth: np.ndarray) -> np.ndarray:
        """Return the scores of several predictions on photos drawn with replacement.

        Returns:
            float64 [draws, predictions].
        """
        rng, scores = np.random.default_rng(0), []
        for _ in range(DRAWS):
            rows = rng.integers(len(truth), size=len(truth))
            scores.append([self.score(one[rows], truth[rows]) for one in several])
        return np.asarray(scores)

    def gain(self, theirs: np.ndarray, ours: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
        """Return by how much ours is better than theirs, and the standard error of that.

        It is paired by photo.
        """
        gain = self.merit(ours, truth) - self.merit(theirs, truth)
        if self.each:
            paired = self.each(ours, truth) - self.each(theirs, truth)
            return gain, float(paired.std() / math.sqrt(len(truth)))
        scores = self.drawn((theirs, ours), truth)
        return gain, float(np.std(scores[:, 1] - scores[:, 0]))

    def interval(self, probabilities: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
        """Return the score's 95 % interval: Wilson's for a fraction of photos."""
        values = self.each(probabilities, truth) if self.each else None
        if values is not None and set(np.unique(values)) <= {0, 1}:
            low, high = binomtest(int(values.sum()), len(values)).proportion_ci(method="wilson")
            return float(low), float(high)
        score, side = self.score(probabilities, truth), SIDES * self.error(probabilities, truth)
        return score - side, score + side


METRICS = {
    "accuracy": Metric("accuracy", accuracy, "accuracy", each=hits),
    "macro-f1": Metric("macro F1", f1("macro"), r"macro.*f|f.*macro"),
    "micro-f1": Metric("micro F1", f1("micro"), r"micro.*f|f.*micro|mean ?f", each=hits),
    "log-loss": Metric("log loss", log_loss, r"log.?loss|multi.?class.?loss", False, losses),
    "mean-auc": Metric("mean AUC", mean_auc, r"column.*(auc|roc)|mcauc", by_loss=False),
    "auc": Metric("AUC", auc, "auc|roc|receiver operating", by_loss=False),
    "kappa": Metric("quadratic kappa", kappa, "kappa"),
    "map@5": Metric("MAP@5", mean_of(precisions), r"map@|mean average precision", each=precisions),
}


def metric_named(name: str) -> Metric:
    """Return a row of METRICS.

    Raises:
        Problem: there is none of that name.
    """
    if name not in METRICS:
        raise Problem(f"COMPETITION has the metric {name!r}: give one of {', '.join(METRICS)}.")
    return METRICS[name]


def metric_called(text: str) -> str:
    """Return the row of METRICS of a name at Kaggle, "" where none has it."""
    return next((row for row, m in METRICS.items() if re.search(m.called, text.lower())), "")


def packed(right: np.ndarray) -> str:
    """Return which photos are right, bool [photos], as a short text: bits in hexadecimal."""
    return np.packbits(right).tobytes().hex()


def unpacked(text: str, photos: int) -> np.ndarray:
    """Return what `packed` wrote of so many photos."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
    return bits[:photos].astype(bool)


@dataclass
class Judge:
    """Measures what a network says of its validation photos after an epoch."""

    metric: Metric
    truth: np.ndarray
    """The positions of their classes, int [photos]."""
    right: str = ""
    """Which of them were right when it was called last; see `packed`."""

    def __call__(self, probabilities: np.ndarray) -> dict[str, float]:
        """Return loss, accuracy, score and its standard error of probabilities [photos, classes].

        Where one is not a number, so is all else.
        """
        if not np.isfinite(probabilities).all():
            return dict.fromkeys(("loss", "accuracy", "score", "error"), math.nan)
        given = probabilities, self.truth
        self.right = packed(probabilities.argmax(1) == self.truth)
        figures = {"loss": log_loss(*given), "accuracy": accuracy(*given)}
        return figures | {"score": self.metric.score(*given), "error": self.metric.error(*given)}
