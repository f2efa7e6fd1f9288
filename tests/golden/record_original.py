"""Run the original library and write down what it does, as `original.json`.

How `original.json` was made: mjkvaak/ImageDataAugmentor at commit 9f16ebd, unchanged, in Python
3.8.18 with tensorflow-cpu 2.11.1, Keras-Preprocessing 1.1.2, albumentations 1.2.1,
opencv-python-headless 4.6.0.66 and numpy 1.23.5:

    PYTHONPATH=path/to/the/original python record_original.py original.json

Everything is unaugmented and unshuffled, so that it can be compared; batches are written down as
shape, dtype and values.
"""

import json
import os
import sys
import tempfile

import cv2
import numpy as np
import pandas as pd
from pictures import CLASSES, SIZE, draw, pixels

from ImageDataAugmentor.image_data_augmentor import ImageDataAugmentor


def fact(value):
    """Something that JSON can hold."""
    if isinstance(value, (list, tuple)):
        return [fact(part) for part in value]
    array = np.asarray(value)
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "values": [int(v) if v == int(v) else round(v, 5) for v in array.astype(float).ravel()],
    }


def describe(iterator, batches=(0,)):
    """The public facts of an iterator and some of its batches."""
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
    """flow_from_directory in its class modes, colour modes and subsets."""
    photos = os.path.join(folder, "photos")
    options = {"target_size": SIZE, "shuffle": False, "batch_size": 4}
    facts = {}
    for mode in ("categorical", "sparse", "input", None):
        flow = ImageDataAugmentor().flow_from_directory(photos, class_mode=mode, **options)
        facts[f"class_mode {mode}"] = describe(flow, (0, len(flow) - 1))
    flow = ImageDataAugmentor().flow_from_directory(
        photos, class_mode="binary", classes=["kits", "2"], **options
    )
    facts["binary, classes given"] = describe(flow)
    for mode in ("rgba", "grayscale", "gray"):
        flow = ImageDataAugmentor().flow_from_directory(photos, color_mode=mode, **options)
        facts[f"color_mode {mode}"] = describe(flow)
    for split in (0.25, 0.5):
        for subset in ("training", "validation"):
            flow = ImageDataAugmentor(validation_split=split).flow_from_directory(
                photos, subset=subset, **options
            )
            facts[f"{subset} of {split}"] = describe(flow)
    return facts


def dataframes(folder, photos, masks):
    """flow_from_dataframe in its class modes and subsets."""
    names = [os.path.normpath(path).split(os.sep)[1] for path in photos]
    frame = pd.DataFrame(
        {
            "filename": photos,
            "class": names,
            "both": [["10", "2"] if name == "10" else [name] for name in names],
            "mask": [os.path.join(folder, mask) for mask in masks],
            "a": np.arange(len(photos)) * 0.5,
            "b": np.arange(len(photos)),
            "weight": np.arange(len(photos)) / 4,
        }
    )
    frame = pd.concat(
        [frame, frame.iloc[:1].assign(filename="photos/missing.png")], ignore_index=True
    )
    options = {"directory": folder, "target_size": SIZE, "shuffle": False, "batch_size": 4}
    cases = {
        "class_mode categorical": {"class_mode": "categorical"},
        "class_mode sparse": {"class_mode": "sparse"},
        "class_mode binary": {"class_mode": "binary", "classes": ["2", "kits"]},
        "class_mode input": {"class_mode": "input"},
        "class_mode None": {"class_mode": None},
        "several labels": {"class_mode": "categorical", "y_col": "both"},
        "class_mode multi_output": {"class_mode": "multi_output", "y_col": ["a", "b"]},
        "class_mode raw": {"class_mode": "raw", "y_col": "a"},
        "class_mode raw, two columns": {"class_mode": "raw", "y_col": ["a", "b"]},
        "class_mode color_target": {"class_mode": "color_target", "y_col": "mask"},
        "class_mode grayscale_target": {"class_mode": "grayscale_target", "y_col": "mask"},
        "weights": {"class_mode": "sparse", "weight_col": "weight"},
        "training": {"class_mode": "sparse", "subset": "training"},
        "validation": {"class_mode": "sparse", "subset": "validation"},
    }
    facts = {}
    for name, case in cases.items():
        split = 0.3 if "subset" in case else 0.0
        flow = ImageDataAugmentor(validation_split=split).flow_from_dataframe(
            frame, **options, **case
        )
        facts[name] = describe(flow)
        if name.startswith(("class_mode color", "class_mode gray")):
            facts[name]["filenames"] = facts[name]["filenames"][:2]
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
    """Each way of standardising, alone and together, on the arrays of `pictures`."""
    x = np.array([pixels(number) for number in range(6)], np.float32)
    cases = {
        "rescale": {"rescale": 1 / 255},
        "samplewise_center": {"samplewise_center": True},
        "samplewise_std": {"samplewise_center": True, "samplewise_std_normalization": True},
        "featurewise_center": {"featurewise_center": True},
        "featurewise_std": {"featurewise_center": True, "featurewise_std_normalization": True},
        "samplewise after rescale": {"rescale": 1 / 255, "samplewise_center": True},
        "all": {
            "rescale": 0.5,
            "preprocess_input": lambda picture: picture + 10,
            "samplewise_center": True,
            "samplewise_std_normalization": True,
            "featurewise_center": True,
            "featurewise_std_normalization": True,
        },
    }
    facts = {}
    for name, case in cases.items():
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
