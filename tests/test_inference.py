"""Blends, temperatures, views, suspects and pseudo-labels: each choice is a safe one."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from kernelkit.core.metrics import METRICS, accuracy, log_loss, losses
from kernelkit.core.problem import Problem
from kernelkit.predict import blending, suspects
from kernelkit.predict.blending import blend, combine
from kernelkit.predict.calibration import apply_temperature, expected_calibration_error, temperature
from kernelkit.predict.choosing import choose_views
from kernelkit.predict.pseudo import agreeing
from kernelkit.predict.suspects import label_suspects

CLASSES = 5


def truth_of(photos: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(CLASSES, size=photos)


def member(truth: np.ndarray, skill: float, seed: int) -> np.ndarray:
    """Return noisy probabilities, float32 [photos, classes].

    Most of the noise is the photo's own, so that members err on the same photos, as networks do.
    They are calibrated: the posterior of the logits is the softmax of skill / variance times them.
    A member of skill 0 is sure of random classes.
    """
    shared = np.random.default_rng(len(truth)).normal(size=(len(truth), CLASSES))
    own = np.random.default_rng(seed).normal(size=(len(truth), CLASSES))
    if not skill:
        return softmax(4 * own, axis=1).astype("float32")
    logits = shared + own / 2 + skill * np.eye(CLASSES)[truth]
    return softmax(skill / 1.25 * logits, axis=1).astype("float32")


def rows(*probabilities) -> np.ndarray:
    return np.array(probabilities, "float32")


# ------------------------------------------------------------------------------- blending


@pytest.mark.parametrize("seed", range(12))
def test_a_blend_is_never_less_accurate_than_its_best_member(seed):
    rng = np.random.default_rng(seed)
    truth = truth_of(60, seed)
    members = {
        f"m{number}": member(truth, rng.uniform(0, 4), 100 * seed + number)
        for number in range(rng.integers(1, 6))
    }
    chosen = blend(members, truth, None, seed)
    assert chosen.score >= max(chosen.scores.values())
    assert chosen.score == accuracy(combine(members, chosen.weights), truth)
    assert chosen.scores == {name: accuracy(members[name], truth) for name in members}
    assert sum(chosen.weights.values()) == pytest.approx(1)
    assert set(chosen.weights) == set(members)


def test_the_best_member_is_taken_alone_where_averaging_spoils_it():
    truth = np.array([0, 1, 2, 3, 4] * 4)
    good = rows(*np.where(np.eye(CLASSES)[truth], 0.28, 0.18))
    sure_and_wrong = rows(*np.eye(CLASSES)[(truth + 1) % CLASSES])
    chosen = blend({"b": sure_and_wrong, "a": good}, truth, np.zeros(20), 0)  # one group: no parts
    assert set(chosen.nested) == {"mean"}
    assert (chosen.method, chosen.score) == ("single", 1)
    assert chosen.weights == {"a": 1, "b": 0}


def test_one_member_needs_no_choice():
    truth = truth_of(30)
    chosen = blend({"only": member(truth, 2, 1)}, truth, None, 0)
    assert (chosen.method, chosen.weights) == ("single", {"only": 1})


@pytest.mark.parametrize("good", [2, 3, 5], ids="{} good".format)
def test_a_useless_member_gets_almost_no_weight(good):
    truth = truth_of(1000)
    members = [member(truth, 2, number) for number in range(good)]
    weights = blending.greedy_weights(np.stack([*members, member(truth, 0, 99)]), truth, 0)
    assert weights[-1] < 0.02
    assert weights[:-1].min() > 0.05


def test_no_single_member_gets_everything_where_there_are_many():
    """Half of the bags lack the best member; where members are few, each bag has it."""
    truth = truth_of(300)
    stack = np.stack([member(truth, skill, n) for n, skill in enumerate((5, 2, 2, 2, 2, 2))])
    assert 0.2 < blending.greedy_weights(stack, truth, 0)[0] < 0.8
    assert blending.greedy_weights(stack[: blending.FEW_MEMBERS], truth, 0)[0] > 0.95


def test_a_useless_member_is_left_out_of_the_blend():
    truth = truth_of(1000)
    members = {"a": member(truth, 2, 1), "b": member(truth, 2, 2), "useless": member(truth, 0, 9)}
    chosen = blend(members, truth, None, 0)
    assert chosen.method == "greedy"
    assert chosen.weights["useless"] < 0.02
    assert chosen.nested_scores["greedy"] > chosen.nested_scores["mean"] + 0.02


def test_weights_are_finer_than_halves():
    """The second member deserves a tenth, though a mean of the two is worse than the first."""
    truth = np.zeros(100, int)
    sure = np.repeat([[0.98, 0.02], [0.02, 0.98]], [95, 5], axis=0)
    unsure = np.tile([0.6, 0.4], (100, 1))
    stack = np.stack([sure, unsure])
    grid = np.linspace(0, 1, 201)
    losses = [log_loss(blending.average(stack, [1 - w, w]), truth) for w in grid]
    assert losses[100] > losses[0]
    expected = grid[np.argmin(losses)]
    assert expected == pytest.approx(0.1, abs=0.01)
    assert blending.select(stack, truth)[1] == pytest.approx(expected, abs=0.025)


def test_the_best_blend_on_the_way_is_returned_not_the_last():
    """Of three members of mirrored errors the even mean is best; 3 + 40 is no multiple of 3."""
    truth = np.zeros(3, int)
    one = np.array([[0.2, 0.8], [0.9, 0.1], [0.9, 0.1]])
    stack = np.stack([np.roll(one, shift, axis=0) for shift in range(3)])
    assert blending.select(stack, truth) == pytest.approx(np.full(3, 1 / 3))


def test_equal_members_are_not_weighted_where_photos_are_few():
    """Weights chosen on a few photos fit these photos; nested validation sees through it."""
    seen_through = 0
    for seed in range(6):
        truth = truth_of(150, seed)
        members = {f"m{n}": member(truth, 3, 1000 + 10 * seed + n) for n in range(5)}
        stack = np.stack(list(members.values()))
        fitted = blending.average(stack, blending.greedy_weights(stack, truth, seed))
        mean_loss = log_loss(blending.average(stack, None), truth)
        assert log_loss(fitted, truth) < mean_loss
        chosen = blend(members, truth, None, seed)
        assert chosen.nested["mean"] == pytest.approx(mean_loss)
        if chosen.nested["greedy"] > mean_loss:
            seen_through += 1
            assert chosen.method != "greedy"
    assert seen_through >= 5


def test_better_weights_are_found_where_photos_are_many():
    truth = truth_of(1500)
    members = {"good": member(truth, 4, 1), "fair": member(truth, 2.5, 2)}
    chosen = blend(members, truth, None, 0)
    assert chosen.method == "greedy"
    assert chosen.nested["greedy"] < chosen.nested["mean"]
    assert chosen.weights["good"] > chosen.weights["fair"]


@pytest.mark.parametrize(
    ("losses", "accuracies", "wins"),
    [
        ({"greedy": 0.3, "mean": 0.4}, {"greedy": 0.9, "mean": 0.9}, True),
        ({"greedy": 0.3, "mean": 0.4}, {"greedy": 0.8, "mean": 0.9}, False),
        ({"greedy": 0.5, "mean": 0.4}, {"greedy": 0.95, "mean": 0.9}, False),
        ({"greedy": 0.4, "mean": 0.4}, {"greedy": 0.9, "mean": 0.9}, False),
        ({"mean": 0.4}, {"mean": 0.9}, False),
    ],
    ids=["better", "less accurate", "higher loss", "tie", "not tried"],
)
def test_greedy_weights_must_be_better_in_loss_and_not_worse_in_accuracy(losses, accuracies, wins):
    assert blending.greedy_wins(losses, accuracies) == wins


def test_accuracy_decides_between_members_of_equal_log_loss():
    truth = np.array([0, 0])
    wrong = rows([0.4, 0.6, 0.0], [0.4, 0.6, 0.0])
    right = rows([0.4, 0.3, 0.3], [0.4, 0.3, 0.3])
    for stack, better in ((np.stack([wrong, right]), 1), (np.stack([right, wrong]), 0)):
        losses = blending.loss_of(stack[:, [0, 1], truth])
        assert blending.first_choice(losses, np.zeros(2), stack, truth) == better


@pytest.mark.parametrize("number", [3, 6])
def test_the_same_seed_gives_the_same_blend_in_any_order_of_members(number):
    truth = truth_of(120)
    members = {f"m{n}": member(truth, 2 + n / 4, n) for n in range(number)}
    groups = np.arange(120) // 2
    first = blend(members, truth, groups, 7)
    again = blend(dict(reversed(members.items())), truth, groups, 7)
    assert dataclasses.asdict(first) == dataclasses.asdict(again)
    stack = np.stack(list(members.values()))
    one, other = (blending.greedy_weights(stack, truth, seed) for seed in (7, 8))
    assert not np.array_equal(one, other)


def test_nested_validation_keeps_groups_whole_and_classes_in_proportion():
    rng = np.random.default_rng(0)
    groups = np.repeat(rng.permutation(100), 3)
    truth = np.repeat(truth_of(100), 3)
    parts = list(blending.outside_parts(truth, groups, 0))
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(300))
    assert len(parts) == blending.FOLDS
    for part in parts:
        assert set(groups[part]).isdisjoint(groups[np.setdiff1d(np.arange(300), part)])
        counts = np.bincount(truth[part], minlength=CLASSES)
        assert np.abs(counts - np.bincount(truth) / len(parts)).max() <= 3
    other = list(blending.outside_parts(truth, groups, 1))
    assert not np.array_equal(parts[0], other[0])


def test_outside_photos_have_no_part_in_their_weights(monkeypatch):
    truth = truth_of(50)
    stack = np.stack([member(truth, 3, 1), member(truth, 3, 2)])
    photos = {row.tobytes(): position for position, row in enumerate(stack[0])}
    seen = []

    def spy(stack, truth, seed):
        seen.append({photos[row.tobytes()] for row in stack[0]})
        return np.array([len(seen), 0.0])

    monkeypatch.setattr(blending, "greedy_weights", spy)
    monkeypatch.setattr(blending, "average", lambda stack, weights: weights_mark(stack, weights))
    inside_of = blending.nested_validation(stack, truth, np.arange(50) // 2, 0)["greedy"][:, 0]
    assert len(seen) == blending.FOLDS
    for photo, fold in enumerate(inside_of.astype(int)):
        assert not {photo, photo ^ 1} & seen[fold - 1]  # nor its near-identical neighbour


def weights_mark(stack: np.ndarray, weights) -> np.ndarray:
    """Return the first weight in place of the average: the number of the call that gave it."""
    return np.full(stack.shape[1:], 0.0 if weights is None else weights[0])


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "nothing to blend"),
        ({"a": np.full((3, 2), 0.5), "short": np.full((2, 2), 0.5)}, r"short .* \(2, 2\) of 3"),
        ({"a": np.full((3, 2), 0.5), "b": np.full((3, 4), 0.25)}, "classes differ"),
        ({"bad": np.full((3, 2), np.nan)}, "bad .* not finite"),
    ],
    ids=["none", "lengths", "classes", "diverged"],
)
def test_members_that_do_not_fit_are_named(members, said):
    with pytest.raises(Problem, match=said):
        blend(members, np.array([0, 1, 1]), None, 0)


def test_combining_leaves_out_members_without_weight():
    members = {"a": rows([1, 0]), "b": rows([0, 1]), "bad": rows([np.nan, np.nan])}
    combined = combine(members, {"a": 0.75, "b": 0.25, "bad": 0, "gone": 0})
    np.testing.assert_allclose(combined, [[0.75, 0.25]])
    assert combined.dtype == np.float32
    with pytest.raises(Problem, match="not there: gone"):
        combine(members, {"a": 0.5, "gone": 0.5})


# ---------------------------------------------------------------------------- calibration


def calibrated(photos: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 probabilities, and classes drawn by them."""
    rng = np.random.default_rng(seed)
    probabilities = softmax(2 * rng.normal(size=(photos, CLASSES)), axis=1)
    drawn = (rng.random((photos, 1)) > probabilities.cumsum(1)).sum(1)
    return probabilities, drawn.clip(0, CLASSES - 1)


