"""What networks say is kept, found again and combined; views are tried while time lasts."""

import dataclasses
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score

from kernelkit.config.views import View
from kernelkit.core.problem import Problem
from kernelkit.data.read import Competition
from kernelkit.data.tables import PhotoTables, fingerprint
from kernelkit.predict.outcome import combine_members
from kernelkit.predict.portfolio import Fold, Portfolio
from kernelkit.predict.views import choose_prediction, predict_views

SETTINGS = {"size": (48, 64), "stages": ({"name": "head", "rate": 1e-3},), "seed": 42}
CLASSES = [[0, 1, 10], ["audi", "bmw", "vw"]]


def make_parts(folds=3, photos=30, classes=(0, 1, 10), seed=0):
    """Return the tables of a run, as `load_tables` does, of photos that do not exist."""
    labels = np.random.default_rng(seed).permutation(np.resize(np.array(classes), photos))
    rows = pd.DataFrame({"Id": [f"{n}.jpg" for n in range(photos)], "label": labels})
    rows = rows.assign(path="/photos/" + rows["Id"], group=range(photos))
    test = pd.DataFrame({"Id": ["t1.jpg", "t2.jpg"], "path": ["/photos/t1.jpg", "/photos/t2.jpg"]})
    whole = Competition(None, rows, test, list(classes), test, rows[:0])
    parts = []
    for fold in range(folds):
        held = rows.index % folds == fold
        train, validation = (rows[side].reset_index(drop=True) for side in (~held, held))
        parts.append(PhotoTables(whole, train, validation, test, fold))
    return parts


def probabilities(truth, right, seed):
    """Return float32 [photos, 3], of which the fraction `right` is right."""
    rng = np.random.default_rng(seed)
    said = np.where(rng.random(len(truth)) < right, truth, (truth + 1) % 3)
    rows = np.eye(3)[said] + rng.uniform(0.1, 0.5, (len(truth), 3))
    return (rows / rows.sum(1, keepdims=True)).astype("float32")


def make_fold(part, right=0.8, seed=0, views=("plain", "flipped")):
    """Return what a network says that is right about this fraction of the photos."""
    truth = part.positions(part.validation)
    validation = probabilities(truth, right, 100 * seed + part.fold)
    accuracy = float(accuracy_score(truth, validation.argmax(1)))
    return Fold(
        fold=part.fold,
        validation=validation,
        validation_plain=probabilities(truth, right, 100 * seed + part.fold + 25),
        validation_ids=part.validation.Id.to_numpy(str),
        validation_positions=truth,
        test=probabilities(np.array([0, 2]), 1, 100 * seed + part.fold + 50),
        accuracy=accuracy,
        accuracy_tta=accuracy + 0.01,
        views=list(views),
    )


def assert_same(fold, other):
    """Compare two folds exactly, with the types of their arrays."""
    for field in dataclasses.fields(Fold):
        one, two = getattr(fold, field.name), getattr(other, field.name)
        if isinstance(one, np.ndarray):
            assert np.array_equal(one, two), field.name
            assert one.dtype == two.dtype, field.name
        else:
            assert one == two, field.name


@pytest.fixture
def parts():
    return make_parts()


@pytest.fixture
def place(tmp_path):
    """Return the arguments of a portfolio: its folder, and the folder of the inputs."""
    (tmp_path / "input").mkdir()
    return tmp_path / "members", tmp_path / "input"


def open_portfolio(folder, inputs, parts, resumed):
    """Return the members of a run of these photos."""
    state = SimpleNamespace(fingerprint=fingerprint(parts), resumed=resumed)
    return Portfolio(folder, inputs, parts, state)


def write_member(folder, parts, name="a", settings=SETTINGS, folds=(0, 1, 2), seed=0):
    """Write a member as a session does; return its folds."""
    portfolio = open_portfolio(folder, folder / "no inputs", parts, True)
    made = [make_fold(parts[number], seed=seed) for number in folds]
    for fold in made:
        portfolio.add(name, settings, fold)
    return made


# --------------------------------------------------------------------------------- on disk


@pytest.mark.parametrize("classes", CLASSES, ids=["int", "str"])
def test_a_member_reads_back_exactly_as_it_was_written(place, classes):
    parts = make_parts(classes=classes)
    made = write_member(place[0], parts, folds=(2, 0))
    made.append(make_fold(parts[1], views=["plain"]))
    going_on = open_portfolio(*place, parts, True)
    assert not going_on.has("a", SETTINGS, 1)
    going_on.add("a", SETTINGS, made[-1])
    found = open_portfolio(*place, parts, True)
    assert list(found.members) == ["a"]
    assert found.members["a"].name == "a"
    assert sorted(found.members["a"].folds) == [0, 1, 2]
    for fold in made:
        assert_same(found.members["a"].folds[fold.fold], fold)
        assert found.has("a", SETTINGS, fold.fold)


