"""What a scout asks of a network: features of the frozen backbone, and a short fine-tuning.

Both are orders to the process of `kernelkit.train.preflight_worker`, so that a candidate that takes
all memory, or aborts, ends that process alone.
"""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
from sklearn.preprocessing import StandardScaler

from kernelkit.config.views import View
from kernelkit.core.metrics import log_loss
from kernelkit.data.batches import make_iterator
from kernelkit.data.tables import PhotoTables
from kernelkit.train.devices import predict_batches, shared_batch
from kernelkit.train.head import STRENGTHS, few_threads, fit_on_features, fit_regression
from kernelkit.train.optimizer import WarmCosine
from kernelkit.train.preflight_worker import (
    StepFactory,
    Stopwatch,
    WrongNumbers,
    begin,
    peak_bytes,
    train_briefly,
)
from kernelkit.train.step_mode import StepMode

VIEWS = View("plain"), View("flipped", flip=True)


def labelled(tables: PhotoTables) -> pd.DataFrame:
    """Return all photos that have a label: those that train, then those that validate."""
    return pd.concat([tables.train, tables.validation], ignore_index=True)


@dataclass(frozen=True)
class Features:
    """An order: the features of all labelled photos, plain and flipped."""

    mode: StepMode
    config: object  # the candidate's settings

    def take(self, tables: PhotoTables, factory: StepFactory) -> dict:
        """Return features, float16 [views, photos, width]; predict, photos a second; peak_bytes."""
        config, passes = self.config, []
        with begin(self.mode, config.seed).scope():
            network = factory.build(
                config, len(tables.competition.classes), factory.weights(config)
            )
            model = keras.Model(network.inputs, network.get_layer("pool").output)
            for view in VIEWS:
                photos = labelled(tables).drop(columns="label")
                flow = make_iterator(config, tables, photos, view.transform(*config.image_size))
                began = time.monotonic()  # the last pass finds the photos decoded
                passes.append(predict_batches(model, flow).astype(np.float16))
                seconds = time.monotonic() - began
        if not np.isfinite(passes).all():
            raise WrongNumbers("a feature is not finite")
        speed = flow.n / seconds
        return {"features": np.stack(passes), "predict": speed, "peak_bytes": peak_bytes()}


@dataclass(frozen=True)
class ShortRun:
    """An order: the head on cached features, then a few epochs with all of the backbone open."""

    mode: StepMode
    config: object  # the candidate's settings
    stage: object  # of its schedule, with so few epochs, two or more
    rows: np.ndarray  # positions of the training photos that train, int [n]
    features: np.ndarray  # of these, then of the validation photos, float16 [views, photos, width]

    def take(self, tables: PhotoTables, factory: StepFactory) -> dict:
        """Return tuned, probabilities of the validation photos; images_per_second; peak_bytes."""
        stage, count = self.stage, len(self.rows)
        tables = dataclasses.replace(
            tables, train=tables.train.iloc[self.rows].reset_index(drop=True)
        )
        with begin(self.mode, self.config.seed).scope():
            config = dataclasses.replace(
                self.config, batch_size=shared_batch(self.config.batch_size)
            )
            network = factory.build(
                config, len(tables.competition.classes), factory.weights(config)
            )
            labels, held_labels = map(tables.positions, (tables.train, tables.validation))
            features = np.concatenate(self.features[:, :count]).astype(np.float32)
            held = self.features[0, count:].astype(np.float32)
            labels = np.tile(labels, len(self.features))
            fit_on_features(network.get_layer("head"), features, labels, held, held_labels)
            steps = max(1, count // config.batch_size)
            rate = WarmCosine(
                stage.learning_rate, min(1.0, config.warmup), steps, (0, stage.epochs)
            )
            stopwatch, epochs = Stopwatch(), stage.epochs
            average = train_briefly(
                self, config, tables, network, factory, epochs, [rate, stopwatch]
            )
            flow = make_iterator(config, tables, tables.validation.drop(columns="label"))
            with average.in_network():
                tuned = predict_batches(network, flow)
        if not np.isfinite(tuned).all():
            raise WrongNumbers("a probability is not finite")
        speed = (epochs - 1) * steps * config.batch_size / stopwatch.seconds
        return {"tuned": tuned, "images_per_second": speed, "peak_bytes": peak_bytes()}


def out_of_fold(
    features: np.ndarray, truth: np.ndarray, classes: int, folds: Sequence[np.ndarray]
) -> np.ndarray:
    """Return probabilities of photos by logistic regressions that were fitted on the others.

    A regression is fitted on all views, float [views, photos, width], and predicts the mean over
    them. Its strength is that of the lowest log loss on the first fold. `truth` are positions of
    the `classes`, int [photos], and `folds` those of the photos of each fold; the others fit.
    Returns float32 [photos, classes], 0 for photos of no fold.
    """
    found, width = np.zeros((len(truth), classes), np.float32), features.shape[-1]
    strengths = STRENGTHS
    for outside in folds:
        inside = np.setdiff1d(np.arange(len(truth)), outside)
        rows = np.float32(features[:, inside]).reshape(-1, width)
        scaler, labels = StandardScaler().fit(rows), np.tile(truth[inside], len(features))
        scaled, held = (
            scaler.transform(rows),
            [scaler.transform(np.float32(v[outside])) for v in features],
        )
        best, lowest = None, np.inf
        for strength in strengths:
            with few_threads(scaled):
                fitted = fit_regression(scaled, labels, strength)
            predicted = np.zeros((len(outside), classes), np.float32)
            predicted[:, fitted.classes_] = np.mean([fitted.predict_proba(v) for v in held], axis=0)
            loss = log_loss(predicted, truth[outside])
            if loss >= lowest:  # it falls, then rises with the strength
                break
            best, lowest, chosen = predicted, loss, strength
        found[outside], strengths = best, (chosen,)
    return found
