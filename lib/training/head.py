"""The head, fitted on features that the frozen backbone computes only once."""

import time
import warnings
from collections.abc import Callable, Sequence

import keras
import numpy as np
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from inference.scores import Judge, accuracy, log_loss
from photos import PhotoTables, make_iterator, predict
from training.checkpoint import epoch_row, progress_line
from training.clock import Clock
from training.costs import Stage
from training.feeding import waiting_share
from training.unlike import unlike_others

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)  # inverse, on standardised features
STEPS = 300  # of the solver, at most


def build_head(kind: str, classes: int, dropout: float, l2: float) -> keras.Sequential:
    """Return what turns the backbone's pooled features into probabilities.

    Args:
        kind: "linear": dropout and one Dense layer; "hidden": Dense 256, BatchNorm and dropout
            before it, as the reference recipe has it.
        classes: how many.
        dropout: the fraction of inputs of the last layer that are dropped in training.
        l2: penalty on the hidden layer's weights; 0 is none.

    Returns:
        A model named "head": float32 [n, features] to float32 [n, classes].
    """
    penalty = keras.regularizers.L2(l2) if l2 else None
    hidden = [
        keras.layers.Dense(256, activation="relu", kernel_regularizer=penalty),
        keras.layers.BatchNormalization(),
    ]
    last = keras.layers.Dense(classes, activation="softmax", dtype="float32")
    return keras.Sequential(
        [*(hidden if kind == "hidden" else []), keras.layers.Dropout(dropout), last], name="head"
    )


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
    print(f"stage {stage.name} begins: features of the photos and {stage.views} views", flush=True)
    clock.state.restore(network)
    flows = []
    for number in range(stage.views + 1):
        transform = augment(config) if number else None
        flows.append(make_iterator(config, tables, tables.train.drop(columns="label"), transform))
        flows[-1].epoch = number  # random views differ from each other
    flows.append(make_iterator(config, tables, tables.validation.drop(columns="label")))
    labels = [tables.positions(table) for table in (tables.train, tables.validation)]
    features = fit_on_flows(network, flows, labels, clock)
    if clock.state.unlike is None:
        Ids = [*tables.train.Id, *tables.validation.Id]
        clock.state.unlike = unlike_others(Ids, features)
        clock.state.save()
    return "the head trains on cached features"


def fit_on_flows(
    network: keras.Model,
    flows: Sequence,
    labels: Sequence[np.ndarray],
    clock: Clock,
) -> np.ndarray:
    """Fit the linear head on cached features, and count that as the one epoch of the stage.

    Args:
        network: a model with the layers "pool" and "head".
        flows: iterators over photos without labels, uint8 [n, height, width, 3]: views of the
            training photos, then the validation photos.
        labels: positions of the classes, int [n], of the training and of the validation photos.
        clock: of the job; its state stands at the stage.

    Returns:
        The features of the training photos as they are, then of the validation photos, float32
        [photos, features].

    Raises:
        OutOfTime: as `clock` says.
    """
    began, state = time.monotonic(), clock.state
    (*seen, held), waited = compute_features(network, flows, clock)
    features, positions = np.concatenate(seen), np.tile(labels[0], len(seen))
    classes = network.output_shape[-1]
    kernel, bias = best_regression(features, positions, held, labels[1], classes)
    network.get_layer("head").layers[-1].set_weights([kernel, bias])
    validate = Judge(state.metric, labels[1])
    judged = validate(softmax(held @ kernel + bias, axis=1))
    fitted = softmax(features @ kernel + bias, axis=1), positions
    logs = {"loss": log_loss(*fitted), "accuracy": accuracy(*fitted)}
    logs |= {f"val_{name}": value for name, value in judged.items()}
    seconds = time.monotonic() - began
    number, speed, right = state.stage, len(features) / seconds, validate.right
    stage, waited = clock.stages[number], waited / seconds
    row = epoch_row(state, stage, 1, logs, np.nan, seconds, speed, waited, right)
    state.history.append(row)
    state.store(network)
    state.commit(row, stage_is_over=True)
    print(progress_line(clock, number, row), flush=True)
    return np.concatenate([seen[0], held])


def compute_features(
    network: keras.Model, flows: Sequence, clock: Clock
) -> tuple[list[np.ndarray], float]:
    """Run the network up to its head over each of `flows`, with a progress bar.

    Returns:
        float32 [photos, features] for each, and the seconds in which all of them waited for photos.
    """
    model = keras.Model(network.inputs, network.get_layer("pool").output)
    found, waited = [], 0.0
    for flow in tqdm(flows, "features", leave=False, disable=None, unit="pass"):
        watch = Watch(clock, flow.batch_size)
        found.append(np.float32(predict(model, flow, [watch])))
        waited += watch.waited(flow.ready_times)
    return found, waited


def best_regression(
    features: np.ndarray,
    labels: np.ndarray,
    held: np.ndarray,
    held_labels: np.ndarray,
    classes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit logistic regressions of different strengths of regularisation; return the best.

    Args:
        features: float32 [n, features], of the training photos.
        labels: their classes' positions, int [n]; every class is among them.
        held: float32 [m, features], of the validation photos, which choose the strength by their
            log loss.
        held_labels: their classes' positions, int [m].
        classes: how many.

    Returns:
        The weights, float32 [features, classes], and the biases, float32 [classes], of a softmax.
    """
    scaler = StandardScaler().fit(features)
    scaled, best, lowest = scaler.transform(features), None, np.inf
    for strength in STRENGTHS:
        with warnings.catch_warnings():  # the last steps to convergence make no difference
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = LogisticRegression(C=strength, max_iter=STEPS).fit(scaled, labels)
        rows = fitted.coef_ if classes > 2 else np.concatenate([-fitted.coef_, fitted.coef_]) / 2
        offset = fitted.intercept_ if classes > 2 else fitted.intercept_ * [-0.5, 0.5]
        kernel = (rows / scaler.scale_).T
        bias = offset - scaler.mean_ @ kernel
        loss = log_loss(softmax(held @ kernel + bias, axis=1), held_labels)
        if loss < lowest:
            best, lowest = (np.float32(kernel), np.float32(bias)), loss
    return best
