"""The arguments of the constructor and the flows: defaults, implications, errors and warnings."""

import warnings

import albumentations as A
import cv2
import numpy as np
import pandas as pd
import pytest

import ImageDataAugmentor as package
from ImageDataAugmentor import ImageDataAugmentor

X = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name in ("a", "b", "c"):
        (folder / name).mkdir()
        for number in range(4):
            cv2.imwrite(str(folder / name / f"{number}.png"), X[number])
    return folder


def frame(photos, **columns):
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))
    return pd.DataFrame({"filename": names, "class": [name[0] for name in names]} | columns)


class TestImports:
    def test_both_paths(self):
        names = {}
        exec("from ImageDataAugmentor.image_data_augmentor import *", names)
        assert names["ImageDataAugmentor"] is ImageDataAugmentor
        assert names["albumentations"] is A
        assert {"np", "pd", "cv2", "DirectoryIterator", "DataFrameIterator"} <= names.keys()

    def test_public_names(self):
        for name in package.__all__:
            assert getattr(package, name) is not None


class TestConstructor:
    def test_unknown_keyword(self):
        with pytest.raises(TypeError, match="rotation_range"):
            ImageDataAugmentor(rotation_range=20)

    def test_whitening_implies(self):
        with pytest.warns(UserWarning, match="zca_whitening") as caught:
            augmentor = ImageDataAugmentor(zca_whitening=True, featurewise_std_normalization=True)
        assert len(caught) == 2
        assert augmentor.featurewise_center
        assert not augmentor.featurewise_std_normalization

    @pytest.mark.parametrize("kind", ["featurewise", "samplewise"])
    def test_normalization_implies_centering(self, kind):
        with pytest.warns(UserWarning, match=f"{kind}_center"):
            augmentor = ImageDataAugmentor(**{f"{kind}_std_normalization": True})
        assert getattr(augmentor, f"{kind}_center")

    @pytest.mark.parametrize(
        ("arguments", "error", "words"),
        [
            ({"data_format": "first"}, ValueError, "data_format='first'"),
            ({"validation_split": 1.5}, ValueError, "validation_split=1.5"),
            ({"truncated": "skip"}, ValueError, "truncated='skip'"),
            ({"cache": True, "cache_mb": -1}, ValueError, "cache_mb=-1"),
            ({"cache": "folder"}, ValueError, "cache='folder'"),
            ({"workers": -1}, ValueError, "workers=-1"),
            ({"processes": 4}, ValueError, "processes=4"),
            ({"augment": "flip"}, TypeError, "augment must be"),
            ({"augment": A.NoOp(), "input_augment_mode": "x"}, ValueError, "input_augment_mode"),
            ({"augment": A.NoOp(), "label_augment_mode": "x"}, ValueError, "label_augment_mode"),
        ],
    )
    def test_wrong_values(self, arguments, error, words):
        with pytest.raises(error, match=words):
            ImageDataAugmentor(**arguments)

    def test_single_transforms_and_lists_are_wrapped(self):
        flipped = X[0][:, ::-1]
        for augment in (
            A.HorizontalFlip(p=1),
            [A.HorizontalFlip(p=1)],
            A.Sequential([A.HorizontalFlip(p=1)], p=1),
        ):
            augmentor = ImageDataAugmentor(augment=augment)
            assert isinstance(augmentor.augment, A.Compose)
            np.testing.assert_array_equal(augmentor.transform_data(X[0])[0], flipped)


