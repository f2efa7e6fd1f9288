"""Backbones: build them with weights from a file, scale their input, and unfreeze their blocks."""

import gc
from importlib import import_module
from pathlib import Path

import keras
import numpy as np
from keras import layers

from kernelkit.core.problem import Problem
from kernelkit.train.step_mode import keep_depthwise_precise

# What `keras.applications.imagenet_utils.preprocess_input` does with 0..255, by its modes, as
# factor and offset; "0..1" is none of them. For "caffe" the channels are BGR.
MEAN, DEVIATION = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
# Those of the photos of which CLIP has learned (Radford et al. 2021), in its published code.
CLIP_MEAN = np.array((0.48145466, 0.4578275, 0.40821073))
CLIP_DEVIATION = np.array((0.26862954, 0.26130258, 0.27577711))
PREPROCESSING = {
    "tf": (2 / 255, -1),
    "torch": ((1 / 255 / DEVIATION).tolist(), (-MEAN / DEVIATION).tolist()),
    "clip": ((1 / 255 / CLIP_DEVIATION).tolist(), (-CLIP_MEAN / CLIP_DEVIATION).tolist()),
    "caffe": (1.0, [-103.939, -116.779, -123.68]),
    "none": (1.0, 0),
    "0..1": (1 / 255, 0),
}
# Classes of a transformer's blocks, in the towers of keras_hub.
BLOCKS = ("SigLIPEncoderLayer", "CLIPEncoderLayer", "ViTEncoderBlock", "DINOV2Layer", "DINOV3Layer")


def clear_session() -> None:
    """Free what Keras keeps of earlier networks; its own function forgets the precision too."""
    policy = keras.mixed_precision.global_policy()
    keras.utils.clear_session()
    keras.mixed_precision.set_global_policy(policy)


def load_backbone(constructor: str, size: tuple[int, int], weights: Path | None) -> keras.Model:
    """Build a backbone without its top, as a model named "backbone".

    `constructor` is "module.name" of a function with the signature of keras.applications'; `size`
    is (height, width) in pixels; `weights` is a file in their format without the top, None for
    random ones. It maps float32 [n, height, width, 3] to feature maps [n, h, w, channels]. Raises
    Problem if the file does not fit, or the photos are too small.
    """
    gc.collect()  # a previous network, whose parts refer to each other, leaves the memory
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
        # ImageNet's weights were trained with (x - mean) / variance. keras.applications adds the
        # missing division by the standard deviation only under weights="imagenet", not for a path
        # (tensorflow issue 49930). Squaring the variance has the same effect.
        normalization = next(x for x in backbone.layers if isinstance(x, layers.Normalization))
        normalization.adapt_variance.assign(normalization.adapt_variance**2)
        normalization.finalize_state()
    keep_depthwise_precise(backbone)
    backbone.name = "backbone"
    return backbone


def preprocess(photos, mode: str):
    """Return the backbone's input for symbolic photos, uint8 RGB [n, height, width, 3].

    `mode` is a row of PREPROCESSING: the `mode` of the backbone's `preprocess_input`, or "none"
    where the backbone scales inside.
    """
    factor, offset = PREPROCESSING[mode]
    photos = photos[..., ::-1] if mode == "caffe" else photos
    return layers.Rescaling(factor, offset, name="scale")(photos)


def flat_layers(model: keras.Model) -> list[keras.Layer]:
    """Return the layers of a model, of the models among them, and of encoders, in order."""
    found = []
    for layer in model.layers:
        inner = list(layer._flatten_layers(include_self=False, recursive=False))
        if isinstance(layer, keras.Model):
            found += flat_layers(layer)
        else:
            found += inner if any(map(is_block, inner)) else [layer]
    return found


def is_block(layer: keras.Layer) -> bool:
    """Return whether a layer is a transformer's block."""
    return type(layer).__name__ in BLOCKS


def units(backbone: keras.Model) -> list[keras.Layer]:
    """Return what can be opened of a backbone: its layers, or those of its transformer."""
    found = flat_layers(backbone)
    return found if any(map(is_block, found)) else backbone.layers


def block_starts(backbone: keras.Model) -> list[int]:
    """Return the positions in `backbone.layers` at which a whole block begins.

    A block begins where a single tensor passes from the layers before to the layers after, so that
    no residual or parallel branch is cut in two, and never between a convolution and its
    normalization.
    """
    operations = backbone.operations  # the layers, and sums or products written as a + b
    producer, last_use = {}, list(range(len(operations)))
    for position, operation in enumerate(operations):
        if not isinstance(operation, layers.InputLayer):
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
        and not isinstance(operation, (layers.BatchNormalization, layers.LayerNormalization))
        and sum(use >= position for use in last_use[:position]) <= 1
    ]


def unfreeze(config, backbone: keras.Model, stage) -> str:
    """Let the upper `stage.fraction` of a backbone's layers train; return a text of what trains.

    A transformer opens by its blocks; its patches and positions open with the lowest one. With
    config.unfreeze "blocks" other backbones open down to the beginning of a block, with "layers" by
    counting layers. What is not opened is frozen, and BatchNorm as config.batchnorm has it.
    """
    found, kind = units(backbone), "layers"
    if blocks := [position for position, layer in enumerate(found) if is_block(layer)]:
        closed, count, kind = int((1 - stage.fraction) * len(blocks)), len(blocks), "blocks"
        first = [0, *blocks[1:], len(found)][closed]
    else:
        count = len(found)
        closed = first = int((1 - stage.fraction) * count)
        if config.unfreeze == "blocks" and first < count:
            closed = first = max(at for at in [0, *block_starts(backbone)] if at <= first)
    last_stage = stage.name == config.stages[-1].name
    norms_train = config.batchnorm == "train" or (config.batchnorm == "last" and last_stage)
    backbone.trainable = True  # each layer decides for itself
    for position, layer in enumerate(found):
        layer.trainable = position >= first
        for norm in layer._flatten_layers():
            if isinstance(norm, layers.BatchNormalization) and layer.trainable:
                norm.trainable = norms_train
                if norms_train:
                    norm.momentum = config.norm_momentum
    return f"the head and {count - closed} of {count} backbone {kind} train"


def Plain(include_top: bool, weights: str | None, input_shape: tuple[int, int, int]) -> keras.Model:
    """Return the dry run's small residual network, which learns within a minute on a processor.

    The arguments are those of keras.applications' constructors. It maps float32 [n, h, w, 3] in
    -1..1 to float32 [n, h / 16, w / 16, 64], rounded up.
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
    x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
    return layers.BatchNormalization(momentum=0.9)(x)
