"""Views are tried while time lasts, and those that help are averaged."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kernelkit.config.views import View
from kernelkit.core.metrics import METRICS, accuracy, log_loss, losses
from kernelkit.core.problem import Problem
from kernelkit.predict.tta import choose_prediction, choose_views, predict_views
from kernelkit.train.presets import resize_network
from predictions import (
    member,
    rows,
    truth_of,
)


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


def test_a_network_for_larger_photos_normalizes_as_the_one_that_it_is_made_of():
    """Like EfficientNetB3, whose layer keeps a copy of the mean and variance that it learned."""

    def build(config, classes, weights):
        inputs = keras.Input((*config.image_size, 3), dtype="uint8")
        x = keras.layers.Normalization()(keras.layers.Rescaling(1 / 255)(inputs))
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, keras.layers.Dense(classes, "softmax")(x))

    network = build(SimpleNamespace(image_size=(8, 8)), 3, None)
    normalization = network.layers[2]
    normalization.adapt_mean.assign([0.4, 0.5, 0.6])
    normalization.adapt_variance.assign([0.01, 0.02, 0.03])
    normalization.finalize_state()
    other = resize_network(network, (16, 16))
    photos = [np.full((1, side, side, 3), 200, np.uint8) for side in (8, 16)]
    np.testing.assert_allclose(network(photos[0]), other(photos[1]), atol=1e-5)


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
def test_a_probability_that_is_no_number_is_a_problem(folds, where, what):
    passes = [says(folds[0], 0.6), says(folds[0], 0.6)]
    passes[1][where][0, 0] = what
    with pytest.raises(Problem, match="predicts NaN, so there is no submission: try lower rates"):
        choose_prediction(folds[0], [PLAIN, FLIPPED], passes)


def test_trained_views_are_averaged_without_the_plain_one(folds, capsys):
    """Also where they make less sure, as long as as many photos are right."""
    passes = [says(folds[1], 0.9), says(folds[1], 0.5), says(folds[1], 0.7)]
    fold = choose_prediction(folds[1], [PLAIN, *TRAINED], passes)
    assert fold.views == ["as trained 0", "as trained 1"]
    np.testing.assert_allclose(fold.validation, (passes[1][0] + passes[2][0]) / 2, rtol=1e-6)
    np.testing.assert_allclose(fold.test, (passes[1][1] + passes[2][1]) / 2, rtol=1e-6)
    assert fold.validation.dtype == fold.test.dtype == np.float32
    assert (fold.fold, fold.accuracy, fold.accuracy_tta) == (1, 1, 1)
    assert fold.validation_ids.tolist() == folds[1].validation.Id.tolist()
    assert fold.validation_positions.tolist() == folds[1].positions(folds[1].validation).tolist()
    assert "used are as trained 0; as trained 1" in capsys.readouterr().out


def test_one_trained_view_alone_is_said_to_be_used(folds, capsys):
    """Time may have run out after it."""
    passes = [says(folds[0], 0.6), says(folds[0], 0.8)]
    fold = choose_prediction(folds[0], [PLAIN, *TRAINED], passes)
    assert fold.views == ["as trained 0"]
    assert "used are as trained 0" in capsys.readouterr().out


def test_helpful_views_stay_and_harmful_ones_go(folds, capsys):
    passes = [says(folds[0], 0.6), says(folds[0], 0.1), says(folds[0], 0.8)]
    fold = choose_prediction(folds[0], [PLAIN, FLIPPED, LARGER], passes)
    assert fold.views == ["plain", "larger"]
    np.testing.assert_allclose(fold.validation, (passes[0][0] + passes[2][0]) / 2, rtol=1e-6)
    assert "used are plain; larger" in capsys.readouterr().out


def test_the_plain_pass_stands_alone_where_the_mean_is_less_accurate(folds, capsys):
    passes = [says(folds[0], 0.6), says(folds[0], 0.1, 0.9), says(folds[0], 0.2, 0.8)]
    fold = choose_prediction(folds[0], [PLAIN, *TRAINED], passes)
    assert fold.views == ["plain"]
    assert np.array_equal(fold.validation, passes[0][0])
    assert np.array_equal(fold.test, passes[0][1])
    assert (fold.accuracy, fold.accuracy_tta) == (1, 0.5)
    said = capsys.readouterr().out
    assert "accuracy 1.0000, with TTA 0.5000" in said
    assert "-0.5000 ±" in said  # the evidence
    assert "the plain prediction is used" in said


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
