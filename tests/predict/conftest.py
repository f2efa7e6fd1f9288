"""Photos that do not exist, and where members of a run on them lie."""

import pytest

from predictions import make_folds


@pytest.fixture
def folds():
    return make_folds()


@pytest.fixture
def place(tmp_path):
    """Return the arguments of a member store: its folder, and the folder of the inputs."""
    (tmp_path / "input").mkdir()
    return tmp_path / "members", tmp_path / "input"
