"""The cache keeps pictures unchanged through changed files, a small budget and killed writers."""

import errno
import gc
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import albumentations as A
import cv2
import numpy as np
import pytest

from ImageDataAugmentor import ImageDataAugmentor
from ImageDataAugmentor import cache as cache_module
from ImageDataAugmentor import folder_cache as folder_module
from ImageDataAugmentor.folder_cache import FolderCache
from ImageDataAugmentor.reading import ImageLoader

SIZE = (24, 32)
PICTURE = 24 * 32 * 3


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos" / "c").mkdir(parents=True)
    for number in range(12):
        picture = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (64, 48))
        cv2.imwrite(str(tmp_path / "photos" / "c" / f"{number:02d}.png"), picture)
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def no_caches_of_other_tests(monkeypatch):
    monkeypatch.setattr(cache_module, "_caches", {})


def flow(photos, size=SIZE, interpolation=cv2.INTER_AREA, **options):
    return ImageDataAugmentor(seed=1, **options).flow_from_directory(
        photos, target_size=size, class_mode=None, batch_size=5, dtype="uint8", shuffle=False,
        interpolation=interpolation,
    )  # fmt: skip


def epoch(iterator):
    return np.concatenate([iterator[i] for i in range(len(iterator))])


@pytest.fixture
def decoded(monkeypatch):
    """Return a list that will hold the paths that were decoded, in order."""
    paths, call = [], ImageLoader.__call__
    monkeypatch.setattr(
        ImageLoader, "__call__", lambda self, path: (paths.append(path), call(self, path))[1]
    )
    return paths


@pytest.mark.parametrize("where", ["memory", "folder"])
class TestBoth:
    @pytest.fixture
    def option(self, where, tmp_path):
        return True if where == "memory" else tmp_path / "cache"

    def test_second_epoch_decodes_nothing_and_is_the_same(self, photos, option, decoded):
        plain = epoch(flow(photos))
        decoded.clear()
        iterator = flow(photos, cache=option)
        np.testing.assert_array_equal(epoch(iterator), plain)
        assert sorted(decoded) == sorted(iterator.filepaths)
        np.testing.assert_array_equal(epoch(iterator), plain)
        np.testing.assert_array_equal(
            epoch(flow(photos, cache=option)), plain
        )  # Caches are shared.
        assert len(decoded) == 12

    def test_a_changed_file_is_read_anew(self, photos, option):
        iterator = flow(photos, cache=option)
        epoch(iterator)
        path = iterator.filepaths[3]
        cv2.imwrite(path, np.full((48, 64, 3), 77, np.uint8))
        os.utime(path, ns=(1, 1))
        assert np.all(epoch(iterator)[3] == 77)
        cv2.imwrite(path, np.full((48, 64, 3), 78, np.uint8))
        os.utime(path, ns=(2, 2))
        assert np.all(epoch(iterator)[3] == 78)

    def test_ways_of_loading_are_kept_apart(self, photos, option):
        one, other = flow(photos, cache=option), flow(photos, (12, 16), cache=option)
        assert epoch(one).shape[1:] == (24, 32, 3)
        assert epoch(other).shape[1:] == (12, 16, 3)
        assert epoch(one).shape[1:] == (24, 32, 3)

    def test_budget(self, photos, option, decoded):
        plain = epoch(flow(photos))
        budget = 5.5 * PICTURE / (1 << 20)
        iterator = flow(photos, cache=option, cache_mb=budget)
        for _ in range(3):
            np.testing.assert_array_equal(epoch(iterator), plain)
            assert 0 < iterator.cache.used <= iterator.cache.budget
        decoded.clear()
        epoch(iterator)
        assert 7 <= len(decoded) < 12  # The photos that fit stay.

    def test_photos_that_nobody_asks_for_make_room(self, photos, option, decoded):
        budget = 12.5 * PICTURE / (1 << 20)
        first = flow(photos, cache=option, cache_mb=budget)
        epoch(first)
        small = flow(photos, (20, 30), cache=option)
        epoch(small)
        decoded.clear()
        epoch(small)
        assert decoded  # The first iterator still lives.
        del first
        gc.collect()
        epoch(small)
        decoded.clear()
        epoch(small)
        assert not decoded

    def test_transforms_cannot_spoil_it(self, photos, option):
        iterator = flow(photos, cache=option)
        plain = epoch(iterator)
        spoiling = A.Lambda(image=lambda x, **_: np.multiply(x, 0, out=x), p=1)
        blackened = flow(photos, cache=option, augment=A.Compose([spoiling]))
        assert not epoch(blackened).any()
        np.testing.assert_array_equal(epoch(iterator), plain)

    @pytest.mark.parametrize("p", [0.0, 1.0])
    def test_fused_transforms_cannot_spoil_it(self, photos, option, p):
        """Fused transforms get the cached photos, not copies of them."""
        iterator = flow(photos, cache=option)
        plain = epoch(iterator)
        for compose in (A.Compose([A.HorizontalFlip(p=0.5)], p=p), A.Compose([A.RGBShift(p=p)])):
            spoiling = flow(
                photos,
                cache=option,
                augment=ImageDataAugmentor.fuse(compose),
                preprocess_input=lambda x: np.multiply(x, 0, out=x),
            )
            assert not epoch(spoiling).any()
        np.testing.assert_array_equal(epoch(iterator), plain)

    def test_fused_transforms_of_four_channels_cannot_spoil_it(self, photos, option):
        """Such pictures go through the transforms one by one, which may return their input."""
        options = {"target_size": SIZE, "class_mode": None, "shuffle": False, "dtype": "uint8"}
        options |= {"color_mode": "rgba", "interpolation": cv2.INTER_AREA}
        spoiling = ImageDataAugmentor(
            augment=ImageDataAugmentor.fuse(A.Compose([A.HorizontalFlip(p=0)])),
            preprocess_input=lambda x: np.multiply(x, 0, out=x),
            cache=option,
        ).flow_from_directory(photos, **options)
        plain = ImageDataAugmentor(cache=option).flow_from_directory(photos, **options)
        expected = epoch(plain)
        for _ in range(2):
            assert not epoch(spoiling).any()
        np.testing.assert_array_equal(epoch(plain), expected)

    def test_fused_transforms_of_cached_photos_sample_twice(self, photos, option):
        """A batch does not depend on which photos fit into the budget."""
        fused = ImageDataAugmentor.fuse(A.Compose([A.Rotate(p=1)]))
        options = {"augment": fused, "interpolation": cv2.INTER_LINEAR, "cache": option}
        some = epoch(flow(photos, **options, cache_mb=5.5 * PICTURE / (1 << 20)))
        cached = flow(photos, **options, cache_mb=1)
        np.testing.assert_array_equal(epoch(cached), some)
        cached.epoch = 0
        np.testing.assert_array_equal(epoch(cached), some)
        once = epoch(flow(photos, **options | {"cache": None}))
        assert 0 < np.abs(once.astype(int) - some).mean() < 10


