"""The head, fitted on features that the frozen backbone computes only once."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy

import keras
import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from kernelkit.core.metrics import ValidationMetrics, accuracy, log_loss
from kernelkit.data.batches import make_iterator
from kernelkit.data.outliers import unlike_others
from kernelkit.data.tables import PhotoTables
from kernelkit.train.callbacks import epoch_row, progress_line
from kernelkit.train.clock import Clock, OutOfTime
from kernelkit.train.costs import Stage
from kernelkit.train.feeding import waiting_share
from kernelkit.train.sharing import predict

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)  # inverse, on standardised features
STEPS = 300  # of the solver, at most
HIDDEN = 256  # units of the hidden layer
EPSILON = 1e-3  # that its BatchNorm adds to a variance
PENALTY = 1.0  # L2, on its features' standardised scale
PASSES, PATIENCE = 50, 5  # over the features: at most, and without a lower loss
FITTING = 0.2  # share of the time that is left for the fit itself, where time is short
AT_ONCE = 4096  # rows of features that the head takes at a time


def build_head(config, classes: int) -> keras.Sequential:
    """Return what turns the backbone's pooled features into probabilities.

    Args:
        config: settings: head, "linear" (dropout and one Dense layer) or "hidden" (Dense 256,
            BatchNorm and dropout before it, as the reference recipe has it); dropout, the fraction
            of inputs of the last layer that are dropped in training; l2, the penalty on the hidden
            layer's weights, 0 is none; norm_momentum, of the hidden layer's BatchNorm.
        classes: how many.

    Returns:
        A model named "head": float32 [n, features] to float32 [n, classes].
    """
    penalty = keras.regularizers.L2(config.l2) if config.l2 else None
    hidden = [
        keras.layers.Dense(HIDDEN, activation="relu", kernel_regularizer=penalty),
        keras.layers.BatchNormalization(momentum=config.norm_momentum, epsilon=EPSILON),
    ]
    last = keras.layers.Dense(classes, activation="softmax", dtype="float32")
    layers = [*(hidden if config.head == "hidden" else []), keras.layers.Dropout(config.dropout)]
    return keras.Sequential([*layers, last], name="head")


class Watch(keras.callbacks.Callback):
    """Stops a pass over the photos where the session's end comes too near; times its waiting."""

    def __init__(self, clock: Clock, batch_size: int):
        super().__init__()
        self.clock, self.batch_size, self.asked = clock, batch_size, []

    def on_predict_begin(self, logs=None):  # noqa: D102
        self.began = time.monotonic()

    def on_predict_batch_begin(self, batch, logs=None):  # noqa: D102
        self.asked.append(time.monotonic())

    def on_predict_batch_end(self, batch, logs=None):  # noqa: D102
        photos = (batch + 1) * self.batch_size
        self.took = time.monotonic() - self.began
        self.clock.check_batch(photos / self.took)

    def waited(self, ready: Sequence[float]) -> float:
        """Return the seconds in which the pass waited for batches that were ready then."""
        return self.took * waiting_share(self.asked, ready, self.took)


def fit_head(
    config, tables: PhotoTables, network: keras.Model, stage: Stage, clock: Clock, augment: Callable
) -> str:
    """Fit the head on features of the photos and of augmented views; return what trained.

    Args:
        config: the settings that `photos.make_iterator` takes.
        tables: the photos of the fold.
        network: a model with the layers "pool" and "head".
        stage: at which the clock's state stands.
        clock: of the job.
        augment: returns the training's augmentation for settings.

    Raises:
        OutOfTime: as `clock` says.
        Problem: a file that the state names is missing or damaged.
    """
    clock.state.restore(network)
    model = keras.Model(network.inputs, network.get_layer("pool").output)
    train, views = what_fits(config, tables, model, stage, clock)
    what = f"features of {len(train)} photos and {views} view{'s' * (views != 1)}"
    print(f"{clock.name(stage)} begins: {what}", flush=True)
    transforms = [augment(config) if number else None for number in range(views + 1)]
    flows = [features_flow(config, tables, train, number, t) for number, t in enumerate(transforms)]
    flows.insert(1, features_flow(config, tables, tables.validation))
    labels = [tables.positions(table) for table in (train, tables.validation)]
    features = fit_on_flows(network, flows, labels, clock)
    if clock.state.unlike is None and len(train) == len(tables.train):
        Ids = [*train.Id, *tables.validation.Id]
        clock.state.unlike = unlike_others(Ids, features)
        clock.state.save()
    return "the head trains on cached features"


