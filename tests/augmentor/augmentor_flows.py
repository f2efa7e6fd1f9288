"""Iterators over small photos for the tests of worker processes."""

import gc
from weakref import WeakValueDictionary

import albumentations as A
import cv2
import numpy as np

from ImageDataAugmentor import ImageDataAugmentor
from ImageDataAugmentor.engine import cache, workers

SIZE = (24, 32)


def write_photos(folder):
    """Write two classes of eleven photos in `folder`, and return it."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(11):
            small = rng.integers(0, 256, (6, 8, 3), np.uint8)
            cv2.imwrite(str(folder / name / f"{number:02d}.jpg"), cv2.resize(small, (64, 48)))
    return folder


def forget_other_tests(monkeypatch):
    """Start without the worker processes and caches of other tests."""
    gc.collect()  # ends worker processes that nobody holds
    monkeypatch.setattr(workers, "_shared", WeakValueDictionary())
    monkeypatch.setattr(cache, "_cache", None)


def note_fills(monkeypatch):
    """Return a list that will hold whether a process filled each share that was meant for one."""
    results, fill = [], workers.Workers._fill_in_process

    def noted(self, batch, positions):
        filled = fill(self, batch, positions)
        if batch.pickled:
            results.append(filled)
        return filled

    monkeypatch.setattr(workers.Workers, "_fill_in_process", noted)
    return results


def compose():
    return A.Compose([A.HorizontalFlip(), A.Affine(rotate=(-20, 20), p=0.7), A.FancyPCA()])


def flow(photos, processes=True, workers=2, augment="some", **options):
    own = {name: options.pop(name) for name in ("cache", "preprocess_input", "truncated", "rescale")
           if name in options}  # fmt: skip
    augmentor = ImageDataAugmentor(
        augment=compose() if augment == "some" else augment,
        seed=7,
        workers=workers,
        processes=processes,
        **own,
    )
    settings = {"target_size": SIZE, "batch_size": 5, "interpolation": cv2.INTER_AREA} | options
    return augmentor.flow_from_directory(photos, **settings)


def epochs(iterator, number=2):
    """Return the batches of the next epochs."""
    return [next(iterator) for _ in range(number * len(iterator))]


def same(one, other):
    """Assert that two lists of batches are equal."""
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def pool(iterator):
    return iterator.image_data_generator.pool


def children(iterator):
    """Return the process ids of the living workers."""
    return [process._process.pid for process in pool(iterator).processes if process.alive]
