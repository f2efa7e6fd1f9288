"""The scores by which everything here is chosen, and their intervals.

Another metric is another row of METRICS. The 95 % interval of a fraction of photos is Wilson's
(1927); that of the difference of two fractions on the same photos is Agresti's and Min's (2005);
that of any other score comes from a percentile bootstrap over photos. None of them reaches beyond
what the score can be, and none has width 0.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import binomtest
from sklearn import metrics

from kernelkit.core.problem import Problem

DRAWS = 60  # of the bootstrap, for a standard error
MOST_DRAWS, LEAST_DRAWS = 1000, 200  # for an interval; the fewer, the more photos and classes
DRAWN_VALUES = 500_000_000  # draws times photos times classes of an interval
CHUNK = 4_000_000  # draws times photos at once
Z = 1.959964  # standard errors of a 95 % interval to each side
TOP = 5  # of MAP@5

Score = Callable[[np.ndarray, np.ndarray], float]
Drawn = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


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
    return (probabilities.argmax(1) == truth).astype(float)


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


def mean_of(each: Callable) -> Score:
    """Return the score that is the mean over photos."""
    return lambda probabilities, truth: float(each(probabilities, truth).mean())


# ------------------------------------------------------------------------ scores of drawn photos
# Each takes probabilities [photos, classes], truth [photos] and how often each photo was drawn,
# int [photos, draws], and returns a score a draw, float64 [draws].


def drawn_mean_of(each: Callable) -> Drawn:
    """Return the mean over drawn photos."""
    return lambda probabilities, truth, counts: each(probabilities, truth) @ counts / len(truth)


def drawn_macro_f1(probabilities: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return macro F1; classes that a draw neither has nor predicts are left out."""
    shape, ends = probabilities.shape, np.arange(len(truth) + 1)  # a row has one value
    predicted = probabilities.argmax(1)

    def sums(values, classes) -> np.ndarray:
        return csr_array((values, classes, ends), shape).T @ counts

    ones = np.ones(len(truth))
    either = sums(ones, truth) + sums(ones, predicted)
    each = 2 * sums((predicted == truth).astype(float), truth) / np.maximum(either, 1)
    return each.sum(axis=0) / (either > 0).sum(axis=0)


def drawn_auc(probabilities: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve, of more than two classes the mean over them."""
    if probabilities.shape[1] > 2:
        return drawn_mean_auc(probabilities, truth, counts)
    return np.nan_to_num(drawn_area(probabilities[:, 1], truth == 1, counts), nan=0.5)


def drawn_mean_auc(probabilities: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean over classes; those that no or every photo of a draw is of are left out."""
    classes = range(probabilities.shape[1])
    areas = np.stack([drawn_area(probabilities[:, c], truth == c, counts) for c in classes])
    known = np.isfinite(areas)
    sums = np.where(known, areas, 0).sum(axis=0)
    return np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), 0.5)


