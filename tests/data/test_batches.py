"""Training takes whole batches; what is judged or predicted leaves no photo out."""

import pytest

from kernelkit.data.batches import make_iterator
from tiny_competition import Settings, load, write_competition


def test_training_leaves_out_a_last_batch_that_is_not_whole(tmp_path):
    write_competition(tmp_path / "data")
    (part,) = load(tmp_path / "data")
    size = len(part.train) - 1
    train = make_iterator(Settings(batch_size=size), part, part.train, shuffle=True)
    assert [len(labels) for _, labels in train.as_tf_dataset()] == [size]
    judged = make_iterator(Settings(batch_size=size), part, part.train)
    assert [len(labels) for _, labels in judged.as_tf_dataset()] == [size, 1]


@pytest.mark.parametrize("interpolation", ["area", "nearest"])
def test_settings_that_ask_for_nearest_neighbours_are_not_warned_of_them(
    tmp_path, recwarn, interpolation
):
    write_competition(tmp_path / "data")
    (part,) = load(tmp_path / "data")
    settings = Settings(image_size=(12, 16), interpolation=interpolation)
    make_iterator(settings, part, part.train)[0]
    assert not [str(warning.message) for warning in recwarn]
