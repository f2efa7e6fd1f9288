"""What a network predicts for photos as they are, and in the views of test-time augmentation."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kernelkit.config.members import at_scale
from kernelkit.config.views import View
from kernelkit.core.boundary import doing
from kernelkit.data.batches import make_iterator
from kernelkit.predict.portfolio import Fold
from kernelkit.predict.pseudo import pseudo_labels
from kernelkit.predict.views import choose_prediction, predict_views
from kernelkit.train.sharing import predict as predict_batches

if TYPE_CHECKING:
    import keras

    from kernelkit.data.tables import PhotoTables
    from kernelkit.train.clock import Clock
    from kernelkit.train.state import State

PSEUDO_VIEWS = 2  # of the first ones, that must agree on a test photo's label


def predict(
    config,
    tables: "PhotoTables",
    network: "keras.Model",
    clock: "Clock",
    views: Sequence[View],
    build: "Callable[[object, int, Path | None], keras.Model]",
    augment: Callable,
) -> Fold:
    """Predict the validation and test photos in the views that fit into the session; choose some.

    Args:
        config: the settings that `make_iterator` takes, for the size at which `network` trained.
        tables: the photos of the fold.
        network: uint8 photos [n, h, w, 3] to probabilities [n, classes].
        clock: of the job.
        views: the first is the plain one.
        build: returns a network like `network` for settings, a number of classes and a file of
            weights.
        augment: returns the training's augmentation for settings.

    Raises:
        Problem: a probability is not a number.
    """
    doing("predicting")
    networks = {1.0: network}

    def predict_view(number: int, view: View) -> list[np.ndarray]:
        sized = at_scale(config, view.scale)
        if view.scale not in networks:
            networks[view.scale] = build(sized, network.output_shape[-1], None)
            networks[view.scale].set_weights(network.get_weights())
        transform = augment(sized) if view.trained else view.transform(*sized.image_size)
        return [
            predict_photos(sized, tables, table, networks[view.scale], transform, number)
            for table in (tables.validation, tables.test)
        ]

    return choose_prediction(tables, views, predict_views(views, clock, predict_view))


def predict_photos(
    config,
    tables: "PhotoTables",
    table: pd.DataFrame,
    network: "keras.Model",
    transform: Callable | None,
    number: int = 0,
) -> np.ndarray:
    """Return float32 probabilities [n, classes] of the photos of one of `tables`.

    The transform's random draws differ by `number`.
    """
    if table.empty:  # a folder without test photos
        return np.empty((0, network.output_shape[-1]), np.float32)
    flow = make_iterator(config, tables, table.drop(columns="label", errors="ignore"), transform)
    flow.epoch = number
    return predict_batches(network, flow)


def with_pseudo_labels(
    config,
    tables: "PhotoTables",
    network: "keras.Model",
    stage,
    state: "State",
    views: Sequence[View],
    others: Sequence[np.ndarray],
) -> "PhotoTables":
    """Return the photos, and for a stage that asks for it the test photos that are sure enough.

    A line is printed of how many these are. They are chosen once: an interrupted stage goes on with
    the same.

    Args:
        config: the settings that `make_iterator` takes, of the stage.
        tables: the photos of the fold.
        network: gets the best weights so far where a choice is made.
        stage: has pseudo, what the mean probability of the label must reach; 0 is off.
        state: stands at the stage.
        views: the network predicts the test photos in the first two.
        others: what other networks say of the test photos, each float [photos, classes].

    Raises:
        OSError: the file of the choice can't be written or read.
    """
    if not stage.pseudo:
        return tables

    def predict_test() -> list[np.ndarray]:
        state.load_best(network)
        transforms = [view.transform(*config.image_size) for view in views[:PSEUDO_VIEWS]]
        seen = [predict_photos(config, tables, tables.test, network, each) for each in transforms]
        return [*seen, *others]

    file = state.folder / f"pseudo-{state.fold}-{state.stage}.npz"
    rows, classes = pseudo_labels(file, predict_test, stage.pseudo)
    print(f"{len(rows)} of {len(tables.test)} test photos train under the label predicted for them")
    return tables.with_test_photos(rows, classes)
