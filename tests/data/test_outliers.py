"""Photos that are unlike all others."""

import numpy as np

from kernelkit.data.outliers import find_outliers


def test_photos_far_from_all_others_are_found_also_in_pairs():
    rng = np.random.default_rng(0)
    features = np.float32(rng.normal(0, 0.05, (200, 300))) + np.eye(300)[rng.integers(0, 4, 200)]
    features[[20, 150]] = 3 * rng.normal(0, 1, 300)  # an odd photo and its copy
    features[90] = rng.normal(0, 1, 300)
    found = find_outliers([f"{row}.jpg" for row in range(200)], np.float32(features))
    assert {name for name, _ in found} == {"20.jpg", "150.jpg", "90.jpg"}
    assert found == sorted(found, key=lambda row: -row[1])
    assert find_outliers(list("abcdefghij"), np.float32(features[:10])) == []