def keeping(photos, size, kept=(36, 48), interpolation=cv2.INTER_AREA, **options):
    """Return a flow of photos that are kept at a larger size than its own."""
    iterator = flow(photos, size, interpolation, **options)
    iterator.loader = replace(iterator.loader, kept_size=kept)
    return iterator


def test_photos_are_decoded_once_for_flows_of_several_sizes(photos, decoded):
    sizes = (36, 48), (24, 32), (12, 16)
    kept = [keeping(photos, size, cache=True) for size in sizes]
    made = [epoch(one) for one in kept]
    assert len(decoded) == 12
    assert kept[0].cache.used >= 12 * 36 * 48 * 3
    for size, pictures in zip(sizes, made, strict=True):
        np.testing.assert_array_equal(epoch(keeping(photos, size)), pictures)  # without a cache
        directly = epoch(flow(photos, size)).astype(int)
        assert np.abs(pictures - directly).mean() < 3


def test_a_kept_photo_is_made_smaller_within_the_fused_warp(photos):
    fused = ImageDataAugmentor.fuse(A.Compose([A.Affine(rotate=(20, 20), p=1)]))
    made = epoch(keeping(photos, SIZE, augment=fused, cache=True))
    np.testing.assert_array_equal(epoch(keeping(photos, SIZE, augment=fused)), made)
    one_by_one = epoch(keeping(photos, SIZE, augment=A.Compose(fused.transforms[0].transforms)))
    assert np.abs(made.astype(int) - one_by_one).mean() < 3


def test_processes_make_the_same_of_kept_photos(photos):
    plain = epoch(keeping(photos, SIZE))
    iterator = keeping(photos, SIZE, cache=True, workers=1, processes=True)
    iterator.image_data_generator.threads.pool.wait()
    for _ in range(2):
        np.testing.assert_array_equal(epoch(iterator), plain)


def test_what_memory_does_not_hold_goes_to_files(photos, tmp_path, decoded, monkeypatch):
    monkeypatch.setattr("ImageDataAugmentor.photo_cache.available_memory", lambda: 11 * PICTURE)
    disk = SimpleNamespace(free=30 * PICTURE)
    monkeypatch.setattr("ImageDataAugmentor.photo_cache.shutil.disk_usage", lambda _: disk)
    folder = tmp_path / "overflow"
    folder.mkdir()
    cache_module.overflow_to(folder)
    iterator = flow(photos, cache=True)
    plain = epoch(iterator)
    decoded.clear()
    np.testing.assert_array_equal(epoch(iterator), plain)
    assert not decoded
    (section,) = iterator.cache._sections.values()
    assert 0 < section.in_memory < 6 * PICTURE < section.used
    assert not list(folder.iterdir())  # nothing that a kill could leave behind


