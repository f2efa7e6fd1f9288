"""How photos are decoded: as `ImageDataAugmentor` does, in the check as in training.

The library alone decides what can be read, and how depth, orientation and colours are treated.
"""

import os
import threading
import warnings
from collections.abc import Mapping
from dataclasses import fields

import cv2
import numpy as np
import pandas as pd

from ImageDataAugmentor.reading import ImageLoader, UnreadableImage, read_image, read_reduced

THUMBNAIL = 48  # pixels to which the shorter side may be reduced: enough to hash a photo's crops
MOST_STAND_INS = 3  # that are tried in place of a photo
FIELDS = fields(ImageLoader)
UNSEEN = 128  # the grey of a photo that can't be read and has no stand-in

lost: dict[str, str] = {}
"""The photos that could not be read when they were needed, and why."""
_lost_lock = threading.Lock()


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


class SurvivingLoader(ImageLoader):
    """Reads photos, and goes on where one was deleted or spoilt since it was checked.

    Another photo of the same class then takes its place, or where there is none a grey picture. A
    line is printed, and the photo is noted in `lost`. Worker processes get a plain loader: what
    fails there is repeated in this process.

    Args:
        plain: the loader to equal.
        stand_ins: the path of another photo of the same class, by path; may be empty.
    """

    def __init__(self, plain: ImageLoader, stand_ins: Mapping[str, str]):
        super().__init__(*(getattr(plain, field.name) for field in FIELDS))
        object.__setattr__(self, "stand_ins", stand_ins)

    def decode(self, path: str) -> np.ndarray:
        """Return a photo, or what stands in for it, as uint8 [height, width, 3]."""
        try:
            return super().decode(path)
        except UnreadableImage as error:
            return self.decode_another(path, error)

    def decode_another(self, path: str, error: UnreadableImage) -> np.ndarray:
        """Return the first stand-in that can be read, or a grey picture; name the photo once."""
        another, found = path, None
        for _ in range(MOST_STAND_INS):
            another = self.stand_ins.get(another, "")
            if another in ("", path):
                break
            try:
                found = super().decode(another)
                break
            except UnreadableImage:
                continue
        note_lost(path, reason_of(error, path), another if found is not None else "")
        if found is not None:
            return found
        return np.full((*(self.target_size or (THUMBNAIL, THUMBNAIL)), 3), UNSEEN, np.uint8)

    def keeper(self) -> ImageLoader:
        """Return the loader of the pictures that a cache keeps, which survives too."""
        if self.kept_size is None:
            return self
        size = {"target_size": self.kept_size, "kept_size": None}
        plain = ImageLoader(**{field.name: getattr(self, field.name) for field in FIELDS} | size)
        return SurvivingLoader(plain, self.stand_ins)

    def __eq__(self, other):
        names = [field.name for field in FIELDS]
        return isinstance(other, ImageLoader) and all(
            getattr(self, name) == getattr(other, name) for name in names
        )

    __hash__ = ImageLoader.__hash__

    def __reduce__(self):
        return ImageLoader, tuple(getattr(self, field.name) for field in FIELDS)


def note_lost(path: str, reason: str, stand_in: str) -> None:
    """Print a line about a photo that can't be read any more, once."""
    with _lost_lock:
        if path in lost:
            return
        lost[path] = reason
    another = printable(os.path.basename(stand_in)) or "a grey picture"
    print(f"{printable(path)} can't be read any more: {reason}; {another} stands in.", flush=True)


def printable(name: str) -> str:
    r"""Return a name with its bytes that are not UTF-8 as \xNN, which any report can hold."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def stand_ins(table: pd.DataFrame) -> dict[str, str]:
    """Return for each photo the path of the next one with the same label, in a circle.

    Args:
        table: columns path and label.
    """
    following = table.groupby("label")["path"].transform(lambda paths: np.roll(paths, -1))
    return dict(zip(table["path"], following, strict=True))
