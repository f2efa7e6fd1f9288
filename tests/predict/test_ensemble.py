"""A blend is a safe choice: never worse than its best member, and found on other photos."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from kernelkit.core.metrics import METRICS, accuracy, log_loss
from kernelkit.predict import ensemble
from kernelkit.predict.ensemble import blend, combine, combine_members
from predictions import (
    CLASSES,
    LABELS,
    SETTINGS,
    make_fold,
    make_folds,
    member,
    open_store,
    rows,
    truth_of,
)


def alone(truth):
    """Return groups of one photo each."""
    return np.arange(len(truth))


@pytest.mark.parametrize("seed", range(12))
def test_a_blend_is_never_less_accurate_than_its_best_member(seed):
    rng = np.random.default_rng(seed)
    truth = truth_of(60, seed)
    members = {
        f"m{number}": member(truth, rng.uniform(0, 4), 100 * seed + number)
        for number in range(rng.integers(1, 6))
    }
    chosen = blend(members, truth, alone(truth), seed)
    assert chosen.score >= max(chosen.scores.values())
    assert chosen.score == accuracy(combine(members, chosen.weights), truth)
    assert chosen.scores == {name: accuracy(members[name], truth) for name in members}
    assert sum(chosen.weights.values()) == pytest.approx(1)
    assert set(chosen.weights) == set(members)


def test_the_best_member_is_taken_alone_where_averaging_spoils_it():
    truth = np.array([0, 1, 2, 3, 4] * 4)
    good = rows(*np.where(np.eye(CLASSES)[truth], 0.28, 0.18))
    sure_and_wrong = rows(*np.eye(CLASSES)[(truth + 1) % CLASSES])
    chosen = blend({"b": sure_and_wrong, "a": good}, truth, np.zeros(20), 0)  # one group: no folds
    assert (chosen.method, chosen.score) == ("single", 1)
    assert chosen.weights == {"a": 1, "b": 0}


def test_one_member_needs_no_choice():
    truth = truth_of(30)
    chosen = blend({"only": member(truth, 2, 1)}, truth, alone(truth), 0)
    assert (chosen.method, chosen.weights) == ("single", {"only": 1})


@pytest.mark.parametrize("good", [2, 3, 5], ids="{} good".format)
def test_a_useless_member_gets_almost_no_weight(good):
    truth = truth_of(1000)
    members = [member(truth, 2, number) for number in range(good)]
    weights = ensemble.greedy_weights(np.stack([*members, member(truth, 0, 99)]), truth, 0)
    assert weights[-1] < 0.02
    assert weights[:-1].min() > 0.05


def test_no_single_member_gets_everything_where_there_are_many():
    """Half of the bags lack the best member; where members are few, each bag has it."""
    truth = truth_of(300)
    stack = np.stack([member(truth, skill, n) for n, skill in enumerate((5, 2, 2, 2, 2, 2))])
    assert 0.2 < ensemble.greedy_weights(stack, truth, 0)[0] < 0.8
    assert ensemble.greedy_weights(stack[: ensemble.FEW_MEMBERS], truth, 0)[0] > 0.95


def test_a_useless_member_is_left_out_of_the_blend():
    truth = truth_of(1000)
    members = {"a": member(truth, 2, 1), "b": member(truth, 2, 2), "useless": member(truth, 0, 9)}
    chosen = blend(members, truth, alone(truth), 0)
    assert chosen.method == "greedy"
    assert chosen.weights["useless"] < 0.02


def test_weights_are_finer_than_halves():
    """The second member deserves a tenth, though a mean of the two is worse than the first."""
    truth = np.zeros(100, int)
    sure = np.repeat([[0.98, 0.02], [0.02, 0.98]], [95, 5], axis=0)
    unsure = np.tile([0.6, 0.4], (100, 1))
    stack = np.stack([sure, unsure])
    grid = np.linspace(0, 1, 201)
    losses = [log_loss(ensemble.average(stack, [1 - w, w]), truth) for w in grid]
    assert losses[100] > losses[0]
    expected = grid[np.argmin(losses)]
    assert expected == pytest.approx(0.1, abs=0.01)
    assert ensemble.select(stack, truth)[1] == pytest.approx(expected, abs=0.025)


def test_the_best_blend_on_the_way_is_returned_not_the_last():
    """Of three members of mirrored errors the even mean is best; 3 + 40 is no multiple of 3."""
    truth = np.zeros(3, int)
    one = np.array([[0.2, 0.8], [0.9, 0.1], [0.9, 0.1]])
    stack = np.stack([np.roll(one, shift, axis=0) for shift in range(3)])
    assert ensemble.select(stack, truth) == pytest.approx(np.full(3, 1 / 3))


def test_equal_members_are_not_weighted_where_photos_are_few():
    """Weights chosen on a few photos fit these photos; nested validation sees through it."""
    seen_through = 0
    for seed in range(3):
        truth = truth_of(150, seed)
        members = {f"m{n}": member(truth, 3, 1000 + 10 * seed + n) for n in range(5)}
        stack = np.stack(list(members.values()))
        fitted = ensemble.average(stack, ensemble.greedy_weights(stack, truth, seed))
        mean_loss = log_loss(ensemble.average(stack, None), truth)
        assert log_loss(fitted, truth) < mean_loss
        chosen = blend(members, truth, alone(truth), seed)
        outside = ensemble.nested_greedy(stack, truth, alone(truth), seed)
        if log_loss(outside, truth) > mean_loss:
            seen_through += 1
            assert chosen.method != "greedy"
    assert seen_through >= 2


def test_better_weights_are_found_where_photos_are_many():
    truth = truth_of(1500)
    members = {"good": member(truth, 4, 1), "fair": member(truth, 2.5, 2)}
    chosen = blend(members, truth, alone(truth), 0)
    assert chosen.method == "greedy"
    assert chosen.weights["good"] > chosen.weights["fair"]


@pytest.mark.parametrize(
    ("greedy", "mean", "wins"),
    [
        ([0.7, 0.6], [0.6, 0.6], True),
        ([0.95, 0.45], [0.6, 0.6], False),
        ([0.4, 0.55], [0.55, 0.45], False),
        ([0.6, 0.6], [0.6, 0.6], False),
        (None, [0.6, 0.6], False),
    ],
    ids=["better", "less accurate", "higher loss", "tie", "not tried"],
)
def test_greedy_weights_must_be_better_in_loss_and_not_worse_in_accuracy(greedy, mean, wins):
    """The figures are the probabilities of two photos' classes."""
    greedy, mean = (each and rows(*([p, 1 - p] for p in each)) for each in (greedy, mean))
    assert ensemble.greedy_wins(greedy, mean, np.zeros(2, int), METRICS["accuracy"]) == wins