@pytest.mark.parametrize("classes", CLASSES, ids=["int", "str"])
def test_the_file_holds_what_it_promises_to_other_tools(place, classes):
    parts = make_parts(classes=classes)
    made = write_member(place[0], parts, folds=(0, 1))
    with np.load(place[0] / "a" / "probabilities.npz") as stored:
        arrays = dict(stored)
    held = pd.concat([parts[0].validation, parts[1].validation])
    assert arrays["validation_ids"].tolist() == held.Id.tolist()
    assert arrays["validation_labels"].tolist() == held.label.tolist()
    assert arrays["validation_folds"].tolist() == [0] * 10 + [1] * 10
    assert arrays["validation"].shape == (20, 3)
    assert arrays["test"].shape == (2, 2, 3)
    assert arrays["test_ids"].tolist() == ["t1.jpg", "t2.jpg"]
    assert arrays["folds"].tolist() == [0, 1]
    assert arrays["accuracy"].tolist() == [fold.accuracy for fold in made]
    assert arrays["classes"].tolist() == list(classes)


def test_a_member_s_test_photos_are_the_mean_over_its_folds(place, parts):
    made = write_member(place[0], parts)
    found = open_portfolio(*place, parts, True)
    (mean,) = found.tests()
    np.testing.assert_allclose(mean, np.mean([fold.test for fold in made], axis=0), rtol=1e-6)
    assert mean.dtype == np.float32


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"folds": 2}, {"photos": 27}, {"classes": (0, 1, 2)}],
    ids=["other labels", "other folds", "fewer photos", "other classes"],
)
def test_a_member_of_other_photos_is_ignored(place, parts, other):
    write_member(place[0], make_parts(**other), folds=(0, 1))
    assert open_portfolio(*place, parts, True).members == {}


@pytest.mark.parametrize("below", ["kernel", "kernel/output", "notebooks/someone/kernel"])
def test_a_mounted_member_with_equal_settings_counts(place, parts, below):
    """The settings have tuples, which are lists once they were written."""
    write_member(place[1] / below / "members", parts, folds=(0, 1))
    found = open_portfolio(*place, parts, False)
    assert [found.has("a", SETTINGS, fold) for fold in (0, 1, 2)] == [True, True, False]
    assert list(found.members) == ["a"]
    assert not place[0].exists()


def test_going_on_with_a_mounted_member_writes_all_of_it(place, parts):
    made = write_member(place[1] / "kernel" / "members", parts, folds=(0, 1))
    open_portfolio(*place, parts, False).add("a", SETTINGS, make_fold(parts[2]))
    shutil.rmtree(place[1])
    found = open_portfolio(*place, parts, True)
    assert sorted(found.members["a"].folds) == [0, 1, 2]
    assert_same(found.members["a"].folds[1], made[1])


def test_a_mounted_member_with_other_settings_is_kept_beside_the_new_one(place, parts):
    (old,) = write_member(place[1] / "kernel" / "members", parts, folds=(0,), seed=5)
    found, settings = open_portfolio(*place, parts, False), SETTINGS | {"size": (64, 64)}
    assert not found.has("a", settings, 0)
    found.add("a", settings, make_fold(parts[0], seed=6))
    assert found.has("a", settings, 0)
    for portfolio in (found, open_portfolio(*place, parts, True)):  # also where the session goes on
        assert set(portfolio.members) == {"a", "a (earlier)"}
        assert_same(portfolio.members["a (earlier)"].folds[0], old)
        assert_same(portfolio.members["a"].folds[0], make_fold(parts[0], seed=6))


def test_the_folds_of_several_mounted_outputs_come_together(place, parts):
    write_member(place[1] / "first" / "members", parts, folds=(0, 1))
    write_member(place[1] / "second" / "members", parts, folds=(2,))
    found = open_portfolio(*place, parts, False)
    assert all(found.has("a", SETTINGS, fold) for fold in (0, 1, 2))


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "flipped", "another"])
def test_a_damaged_file_is_a_problem_that_names_it(place, parts, kind):
    write_member(place[0], parts)
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
        open_portfolio(*place, parts, True)


def test_a_run_that_begins_anew_removes_its_members(place, parts):
    write_member(place[0], parts)
    (place[0] / "a" / "fold-0.weights.h5").write_bytes(b"weights")
    found = open_portfolio(*place, parts, False)
    assert found.members == {}
    assert not found.has("a", SETTINGS, 0)
    assert not (place[0] / "a").exists()


# -------------------------------------------------------------------------------- combined


def members_of(place, parts, **rights):
    """Return members in memory, right about these fractions of the photos, with all folds."""
    portfolio = open_portfolio(*place, parts, False)
    for number, (name, right) in enumerate(rights.items()):
        for part in parts:
            portfolio.add(name, SETTINGS, make_fold(part, right, number))
    return portfolio.members


