"""Backbones that are presets of keras_hub: load their image tower alone, for photos of any size.

keras_hub is imported only where such a backbone is used. A network that is made here consists of
Keras' and keras_hub's own layers, so that its `.keras` file opens wherever both are installed.
"""

import importlib
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import layers

from kernelkit.core.problem import Problem
from kernelkit.train.step_mode import keep_depthwise_precise

VERSION = "0.26"  # of keras_hub, whose file format and classes are known here
SHAPES = ("image_shape", "input_shape", "position_embedding_shape")  # of photos, in its settings
PATCHES = "patches"  # the layer that resizes photos to whole patches
STORED = "position_embedding_shape"  # that for which DINOv2 stores its table


# ------------------------------------------------------------------------------------ loading


def load_preset(
    folder: Path, size: tuple[int, int], pooling: str, policy: str | None = None
) -> keras.Model:
    """Return the image tower of a preset, without its top.

    Where float16 gives numbers that are not finite it computes in float32. `folder` has config.json
    and model.weights.h5. A transformer sees photos of `size`, (height, width) in pixels, resized to
    the nearest whole number of patches; its table of positions is resized bicubically. `pooling` is
    how a tower's output becomes features: "average" of feature maps is left to the network, "token"
    takes the first of [n, tokens, width], "own" is [n, width] already. `policy` is of its layers'
    dtypes; None is the global one. Returns a model "backbone": float32 [n, height, width, 3] to [n,
    h, w, channels]. Raises Problem if keras_hub is missing or another version, the files are
    damaged, or the tower takes no photos of that size.
    """
    kind, config, group = read_preset(folder)
    policy = policy or keras.mixed_precision.global_policy().name
    config = config | {"dtype": policy, "name": "tower"}
    try:
        tower = kind.from_config(_with_shape(config, _own_size(config) or size))
        _load_weights(tower, folder / "model.weights.h5", group)
        if (shape := _whole_patches(tower, size)) != (_own_size(config) or size):
            small, tower = tower, kind.from_config(_with_shape(config, shape))
            _copy_weights(small, tower)
        backbone = _as_backbone(tower, size, pooling)
        keep_depthwise_precise(backbone)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise Problem(
            f"{folder.name} at {size[0]}x{size[1]} could not be built from {folder} "
            f"({str(error).strip().splitlines()[0]}): give the preset's own files, and an "
            "--image-size that it takes (most transformers take square photos alone)."
        ) from error
    if "float16" in policy and not computes_finite(backbone):
        print(f"{folder.name} is not finite in float16: it computes in float32.", flush=True)
        return load_preset(folder, size, pooling, "float32")
    return backbone


def read_preset(folder: Path) -> tuple[type, dict, str]:
    """Return the class of a preset's image tower, its settings, and its group in the weights' file.

    The group is "" where the file holds nothing else. Raises Problem if keras_hub is missing or
    another version, or a file is damaged.
    """
    _import_keras_hub(folder.name)
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tower = content["config"].get("vision_encoder")
        with h5py.File(folder / "model.weights.h5") as file:
            groups = [name for name in file["layers"] if name.endswith("vision_encoder")]
        kind = keras.saving.get_registered_object((tower or content)["registered_name"])
        if kind is None or (tower and len(groups) != 1):
            raise KeyError(content["registered_name"])
        return kind, dict((tower or content)["config"]), f"layers/{groups[0]}" if tower else ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(
            f"{folder} holds no preset of keras_hub {VERSION} that can be read "
            f"({type(error).__name__}: {str(error)[:100]}): download it again."
        ) from error


def _import_keras_hub(preset: str) -> None:
    try:
        keras_hub = importlib.import_module("keras_hub")
    except ImportError as error:
        raise Problem(
            f"{preset} needs keras_hub, which can't be imported ({error}): install it with "
            "`pip install -e '.[hub]'`, or choose another --backbone; Kaggle's image has it."
        ) from error
    if keras_hub.__version__.split(".")[:2] != VERSION.split("."):
        raise Problem(
            f"{preset} needs keras_hub {VERSION}, but {keras_hub.__version__} is installed: "
            "`pip install -e '.[hub]'` changes it, or choose another --backbone."
        )


