"""The orders of a scout, taken with a tiny network and real photos, and the regression on them."""

import dataclasses
import pickle
from dataclasses import dataclass
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from failing_steps import Settings, Stage, compiled, no_augmentation, no_weights
from kernelkit.core.metrics import accuracy
from kernelkit.train import preflight_worker
from kernelkit.train.backbones import Plain
from kernelkit.train.head import build_head
from kernelkit.train.preflight_worker import NO_MEMORY, TOO_LARGE, WORKED, StepFactory, answer
from kernelkit.train.scouting import Features, ShortRun, labelled, out_of_fold
from kernelkit.train.step_mode import FLOAT32, StepMode
from tiny_competition import load

MODE = StepMode(1, FLOAT32)


@dataclass(frozen=True)
class Candidate(Settings):
    head: str = "linear"
    warmup: float = 1.0


CONFIG = Candidate(batch_size=8, batchnorm="frozen")
HEAD = SimpleNamespace(head="linear", dropout=0, l2=0, norm_momentum=0.9)


def build(config, classes, weights):
    """Return a network as the kernel builds them, with the dry run's backbone."""
    inputs = keras.Input((*config.image_size, 3), dtype="uint8")
    backbone = Plain(False, None, (*config.image_size, 3))
    backbone.name = "backbone"
    x = backbone(keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, build_head(HEAD, classes)(x))


FACTORY = StepFactory(no_weights, build, compiled, no_augmentation)


@pytest.fixture(scope="module")
def tables(competition):
    return load(competition)[0]


@pytest.fixture(scope="module")
def found(tables):
    return answer(Features(MODE, CONFIG), tables, FACTORY)


def short_run(found, tables, rows, **settings):
    count = len(tables.train)
    features = found["features"][:, [*rows, *range(count, found["features"].shape[1])]]
    stage = dataclasses.replace(Stage(), learning_rate=1e-4)
    stage = SimpleNamespace(**dataclasses.asdict(stage), epochs=2)
    config = dataclasses.replace(CONFIG, **settings)
    return ShortRun(MODE, config, stage, np.asarray(rows), features)


def test_features_are_those_of_all_photos_and_of_their_mirror_images(tables, found):
    assert found["outcome"] == WORKED
    assert found["features"].shape == (2, len(labelled(tables)), 64)
    assert found["features"].dtype == np.float16
    assert found["predict"] > 0
    assert found["peak_bytes"] is None  # there is no GPU
    plain, flipped = np.float32(found["features"])
    assert np.abs(plain - flipped).max() > 1e-3
    np.testing.assert_allclose(plain.mean(0), flipped.mean(0), rtol=0.2, atol=0.02)


def test_a_short_run_is_judged_on_photos_that_it_did_not_see(tables, found):
    rows = range(0, len(tables.train), 2)
    order = pickle.loads(pickle.dumps(short_run(found, tables, rows)))  # as a process gets it
    tuned = answer(order, tables, FACTORY)
    assert tuned["outcome"] == WORKED
    assert tuned["tuned"].shape == (len(tables.validation), 4)
    assert accuracy(tuned["tuned"], tables.positions(tables.validation)) > 0.8  # the head alone is
    assert tuned["images_per_second"] > 0


def test_what_does_not_fit_is_an_outcome(tables, found, monkeypatch):
    monkeypatch.setattr(preflight_worker, "photos_that_fit", lambda *given: 2)
    rows = range(0, len(tables.train), 3)
    large = answer(short_run(found, tables, rows), tables, FACTORY)
    assert (large["outcome"], large.get("fits")) == (TOO_LARGE, 2)

    def no_memory(config, classes, weights):
        raise MemoryError

    failing = dataclasses.replace(FACTORY, build=no_memory)
    assert answer(Features(MODE, CONFIG), tables, failing)["outcome"] == NO_MEMORY


def test_features_that_are_not_finite_are_an_outcome(tables):
    def overflowing(config, classes, weights):
        network = build(config, classes, weights)
        network.set_weights([1e6 * (1 + weight) for weight in network.get_weights()])
        return network

    failing = dataclasses.replace(FACTORY, build=overflowing)
    with np.errstate(over="ignore"):
        outcome = answer(Features(MODE, CONFIG), tables, failing)["outcome"]
    assert outcome == "wrong numbers: a feature is not finite"


def folds_of(count, number):
    return [np.arange(start, count, number) for start in range(number)]


def test_regressions_find_what_features_tell_and_nothing_else():
    """Noise stays at chance although there are more features than photos: no photo helps itself."""
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=90)
    noise = rng.normal(size=(2, 90, 120))
    guessed = out_of_fold(noise, truth, 3, folds_of(90, 5))
    assert accuracy(guessed, truth) < 0.5
    noise[..., :30] += 5 * truth[:, None]
    known = out_of_fold(noise, truth, 3, folds_of(90, 5))
    assert accuracy(known, truth) > 0.9
    np.testing.assert_allclose(known.sum(1), 1, rtol=1e-5)


def test_a_class_that_no_other_photo_has_gets_no_probability():
    truth = np.array([0, 1] * 10 + [2])
    features = np.random.default_rng(0).normal(size=(1, 21, 4)) + truth[:, None]
    found = out_of_fold(features, truth, 3, folds_of(21, 3))
    assert found[20, 2] == 0
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