def features_flow(
    config,
    tables: PhotoTables,
    table: pd.DataFrame,
    number: int = 0,
    transform: Callable | None = None,
):
    """Return an iterator over the photos of one of `tables` without labels, in a view of them."""
    flow = make_iterator(config, tables, table.drop(columns="label"), transform)
    flow.epoch = number  # random views differ from each other
    return flow


def what_fits(
    config, tables: PhotoTables, model: keras.Model, stage: Stage, clock: Clock
) -> tuple[pd.DataFrame, int]:
    """Return the training photos and the number of augmented views for which there is time.

    Where time is short, first the views are left out, and then photos, of each class alike.

    Args:
        config: the settings that `make_iterator` takes.
        tables: the photos of the fold.
        model: returns the features.
        stage: at which the clock's state stands.
        clock: of the job.

    Raises:
        OutOfTime: there is no time for two photos of each class.
    """
    photos, views, limited = tables.train, stage.views, math.isfinite(clock.end)
    if not limited:
        return photos, views
    few = photos.iloc[: 2 * config.batch_size]
    for _ in range(2):  # the first pass builds the model and decodes the photos
        began = time.monotonic()
        predict(model, features_flow(config, tables, few))
    rate = len(few) / (time.monotonic() - began)
    free = clock.left() - clock.predict_seconds(1, rate * stage.scale**2)
    affordable = (1 - FITTING) * free * rate - len(tables.validation)
    fitting = min(stage.views, int(affordable // len(photos)) - 1)
    if fitting == stage.views:
        return photos, views
    clock.state.run_out_of_time()
    if fitting >= 0:
        print(f"{fitting} of {views} views: no more fit into the session.")
        return photos, fitting
    each = int(affordable / photos.label.nunique())
    if each < 2:
        raise OutOfTime
    some = photos.groupby("label").head(each).reset_index(drop=True)
    print(f"{len(some)} of {len(photos)} photos fit the head: no more fit into the session.")
    return some, 0


def fit_on_flows(
    network: keras.Model,
    flows: Sequence,
    labels: Sequence[np.ndarray],
    clock: Clock,
) -> np.ndarray:
    """Fit the head on cached features, and count that as the one epoch of the stage.

    Args:
        network: a model with the layers "pool" and "head".
        flows: iterators over photos without labels, uint8 [n, height, width, 3]: the training
            photos, the validation photos, then augmented views of the training photos.
        labels: positions of the classes, int [n], of the training and of the validation photos.
        clock: of the job; its state stands at the stage.

    Returns:
        The features of the training photos as they are, then of the validation photos, float32
        [photos, features].

    Raises:
        OutOfTime: as `clock` says.
    """
    began, state = time.monotonic(), clock.state
    (plain, held, *others), waited = compute_features(network, flows, clock)
    seen = [plain, *others]
    features, positions = np.concatenate(seen), np.tile(labels[0], len(seen))
    head = network.get_layer("head")
    layers = [layer for layer in head.layers if layer.weights]
    fit = best_regression if len(layers) == 1 else best_network
    weights = fit(features, positions, held, labels[1])
    for layer, own in zip(layers, weights, strict=True):
        layer.set_weights(own)
    validate = ValidationMetrics(state.metric, labels[1])
    judged = validate(what_it_says(head, held))
    fitted = what_it_says(head, features), positions
    logs = {"loss": log_loss(*fitted), "accuracy": accuracy(*fitted)}
    logs |= {f"val_{name}": value for name, value in judged.items()}
    seconds = time.monotonic() - began
    number, speed, right = state.stage, len(features) / seconds, validate.right
    stage, waited = clock.stages[number], waited / seconds
    row = epoch_row(state, stage, 1, logs, np.nan, seconds, speed, waited, right)
    state.history.append(row)
    state.store(network)
    state.commit(row, stage_is_over=True)
    state.remove_features()
    print(progress_line(clock, number, row), flush=True)
    return np.concatenate([plain, held])


def compute_features(
    network: keras.Model, flows: Sequence, clock: Clock
) -> tuple[list[np.ndarray], float]:
    """Run the network up to its head over each of `flows`, with a progress bar.

    Features that an earlier session has kept are taken from its state. Where time is up after the
    first two flows, the others are left out.

    Returns:
        float32 [photos, features] for each, and the seconds in which all of them waited for photos.

    Raises:
        OutOfTime: there is no time for the first two.
    """
    model = keras.Model(network.inputs, network.get_layer("pool").output)
    found, waited = [], 0.0
    for number, flow in enumerate(tqdm(flows, "features", leave=False, disable=None, unit="pass")):
        features = clock.state.kept_features(number, flow.n)
        if features is None:
            watch = Watch(clock, flow.batch_size)
            try:
                features = np.float32(predict(model, flow, [watch]))
            except OutOfTime:
                if number < 2:
                    raise
                clock.state.run_out_of_time()
                print(f"Time is up: {number - 2} of {len(flows) - 2} views fit the head.")
                break
            waited += watch.waited(flow.ready_times)
            clock.state.keep_features(number, features)
        found.append(features)
    return found, waited


def what_it_says(head: keras.Model, features: np.ndarray) -> np.ndarray:
    """Return the head's probabilities, in parts that need little of a device's memory."""
    parts = np.array_split(features, math.ceil(len(features) / AT_ONCE))
    return np.concatenate([keras.ops.convert_to_numpy(head(part)) for part in parts])


def best_regression(
    features: np.ndarray, labels: np.ndarray, held: np.ndarray, held_labels: np.ndarray
) -> list[list[np.ndarray]]:
    """Fit logistic regressions of different strengths of regularisation; return the best.

    Args:
        features: float32 [n, features], of the training photos.
        labels: their classes' positions, int [n]; every class is among them.
        held: float32 [m, features], of the validation photos, which choose the strength by their
            log loss.
        held_labels: their classes' positions, int [m].

    Returns:
        Of the one layer the weights, float32 [features, classes], and the biases, float32
        [classes], before a softmax.
    """
    scaler = StandardScaler().fit(features)
    scaled, scaled_held = map(scaler.transform, (features, held))
    best, lowest = None, np.inf
    for strength in STRENGTHS:
        with warnings.catch_warnings():  # the last steps to convergence make no difference
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = LogisticRegression(C=strength, max_iter=STEPS).fit(scaled, labels)
        loss = log_loss(fitted.predict_proba(scaled_held), held_labels)
        if loss < lowest:
            best, lowest = fitted, loss
    return [on_features(scaler, *as_softmax(best.coef_.T, best.intercept_))]


def best_network(
    features: np.ndarray, labels: np.ndarray, held: np.ndarray, held_labels: np.ndarray
) -> list[list[np.ndarray]]:
    """Fit a hidden layer and a softmax for as long as the validation photos' log loss falls.

    It takes what `best_regression` takes.

    Returns:
        The weights of the three layers of a hidden head that have any. Its BatchNorm has the
        statistics of these features, and the layer after it undoes what it does to them.
    """
    scaler = StandardScaler().fit(features)
    scaled, scaled_held = map(scaler.transform, (features, held))
    network = MLPClassifier((HIDDEN,), alpha=PENALTY, random_state=0)
    best, lowest, since = None, np.inf, 0
    for _ in range(PASSES):
        network.partial_fit(scaled, labels, classes=np.unique(labels))
        loss = log_loss(network.predict_proba(scaled_held), held_labels)
        since += 1
        if loss < lowest:
            best, lowest, since = deepcopy((network.coefs_, network.intercepts_)), loss, 0
        if since == PATIENCE:
            break
    (kernel, last), (bias, last_bias) = best
    kernel, bias = on_features(scaler, kernel, bias)
    last, last_bias = as_softmax(last, last_bias)
    active = np.maximum(features @ kernel + bias, 0)
    mean, variance = active.mean(0), active.var(0)
    spread = np.sqrt(variance + EPSILON)
    norm = [np.ones(HIDDEN), np.zeros(HIDDEN), mean, variance]
    return [[kernel, bias], norm, [last * spread[:, None], last_bias + mean @ last]]


def on_features(scaler: StandardScaler, kernel: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
    """Return the float32 weights that do with features what these do with standardised ones."""
    kernel = kernel / scaler.scale_[:, None]
    return [np.float32(kernel), np.float32(bias - scaler.mean_ @ kernel)]


def as_softmax(kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a softmax of the same probabilities; scikit-learn has one unit for two classes."""
    return (kernel, bias) if len(bias) > 1 else (kernel * [-0.5, 0.5], bias * [-0.5, 0.5])