def _load_weights(tower: keras.Model, file: Path, group: str) -> None:
    """Load a tower's weights; of a file with a text tower too, the image tower's group alone."""
    if not group:
        tower.load_weights(file)
        return
    with tempfile.TemporaryDirectory(prefix="tower-") as folder:
        part = Path(folder) / "tower.weights.h5"
        with h5py.File(file) as whole, h5py.File(part, "w") as own:
            for name in whole[group]:
                whole.copy(f"{group}/{name}", own)
            own.require_group("vars")
        tower.load_weights(part)


def _as_backbone(tower: keras.Model, size: tuple[int, int], pooling: str) -> keras.Model:
    """Return photos [n, h, w, 3] to feature maps [n, h, w, channels]."""
    outputs = tower.output
    if isinstance(outputs, dict):  # of a network with stages: the last one's
        outputs = outputs[max(outputs, key=lambda name: (len(name), name))]
    if pooling == "average":  # the tower's own graph, whose layers can be opened one by one
        return keras.Model(keras.tree.flatten(tower.input)[0], outputs, name="backbone")
    photos = keras.Input((*size, 3))
    x = layers.Resizing(*_whole_patches(tower, size), name=PATCHES)(photos)
    x = tower(dict.fromkeys(tower.input, x) if isinstance(tower.input, dict) else x)
    if pooling == "token":
        x = x[:, 0]
    return keras.Model(photos, layers.Reshape((1, 1, x.shape[-1]))(x), name="backbone")


def computes_finite(backbone: keras.Model) -> bool:
    """Return whether its features of noise, and of a plain photo, are finite numbers."""
    shape = backbone.input_shape[1:]
    noise = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype(np.float32)
    noise[1] = 1
    return bool(np.isfinite(keras.ops.convert_to_numpy(backbone(noise, training=False))).all())


def open_network(file: Path) -> keras.Model:
    """Return the network of a `.keras` file, uncompiled.

    Raises Problem if it has layers of keras_hub, which is missing or another version.
    """
    try:
        return keras.models.load_model(file, compile=False)
    except (TypeError, ImportError) as error:
        if "keras_hub" in str(error):
            _import_keras_hub(file.name)
        raise


def loadable(members: Mapping, backbones: Mapping, find: Callable) -> dict:
    """Return the members without those whose preset can't be loaded, of which it says why.

    `find` returns the folder of a preset for settings, or the file of weights. Raises Problem if a
    file of weights is missing, or no member is left.
    """
    kept, last = {}, None
    for name, member in members.items():
        try:
            found = find(member)
            if backbones[member.backbone].handle:
                read_preset(found)
        except Problem as problem:
            if not backbones[member.backbone].handle or len(members) == 1:
                raise
            print(f"{name} is left out: {problem}", flush=True)
            last = problem
        else:
            kept[name] = member
    if not kept:
        raise last
    return kept


# ------------------------------------------------------------------------------- another size


def resize_network(network: keras.Model, size: tuple[int, int]) -> keras.Model:
    """Return the same network and weights for photos of another size, (height, width) in pixels."""
    other = _clone(network, size)
    _copy_weights(network, other)
    return other


