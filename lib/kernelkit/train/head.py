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
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from kernelkit.core.metrics import ValidationMetrics, accuracy, log_loss
from kernelkit.data.batches import make_iterator
from kernelkit.data.outliers import find_outliers
from kernelkit.data.tables import PhotoTables
from kernelkit.train.callbacks import finish_epoch, waiting_share
from kernelkit.train.costs import Stage
from kernelkit.train.devices import predict_batches
from kernelkit.train.plan import Clock, OutOfTime

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)  # inverse, on standardised features
STEPS = 300  # of the solver, at most
HIDDEN = 256  # units of the hidden layer
EPSILON = 1e-3  # that its BatchNorm adds to a variance
PENALTY = 1.0  # L2, on its features' standardised scale
PASSES, PATIENCE = 50, 5  # over the features: at most, and without a lower loss
FITTING = 0.2  # share of the time that is left for the fit itself, where time is short
AT_ONCE = 4096  # rows of features that the head takes at a time
ONE_THREAD = 1 << 24  # features up to which more threads mostly wait for each other


def build_head(config, classes: int) -> keras.Sequential:
    """Return a model named "head": float32 features [n, width] to probabilities [n, classes].

    `config.head` is "linear" (dropout and one Dense layer) or "hidden" (Dense 256 and BatchNorm
    before them); its dropout, l2 (of the hidden layer) and norm_momentum count too.
    """
    penalty = keras.regularizers.L2(config.l2) if config.l2 else None
    hidden = [
        keras.layers.Dense(HIDDEN, activation="relu", kernel_regularizer=penalty),
        keras.layers.BatchNormalization(momentum=config.norm_momentum, epsilon=EPSILON),
    ]
    last = keras.layers.Dense(classes, activation="softmax", dtype="float32")
    layers = [*(hidden if config.head == "hidden" else []), keras.layers.Dropout(config.dropout)]
    return keras.Sequential([*layers, last], name="head")


def fit_head(
    config, tables: PhotoTables, network: keras.Model, stage: Stage, clock: Clock, augment: Callable
) -> str:
    """Fit the head on features of the photos and of augmented views; return a text of what trained.

    `network` has the layers "pool" and "head", and `augment` returns the training's augmentation
    for settings. Raises OutOfTime if the session's end comes too near.
    """
    state = clock.state
    state.restore(network)
    train, views = _photos_and_views(config, tables, network, stage, clock)
    count = f"{len(train)} photos and {views} view{'s' * (views != 1)}"
    print(f"{clock.name(stage)} begins: features of {count}", flush=True)
    transforms = [None, *(augment(config) for _ in range(views))]
    flows = [_photo_flow(config, tables, train, number, t) for number, t in enumerate(transforms)]
    flows.insert(1, _photo_flow(config, tables, tables.validation))
    labels = [tables.positions(table) for table in (train, tables.validation)]
    features = fit_on_flows(network, flows, labels, clock)
    if state.outliers is None and len(train) == len(tables.train):
        state.outliers = find_outliers([*train.Id, *tables.validation.Id], features)
        state.save()
    return "the head trains on cached features"


def _photo_flow(config, tables, table, number=0, transform=None):
    """Return an iterator over the photos of a table without labels, in the view of this number."""
    flow = make_iterator(config, tables, table.drop(columns="label"), transform)
    flow.epoch = number  # random views differ from each other
    return flow


