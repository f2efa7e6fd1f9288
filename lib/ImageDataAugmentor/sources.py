"""Where the samples of file iterators come from."""

from dataclasses import dataclass

import cv2
import numpy as np

from .reading import CHANNELS, Loading


@dataclass
class FileSource:
    """One photo, and perhaps a target, for each index.

    `targets` are paths of target pictures where `target_loading` says how to load them; values that
    are handed out as they are where it is None. `input_is_target` makes a copy of the picture the
    target.
    """

    paths: list[str]
    loading: Loading
    targets: object = None
    target_loading: Loading | None = None
    input_is_target: bool = False
    cache: object = None  # has picture(path, loading), and gives arrays not to be written to

    def files(self, index: int) -> list[tuple[str, Loading]]:
        """What sample `index` is loaded from."""
        files = [(self.paths[index], self.loading)]
        if self.target_loading:
            files.append((self.targets[index], self.target_loading))
        return files

    @property
    def resizing_can_wait(self) -> bool:
        """Whether a photo may as well be resized in a later step, linearly.

        With a cache it may not: which photos have room in it must not change a batch.
        """
        return (
            self.cache is None
            and self.loading.interpolation == cv2.INTER_LINEAR
            and not self.target_loading
            and not self.input_is_target
        )

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """The shape of every picture, if they are resized."""
        size = self.loading.target_size
        return size and (*size, CHANNELS[self.loading.color_mode])

    def decode(self, index: int) -> tuple:
        """Sample `index`, its picture not resized yet."""
        return self.loading.decode(self.paths[index]), self._value(index)

    def load(self, index: int, to_write_to: bool) -> tuple:
        """Sample `index`: its picture, and the target that is transformed with it or None."""
        x, *target = (self._picture(*file) for file in self.files(index))
        if self.cache and to_write_to:
            x = x.copy()
        if self.input_is_target:
            return x, x.copy()
        if target:
            return x, target[0].copy()
        return x, self._value(index)

    def _value(self, index: int):
        return None if self.targets is None else self.targets[index]

    def _picture(self, path: str, loading: Loading) -> np.ndarray:
        return self.cache.picture(path, loading) if self.cache else loading(path)
