"""Keras image iterators whose transforms are albumentations': photos in, batches out.

A drop-in for mjkvaak's library of the same name (github.com/mjkvaak/ImageDataAugmentor) on Keras 3
and albumentations 2, written anew.
"""

from .dataframe_iterator import DataFrameIterator
from .directory_iterator import DirectoryIterator
from .image_data_augmentor import ImageDataAugmentor
from .iterator import Iterator
from .numpy_array_iterator import NumpyArrayIterator
from .reading import UnreadableImage
from .utils import *  # noqa: F403
from .utils import __all__ as _helpers

__all__ = [
    "DataFrameIterator",
    "DirectoryIterator",
    "ImageDataAugmentor",
    "Iterator",
    "NumpyArrayIterator",
    "UnreadableImage",
    *_helpers,
]