def _photos_and_views(
    config, tables: PhotoTables, network: keras.Model, stage: Stage, clock: Clock
) -> tuple[pd.DataFrame, int]:
    """Return the training photos and the number of augmented views for which there is time."""
    # Where time is short, first the views are left out, and then photos, of each class alike.
    photos, views = tables.train, stage.views
    if math.isinf(clock.left()):
        return photos, views
    model = keras.Model(network.inputs, network.get_layer("pool").output)
    few = photos.iloc[: 2 * config.batch_size]
    for _ in range(2):  # the first pass builds the model and decodes the photos
        began = time.monotonic()
        predict_batches(model, _photo_flow(config, tables, few))
    rate = len(few) / (time.monotonic() - began)
    free = clock.left() - clock.predict_seconds(1, rate * stage.scale**2)
    affordable = (1 - FITTING) * free * rate - len(tables.validation)
    fitting = min(views, int(affordable // len(photos)) - 1)
    if fitting == views:
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
    network: keras.Model, flows: Sequence, labels: Sequence[np.ndarray], clock: Clock
) -> np.ndarray:
    """Fit the head on cached features, and count that as the one epoch of the stage.

    `flows` are iterators over photos without labels, uint8 [n, height, width, 3]: the training
    photos, the validation photos, then augmented views of the training photos. `labels` are the
    positions of the classes, int [n], of the first two. Returns the features of the training photos
    as they are, then of the validation photos, float32 [photos, features]. Raises OutOfTime if
    there is no time for the first two flows.
    """
    began, state = time.monotonic(), clock.state
    (plain, held, *others), waited = _compute_features(network, flows, clock)
    features, positions = np.concatenate([plain, *others]), np.tile(labels[0], 1 + len(others))
    head = network.get_layer("head")
    fit_on_features(head, features, positions, held, labels[1])
    measure = ValidationMetrics(state.metric, labels[1])
    own = _predict_head(head, features), positions
    logs = {f"val_{name}": value for name, value in measure(_predict_head(head, held)).items()}
    logs |= {"loss": log_loss(*own), "accuracy": accuracy(*own)}
    seconds = time.monotonic() - began
    finish_epoch(
        *(clock, 1, logs, network),
        error=logs["val_error"],
        head_only=True,
        stage_over=True,
        learning_rate=np.nan,
        seconds=seconds,
        images_per_second=len(features) / seconds,
        input_bound=waited / seconds,
        right=measure.right,
    )
    state.remove_features()
    return np.concatenate([plain, held])


def fit_on_features(
    head, features: np.ndarray, labels: np.ndarray, held: np.ndarray, held_labels: np.ndarray
) -> None:
    """Fit a head of `build_head`; the other arguments are those of `best_regression`."""
    layers = [layer for layer in head.layers if layer.weights]
    fit = best_regression if len(layers) == 1 else best_network
    with few_threads(features):
        fitted = fit(features, labels, held, held_labels)
    for layer, weights in zip(layers, fitted, strict=True):
        layer.set_weights(weights)


def few_threads(features: np.ndarray) -> threadpool_limits:
    """Return the context in which a fit on so many features takes no more threads than help."""
    return threadpool_limits(1 if features.size <= ONE_THREAD else None, "blas")


class PredictionTimer(keras.callbacks.Callback):
    """Stops a pass over the photos where the session's end comes too near; times its waiting."""

    def __init__(self, clock: Clock, batch_size: int):
        super().__init__()
        self.clock, self.batch_size, self.asked = clock, batch_size, []

    def on_predict_begin(self, logs=None):  # noqa: D102
        self.began = time.monotonic()

    def on_predict_batch_begin(self, batch, logs=None):  # noqa: D102
        self.asked.append(time.monotonic())

    def on_predict_batch_end(self, batch, logs=None):  # noqa: D102
        self.took = time.monotonic() - self.began
        self.clock.check_batch((batch + 1) * self.batch_size / self.took)


def _compute_features(
    network: keras.Model, flows: Sequence, clock: Clock
) -> tuple[list[np.ndarray], float]:
    """Return the pooled features of each of `flows`, and the seconds that they waited for photos.

    Features that an earlier session has kept are taken from its state. Where time is up after the
    first two flows, the others are left out.
    """
    model = keras.Model(network.inputs, network.get_layer("pool").output)
    found, waited = [], 0.0
    for number, flow in enumerate(tqdm(flows, "features", leave=False, disable=None, unit="pass")):
        features = clock.state.kept_features(number, flow.n)
        if features is None:
            timer = PredictionTimer(clock, flow.batch_size)
            try:
                features = np.float32(predict_batches(model, flow, [timer]))
            except OutOfTime:
                if number < 2:
                    raise
                clock.state.run_out_of_time()
                print(f"Time is up: {number - 2} of {len(flows) - 2} views fit the head.")
                break
            waited += timer.took * waiting_share(timer.asked, flow.ready_times, timer.took)
            clock.state.keep_features(number, features)
        found.append(features)
    return found, waited


def _predict_head(head: keras.Model, features: np.ndarray) -> np.ndarray:
    """Return the head's probabilities, in parts that need little of a device's memory."""
    parts = np.array_split(features, math.ceil(len(features) / AT_ONCE))
    return np.concatenate([keras.ops.convert_to_numpy(head(part)) for part in parts])


def best_regression(
    features: np.ndarray, labels: np.ndarray, held: np.ndarray, held_labels: np.ndarray
) -> list[list[np.ndarray]]:
    """Fit logistic regressions of different strengths of regularisation; return the best's layers.

    `features`, float32 [n, width], and `labels`, int [n] and of every class, are the training
    photos'; `held` and `held_labels` are the validation photos', whose log loss chooses. Returns
    the weights, float32 [width, classes], and the biases of the one layer before a softmax.
    """
    scaler = StandardScaler().fit(features)
    scaled, scaled_held = map(scaler.transform, (features, held))
    best, lowest = None, np.inf
    for strength in STRENGTHS:
        fitted = fit_regression(scaled, labels, strength)
        loss = log_loss(fitted.predict_proba(scaled_held), held_labels)
        if loss < lowest:
            best, lowest = fitted, loss
    return [_on_raw_features(scaler, *_as_softmax(best.coef_.T, best.intercept_))]


def fit_regression(scaled: np.ndarray, labels: np.ndarray, strength: float) -> LogisticRegression:
    """Return a logistic regression of standardised features [n, width] on labels, int [n]."""
    with warnings.catch_warnings():  # the last steps to convergence make no difference
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=STEPS).fit(scaled, labels)


def best_network(
    features: np.ndarray, labels: np.ndarray, held: np.ndarray, held_labels: np.ndarray
) -> list[list[np.ndarray]]:
    """Fit a hidden layer and a softmax for as long as the validation photos' log loss falls.

    It takes and returns the same as `best_regression`, for the three layers that have weights. Its
    BatchNorm has the statistics of these features, and the last layer undoes its effect on them.
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
    kernel, bias = _on_raw_features(scaler, kernel, bias)
    last, last_bias = _as_softmax(last, last_bias)
    active = np.maximum(features @ kernel + bias, 0)
    mean, variance = active.mean(0), active.var(0)
    spread = np.sqrt(variance + EPSILON)
    norm = [np.ones(HIDDEN), np.zeros(HIDDEN), mean, variance]
    return [[kernel, bias], norm, [last * spread[:, None], last_bias + mean @ last]]


def _on_raw_features(scaler: StandardScaler, kernel, bias) -> list[np.ndarray]:
    """Return float32 weights for raw features, given those for standardised ones."""
    kernel = kernel / scaler.scale_[:, None]
    return [np.float32(kernel), np.float32(bias - scaler.mean_ @ kernel)]


def _as_softmax(kernel, bias) -> tuple[np.ndarray, np.ndarray]:
    """Return a softmax of the same probabilities; scikit-learn has one unit for two classes."""
    return (kernel, bias) if len(bias) > 1 else (kernel * [-0.5, 0.5], bias * [-0.5, 0.5])
