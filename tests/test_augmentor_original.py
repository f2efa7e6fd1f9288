"""What the original library did with the same files and arrays; see golden/record_original.py."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from ImageDataAugmentor import ImageDataAugmentor
from tests.golden.pictures import CLASSES, SIZE, draw, pixels

GOLDEN = json.loads((Path(__file__).parent / "golden" / "original.json").read_text())


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    return folder, *draw(folder, lambda path, values: cv2.imwrite(path, np.uint8(values)))


def same(value, fact, tolerance=1e-4):
    if isinstance(fact, list):
        assert len(value) == len(fact)
        for part, part_fact in zip(value, fact, strict=True):
            same(part, part_fact, tolerance)
        return
    array = np.asarray(value)
    assert list(array.shape) == fact["shape"]
    assert str(array.dtype) == fact["dtype"]
    np.testing.assert_allclose(array.ravel(), fact["values"], rtol=1e-4, atol=tolerance)


def same_iterator(flow, facts, numbers=(0,)):
    assert (flow.n, flow.samples, len(flow)) == (facts["n"], facts["samples"], facts["length"])
    assert list(flow.filenames)[: len(facts["filenames"])] == facts["filenames"]
    assert list(flow.image_shape) == facts["image_shape"]
    if facts["class_indices"] is not None:
        assert flow.class_indices == facts["class_indices"]
    if facts["classes"] is not None:
        assert np.asarray(flow.classes, object).tolist() == facts["classes"]
    for number, batch in zip(numbers, facts["batches"], strict=True):
        same(flow[number], batch)


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


@pytest.mark.parametrize("case", DIRECTORY_CASES)
def test_directories(drawn, case):
    options = dict(DIRECTORY_CASES[case])
    flow = ImageDataAugmentor(
        validation_split=options.pop("split", 0.0)
    ).flow_from_directory(
        drawn[0] / "photos", target_size=SIZE, shuffle=False, batch_size=4, **options
    )  # fmt: skip
    facts = GOLDEN["directory"][case]
    same_iterator(flow, facts, (0, len(flow) - 1)[: len(facts["batches"])])


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


@pytest.mark.parametrize("case", DATAFRAME_CASES)
def test_dataframes(drawn, case):
    folder, photos, masks = drawn
    names = [os.path.normpath(path).split(os.sep)[1] for path in photos]
    frame = pd.DataFrame(
        {
            "filename": photos,
            "class": names,
            "both": [["10", "2"] if name == "10" else [name] for name in names],
            "mask": [str(folder / mask) for mask in masks],
            "a": np.arange(len(photos)) * 0.5,
            "b": np.arange(len(photos)),
            "weight": np.arange(len(photos)) / 4,
        }
    )
    missing = frame.iloc[:1].assign(filename="photos/missing.png")
    frame = pd.concat([frame, missing], ignore_index=True)
    split = 0.3 if "subset" in DATAFRAME_CASES[case] else 0.0
    with pytest.warns(UserWarning, match=r"photos/missing\.png"):
        flow = ImageDataAugmentor(validation_split=split).flow_from_dataframe(
            frame,
            folder,
            target_size=SIZE,
            shuffle=False,
            batch_size=4,
            **DATAFRAME_CASES[case],
        )
    same_iterator(flow, GOLDEN["dataframe"][case])


def test_arrays():
    x = np.array([pixels(number) for number in range(6)], np.uint8)
    y = np.array([0, 1, 0, 1, 0, 1])
    augmentor, facts = ImageDataAugmentor(validation_split=0.4), GOLDEN["arrays"]
    options = {"shuffle": False, "batch_size": 4}
    same(augmentor.flow(x, **options)[0], facts["x alone"])
    same(augmentor.flow(x, y, **options)[1], facts["x and y"])
    same(augmentor.flow(x, y, subset="validation", **options)[0], facts["validation"])
    same(augmentor.flow(x, y, subset="training", **options)[0], facts["training"])


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


@pytest.mark.parametrize("case", STANDARDISATION)
def test_standardisation(case):
    x = np.array([pixels(number) for number in range(6)], np.float32)
    augmentor, facts = ImageDataAugmentor(**STANDARDISATION[case]), GOLDEN["standardisation"][case]
    augmentor.fit(x)
    for statistic in ("mean", "std"):
        if facts[statistic] is None:
            assert getattr(augmentor, statistic) is None
        else:
            same(getattr(augmentor, statistic), facts[statistic], 1e-3)
    same(augmentor.standardize(x[0].copy(), None)[0], facts["standardized"], 1e-3)
    same(augmentor.flow(x, shuffle=False, batch_size=1)[1], facts["batch"], 1e-3)


def test_the_golden_facts_are_about_these_pictures():
    assert GOLDEN["classes drawn"] == CLASSES