def judged(outcome, parts):
    """Return the accuracy of the outcome's probabilities on its own held-out photos."""
    truth = parts[0].positions(outcome.held_out)
    return accuracy_score(truth, outcome.validation.argmax(1))


def test_the_accuracy_of_a_larger_fold_counts_for_more(place):
    parts = make_parts(folds=2, photos=5)
    members = members_of(place, parts, a=1)
    first, second = members["a"].folds.values()
    members["a"].folds[1] = dataclasses.replace(second, accuracy=0.5)
    assert (len(first.validation), len(second.validation), first.accuracy) == (3, 2, 1)
    assert combine_members(members, parts, 0).accuracy_plain == pytest.approx(0.8)


def test_a_single_member_is_taken_as_it_is(place, parts):
    members = members_of(place, parts, a=0.7)
    outcome = combine_members(members, parts, 0)
    assert outcome.blend.weights == {"a": 1}
    folds = list(members["a"].folds.values())
    assert outcome.accuracy == pytest.approx(np.mean([fold.accuracy for fold in folds]))
    assert outcome.accuracy == judged(outcome, parts)
    assert outcome.accuracy_plain == pytest.approx(outcome.accuracy)
    assert outcome.accuracy_tta == pytest.approx(outcome.accuracy + 0.01)
    assert sorted(outcome.held_out.Id) == sorted(f"{n}.jpg" for n in range(30))
    assert outcome.held_out.fold.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert outcome.test.argmax(1).tolist() == members["a"].test.argmax(1).tolist()
    np.testing.assert_allclose(outcome.validation.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(outcome.test.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("rights", [(0.9, 0.2), (0.6, 0.6), (0.3, 0.8)])
def test_a_blend_of_two_is_not_worse_than_the_better_one(place, rights):
    parts = make_parts(photos=90)
    members = members_of(place, parts, a=rights[0], b=rights[1])
    outcome = combine_members(members, parts, 0)
    truth = parts[0].positions(outcome.held_out)
    for member in members.values():
        said = np.concatenate([member.folds[fold].validation for fold in range(3)])
        assert outcome.accuracy >= accuracy_score(truth, said.argmax(1))
    assert outcome.accuracy == judged(outcome, parts)
    assert sum(outcome.blend.weights.values()) == pytest.approx(1)
    assert set(outcome.members) == set(outcome.temperatures) == {"a", "b"}
    assert f"validation accuracy {outcome.accuracy:.4f} on 90 photos" in outcome.sentence()


def test_members_are_compared_on_the_folds_that_both_have(place):
    parts = make_parts(photos=90)
    members = members_of(place, parts, a=0.9, b=0.5)
    del members["b"].folds[1]
    outcome = combine_members(members, parts, 0)
    assert set(outcome.held_out.fold) == {0, 2}
    assert len(outcome.held_out) == 60
    assert outcome.held_out.Id.tolist() == [
        *parts[0].validation.Id.tolist(),
        *parts[2].validation.Id.tolist(),
    ]
    assert set(outcome.blend.weights) == {"a", "b"}
    assert outcome.accuracy == judged(outcome, parts)


def test_where_no_fold_is_common_the_member_with_most_folds_stands_alone(place, parts):
    members = members_of(place, parts, a=0.9, b=0.5)
    del members["a"].folds[0], members["a"].folds[2], members["b"].folds[1]
    outcome = combine_members(members, parts, 0)
    assert outcome.blend.weights == {"b": 1}
    assert set(outcome.members) == {"b"}
    assert set(outcome.held_out.fold) == {0, 2}


@pytest.mark.parametrize("classes", CLASSES, ids=["int", "str"])
def test_members_from_disk_combine_like_those_in_memory(place, classes):
    parts = make_parts(classes=classes)
    members = members_of(place, parts, a=0.9, b=0.6)
    one, two = (
        combine_members(each, parts, 0)
        for each in (members, open_portfolio(*place, parts, True).members)
    )
    assert np.array_equal(one.validation, two.validation)
    assert np.array_equal(one.test, two.test)
    assert one.blend == two.blend


# ----------------------------------------------------------------------------------- views


PLAIN, FLIPPED, LARGER = View("plain"), View("flipped", flip=True), View("larger", scale=2)
TRAINED = [View(f"as trained {number}", trained=True) for number in range(2)]


def says(part, *rows):
    """Return a pass that gives the true class of each validation photo this probability."""
    truth = part.positions(part.validation)
    validation = np.empty((len(truth), 3), np.float32)
    sure = np.resize(rows, len(truth))
    validation[:] = ((1 - sure) / 2)[:, None]
    validation[np.arange(len(truth)), truth] = sure
    return [validation, np.full((2, 3), rows[0] / 3, np.float32)]


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("what", [np.nan, np.inf])
def test_a_probability_that_is_no_number_is_a_problem(parts, where, what):
    passes = [says(parts[0], 0.6), says(parts[0], 0.6)]
    passes[1][where][0, 0] = what
    with pytest.raises(Problem, match="predicts NaN, so there is no submission: try lower rates"):
        choose_prediction(parts[0], [PLAIN, FLIPPED], passes)


def test_trained_views_are_averaged_without_the_plain_one(parts, capsys):
    """Also where they make less sure, as long as as many photos are right."""
    passes = [says(parts[1], 0.9), says(parts[1], 0.5), says(parts[1], 0.7)]
    fold = choose_prediction(parts[1], [PLAIN, *TRAINED], passes)
    assert fold.views == ["as trained 0", "as trained 1"]
    np.testing.assert_allclose(fold.validation, (passes[1][0] + passes[2][0]) / 2, rtol=1e-6)
    np.testing.assert_allclose(fold.test, (passes[1][1] + passes[2][1]) / 2, rtol=1e-6)
    assert fold.validation.dtype == fold.test.dtype == np.float32
    assert (fold.fold, fold.accuracy, fold.accuracy_tta) == (1, 1, 1)
    assert fold.validation_ids.tolist() == parts[1].validation.Id.tolist()
    assert fold.validation_positions.tolist() == parts[1].positions(parts[1].validation).tolist()
    assert "used are as trained 0; as trained 1" in capsys.readouterr().out


def test_one_trained_view_alone_is_said_to_be_used(parts, capsys):
    """Time may have run out after it."""
    passes = [says(parts[0], 0.6), says(parts[0], 0.8)]
    fold = choose_prediction(parts[0], [PLAIN, *TRAINED], passes)
    assert fold.views == ["as trained 0"]
    assert "used are as trained 0" in capsys.readouterr().out


def test_helpful_views_stay_and_harmful_ones_go(parts, capsys):
    passes = [says(parts[0], 0.6), says(parts[0], 0.1), says(parts[0], 0.8)]
    fold = choose_prediction(parts[0], [PLAIN, FLIPPED, LARGER], passes)
    assert fold.views == ["plain", "larger"]
    np.testing.assert_allclose(fold.validation, (passes[0][0] + passes[2][0]) / 2, rtol=1e-6)
    assert "used are plain; larger" in capsys.readouterr().out


def test_the_plain_pass_stands_alone_where_the_mean_is_less_accurate(parts, capsys):
    passes = [says(parts[0], 0.6), says(parts[0], 0.1, 0.9), says(parts[0], 0.2, 0.8)]
    fold = choose_prediction(parts[0], [PLAIN, *TRAINED], passes)
    assert fold.views == ["plain"]
    assert np.array_equal(fold.validation, passes[0][0])
    assert np.array_equal(fold.test, passes[0][1])
    assert (fold.accuracy, fold.accuracy_tta) == (1, 0.5)
    said = capsys.readouterr().out
    assert "validation accuracy 1.0000, with TTA 0.5000: the plain prediction is used" in said


class Clock:
    """Lets as many passes fit as it is told, and remembers what it was asked and told."""

    def __init__(self, fitting):
        self.fitting, self.asked, self.noted, self.stopped = fitting, [], [], False
        self.state = SimpleNamespace(run_out_of_time=lambda: setattr(self, "stopped", True))

    def pass_fits(self, passes=1):
        self.asked.append(passes)
        return len(self.asked) < self.fitting

    def note_prediction(self, images, seconds):
        self.noted.append((images, seconds >= 0))


def predict(number, view):
    return [np.full((10, 3), number), np.full((2, 3), number)]


def test_prediction_stops_where_the_next_pass_does_not_fit(capsys):
    clock = Clock(fitting=2)
    passes = predict_views([PLAIN, FLIPPED, LARGER], clock, predict)
    assert [one[0][0, 0] for one in passes] == [0, 1]
    assert clock.stopped
    assert "Time is up: 2 of 3 prediction passes were made." in capsys.readouterr().out


def test_the_plain_pass_is_made_in_any_case(capsys):
    clock = Clock(fitting=0)
    assert len(predict_views([PLAIN, FLIPPED], clock, predict)) == 1
    assert clock.stopped
    assert "Time is up: 1 of 2 prediction passes" in capsys.readouterr().out


def test_larger_views_count_by_their_pixels(capsys):
    clock, seen = Clock(fitting=9), []
    views = [PLAIN, FLIPPED, LARGER]
    predict_views(views, clock, lambda *given: (seen.append(given), predict(*given))[1])
    assert seen == list(enumerate(views))
    assert clock.asked == [1, 4]
    assert clock.noted == [(12, True), (12, True), (48, True)]
    assert not clock.stopped
    assert "Time is up" not in capsys.readouterr().out
