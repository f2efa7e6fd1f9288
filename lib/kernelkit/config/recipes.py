"""Recipes that decide no score of today, and the augmentation of the reference."""

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


def reference_augmentation(height: int, width: int):
    """Return the augmentation for photos of a size; the reference cropped 224x200 of 336x336."""
    import albumentations as A  # late: the command line is answered without it
    import cv2

    from ImageDataAugmentor.fused.transforms import FancyPCA

    long, short = 224 / 336, 200 / 336
    crops = [(long, short), (short, long)]
    return A.Compose(
        [
            A.GaussianBlur(blur_limit=(3, 7), sigma_limit=(0.8, 1.4), p=0.05),
            A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0, p=0.5),
            A.Affine(
                translate_percent={"x": (-0.0625, 0.0625), "y": (-0.0625, 0.0625)},
                scale=(0.99, 1.01),
                keep_ratio=True,
                rotate=(-20, 20),
                interpolation=cv2.INTER_LINEAR,
                border_mode=cv2.BORDER_REFLECT_101,
                p=0.75,
            ),
            A.OneOf([A.CenterCrop(round(h * height), round(w * width)) for h, w in crops], p=0.5),
            A.OneOf([A.RandomBrightnessContrast(limit, limit) for limit in (0.3, 0.1)], p=0.5),
            A.HorizontalFlip(p=0.5),
            A.HueSaturationValue(p=0.5),
            A.RGBShift(p=0.5),
            FancyPCA(alpha=0.1, p=0.5),
            A.Resize(height, width),
        ]
    )
