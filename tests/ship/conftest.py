"""What the tests of `ship` share."""

import pytest

from shipping import open_world


@pytest.fixture
def world(tmp_path):
    """A project of its own beside a loopback Kaggle."""
    with open_world(tmp_path) as world:
        yield world
