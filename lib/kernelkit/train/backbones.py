"""Backbones: building them with weights from a file, and finding where their blocks begin."""

import gc
from importlib import import_module
from pathlib import Path

import keras

from kernelkit.core.problem import Problem
from kernelkit.train.precision import keep_depthwise_precise


def load_backbone(constructor: str, size: tuple[int, int], weights: Path | None) -> keras.Model:
    """Build a backbone without its top.

    Args:
        constructor: a function with the signature of keras.applications' constructors, as
            "module.name", for example "keras.applications.MobileNet".
        size: height and width of the photos in pixels.
        weights: a file in keras.applications' format without the top; None for random weights.

    Returns:
        A model named "backbone": float32 [n, height, width, 3] to feature maps [n, h, w, channels].

    Raises:
        Problem: the file does not fit the backbone, or the photos are too small for it.
    """
    gc.collect()  # a network before this one, whose parts refer to each other, leaves the memory
    module, _, name = constructor.rpartition(".")
    build = getattr(import_module(module), name)
    path = str(weights) if weights else None
    try:
        backbone = build(include_top=False, weights=path, input_shape=(*size, 3))
    except (ValueError, OSError) as error:
        source = f"from {weights} " if weights else ""
        raise Problem(
            f"{name} at {size[0]}x{size[1]} could not be built {source}"
            f"({str(error).splitlines()[0]}): a weight file must be keras.applications' own "
            "without the top, and the image not smaller than the backbone allows."
        ) from error
    if weights and name.startswith("EfficientNetB"):
        correct_normalization(backbone)
    keep_depthwise_precise(backbone)
    backbone.name = "backbone"
    return backbone


# What `keras.applications.imagenet_utils.preprocess_input` does with 0..255, by its modes, as
# factor and offset; "0..1" is none of them. For "caffe" the channels are BGR.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREPROCESSING = {
    "tf": (2 / 255, -1),
    "torch": (
        [1 / 255 / each for each in DEVIATION],
        [-mean / each for mean, each in zip(MEAN, DEVIATION, strict=True)],
    ),
    "caffe": (1.0, [-103.939, -116.779, -123.68]),
    "none": (1.0, 0),
    "0..1": (1 / 255, 0),
}


def preprocess(photos, mode: str):
    """Return what a backbone expects of photos, a layer's output named "scale".

    Args:
        photos: a symbolic tensor, uint8 [n, height, width, 3], RGB.
        mode: a row of PREPROCESSING: the `mode` of the backbone's `preprocess_input`, or "none"
            where that does nothing because the backbone scales inside.
    """
    factor, offset = PREPROCESSING[mode]
    photos = photos[..., ::-1] if mode == "caffe" else photos
    return keras.layers.Rescaling(factor, offset, name="scale")(photos)


def correct_normalization(backbone: keras.Model) -> None:
    """Make an EfficientNetB0 to B7 that was loaded from a path normalize as it was trained to.

    ImageNet's weights were trained with (x - mean) / variance. keras.applications adds the missing
    division by the standard deviation only under weights="imagenet" and not for a path
    (tensorflow issue 49930). Squaring the variance has the same effect.
    """
    (normalization,) = layers_of(backbone, keras.layers.Normalization)
    normalization.adapt_variance.assign(normalization.adapt_variance**2)
    normalization.finalize_state()


def layers_of(model: keras.Model, kind: type) -> list[keras.Layer]:
    """Return the layers of `model` that are instances of `kind`."""
    return [layer for layer in model.layers if isinstance(layer, kind)]


def flat_layers(model: keras.Model) -> list[keras.Layer]:
    """Return the layers of a model, and of the models among them, in order."""
    return [
        inner
        for layer in model.layers
        for inner in (flat_layers(layer) if isinstance(layer, keras.Model) else [layer])
    ]


def is_norm(layer: keras.Operation) -> bool:
    """Return whether a layer normalizes what the layer before it computes."""
    return isinstance(layer, (keras.layers.BatchNormalization, keras.layers.LayerNormalization))


def block_starts(backbone: keras.Model) -> list[int]:
    """Return the positions in `backbone.layers` at which a whole block begins.

    A block begins where a single tensor passes from the layers before to the layers after, so that
    no residual or parallel branch is cut in two, and never between a convolution and its
    normalization.
    """
    operations = backbone.operations  # the layers, and sums or products written as a + b
    producer, last_use = {}, list(range(len(operations)))
    for position, operation in enumerate(operations):
        if not isinstance(operation, keras.layers.InputLayer):
            for tensor in keras.tree.flatten(operation.input):
                source = producer[id(tensor)]
                last_use[source] = max(last_use[source], position)
        for tensor in keras.tree.flatten(operation.output):
            producer[id(tensor)] = position
    layer_position = {id(layer): i for i, layer in enumerate(backbone.layers)}
    return [
        layer_position[id(operation)]
        for position, operation in enumerate(operations)
        if id(operation) in layer_position
        and not is_norm(operation)
        and sum(use >= position for use in last_use[:position]) <= 1
    ]


def first_open_layer(backbone: keras.Model, fraction: float, whole_blocks: bool) -> int:
    """Return the position of the first layer that trains when the upper part is opened.

    Args:
        backbone: the model whose layers are counted.
        fraction: of its layers, counted from its output down, that train: 0 to 1.
        whole_blocks: move down to the beginning of a block, so that none is cut in two.

    Returns:
        A position in `backbone.layers`; the number of layers where none trains.
    """
    first = int((1 - fraction) * len(backbone.layers))
    if whole_blocks and first < len(backbone.layers):
        first = max(start for start in [0, *block_starts(backbone)] if start <= first)
    return first


def unfreeze(config, backbone: keras.Model, stage) -> str:
    """Let the upper `stage.fraction` of a backbone train; return a message that says so.

    Args:
        config: the kernel's settings: stages; unfreeze ("blocks" or "layers"); batchnorm, "train",
            "frozen" or "last" (opened BatchNorm trains in the last stage alone); norm_momentum.
        backbone: the model to open.
        stage: of the schedule.
    """
    last = stage == config.stages[-1]
    normalize = config.batchnorm == "train" or (config.batchnorm == "last" and last)
    momentum = config.norm_momentum if normalize else None
    return open_backbone(backbone, stage.fraction, config.unfreeze == "blocks", momentum)


def open_backbone(
    backbone: keras.Model, fraction: float, whole_blocks: bool, momentum: float | None
) -> str:
    """Let the upper part of a backbone train and freeze the rest; see `first_open_layer`.

    Args:
        backbone: the model to open.
        fraction: of its layers, counted from its output down, that train: 0 to 1.
        whole_blocks: cut no block in two.
        momentum: of the moving averages of opened BatchNorm layers, which train too; with None
            they stay frozen.

    Returns:
        A message that says what trains.
    """
    layers = backbone.layers
    first = first_open_layer(backbone, fraction, whole_blocks)
    backbone.trainable = True  # each layer decides for itself
    for position, layer in enumerate(layers):
        batchnorm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = position >= first and (momentum is not None or not batchnorm)
        if batchnorm and layer.trainable:
            layer.momentum = momentum
    return f"the head and {len(layers) - first} of {len(layers)} backbone layers train"
