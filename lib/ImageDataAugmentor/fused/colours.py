"""Colour operations with drawn parameters, and filters.

Each is called with a picture, uint8 [height, width, channels], and may write its result to `out`.
"""

import math

import cv2
import numpy as np
from albucore import sz_lut

from .transforms import planes_of, scale_components, shift_colours

_RAMP = np.arange(256, dtype=np.float32)
_HUES = (np.arange(180 + 256) % 180).astype(np.uint8)
_SATURATED = np.arange(-255, 511).clip(0, 255).astype(np.uint8)


class ColourTransform:
    """An albumentations transform of the colours, carried out by its own code."""

    def __init__(self, transform, parameters: dict):
        self._transform, self._parameters = transform, parameters

    def __call__(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Apply to uint8 [height, width, channels]."""
        return self._transform.apply(image, **self._parameters)


class Filter(ColourTransform):
    """A transform that mixes neighbouring pixels, so that it does not commute with a warp."""


class InPlace:
    """An operation that may write its result over its input."""


class Table(InPlace):
    """Replaces each value by a new one, the same in all channels."""

    def __init__(self, table: np.ndarray):
        self._table = table  # uint8 [256]

    def __call__(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Apply to uint8 [height, width, channels]."""
        if out is not image:
            image = image.copy()
        return sz_lut(image, self._table, inplace=True)


class Shift(InPlace):
    """Adds a whole number to each channel."""

    def __init__(self, shifts: list[int]):
        self._shifts = shifts

    def __call__(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Apply to uint8 [height, width, channels]."""
        return shift_colours(image, self._shifts, out)


class PrincipalComponents:
    """Scales the colours' principal components, as albumentations 2's FancyPCA does."""

    def __init__(self, alpha_vector: np.ndarray):
        self._alpha_vector = alpha_vector

    def __call__(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Apply to uint8 [height, width, 3]."""
        return scale_components(image, self._alpha_vector, out)


class HueSaturationValue:
    """Shifts the hue (in units of two degrees), the saturation and the value (both 0..255)."""

    def __init__(self, hue_shift: float, sat_shift: float, val_shift: float):
        saturations = shift_table(sat_shift).copy()
        saturations[0] = 0  # Grey stays grey.
        hue = math.floor(hue_shift) % 180
        self._tables = (_HUES[hue : hue + 256], saturations, shift_table(val_shift))

    def __call__(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Apply to uint8 [height, width, 3]."""
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        # Plane by plane takes half as long as OpenCV's table of three channels.
        planes = planes_of(hsv)
        for plane, table in zip(planes, self._tables, strict=True):
            sz_lut(plane, table, inplace=True)
        return cv2.cvtColor(cv2.merge(planes, dst=hsv), cv2.COLOR_HSV2RGB, dst=out)


def shift_table(shift: float) -> np.ndarray:
    """Return the read-only table, uint8 [256], that adds `shift` truncated to a whole number."""
    start = 255 + min(max(int(shift), -255), 255)
    return _SATURATED[start : start + 256]


def linear_table(factor: float, shift: float) -> np.ndarray:
    """Return the table, uint8 [256], that multiplies by `factor` and then adds `shift`."""
    return (_RAMP * factor + shift).clip(0, 255).astype(np.uint8)