@pytest.mark.parametrize("processes", [False, True])
def test_a_photo_whose_file_is_gone_is_served(photos, processes):
    iterator = flow(photos, cache=True, workers=1, processes=processes)
    if processes:
        iterator.image_data_generator.threads.pool.wait()
    plain = epoch(iterator)
    for path in photos.rglob("*.png"):
        path.unlink()
    np.testing.assert_array_equal(epoch(iterator), plain)


def reopen(photos, folder):
    """Open the folder with another cache, as another process would."""
    cache_module._caches.clear()
    gc.collect()
    return flow(photos, cache=folder)


def test_a_folder_outlives_the_process(photos, tmp_path, decoded):
    plain = epoch(flow(photos, cache=tmp_path / "cache"))
    decoded.clear()
    np.testing.assert_array_equal(epoch(reopen(photos, tmp_path / "cache")), plain)
    assert not decoded


def test_a_second_process_reads_what_is_there(photos, tmp_path):
    first = flow(photos, cache=tmp_path / "cache")
    plain = epoch(first)  # It still holds the lock.
    cache_module._caches.clear()
    second = flow(photos, cache=tmp_path / "cache")
    assert second.cache is not first.cache
    np.testing.assert_array_equal(epoch(second), plain)


def test_half_written_and_spoilt_records_are_read_anew(photos, tmp_path):
    plain = epoch(flow(photos, cache=tmp_path / "cache"))
    (index,) = (tmp_path / "cache").glob("*/index.jsonl")
    lines = index.read_text().splitlines()
    index.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])  # as if killed while writing
    segment = sorted((tmp_path / "cache").glob("*/segment-*.bin"))[0]
    cache_module._caches.clear()
    gc.collect()
    with segment.open("r+b") as file:
        file.seek(10)
        file.write(b"\0\1\2\3\4\5\6\7")
    np.testing.assert_array_equal(epoch(reopen(photos, tmp_path / "cache")), plain)
    np.testing.assert_array_equal(epoch(reopen(photos, tmp_path / "cache")), plain)


def test_a_full_disk_stops_the_cache_not_the_run(photos, tmp_path, monkeypatch, decoded):
    plain = epoch(flow(photos))

    def full(path, size):
        path.write_bytes(b"some of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder_module, "_allocate", full)
    iterator = flow(photos, cache=tmp_path / "cache")
    with pytest.warns(UserWarning, match="No space left"):
        np.testing.assert_array_equal(epoch(iterator), plain)
    np.testing.assert_array_equal(epoch(iterator), plain)
    assert not list((tmp_path / "cache").glob("*/segment-*.bin"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_allocation_finds_out_before_the_file_is_mapped(tmp_path):
    with pytest.raises(OSError, match=r"No space|too large|Invalid"):
        folder_module._allocate(tmp_path / "huge.bin", 1 << 60)


def test_leftovers_of_earlier_runs_make_room(photos, tmp_path):
    epoch(flow(photos, (12, 16), cache=tmp_path / "cache"))
    cache_module._caches.clear()
    gc.collect()
    budget = 12.5 * PICTURE / (1 << 20)
    iterator = flow(photos, cache=tmp_path / "cache", cache_mb=budget)
    epoch(iterator)
    assert iterator.cache.used <= iterator.cache.budget
    assert isinstance(iterator.cache, FolderCache)
    assert len(list((tmp_path / "cache").glob("*/section.json"))) == 1


def test_a_killed_writer_leaves_a_cache_that_works(photos, tmp_path, decoded):
    script = """
import sys, cv2
from ImageDataAugmentor import ImageDataAugmentor
flow = ImageDataAugmentor(seed=1, cache=sys.argv[2]).flow_from_directory(
    sys.argv[1], target_size=(24, 32), class_mode=None, batch_size=1, dtype="uint8",
    interpolation=cv2.INTER_AREA)
for _ in range(7):
    next(flow)
print("written", flush=True)
while True:
    next(flow)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(cache_module.__file__).parents[1])}
    writer = subprocess.Popen(
        [sys.executable, "-c", script, photos, tmp_path / "cache"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    while writer.stdout.readline() not in {"written\n", ""}:
        pass
    writer.kill()
    writer.wait()
    plain = epoch(flow(photos))
    decoded.clear()
    iterator = flow(photos, cache=tmp_path / "cache")
    np.testing.assert_array_equal(epoch(iterator), plain)
    assert len(decoded) <= 5  # The writer stored seven.
    decoded.clear()
    np.testing.assert_array_equal(epoch(iterator), plain)
    assert not decoded  # The lock ended with its process.


def test_only_a_folder_cache_needs_filelock():
    script = (
        "import sys; sys.modules['filelock'] = None\n"
        "from ImageDataAugmentor.cache import open_cache\n"
        "assert open_cache(True, 1).budget == 1 << 20\n"
    )
    library = str(Path(cache_module.__file__).parents[1])
    subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": library}, check=True)