class TestModes:
    def test_label_augment_mode_mask(self):
        augment = A.Compose([A.HorizontalFlip(p=1), A.RandomBrightnessContrast(0.5, p=1)])
        augmentor = ImageDataAugmentor(augment=augment, label_augment_mode="mask", seed=1)
        x, y = augmentor.transform_data(X[0], X[1])
        np.testing.assert_array_equal(y, X[1][:, ::-1])
        assert not np.array_equal(x, X[0][:, ::-1])

    @pytest.mark.parametrize("mode", ["same_as_input", "image"])
    def test_label_same_as_input(self, mode):
        augment = A.Compose([A.HorizontalFlip(p=0.5), A.RandomBrightnessContrast(0.5, p=1)])
        augmentor = ImageDataAugmentor(augment=augment, label_augment_mode=mode, seed=1)
        for picture in X:
            x, y = augmentor.transform_data(picture, picture.copy())
            np.testing.assert_array_equal(x, y)

    def test_additional_target(self):
        augment = A.Compose([A.VerticalFlip(p=1)], additional_targets={"depth": "mask"})
        augmentor = ImageDataAugmentor(augment=augment, label_augment_mode="depth")
        np.testing.assert_array_equal(augmentor.transform_data(X[0], X[1])[1], X[1][::-1])
        augmentor = ImageDataAugmentor(augment=augment, input_augment_mode="depth")
        np.testing.assert_array_equal(augmentor.transform_data(X[0])[0], X[0][::-1])

    def test_labels_without_a_mode_are_left(self):
        augmentor = ImageDataAugmentor(
            augment=A.HorizontalFlip(p=1), preprocess_labels=lambda label: label * 2
        )
        assert augmentor.transform_data(X[0], 21)[1] == 42

    def test_callers_compose_is_left_alone(self):
        augment = A.Compose([A.HorizontalFlip(p=1)])
        ImageDataAugmentor(augment=augment, label_augment_mode="same_as_input")
        assert not augment.additional_targets


class TestStandardisation:
    def test_rescale_stays_single_precision(self):
        x, _ = ImageDataAugmentor(rescale=1 / 255).standardize(X[0])
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, X[0] / 255, rtol=1e-6)

    def test_order(self):
        augmentor = ImageDataAugmentor(
            preprocess_input=lambda x: x.astype("float32") + 1, rescale=2, samplewise_center=True
        )
        x, _ = augmentor.standardize(X[0])
        expected = (X[0].astype("float32") + 1) * 2
        np.testing.assert_allclose(x, expected - expected.mean(), atol=1e-3)

    def test_whitening(self):
        x = X.astype("float32") / 255
        with pytest.warns(UserWarning, match="featurewise_center"):
            augmentor = ImageDataAugmentor(zca_whitening=True)
        augmentor.fit(x)
        white, _ = augmentor.standardize(x[0])
        centered = (x - augmentor.mean).reshape(10, -1)
        u, s, _ = np.linalg.svd(centered.T @ centered / 10)
        expected = centered[0] @ (u @ np.diag(1 / np.sqrt(s + 1e-6)) @ u.T)
        np.testing.assert_allclose(white.ravel(), expected, atol=0.05)

    def test_unfitted_warns_and_statistics_can_be_assigned(self):
        augmentor = ImageDataAugmentor(featurewise_center=True)
        with pytest.warns(UserWarning, match="fit"):
            augmentor.standardize(X[0])
        fitted = ImageDataAugmentor(featurewise_center=True)
        fitted.fit(X)
        augmentor.mean = fitted.mean
        np.testing.assert_allclose(
            augmentor.standardize(X[0])[0], X[0] - X.mean((0, 1, 2)), atol=1e-3
        )

    def test_fit_on_augmented_rounds(self):
        augmentor = ImageDataAugmentor(
            featurewise_center=True, augment=A.InvertImg(p=1), data_format="channels_last"
        )
        augmentor.fit(X, augment=True, rounds=2)
        np.testing.assert_allclose(augmentor.mean.ravel(), 255 - X.mean((0, 1, 2)), rtol=1e-4)

    def test_channels_first(self):
        first = ImageDataAugmentor(
            featurewise_center=True,
            featurewise_std_normalization=True,
            data_format="channels_first",
        )
        last = ImageDataAugmentor(featurewise_center=True, featurewise_std_normalization=True)
        first.fit(np.moveaxis(X, -1, 1))
        last.fit(X)
        assert first.mean.shape == first.std.shape == (3, 1, 1)
        one = first.flow(np.moveaxis(X, -1, 1), shuffle=False)[0]
        np.testing.assert_allclose(np.moveaxis(one, 1, -1), last.flow(X, shuffle=False)[0], 1e-5)

    def test_fit_refuses_other_ranks(self):
        with pytest.raises(ValueError, match="four axes"):
            ImageDataAugmentor(featurewise_center=True).fit(X[0])

    def test_whole_numbers_refuse_standardisation(self, photos):
        with pytest.raises(ValueError, match="float dtype"):
            ImageDataAugmentor(rescale=1 / 255).flow_from_directory(photos, dtype="uint8")
        halved = ImageDataAugmentor(preprocess_input=lambda x: x / 2)
        flow = halved.flow_from_directory(photos, target_size=(8, 8), dtype="uint8")
        with pytest.raises(ValueError, match="ask for a float dtype"):
            flow[0]


