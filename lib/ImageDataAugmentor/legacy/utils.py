"""The functions that the original library has in its module `utils`."""

from keras.utils import array_to_img, img_to_array, save_img

from ..reading import list_pictures, load_img, validate_filename

__all__ = [
    "array_to_img",
    "img_to_array",
    "list_pictures",
    "load_img",
    "save_img",
    "validate_filename",
]
