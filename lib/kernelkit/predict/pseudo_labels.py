"""Train on test photos too, under the label that is predicted for them, where it is sure."""

from collections.abc import Sequence

import numpy as np

from kernelkit.core.contract import read_arrays, write_arrays
from kernelkit.data.tables import PhotoTables
from kernelkit.predict.tta import predict_photos
from kernelkit.train.state import State

VIEWS = 2  # the first ones of test-time augmentation, that must agree on a test photo's label


def with_pseudo_labels(
    config, tables: PhotoTables, network, stage, state: State, views: Sequence, others: Sequence
) -> PhotoTables:
    """Return the photos, with the confidently predicted test photos for a stage that wants them.

    They are chosen once, by `network` with the best weights so far in the first two of `views` and
    by `others`, other networks' probabilities of the test photos: an interrupted stage goes on with
    the same. `stage.pseudo` is the minimum mean probability of the label; 0 is off.
    """
    if not stage.pseudo:
        return tables
    file = state.folder / f"pseudo-{state.fold}-{state.stage}.npz"
    if not file.is_file():
        state.load_best(network)
        transforms = [view.transform(*config.image_size) for view in views[:VIEWS]]
        seen = [predict_photos(config, tables, tables.test, network, each) for each in transforms]
        rows, classes = select_pseudo_labels([*seen, *others], stage.pseudo)
        write_arrays(file, {"rows": rows, "classes": classes})
    stored = read_arrays(file)
    rows, classes = stored["rows"], stored["classes"]
    print(f"{len(rows)} of {len(tables.test)} test photos train under the label predicted for them")
    return tables.with_test_photos(rows, classes)


def select_pseudo_labels(
    predictions: Sequence[np.ndarray], confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the photos, int64 positions, on which all predictions agree, and the agreed classes.

    Each is float [photos, classes]; `confidence` is the least mean probability of the class.
    """
    stack = np.stack(predictions)
    classes = stack.argmax(2)
    same = (classes == classes[0]).all(0)
    sure = stack.mean(0, dtype="float64").max(1) >= confidence
    positions = np.flatnonzero(same & sure)
    return positions, classes[0, positions]
