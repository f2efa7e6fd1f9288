"""Wrong labels are found, and right ones are left alone."""

import numpy as np
import pandas as pd
import pytest

from kernelkit.predict import label_issues
from kernelkit.predict.label_issues import find_label_issues
from predictions import (
    CLASSES,
    member,
    rows,
    truth_of,
)


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
    found = find_label_issues(table_of(labels, classes), probabilities, labels, classes)
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
    """Thresholds are 0.787 of class 0 and 0.754 of class 1; class 2 has nine photos and none.

    They are ranked by margin, not by the probability of the label alone.
    """
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
    found = find_label_issues(table_of(labels, classes), probabilities, labels, classes)
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
    found = find_label_issues(table_of(labels, np.arange(CLASSES)), probabilities, labels, range(5))
    positions = found["Id"].str.removesuffix(".jpg").astype(int).to_numpy()
    assert (found["suggested"] == probabilities[positions].argmax(1)).all()
    assert (found["probability_of_label"] < found["probability_of_suggested"]).all()
    assert (found["suggested"] != found["label"]).all()


def test_a_poor_network_accuses_nobody_and_says_why():
    labels = truth_of(400)
    poor = member(labels, 0.5, 3)
    accuracy = (poor.argmax(1) == labels)[~label_issues.contradicted(poor, labels)].mean()
    assert accuracy < label_issues.LEAST_ACCURACY
    assert find_label_issues(table_of(labels, np.arange(CLASSES)), poor, labels, range(5)).empty
    assert f"{accuracy:.1%}" in label_issues.why_no_issues(poor, labels)
    assert label_issues.why_no_issues(member(labels, 6, 1), labels) == ""


def test_wrong_labels_do_not_make_a_network_too_poor_to_accuse_them():
    """At 40 % of wrong labels it has 60 % right, of which the labels are to blame."""
    real = truth_of(1000)
    probabilities = member(real, 6, 1)
    other = (real + 1 + np.arange(1000) // 10 % (CLASSES - 1)) % CLASSES
    labels = np.where(np.arange(1000) % 10 < 4, other, real)
    assert (probabilities.argmax(1) == labels).mean() < label_issues.LEAST_ACCURACY
    found = find_label_issues(table_of(labels, np.arange(CLASSES)), probabilities, labels, range(5))
    positions = found["Id"].str.removesuffix(".jpg").astype(int)
    assert len(found) > 200
    assert (positions % 10 < 4).mean() > 0.95


def test_few_held_out_photos_accuse_nobody_and_the_cure_is_named():
    labels, probabilities = said_of((9, 0, [0.9, 0.1]), (9, 1, [0.1, 0.9]), (1, 1, [0.99, 0.01]))
    assert find_label_issues(table_of(labels, np.arange(2)), probabilities, labels, range(2)).empty
    assert "--folds" in label_issues.why_no_issues(probabilities, labels)


def test_no_suspects_are_an_empty_table():
    labels = np.array([0, 1])
    found = find_label_issues(table_of(labels, np.arange(2)), np.eye(2), labels, [0, 1])
    assert found.empty
    assert "suggested" in found
