"""Test photos train where all predictions agree and are sure."""

import numpy as np

from kernelkit.predict.tta import select_pseudo_labels
from predictions import (
    rows,
)


def test_all_must_agree_and_be_sure_on_average():
    one = rows([0.1, 0.9], [0.9, 0.1], [0.99, 0.01], [0.7, 0.3], [0.5, 0.5])
    two = rows([0.4, 0.6], [0.6, 0.4], [0.49, 0.51], [0.6, 0.4], [np.nan, np.nan])
    positions, classes = select_pseudo_labels([one, two], 0.7)
    assert positions.tolist() == [0, 1]
    assert classes.tolist() == [1, 0]
    assert positions.dtype == classes.dtype == np.int64
    assert select_pseudo_labels([one], 0.95)[0].tolist() == [2]
    assert select_pseudo_labels([rows([0.25, 0.75])], 0.75)[0].tolist() == [0]
    assert select_pseudo_labels([one, two], 0.999)[0].size == 0
