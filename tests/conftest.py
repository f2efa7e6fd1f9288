"""Order and shared fixtures of the test suite."""

import os
from pathlib import Path

import pytest

# Test processes with threads for all cores each would wait for one another; the processes
# that tests start inherit this. TensorFlow and NumPy read it when they are imported.
for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from coloured_competition import write_competition  # noqa: E402
from shared_folders import made_once  # noqa: E402

LONGEST = (  # slow files, the longest first, so that no process has to wait for another's last
    *("test_rehearse", "test_night", "test_preset_loading", "test_presets_run"),
    *("test_kernel_portfolio", "test_kernel_model", "test_kernel_resume", "test_predict"),
    *("test_four_ways", "test_scout_command", "test_workers", "test_kernel_on_kaggle"),
)


def pytest_collection_modifyitems(items):
    """Run the fast tests first, so that a broken build says so early.

    Files that have a slow test follow, whole, because a file's tests run in one process. Those of
    `ship` wait more than they compute: they come between the slow ones, which keep the cores busy.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    waiting = {item.path for item in items if item.path.parent.name == "ship"} - slow
    place = {name: number for number, name in enumerate(LONGEST)}
    slow_files = sorted(slow, key=lambda path: (place.get(path.stem, len(LONGEST)), path))
    places = {path: (number + 1.0) / len(slow) for number, path in enumerate(slow_files)}
    places |= {path: (n + 0.9) / len(waiting) for n, path in enumerate(sorted(waiting))}

    def rank(item) -> tuple:
        return places.get(item.path, 0), item.get_closest_marker("slow") is not None

    items.sort(key=rank)


@pytest.fixture(scope="session")
def competition(tmp_path_factory) -> Path:
    """A small competition whose folder order (0, 1, 10, 2) is not its labels' order. Read-only."""
    folder = made_once(tmp_path_factory, "competition", lambda f: write_competition(f / "data"))
    return folder / "data"


@pytest.fixture
def own_competition(tmp_path) -> Path:
    """The same, to be spoiled by one test."""
    return write_competition(tmp_path / "data")