class TestFlows:
    def test_seed_warns_and_hides_nothing(self, photos):
        augmentor = ImageDataAugmentor()
        for call in (
            lambda **k: augmentor.flow(X, **k),
            lambda **k: augmentor.flow_from_directory(photos, **k),
            lambda **k: augmentor.flow_from_dataframe(frame(photos), photos, **k),
        ):
            with pytest.warns(UserWarning, match="seed"):
                call(seed=1)
            with pytest.raises(TypeError, match="zoom"):
                call(seed=1, zoom=2)

    def test_subset_needs_a_split(self, photos):
        with pytest.raises(ValueError, match="validation_split"):
            ImageDataAugmentor().flow_from_directory(photos, subset="training")
        with pytest.raises(ValueError, match="subset='test'"):
            ImageDataAugmentor(validation_split=0.5).flow(X, subset="test")

    def test_arrays_of_different_lengths(self):
        with pytest.raises(ValueError, match="x has 10 samples, but y has 9"):
            ImageDataAugmentor().flow(X, np.arange(9))
        with pytest.raises(ValueError, match="sample_weight has 3"):
            ImageDataAugmentor().flow(X, np.arange(10), sample_weight=np.ones(3))
        with pytest.raises(ValueError, match="four axes"):
            ImageDataAugmentor().flow(X[..., 0])

    def test_sorted_arrays_cannot_be_split(self):
        augmentor = ImageDataAugmentor(validation_split=0.5)
        with pytest.raises(ValueError, match="shuffle them first"):
            augmentor.flow(X, np.repeat([0, 1], 5), subset="training")
        augmentor.flow(
            X, np.linspace(0, 1, 10) + 0.01, subset="training"
        )  # These are not class numbers.

    def test_arrays_weights_and_others(self):
        weights, other = np.arange(10.0), np.arange(20).reshape(10, 2)
        flow = ImageDataAugmentor(seed=3).flow((X, other), np.arange(10), 4, sample_weight=weights)
        (x, o), y, w = flow[0]
        assert x.shape == (4, 8, 8, 3)
        np.testing.assert_array_equal(w, y)
        np.testing.assert_array_equal(o, other[y.astype(int)])

    def test_dataframe_weights_make_triples(self, photos):
        table = frame(photos, weight=np.arange(12.0))
        flow = ImageDataAugmentor().flow_from_dataframe(
            table, photos, weight_col="weight", shuffle=False, batch_size=5, target_size=(8, 8)
        )
        np.testing.assert_array_equal(flow[1][2], np.arange(5, 10.0))

    def test_dataframe_classes_keep_the_order_given(self, photos):
        with pytest.warns(UserWarning, match="4 rows are left out"):
            flow = ImageDataAugmentor().flow_from_dataframe(
                frame(photos), photos, classes=["c", "a"], class_mode="sparse"
            )
        assert flow.class_indices == {"c": 0, "a": 1}
        assert flow.samples == 8

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"class_mode": "sparse", "y_col": "number"}, TypeError, "needs strings"),
            ({"class_mode": "categorical", "y_col": "number"}, TypeError, "row 0 has 0"),
            ({"class_mode": "binary"}, ValueError, "two classes, not 3"),
            ({"class_mode": "multi_output", "y_col": "class"}, TypeError, "list"),
            ({"class_mode": "best"}, ValueError, "class_mode='best'"),
            ({"x_col": "file"}, ValueError, "No column 'file'"),
            ({"y_col": "label"}, ValueError, "No column 'label'"),
            ({"weight_col": "class"}, TypeError, "must hold numbers"),
            ({"x_col": "number"}, TypeError, "must hold strings"),
            ({"batch_size": 0}, ValueError, "batch_size=0"),
        ],
    )
    def test_dataframe_errors(self, photos, options, error, words):
        table = frame(photos, number=range(12))
        with pytest.raises(error, match=words):
            ImageDataAugmentor().flow_from_dataframe(table, photos, **options)

    def test_directory_errors(self, photos):
        with pytest.raises(ValueError, match="class_mode='raw'"):
            ImageDataAugmentor().flow_from_directory(photos, class_mode="raw")
        with pytest.raises(FileNotFoundError, match="'dogs'"):
            ImageDataAugmentor().flow_from_directory(photos, classes=["a", "dogs"])
        with pytest.raises(ValueError, match="two classes"):
            ImageDataAugmentor().flow_from_directory(photos, class_mode="binary")

    def test_what_is_found_is_printed(self, photos, capsys):
        ImageDataAugmentor().flow_from_directory(photos)
        ImageDataAugmentor().flow_from_dataframe(frame(photos), photos)
        ImageDataAugmentor().flow_from_dataframe(frame(photos), photos, validate_filenames=False)
        assert capsys.readouterr().out.splitlines() == [
            "Found 12 images belonging to 3 classes.",
            "Found 12 validated image filenames belonging to 3 classes.",
            "Found 12 non-validated image filenames belonging to 3 classes.",
        ]

    def test_attributes(self, photos):
        flow = ImageDataAugmentor(seed=4, validation_split=0.5).flow_from_directory(
            photos, target_size=(8, 6), color_mode="gray", subset="training", class_mode="sparse"
        )
        assert (flow.n, flow.samples, flow.num_classes, flow.seed) == (6, 6, 3, 4)
        assert (flow.image_shape, flow.target_size) == ((8, 6, 1), (8, 6))
        assert (flow.color_mode, flow.class_mode, flow.subset) == ("gray", "sparse", "training")
        assert flow.filepaths[0].endswith("2.png")
        assert list(flow.labels) == [0, 0, 1, 1, 2, 2]
        assert flow.sample_weight is None


