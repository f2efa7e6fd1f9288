"""Albumentations transforms run together: one warp and a few passes over the colours.

A fused Compose draws the same random numbers as the plain one. The results differ by rounding, and
by sampling a picture once instead of twice.
"""

import copy
import itertools

import albumentations as A
import cv2
import numpy as np

from .drawing import DrawnTransform, draw, is_known
from .warping import Warp


def fuse(compose: A.Compose) -> A.Compose:
    """Return a copy in which each run of known transforms is fused, and the others are unchanged.

    Known are flips, transpositions, quarter turns, crops without padding, linear Resize, Affine,
    ShiftScaleRotate, Rotate, RandomResizedCrop, RandomSizedCrop; RandomBrightnessContrast,
    RGBShift, HueSaturationValue, both FancyPCAs; GaussianBlur, which keeps its place; and OneOf,
    Sequential and Compose of these. A Compose with boxes or keypoints is copied unchanged. Raises
    TypeError for anything but a Compose.
    """
    if not isinstance(compose, A.Compose):
        raise TypeError(f"fuse takes an albumentations.Compose, not {type(compose).__name__}")
    fused = copy.deepcopy(compose)
    if compose.processors:
        return fused
    transforms: list = []
    for known, group in itertools.groupby(fused.transforms, is_known):
        run = list(group)
        transforms += [Fused(run)] if known else run
    fused.transforms = transforms
    if type(fused) is A.Compose:
        fused.__class__ = FusedCompose
    fused.add_targets(compose.additional_targets)
    return fused


class FusedCompose(A.Compose):
    """A Compose without the slow checks of a uint8 picture alone or with its mask."""

    def __call__(self, *args, force_apply: bool = False, **data):
        """Transform the pictures and masks in `data`, as any Compose does."""
        if args or self.save_applied_params or not _is_simple(data):
            return super().__call__(*args, force_apply=force_apply, **data)
        if force_apply or self.py_random.random() < self.p:
            for transform in self.transforms:
                data = transform(**data)
        return data

    @property
    def can_draw(self) -> bool:
        """Whether `draw` includes all that a call would do."""
        return self.p >= 1 and len(self.transforms) == 1 and isinstance(self.transforms[0], Fused)

    def draw(self, shape: tuple[int, int, int], resizing: bool = False) -> DrawnTransform:
        """Draw the parameters for a picture of `shape`, with one or three channels.

        With `resizing` the result can be applied to pictures of any size. They are treated as if
        resized linearly to `shape` first, but sampled only once.
        """
        self.py_random.random()  # A call draws this number to decide whether to apply anything.
        return self.transforms[0].draw(shape, resizing)


class Fused(A.Sequential):
    """Known transforms that draw first and are applied together, to uint8 pictures and masks."""

    def __init__(self, transforms: list):
        super().__init__(transforms, p=1)

    def __call__(self, *args, force_apply: bool = False, **data):
        """Transform the pictures and masks in `data`."""
        kinds = {key: self._additional_targets.get(key, key) for key in data}
        fits = "image" in data and all(
            (kind == "mask" and data[key] is not None) or (kind == "image" and _is_plain(data[key]))
            for key, kind in kinds.items()
        )
        if args or not fits:
            # Without force it would draw a number to decide whether to apply the run.
            return super().__call__(*args, force_apply=True, **data)
        drawn = self.draw(data["image"].shape)
        return {
            key: drawn.apply_to_mask(value) if kinds[key] == "mask" else drawn.apply(value)
            for key, value in data.items()
        }

    def draw(self, shape: tuple[int, ...], resizing: bool = False) -> DrawnTransform:
        """Let the transforms draw their parameters; see FusedCompose.draw."""
        drawn = DrawnTransform(shape)
        if resizing:
            drawn.steps.append(Warp(shape[:2], cv2.INTER_LINEAR))
        for transform in self.transforms:
            draw(transform, drawn)
        return drawn


def _is_simple(data: dict) -> bool:
    """Return whether `data` is one uint8 picture, alone or with a mask of its size."""
    picture, mask = data.get("image"), data.get("mask")
    if not isinstance(picture, np.ndarray) or not _is_plain(picture):
        return False
    if len(data) == 1:
        return True
    return len(data) == 2 and isinstance(mask, np.ndarray) and mask.shape[:2] == picture.shape[:2]


def _is_plain(picture) -> bool:
    return picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] in {1, 3}
