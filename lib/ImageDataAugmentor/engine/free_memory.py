"""The memory that this process may still take, inside a container or not."""

from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
# The files of the limit, the usage and the statistics, and the prefix of statistics that include a
# group's children: for version 2 of control groups, then for version 1.
_VERSIONS = (
    ("memory.max", "memory.current", "memory.stat", ""),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_",
    ),
)


def available_memory(cgroups: Path = CGROUPS) -> int:
    """Return how many bytes this process may still take without swapping or being killed.

    This is the host's available memory, or less where the control group in the folder `cgroups`
    has a limit.
    """
    available = psutil.virtual_memory().available
    for limit, usage, statistics, prefix in _VERSIONS:
        try:
            free = int((cgroups / limit).read_text()) - int((cgroups / usage).read_text())
        except (OSError, ValueError):  # There is no such group, or no limit ("max").
            continue
        available = min(available, free + _reclaimable(cgroups / statistics, prefix))
    return max(available, 0)


def _reclaimable(statistics: Path, prefix: str) -> int:
    """Return the bytes of cached files, which the usage counts but the system gives back on demand.

    The statistic "file" would be wrong: it also counts shared memory, which holds our own caches
    and cannot be given back.
    """
    names = {f"{prefix}inactive_file", f"{prefix}active_file"}
    try:
        lines = [line.split() for line in statistics.read_text().splitlines()]
        return sum(int(value) for name, value in lines if name in names)
    except (OSError, ValueError):
        return 0
