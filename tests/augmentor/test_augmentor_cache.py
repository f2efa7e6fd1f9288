"""The cache keeps pictures unchanged through changed files, a small budget and killed writers."""

import errno
import gc
import os
from dataclasses import replace
from types import SimpleNamespace

import albumentations as A
import cv2
import numpy as np
import pytest

from ImageDataAugmentor import ImageDataAugmentor
from ImageDataAugmentor.engine import cache as cache_module
from ImageDataAugmentor.engine.memory import allocate
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
    monkeypatch.setattr(cache_module, "_cache", None)


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


class TestPhotos:
    def test_second_epoch_decodes_nothing_and_is_the_same(self, photos, decoded):
        plain = epoch(flow(photos))
        decoded.clear()
        iterator = flow(photos, cache=True)
        np.testing.assert_array_equal(epoch(iterator), plain)
        assert sorted(decoded) == sorted(iterator.filepaths)
        np.testing.assert_array_equal(epoch(iterator), plain)
        np.testing.assert_array_equal(epoch(flow(photos, cache=True)), plain)  # Caches are shared.
        assert len(decoded) == 12

    def test_a_changed_file_is_read_anew(self, photos):
        iterator = flow(photos, cache=True, workers=0)
        epoch(iterator)
        for value in (77, 78):
            cv2.imwrite(iterator.filepaths[3], np.full((48, 64, 3), value, np.uint8))
            os.utime(iterator.filepaths[3], ns=(value, value))
            assert np.all(epoch(iterator)[3] == value)

    def test_ways_of_loading_are_kept_apart(self, photos):
        one, other = flow(photos, cache=True), flow(photos, (12, 16), cache=True)
        assert epoch(one).shape[1:] == (24, 32, 3)
        assert epoch(other).shape[1:] == (12, 16, 3)
        assert epoch(one).shape[1:] == (24, 32, 3)

    def test_budget(self, photos, decoded):
        plain = epoch(flow(photos))
        budget = 5.5 * PICTURE / (1 << 20)
        iterator = flow(photos, cache=True, cache_mb=budget)
        for _ in range(3):
            np.testing.assert_array_equal(epoch(iterator), plain)
            assert 0 < cache_module._cache.used <= cache_module._cache.budget
        decoded.clear()
        epoch(iterator)
        assert 7 <= len(decoded) < 12  # The photos that fit stay.

    def test_photos_that_nobody_asks_for_make_room(self, photos, decoded):
        budget = 12.5 * PICTURE / (1 << 20)
        first = flow(photos, cache=True, cache_mb=budget)
        epoch(first)
        small = flow(photos, (20, 30), cache=True)
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

    def test_transforms_cannot_spoil_it(self, photos):
        iterator = flow(photos, cache=True)
        plain = epoch(iterator)
        spoiling = A.Lambda(image=lambda x, **_: np.multiply(x, 0, out=x), p=1)
        blackened = flow(photos, cache=True, augment=A.Compose([spoiling]))
        assert not epoch(blackened).any()
        np.testing.assert_array_equal(epoch(iterator), plain)

    @pytest.mark.parametrize("p", [0.0, 1.0])
    def test_fused_transforms_cannot_spoil_it(self, photos, p):
        """Fused transforms get the cached photos, not copies of them."""
        iterator = flow(photos, cache=True)
        plain = epoch(iterator)
        for compose in (A.Compose([A.HorizontalFlip(p=0.5)], p=p), A.Compose([A.RGBShift(p=p)])):
            spoiling = flow(
                photos,
                cache=True,
                augment=ImageDataAugmentor.fuse(compose),
                preprocess_input=lambda x: np.multiply(x, 0, out=x),
            )
            assert not epoch(spoiling).any()
        np.testing.assert_array_equal(epoch(iterator), plain)

    def test_fused_transforms_of_four_channels_cannot_spoil_it(self, photos):
        """Such pictures go through the transforms one by one, which may return their input."""
        options = {"target_size": SIZE, "class_mode": None, "shuffle": False, "dtype": "uint8"}
        options |= {"color_mode": "rgba", "interpolation": cv2.INTER_AREA}
        spoiling = ImageDataAugmentor(
            augment=ImageDataAugmentor.fuse(A.Compose([A.HorizontalFlip(p=0)])),
            preprocess_input=lambda x: np.multiply(x, 0, out=x),
            cache=True,
        ).flow_from_directory(photos, **options)
        plain = ImageDataAugmentor(cache=True).flow_from_directory(photos, **options)
        expected = epoch(plain)
        for _ in range(2):
            assert not epoch(spoiling).any()
        np.testing.assert_array_equal(epoch(plain), expected)

    def test_fused_transforms_of_cached_photos_sample_twice(self, photos):
        """A batch does not depend on which photos fit into the budget."""
        fused = ImageDataAugmentor.fuse(A.Compose([A.Rotate(p=1)]))
        options = {"augment": fused, "interpolation": cv2.INTER_LINEAR, "cache": True}
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
    assert cache_module._cache.used >= 12 * 36 * 48 * 3
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
    for _ in range(2):
        np.testing.assert_array_equal(epoch(iterator), plain)


def test_what_memory_does_not_hold_goes_to_files(photos, tmp_path, decoded, monkeypatch):
    monkeypatch.setattr("ImageDataAugmentor.engine.cache.available_memory", lambda: 11 * PICTURE)
    disk = SimpleNamespace(free=30 * PICTURE)
    monkeypatch.setattr("ImageDataAugmentor.engine.cache.shutil.disk_usage", lambda _: disk)
    folder = tmp_path / "overflow"
    folder.mkdir()
    cache_module.overflow_to(folder)
    iterator = flow(photos, cache=True)
    plain = epoch(iterator)
    decoded.clear()
    np.testing.assert_array_equal(epoch(iterator), plain)
    assert not decoded
    on_disk = sum(one.size for one in cache_module._cache._segments if one.on_disk)
    used = cache_module._cache.used
    assert 0 < used - on_disk < 6 * PICTURE < used
    assert not list(folder.iterdir())  # nothing that a kill could leave behind


def test_a_full_disk_stops_the_cache_not_the_run(photos, monkeypatch, decoded):
    plain = epoch(flow(photos))

    def full(self, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache_module.Cache, "_new_segment", full)
    iterator = flow(photos, cache=True)
    with pytest.warns(UserWarning, match="No space left"):
        np.testing.assert_array_equal(epoch(iterator), plain)
    np.testing.assert_array_equal(epoch(iterator), plain)


def test_a_run_after_another_overflows_into_its_own_folder(tmp_path):
    cache = cache_module.Cache()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        cache.overflow_to(tmp_path / name)
        assert cache._overflow == tmp_path / name
        cache._full = True  # as when the folder is gone with its run
        (tmp_path / name).rmdir()
    budget = cache.budget
    (tmp_path / "third").mkdir()
    cache.overflow_to(tmp_path / "third")
    assert (cache._full, cache.budget) == (False, budget)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_allocation_finds_out_before_the_file_is_mapped(tmp_path):
    with (
        (tmp_path / "huge.bin").open("xb") as file,
        pytest.raises(OSError, match=r"No space|large|Invalid"),
    ):
        allocate(file, 1 << 60)
