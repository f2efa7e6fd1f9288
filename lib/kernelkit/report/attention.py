"""Where a network looked: Grad-CAM, saved small while the network is loaded.

After Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization" (2017): the last feature maps, weighted by the mean gradient of the predicted class'
logit, where they speak for it.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ImageDataAugmentor.reading import ImageLoader
from kernelkit.core.contract import Fold, read_arrays, write_arrays
from kernelkit.data.tables import PhotoTables

FOLDER = Path("report") / "attention"
FIRST = 24  # photos of a kind that a sheet shows: all of these are looked at before any other
MOST = 48  # photos of a kind and network: more than a sheet shows, since the blend shows others
BATCH = 8
SECONDS = 5.0  # after which no more batch is begun: it must not cost a slow machine its session


def note_attention(output: Path, network, tables: PhotoTables, fold: Fold):
    """Save where a network looked in its worst mistakes and the test photos it is least sure of.

    The network takes uint8 photos [n, h, w, 3] and has the layers pool and head; `tables` and
    `fold` are its photos and predictions. A sentence is printed where that fails.
    """
    try:
        table = _doubtful(tables, fold)
        maps = look(network, table.path.tolist())
        keys = (table.set + "/" + table.Id).to_numpy(str)[: len(maps)]
        file = output / FOLDER / f"{signature(fold.test)}.npz"
        write_arrays(file, {"keys": keys, "maps": maps})
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        print(f"Where the network looked could not be saved ({why}); the run goes on.", flush=True)


def _doubtful(tables: PhotoTables, fold: Fold) -> pd.DataFrame:
    """Return the photos that a report shows first: columns Id, path and set."""
    best = fold.validation.argmax(1)
    wrong = np.flatnonzero(best != fold.validation_positions)
    surest = wrong[np.argsort(-fold.validation[wrong].max(1), kind="stable")][:MOST]
    two = np.sort(fold.test, axis=1)[:, -2:]
    unsure = np.argsort(two[:, -1] - two[:, 0], kind="stable")[:MOST]
    train = tables.validation.iloc[surest].assign(set="train")
    test = tables.test.iloc[unsure].assign(set="test")
    parts = [train[:FIRST], test[:FIRST], train[FIRST:], test[FIRST:]]
    return pd.concat(parts)[["Id", "path", "set"]]


def look(network, paths: list[str]) -> np.ndarray:
    """Return Grad-CAM of the first photos, as many as there is time for, uint8 [n, h, w]."""
    import keras  # not where a report is only remade

    load = ImageLoader("rgb", network.input_shape[1:3], cv2.INTER_AREA)
    features = keras.Model(network.input, network.get_layer("pool").input)
    if features.output_shape[1:3] == (1, 1):  # a transformer that has pooled them itself
        return np.empty((0, 1, 1), np.uint8)
    began, maps = time.monotonic(), []
    for start in range(0, len(paths), BATCH):
        if time.monotonic() - began > SECONDS:
            break
        images = np.stack([load(path) for path in paths[start : start + BATCH]])
        maps.append(grad_cam(network, features, images))
    return np.concatenate(maps) if maps else np.empty((0, 1, 1), np.uint8)


def grad_cam(network, features, images: np.ndarray) -> np.ndarray:
    """Return where the network looked for the class it predicts, uint8 [n, h, w], 255 at most."""
    import tensorflow as tf

    *before, last = network.get_layer("head").layers
    maps = tf.cast(features(images, training=False), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        x = network.get_layer("pool")(maps)
        for layer in before:
            x = layer(x, training=False)
        logits = tf.matmul(tf.cast(x, tf.float32), last.kernel) + last.bias
        predicted = tf.reduce_max(logits, axis=1)
    weights = tf.reduce_mean(tape.gradient(predicted, maps), axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=3)).numpy()
    most = heat.max(axis=(1, 2), keepdims=True)
    return np.uint8(np.round(255 * heat / np.where(most > 0, most, 1)))


def signature(test: np.ndarray) -> str:
    """Return a hash of a network's test probabilities, by which files of other runs are known."""
    return hashlib.sha256(np.ascontiguousarray(test, np.float32).tobytes()).hexdigest()[:20]


def read_attention(output: Path, signatures: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the saved maps, uint8 [h, w], by set and Id of their photos, such as "test/1.jpg".

    Of several networks that looked at a photo, the first counts; a damaged file is left out.
    """
    found: dict[str, np.ndarray] = {}
    for name in signatures:
        with contextlib.suppress(Exception):  # none was saved, or it is damaged: a picture less
            stored = read_arrays(output / FOLDER / f"{name}.npz")
            found = dict(zip(stored["keys"].tolist(), stored["maps"], strict=True)) | found
    return found
