"""Iterators in Keras and tf.data: fit, evaluate and predict, old notebooks, segmentation."""

import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
import pytest

from ImageDataAugmentor.image_data_augmentor import *  # noqa: F403 (Notebooks do this.)
from ImageDataAugmentor.image_data_augmentor import ImageDataAugmentor, albumentations

SIZE = (24, 32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Write train/ and validation/, each with a bright and a dark class; return their folder."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("validation", 5)):
        for name, level in (("dark", 60), ("light", 190)):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                picture = np.clip(rng.normal(level, 20, (48, 64, 3)), 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / part / name / f"{number}.jpg"), picture)
    return folder


def classifier(size=SIZE, outputs=2, channels=3):
    model = keras.Sequential(
        [
            keras.layers.Input((*size, channels)),
            keras.layers.Rescaling(1 / 128, -1),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(outputs, "softmax" if outputs > 1 else "sigmoid"),
        ]
    )
    loss = "categorical_crossentropy" if outputs > 1 else "binary_crossentropy"
    model.compile(keras.optimizers.Adam(0.3), loss, metrics=["accuracy"])
    return model


def flow(photos, part="train", dtype="uint8", **options):
    augmentor = ImageDataAugmentor(augment=albumentations.HorizontalFlip(), seed=1)
    settings = {"target_size": SIZE, "batch_size": 5, "interpolation": cv2.INTER_AREA}
    return augmentor.flow_from_directory(photos / part, dtype=dtype, **settings | options)


@pytest.mark.parametrize("kind", ["sequence", "dataset"])
def test_fit_evaluate_predict(photos, kind):
    def read(iterator):
        return iterator.as_tf_dataset() if kind == "dataset" else iterator

    keras.utils.set_random_seed(0)
    training, model = flow(photos), classifier()
    held_out = flow(photos, "validation", shuffle=False)
    history = model.fit(read(training), epochs=4, validation_data=read(held_out), verbose=0)
    assert history.history["val_accuracy"][-1] == 1
    assert training.epoch == 4
    assert model.evaluate(read(held_out), verbose=0)[1] == 1
    predictions = model.predict(read(held_out), verbose=0)  # It must end without `steps`.
    assert predictions.shape == (10, 2)
    np.testing.assert_array_equal(predictions.argmax(1), held_out.classes)


