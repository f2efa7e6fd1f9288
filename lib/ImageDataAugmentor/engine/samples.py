"""From files to the samples of a batch: loading, transforming, writing into the batch's arrays."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from ..reading import CHANNELS, ImageLoader
from .cache import CachedPhotos
from .transform import SampleTransformer

Spec = tuple[tuple[int, ...], np.dtype]  # the shape and the dtype of one sample in an array


@dataclass(frozen=True)
class Share:
    """Some samples of a batch: their indices, and their positions in the batch."""

    epoch: int
    indices: list[int]
    positions: range


@dataclass
class FilePipeline:
    """Makes any sample of an iterator over files: of its path, loader and transformer.

    `targets` are values that are returned unchanged, or with a `target_loader` the paths of target
    pictures, or None; where `input_is_target`, a copy of the picture is its own target. `keeper`
    loads the pictures that a cache keeps.
    """

    paths: list[str]
    loader: ImageLoader
    transformer: SampleTransformer
    targets: object = None
    target_loader: ImageLoader | None = None
    input_is_target: bool = False
    keeper: ImageLoader = field(init=False)

    def __post_init__(self):
        self.keeper = self.loader.keeper()

    def snapshot(self) -> "FilePipeline":
        """Return a copy for another process."""
        return replace(self, transformer=self.transformer.snapshot())

    def files(self, indices: Iterable[int]) -> list[tuple[str, ImageLoader]]:
        """Return the files that these samples are made of, each with its loader."""
        files = [(self.paths[index], self.keeper) for index in indices]
        if self.target_loader:
            files += [(self.targets[index], self.target_loader) for index in indices]
        return files

    def samples(
        self,
        epoch: int,
        indices: list[int],
        slots: Iterable[np.ndarray | None],
        photos: CachedPhotos | None = None,
    ) -> Iterator[tuple]:
        """Yield samples of `epoch` as (augmented picture, target or None), perhaps in `slots`."""
        transformer, size = self.transformer, self.loader.target_size
        channels = CHANNELS[self.loader.color_mode]
        if transformer.can_draw and size and channels in {1, 3}:
            late = self._resizes_late(photos)
            # Drawing for all samples at once is faster: Python's data stays in the processor cache.
            drawn = transformer.draw(epoch, indices, (*size, channels), late)
            loaded = (self._load(index, photos, late) for index in indices)
            if photos is not None:
                loaded = list(loaded)
            for transform, (x, y), slot in zip(drawn, loaded, slots, strict=True):
                yield transform.apply(x, slot), y
        else:
            writable = bool(transformer.augment or transformer.preprocess_input)
            for index in indices:
                x, y = self._load(index, photos, writable=writable)
                yield transformer.augment_sample(x, y, epoch, index)

    def _resizes_late(self, photos: CachedPhotos | None) -> bool:
        """Return whether the fused transform resizes the pictures, which it does linearly."""
        # It may not with a cache of pictures in the target size, because a batch must not depend on
        # which photos fit in the cache.
        waits = photos is None or self.keeper is not self.loader
        linear = self.loader.second_interpolation == cv2.INTER_LINEAR
        return waits and linear and not self.target_loader and not self.input_is_target

    def _load(self, index: int, photos, late: bool = False, writable: bool = False) -> tuple:
        """Return the picture of a sample, resized unless that happens late, and its target."""
        read = photos.picture if photos is not None else lambda path, loader: loader(path)
        keeps = self.keeper is not self.loader
        if late and not keeps:
            x = self.loader.decode(self.paths[index])
        else:
            kept = x = read(self.paths[index], self.keeper)
            if keeps and not late:
                x = self.loader.from_kept(kept)
            if writable and photos is not None and x is kept:
                x = x.copy()
        if self.input_is_target:
            return x, x.copy()
        if self.target_loader:
            return x, read(self.targets[index], self.target_loader).copy()
        return x, None if self.targets is None else self.targets[index]


def fill(
    pipeline,
    share: Share,
    arrays: list,
    photos: CachedPhotos | None = None,
    save: Callable | None = None,
) -> None:
    """Write a share's samples into their batch's arrays (x, y); `save` gets augmented pictures."""
    slots = arrays[0][share.positions.start : share.positions.stop]
    samples = pipeline.samples(share.epoch, share.indices, slots, photos)
    for position, index, (x, y) in zip(share.positions, share.indices, samples, strict=True):
        if save:
            save(x, index)
        write(arrays, position, pipeline.transformer.finish(x, y))


def write(arrays: list[np.ndarray | None], position: int, sample: tuple) -> None:
    """Copy one sample into the arrays of its batch. Raises ValueError if its shape differs."""
    for array, part in zip(arrays, sample, strict=True):
        if array is None:
            continue
        if np.shape(part) != array.shape[1:]:
            raise ValueError(
                "A batch needs samples of one shape, but the transforms gave "
                f"{np.shape(part)} and {array.shape[1:]}; end `augment` with "
                "albumentations.Resize(height, width)."
            )
        if not _is_same(part, array[position]):
            array[position] = part


def _is_same(part, slot) -> bool:
    """Return whether `part` already lies in its slot; a view such as x[..., ::-1] does not."""
    return (
        isinstance(part, np.ndarray)
        and isinstance(slot, np.ndarray)
        and (part.dtype, part.strides) == (slot.dtype, slot.strides)
        and part.__array_interface__["data"] == slot.__array_interface__["data"]
    )


def spec_of(part, dtype: str | None) -> Spec | None:
    """Return the spec of an array of samples like this one, or None for None.

    A dtype of None keeps the sample's. Raises ValueError for a dtype that cannot hold its values.
    """
    if part is None:
        return None
    own = np.asarray(part).dtype
    if own.kind in "SU":  # A fixed length would cut off the longer text of another sample.
        own = np.dtype(object)
    if dtype is not None and own.kind != "b" and not np.can_cast(own, dtype, "same_kind"):
        raise ValueError(
            f"dtype={dtype!r} would cut off the {own} values that preprocessing gives; "
            "ask for a float dtype."
        )
    return np.shape(part), np.dtype(dtype or own)
