"""Worker processes make the same batches as threads. Threads do what processes cannot."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import albumentations as A
import cv2
import numpy as np
import pandas as pd
import pytest

from augmentor_flows import (
    SIZE,
    compose,
    epochs,
    flow,
    forget_other_tests,
    note_fills,
    same,
    write_photos,
)
from ImageDataAugmentor import ImageDataAugmentor, UnreadableImage
from ImageDataAugmentor.engine import cache as cache_module
from ImageDataAugmentor.engine.samples import write
from ImageDataAugmentor.reading import ImageLoader

pytestmark = pytest.mark.skipif(os.name != "posix", reason="file descriptors cannot be sent")


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


@pytest.fixture(autouse=True)
def nothing_of_other_tests(monkeypatch):
    forget_other_tests(monkeypatch)


@pytest.fixture
def filled(monkeypatch):
    return note_fills(monkeypatch)


OPTIONS = {
    "plain": {},
    "uint8": {"dtype": "uint8"},
    "standardised": {"rescale": 1 / 255},
    "no labels": {"class_mode": None},
    "itself as target": {"class_mode": "input"},
    "fused": {"augment": ImageDataAugmentor.fuse(compose())},
    "fused and resized": {
        "augment": ImageDataAugmentor.fuse(compose()),
        "interpolation": cv2.INTER_LINEAR,
    },
    "fused, of one channel": {
        "augment": ImageDataAugmentor.fuse(A.Compose([A.Affine(rotate=(-20, 20), p=0.7)])),
        "interpolation": cv2.INTER_LINEAR,
        "color_mode": "gray",
        "dtype": "uint8",
    },
    "module's function": {"preprocess_input": np.negative},
    "view of the picture": {
        "augment": ImageDataAugmentor.fuse(compose()),
        "preprocess_input": np.flipud,
        "dtype": "uint8",
    },
}


@pytest.mark.parametrize(
    ("workers", "options"),
    [(1, OPTIONS["plain"]), *((3, options) for options in OPTIONS.values())],
    ids=["one worker", *OPTIONS],
)
def test_same_batches(photos, filled, workers, options):
    same(
        epochs(flow(photos, workers=workers, **options)),
        epochs(flow(photos, workers=0, processes=False, **options)),
    )
    assert filled
    assert all(filled)


def test_they_fill_and_use_the_cache(photos, filled, monkeypatch):
    iterator = flow(photos, cache=True)
    expected = epochs(flow(photos, processes=False), 4)
    got = epochs(iterator, 2)
    decoded, call = [], ImageLoader.__call__
    monkeypatch.setattr(
        ImageLoader, "__call__", lambda self, path: (decoded.append(path), call(self, path))[1]
    )
    assert len(cache_module._cache._shelves[iterator.loader].photos) == 22
    same(got + epochs(iterator), expected)
    iterator.image_data_generator.processes = False
    iterator.epoch = 0
    same(epochs(iterator, 1), expected[: len(iterator)])
    assert not decoded  # A thread reads what processes stored.
    assert all(filled)


def test_a_changed_file_is_read_anew(photos):
    iterator = flow(photos, cache=True, augment=None, shuffle=False)
    epochs(iterator)
    for value in (77, 78):
        iterator._lookahead.close()  # A batch started ahead may have read the file.
        cv2.imwrite(iterator.filepaths[12], np.full((48, 64, 3), value, np.uint8))
        os.utime(iterator.filepaths[12], ns=(value, value))
        for _ in range(2):
            batches = epochs(iterator, 1)
            assert np.all(batches[2][0][2] == value)


def test_target_pictures(photos, filled):
    paths = sorted(map(str, photos.glob("*/*.jpg")))
    frame = pd.DataFrame({"filename": paths, "class": paths[::-1]})

    def pairs(processes):
        augmentor = ImageDataAugmentor(
            augment=compose(), label_augment_mode="mask", seed=3, workers=2,
            processes=processes, cache=True,
        )  # fmt: skip
        return epochs(
            augmentor.flow_from_dataframe(
                frame, class_mode="grayscale_target", target_size=SIZE, batch_size=4,
                interpolation=cv2.INTER_AREA,
            )
        )  # fmt: skip

    same(pairs(True), pairs(False))
    assert all(filled)


def oversampled(photos):
    """Return a table in which each photo stands three times in a row."""
    paths = sorted(map(str, photos.glob("*/*.jpg")))
    return pd.DataFrame({"filename": paths}).loc[np.repeat(range(len(paths)), 3)]


def its_own_targets(photos):
    """Return a table in which each photo is its own target picture."""
    paths = sorted(map(str, photos.glob("*/*.jpg")))
    return pd.DataFrame({"filename": paths, "class": paths})


@pytest.mark.parametrize(
    ("table", "class_mode"), [(oversampled, None), (its_own_targets, "color_target")]
)
def test_a_photo_that_stands_twice_in_a_share_is_cached_once(photos, filled, table, class_mode):
    def batches(processes, cache):
        augmentor = ImageDataAugmentor(workers=2, processes=processes, cache=cache)
        return augmentor.flow_from_dataframe(
            table(photos), class_mode=class_mode, target_size=SIZE, batch_size=4,
            interpolation=cv2.INTER_AREA, shuffle=False,
        )  # fmt: skip

    iterator = batches(True, cache=True)
    expected = batches(False, cache=None)
    for number in 2 * list(range(len(iterator))):
        np.testing.assert_array_equal(iterator[number], expected[number])
    shelf = cache_module._cache._shelves[iterator.loader]
    assert len(shelf.photos) == 22
    slots = cache_module._cache.used // (24 * 32 * 3)
    assert len(shelf.free) + len(list(shelf.unused)) == slots - 22
    assert filled
    assert all(filled)


VIEWS = {
    "itself": lambda x: x,
    "upside down": np.flipud,
    "mirrored": np.fliplr,
    "BGR": lambda x: x[..., ::-1],
    "transposed": lambda x: x.transpose(1, 0, 2),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_views_of_a_picture_that_lies_in_its_batch(view):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), np.uint8)
    before = pictures.copy()
    write([pictures, None], 1, (view(pictures[1]), None))
    np.testing.assert_array_equal(pictures, [before[0], view(before[1]), before[2]])


def test_a_changed_setting_reaches_them(photos):
    iterator = flow(photos, augment=None, rescale=1.0)
    before = epochs(iterator, 1)
    iterator.image_data_generator.rescale = 0.5
    iterator.reset()
    iterator.epoch = 0
    after = epochs(iterator, 1)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one[0] / 2, other[0])


@pytest.mark.parametrize("processes", [True, False])
def test_a_changed_setting_holds_from_the_next_batch_on(photos, processes):
    """A batch that was started ahead is dropped, in this epoch or the next."""
    iterator = flow(photos, processes, augment=None, rescale=1.0)
    expected = epochs(flow(photos, processes, augment=None, rescale=1.0))
    length = len(iterator)
    got = [next(iterator) for _ in range(length - 1)]
    iterator.image_data_generator.rescale = 0.5
    got += [next(iterator) for _ in range(length + 1)]
    for number, (one, other) in enumerate(zip(got, expected, strict=True)):
        np.testing.assert_array_equal(one[0], other[0] * (0.5 if number >= length - 1 else 1))


def test_what_cannot_be_pickled_stays_in_the_threads(photos, filled):
    iterator = flow(photos, augment=None, preprocess_input=lambda x: 255 - x)
    plain = flow(photos, augment=None, processes=False)
    with pytest.warns(UserWarning, match=r"stays in threads.*lambda.*in a module"):
        negatives = epochs(iterator)
    for (negative, _), (single, _) in zip(negatives, epochs(plain), strict=True):
        np.testing.assert_array_equal(negative, 255 - single)
    assert not any(filled)


def test_what_they_cannot_load_stays_in_the_threads(photos, filled, monkeypatch):
    def known_here_only(picture):
        return picture

    known_here_only.__module__ = known_here_only.__qualname__ = "known_here_only"
    module = SimpleNamespace(known_here_only=known_here_only)
    monkeypatch.setitem(sys.modules, "known_here_only", module)
    iterator = flow(photos, preprocess_input=known_here_only)
    with pytest.warns(UserWarning, match=r"stays in threads.*No module named"):
        got = epochs(iterator)
    same(got, epochs(flow(photos, processes=False)))
    assert not any(filled)


def test_errors_and_warnings_are_those_of_a_thread(photos):
    iterator = flow(photos, augment=None, shuffle=False, batch_size=11, truncated="load")
    iterator[0]
    damaged = Path(iterator.filepaths[15])
    whole = damaged.read_bytes()
    iterator._lookahead.close()  # A batch started ahead may have read the file.
    damaged.write_bytes(whole[:-200])
    with pytest.warns(UserWarning, match=f"{damaged.name}: the file is truncated"):
        iterator[1]
    iterator._lookahead.close()
    damaged.write_bytes(b"no picture")
    with pytest.raises(UnreadableImage, match=damaged.name):
        iterator[1]
    damaged.write_bytes(whole)
    assert len(iterator[1][0]) == 11


def test_texts_of_any_length_are_targets(photos):
    frame = pd.DataFrame({"filename": sorted(map(str, photos.glob("a/*.jpg")))})
    frame["class"] = ["x" * (1 + number) for number in range(11)]
    iterator = ImageDataAugmentor(workers=2, processes=True).flow_from_dataframe(
        frame, class_mode="raw", target_size=SIZE, batch_size=4, shuffle=False,
        interpolation=cv2.INTER_AREA,
    )  # fmt: skip
    texts = [text for _, y in epochs(iterator) for text in y]
    assert texts == 2 * list(frame["class"])
