"""Keras image iterators whose transforms are albumentations': photos in, batches out.

A drop-in for mjkvaak's library of the same name on Keras 3 and albumentations 2.
"""

from .dataframe_iterator import DataFrameIterator
from .directory_iterator import DirectoryIterator
from .image_data_augmentor import ImageDataAugmentor
from .iterator import Iterator

__all__ = ["DataFrameIterator", "DirectoryIterator", "ImageDataAugmentor", "Iterator"]
