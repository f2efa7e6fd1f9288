"""The metrics by which everything is chosen, their intervals, and tests of differences.

Another metric is another row of METRICS. The 95 % interval of a fraction of photos is Wilson's
(1927); that of the difference of two fractions on the same photos is Agresti's and Min's (2005);
that of any other score comes from a percentile bootstrap over photos. None of them reaches beyond
what the score can be, and none has width 0. Everywhere probabilities are float [photos, classes]
and truth is int [photos], the positions of the true classes.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kernelkit.core.problem import Problem

# scikit-learn is imported where it is used: it takes a second, which `ship compare` does without.

DRAWS = 60  # of the bootstrap, for a standard error
MOST_DRAWS, LEAST_DRAWS = 1000, 200  # for an interval; the fewer, the more photos and classes
DRAWN_VALUES = 500_000_000  # draws times photos times classes of an interval
Z = 1.959964  # standard errors of a 95 % interval to each side
TOP = 5  # of MAP@5

Score = Callable[[np.ndarray, np.ndarray], float]


# ------------------------------------------------------------------------------------ scores


def log_loss(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean negative logarithm of the true class' probability.

    Probabilities are taken as float32, which scikit-learn clips at 1.2e-7: a single photo, whose
    label may be wrong, costs 16 at most. Raises ValueError if the lengths differ, there are no
    photos, or a probability is not finite.
    """
    from sklearn import metrics

    classes = np.arange(probabilities.shape[1])  # a class may be missing from the truth
    return float(metrics.log_loss(truth, probabilities.astype("float32"), labels=classes))


