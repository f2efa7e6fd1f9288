"""Training and validation have no photo in common, and both hold every class in proportion."""

import numpy as np
import pandas as pd
import pytest

from kernelkit.core.problem import Problem
from kernelkit.data.split import group_folds, split


def table(sizes, seed=0):
    """Return a shuffled table in which each photo is a group; `sizes` maps labels to counts."""
    labels = np.repeat(list(sizes), list(sizes.values()))
    rows = pd.DataFrame({"label": labels, "group": np.arange(len(labels))})
    return rows.sample(frac=1, random_state=seed).reset_index(drop=True)


@pytest.fixture(scope="module")
def real_sized():
    """A table as large as the real competition's, in which one photo in 50 is listed twice."""
    train = table({label: 1200 + 80 * label for label in range(10)})
    again = np.random.default_rng(0).random(len(train)) < 0.02
    train["group"] = train["group"].mask(again, train["group"].shift(fill_value=0))
    return train


@pytest.mark.parametrize("fraction", [0.15, 0.4])
def test_the_fraction_is_what_was_asked_for(real_sized, fraction):
    kept, held = split(real_sized, fraction, 0)
    assert len(held) / len(real_sized) == pytest.approx(fraction, abs=0.01)
    of_classes = held["label"].value_counts() / real_sized["label"].value_counts()
    np.testing.assert_allclose(of_classes, fraction, atol=0.012)
    assert not set(kept["group"]) & set(held["group"])


@pytest.mark.parametrize("fraction", [0.02, 0.05, 0.08, 0.12, 0.15, 0.19, 0.27, 0.35, 0.4, 0.49])
def test_any_fraction_is_nearly_met(fraction):
    train = table({0: 220, 1: 180})
    kept, held = split(train, fraction, 0)
    assert len(held) / len(train) == pytest.approx(fraction, abs=0.015)
    assert len(kept) + len(held) == len(train)


def test_a_small_class_does_not_change_the_fraction_much():
    kept, held = split(table({0: 300, 1: 200, 2: 5}), 0.4, 0)
    assert len(held) / (len(kept) + len(held)) == pytest.approx(0.4, abs=0.02)
    assert held["label"].nunique() == kept["label"].nunique() == 3


def test_every_class_gives_its_fraction():
    # With scikit-learn's own shuffle of groups one class gave 10 % and another 23 %.
    train = table({0: 160, 1: 70, 2: 300, 7: 91})
    for seed in range(4):
        kept, held = split(train, 0.15, seed)
        fractions = held["label"].value_counts() / train["label"].value_counts()
        assert fractions.between(0.12, 0.16).all()
        assert len(kept) + len(held) == len(train)


def test_groups_stay_whole():
    train = table({0: 60, 1: 60})
    train["group"] = np.random.default_rng(0).integers(0, 40, len(train))
    kept, held = split(train, 0.2, 3)
    assert not set(kept["group"]) & set(held["group"])
    assert 0.12 < len(held) / len(train) < 0.3


def test_the_seed_decides():
    train = table({0: 60, 1: 60})
    first, again, other = (split(train, 0.2, seed)[1] for seed in (1, 1, 2))
    assert first.equals(again)
    assert set(first["group"]) != set(other["group"])


def test_rows_keep_their_order_and_get_a_fresh_index():
    train = table({0: 30, 1: 30})
    for side in split(train, 0.2, 0):
        assert side.index.tolist() == list(range(len(side)))
        order = train["group"].tolist()
        assert side["group"].tolist() == sorted(side["group"], key=order.index)


@pytest.mark.parametrize("sizes", [{0: 2, 1: 2}, {0: 3, 1: 200}, {0: 4, 1: 3, 2: 2}, {5: 24, 6: 5}])
def test_small_classes_are_on_both_sides(sizes):
    kept, held = split(table(sizes), 0.15, 0)
    assert set(kept["label"]) == set(held["label"]) == set(sizes)


@pytest.mark.parametrize(
    "sizes",
    [
        dict.fromkeys(range(1200), 2),
        {n: 2 + n % 2 * 58 for n in range(100)},
        {n: 2 + n % 5 for n in range(5000)},  # stratified by another splitter
    ],
)
def test_many_small_classes_do_not_take_half_of_the_photos(sizes):
    kept, held = split(table(sizes), 0.15, 0)
    assert len(held) / (len(kept) + len(held)) == pytest.approx(0.15, abs=0.03)
    assert set(kept["label"]) == set(sizes)


def test_where_many_classes_cannot_validate_the_photos_are_divided_once(monkeypatch):
    """As 5,000 whales: each division of 25,000 photos takes a minute."""
    divided = []

    def counted(labels, groups, number, seed):
        divided.append(number)
        return group_folds(labels, groups, number, seed)

    monkeypatch.setattr("kernelkit.data.split.group_folds", counted)
    sizes = {"new_whale": 300} | {f"w{n}": 1 + n % 3 for n in range(300)}
    kept, held = split(table(sizes), 0.15, 0)
    assert len(divided) == 1
    assert len(held) / (len(kept) + len(held)) == pytest.approx(0.15, abs=0.03)
    assert set(kept["label"]) == set(sizes)


@pytest.mark.parametrize(("classes", "patients"), [(6, 3), (40, 2)])
def test_a_class_of_many_photos_in_few_groups_validates(classes, patients):
    train = table(dict.fromkeys(range(classes), 100))
    train["group"] = train["label"] * 10 + train["group"] % patients
    kept, held = split(train, 0.15, 0)
    assert kept["label"].nunique() == held["label"].nunique() == classes


@pytest.mark.parametrize("seed", range(3))
def test_a_group_of_most_photos_trains(seed):
    train = table(dict.fromkeys(range(5), 200))
    train["group"] = train["group"].where(train.index >= 600, -1)
    kept, held = split(train, 0.15, seed)
    assert len(held) < len(kept)
    assert held["label"].nunique() == 5


def test_a_class_of_one_photo_is_trained():
    kept, held = split(table({0: 20, 3: 20, 4: 1}), 0.15, 0)
    assert set(kept["label"]) == {0, 3, 4}
    assert set(held["label"]) == {0, 3}


def test_a_class_whose_photos_are_all_alike_is_trained_with_those_that_are_like_it():
    train = table({0: 20, 3: 20, 4: 5})
    train.loc[train["label"] == 4, "group"] = 99
    train.loc[train.index[train["label"] == 3][0], "group"] = 99
    kept, held = split(train, 0.15, 0)
    assert (kept["group"] == 99).sum() == 6
    assert set(held["label"]) == {0, 3}


def test_classes_of_one_photo_each_are_a_problem():
    with pytest.raises(Problem, match=r"No class has two photos that are not near-identical"):
        split(table({0: 1, 1: 1}), 0.15, 0)


def test_groups_that_tie_classes_together_are_a_problem():
    train = pd.DataFrame({"label": [0, 1, 0, 2, 1, 2], "group": [0, 0, 1, 1, 2, 2]})
    with pytest.raises(Problem, match=r"can't be split so that .* both hold every class"):
        split(train, 0.5, 0)
