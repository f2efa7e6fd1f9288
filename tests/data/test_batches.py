"""Training takes whole batches; what is judged or predicted leaves no photo out."""

import numpy as np
import pytest

from kernelkit.data.batches import make_iterator
from tiny_competition import Settings, load, write_photo


def test_training_leaves_out_a_last_batch_that_is_not_whole(folder):
    (part,) = load(folder)
    size = len(part.train) - 1
    train = make_iterator(Settings(batch_size=size), part, part.train, shuffle=True)
    assert [len(labels) for _, labels in train.as_tf_dataset()] == [size]
    judged = make_iterator(Settings(batch_size=size), part, part.train)
    assert [len(labels) for _, labels in judged.as_tf_dataset()] == [size, 1]


@pytest.mark.parametrize("interpolation", ["area", "nearest"])
def test_settings_that_ask_for_nearest_neighbours_are_not_warned_of_them(
    folder, recwarn, interpolation
):
    (part,) = load(folder)
    settings = Settings(image_size=(12, 16), interpolation=interpolation)
    make_iterator(settings, part, part.train)[0]
    assert not [str(warning.message) for warning in recwarn]


def test_a_truncated_test_photo_is_predicted_from_what_is_there(folder):
    path = folder / "test_upload" / "91.jpg"
    whole = np.full((480, 640, 3), (0, 0, 250), np.uint8)
    write_photo(path, whole)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (part,) = load(folder)
    with pytest.warns(UserWarning, match=r"91\.jpg: the file is truncated"):
        photo = make_iterator(Settings(), part, part.test)[0][1]
    assert (photo[:8, :, 0] > 200).all()
