"""Folders that take long to make, made once for all test processes of a session."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder of a name, which the first test that asks for it makes. Read-only.

    `make` fills a new folder. Other processes of `pytest -n 3` wait for it.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # whose folders belong to all workers
    folder = base / name
    with FileLock(base / f"{name}.lock"):
        if not folder.exists():
            make(folder)
    return folder