def _clone(model: keras.Model, size: tuple[int, int]) -> keras.Model:
    """Return the same model with new weights, for photos of another size."""
    towers = [layer for layer in model.layers if _is_tower(layer)]

    def copy(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if layer in towers:
            config = _with_shape(config, _whole_patches(layer, size))
        elif layer.name == "backbone":
            return _clone(layer, size)
        elif layer.name == PATCHES:
            height, width = _whole_patches(towers[0], size)
            config |= {"height": height, "width": width}
        return type(layer).from_config(config)

    photos = keras.Input((*size, 3), dtype=model.inputs[0].dtype, name=model.inputs[0].name)
    return keras.models.clone_model(model, photos, copy)


def _is_tower(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.Model) and type(layer).__module__.startswith("keras_hub.")


def _own_size(config: Mapping) -> tuple[int, int] | None:
    """Return the size of the photos for which a tower stores positions; None without positions."""
    shape = config.get(STORED) or config["image_shape"] if "patch_size" in config else None
    return shape and tuple(shape[:2])


def _with_shape(config: Mapping, size: tuple[int, int]) -> dict:
    """Return the settings of a tower for photos of another size.

    DINOv2 stores positions for the size at which it was trained, and loads trained ones of another
    size wrongly; where both sizes are the same, it stores and loads them as they are.
    """
    return dict(config) | {name: (*size, 3) for name in SHAPES if name in config}


def _whole_patches(tower: keras.Model, size: tuple[int, int]) -> tuple[int, int]:
    """Return the size in whole patches of a tower that is nearest to a size."""
    pairs = zip(size, patch_sides(tower), strict=True)
    return tuple(max(1, round(side / patch)) * patch for side, patch in pairs)


def patch_sides(tower: keras.Model) -> tuple[int, int]:
    """Return height and width of a tower's patches in pixels; (1, 1) where it has none."""
    patch = getattr(tower, "patch_size", 1)
    return (patch, patch) if isinstance(patch, int) else tuple(patch)


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Give a network the weights of the same one for photos of another size."""
    for old, new in zip(source.weights, target.weights, strict=True):
        value = keras.ops.convert_to_numpy(old)
        new.assign(value if old.shape == new.shape else _resize_table(value, source, target))
    for layer in target._flatten_layers():
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()  # it computes with copies of its weights


def _resize_table(table: np.ndarray, source: keras.Model, target: keras.Model) -> np.ndarray:
    """Return a table of positions for another size of photos, resized bicubically.

    A table is [..., tokens, width]; those of a class and of registers, which come first, stay. The
    numbers of the positions, int [1, tokens], count on.
    """
    before, after = (_grid(model) for model in (source, target))
    if table.dtype.kind == "i":
        return np.arange(table.size - math.prod(before) + math.prod(after))[None]
    flat = table.reshape(-1, table.shape[-1])
    extra = len(flat) - math.prod(before)
    grid = keras.ops.image.resize(
        flat[extra:].reshape(1, *before, -1), after, "bicubic", antialias=False
    )
    rows = keras.ops.convert_to_numpy(grid).reshape(-1, flat.shape[1])
    return np.concatenate([flat[:extra], rows]).reshape(*table.shape[:-2], -1, table.shape[-1])


def block_bytes(network: keras.Model) -> tuple[int, int]:
    """Return what each block of a network's tower keeps of a photo, and the size of its input."""
    tower = next(layer for layer in network._flatten_layers() if _is_tower(layer))
    tokens, width = math.prod(_grid(network)), tower.hidden_dim
    hidden = getattr(tower, "intermediate_dim", 0) or tower.mlp_dim
    size = np.dtype(keras.ops.convert_to_tensor(0, tower.compute_dtype).dtype.as_numpy_dtype)
    kept = float16_bytes(tokens, width, hidden, tower.num_heads)
    return kept * size.itemsize // 2, tokens * width * size.itemsize


def float16_bytes(tokens: int, width: int, hidden: int, heads: int) -> int:
    """Return the bytes that a transformer's block keeps of a photo in float16.

    They are 38 a token and channel, 8 a token and hidden unit, and 6 a head and pair of tokens:
    counted from a block's operations, without fused attention.
    """
    return tokens * (38 * width + 8 * hidden + 6 * heads * tokens)


def _grid(model: keras.Model) -> tuple[int, int]:
    """Return how many patches high and wide the photos of a model's tower are."""
    tower = next(layer for layer in model._flatten_layers() if _is_tower(layer))
    height, width, _ = tower.image_shape
    down, across = patch_sides(tower)
    return height // down, width // across
