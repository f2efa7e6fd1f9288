"""Keras image iterators whose transforms are albumentations': photos in, batches out.

A drop-in for mjkvaak's library of the same name (github.com/mjkvaak/ImageDataAugmentor) on Keras 3
and albumentations 2, written anew.
"""

import importlib

_HOMES = {
    "DataFrameIterator": "dataframe_iterator",
    "DirectoryIterator": "directory_iterator",
    "ImageDataAugmentor": "image_data_augmentor",
    "Iterator": "iterator",
    "NumpyArrayIterator": "numpy_array_iterator",
    "UnreadableImage": "reading",
    "array_to_img": "utils",
    "img_to_array": "utils",
    "list_pictures": "utils",
    "load_img": "utils",
    "save_img": "utils",
    "validate_filename": "utils",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    """Import a public name when it is asked for: the worker processes do without Keras."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
