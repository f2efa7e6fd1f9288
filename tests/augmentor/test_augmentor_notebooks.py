"""What old notebooks do, and what their folders and tables hold."""

import gc
import itertools
import math
import random
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import albumentations as A
import cv2
import keras
import numpy as np
import pandas as pd
import pytest

from ImageDataAugmentor import ImageDataAugmentor, list_pictures, zip_flows
from ImageDataAugmentor.files import is_clutter
from ImageDataAugmentor.legacy.keras_2 import Steps
from ImageDataAugmentor.reading import ImageLoader

N = 30
NUMBERED = np.broadcast_to(np.arange(N, dtype=np.uint8)[:, None, None, None], (N, 8, 8, 3))
RANDOM = np.random.default_rng(0).integers(0, 256, (24, 6, 6, 3), np.uint8)


@pytest.fixture
def photos(tmp_path):
    """Three classes of four photos each."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        for number in range(4):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), RANDOM[number])
    return tmp_path


def table(photos):
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))
    return pd.DataFrame({"filename": names, "class": [name[0] for name in names]})


def numbered(batch_size=4, shuffle=False, **options):
    """Return a flow of pictures whose values are their numbers."""
    return ImageDataAugmentor(seed=1, **options).flow(NUMBERED, None, batch_size, shuffle)


def numbers(batches):
    return [int(x[0, 0, 0]) for batch in batches for x in batch]


def model_of(output=None):
    layers = [keras.layers.Input((8, 8, 3)), output or keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


class Counter(keras.callbacks.Callback):
    """Counts the batches of each epoch."""

    def __init__(self):
        super().__init__()
        self.trained, self.tested = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.trained.append(0)

    def on_train_batch_end(self, batch, logs=None):
        self.trained[-1] += 1

    def on_test_begin(self, logs=None):
        self.tested.append(0)

    def on_test_batch_end(self, batch, logs=None):
        self.tested[-1] += 1


class TestKeras:
    @pytest.mark.parametrize("zipped", [False, True])
    def test_fewer_steps_than_batches(self, zipped):
        def flow():
            images = ImageDataAugmentor(seed=1).flow(NUMBERED, np.zeros(N), 4)
            if zipped:
                labels = ImageDataAugmentor(seed=1).flow(NUMBERED, None, 4)
                return zip_flows(ImageDataAugmentor(seed=1).flow(NUMBERED, None, 4), labels)
            return images

        training, held_out, counter = flow(), flow(), Counter()
        model = model_of(keras.layers.Identity() if zipped else None)
        model.fit(
            training,
            steps_per_epoch=N // 4,
            epochs=4,
            validation_data=held_out,
            validation_steps=N // 4,
            callbacks=[counter],
            verbose=0,
        )
        assert counter.trained == [7, 7, 7, 7]
        assert counter.tested == [7, 7, 7, 7]
        assert training.epoch == 4

    @pytest.mark.parametrize("steps", [9, 17, N / 4])
    def test_more_steps_than_batches_and_fractions(self, steps):
        flow, counter = ImageDataAugmentor(seed=1).flow(NUMBERED, np.zeros(N), 4), Counter()
        model_of().fit(flow, steps_per_epoch=steps, epochs=2, callbacks=[counter], verbose=0)
        assert counter.trained == [math.ceil(steps)] * 2
        assert flow.epoch == 2 * math.ceil(steps / 8)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_steps_take_the_batches_in_order(self, workers):
        steps = Steps(numbered(8, workers=workers), 6)
        assert numbers(steps[i] for i in range(6)) == [*range(N), *range(16)]

    def test_a_zip_is_refused_with_the_way_out(self):
        with pytest.raises(ValueError, match=r"zip_flows\(images, masks\)"):
            model_of().fit(zip(numbered(), numbered(), strict=True), steps_per_epoch=7, verbose=0)

    @pytest.mark.parametrize("name", ["fit", "evaluate", "predict"])
    def test_the_generator_methods_name_their_successor(self, name):
        with pytest.raises(AttributeError, match=rf"model\.{name}\("):
            getattr(model_of(), f"{name}_generator")
        assert not hasattr(model_of(), f"{name}_generator")

    def test_a_new_augmentor_for_each_pass_needs_no_new_threads(self):
        def ours():
            return sum(t.name.startswith("ImageDataAugmentor") for t in threading.enumerate())

        gc.collect()
        model = model_of()
        counts = []
        for _ in range(4):
            model.predict(numbered(workers=3), verbose=0)
            counts.append(ours())
        assert counts[-1] <= counts[0] + 6  # The first pass may not have started all of them.

    def test_a_flow_may_read_another_in_its_threads(self):
        other = numbered(workers=2)

        def mixed(picture):
            return picture + next(other)[0]

        flow = numbered(workers=2, preprocess_input=mixed)
        read = []
        reader = threading.Thread(target=lambda: read.extend(next(flow) for _ in range(16)))
        reader.daemon = True
        reader.start()
        reader.join(60)
        assert len(read) == 16


class TestZip:
    def test_pairs_match_in_every_epoch(self, photos):
        def flow(mode, colours):
            augmentor = ImageDataAugmentor(
                augment=A.HorizontalFlip(), input_augment_mode=mode, seed=3
            )
            return augmentor.flow_from_directory(
                photos, (6, 6), colours, class_mode=None, batch_size=5
            )

        pairs = zip_flows(flow("image", "gray"), flow("mask", "gray"))
        assert (len(pairs), pairs.n) == (3, 12)
        for image, mask in itertools.islice(pairs, 7):
            np.testing.assert_array_equal(image, mask)
        pairs.on_epoch_end()
        np.testing.assert_array_equal(*pairs[1])
        pairs.batch_size = 7
        assert len(pairs) == 2
        pairs.reset()
        np.testing.assert_array_equal(*pairs.next())

    def test_flows_that_do_not_match_are_refused(self, photos):
        numbered_pair = numbered(), numbered(batch_size=5)
        with pytest.raises(ValueError, match="batch_size"):
            zip_flows(*numbered_pair)
        numbered_pair = numbered(), numbered()
        numbered_pair[1].drop_remainder = True
        with pytest.raises(ValueError, match="drop_remainder"):
            zip_flows(*numbered_pair)
        with pytest.raises(ValueError, match="30 and 24 samples"):
            zip_flows(numbered(), ImageDataAugmentor().flow(RANDOM, None, 4))
        with pytest.raises(ValueError, match="seed"):
            zip_flows(numbered(shuffle=True), ImageDataAugmentor(seed=2).flow(NUMBERED, None, 4))
        with pytest.raises(ValueError, match="class_mode=None"):
            zip_flows(numbered(), ImageDataAugmentor(seed=1).flow(NUMBERED, np.zeros(N), 4, False))
        with pytest.raises(TypeError, match="two or three flows"):
            zip_flows(numbered())


class TestClutter:
    def test_folders_and_files(self, photos, capsys):
        (photos / ".ipynb_checkpoints").mkdir()
        cv2.imwrite(str(photos / ".ipynb_checkpoints" / "0-checkpoint.png"), RANDOM[0])
        (photos / "a" / "__MACOSX").mkdir()
        cv2.imwrite(str(photos / "a" / "__MACOSX" / "0.png"), RANDOM[0])
        (photos / "b" / "._0.png").write_bytes(b"resource fork")
        flow = ImageDataAugmentor().flow_from_directory(photos, class_mode="sparse")
        assert flow.class_indices == {"a": 0, "b": 1, "c": 2}
        assert flow.samples == 12
        assert len(list_pictures(str(photos))) == 12

    def test_tables_say_so(self, photos):
        (photos / "b" / "._0.png").write_bytes(b"resource fork")
        frame = table(photos)
        assert len(frame) == 13
        with pytest.warns(UserWarning, match=r"1 rows are left out.*b/\._0\.png"):
            assert ImageDataAugmentor().flow_from_dataframe(frame, photos).samples == 12

    def test_names(self):
        clutter = {"__MACOSX", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints", "._cat.jpg"}
        assert all(map(is_clutter, clutter))
        assert not any(map(is_clutter, ("cat.jpg", "macosx", "_cat.jpg", "cat.ini")))


class TestNothingIsDroppedInSilence:
    def test_a_mistyped_class_of_a_table(self, photos):
        with pytest.warns(UserWarning, match=r"4 rows are left out.*: 'c'; no row .* 'C'"):
            flow = ImageDataAugmentor().flow_from_dataframe(
                table(photos), photos, classes=["a", "b", "C"]
            )
        assert flow.samples == 8

    def test_a_class_without_rows_alone_warns(self, photos):
        with pytest.warns(UserWarning, match="no row has the label 'd'"):
            ImageDataAugmentor().flow_from_dataframe(
                table(photos), photos, classes=["a", "b", "c", "d"]
            )

    def test_names_that_match_nothing(self, photos):
        with pytest.raises(ValueError, match=r"none of .*'A'.*'a', 'b', 'c'"):
            ImageDataAugmentor().flow_from_dataframe(table(photos), photos, classes=["A", "B"])

    def test_a_mistyped_class_folder_names_the_others(self, photos):
        with pytest.raises(FileNotFoundError, match="'A'; there are 'a', 'b', 'c'"):
            ImageDataAugmentor().flow_from_directory(photos, classes=["A"])

    def test_photos_without_class_folders(self, photos):
        with pytest.raises(ValueError, match=r"classes=\['\.'\]"):
            ImageDataAugmentor().flow_from_directory(photos / "a", class_mode=None)
        flat = ImageDataAugmentor().flow_from_directory(
            photos / "a", classes=["."], class_mode=None, target_size=(6, 6)
        )
        assert flat[0].shape == (4, 6, 6, 3)  # It is what the error advises.

    def test_no_samples(self, photos):
        for path in (photos / "a").iterdir():
            path.unlink()
        with pytest.warns(UserWarning, match="no samples"):
            ImageDataAugmentor().flow_from_directory(photos, classes=["a"])

    def test_a_subset_that_takes_whole_classes(self, photos):
        augmentor = ImageDataAugmentor(validation_split=0.5)
        for subset in ("training", "validation"):
            with pytest.warns(UserWarning, match=r"only the validation subset has 'a'.*sample\("):
                augmentor.flow_from_dataframe(table(photos), photos, subset=subset)
        mixed = table(photos).sample(frac=1, random_state=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            augmentor.flow_from_dataframe(mixed, photos, subset="validation")


class TestChanges:
    """Every public attribute counts from the next batch on."""

    @pytest.mark.parametrize("size", [1, 3, 7, 20, 60])
    @pytest.mark.parametrize("workers", [0, 2])
    def test_batch_size(self, size, workers):
        flow = numbered(10, workers=workers)
        flow[0]
        next(flow)
        flow.batch_size = size
        assert numbers(flow[i] for i in range(len(flow))) == list(range(N))
        assert numbers(next(flow) for _ in range(len(flow))) == list(range(N))
        with pytest.raises(ValueError, match="batch_size=0"):
            flow.batch_size = 0

    def test_a_dataset_of_another_batch_size(self):
        flow = numbered(10)
        dataset = flow.as_tf_dataset()
        flow.batch_size = 5
        with pytest.raises(Exception, match="make a new dataset"):
            list(dataset)

    @pytest.mark.parametrize(("size", "whole"), [(7, 4), (5, 6), (30, 1), (60, 1)])
    def test_dropping_the_remainder(self, size, whole):
        flow = numbered(size, shuffle=True)
        flow[0]
        flow.drop_remainder = True
        dataset = flow.as_tf_dataset()
        assert len(flow) == dataset.cardinality() == whole
        epochs = [[next(flow) for _ in range(whole)] for _ in range(3)] + [list(dataset)]
        assert flow.epoch == 4
        assert all(len(batch) == min(size, N) for epoch in epochs for batch in epoch)
        assert dataset.element_spec.shape[0] == (size if size <= N else None)
        left_out = [set(range(N)) - set(numbers(map(np.asarray, epoch))) for epoch in epochs]
        assert len(left_out[0]) == N - whole * min(size, N)
        assert not left_out[0] or any(each != left_out[0] for each in left_out)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_dtype_and_arrays(self, workers):
        flow = numbered(workers=workers)
        flow[0]
        flow.dtype = "float16"
        assert flow[1].dtype == "float16"
        flow.x = 2 * NUMBERED
        assert numbers([flow[2]]) == [16, 18, 20, 22]

    @pytest.mark.parametrize("workers", [0, 2])
    def test_the_augmentor(self, workers):
        flow = numbered(workers=workers)
        flow[0]
        flow.image_data_generator.preprocess_input = lambda picture: picture[:4, :, :1]
        assert flow[1].shape == (4, 4, 8, 1)
        flow.image_data_generator = ImageDataAugmentor(rescale=2.0, workers=workers)
        assert numbers([flow[2]]) == [16, 18, 20, 22]

    def test_the_seed(self):
        flow, other = numbered(shuffle=True), ImageDataAugmentor(seed=9).flow(NUMBERED, None, 4)
        flow[0]
        flow.image_data_generator.seed = 9
        assert flow.seed == 9
        assert numbers([flow[1]]) == numbers([other[1]])

    def test_class_mode_classes_and_loader(self, photos):
        flow = ImageDataAugmentor().flow_from_directory(
            photos, (6, 6), shuffle=False, batch_size=4, class_mode="sparse"
        )
        flow[0]
        flow.classes = 2 - flow.classes
        assert flow[0][1].tolist() == [2] * 4
        flow.class_mode = "input"
        np.testing.assert_array_equal(*flow[1])
        flow.class_mode = None
        assert flow[1].shape == (4, 6, 6, 3)
        flow.filenames = flow.filenames[::-1]
        reversed_first = flow[0][0]
        flow.filenames = flow.filenames[::-1]
        np.testing.assert_array_equal(reversed_first, flow[2][-1])
        flow.loader = ImageLoader("gray", (3, 5), "area")
        assert (flow[0].shape, flow.target_size) == ((4, 3, 5, 1), (3, 5))


class TestGuide:
    def test_old_arguments_that_albumentations_refuses(self):
        for name in ("RandomResizedCrop", "RandomSizedCrop"):
            with pytest.raises(ValueError, match=r"write size=\(height, width\) instead"):
                getattr(A, name)(height=8, width=8)
        with pytest.raises(ValueError, match=r"size=\(height, width\)"):
            A.RandomResizedCrop(8, 8)
        with pytest.raises(ValueError, match="num_holes_range"):
            A.CoarseDropout(8, 8, 8)
        with pytest.raises(ValueError, match=r"write scale_range=.*interpolation_pair=\{"):
            A.Downscale(scale_min=0.2, scale_range=3, interpolation=0)

    def test_other_refusals_are_unchanged(self):
        with pytest.raises(ValueError, match="validation error") as caught:
            A.Resize(height=-1, width=8)
        assert "albumentations 1" not in str(caught.value)
        A.RandomResizedCrop(size=(8, 8))

    def test_an_import_of_a_dropped_transform(self):
        with pytest.raises(ImportError, match="HorizontalFlip"):
            from albumentations import Flip  # noqa: F401
        with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
            from albumentations import Nonsense  # noqa: F401


class TestSeeds:
    @staticmethod
    def pictures(augment=None, **options):
        augment = augment or A.RandomBrightnessContrast(0.9, p=1)
        return ImageDataAugmentor(augment=augment, **options).flow(RANDOM)[0]

    def test_set_random_seed_counts(self):
        drawn = []
        for seed in (1, 1, 2):
            keras.utils.set_random_seed(seed)
            drawn.append((self.pictures(), self.pictures()))
        np.testing.assert_array_equal(drawn[0], drawn[1])
        assert not np.array_equal(drawn[0], drawn[2])
        assert not np.array_equal(*drawn[0])  # Each augmentor draws its own seed.

    def test_a_seeded_compose_counts(self):
        def seeded(seed):
            return A.Compose([A.RandomBrightnessContrast(0.9, p=1)], seed=seed)

        seven = self.pictures(seed=7)
        np.testing.assert_array_equal(self.pictures(seeded(7)), seven)
        assert not np.array_equal(self.pictures(seeded(8)), seven)
        fused = ImageDataAugmentor.fuse(seeded(7))
        assert ImageDataAugmentor(augment=fused).seed == 7
        with pytest.warns(UserWarning, match=r"Compose\(seed=8\) is ignored"):
            np.testing.assert_array_equal(self.pictures(seeded(8), seed=7), seven)

    def test_a_seed_draws_nothing(self):
        state = random.getstate()
        ImageDataAugmentor(seed=0)
        assert random.getstate() == state


class TestFloats:
    @pytest.mark.parametrize(
        "augment", [A.RandomBrightnessContrast(p=1), A.HueSaturationValue(p=1)]
    )
    @pytest.mark.parametrize("fused", [False, True])
    def test_values_up_to_255_keep_their_range(self, augment, fused):
        compose = A.Compose([augment, A.HorizontalFlip()])
        compose = ImageDataAugmentor.fuse(compose) if fused else compose
        augmentor = ImageDataAugmentor(augment=compose, seed=1)
        floats = augmentor.flow(RANDOM.astype("float64"), shuffle=False)[0]
        assert floats.dtype == "float32"
        np.testing.assert_array_equal(floats, augmentor.flow(RANDOM, shuffle=False)[0])
        one, _ = augmentor.transform_data(RANDOM[0].astype("float32"))
        assert one.dtype == "float32"
        assert one.max() > 100

    def test_targets_that_are_pictures_keep_theirs(self):
        augmentor = ImageDataAugmentor(
            augment=A.RandomBrightnessContrast(p=1), label_augment_mode="same_as_input", seed=1
        )
        floats = RANDOM.astype("float32")
        np.testing.assert_array_equal(*augmentor.flow(floats, floats)[0])

    def test_values_up_to_1_and_masks_are_left(self):
        unit = (RANDOM / 255).astype("float32")
        bright = ImageDataAugmentor(augment=A.RandomBrightnessContrast(p=1), seed=1)
        assert len(np.unique(bright.transform_data(unit[0])[0])) > 50
        moved = ImageDataAugmentor(augment=A.HorizontalFlip(p=1), seed=1)
        exact = RANDOM[0] + np.float32(0.3)
        np.testing.assert_array_equal(moved.transform_data(exact)[0], exact[:, ::-1])

    def test_other_values_warn(self):
        bright = ImageDataAugmentor(augment=A.RandomBrightnessContrast(p=1), seed=1)
        with pytest.warns(UserWarning, match=r"0\.\.1 or 0\.\.255"):
            bright.transform_data(RANDOM[0] / np.float32(127.5) - 1)


SCALING = {
    "rescale": {"rescale": 1 / 255},
    "preprocess": {"preprocess_input": lambda picture: picture.astype("float32")[1:] + 7},
    "samplewise": {"samplewise_center": True, "samplewise_std_normalization": True},
}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    "chosen", [c for n in range(4) for c in itertools.combinations(SCALING, n)]
)
class TestStatistics:
    """Statistics are taken of what they are subtracted from."""

    @staticmethod
    def standardised(chosen, data_format, dtype="uint8", **options):
        for name in chosen:
            options |= SCALING[name]
        x = np.moveaxis(RANDOM, -1, 1) if data_format == "channels_first" else RANDOM
        x = x.astype(dtype)
        augmentor = ImageDataAugmentor(data_format=data_format, **options)
        augmentor.fit(x)
        batch = augmentor.flow(x)[0]
        return np.moveaxis(batch, 1, -1) if data_format == "channels_first" else batch

    def test_featurewise(self, chosen, data_format):
        for dtype in ("uint8", "float32"):
            options = {"featurewise_center": True, "featurewise_std_normalization": True}
            x = self.standardised(chosen, data_format, dtype, **options)
            np.testing.assert_allclose(x.mean((0, 1, 2)), 0, atol=1e-4)
            np.testing.assert_allclose(x.std((0, 1, 2)), 1, atol=1e-3)

    def test_whitening(self, chosen, data_format):
        x = self.standardised(chosen, data_format, featurewise_center=True, zca_whitening=True)
        flat = x.reshape(len(x), -1).astype(float)
        variances = np.linalg.svd(flat.T @ flat / len(flat), compute_uv=False)
        # 24 pictures span 23 directions, or one less where each has the mean 0.
        np.testing.assert_allclose(variances[:22], 1, atol=0.05)


def test_only_old_imports_change_keras_and_albumentations():
    script = """
import sys, albumentations as A, keras, numpy as np
from keras.src.trainers.epoch_iterator import EpochIterator
from ImageDataAugmentor.augmentor import ImageDataAugmentor
before = EpochIterator.__init__
flow = ImageDataAugmentor(augment=A.HorizontalFlip()).flow(np.zeros((4, 8, 8, 3), np.uint8))
next(flow)
assert not [name for name in sys.modules if "ImageDataAugmentor.legacy" in name]
from ImageDataAugmentor import ImageDataAugmentor as old
assert old is ImageDataAugmentor
assert EpochIterator.__init__ is not before
changed = EpochIterator.__init__
from ImageDataAugmentor.legacy import install
install()
assert EpochIterator.__init__ is changed
"""
    library = str(Path(__file__).parents[2] / "lib")
    subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": library}, check=True)
