"""The kernel with one more row in its table of backbones: a network that trains in seconds.

Imported by tests, and run as a script where a test needs a real process to kill.
"""

import sys
from contextlib import contextmanager

import keras
import pytest
from keras import layers
from markupsafe import Markup

import kernel


def TinyNet(include_top, weights, input_shape):
    """Two residual blocks with BatchNorm: enough to tell colours apart."""
    assert not include_top
    inputs = keras.Input(input_shape)
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for _ in range(2):
        y = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.Conv2D(16, 3, padding="same", use_bias=False)(y)
        x = layers.Add()([x, layers.BatchNormalization()(y)])
    model = keras.Model(inputs, x)
    if weights:
        model.load_weights(weights)
    return model


def final_config(*arguments, photos=kernel.HOME_PHOTOS[0]):
    """Return the settings of the one network that trains with these arguments."""
    (config,) = kernel.members_of(kernel.read_arguments(list(arguments))[0], photos).values()
    return config


kernel.BACKBONES["TinyNet"] = kernel.Backbone("tf", (24, 32), 1.0, package="tiny_kernel")
TINY = [
    *("--backbone", "tinynet", "--weights", "none", "--batch-size", "4", "--workers", "1"),
    *("--stages", "head:0:3e-2:3,half:0.5:1e-2:2,most:0.75:3e-3:2,all:1:3e-3:2", "--tta", "2"),
    *("--batchnorm", "train", "--warmup", "0.2", "--ema", "0.8"),
]


@contextmanager
def without_pictures():
    """Draw no figures and do not look where the network looked: a third of a short run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kernelkit.report.figures.write_png", lambda figure, path: None)
        patch.setattr("kernelkit.report.figures.svg", lambda *_: Markup("<svg></svg>"))
        patch.setattr(kernel, "note_attention", lambda *_: None)
        yield


if __name__ == "__main__":
    with without_pictures():
        sys.exit(kernel.main(TINY + sys.argv[1:]))
