"""Order and shared fixtures of the test suite."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def pytest_collection_modifyitems(items):
    """Run the fast tests first, so that a broken build says so within a minute."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
