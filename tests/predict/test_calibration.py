"""A temperature is found again, and the calibration error is as published."""

import numpy as np
import pytest
from scipy.special import softmax

from kernelkit.core.metrics import log_loss
from kernelkit.predict.calibration import apply_temperature, expected_calibration_error, temperature
from predictions import (
    CLASSES,
    rows,
    truth_of,
)


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


def test_the_calibration_error_weights_bins_by_their_photos():
    probabilities = rows([0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.4, 0.6])
    truth = np.array([0, 0, 1, 1])
    expected = 3 / 4 * (0.9 - 2 / 3) + 1 / 4 * (1 - 0.6)
    assert expected_calibration_error(probabilities, truth) == pytest.approx(expected)
    assert expected_calibration_error(probabilities, truth, bins=5) == pytest.approx(expected)
    assert expected_calibration_error(probabilities, truth, bins=1) == pytest.approx(0.825 - 0.75)
