"""The import of old notebooks: `from ImageDataAugmentor.image_data_augmentor import *`.

It changes Keras and albumentations for them (see `legacy`) and has all names that they rely on.
"""

import warnings

import albumentations
import cv2
import numpy as np
import pandas as pd

from .array_iterator import NumpyArrayIterator
from .augmentor import ImageDataAugmentor
from .dataframe_iterator import DataFrameIterator
from .file_iterators import DirectoryIterator
from .legacy import install
from .legacy.keras_2 import zip_flows

__all__ = [
    "DataFrameIterator",
    "DirectoryIterator",
    "ImageDataAugmentor",
    "NumpyArrayIterator",
    "albumentations",
    "cv2",
    "np",
    "pd",
    "warnings",
    "zip_flows",
]

install()
