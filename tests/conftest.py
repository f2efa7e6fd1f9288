"""Order and shared fixtures of the test suite."""

import os
from pathlib import Path

import pytest

from coloured_competition import write_competition

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_collection_modifyitems(items):
    """Run the fast tests first, so that a broken build says so early.

    Files that have a slow test come last, whole, because a file's tests run in one process.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda i: (i.path in slow, i.get_closest_marker("slow") is not None))


@pytest.fixture(scope="session")
def competition(tmp_path_factory) -> Path:
    """A small competition whose folder order (0, 1, 10, 2) is not its labels' order. Read-only."""
    return write_competition(tmp_path_factory.mktemp("competition") / "data")


@pytest.fixture
def own_competition(tmp_path) -> Path:
    """The same, to be spoiled by one test."""
    return write_competition(tmp_path / "data")
