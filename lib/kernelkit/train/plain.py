"""The tiny backbone of the dry run: it learns within a minute on a processor."""

import keras
from keras import layers


def Plain(include_top: bool, weights: str | None, input_shape: tuple[int, int, int]) -> keras.Model:
    """Return a small residual network with the signature of keras.applications' constructors.

    Args:
        include_top: must be False, as there is no top.
        weights: path of the file of pre-trained weights, or None for random ones.
        input_shape: height, width and channels of the photos, which are float32 in -1..1.

    Returns:
        A network of float32 [n, h, w, 3] -> float32 [n, h / 16, w / 16, 64], rounded up.
    """
    if include_top:
        raise ValueError("Plain has no top: call it with include_top=False.")
    inputs = keras.Input(input_shape)
    x = layers.ReLU()(_convolve(inputs, 16, strides=2))
    for filters in (24, 40):
        x = layers.ReLU()(_convolve(x, filters, strides=2))
        x = layers.ReLU()(layers.Add()([x, _convolve(x, filters)]))
    x = layers.ReLU()(_convolve(x, 64, strides=2))
    network = keras.Model(inputs, x)
    if weights:
        network.load_weights(weights)
    return network


def _convolve(x, filters: int, strides: int = 1):
    """Return a 3x3 convolution of `x`, normalised."""
    x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
    return layers.BatchNormalization(momentum=0.9)(x)