def test_accuracy_decides_between_members_of_equal_log_loss():
    truth = np.array([0, 0])
    wrong = rows([0.4, 0.6, 0.0], [0.4, 0.6, 0.0])
    right = rows([0.4, 0.3, 0.3], [0.4, 0.3, 0.3])
    for stack, better in ((np.stack([wrong, right]), 1), (np.stack([right, wrong]), 0)):
        losses = ensemble.loss_of(stack[:, [0, 1], truth])
        assert ensemble._first_choice(losses, np.zeros(2), stack, truth) == better


@pytest.mark.parametrize("number", [3, 6])
def test_the_same_seed_gives_the_same_blend_in_any_order_of_members(number):
    truth = truth_of(120)
    members = {f"m{n}": member(truth, 2 + n / 4, n) for n in range(number)}
    groups = np.arange(120) // 2
    first = blend(members, truth, groups, 7)
    again = blend(dict(reversed(members.items())), truth, groups, 7)
    assert dataclasses.asdict(first) == dataclasses.asdict(again)
    stack = np.stack(list(members.values()))
    one, other = (ensemble.greedy_weights(stack, truth, seed) for seed in (7, 8))
    assert not np.array_equal(one, other)


def test_outside_photos_have_no_part_in_their_weights(monkeypatch):
    truth = truth_of(50)
    stack = np.stack([member(truth, 3, 1), member(truth, 3, 2)])
    photos = {row.tobytes(): position for position, row in enumerate(stack[0])}
    seen = []

    def spy(stack, truth, seed):
        seen.append({photos[row.tobytes()] for row in stack[0]})
        return np.array([len(seen), 0.0])

    monkeypatch.setattr(ensemble, "greedy_weights", spy)
    monkeypatch.setattr(ensemble, "average", lambda stack, weights: weights_mark(stack, weights))
    inside_of = ensemble.nested_greedy(stack, truth, np.arange(50) // 2, 0)[:, 0]
    assert len(seen) == ensemble.FOLDS
    for photo, fold in enumerate(inside_of.astype(int)):
        assert not {photo, photo ^ 1} & seen[fold - 1]  # nor its near-identical neighbour


def weights_mark(stack: np.ndarray, weights) -> np.ndarray:
    """Return the first weight in place of the average: the number of the call that gave it."""
    return np.full(stack.shape[1:], 0.0 if weights is None else weights[0])


def test_combining_leaves_out_members_without_weight():
    members = {"a": rows([1, 0]), "b": rows([0, 1]), "bad": rows([np.nan, np.nan])}
    combined = combine(members, {"a": 0.75, "b": 0.25, "bad": 0, "gone": 0})
    np.testing.assert_allclose(combined, [[0.75, 0.25]])
    assert combined.dtype == np.float32


def members_of(place, folds, **rights):
    """Return members in memory, right about these fractions of the photos, with all folds."""
    store = open_store(*place, folds, False)
    for number, (name, right) in enumerate(rights.items()):
        for part in folds:
            store.add(name, SETTINGS, make_fold(part, right, number))
    return store.by_name


def judged(result, folds):
    """Return the accuracy of the result's probabilities on its own held-out photos."""
    truth = folds[0].positions(result.held_out)
    return accuracy_score(truth, result.validation.argmax(1))


def test_the_accuracy_of_a_larger_fold_counts_for_more(place):
    folds = make_folds(count=2, photos=5)
    members = members_of(place, folds, a=1)
    first, second = members["a"].folds.values()
    members["a"].folds[1] = dataclasses.replace(second, accuracy=0.5)
    assert (len(first.validation), len(second.validation), first.accuracy) == (3, 2, 1)
    assert combine_members(members, folds, 0).accuracy_plain == pytest.approx(0.8)


def test_a_single_member_is_taken_as_it_is(place, folds):
    members = members_of(place, folds, a=0.7)
    result = combine_members(members, folds, 0)
    assert result.blend.weights == {"a": 1}
    finished = members["a"].folds.values()
    assert result.accuracy == pytest.approx(np.mean([fold.accuracy for fold in finished]))
    assert result.accuracy == judged(result, folds)
    assert result.accuracy_plain == pytest.approx(result.accuracy)
    assert result.accuracy_tta == pytest.approx(result.accuracy + 0.01)
    assert sorted(result.held_out.Id) == sorted(f"{n}.jpg" for n in range(30))
    assert result.held_out.fold.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert result.test.argmax(1).tolist() == members["a"].test.argmax(1).tolist()
    np.testing.assert_allclose(result.validation.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(result.test.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("rights", [(0.9, 0.2), (0.6, 0.6), (0.3, 0.8)])
def test_a_blend_of_two_is_not_worse_than_the_better_one(place, rights):
    folds = make_folds(photos=90)
    members = members_of(place, folds, a=rights[0], b=rights[1])
    result = combine_members(members, folds, 0)
    truth = folds[0].positions(result.held_out)
    for each in members.values():
        said = np.concatenate([each.folds[fold].validation for fold in range(3)])
        assert result.accuracy >= accuracy_score(truth, said.argmax(1))
    assert result.accuracy == judged(result, folds)
    assert sum(result.blend.weights.values()) == pytest.approx(1)
    assert set(result.members) == set(result.temperatures) == {"a", "b"}
    assert f"validation accuracy {result.accuracy:.4f} on 90 photos" in result.sentence()


def test_members_are_compared_on_the_folds_that_both_have(place):
    folds = make_folds(photos=90)
    members = members_of(place, folds, a=0.9, b=0.5)
    del members["b"].folds[1]
    result = combine_members(members, folds, 0)
    assert set(result.held_out.fold) == {0, 2}
    assert len(result.held_out) == 60
    assert result.held_out.Id.tolist() == [
        *folds[0].validation.Id.tolist(),
        *folds[2].validation.Id.tolist(),
    ]
    assert set(result.blend.weights) == {"a", "b"}
    assert result.accuracy == judged(result, folds)


def test_where_no_fold_is_common_the_member_with_most_folds_stands_alone(place, folds):
    members = members_of(place, folds, a=0.9, b=0.5)
    del members["a"].folds[0], members["a"].folds[2], members["b"].folds[1]
    result = combine_members(members, folds, 0)
    assert result.blend.weights == {"b": 1}
    assert set(result.members) == {"b"}
    assert set(result.held_out.fold) == {0, 2}


@pytest.mark.parametrize("classes", LABELS, ids=["int", "str"])
def test_members_from_disk_combine_like_those_in_memory(place, classes):
    folds = make_folds(classes=classes)
    members = members_of(place, folds, a=0.9, b=0.6)
    one, two = (
        combine_members(each, folds, 0)
        for each in (members, open_store(*place, folds, True).by_name)
    )
    assert np.array_equal(one.validation, two.validation)
    assert np.array_equal(one.test, two.test)
    assert one.blend == two.blend
