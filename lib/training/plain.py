"""The dry run's own backbone."""

import keras


def Plain(include_top: bool, weights: str | None, input_shape: tuple) -> keras.Model:
    """Return four convolution blocks."""
    x = inputs = keras.Input(input_shape)
    for filters in (16, 32, 64, 128):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.MaxPooling2D()(keras.layers.ReLU()(x))
    network = keras.Model(inputs, x)
    if weights:
        network.load_weights(weights)
    return network