class TestGuide:
    @pytest.mark.parametrize(
        ("name", "instead"),
        [
            ("Flip", "HorizontalFlip"),
            ("RandomBrightness", "contrast_limit=0"),
            ("RandomContrast", "brightness_limit=0"),
            ("JpegCompression", "ImageCompression"),
            ("Cutout", "CoarseDropout"),
            ("IAAAffine", "Affine"),
        ],
    )
    def test_dropped_transforms_name_their_successor(self, name, instead):
        with pytest.raises(AttributeError, match=instead):
            getattr(A, name)
        assert not hasattr(A, name)

    def test_other_missing_names_are_plain_errors(self):
        with pytest.raises(AttributeError, match=r"no attribute 'Nonsense'$"):
            _ = A.Nonsense

    @pytest.mark.filterwarnings("ignore:Argument")
    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda: A.GaussNoise(var_limit=(0, 1)), "std_range"),
            (lambda: A.CoarseDropout(max_holes=8), "num_holes_range"),
            (lambda: A.Affine(cval=3), "fill="),
            (lambda: A.ImageCompression(quality_lower=3), "quality_range"),
            (lambda: A.HorizontalFlip(always_apply=True), "p=1"),
            (lambda: A.GaussianBlur(sigma_limit=0), "black pictures"),
        ],
    )
    def test_ignored_arguments_name_their_successor(self, make, words):
        with pytest.warns(UserWarning, match=words):
            ImageDataAugmentor(augment=A.Compose([A.OneOf([make()])]))

    def test_current_transforms_pass_in_silence(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ImageDataAugmentor(augment=[A.GaussNoise(), A.GaussianBlur(), A.Affine()])
