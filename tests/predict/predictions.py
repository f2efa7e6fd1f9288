"""Made-up predictions: for the tests of what is done with them."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.metrics import accuracy_score

from kernelkit.core.contract import Fold
from kernelkit.data.read import Competition
from kernelkit.data.tables import PhotoTables, fingerprint
from kernelkit.predict.members import MemberStore

SETTINGS = {"size": (48, 64), "stages": ({"name": "head", "rate": 1e-3},), "seed": 42}
LABELS = [[0, 1, 10], ["audi", "bmw", "vw"]]

CLASSES = 5


def truth_of(photos: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(CLASSES, size=photos)


def member(truth: np.ndarray, skill: float, seed: int) -> np.ndarray:
    """Return noisy probabilities, float32 [photos, classes].

    Most of the noise is the photo's own, so that members err on the same photos, as networks do.
    They are calibrated: the posterior of the logits is the softmax of skill / variance times them.
    A member of skill 0 is sure of random classes.
    """
    shared = np.random.default_rng(len(truth)).normal(size=(len(truth), CLASSES))
    own = np.random.default_rng(seed).normal(size=(len(truth), CLASSES))
    if not skill:
        return softmax(4 * own, axis=1).astype("float32")
    logits = shared + own / 2 + skill * np.eye(CLASSES)[truth]
    return softmax(skill / 1.25 * logits, axis=1).astype("float32")


def rows(*probabilities) -> np.ndarray:
    return np.array(probabilities, "float32")


# Networks of three classes, on photos that do not exist.


def make_folds(count=3, photos=30, classes=(0, 1, 10), seed=0):
    """Return the tables of a run, as `load_tables` does, of photos that do not exist."""
    labels = np.random.default_rng(seed).permutation(np.resize(np.array(classes), photos))
    rows = pd.DataFrame({"Id": [f"{n}.jpg" for n in range(photos)], "label": labels})
    rows = rows.assign(path="/photos/" + rows["Id"], group=range(photos))
    test = pd.DataFrame({"Id": ["t1.jpg", "t2.jpg"], "path": ["/photos/t1.jpg", "/photos/t2.jpg"]})
    whole = Competition(None, rows, test, list(classes), test, rows[:0])
    folds = []
    for fold in range(count):
        held = rows.index % count == fold
        train, validation = (rows[side].reset_index(drop=True) for side in (~held, held))
        folds.append(PhotoTables(whole, train, validation, test, fold))
    return folds


def probabilities(truth, right, seed):
    """Return float32 [photos, 3], of which the fraction `right` is right."""
    rng = np.random.default_rng(seed)
    said = np.where(rng.random(len(truth)) < right, truth, (truth + 1) % 3)
    rows = np.eye(3)[said] + rng.uniform(0.1, 0.5, (len(truth), 3))
    return (rows / rows.sum(1, keepdims=True)).astype("float32")


def make_fold(part, right=0.8, seed=0, views=("plain", "flipped")):
    """Return what a network says that is right about this fraction of the photos."""
    truth = part.positions(part.validation)
    validation = probabilities(truth, right, 100 * seed + part.fold)
    accuracy = float(accuracy_score(truth, validation.argmax(1)))
    return Fold(
        fold=part.fold,
        validation=validation,
        validation_plain=probabilities(truth, right, 100 * seed + part.fold + 25),
        validation_ids=part.validation.Id.to_numpy(str),
        validation_positions=truth,
        test=probabilities(np.array([0, 2]), 1, 100 * seed + part.fold + 50),
        accuracy=accuracy,
        accuracy_tta=accuracy + 0.01,
        views=list(views),
    )


def assert_same(fold, other):
    """Compare two folds exactly, with the types of their arrays."""
    for field in dataclasses.fields(Fold):
        one, two = getattr(fold, field.name), getattr(other, field.name)
        if isinstance(one, np.ndarray):
            assert np.array_equal(one, two), field.name
            assert one.dtype == two.dtype, field.name
        else:
            assert one == two, field.name


def open_store(folder, inputs, folds, resumed):
    """Return the members of a run of these photos."""
    state = SimpleNamespace(fingerprint=fingerprint(folds), resumed=resumed)
    return MemberStore(folder, inputs, folds, state)


def write_member(folder, folds, name="a", settings=SETTINGS, which=(0, 1, 2), seed=0):
    """Write a member as a session does; return its folds."""
    store = open_store(folder, folder / "no inputs", folds, True)
    made = [make_fold(folds[number], seed=seed) for number in which]
    for fold in made:
        store.add(name, settings, fold)
    return made
