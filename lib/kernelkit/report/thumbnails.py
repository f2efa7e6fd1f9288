"""Small pictures of photos, kept beside the report for the day when the photos are gone."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from ImageDataAugmentor.reading import read_image, read_reduced
from kernelkit.core.files import write_atomically

SIDE = 160  # pixels of the longer side
WIDE = 960  # pixels of the width of the picture of augmented photos
STEEP = 1.5  # so that what the network hardly saw stays grey
TINT = 0.6  # how opaque the colour is where the network looked most
LOOKED = "#looked"  # after a photo's path: the thumbnail of where the network looked


class Thumbnails:
    """WebP thumbnails by the photos' paths, from the photos or, where they are gone, from a zip."""

    def __init__(self, file: Path):
        self.file, self.pictures, self.kept = file, {}, {}
        try:
            with zipfile.ZipFile(file) as stored:
                self.kept = {name: stored.read(name) for name in stored.namelist()}
        except (OSError, zipfile.BadZipFile):
            pass  # none yet, or a damaged one: they are made anew

    def add(self, paths: Iterable[str], side: int = SIDE) -> None:
        """Make the thumbnails of photos; those that can't be read have none."""
        new = [path for path in dict.fromkeys(paths) if path and path not in self.pictures]
        with ThreadPoolExecutor() as pool:
            made = pool.map(lambda path: thumbnail(path, side), new)
            for path, picture in zip(new, made, strict=True):
                picture = picture or self.kept.get(_key(path))
                if picture:
                    self.pictures[path] = picture

    def add_looked(self, path: str, heat: np.ndarray) -> None:
        """Make a grey thumbnail, tinted red to yellow where the network looked (uint8 [h, w])."""
        if path not in self.pictures:
            return
        with Image.open(io.BytesIO(self.pictures[path])) as image:
            photo = np.asarray(image.convert("RGB"), np.float32)
        large = Image.fromarray(heat).resize(photo.shape[1::-1], Image.Resampling.BICUBIC)
        share = (np.asarray(large, np.float32)[..., None] / 255) ** STEEP
        tint = (1 - share) * np.float32([210, 30, 20]) + share * np.float32([255, 225, 60])
        mixed = (1 - TINT * share) * photo.mean(2, keepdims=True) + TINT * share * tint
        self.pictures[path + LOOKED] = _webp(Image.fromarray(np.uint8(mixed.clip(0, 255))))

    def uri(self, path: str) -> str:
        """Return a photo's thumbnail as a data URI, "" where it has none."""
        picture = self.pictures.get(path)
        return "data:image/webp;base64," + base64.b64encode(picture).decode() if picture else ""

    def size(self, path: str) -> tuple[int, int]:
        """Return a thumbnail's width and height in pixels."""
        with Image.open(io.BytesIO(self.pictures[path])) as image:
            return image.size

    def save(self) -> None:
        """Write the thumbnails into the zip. Raises OSError if it can't be written."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as stored:
            for path, picture in self.pictures.items():
                stored.writestr(_key(path), picture)
        write_atomically(self.file, content.getvalue())


def _key(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:20] + ".webp"


def _webp(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "WEBP", quality=60, method=3)
    return content.getvalue()


def thumbnail(path: str, side: int) -> bytes | None:
    """Return a photo as WebP, at most `side` pixels wide and high; None where it can't be read."""
    try:
        reduced = read_reduced(path, side, colour=True)
        picture = Image.fromarray(read_image(path) if reduced is None else reduced)
        picture.thumbnail((side, side))
        return _webp(picture)
    except Exception:  # decoders raise many types, and no photo may end the report
        return None
