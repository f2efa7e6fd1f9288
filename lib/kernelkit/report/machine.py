"""What metrics.json says of the machine."""

import importlib.metadata
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

from kernelkit.core.packages import packages_hash
from kernelkit.core.problem import Problem


def peak_memory_mb() -> float:
    """Return this process' largest resident memory in MiB."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    import resource  # Unix alone has it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of the installed ones of `packages`."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed under this name"
    return found


def packages_found() -> str:
    """Return the hash of this project's packages that are in use, "" where they are installed."""
    try:
        return packages_hash(Path(__file__).resolve().parents[2])
    except (OSError, Problem):
        return ""


def device_names() -> list[str]:
    """Return the names of TensorFlow's logical devices."""
    import tensorflow as tf  # the rest of this package does without

    return [device.name for device in tf.config.list_logical_devices()]
