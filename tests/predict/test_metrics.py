"""Every metric equals scikit-learn's, and steers what it should: epochs, views and blends."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk

from kernelkit.core.metrics import (
    METRICS,
    ValidationMetrics,
    mcnemar,
    metric_called,
    metric_named,
    paired_difference,
    unpacked,
    wilson,
)
from kernelkit.core.problem import Problem
from kernelkit.predict.ensemble import blend
from kernelkit.predict.tta import choose_views
from kernelkit.train.output import open_state

PHOTOS = 240


def said(classes=4, seed=0, skill=1.5):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, PHOTOS)
    logits = rng.normal(0, 1, (PHOTOS, classes))
    logits[np.arange(PHOTOS), truth] += skill
    exp = np.exp(logits)
    return np.float32(exp / exp.sum(1, keepdims=True)), truth


def top5(probabilities, truth):
    order = np.argsort(-probabilities, axis=1)[:, :5]
    ranks = [np.flatnonzero(row == label) for row, label in zip(order, truth, strict=True)]
    return np.mean([1 / (rank[0] + 1) if len(rank) else 0 for rank in ranks])


EXPECTED = {
    "accuracy": lambda p, t: sk.accuracy_score(t, p.argmax(1)),
    "macro-f1": lambda p, t: sk.f1_score(t, p.argmax(1), average="macro"),
    "micro-f1": lambda p, t: sk.f1_score(t, p.argmax(1), average="micro"),
    "log-loss": lambda p, t: sk.log_loss(t, p),
    "auc": lambda p, t: sk.roc_auc_score(t, p[:, 1]),
    "mean-auc": lambda p, t: np.mean([sk.roc_auc_score(t == c, p[:, c]) for c in range(4)]),
    "kappa": lambda p, t: sk.cohen_kappa_score(t, p.argmax(1), weights="quadratic"),
    "map@5": top5,
}


@pytest.mark.parametrize("name", METRICS)
def test_each_metric_is_what_it_is_called(name):
    given = said(2 if name == "auc" else 9 if name == "map@5" else 4)
    metric = METRICS[name]
    assert metric.score(*given) == pytest.approx(EXPECTED[name](*given), abs=1e-6)
    if metric.each:
        assert metric.each(*given).mean() == pytest.approx(metric.score(*given), abs=1e-6)
    better = said(2 if name == "auc" else 9 if name == "map@5" else 4, skill=4)
    assert metric.merit(*better) > metric.merit(*given)
    low, high = metric.interval(*given)
    assert low < metric.score(*given) < high
    assert 0 < metric.error(*given) < 0.1


@pytest.mark.parametrize("photos", [1, 3, 40])
@pytest.mark.parametrize("name", METRICS)
def test_an_interval_lies_in_what_a_score_can_be_and_has_a_width(name, photos):
    """Of perfect predictions, of wrong ones, of equal ones and of usual ones."""
    metric, classes = METRICS[name], 4
    least, most = {"kappa": (-1, 1), "log-loss": (0, 16)}.get(name, (0, 1))
    usual, truth = (values[:photos] for values in said(classes))
    perfect = np.eye(classes, dtype=np.float32)[truth]
    wrong = np.eye(classes, dtype=np.float32)[(truth + 1) % classes]
    for probabilities in (perfect, wrong, np.full_like(usual, 0.25), usual):
        low, high = metric.interval(probabilities, truth)
        score = metric.score(probabilities, truth)
        assert least <= low <= score <= high <= most
        assert high - low > 1 / (photos + 4) / 2


def test_an_interval_holds_the_true_score_as_often_as_it_says():
    """On photos of one population the score of very many of them is inside 95 times in 100."""
    metric, classes = METRICS["macro-f1"], 6
    rng = np.random.default_rng(5)
    truth = rng.integers(0, classes, 40_000)
    logits = rng.normal(0, 1, (len(truth), classes))
    logits[np.arange(len(truth)), truth] += 1.5
    exp = np.exp(logits)
    probabilities = np.float32(exp / exp.sum(1, keepdims=True))
    true, inside = metric.score(probabilities, truth), 0
    for _ in range(100):
        rows = rng.choice(len(truth), 150, replace=False)
        low, high = metric.interval(probabilities[rows], truth[rows])
        inside += low <= true <= high
    assert inside >= 88  # the binomial distribution is below that once in 250 times


def test_an_interval_of_a_difference_adds_half_a_photo_to_each_outcome():
    """Of 56 photos 16 are right in ours alone and 7 in theirs alone."""
    ours, theirs = np.zeros(56, bool), np.zeros(56, bool)
    ours[:16], theirs[16:23] = True, True
    interval = paired_difference(ours, theirs)
    middle, side = 9 / 58, 1.96 * math.sqrt(24 - 81 / 58) / 58
    assert interval.value == pytest.approx(9 / 56)
    expected = (middle - side, middle + side)
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-5)
    for photos in (1, 3, 200):
        same = np.ones(photos, bool)
        interval = paired_difference(same, same)
        assert -1 < interval.low < 0 < interval.high < 1
        interval = paired_difference(same, ~same)
        assert interval.low < interval.high == 1


@pytest.mark.parametrize("name", ["macro-f1", "mean-auc", "kappa"])
def test_the_bootstrapped_error_is_that_of_other_photos(name):
    """The standard deviation over samples of photos is what a standard error estimates."""
    others = [METRICS[name].score(*said(seed=seed)) for seed in range(60)]
    assert METRICS[name].error(*said()) == pytest.approx(np.std(others), rel=0.4)


def test_metrics_of_photos_of_one_class():
    same = np.tile(np.float32([[0.3, 0.7]]), (5, 1)), np.ones(5, int)
    values = {name: metric.score(*same) for name, metric in METRICS.items()}
    assert values["auc"] == values["mean-auc"] == 0.5
    assert values["kappa"] == values["accuracy"] == values["map@5"] == 1


# Metrics whose names hold one of ours, or that leave open which is meant.
OTHERS = (
    *("Root Mean Squared Error", "Balanced Accuracy", "Top-5 accuracy", "Mean Class Accuracy"),
    *("Average accuracy", "PR AUC", "Partial AUC", "Area under the precision recall curve"),
    *("Average Precision", "Mean Average Precision", "MAP@3", "Weighted Log Loss", "Mean F-Score"),
    *("Mean Columnwise Log Loss", "Linear Weighted Kappa", "Cohen's Kappa", "Weighted Kappa"),
    *("F-Beta", "F2", "Macro F2", "Weighted F1", "F1", "Weighted mean column-wise AUC"),
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Categorization Accuracy", "accuracy"),
        ("Multiclass Loss", "log-loss"),
        ("LogLoss", "log-loss"),
        ("Log Loss", "log-loss"),
        ("Area Under Receiver Operating Characteristic Curve", "auc"),
        ("AUC", "auc"),
        ("Mean Column-wise ROC AUC", "mean-auc"),
        ("MCAUC", "mean-auc"),
        ("Quadratic Weighted Kappa", "kappa"),
        ("MAP@{K}", "map@5"),
        ("Macro F-Score", "macro-f1"),
        ("Mean F-Score (micro)", "micro-f1"),
        ("QuadraticWeightedKappa", "kappa"),
        ("Area under the ROC curve", "auc"),
        ("F1 (macro)", "macro-f1"),
        ("Mean Average Precision @ 5", "map@5"),
        *((other, "") for other in OTHERS),
    ],
)
def test_names_of_kaggle(text, name):
    assert metric_called(text) == name


def test_an_unknown_metric_is_told(tmp_path):
    with pytest.raises(Problem, match="the metric 'rmse': give one of accuracy, macro-f1"):
        metric_named("rmse")
    with pytest.raises(Problem, match="'rmse'"):
        open_state(tmp_path / "state", {"metric": "rmse"}, "photos", fresh=False)


def test_another_metric_is_another_run(tmp_path):
    state = open_state(tmp_path / "state", {"metric": "auc"}, "photos", fresh=False)
    state.history.append({"seconds": 1.0})
    state.save()
    with pytest.raises(Problem, match=r"other settings \(metric\)"):
        open_state(tmp_path / "state", {"metric": "log-loss"}, "photos", fresh=False)


def test_published_intervals_of_a_fraction():
    """Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table 1."""
    for right, photos, low, high in ((81, 263, 0.2553, 0.3662), (0, 20, 0, 0.1611)):
        interval = wilson(right, photos)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)
        expected = binomtest(right, photos).proportion_ci(method="wilson")
        assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=1e-7)
    assert wilson(20, 20).high == 1


@pytest.mark.parametrize(("ours", "theirs"), [(0, 0), (1, 0), (7, 16), (16, 7), (300, 200)])
def test_the_p_of_a_pair_is_the_binomial_one(ours, theirs):
    both = ours + theirs
    expected = binomtest(ours, both).pvalue if both else 1
    assert mcnemar(ours, theirs) == pytest.approx(expected)


def test_validation_metrics_measure_and_pass_on_what_is_no_number():
    probabilities, truth = said()
    judge = ValidationMetrics(METRICS["log-loss"], truth)
    told = judge(probabilities)
    assert told["score"] == told["loss"] == pytest.approx(sk.log_loss(truth, probabilities))
    assert told["accuracy"] == sk.accuracy_score(truth, probabilities.argmax(1))
    assert (unpacked(judge.right, len(truth)) == (probabilities.argmax(1) == truth)).all()
    probabilities[3, 0] = np.nan
    assert all(map(math.isnan, judge(probabilities).values()))


NETWORK = SimpleNamespace(get_weights=list, save_weights=lambda path: path.write_text("weights"))


def commit(state, score, error=0.0, over=False):
    row = {"member": "", "fold": 0, "seconds": 1.0, "val_score": score, "val_loss": 0.5}
    state.record_epoch(row, NETWORK, error=error, stage_over=over)


@pytest.mark.parametrize(
    ("name", "scores", "error", "chosen"),
    [
        ("log-loss", [0.9, 0.5, 0.6, 0.7], 0.0, 2),  # the lowest
        ("log-loss", [0.9, 0.5, 0.52, 0.7], 0.05, 3),  # the latest within one error of it
        ("auc", [0.7, 0.9, 0.85, 0.8], 0.0, 2),
        ("kappa", [-0.3, -0.2, -0.4], 0.0, 2),
    ],
)
def test_the_metric_chooses_the_epoch(tmp_path, name, scores, error, chosen):
    state = open_state(tmp_path / "state", {"metric": name}, "photos", fresh=False)
    for score in scores:
        commit(state, score, error)
    assert (state.best, state.best_score) == (f"epoch-{chosen:04d}.weights.h5", scores[chosen - 1])


def test_a_view_that_spoils_the_metric_is_left_out():
    """Doubling the odds of one half of the photos alone keeps every label, but spoils the order."""
    probabilities, truth = said(2, skill=1)
    spoilt = probabilities.copy()
    half = np.arange(PHOTOS) % 2 == 0
    spoilt[half, 1] = spoilt[half, 1] / 2 + 0.5
    spoilt[~half, 1] /= 2
    spoilt[:, 0] = 1 - spoilt[:, 1]
    assert choose_views([probabilities, spoilt], truth, METRICS["auc"]) == [0]
    squeezed = 0.5 + (probabilities - 0.5) * 0.01  # a worse log loss, the very same order
    assert choose_views([probabilities, squeezed], truth, METRICS["auc"]) == [0]  # no gain
    assert choose_views([probabilities, squeezed], truth, METRICS["log-loss"]) == [0]
    other, _ = said(2, skill=1)
    flipped = np.where(truth[:, None] == [0, 1], other.max(1)[:, None], other.min(1)[:, None])
    assert choose_views([probabilities, np.float32(flipped)], truth, METRICS["auc"]) == [0, 1]


def test_a_blend_is_judged_by_the_metric():
    members = {"a": said(seed=1)[0], "b": said(seed=1)[0] ** 3}
    members["b"] /= members["b"].sum(1, keepdims=True)
    truth = said(seed=1)[1]
    for name in ("log-loss", "mean-auc", "macro-f1"):
        metric = METRICS[name]
        made = blend(members, truth, np.arange(PHOTOS), 0, metric)
        assert made.scores == {n: metric.score(m, truth) for n, m in sorted(members.items())}
        best = max(made.scores.values()) if metric.greater else min(made.scores.values())
        assert metric.sign * (made.score - best) >= -1e-12
