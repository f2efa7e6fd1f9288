"""Fixtures of the tests of `kernelkit.data`."""

import pytest

from tiny_competition import write_competition


@pytest.fixture
def folder(tmp_path):
    """A small competition, to be spoiled by one test."""
    write_competition(tmp_path / "data")
    return tmp_path / "data"
