"""Files and arrays give what the original library gave; see golden/record_original.py."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from golden.pictures import (
    CLASSES,
    DATAFRAME_CASES,
    DIRECTORY_CASES,
    SIZE,
    STANDARDISATION,
    draw,
    pixels,
    table,
)
from ImageDataAugmentor import ImageDataAugmentor

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


@pytest.mark.parametrize("case", DATAFRAME_CASES)
def test_dataframes(drawn, case):
    folder, photos, masks = drawn
    frame = pd.DataFrame(table(folder, photos, masks))
    split = 0.3 if "subset" in DATAFRAME_CASES[case] else 0.0
    with pytest.warns(UserWarning, match=r"photos/missing\.png|labels are not in `classes`"):
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


# The original's `fit` took these cases' statistics of the values that it was given, but subtracted
# them from values that were scaled before. Ours takes them of the scaled ones.
OTHER_STATISTICS = {"all"}


@pytest.mark.parametrize("case", STANDARDISATION)
def test_standardisation(case):
    x = np.array([pixels(number) for number in range(6)], np.float32)
    augmentor, facts = ImageDataAugmentor(**STANDARDISATION[case]), GOLDEN["standardisation"][case]
    augmentor.fit(x)
    for statistic in ("mean", "std"):
        if facts[statistic] is None:
            assert getattr(augmentor, statistic) is None
        elif case in OTHER_STATISTICS:
            recorded = np.reshape(facts[statistic]["values"], facts[statistic]["shape"])
            assert abs(getattr(augmentor, statistic) - recorded).min() > 50
            setattr(augmentor, statistic, recorded)
        else:
            same(getattr(augmentor, statistic), facts[statistic], 1e-3)
    same(augmentor.standardize(x[0].copy(), None)[0], facts["standardized"], 1e-3)
    same(augmentor.flow(x, shuffle=False, batch_size=1)[1], facts["batch"], 1e-3)


def test_the_golden_facts_are_about_these_pictures():
    assert GOLDEN["classes drawn"] == CLASSES
