"""From an image file to a uint8 array in the colour mode asked for."""

import warnings
from pathlib import Path

import cv2
import numpy as np

SUFFIXES = ("png", "jpg", "jpeg", "bmp", "ppm", "tif", "tiff")
CHANNELS = {"rgb": 3, "rgba": 4, "grayscale": 1, "gray": 1}


class UnreadableImage(OSError):
    """An image file that is missing, damaged or no image; the text names it."""


def read_image(path: str, color_mode: str = "rgb") -> np.ndarray:
    """Decode one file to uint8 [height, width, channels], values 0..255.

    Raises UnreadableImage, which names the file.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be read ({error.strerror})") from error
    flag = {
        "rgb": cv2.IMREAD_COLOR_RGB,
        "rgba": cv2.IMREAD_UNCHANGED,
    }.get(color_mode, cv2.IMREAD_GRAYSCALE)
    image = cv2.imdecode(data, flag) if data.size else None
    if image is None:
        raise UnreadableImage(f"{path}: not an image that can be decoded")
    return image[..., np.newaxis] if image.ndim == 2 else image


def resize(image: np.ndarray, target_size: tuple[int, int], interpolation: int) -> np.ndarray:
    """Resize to (height, width), keeping the channel axis."""
    if image.shape[:2] == tuple(target_size):
        return image
    resized = cv2.resize(image, target_size[::-1], interpolation=interpolation)
    return resized[..., np.newaxis] if resized.ndim == 2 else resized
