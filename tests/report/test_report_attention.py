"""Grad-CAM shows the part of a photo that decides, and fails no run."""

from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pandas as pd
import pytest

from kernelkit.report import attention
from kernelkit.train.head import build_head


@pytest.fixture(scope="module")
def network():
    """The kernel's kind of network, which knows two classes: red or blue anywhere in a photo."""
    inputs = keras.Input((32, 48, 3), dtype="uint8", name="photo")
    x = keras.layers.Rescaling(1 / 255, name="scale")(inputs)
    eyes = keras.layers.Conv2D(2, 4, strides=4, activation="relu", use_bias=False)
    x = keras.Sequential([keras.Input((32, 48, 3)), eyes], name="backbone")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    head = build_head(SimpleNamespace(head="linear", dropout=0.25, l2=0, norm_momentum=0.9), 2)
    model = keras.Model(inputs, head(x))
    kernel = np.zeros((4, 4, 3, 2), np.float32)
    kernel[..., 0, 0] = kernel[..., 2, 1] = 1
    kernel[..., 1, :] = -1
    eyes.set_weights([kernel])
    head.layers[-1].set_weights([np.eye(2, dtype=np.float32) * 4, np.zeros(2, np.float32)])
    return model


@pytest.fixture
def photos(tmp_path):
    """Grey photos with a red patch left above, or a blue one right below."""
    paths = []
    for number in range(4):
        picture = np.full((64, 96, 3), 90, np.uint8)
        if number % 2:
            picture[40:, 60:] = (255, 0, 0)  # OpenCV's blue
        else:
            picture[:24, :36] = (0, 0, 255)
        paths.append(str(tmp_path / f"{number}.png"))
        assert cv2.imwrite(paths[-1], picture)
    return paths


def test_it_is_bright_where_the_class_is(network, photos):
    maps = attention.look(network, photos)
    assert maps.dtype == np.uint8
    assert maps.shape == (4, 8, 12)
    for number, heat in enumerate(maps):
        inside = heat[6:, 8:] if number % 2 else heat[:2, :4]
        assert inside.min() > 200
        assert heat[:2, 8:].max() < 100


def tables_of(photos) -> SimpleNamespace:
    ids = [f"{number}.png" for number in range(4)]
    validation = pd.DataFrame({"Id": ids, "label": [0, 1, 0, 1], "path": photos})
    return SimpleNamespace(validation=validation, test=validation[["Id", "path"]])


def fold_of(wrong: list[int]) -> SimpleNamespace:
    right = np.asarray([0, 1, 0, 1])
    said = np.where(np.isin(range(4), wrong), 1 - right, right)
    test = np.float32([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.51, 0.49]])
    validation = np.float32(np.eye(2)[said] * 0.8 + 0.1)
    return SimpleNamespace(validation=validation, validation_positions=right, test=test)


def test_mistakes_and_the_least_sure_test_photos_are_kept(network, photos, tmp_path):
    fold = fold_of([2])
    attention.note_attention(tmp_path, network, tables_of(photos), fold)
    maps = attention.read_attention(tmp_path, [attention.signature(fold.test)])
    keys = ["train/2.png", "test/3.png", "test/1.png", "test/2.png", "test/0.png"]
    assert sorted(maps) == sorted(keys)
    assert list(attention._doubtful(tables_of(photos), fold).Id[:2]) == ["2.png", "3.png"]
    assert attention.read_attention(tmp_path, ["another"]) == {}


def test_a_failure_is_one_sentence(network, tmp_path, capsys):
    attention.note_attention(tmp_path, network, tables_of(4 * ["gone.png"]), fold_of([1]))
    said = capsys.readouterr().out
    assert said.startswith("Where the network looked could not be saved (")
    assert said.count("\n") == 1


def test_a_slow_machine_looks_at_fewer(network, photos, monkeypatch):
    monkeypatch.setattr(attention, "SECONDS", -1.0)
    assert len(attention.look(network, photos)) == 0
