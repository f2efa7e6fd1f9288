"""The free memory, in containers too, of which a cache takes half by default."""

import pytest

from ImageDataAugmentor.engine.cache import Cache
from ImageDataAugmentor.engine.memory import available_memory

MEGABYTE = 1 << 20
HOST = 900 * MEGABYTE
NAMES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    2: ("memory.max", "memory.current"),
}
NO_LIMIT = {1: 0x7FFFFFFFFFFFF000, 2: "max"}
PREFIX = {1: "total_", 2: ""}


@pytest.fixture(autouse=True)
def host(monkeypatch):
    """Let the host have 900 MB available."""

    class Host:
        available = HOST

    monkeypatch.setattr("psutil.virtual_memory", Host)


def write_group(folder, version, limit, usage, **statistics):
    """Write the files of a control group as the system does; numbers are in MB."""
    folder = folder / "memory" if version == 1 else folder
    folder.mkdir(exist_ok=True)
    for name, value in zip(NAMES[version], (limit, usage), strict=True):
        value = value * MEGABYTE if value != NO_LIMIT[version] else value
        (folder / name).write_text(f"{value}\n")
    lines = [f"{PREFIX[version]}{name} {n * MEGABYTE}" for name, n in statistics.items()]
    if version == 1:  # These are without the group's children.
        lines += [f"{name} {MEGABYTE}" for name in statistics]
    (folder / "memory.stat").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("version", [1, 2])
def test_cached_files_count_as_free(tmp_path, version):
    write_group(tmp_path, version, 1000, 800, inactive_file=300, active_file=100, anon=400)
    assert available_memory(tmp_path) == 600 * MEGABYTE


@pytest.mark.parametrize("version", [1, 2])
def test_shared_memory_does_not_count_as_free(tmp_path, version):
    write_group(tmp_path, version, 1000, 800, file=700, shmem=600, inactive_file=90, active_file=10)
    assert available_memory(tmp_path) == 300 * MEGABYTE


@pytest.mark.parametrize("version", [1, 2])
def test_the_host_may_have_less_than_the_limit_allows(tmp_path, version):
    write_group(tmp_path, version, 4000, 100, inactive_file=50, active_file=0)
    assert available_memory(tmp_path) == HOST
    write_group(tmp_path, version, NO_LIMIT[version], 100, inactive_file=50, active_file=0)
    assert available_memory(tmp_path) == HOST


@pytest.mark.parametrize("version", [1, 2])
def test_statistics_may_be_missing_or_the_usage_beyond_the_limit(tmp_path, version):
    write_group(tmp_path, version, 100, 130)
    assert available_memory(tmp_path) == 0
    write_group(tmp_path, version, 130, 100, inactive_file=7)
    (path,) = tmp_path.rglob("memory.stat")
    path.unlink()
    assert available_memory(tmp_path) == 30 * MEGABYTE


def test_without_control_groups_it_is_the_hosts(tmp_path):
    assert available_memory(tmp_path) == HOST


def test_the_default_budget_of_a_cache_is_half_of_it():
    assert Cache().budget == pytest.approx(available_memory() / 2, rel=0.2)
