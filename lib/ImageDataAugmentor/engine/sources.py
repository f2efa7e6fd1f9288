"""The samples of an iterator over files, before they are augmented."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from ..reading import CHANNELS, ImageLoader


@dataclass
class FileSource:
    """Loads the photo, and the target if there is one, of each index.

    Attributes:
        paths: the image file of each sample.
        loader: loads the photos.
        targets: values that are returned unchanged, or with a `target_loader` the paths of target
            pictures, or None.
        target_loader: loads the target pictures.
        input_is_target: whether a copy of the picture is its own target.
        cache: has a method picture(path, loader) that returns a read-only array; None for no cache.
    """

    paths: list[str]
    loader: ImageLoader
    targets: object = None
    target_loader: ImageLoader | None = None
    input_is_target: bool = False
    cache: object = None
    keeper: ImageLoader = field(init=False)
    """Loads what the cache keeps of the photos."""

    def __post_init__(self):
        self.keeper = self.loader.keeper()

    def files(self, index: int) -> list[tuple[str, ImageLoader]]:
        """Return the files that sample `index` is made of, each with its loader."""
        files = [(self.paths[index], self.keeper)]
        if self.target_loader:
            files.append((self.targets[index], self.target_loader))
        return files

    @property
    def resizing_can_wait(self) -> bool:
        """Whether the resizing may be left to a later step, which does it linearly.

        With a cache of pictures in the target size it may not, because a batch must not depend on
        which photos fit in the cache.
        """
        waits = self.cache is None or self.keeper is not self.loader
        return (
            waits
            and self.loader.second_interpolation == cv2.INTER_LINEAR
            and not self.target_loader
            and not self.input_is_target
        )

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """The shape (height, width, channels) of every picture, or None if they keep theirs."""
        size = self.loader.target_size
        return size and (*size, CHANNELS[self.loader.color_mode])

    def decode(self, index: int) -> tuple:
        """Return the picture of sample `index` in the kept or its file's size, and the target."""
        path = self.paths[index]
        kept = self.keeper is not self.loader
        picture = self._kept(path, self.keeper) if kept else self.loader.decode(path)
        return picture, self._value(index)

    def load(self, index: int, writable: bool) -> tuple:
        """Return the resized picture of sample `index`, and the target or None.

        A picture of the cache is copied if the caller wants it writable.
        """
        kept, *target = (self._kept(*file) for file in self.files(index))
        x = self.loader.from_kept(kept) if self.keeper is not self.loader else kept
        if self.cache and writable and x is kept:
            x = x.copy()
        if self.input_is_target:
            return x, x.copy()
        if target:
            return x, target[0].copy()
        return x, self._value(index)

    def _value(self, index: int):
        return None if self.targets is None else self.targets[index]

    def _kept(self, path: str, loader: ImageLoader) -> np.ndarray:
        return self.cache.picture(path, loader) if self.cache else loader(path)
