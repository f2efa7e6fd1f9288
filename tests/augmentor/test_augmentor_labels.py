"""Dataframes with positions in a list of classes, or without labels; and the `verbose` option."""

import cv2
import numpy as np
import pandas as pd
import pytest

from ImageDataAugmentor import ImageDataAugmentor

CLASSES = ["0", "1", "10", "2"]  # This order is neither that of text nor that of numbers.


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        (folder / "c").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "c" / f"{number}.png"), np.full((8, 8, 3), number, np.uint8))
    return folder


def table(photos, labels=(3, 0, 2, 2, 1, 0), **columns):
    names = [f"c/{number}.png" for number in range(6)]
    return pd.DataFrame({"filename": names, "class": list(labels)} | columns)


def flow(photos, frame, **options):
    settings = {"target_size": (8, 8), "shuffle": False} | options
    return ImageDataAugmentor().flow_from_dataframe(frame, photos, **settings)


class TestPositions:
    @pytest.mark.parametrize("kind", [int, np.int64, np.uint8, object, "Int64"])
    def test_whole_numbers_are_positions_in_the_classes(self, photos, kind):
        frame = table(photos)
        frame["class"] = frame["class"].astype(kind)
        one_hot = flow(photos, frame, classes=CLASSES)
        assert one_hot.class_indices == {"0": 0, "1": 1, "10": 2, "2": 3}
        assert one_hot.classes == [3, 0, 2, 2, 1, 0]
        np.testing.assert_array_equal(one_hot[0][1], np.eye(4)[[3, 0, 2, 2, 1, 0]])
        sparse = flow(photos, frame, classes=CLASSES, class_mode="sparse")
        assert sparse[0][1].tolist() == [3, 0, 2, 2, 1, 0]

    def test_they_mean_the_same_as_the_names(self, photos):
        positions = table(photos)
        names = positions.assign(**{"class": [CLASSES[i] for i in positions["class"]]})
        for mode in ("categorical", "sparse"):
            options = {"classes": CLASSES, "class_mode": mode}
            one, other = flow(photos, positions, **options), flow(photos, names, **options)
            np.testing.assert_array_equal(one[0][1], other[0][1])
            assert one.class_indices == other.class_indices

    def test_classes_may_be_numbers_themselves(self, photos):
        one_hot = flow(photos, table(photos), classes=[7, 3, 0, 1])
        assert one_hot.class_indices == {7: 0, 3: 1, 0: 2, 1: 3}
        assert one_hot.classes == [3, 0, 2, 2, 1, 0]

    def test_classes_without_a_photo_keep_their_column(self, photos):
        assert flow(photos, table(photos, [0] * 6), classes=CLASSES)[0][1].shape == (6, 4)

    def test_binary(self, photos):
        frame = table(photos, [1, 0, 0, 1, 1, 0])
        binary = flow(photos, frame, classes=["no", "yes"], class_mode="binary")
        assert binary[0][1].tolist() == [1, 0, 0, 1, 1, 0]

    def test_left_out_rows_and_subsets(self, photos):
        frame = table(photos)
        frame.loc[1, "filename"] = "c/missing.png"
        augmentor = ImageDataAugmentor(validation_split=0.4)
        with pytest.warns(UserWarning, match="1 rows are left out|only the validation subset"):
            rest = augmentor.flow_from_dataframe(
                frame, photos, classes=CLASSES, subset="training", class_mode="sparse"
            )
        assert rest.classes == [2, 1, 0]

    @pytest.mark.parametrize("label", [-1, 4])
    @pytest.mark.parametrize("mode", ["categorical", "sparse"])
    def test_a_position_outside_names_its_row(self, photos, mode, label):
        frame = table(photos, [0, 1, label, 2, 3, 0]).set_index(pd.Index(list("abcdef")))
        with pytest.raises(ValueError, match=rf"row c has the label {label}, .* 0 to 3"):
            flow(photos, frame, classes=CLASSES, class_mode=mode)

    def test_ambiguous_classes_are_refused(self, photos):
        with pytest.raises(ValueError, match="repeats a label"):
            flow(photos, table(photos), classes=["a", "b", "a", "c"])

    @pytest.mark.parametrize("labels", [[0, 1, "2", 3, 0, 0], [True] * 6, [0.0, 1, 2, 3, 0, 0]])
    def test_nothing_else_is_a_position(self, photos, labels):
        with pytest.raises(TypeError, match="needs strings"):
            flow(photos, table(photos, labels), classes=CLASSES)

    @pytest.mark.parametrize("mode", ["categorical", "sparse"])
    def test_without_classes_they_are_refused_as_before(self, photos, mode):
        with pytest.raises(TypeError, match="needs strings"):
            flow(photos, table(photos), class_mode=mode)


class TestWithoutLabels:
    def test_a_table_of_files_alone(self, photos):
        frame = table(photos)[["filename"]]
        pictures = flow(photos, frame, class_mode=None, dtype="uint8")
        assert pictures[0].shape == (6, 8, 8, 3)
        assert pictures[0][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
        assert len(list(pictures.as_tf_dataset())) == 1

    def test_the_picture_itself_as_target(self, photos):
        pair = flow(photos, table(photos)[["filename"]], class_mode="input")
        np.testing.assert_array_equal(*pair[0])


def test_verbose_false_prints_nothing(photos, capsys):
    augmentor = ImageDataAugmentor()
    augmentor.flow_from_directory(photos, verbose=False)
    augmentor.flow_from_dataframe(table(photos), photos, class_mode=None, verbose=False)
    assert capsys.readouterr().out == ""
    augmentor.flow_from_dataframe(table(photos), photos, class_mode=None, verbose=True)
    assert capsys.readouterr().out == "Found 6 validated image filenames.\n"
