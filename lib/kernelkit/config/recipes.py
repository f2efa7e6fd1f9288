"""Recipes that decide no score of today: the settings in which they differ from the default."""

from kernelkit.config.rows import Stage

# As it scored 0.96838, its weaknesses included: inputs 0..1, layers are counted where blocks should
# open, and test-time augmentation is that of the training.
REFERENCE = {
    "backbone": "InceptionV3",
    "image_size": (336, 336),
    "input_range": "0..1",
    "batch_size": 24,
    "stages": (
        Stage("head", 0.00, 1e-3, 12),
        Stage("half", 0.50, 1e-4, 12),
        Stage("three-quarters", 0.75, 1e-5, 12),
        Stage("all", 1.00, 1e-6, 12),
    ),
    "unfreeze": "layers",
    "batchnorm": "train",
    "norm_momentum": 0.99,
    "head": "hidden",
    "label_smoothing": 0,
    "schedule": "plateau",
    "weight_decay": 0,
    "clip_norm": 0,
    "ema": 0,
    "augmentation": "reference",
    "interpolation": "nearest",
    "tta": 10,
    "tta_style": "training",
}

# The default at a size that a CPU finishes in a minute.
DRY = {
    "backbone": "Plain",
    "weights": "drawn",
    "batch_size": 16,
    "label_smoothing": 0,
    "stages": (
        Stage("head", 0.00, 1e-2, 5),
        Stage("half", 0.50, 2e-3, 5),
        Stage("three-quarters", 0.75, 1e-3, 6),
        Stage("all", 1.00, 3e-4, 8),
    ),
}
