"""What networks predict is kept, found again, and never taken for that of other photos."""

import shutil

import numpy as np
import pandas as pd
import pytest

from kernelkit.core.problem import Problem
from predictions import (
    LABELS,
    SETTINGS,
    assert_same,
    make_fold,
    make_folds,
    open_store,
    write_member,
)


@pytest.mark.parametrize("classes", LABELS, ids=["int", "str"])
def test_a_member_reads_back_exactly_as_it_was_written(place, classes):
    folds = make_folds(classes=classes)
    made = write_member(place[0], folds, which=(2, 0))
    made.append(make_fold(folds[1], views=["plain"]))
    going_on = open_store(*place, folds, True)
    assert not going_on.has("a", SETTINGS, 1)
    going_on.add("a", SETTINGS, made[-1])
    found = open_store(*place, folds, True)
    assert list(found.by_name) == ["a"]
    assert found.by_name["a"].name == "a"
    assert sorted(found.by_name["a"].folds) == [0, 1, 2]
    for fold in made:
        assert_same(found.by_name["a"].folds[fold.fold], fold)
        assert found.has("a", SETTINGS, fold.fold)


@pytest.mark.parametrize("classes", LABELS, ids=["int", "str"])
def test_the_file_holds_what_it_promises_to_other_tools(place, classes):
    folds = make_folds(classes=classes)
    made = write_member(place[0], folds, which=(0, 1))
    with np.load(place[0] / "a" / "probabilities.npz") as stored:
        arrays = dict(stored)
    held = pd.concat([folds[0].validation, folds[1].validation])
    assert arrays["validation_ids"].tolist() == held.Id.tolist()
    assert arrays["validation_labels"].tolist() == held.label.tolist()
    assert arrays["validation_folds"].tolist() == [0] * 10 + [1] * 10
    assert arrays["validation"].shape == (20, 3)
    assert arrays["test"].shape == (2, 2, 3)
    assert arrays["test_ids"].tolist() == ["t1.jpg", "t2.jpg"]
    assert arrays["folds"].tolist() == [0, 1]
    assert arrays["accuracy"].tolist() == [fold.accuracy for fold in made]
    assert arrays["classes"].tolist() == list(classes)


def test_a_member_s_test_photos_are_the_mean_over_its_folds(place, folds):
    made = write_member(place[0], folds)
    found = open_store(*place, folds, True)
    (mean,) = found.tests()
    np.testing.assert_allclose(mean, np.mean([fold.test for fold in made], axis=0), rtol=1e-6)
    assert mean.dtype == np.float32


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"count": 2}, {"photos": 27}, {"classes": (0, 1, 2)}],
    ids=["other labels", "other folds", "fewer photos", "other classes"],
)
def test_a_member_of_other_photos_is_ignored(place, folds, other):
    write_member(place[0], make_folds(**other), which=(0, 1))
    assert open_store(*place, folds, True).by_name == {}


@pytest.mark.parametrize("below", ["kernel", "kernel/output", "notebooks/someone/kernel"])
def test_a_mounted_member_with_equal_settings_counts(place, folds, below):
    """The settings have tuples, which are lists once they were written."""
    write_member(place[1] / below / "members", folds, which=(0, 1))
    found = open_store(*place, folds, False)
    assert [found.has("a", SETTINGS, fold) for fold in (0, 1, 2)] == [True, True, False]
    assert list(found.by_name) == ["a"]
    assert not place[0].exists()


def test_going_on_with_a_mounted_member_writes_all_of_it(place, folds):
    made = write_member(place[1] / "kernel" / "members", folds, which=(0, 1))
    open_store(*place, folds, False).add("a", SETTINGS, make_fold(folds[2]))
    shutil.rmtree(place[1])
    found = open_store(*place, folds, True)
    assert sorted(found.by_name["a"].folds) == [0, 1, 2]
    assert_same(found.by_name["a"].folds[1], made[1])


def test_a_mounted_member_with_other_settings_is_kept_beside_the_new_one(place, folds):
    (old,) = write_member(place[1] / "kernel" / "members", folds, which=(0,), seed=5)
    found, settings = open_store(*place, folds, False), SETTINGS | {"size": (64, 64)}
    assert not found.has("a", settings, 0)
    found.add("a", settings, make_fold(folds[0], seed=6))
    assert found.has("a", settings, 0)
    for store in (found, open_store(*place, folds, True)):  # also where the session goes on
        assert set(store.by_name) == {"a", "a (earlier)"}
        assert_same(store.by_name["a (earlier)"].folds[0], old)
        assert_same(store.by_name["a"].folds[0], make_fold(folds[0], seed=6))


def test_the_folds_of_several_mounted_outputs_come_together(place, folds):
    write_member(place[1] / "first" / "members", folds, which=(0, 1))
    write_member(place[1] / "second" / "members", folds, which=(2,))
    found = open_store(*place, folds, False)
    assert all(found.has("a", SETTINGS, fold) for fold in (0, 1, 2))


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "flipped", "another"])
def test_a_damaged_file_is_a_problem_that_names_it(place, folds, kind):
    write_member(place[0], folds)
    file = place[0] / "a" / "probabilities.npz"
    content = file.read_bytes()
    if kind == "another":
        np.savez(file, something=np.zeros(3))
    else:
        middle = len(content) // 4
        flipped = bytes(byte ^ 255 for byte in content[40:middle])
        damaged = {
            "empty": b"",
            "text": b"no array",
            "cut": content[: len(content) // 2],
            "flipped": content[:40] + flipped + content[middle:],
        }
        file.write_bytes(damaged[kind])
    with pytest.raises(Problem, match=r"members.a.probabilities\.npz can't be read .*: remove it"):
        open_store(*place, folds, True)


def test_a_run_that_begins_anew_removes_its_members(place, folds):
    write_member(place[0], folds)
    (place[0] / "a" / "fold-0.keras").write_bytes(b"weights")
    found = open_store(*place, folds, False)
    assert found.by_name == {}
    assert not found.has("a", SETTINGS, 0)
    assert not (place[0] / "a").exists()