def test_each_keras_epoch_is_one_of_ours(photos):
    seen = []

    class Spy(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(iterator.epoch)

    iterator = flow(photos)
    classifier().fit(
        iterator, epochs=3, steps_per_epoch=len(iterator), callbacks=[Spy()], verbose=0
    )
    assert seen == [0] * 5 + [1] * 5 + [2] * 5


def test_keras_own_workers(photos):
    iterator = flow(photos)
    iterator.workers = 2
    classifier().fit(iterator, epochs=2, verbose=0)
    assert iterator.epoch == 2


class TestDataset:
    def test_shapes_and_cardinality_are_known(self, photos):
        dataset = flow(photos).as_tf_dataset()
        assert int(dataset.cardinality()) == 5
        x, y = dataset.element_spec
        assert (x.shape.as_list(), x.dtype.name) == ([None, *SIZE, 3], "uint8")
        assert (y.shape.as_list(), y.dtype.name) == ([None, 2], "float32")
        x, _ = flow(photos, batch_size=8).as_tf_dataset().element_spec
        assert x.shape.as_list() == [8, *SIZE, 3]

    def test_each_pass_is_the_next_epoch_as_the_sequence_gives_it(self, photos):
        ours, sequence = flow(photos), flow(photos)
        ours.epoch = sequence.epoch = 4
        dataset = ours.as_tf_dataset()
        for _ in range(2):
            for number, (x, y) in enumerate(dataset):
                np.testing.assert_array_equal(x, sequence[number][0])
                np.testing.assert_array_equal(y, sequence[number][1])
            sequence.on_epoch_end()
        assert ours.epoch == 6

    def test_several_inputs_and_outputs(self, photos):
        x, misc = np.zeros((6, 8, 8, 3), np.uint8), np.ones((6, 2))
        dataset = ImageDataAugmentor().flow((x, misc), np.arange(6), 4).as_tf_dataset()
        (pictures, other), labels = next(iter(dataset))
        assert (pictures.shape, other.shape, labels.shape) == ((4, 8, 8, 3), (4, 2), (4,))
        names = [str(path) for path in sorted((photos / "train").rglob("*.jpg"))]
        table = pd.DataFrame({"filename": names, "a": 1.5, "b": range(len(names))})
        iterator = ImageDataAugmentor().flow_from_dataframe(
            table, y_col=["a", "b"], class_mode="multi_output", target_size=(48, 64)
        )
        _, (a, b) = next(iter(iterator.as_tf_dataset()))
        assert float(a[0]) == 1.5
        assert len(b) == 24

    def test_stopping_early_leaves_nothing_behind(self, photos):
        dataset = flow(photos, batch_size=1).as_tf_dataset()
        for _ in range(3):
            next(iter(dataset))

    def test_nothing_to_read(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.warns(UserWarning, match="no samples"):
            flow = ImageDataAugmentor().flow_from_directory(tmp_path)
        with pytest.raises(ValueError, match="no samples"):
            flow.as_tf_dataset()


@pytest.mark.slow
def test_several_devices(photos):
    """Use two logical CPUs, which only a process that has not initialised its devices can make."""
    script = """
        import sys
        import cv2, keras, tensorflow as tf
        (cpu,) = tf.config.list_physical_devices("CPU")
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
        from ImageDataAugmentor import ImageDataAugmentor
        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            model = keras.Sequential([keras.layers.Input((24, 32, 3)),
                keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, "softmax")])
            model.compile("adam", "categorical_crossentropy")
        flow = ImageDataAugmentor(seed=1).flow_from_directory(sys.argv[1], target_size=(24, 32),
            batch_size=10, interpolation=cv2.INTER_AREA, dtype="uint8", shuffle=False)
        dataset = flow.as_tf_dataset()
        model.fit(dataset, epochs=2, validation_data=dataset, verbose=0)
        model.evaluate(dataset, verbose=0)
        assert model.predict(dataset, verbose=0).shape == (24, 2)
        assert model.predict(flow, verbose=0).shape == (24, 2)
        print("done")
    """
    library = Path(sys.modules[ImageDataAugmentor.__module__].__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(photos / "train")],
        env={"PYTHONPATH": str(library), "TF_CPP_MIN_LOG_LEVEL": "2", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout.endswith("done\n"), result.stderr[-3000:]
    assert "assert_cardinality" not in result.stderr


class TestExamples:
    """The examples of the original's documentation, with the names of Keras 3."""

    def test_flow_from_directory(self, photos):
        augmentations = albumentations.Compose(
            [
                albumentations.Transpose(p=0.5),
                albumentations.D4(p=0.5),  # replaces Flip, as its error says
                albumentations.OneOf(
                    [
                        albumentations.RandomBrightnessContrast(
                            brightness_limit=0.3, contrast_limit=0.3
                        ),
                        albumentations.RandomBrightnessContrast(
                            brightness_limit=0.1, contrast_limit=0.1
                        ),
                    ],
                    p=1,
                ),
                albumentations.GaussianBlur(p=0.05),
                albumentations.HueSaturationValue(p=0.5),
                albumentations.RGBShift(p=0.5),
            ]
        )
        train_datagen = ImageDataAugmentor(
            rescale=1.0 / 255, augment=augmentations, preprocess_input=None
        )
        train_generator = train_datagen.flow_from_directory(
            str(photos / "train"), target_size=(32, 32), batch_size=8, class_mode="binary"
        )
        val_datagen = ImageDataAugmentor(rescale=1.0 / 255)
        validation_generator = val_datagen.flow_from_directory(
            str(photos / "validation"), target_size=(32, 32), batch_size=8, class_mode="binary"
        )
        model = classifier((32, 32), outputs=1)
        history = model.fit(
            train_generator,
            steps_per_epoch=len(train_generator),
            epochs=2,
            validation_data=validation_generator,
            validation_steps=len(validation_generator),
            verbose=0,
        )
        assert np.isfinite(history.history["val_loss"]).all()

    def test_flow(self):
        augmentations = albumentations.Compose(
            [
                albumentations.HorizontalFlip(p=0.5),
                albumentations.VerticalFlip(p=0.2),
                albumentations.ShiftScaleRotate(p=0.5),
            ],
        )
        rng = np.random.default_rng(0)
        x_train, y_train = rng.integers(0, 256, (60, 16, 16, 3), np.uint8), rng.integers(0, 3, 60)
        x_test, y_test = x_train[:20], y_train[:20]
        num_classes = len(np.unique(y_train))
        y_train = keras.utils.to_categorical(y_train, num_classes)
        y_test = keras.utils.to_categorical(y_test, num_classes)
        datagen = ImageDataAugmentor(
            featurewise_center=True,
            featurewise_std_normalization=True,
            augment=augmentations,
            validation_split=0.2,
        )
        datagen.fit(x_train, augment=True)
        train_generator = datagen.flow(x_train, y_train, batch_size=32, subset="training")
        validation_generator = datagen.flow(x_train, y_train, batch_size=32, subset="validation")
        model = classifier((16, 16), outputs=num_classes)
        model.fit(
            train_generator,
            steps_per_epoch=len(train_generator),
            epochs=2,
            validation_data=validation_generator,
            validation_steps=len(validation_generator),
            verbose=0,
        )
        test_datagen = ImageDataAugmentor(
            featurewise_center=True,
            featurewise_std_normalization=True,
            augment=albumentations.HorizontalFlip(p=0.5),
        )
        test_datagen.mean = datagen.mean
        test_datagen.std = datagen.std
        test_generator = test_datagen.flow(x_test, y_test, batch_size=32)
        assert np.isfinite(model.evaluate(test_generator, verbose=0)).all()

    def test_masks_by_zip(self, shapes):
        # Keras 3 accepts generators only; Keras 2 also accepted the result of zip.
        seed, n_classes = 123, 2
        augmentations = albumentations.Compose(
            [albumentations.HorizontalFlip(p=0.5), albumentations.ElasticTransform()]
        )
        img_data_gen = ImageDataAugmentor(
            augment=augmentations, input_augment_mode="image", validation_split=0.2, seed=seed
        )
        mask_data_gen = ImageDataAugmentor(
            augment=augmentations,
            input_augment_mode="mask",
            preprocess_input=one_hot(n_classes),
            validation_split=0.2,
            seed=seed,
        )

        def flows(subset):
            options = {"class_mode": None, "subset": subset, "shuffle": True}
            options |= {"target_size": (32, 32), "batch_size": 8}
            images = img_data_gen.flow_from_directory(shapes, classes=["images"], **options)
            masks = mask_data_gen.flow_from_directory(
                shapes, classes=["masks"], color_mode="gray", **options
            )
            return images, zip(images, masks, strict=False)

        images, train_generator = flows("training")
        held_out, validation_generator = flows("validation")
        image_batch, mask_batch = next(train_generator)
        assert mask_batch.shape == (8, 32, 32, n_classes + 1)
        inside = mask_batch[..., 1] == 1
        assert image_batch[inside].mean() > image_batch[~inside].mean() + 60
        model = unet(n_classes + 1)
        model.fit(
            (pair for pair in train_generator),
            steps_per_epoch=len(images),
            epochs=2,
            validation_data=(pair for pair in validation_generator),
            validation_steps=len(held_out),
            verbose=0,
        )


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Write light discs on dark noise in `images`, and masks that mark the discs with 1."""
    folder = tmp_path_factory.mktemp("shapes")
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number in range(40):
        mask = np.zeros((32, 32), np.uint8)
        centre, radius = rng.integers(8, 24, 2).tolist(), int(rng.integers(4, 9))
        cv2.circle(mask, centre, radius, 1, -1)
        picture = rng.integers(0, 90, (32, 32, 3), np.uint8) + 130 * mask[..., None]
        cv2.imwrite(str(folder / "images" / f"{number:02d}.png"), picture)
        cv2.imwrite(str(folder / "masks" / f"{number:02d}.png"), mask)
    return folder


def one_hot(n_classes):
    def one_hot_encode_masks(y: np.array, classes=range(n_classes)):
        y = y.squeeze()
        masks = [(y == v) for v in classes]
        mask = np.stack(masks, axis=-1).astype("float")
        if mask.shape[-1] != 1:
            background = 1 - mask.sum(axis=-1, keepdims=True)
            mask = np.concatenate((mask, background), axis=-1)
        return mask

    return one_hot_encode_masks


def unet(classes):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    skips = []
    for filters in (8, 16):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        skips.append(x)
        x = keras.layers.MaxPooling2D()(x)
    for filters in (16, 8):
        x = keras.layers.UpSampling2D()(x)
        x = keras.layers.Concatenate()([x, skips.pop()])
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Conv2D(classes, 1, activation="softmax")(x))
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", metrics=["accuracy"])
    return model


class TestSegmentation:
    def test_a_unet_learns_from_grayscale_targets(self, shapes):
        # This follows the notebook `segmentation-with-flow_from_dataframe`.
        keras.utils.set_random_seed(0)
        augmentations = albumentations.Compose(
            [albumentations.HorizontalFlip(), albumentations.Affine(rotate=(-30, 30), p=1)]
        )
        augmentor = ImageDataAugmentor(
            augment=augmentations,
            label_augment_mode="mask",
            preprocess_labels=one_hot(2),
            seed=123,
        )
        names = sorted(path.name for path in (shapes / "images").iterdir())
        table = pd.DataFrame(
            {
                "image_fn": [str(shapes / "images" / name) for name in names],
                "mask_fn": [str(shapes / "masks" / name) for name in names],
            }
        )
        generator = augmentor.flow_from_dataframe(
            table, x_col="image_fn", y_col="mask_fn", class_mode="grayscale_target",
            batch_size=8, target_size=(32, 32),
        )  # fmt: skip
        x, y = generator[0]
        assert (x.shape, y.shape, y.dtype) == ((8, 32, 32, 3), (8, 32, 32, 3), "float32")
        model = unet(3)
        model.fit(generator, epochs=12, verbose=0)
        x, y = generator[0]
        inside, found = y[..., 1] == 1, model.predict(x, verbose=0).argmax(-1) == 1
        assert (inside & found).sum() / (inside | found).sum() > 0.8

    def test_an_autoencoder_learns_from_its_input(self):
        # This follows the notebook `digit-denoiser-autoencoder-with-flow`, with std_range for the
        # former var_limit.
        keras.utils.set_random_seed(0)
        x = np.zeros((32, 12, 12, 1))
        x[:, 3:9, 3:9] = 1.0
        noise = albumentations.Compose([albumentations.GaussNoise(std_range=(0.1, 0.2), p=1)])
        generator = ImageDataAugmentor(augment=noise, seed=1).flow(x, x, batch_size=16)
        images, targets = generator[0]
        assert set(np.unique(targets)) == {0, 1}
        assert len(np.unique(images)) > 100
        model = keras.Sequential(
            [keras.layers.Input((12, 12, 1)), keras.layers.Conv2D(1, 3, padding="same")]
        )
        model.compile(keras.optimizers.Adam(0.05), "mse")
        losses = model.fit(generator, epochs=10, verbose=0).history["loss"]
        assert losses[-1] < losses[0] / 3

    def test_color_targets_follow_their_input(self, shapes):
        names = [str(path) for path in sorted((shapes / "images").iterdir())]
        table = pd.DataFrame({"filename": names, "class": names})
        flips = albumentations.Compose([albumentations.HorizontalFlip()])
        for mode, same in (("same_as_input", True), (None, False)):
            augmentor = ImageDataAugmentor(augment=flips, label_augment_mode=mode, seed=2)
            x, y = augmentor.flow_from_dataframe(
                table, class_mode="color_target", target_size=(32, 32)
            )[0]
            assert np.array_equal(x, y) == same
