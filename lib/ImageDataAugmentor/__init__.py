"""Keras image iterators that transform photos with albumentations.

The package replaces mjkvaak's library of the same name (github.com/mjkvaak/ImageDataAugmentor) on
Keras 3 and albumentations 2, and is written anew.
"""

import importlib

_MODULES = {
    "DataFrameIterator": ".dataframe_iterator",
    "DirectoryIterator": ".file_iterators",
    "ImageDataAugmentor": ".image_data_augmentor",
    "Iterator": ".iterator",
    "NumpyArrayIterator": ".array_iterator",
    "UnreadableImage": ".reading",
    "array_to_img": "keras.utils",
    "img_to_array": "keras.utils",
    "list_pictures": ".files",
    "load_img": ".reading",
    "save_img": "keras.utils",
    "validate_filename": ".files",
    "zip_flows": ".legacy.keras_2",
}
__all__ = list(_MODULES)


def __getattr__(name: str):
    """Import a public name on first use, so that worker processes need not import Keras."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
