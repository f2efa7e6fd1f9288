"""How photos are decoded: as `ImageDataAugmentor` does, in the check as in training.

The library alone decides what can be read, and how depth, orientation and colours are treated.
"""

import os
import warnings

import cv2
import numpy as np

from ImageDataAugmentor.reading import UnreadableImage, read_image, read_reduced

THUMBNAIL = 48  # pixels to which the shorter side may be reduced: enough to hash a photo's crops


def read_small(path: str) -> np.ndarray:
    """Decode a photo in grey, its shorter side reduced to `THUMBNAIL` pixels or a little more.

    A large JPEG is reduced while it is decoded: every byte is still read, in a fraction of the
    time. All else is decoded by the library in full.

    Returns:
        uint8 [height, width].

    Raises:
        UnreadableImage: there is no such file, it is no image, or it is truncated.
    """
    small = read_reduced(path, THUMBNAIL)
    if small is None:
        small = read_image(path, "gray", truncated="error")[..., 0]
    scale = THUMBNAIL / min(small.shape)
    if scale > 0.5:
        return small
    size = [max(1, round(side * scale)) for side in small.shape[::-1]]
    return cv2.resize(small, size, interpolation=cv2.INTER_AREA)


def is_readable_in_part(path: str) -> bool:
    """Tell whether the library decodes what is there of a truncated photo."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is truncated
            read_image(path)
    except UnreadableImage:
        return False
    return True


def reason_of(error: UnreadableImage, path: str) -> str:
    """Return why a photo can't be used, as excluded.csv has it."""
    said = str(error).removeprefix(f"{path}: ")
    if said == "the file is empty":
        return "its file is empty"
    if said == "the file is truncated":
        return "its file is truncated"
    if said.startswith("cannot be read"):
        return f"its file {said}"
    return f"it can't be decoded ({said})"


def printable(name: str) -> str:
    r"""Return a name with its bytes that are not UTF-8 as \xNN, which any report can hold."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