def losses(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return each photo's log loss, float64 [photos]; raises ValueError as `log_loss` does."""
    log_loss(probabilities, truth)  # checks the arguments
    of_truth = np.float32(probabilities)[np.arange(len(truth)), truth]
    return -np.log(np.maximum(of_truth, np.finfo(np.float32).eps).astype(np.float64))


def accuracy(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the fraction of photos that are right, 0 to 1; ValueError if the lengths differ."""
    from sklearn import metrics

    return float(metrics.accuracy_score(truth, probabilities.argmax(1)))


def hits(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return 1 for each photo whose most probable class is the true one, else 0."""
    return (probabilities.argmax(1) == truth).astype(float)


def _macro_f1(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean F1 of the classes that are a label or predicted, 0 to 1."""
    predicted, classes = probabilities.argmax(1), probabilities.shape[1]
    right = np.bincount(truth[predicted == truth], minlength=classes)
    either = np.bincount(truth, minlength=classes) + np.bincount(predicted, minlength=classes)
    return float((2 * right[either > 0] / either[either > 0]).mean())


def _auc(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean area under the classes' ROC curves, each against the rest, 0 to 1."""
    # Of two classes the second counts. Classes that no photo, or every photo, is of are left out.
    # An area is the Mann-Whitney statistic: the share of pairs that are in the right order.
    from scipy.stats import rankdata

    of_class = np.equal.outer(truth, np.arange(probabilities.shape[1]))
    defined = of_class.any(0) & ~of_class.all(0)
    defined[0] &= len(defined) > 2
    if not defined.any():
        return 0.5
    of_class = of_class[:, defined]
    ranks, inside = rankdata(probabilities[:, defined], axis=0), of_class.sum(0)
    below = (ranks * of_class).sum(0) - inside * (inside + 1) / 2
    return float((below / (inside * (len(truth) - inside))).mean())


def _kappa(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return Cohen's kappa with quadratic weights, of classes in their order, up to 1."""
    predicted = probabilities.argmax(1)
    moments = truth, predicted, truth**2, predicted**2, (truth - predicted) ** 2
    label, guess, label2, guess2, observed = np.mean(moments, axis=1)
    expected = label2 + guess2 - 2 * label * guess
    return float(1 - observed / expected) if expected > 1e-12 else 1.0


def _precisions(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return 1 / rank of each photo's true class, 0 where it is not among the five best."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    rank = (order == truth[:, None]).argmax(1) + 1
    return np.where(rank <= TOP, 1 / rank, 0.0)


# ---------------------------------------------------------------------- intervals and tests


@dataclass(frozen=True)
class Interval:
    """A fraction, or a difference of fractions, with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(right: int, photos: int) -> Interval:
    """Return a fraction of one or more photos with Wilson's 95 % interval, 0 to 1."""
    share, z2 = right / photos, Z**2
    middle = (right + z2 / 2) / (photos + z2)
    side = Z * math.sqrt(photos * share * (1 - share) + z2 / 4) / (photos + z2)
    low, high = middle - side if right else 0.0, middle + side if right < photos else 1.0
    return Interval(share, low, high)


def paired_difference(ours: np.ndarray, theirs: np.ndarray) -> Interval:
    """Return by how much our fraction of right photos, bool [photos], exceeds theirs on the same.

    The interval is after Agresti and Min, "Simple improved confidence intervals for comparing
    matched proportions" (2005): Wald's with half a photo added to each of the four outcomes of a
    pair.
    """
    more, less = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    photos = len(ours) + 2
    middle = (more - less) / photos
    side = Z * math.sqrt(more + less + 1 - (more - less) ** 2 / photos) / photos
    value = (more - less) / max(1, len(ours))
    return Interval(value, max(-1.0, middle - side), min(1.0, middle + side))


def mcnemar(only_ours: int, only_theirs: int) -> float:
    """Return the two-sided p of McNemar's exact test, of how many photos only one gets right."""
    both = only_ours + only_theirs
    tail = sum(math.comb(both, k) for k in range(min(only_ours, only_theirs) + 1))
    return min(1.0, 2 * tail / 2**both)


# ------------------------------------------------------------------------------ the metrics


@dataclass(frozen=True)
class Metric:
    """How a competition scores."""

    name: str  # as people call it
    score: Score
    called: tuple[str, ...]  # Kaggle's names for it, as `_plain_words` has them
    greater: bool = True  # whether a greater value is better
    each: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None  # a photo's, if it is a mean
    guessed: Callable[[int], float] = lambda classes: 0.0  # its value of a guess among so many
    by_loss: bool = True  # whether a lower log loss helps: not where only the photos' order counts
    ordinal: bool = False  # whether the order of the classes counts
    submission: Literal["label", "probability", "best"] = "label"  # for a sample of one column
    labels: int = 1  # in a cell of the submission

    @property
    def sign(self) -> int:
        """1 where a greater value is better, else -1."""
        return 1 if self.greater else -1

    @property
    def is_fraction(self) -> bool:
        """Whether it is the fraction of photos that are right."""
        return self.each is hits

    @property
    def interval_method(self) -> str:
        """How `interval` is computed, for people."""
        return "Wilson" if self.is_fraction else "percentile bootstrap over photos"

    def merit(self, probabilities: np.ndarray, truth: np.ndarray) -> float:
        """Return the score, negative where less is better: the greater of two is better."""
        return self.sign * self.score(probabilities, truth)

    def error(self, probabilities: np.ndarray, truth: np.ndarray) -> float:
        """Return the score's standard error, by photos or by a bootstrap of fixed draws."""
        if self.each:
            return float(self.each(probabilities, truth).std() / math.sqrt(len(truth)))
        return float(np.std(self._drawn(probabilities, truth)))

    def gain(self, theirs: np.ndarray, ours: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
        """Return by how much ours is better, paired by photo, and the standard error of that."""
        gain = self.merit(ours, truth) - self.merit(theirs, truth)
        if self.each:
            paired = self.each(ours, truth) - self.each(theirs, truth)
            return gain, float(paired.std() / math.sqrt(len(truth)))
        return gain, float(np.std(self._drawn(ours, truth) - self._drawn(theirs, truth)))

    def gain_p(self, theirs: np.ndarray, ours: np.ndarray, truth: np.ndarray) -> float:
        """Return the two-sided p of the gain: exact (McNemar) for a fraction, else normal."""
        if self.is_fraction:
            right, other = hits(ours, truth), hits(theirs, truth)
            return mcnemar(int((right > other).sum()), int((other > right).sum()))
        gain, error = self.gain(theirs, ours, truth)
        return math.erfc(abs(gain) / error / math.sqrt(2)) if error else 1.0

    def interval(self, probabilities: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
        """Return the score's 95 % interval: Wilson's for a fraction of photos, else a bootstrap's.

        A bootstrap of few photos that are all right has no width. So it is at least as wide as if
        z^2 = 3.84 more photos had been guessed, or had been perfect: of a perfect sample, that is
        Wilson's interval.
        """
        score, photos = self.score(probabilities, truth), len(truth)
        if self.is_fraction:
            interval = wilson(round(score * photos), photos)
            return interval.low, interval.high
        draws = int(np.clip(DRAWN_VALUES / probabilities.size, LEAST_DRAWS, MOST_DRAWS))
        ends = list(np.percentile(self._drawn(probabilities, truth, draws), (2.5, 97.5)))
        for other in (self.guessed(probabilities.shape[1]), float(self.greater)):
            ends.append((photos * score + Z**2 * other) / (photos + Z**2))
        return float(min(score, *ends)), float(max(score, *ends))

    def _drawn(
        self, probabilities: np.ndarray, truth: np.ndarray, draws: int = DRAWS
    ) -> np.ndarray:
        """Return the scores, float64 [draws], of photos drawn with replacement, always the same."""
        rng, photos = np.random.default_rng(0), len(truth)
        draws = (rng.integers(photos, size=photos) for _ in range(draws))
        if self.each:
            values = self.each(probabilities, truth)
            return np.asarray([values[rows].mean() for rows in draws])
        return np.asarray([self.score(probabilities[rows], truth[rows]) for rows in draws])


METRICS = {
    "accuracy": Metric("accuracy", accuracy, ("accuracy", "top 1 accuracy"), each=hits),
    "macro-f1": Metric(
        "macro F1", _macro_f1,
        ("macro f1", "macro f", "mean macro f1", "mean macro f", "macro average f1"),
    ),
    "micro-f1": Metric(
        "micro F1", accuracy,  # of one label a photo, it is the same
        ("micro f1", "micro f", "mean micro f1", "mean micro f", "micro average f1"),
        each=hits,
    ),
    "log-loss": Metric(
        "log loss", log_loss,
        ("log loss", "logloss", "logarithmic loss", "multiclass loss", "multi class loss",
         "cross entropy", "crossentropy"),
        greater=False, each=losses, guessed=math.log, submission="probability",
    ),
    "mean-auc": Metric(
        "mean AUC", _auc,
        ("mean auc", "mean columnwise auc", "mean column wise auc", "columnwise auc", "mcauc"),
        guessed=lambda classes: 0.5, by_loss=False,
    ),
    "auc": Metric(
        "AUC", _auc, ("auc", "auroc"),
        guessed=lambda classes: 0.5, by_loss=False, submission="probability",
    ),
    "kappa": Metric(
        "quadratic kappa", _kappa,
        ("quadratic weighted kappa", "quadratic kappa", "qwk", "cohen quadratic weighted kappa",
         "cohen quadratic kappa", "quadratically weighted kappa"),
        ordinal=True,
    ),
    "map@5": Metric(
        "MAP@5", lambda *given: float(_precisions(*given).mean()),
        ("map@5", "map@k", "map at 5", "mean average precision@5", "mean average precision at 5"),
        each=_precisions, submission="best", labels=TOP,
    ),
}  # fmt: skip

# Words that change no metric's name, and kinds of classes before accuracy or a loss's name.
FILLERS = {"the", "of", "score", "scores", "metric", "measure", "averaged", "curve", "s"}
KINDS = r"\b(multi ?class|categorical|categorization|classification|binary) (?=accuracy|log|cross)"
AREA = r"\barea under (receiver operating characteristic|roc)( auc| roc auc)?\b|\broc auc\b"


def metric_named(name: str) -> Metric:
    """Return a row of METRICS. Raises Problem if there is none of that name."""
    if name not in METRICS:
        raise Problem(f"COMPETITION has the metric {name!r}: give one of {', '.join(METRICS)}.")
    return METRICS[name]


def usual_metric(submission: str) -> str:
    """Return the first row of METRICS for a form of submission, as `Layout` names it."""
    form = "probability" if submission == "probabilities" else submission
    return next(name for name, row in METRICS.items() if row.submission == form)


def metric_called(text: str) -> str:
    """Return the row of METRICS of a name at Kaggle, "" where it is not surely one of them.

    All words of the name must be those of one metric, in any order: balanced accuracy, weighted log
    loss or PR AUC are others.
    """
    words = _plain_words(text)
    same = (row for row, m in METRICS.items() if words in [_plain_words(name) for name in m.called])
    return next(same, "")


def _plain_words(text: str) -> list[str]:
    """Return the words of a metric's name that count, in lower case and sorted."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)  # LogLoss
    text = re.sub(r"\s*@\s*", "@", re.sub(r"[{}]", "", text.lower()))
    words = re.findall(r"[a-z0-9@]+", re.sub(r"\bf\W?1\b", "f1", text))
    text = " ".join(word for word in words if word not in FILLERS)
    return sorted(re.sub(KINDS, "", re.sub(AREA, "auc", text)).split())


def packed(right: np.ndarray) -> str:
    """Return which photos are right, bool [photos], as a short text: bits in hexadecimal."""
    return np.packbits(right).tobytes().hex()


def unpacked(text: str, photos: int) -> np.ndarray:
    """Return what `packed` wrote of so many photos, bool [photos]."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
    return bits[:photos].astype(bool)


@dataclass
class ValidationMetrics:
    """Measures a network's validation predictions after an epoch."""

    metric: Metric
    truth: np.ndarray
    right: str = ""  # which photos were right when it was called last; see `packed`

    def __call__(self, probabilities: np.ndarray) -> dict[str, float]:
        """Return loss, accuracy, score and its standard error; NaN where a probability is NaN."""
        if not np.isfinite(probabilities).all():
            return dict.fromkeys(("loss", "accuracy", "score", "error"), math.nan)
        given = probabilities, self.truth
        self.right = packed(probabilities.argmax(1) == self.truth)
        figures = {"loss": log_loss(*given), "accuracy": accuracy(*given)}
        return figures | {"score": self.metric.score(*given), "error": self.metric.error(*given)}