def drawn_area(scores: np.ndarray, positive: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the area under one ROC curve; NaN where a draw lacks positive or negative photos."""
    order = np.argsort(scores, kind="stable")
    scores, positive, negatives = scores[order], positive[order], counts[order]
    own = negatives[positive]
    negatives[positive] = 0
    low, high = (np.searchsorted(scores, scores[positive], side) for side in ("left", "right"))
    edges = np.unique(np.concatenate([[0], low, high]))
    edges = edges[edges < len(scores)]
    sums = np.cumsum(np.add.reduceat(negatives, edges, axis=0, dtype=np.int64), axis=0)
    sums = np.concatenate([np.zeros((1, counts.shape[1]), np.int64), sums])
    # Negatives of the same score count half.
    below = sum(sums[np.searchsorted(edges, ends)] for ends in (low, high)) / 2
    pairs = own.sum(axis=0, dtype=np.float64) * sums[-1]
    with np.errstate(invalid="ignore"):
        return np.where(pairs > 0, (own * below).sum(axis=0) / pairs, np.nan)


def drawn_kappa(probabilities: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return Cohen's kappa with quadratic weights, which the labels' moments decide."""
    predicted = probabilities.argmax(1).astype(float)
    moments = (truth, predicted, truth**2, predicted**2, (truth - predicted) ** 2)
    t, p, tt, pp, observed = np.stack(moments) @ counts / len(truth)
    expected = tt + pp - 2 * t * p
    share = np.divide(observed, expected, out=np.zeros(len(expected)), where=expected > 1e-12)
    return 1 - share


def drawn_counts(photos: int, draws: int) -> Iterator[np.ndarray]:
    """Yield how often each photo is drawn with replacement: uint16 [photos, some draws].

    The same numbers give the same draws.
    """
    rng, chunk = np.random.default_rng(0), max(1, CHUNK // photos)
    for first in range(0, draws, chunk):
        rows = min(chunk, draws - first)
        drawn = rng.integers(photos, size=(rows, photos)) + photos * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * photos).reshape(rows, photos)
        yield np.ascontiguousarray(counts.T, np.uint16)


# ------------------------------------------------------------------------------------- intervals


def wilson(right: int, photos: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a fraction of photos, 0 to 1.

    Raises:
        ValueError: there are no photos.
    """
    low, high = binomtest(right, photos).proportion_ci(method="wilson")
    return float(low), float(high)


def paired_interval(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of how much more photos are right in ours than in theirs, -1 to 1.

    After Agresti and Min, "Simple improved confidence intervals for comparing matched proportions"
    (2005): Wald's interval with half a photo added to each of the four outcomes of a pair.

    Args:
        ours: bool [photos], whether each is right.
        theirs: the same of the other prediction, in the same order.
    """
    photos = len(ours) + 2
    more, less = (int((one & ~other).sum()) for one, other in ((ours, theirs), (theirs, ours)))
    middle = (more - less) / photos
    side = Z * math.sqrt(more + less + 1 - (more - less) ** 2 / photos) / photos
    return max(-1.0, middle - side), min(1.0, middle + side)


@dataclass(frozen=True)
class Metric:
    """How a competition scores; probabilities are [photos, classes], truth positions [photos]."""

    name: str
    """As people call it."""
    score: Score
    drawn_score: Drawn
    """The same of photos that are drawn; see above."""
    called: tuple[str, ...]
    """Kaggle's names for it, as `plain_words` has them."""
    greater: bool = True
    """Whether a greater value is better."""
    each: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    """The values of photos whose mean it is; None where it is no mean."""
    guessed: Callable[[int], float] = lambda classes: 0.0
    """Its value of a guess among so many classes."""
    by_loss: bool = True
    """Whether a lower log loss helps: not where only the order of photos counts."""

    def merit(self, probabilities: np.ndarray, truth: np.ndarray) -> float:
        """Return the score, negative where less is better: the greater of two is better."""
        return self.sign * self.score(probabilities, truth)

    @property
    def sign(self) -> int:
        """1 where a greater value is better, else -1."""
        return 1 if self.greater else -1

    @property
    def interval_method(self) -> str:
        """How `interval` is computed, for people."""
        return "Wilson" if self.each is hits else "percentile bootstrap over photos"

    def error(self, probabilities: np.ndarray, truth: np.ndarray) -> float:
        """Return the score's standard error, by photos or by a bootstrap of fixed draws."""
        if self.each:
            return float(self.each(probabilities, truth).std() / math.sqrt(len(truth)))
        return float(np.std(self.drawn(probabilities, truth)))

    def drawn(self, probabilities: np.ndarray, truth: np.ndarray, draws: int = DRAWS) -> np.ndarray:
        """Return the scores of photos drawn with replacement, float64 [draws].

        The draws are the same for any predictions of as many photos.
        """
        counts = drawn_counts(len(truth), draws)
        return np.concatenate([self.drawn_score(probabilities, truth, some) for some in counts])

    def gain(self, theirs: np.ndarray, ours: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
        """Return by how much ours is better than theirs, and the standard error of that.

        It is paired by photo.
        """
        gain = self.merit(ours, truth) - self.merit(theirs, truth)
        if self.each:
            paired = self.each(ours, truth) - self.each(theirs, truth)
            return gain, float(paired.std() / math.sqrt(len(truth)))
        return gain, float(np.std(self.drawn(ours, truth) - self.drawn(theirs, truth)))

    def interval(self, probabilities: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
        """Return the score's 95 % interval: Wilson's for a fraction of photos, else a bootstrap's.

        A bootstrap of few photos that are all right has no width. So it is at least as wide as if
        z^2 = 3.84 more photos had been guessed, or had been perfect: of a perfect sample, that is
        Wilson's interval.
        """
        score, photos = self.score(probabilities, truth), len(truth)
        if self.each is hits:
            return wilson(round(score * photos), photos)
        draws = int(np.clip(DRAWN_VALUES / probabilities.size, LEAST_DRAWS, MOST_DRAWS))
        ends = list(np.percentile(self.drawn(probabilities, truth, draws), (2.5, 97.5)))
        for other in (self.guessed(probabilities.shape[1]), float(self.greater)):
            ends.append((photos * score + Z**2 * other) / (photos + Z**2))
        return float(min(score, *ends)), float(max(score, *ends))


METRICS = {
    "accuracy": Metric(
        "accuracy", accuracy, drawn_mean_of(hits),
        ("accuracy", "categorization accuracy", "categorical accuracy", "classification accuracy",
         "multiclass accuracy", "multi class accuracy", "top 1 accuracy"),
        each=hits,
    ),
    "macro-f1": Metric(
        "macro F1", f1("macro"), drawn_macro_f1,
        ("macro f1", "macro f", "mean macro f1", "mean macro f", "macro average f1"),
    ),
    "micro-f1": Metric(
        "micro F1", f1("micro"), drawn_mean_of(hits),
        ("micro f1", "micro f", "mean micro f1", "mean micro f", "micro average f1"),
        each=hits,
    ),
    "log-loss": Metric(
        "log loss", log_loss, drawn_mean_of(losses),
        ("log loss", "logloss", "logarithmic loss", "multiclass loss", "multi class loss",
         "multiclass log loss", "multi class log loss", "multiclass logloss", "multi class logloss",
         "multiclass logarithmic loss", "multi class logarithmic loss", "binary log loss",
         "cross entropy", "categorical cross entropy", "categorical crossentropy",
         "binary cross entropy", "binary crossentropy"),
        greater=False, each=losses, guessed=math.log,
    ),
    "mean-auc": Metric(
        "mean AUC", mean_auc, drawn_mean_auc,
        ("mean auc", "mean roc auc", "mean columnwise auc", "mean columnwise roc auc",
         "mean column wise auc", "mean column wise roc auc", "columnwise auc",
         "mean columnwise area under roc", "mean column wise area under roc", "mcauc"),
        guessed=lambda classes: 0.5, by_loss=False,
    ),
    "auc": Metric(
        "AUC", auc, drawn_auc,
        ("auc", "roc auc", "auroc", "area under roc", "area under roc auc",
         "area under receiver operating characteristic",
         "area under receiver operating characteristic auc",
         "area under receiver operating characteristic roc auc"),
        guessed=lambda classes: 0.5, by_loss=False,
    ),
    "kappa": Metric(
        "quadratic kappa", kappa, drawn_kappa,
        ("quadratic weighted kappa", "quadratic kappa", "qwk", "cohen quadratic weighted kappa",
         "cohen quadratic kappa", "quadratically weighted kappa"),
    ),
    "map@5": Metric(
        "MAP@5", mean_of(precisions), drawn_mean_of(precisions),
        ("map@5", "map@k", "map at 5", "mean average precision@5", "mean average precision at 5"),
        each=precisions,
    ),
}  # fmt: skip

FILLERS = {"the", "of", "score", "scores", "metric", "measure", "averaged", "curve", "s"}
"""Words that change no metric's name."""


def metric_named(name: str) -> Metric:
    """Return a row of METRICS.

    Raises:
        Problem: there is none of that name.
    """
    if name not in METRICS:
        raise Problem(f"COMPETITION has the metric {name!r}: give one of {', '.join(METRICS)}.")
    return METRICS[name]


def metric_called(text: str) -> str:
    """Return the row of METRICS of a name at Kaggle, "" where it is not surely one of them.

    All words of the name must be those of one metric, in any order: balanced accuracy, weighted log
    loss or PR AUC are others.
    """
    words = plain_words(text)
    same = (row for row, m in METRICS.items() if words in [plain_words(name) for name in m.called])
    return next(same, "")


def plain_words(text: str) -> list[str]:
    """Return the words of a metric's name that count, in lower case and sorted."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)  # LogLoss
    text = re.sub(r"\s*@\s*", "@", re.sub(r"[{}]", "", text.lower()))
    words = re.findall(r"[a-z0-9@]+", re.sub(r"\bf\W?1\b", "f1", text))
    return sorted(word for word in words if word not in FILLERS)


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
