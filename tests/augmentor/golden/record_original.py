"""Run the original library and record what it does in `original.json`.

How `original.json` was made: mjkvaak/ImageDataAugmentor at commit 9f16ebd, unchanged, in Python
3.8.18 with tensorflow-cpu 2.11.1, Keras-Preprocessing 1.1.2, albumentations 1.2.1,
opencv-python-headless 4.6.0.66 and numpy 1.23.5:

    PYTHONPATH=path/to/the/original python record_original.py original.json

Everything is unaugmented and unshuffled, so that it can be compared. Batches are recorded as
shape, dtype and values.
"""

import json
import os
import sys
import tempfile

import cv2
import numpy as np
import pandas as pd
from pictures import (
    CLASSES,
    DATAFRAME_CASES,
    DIRECTORY_CASES,
    SIZE,
    STANDARDISATION,
    draw,
    pixels,
    table,
)

from ImageDataAugmentor.image_data_augmentor import ImageDataAugmentor


def fact(value):
    """Return a value, or a list of values, in a form that JSON can hold."""
    if isinstance(value, (list, tuple)):
        return [fact(part) for part in value]
    array = np.asarray(value)
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "values": [int(v) if v == int(v) else round(v, 5) for v in array.astype(float).ravel()],
    }


def describe(iterator, batches=(0,)):
    """Return the public attributes of an iterator and some of its batches."""
    return {
        "n": iterator.n,
        "samples": iterator.samples,
        "length": len(iterator),
        "filenames": list(iterator.filenames),
        "class_indices": getattr(iterator, "class_indices", None),
        "classes": np.asarray(getattr(iterator, "classes", None)).tolist()
        if iterator.class_mode in ("categorical", "binary", "sparse")
        else None,
        "image_shape": list(iterator.image_shape),
        "batches": [fact(iterator[number]) for number in batches],
    }


def directories(folder):
    """Return facts of flow_from_directory in its class modes, colour modes and subsets."""
    facts = {}
    for name, case in DIRECTORY_CASES.items():
        options = dict(case)
        augmentor = ImageDataAugmentor(validation_split=options.pop("split", 0.0))
        flow = augmentor.flow_from_directory(
            os.path.join(folder, "photos"), target_size=SIZE, shuffle=False, batch_size=4, **options
        )
        last = [len(flow) - 1] if name.startswith("class_mode") else []
        facts[name] = describe(flow, [0, *last])
    return facts


def dataframes(folder, photos, masks):
    """Return facts of flow_from_dataframe in its class modes and subsets."""
    frame = pd.DataFrame(table(folder, photos, masks))
    options = {"directory": folder, "target_size": SIZE, "shuffle": False, "batch_size": 4}
    facts = {}
    for name, case in DATAFRAME_CASES.items():
        augmentor = ImageDataAugmentor(validation_split=0.3 if "subset" in case else 0.0)
        facts[name] = describe(augmentor.flow_from_dataframe(frame, **options, **case))
    return facts


def arrays():
    """Return facts of flow: subsets, labels and weights."""
    x = np.array([pixels(number) for number in range(6)], np.uint8)
    y = np.array([0, 1, 0, 1, 0, 1])
    options = {"shuffle": False, "batch_size": 4}
    augmentor = ImageDataAugmentor(validation_split=0.4)
    facts = {
        "x alone": fact(augmentor.flow(x, **options)[0]),
        "x and y": fact(augmentor.flow(x, y, **options)[1]),
        "validation": fact(augmentor.flow(x, y, subset="validation", **options)[0]),
        "training": fact(augmentor.flow(x, y, subset="training", **options)[0]),
    }
    return facts


def standardisation():
    """Return facts of each way of standardisation, alone and together."""
    x = np.array([pixels(number) for number in range(6)], np.float32)
    facts = {}
    for name, case in STANDARDISATION.items():
        augmentor = ImageDataAugmentor(**case)
        augmentor.fit(x)
        facts[name] = {
            "mean": None if augmentor.mean is None else fact(augmentor.mean),
            "std": None if augmentor.std is None else fact(augmentor.std),
            "standardized": fact(augmentor.standardize(x[0].copy(), None)[0]),
            "batch": fact(augmentor.flow(x, shuffle=False, batch_size=1)[1]),
        }
    return facts


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        photos, masks = draw(folder, lambda path, values: cv2.imwrite(path, np.uint8(values)))
        recorded = {
            "classes drawn": CLASSES,
            "directory": directories(folder),
            "dataframe": dataframes(folder, photos, masks),
            "arrays": arrays(),
            "standardisation": standardisation(),
        }
    with open(sys.argv[1], "w") as file:
        json.dump(recorded, file, separators=(",", ":"), sort_keys=True)