@pytest.mark.parametrize("known", [0.5, 2.0])
def test_a_known_temperature_is_found_again(known):
    probabilities, truth = calibrated(20_000, 0)
    spoiled = apply_temperature(probabilities, 1 / known)
    found = temperature(spoiled, truth)
    assert found == pytest.approx(known, rel=0.05)
    healed = apply_temperature(spoiled, found)
    assert healed.dtype == np.float32
    np.testing.assert_allclose(healed.sum(1), 1, rtol=1e-5)
    assert log_loss(healed, truth) < log_loss(spoiled, truth)
    error = expected_calibration_error(spoiled, truth)
    assert expected_calibration_error(healed, truth) < 0.015 < error


def test_a_temperature_that_lowers_no_loss_is_1():
    same = np.full((10, CLASSES), 1 / CLASSES)
    assert temperature(same, truth_of(10)) == 1


def test_a_temperature_above_1_makes_less_sure():
    np.testing.assert_allclose(apply_temperature(rows([0.8, 0.2]), 2), [[2 / 3, 1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(apply_temperature(rows([0.8, 0.2]), 1), [[0.8, 0.2]], rtol=1e-6)


@pytest.mark.filterwarnings("error")
def test_a_probability_of_0_survives_a_temperature():
    np.testing.assert_allclose(apply_temperature(rows([1, 0]), 2), [[1, 0]], atol=1e-6)
    with pytest.raises(ValueError, match="not above 0"):
        apply_temperature(rows([1, 0]), 0)


def test_the_calibration_error_weights_bins_by_their_photos():
    probabilities = rows([0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.4, 0.6])
    truth = np.array([0, 0, 1, 1])
    expected = 3 / 4 * (0.9 - 2 / 3) + 1 / 4 * (1 - 0.6)
    assert expected_calibration_error(probabilities, truth) == pytest.approx(expected)
    assert expected_calibration_error(probabilities, truth, bins=5) == pytest.approx(expected)
    assert expected_calibration_error(probabilities, truth, bins=1) == pytest.approx(0.825 - 0.75)


# ---------------------------------------------------------------------------------- views


def test_a_helpful_view_is_kept_and_a_harmful_one_is_not():
    truth = truth_of(2000)
    plain, helpful, harmful = (member(truth, skill, n) for n, skill in enumerate((2, 2, 0)))
    assert choose_views([plain, helpful, harmful], truth) == [0, 1]
    assert choose_views([plain, harmful, helpful], truth) == [0, 2]
    assert choose_views([harmful, plain], truth) == [0, 1]  # the plain view always stays
    assert choose_views([plain], truth) == [0]


def test_a_view_that_is_worse_by_chance_alone_is_kept():
    """It costs a little loss in the mean, but no more than the photos differ among themselves."""
    truth = np.zeros(8, int)
    plain = np.array([[0.7, 0.3]] * 8)
    mixed = np.array([[0.9, 0.1], [0.5, 0.5]] * 4)
    assert log_loss((plain + mixed) / 2, truth) > log_loss(plain, truth)
    assert choose_views([plain, mixed], truth) == [0, 1]
    worse = np.array([[0.6, 0.4], [0.5, 0.5]] * 4)
    assert choose_views([plain, worse], truth) == [0]


def test_a_view_that_loses_photos_is_left_out_though_the_loss_falls():
    """Of 100 photos it turns nine from just right to just wrong, and is surer of the others."""
    truth = np.zeros(100, int)
    plain = np.array([[0.55, 0.45]] * 9 + [[0.6, 0.4]] * 91)
    view = np.array([[0.40, 0.60]] * 9 + [[0.9, 0.1]] * 91)
    mean = (plain + view) / 2
    assert log_loss(mean, truth) < log_loss(plain, truth)
    assert accuracy(mean, truth) == pytest.approx(0.91)
    assert choose_views([plain, view], truth) == [0]
    assert choose_views([plain, view], truth, METRICS["log-loss"]) == [0, 1]


def test_photo_losses_have_the_log_loss_as_their_mean():
    truth = truth_of(200)
    probabilities = member(truth, 1, 0)
    assert losses(probabilities, truth).mean() == pytest.approx(log_loss(probabilities, truth))
    wrong = np.array([[1.0, 0.0]])
    assert losses(wrong, np.array([1])) == pytest.approx(log_loss(wrong, np.array([1])))
    with pytest.raises(ValueError, match="NaN"):
        losses(np.array([[np.nan, 0.5]]), np.array([0]))


def test_a_view_that_changes_nothing_is_left_out():
    plain = rows([0.8, 0.2], [0.3, 0.7])
    assert choose_views([plain, plain], np.array([0, 1])) == [0]


# ------------------------------------------------------------------------------- suspects


def table_of(labels: np.ndarray, classes: np.ndarray) -> pd.DataFrame:
    ids = [f"{number}.jpg" for number in range(len(labels))]
    return pd.DataFrame({"Id": ids, "label": classes[labels], "path": [f"/x/{i}" for i in ids]})


def test_planted_wrong_labels_are_found_and_few_others():
    real = truth_of(1000)
    probabilities = member(real, 6, 1)
    planted = np.random.default_rng(2).choice(1000, 20, replace=False)
    labels = real.copy()
    labels[planted] = (labels[planted] + 1) % CLASSES
    classes = np.array(["a", "b", "c", "d", "e"])
    found = label_suspects(table_of(labels, classes), probabilities, labels, classes)
    positions = found["Id"].str.removesuffix(".jpg").astype(int).to_numpy()
    assert len(set(planted) & set(positions)) >= 19
    assert len(positions) <= 25
    assert len(set(planted) & set(positions[:15])) == 15  # they come first
    hit = np.isin(positions, planted)
    assert (found["suggested"][hit] == classes[real[positions[hit]]]).all()
    assert (found["label"] == classes[labels[positions]]).all()
    assert (found["path"] == "/x/" + found["Id"]).all()


def said_of(*groups: tuple[int, int, list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and probabilities of groups: how many photos, their label, what is said."""
    labels = np.repeat([label for _, label, _ in groups], [count for count, _, _ in groups])
    return labels, np.concatenate([rows(*[said] * count) for count, _, said in groups])


def test_the_confident_learning_rule():
    """Thresholds are 0.787 of class 0 and 0.754 of class 1; class 2 has nine photos and none."""
    labels, probabilities = said_of(
        (14, 0, [0.90, 0.06, 0.04]),
        (14, 1, [0.07, 0.89, 0.04]),
        (8, 2, [0.10, 0.10, 0.80]),
        (1, 0, [0.03, 0.92, 0.05]),  # 36: suspect
        (1, 1, [0.80, 0.02, 0.18]),  # 37: suspect, less surely
        (1, 1, [0.70, 0.02, 0.28]),  # the most probable class is below its threshold
        (1, 0, [0.20, 0.78, 0.02]),  # its own is more probable than for photos of other classes
        (1, 0, [0.01, 0.01, 0.98]),  # nobody knows what is usual for class 2
        (1, 2, [0.97, 0.02, 0.01]),  # nor for photos labelled so
    )
    classes = np.array([7, 8, 9])
    found = label_suspects(table_of(labels, classes), probabilities, labels, classes)
    assert found["Id"].tolist() == ["36.jpg", "37.jpg"]
    assert found["label"].tolist() == [7, 8]
    assert found["suggested"].tolist() == [8, 7]
    np.testing.assert_allclose(found["probability_of_label"], [0.03, 0.02])
    np.testing.assert_allclose(found["probability_of_suggested"], [0.92, 0.80])
    assert list(found.columns) == [
        "Id",
        "label",
        "suggested",
        "probability_of_label",
        "probability_of_suggested",
        "path",
    ]


@pytest.mark.parametrize("skill", [0, 0.5, 1, 2, 6])
@pytest.mark.parametrize("share", [0, 0.1])
def test_the_suggestion_is_always_the_most_probable_class(skill, share):
    real = truth_of(400)
    labels = np.where(np.random.default_rng(4).random(400) < share, (real + 1) % CLASSES, real)
    probabilities = member(real, skill, 3)
    found = label_suspects(table_of(labels, np.arange(CLASSES)), probabilities, labels, range(5))
    positions = found["Id"].str.removesuffix(".jpg").astype(int).to_numpy()
    assert (found["suggested"] == probabilities[positions].argmax(1)).all()
    assert (found["probability_of_label"] < found["probability_of_suggested"]).all()
    assert (found["suggested"] != found["label"]).all()


def test_a_poor_network_accuses_nobody_and_says_why():
    labels = truth_of(400)
    poor = member(labels, 0.5, 3)
    accuracy = (poor.argmax(1) == labels)[~suspects.contradicted(poor, labels)].mean()
    assert accuracy < suspects.GOOD_ENOUGH
    assert label_suspects(table_of(labels, np.arange(CLASSES)), poor, labels, range(5)).empty
    assert f"{accuracy:.1%}" in suspects.why_silent(poor, labels)
    assert suspects.why_silent(member(labels, 6, 1), labels) == ""


def test_wrong_labels_do_not_make_a_network_too_poor_to_accuse_them():
    """At 40 % of wrong labels it has 60 % right, of which the labels are to blame."""
    real = truth_of(1000)
    probabilities = member(real, 6, 1)
    other = (real + 1 + np.arange(1000) // 10 % (CLASSES - 1)) % CLASSES
    labels = np.where(np.arange(1000) % 10 < 4, other, real)
    assert (probabilities.argmax(1) == labels).mean() < suspects.GOOD_ENOUGH
    found = label_suspects(table_of(labels, np.arange(CLASSES)), probabilities, labels, range(5))
    positions = found["Id"].str.removesuffix(".jpg").astype(int)
    assert len(found) > 200
    assert (positions % 10 < 4).mean() > 0.95


def test_few_held_out_photos_accuse_nobody_and_the_cure_is_named():
    labels, probabilities = said_of((9, 0, [0.9, 0.1]), (9, 1, [0.1, 0.9]), (1, 1, [0.99, 0.01]))
    assert label_suspects(table_of(labels, np.arange(2)), probabilities, labels, range(2)).empty
    assert "--folds" in suspects.why_silent(probabilities, labels)


def test_margins_compare_with_the_largest_other_class():
    found = suspects.margins(rows([0.5, 0.3, 0.2], [0.1, 0.3, 0.6]), np.array([0, 1]))
    np.testing.assert_allclose(found, [0.2, -0.3], rtol=1e-6)


def test_no_suspects_are_an_empty_table():
    labels = np.array([0, 1])
    found = label_suspects(table_of(labels, np.arange(2)), np.eye(2), labels, [0, 1])
    assert found.empty
    assert "suggested" in found
    with pytest.raises(ValueError, match=r"\(2, 3, 2\) photos"):
        label_suspects(table_of(labels, np.arange(2)), np.eye(3), labels, [0, 1])


# --------------------------------------------------------------------------- pseudo-labels


def test_all_must_agree_and_be_sure_on_average():
    one = rows([0.1, 0.9], [0.9, 0.1], [0.99, 0.01], [0.7, 0.3], [0.5, 0.5])
    two = rows([0.4, 0.6], [0.6, 0.4], [0.49, 0.51], [0.6, 0.4], [np.nan, np.nan])
    positions, classes = agreeing([one, two], 0.7)
    assert positions.tolist() == [0, 1]
    assert classes.tolist() == [1, 0]
    assert positions.dtype == classes.dtype == np.int64
    assert agreeing([one], 0.95)[0].tolist() == [2]
    assert agreeing([rows([0.25, 0.75])], 0.75)[0].tolist() == [0]
    assert agreeing([one, two], 0.999)[0].size == 0
    with pytest.raises(ValueError, match="no predictions"):
        agreeing([], 0.9)
