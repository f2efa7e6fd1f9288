"""Batches depend on (seed, epoch, index) alone; the ways to read them; the worker threads."""

import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pytest

from ImageDataAugmentor import ImageDataAugmentor

SIZE = (24, 32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir()
        for number in range(11):
            small = rng.integers(0, 256, (6, 8, 3), np.uint8)
            cv2.imwrite(str(folder / name / f"{number:02d}.jpg"), cv2.resize(small, (64, 48)))
    return folder


def compose():
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(rotate=(-20, 20), p=0.7),
            A.OneOf([A.RandomBrightnessContrast(p=1), A.GaussNoise(p=1)], p=0.8),
            A.HueSaturationValue(p=0.5),
        ]
    )


def flow(folder, seed=7, augment=True, workers=None, **options):
    augmentor = ImageDataAugmentor(
        augment=compose() if augment else None, seed=seed, workers=workers
    )
    settings = {"target_size": SIZE, "batch_size": 5, "interpolation": cv2.INTER_AREA} | options
    return augmentor.flow_from_directory(folder, **settings)


def same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def in_child(iterator, epoch, number, queue):
    iterator.epoch = epoch
    queue.put(iterator[number])


class TestRandomness:
    def test_workers_do_not_change_it(self, photos):
        alone = flow(photos, workers=0)
        expected = [alone[i] for i in range(len(alone))]
        for workers in (1, 4):
            other = flow(photos, workers=workers)
            for i, batch in enumerate(expected):
                same(other[i], batch)

    def test_order_of_access_does_not_change_it(self, photos):
        forwards, anyhow = flow(photos), flow(photos)
        expected = [forwards[i] for i in range(len(forwards))]
        for i in (3, 0, 4, 4, 1, -3):
            same(anyhow[i], expected[i])

    def test_a_resume_in_mid_epoch_does_not_change_it(self, photos):
        whole, resumed = flow(photos), flow(photos)
        expected = [next(whole) for _ in range(2 * len(whole))]
        resumed.epoch, resumed.batch_index = 1, 3
        same(next(resumed), expected[len(whole) + 3])
        same(next(resumed), expected[len(whole) + 4])

    def test_the_batch_size_does_not_change_a_sample(self, photos):
        five, two = flow(photos, shuffle=False), flow(photos, shuffle=False, batch_size=2)
        np.testing.assert_array_equal(five[0][0][:4], np.concatenate([two[0][0], two[1][0]]))

    @pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
    def test_processes_do_not_change_it(self, photos, method):
        iterator = flow(photos)
        iterator.epoch = 3
        expected = iterator[2]  # starts its threads before the child is forked
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        child = context.Process(target=in_child, args=(iterator, 3, 2, queue))
        child.start()
        same(queue.get(timeout=60), expected)
        child.join(60)
        assert child.exitcode == 0

    def test_concurrent_readers_do_not_change_it(self, photos):
        alone, shared = flow(photos, workers=0), flow(photos, workers=3)
        expected, got = [alone[i] for i in range(5)], {}
        threads = [
            threading.Thread(target=lambda i=i: got.update({i: shared[i]})) for i in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i in range(5):
            same(got[i], expected[i])

    def test_epochs_and_seeds_differ(self, photos):
        iterator, other = flow(photos, shuffle=False), flow(photos, seed=8, shuffle=False)
        first = iterator[0][0]
        assert not np.array_equal(first, other[0][0])
        iterator.on_epoch_end()
        assert not np.array_equal(first, iterator[0][0])
        iterator.epoch = 0
        np.testing.assert_array_equal(first, iterator[0][0])

    def test_seed_zero_is_a_seed_and_none_is_none(self, photos):
        same(flow(photos, seed=0)[0], flow(photos, seed=0)[0])
        assert not np.array_equal(flow(photos, seed=None)[0][0], flow(photos, seed=None)[0][0])

    def test_global_random_states_are_left_alone(self, photos):
        np.random.seed(1)
        before = np.random.get_state()[1].copy()
        flow(photos)[0]
        np.testing.assert_array_equal(before, np.random.get_state()[1])

    def test_a_shuffled_epoch_visits_everything_once(self, photos):
        iterator = flow(photos)
        orders = []
        for _ in range(2):
            assert sorted(iterator.index_array) == list(range(22))
            orders.append(iterator.index_array.tolist())
            iterator.on_epoch_end()
        assert orders[0] != orders[1] != list(range(22))

    def test_an_image_and_its_mask_stay_in_step(self, photos):
        # Noise draws a number for each value, so three times as many for colours as for grey.
        augment = A.Compose(
            [A.GaussNoise((0.02, 0.05), p=0.7), A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
        )
        images, masks = (
            ImageDataAugmentor(
                augment=augment, input_augment_mode=mode, seed=5
            ).flow_from_directory(photos, class_mode=None, color_mode=colours, **options)
            for mode, colours, options in (
                ("image", "rgb", {"target_size": SIZE, "interpolation": cv2.INTER_AREA}),
                ("mask", "gray", {"target_size": SIZE, "interpolation": cv2.INTER_AREA}),
            )
        )
        for image, mask in zip(next(images), next(masks), strict=True):
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).ravel()
            assert np.corrcoef(grey, mask.ravel())[0, 1] > 0.8


class TestReading:
    def test_shapes_and_types(self, photos):
        x, y = flow(photos)[0]
        assert (x.shape, x.dtype, y.shape, y.dtype) == (
            (5, 24, 32, 3),
            "float32",
            (5, 2),
            "float32",
        )
        x, y = flow(photos, dtype="uint8")[4]
        assert (x.shape, x.dtype, y.dtype) == ((2, 24, 32, 3), "uint8", "float32")

    def test_endless(self, photos):
        iterator = flow(photos)
        lengths = [len(next(iterator)[0]) for _ in range(11)]
        assert lengths == [5, 5, 5, 5, 2, 5, 5, 5, 5, 2, 5]
        assert (iterator.epoch, iterator.batch_index, iterator.total_batches_seen) == (2, 1, 11)
        iterator.reset()
        assert iterator.batch_index == 0
        assert iter(iterator) is iterator
        assert len(iterator.next()[0]) == 5

    def test_out_of_range(self, photos):
        with pytest.raises(ValueError, match="batch 5 of an iterator of 5"):
            flow(photos)[5]

    def test_channels_first(self, photos):
        augmentor = ImageDataAugmentor(data_format="channels_first")
        settings = {"target_size": SIZE, "shuffle": False, "interpolation": cv2.INTER_AREA}
        iterator = augmentor.flow_from_directory(photos, class_mode="input", **settings)
        last = ImageDataAugmentor().flow_from_directory(photos, class_mode="input", **settings)
        assert iterator.image_shape == (3, 24, 32)
        for first, usual in zip(iterator[0], last[0], strict=True):
            np.testing.assert_array_equal(first, np.moveaxis(usual, -1, 1))

    def test_ragged_pictures_are_an_error(self, photos):
        crop = A.RandomSizedCrop((10, 20), size=(12, 12), p=0.5)
        iterator = ImageDataAugmentor(augment=crop, seed=1).flow_from_directory(
            photos, target_size=SIZE, batch_size=22, interpolation=cv2.INTER_AREA
        )
        with pytest.raises(ValueError, match="Resize"):
            iterator[0]

    def test_portrait_photos_are_resized(self, tmp_path):
        (tmp_path / "c").mkdir()
        cv2.imwrite(str(tmp_path / "c" / "1.png"), np.zeros((32, 24, 3), np.uint8))
        cv2.imwrite(str(tmp_path / "c" / "2.png"), np.zeros((24, 32, 3), np.uint8))
        assert flow(tmp_path, augment=False)[0][0].shape == (2, 24, 32, 3)

    def test_save_to_dir(self, photos, tmp_path):
        iterator = flow(
            photos, augment=False, shuffle=False, save_to_dir=tmp_path, save_prefix="p", workers=2
        )
        x = iterator[0][0]
        saved = sorted(tmp_path.glob("p_*_*.png"))
        assert [path.name.split("_")[1] for path in saved] == ["0", "1", "2", "3", "4"]
        picture = cv2.imread(str(saved[3]), cv2.IMREAD_COLOR_RGB)
        np.testing.assert_array_equal(picture, x[3])  # The values are not stretched.

    def test_show_data(self, photos, monkeypatch):
        import matplotlib

        matplotlib.use("Agg")
        shown = []
        monkeypatch.setattr("matplotlib.pyplot.show", lambda: shown.append(1))
        for mode in ("categorical", "sparse", "input", None):
            flow(photos, class_mode=mode).show_data(rows=2, cols=2, figsize=(3, 3))
        flow(photos, augment=False).show_data(rows=6, cols=5, apply_standardization=True)
        x = np.zeros((4, 8, 8, 1), np.float32)
        ImageDataAugmentor().flow(x, np.arange(4)).show_data(2, 2)
        assert len(shown) == 6


class TestWorkers:
    def test_an_error_reaches_the_reader_and_the_next_batch_works(self, photos):
        def fail_on_dark(picture):
            if failing:
                raise RuntimeError("the user's own error")
            return picture

        failing = True
        augmentor = ImageDataAugmentor(preprocess_input=fail_on_dark, workers=2)
        iterator = augmentor.flow_from_directory(
            photos, target_size=SIZE, interpolation=cv2.INTER_AREA
        )
        with pytest.raises(RuntimeError, match="the user's own error"):
            iterator[0]
        failing = False
        assert len(iterator[0][0]) == 22

    def test_threads_end_with_their_owner(self, photos):
        others = set(threading.enumerate())  # Those of earlier tests may end meanwhile.
        # Augmentors with the same number of workers share threads. No other test takes this number.
        iterator = flow(photos, workers=7)
        iterator[0]
        iterator[1]
        own = set(threading.enumerate()) - others
        assert own
        gone = weakref.ref(iterator)
        del iterator
        deadline = time.monotonic() + 20
        while (gone() or any(t.is_alive() for t in own)) and time.monotonic() < deadline:
            gc.collect()  # Batches that were started ahead hold the iterator until they are done.
            time.sleep(0.02)
        assert gone() is None
        assert not any(thread.is_alive() for thread in own)

    def test_a_pickled_copy_gives_the_same(self, photos):
        iterator = flow(photos)
        same(pickle.loads(pickle.dumps(iterator))[1], iterator[1])

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
    def test_an_interrupted_process_ends(self, photos):
        script = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # A background job ignores it.
from ImageDataAugmentor import ImageDataAugmentor
flow = ImageDataAugmentor(workers=3).flow_from_directory(sys.argv[1], batch_size=4)
print(len(next(flow)), flush=True)
while True:
    next(flow)
"""
        library = Path(sys.modules[ImageDataAugmentor.__module__].__file__).parents[1]
        process = subprocess.Popen(
            [sys.executable, "-c", script, photos],
            env=os.environ | {"PYTHONPATH": str(library)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while process.stdout.readline() not in {"2\n", ""}:
            pass
        try:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode != 0
        assert "KeyboardInterrupt" in errors
