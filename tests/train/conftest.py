"""Fixtures of the tests of training."""

import keras
import pytest

from kernelkit.train.output import open_state


@pytest.fixture(autouse=True)
def seeded():
    """Begin every test with the same weights."""
    keras.utils.set_random_seed(1)


@pytest.fixture
def state(tmp_path):
    """A new run's state."""
    return open_state(tmp_path / "state", {"seed": 1}, "photos", fresh=False)


@pytest.fixture
def float16():
    """Compute in float16."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    keras.mixed_precision.set_global_policy(before)
