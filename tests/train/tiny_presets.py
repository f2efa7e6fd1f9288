"""Presets of keras_hub's families of image towers, tiny and random, saved by keras_hub itself."""

from pathlib import Path

import keras
import keras_hub
import numpy as np

SIDE = 32  # pixels of the photos for which they are made
SQUARE_ALONE = ("siglip", "clip", "dino2")
POOLING = {
    "siglip": "own",
    "clip": "token",
    "dino2": "token",
    "dino3": "token",
    "vit": "token",
    "hgnet": "average",
}
TOWER = {"patch_size": 8, "num_heads": 2, "image_shape": (SIDE, SIDE, 3)}
TEXT = {"vocabulary_size": 20, "embedding_dim": 16, "hidden_dim": 16, "num_layers": 1}
TEXT |= {"num_heads": 2, "intermediate_dim": 32, "max_sequence_length": 8}


def build(family: str, blocks: int) -> keras.Model:
    """Return a whole backbone of keras_hub, of those with a text tower also that."""
    models, tower = keras_hub.models, TOWER | {"num_layers": blocks}
    wide = tower | {"hidden_dim": 16, "intermediate_dim": 32}
    if family == "siglip":
        text = models.SigLIPTextEncoder(**TEXT)
        return models.SigLIPBackbone(models.SigLIPVisionEncoder(**wide), text)
    if family == "clip":
        text = models.CLIPTextEncoder(**TEXT)
        return models.CLIPBackbone(models.CLIPVisionEncoder(**wide), text, projection_dim=8)
    if family == "dino2":
        return models.DINOV2Backbone(**wide, position_embedding_shape=(40, 40, 3))
    if family == "dino3":
        return models.DINOV3Backbone(**wide)
    if family == "vit":
        return models.ViTBackbone(**tower, hidden_dim=16, mlp_dim=32)
    return models.HGNetV2Backbone(
        depths=[1, 1],
        embedding_size=8,
        hidden_sizes=[8, 16],
        stem_channels=[3, 4, 8],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[[8, 8, 8, 1, 1, 3], [8, 8, 16, 1, 1, 3]],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, False],
        image_shape=(None, None, 3),
    )


def save_preset(family: str, folder: Path, factor: float = 1.0, blocks: int = 4) -> keras.Model:
    """Save a preset, whose query and key are `factor` times as large; return the whole backbone."""
    keras.utils.set_random_seed(0)
    whole, rng = build(family, blocks), np.random.default_rng(1)
    for weight in whole.weights:
        if "position_ids" not in weight.path and "variance" not in weight.path:
            large = factor if {"query", "key"} & set(weight.path.split("/")[-2].split("_")) else 1.0
            weight.assign(weight + large * rng.normal(0, 0.1, weight.shape))
        elif "position_ids" in weight.path:  # as checkpoints have them
            weight.assign(np.arange(weight.shape[1])[None])
    whole.save_to_preset(str(folder))
    return whole
