"""The pictures and the cases of the golden facts.

They do not depend on the versions of Python or of libraries: the recording runs in Python 3.8.
"""

import os

CLASSES = {"10": 5, "2": 3, "kits": 7}
SIZE = (6, 8)


def pixels(number, channels=3, size=SIZE):
    """Return a nested list [height][width][channels] of values 0..255 that vary with the place."""
    return [
        [[(37 * number + 11 * y + 5 * x + 71 * c) % 256 for c in range(channels)] for x in range(w)]
        for w, y in ((size[1], y) for y in range(size[0]))
    ]


def draw(folder, save):
    """Draw the photos of all classes, and masks in a folder beside them.

    `save` is called with each path and its nested list. Return the relative paths of the photos, in
    the order drawn, and those of their masks.
    """
    photos, masks = [], []
    for name, count in CLASSES.items():
        for number in range(count):
            sub = "more" if number == count - 1 else ""
            suffix = "PNG" if number == 1 else "png"
            photo = os.path.join("photos", name, sub, f"{20 - number}.{suffix}")
            mask = os.path.join("masks", f"{name}-{number}.png")
            for path, channels in ((photo, 3), (mask, 1)):
                os.makedirs(os.path.join(folder, os.path.dirname(path)), exist_ok=True)
                save(os.path.join(folder, path), pixels(len(photos), channels))
            photos.append(photo)
            masks.append(mask)
        with open(os.path.join(folder, "photos", name, "notes.txt"), "w") as file:
            file.write("not a picture")
    return photos, masks


def table(folder, photos, masks):
    """Return the columns of a dataframe of the photos. The file of the last row does not exist."""
    rows = [*range(len(photos)), 0]
    names = [os.path.normpath(photos[row]).split(os.sep)[1] for row in rows]
    return {
        "filename": [*photos, "photos/missing.png"],
        "class": names,
        "both": [["10", "2"] if name == "10" else [name] for name in names],
        "mask": [os.path.join(str(folder), masks[row]) for row in rows],
        "a": [row * 0.5 for row in rows],
        "b": rows,
        "weight": [row / 4 for row in rows],
    }


# Options of flow_from_directory, and as `split` the constructor's validation_split.
DIRECTORY_CASES = {
    **{
        f"class_mode {mode}": {"class_mode": mode}
        for mode in ("categorical", "sparse", "input", None)
    },
    "binary, classes given": {"class_mode": "binary", "classes": ["kits", "2"]},
    **{f"color_mode {mode}": {"color_mode": mode} for mode in ("rgba", "grayscale", "gray")},
    **{
        f"{subset} of {split}": {"subset": subset, "split": split}
        for split in (0.25, 0.5)
        for subset in ("training", "validation")
    },
}

# Options of flow_from_dataframe.
DATAFRAME_CASES = {
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

# Options of the constructor.
STANDARDISATION = {
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
