"""Pictures and seeded transforms for the tests of the augmentor."""

import random

import cv2
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 96, 128


def photo(seed=0, size=(HEIGHT, WIDTH)):
    """Return a smooth random picture, uint8 [height, width, 3]."""
    small = np.random.default_rng(seed).integers(20, 236, (8, 10, 3), np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


def seeded(compose, seed):
    """Set the random state of a Compose, and return it."""
    compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return compose


def turned_photo(path, orientation):
    """Write 60 x 40 pixels, of which the upper left quarter is white, to be shown turned."""
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:20, :30] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    more = {"tiffinfo": {274: orientation}} if path.suffix == ".tif" else {"exif": exif.tobytes()}
    Image.fromarray(picture).save(path, **more)
