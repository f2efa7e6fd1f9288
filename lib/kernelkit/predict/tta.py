"""Predict photos in several views: average those that help, and label test photos by them."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from kernelkit.config.members import at_scale
from kernelkit.config.views import View
from kernelkit.core.boundary import doing
from kernelkit.core.contract import Fold, read_arrays, write_arrays
from kernelkit.core.metrics import METRICS, Metric, accuracy, metric_named
from kernelkit.core.problem import Problem
from kernelkit.data.batches import make_iterator
from kernelkit.data.tables import PhotoTables
from kernelkit.train.devices import predict_batches
from kernelkit.train.plan import Clock
from kernelkit.train.presets import resize_network
from kernelkit.train.state import State

VIEWS = 2  # the first ones of test-time augmentation, that must agree on a test photo's label


def predict(
    config, tables: PhotoTables, network, clock: Clock, views: Sequence[View], augment: Callable
) -> Fold:
    """Predict the validation and test photos in the views that fit into the session; choose some.

    `config` is for the size at which `network` trained, which takes uint8 photos [n, h, w, 3] to
    probabilities [n, classes]. The first of `views` is the plain one, and `augment` returns the
    training's augmentation. Raises Problem if a probability is not a number.
    """
    doing("predicting")
    sized = SizedNetwork(config, network, augment)

    def predict_view(number: int, view: View) -> list[np.ndarray]:
        return [sized.predict(tables, t, view, number) for t in (tables.validation, tables.test)]

    return choose_prediction(tables, views, predict_views(views, clock, predict_view))


class SizedNetwork:
    """A network, the settings for its size, and copies of it for the sizes of other views."""

    def __init__(self, config, network: keras.Model, augment: Callable):
        self.config, self.augment, self.networks = config, augment, {1.0: network}

    def predict(self, tables, table: pd.DataFrame, view: View, number: int, callbacks=()):
        """Return float32 probabilities [n, classes] of photos in a view: see `predict_photos`."""
        sized = at_scale(self.config, view.scale)
        if view.scale not in self.networks:
            self.networks[view.scale] = resize_network(self.networks[1.0], sized.image_size)
        transform = self.augment(sized) if view.trained else view.transform(*sized.image_size)
        network = self.networks[view.scale]
        return predict_photos(sized, tables, table, network, transform, number, callbacks)


def predict_photos(
    config, tables, table: pd.DataFrame, network, transform, number=0, callbacks: Sequence = ()
) -> np.ndarray:
    """Return float32 probabilities [n, classes] of the photos of one of `tables`.

    The transform's random draws differ by `number` and by a photo's place in the order of the
    files' names, so that the same photos get the same in any table. Where a callback stops the
    prediction, the probabilities are those of the first photos in that order.
    """
    if table.empty:  # a folder without test photos
        return np.empty((0, network.output_shape[-1]), np.float32)
    order = order_of(table)
    table = table.iloc[order].drop(columns="label", errors="ignore")
    flow = make_iterator(config, tables, table, transform)
    flow.epoch = number
    found = predict_batches(network, flow, callbacks)
    return found[np.argsort(order)] if len(found) == len(order) else found


def order_of(table: pd.DataFrame) -> np.ndarray:
    """Return the positions of the photos by their files' names, int [n]; `table` has their path."""
    paths = [Path(path) for path in table["path"]]
    return np.asarray(sorted(range(len(paths)), key=lambda n: (paths[n].name, paths[n])), int)


def predict_views(
    views: Sequence[View], clock: Clock, predict: Callable[[int, View], list[np.ndarray]]
) -> list[list[np.ndarray]]:
    """Return what `predict` does for each view that fits into the session, with a progress bar.

    It returns the probabilities of the validation and of the test photos, float32 [photos, classes]
    each, in the view of a number; the first view is predicted in any case.
    """
    passes = []
    for number, view in enumerate(tqdm(views, "predicting", unit="pass", disable=None)):
        if number and not clock.pass_fits(view.scale**2):
            print(f"Time is up: {number} of {len(views)} prediction passes were made.")
            clock.state.run_out_of_time()
            break
        began = time.monotonic()
        passes.append(predict(number, view))
        images = sum(map(len, passes[-1])) * view.scale**2
        clock.note_prediction(images, time.monotonic() - began)
    return passes


def choose_prediction(
    tables: PhotoTables, views: Sequence[View], passes: Sequence[list[np.ndarray]]
) -> Fold:
    """Return the mean of the views that `choose_views` takes, of what `predict_views` returned.

    Views through the training's augmentation are averaged without the plain one, as the reference
    recipe does; where their mean has a worse score, the plain view alone is used. Raises Problem if
    a probability is not a number.
    """
    if not all(np.isfinite(array).all() for arrays in passes for array in arrays):
        raise Problem("The network predicts NaN, so there is no submission: try lower rates.")
    truth, held_out = tables.positions(tables.validation), [arrays[0] for arrays in passes]
    trained = [number for number in range(len(passes)) if views[number].trained]
    metric = metric_named(tables.competition.layout.metric)
    chosen = trained or choose_views(held_out, truth, metric)
    validation, test = (
        np.mean([passes[number][part] for number in chosen], axis=0, dtype=np.float64)
        for part in (0, 1)
    )
    accuracies = [accuracy(each, truth) for each in (held_out[0], validation)]
    score, score_tta = (metric.score(each, truth) for each in (held_out[0], validation))
    averaged = validation
    if trained and metric.sign * (score_tta - score) < 0:
        chosen, (validation, test) = [0], passes[0]
    used = "the plain prediction is used"
    if chosen != [0]:
        used = f"used are {'; '.join(views[number].name for number in chosen)}"
    gain, error = metric.gain(held_out[0], averaged, truth)
    gained = f"{score_tta:.4f} (a gain of {gain:+.4f} ± {error:.4f})"
    print(f"validation {metric.name} {score:.4f}, with TTA {gained}: {used}", flush=True)
    return Fold(
        fold=tables.fold,
        validation=np.asarray(validation, np.float32),
        validation_plain=np.asarray(held_out[0], np.float32),
        validation_ids=tables.validation.Id.to_numpy(str),
        validation_positions=truth,
        test=np.asarray(test, np.float32),
        accuracy=accuracies[0],
        accuracy_tta=accuracies[1],
        views=[views[number].name for number in chosen],
    )


def choose_views(
    passes: Sequence[np.ndarray], truth: np.ndarray, metric: Metric = METRICS["accuracy"]
) -> list[int]:
    """Return the positions of the views that are averaged, ascending; the first is always 0.

    The mean with each view, in the given order, is compared with that without it on the validation
    photos, by the log loss (unless only the order of the photos counts) and by the metric. A view
    is left out where either is worse by more than one standard error, paired by photo, or where it
    changes nothing: a few hundred photos are too few to keep only views with a lower loss
    (tests/benchmarks/choices.md). `passes` are float [photos, classes], one a view, the plain one
    first. Raises ValueError if a probability is not finite.
    """
    criteria = [metric, METRICS["log-loss"]] if metric.by_loss else [metric]
    kept, without = [0], np.float64(passes[0])
    for position in range(1, len(passes)):
        mean = np.mean([passes[view] for view in (*kept, position)], axis=0, dtype="float64")
        gains = [criterion.gain(without, mean, truth) for criterion in criteria]
        if all(gain >= -error for gain, error in gains) and any(map(any, gains)):
            kept.append(position)
            without = mean
    return kept


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
