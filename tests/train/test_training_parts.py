"""The parts of the training loop, each by itself: rates, average, mixing, head, BatchNorm."""

import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ImageDataAugmentor import ImageDataAugmentor
from kernelkit.data.outliers import unlike_others
from kernelkit.train import head
from kernelkit.train.backbones import load_backbone
from kernelkit.train.batchnorm import MOMENTUM, Reestimate
from kernelkit.train.callbacks import reseed
from kernelkit.train.clock import Clock, OutOfTime
from kernelkit.train.ema import Averaging
from kernelkit.train.feeding import waiting_share
from kernelkit.train.head import (
    STRENGTHS,
    Watch,
    best_network,
    best_regression,
    build_head,
    fit_on_flows,
)
from kernelkit.train.mixing import Mixing
from kernelkit.train.optimizer import WarmCosine, cosine_span, layer_factors, make_optimizer, paths
from kernelkit.train.output import open_state
from kernelkit.train.state import write_weights

SIDE = 16


@dataclass
class Stage:
    name: str = "stage"
    fraction: float = 0.0
    learning_rate: float = 1e-3
    epochs: int = 3
    scale: float = 1.0
    views: int = 0


def small_network(classes=3, kind="linear"):
    """Return a network as the kernel builds them, but tiny."""
    inputs = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = load_backbone("kernelkit.train.plain.Plain", (SIDE, SIDE), None)(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    head = build_head(SimpleNamespace(head=kind, dropout=0.25, l2=0, norm_momentum=0.9), classes)
    return keras.Model(inputs, head(x))


def plain_network():
    """Return a dense network with BatchNorm, which trains at once."""
    layers = [keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((3,)), *layers])


@pytest.fixture(autouse=True)
def seeded():
    """Begin every test with the same weights."""
    keras.utils.set_random_seed(1)


@pytest.fixture
def state(tmp_path):
    return open_state(tmp_path / "state", {"seed": 1}, "photos", fresh=False)


@pytest.fixture
def float16():
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    keras.mixed_precision.set_global_policy(before)


# -------------------------------------------------------------------------------------- rates


def rates_of(callback, epochs, optimizer=None):
    """Return the rates that an optimizer has in each step of each of `epochs`."""
    optimizer = optimizer or keras.optimizers.Adam(123.0)
    callback.set_model(SimpleNamespace(optimizer=optimizer))
    seen = []
    for epoch in epochs:
        callback.on_epoch_begin(epoch)
        for batch in range(callback.steps):
            callback.on_train_batch_begin(batch)
            seen.append(float(optimizer.learning_rate))
    return seen


def test_the_rate_rises_linearly_while_it_warms_up():
    flat = WarmCosine(0.8, warmup=1.5, steps=4, span=(0, 10**9))
    assert rates_of(flat, range(2)) == pytest.approx(
        [0.8 * share / 6 for share in (1, 2, 3, 4, 5, 6, 6, 6)]
    )


def test_without_a_warm_up_the_rate_falls_along_a_cosine_from_the_whole_rate_to_zero():
    cosine = WarmCosine(2.0, warmup=0, steps=2, span=(0, 3))
    expected = [1 + math.cos(math.pi * step / 6) for step in range(6)]
    assert rates_of(cosine, range(3)) == pytest.approx(expected)
    assert cosine.rate_at(3) == pytest.approx(0, abs=1e-12)
    assert cosine.rate_at(4) == pytest.approx(0, abs=1e-12)


def test_warm_up_and_cosine_multiply():
    both = WarmCosine(1.0, warmup=1, steps=4, span=(-1, 1))
    expected = [
        (step + 1) / 4 * (1 + math.cos(math.pi * (1 + step / 4) / 2)) / 2 for step in range(4)
    ]
    assert rates_of(both, [0]) == pytest.approx(expected)


def test_a_stage_that_goes_on_has_the_rates_that_it_would_have_had():
    whole = rates_of(WarmCosine(1.0, 0.5, 3, (0, 4)), range(4))
    assert rates_of(WarmCosine(1.0, 0.5, 3, (0, 4)), [2, 3]) == whole[6:]


def test_an_epoch_begins_with_its_rate_before_its_first_step():
    """The checkpoint notes the rate there."""
    callback, optimizer = WarmCosine(1.0, 0, 4, (0, 2)), keras.optimizers.Adam(123.0)
    callback.set_model(SimpleNamespace(optimizer=optimizer))
    callback.on_epoch_begin(1)
    assert float(optimizer.learning_rate) == pytest.approx(0.5)


def test_one_cosine_spans_all_stages_that_train_through_the_network():
    epochs = [0, 3, 6]  # the first fits the head on cached features
    assert [cosine_span(epochs, number, restarts=False) for number in (1, 2)] == [(0, 9), (-3, 6)]
    first, second = (WarmCosine(1.0, 0, 5, cosine_span(epochs, n, False)) for n in (1, 2))
    assert first.rate_at(3) == pytest.approx(second.rate_at(0)) == pytest.approx(0.75)
    assert second.rate_at(6) == pytest.approx(0, abs=1e-12)


def test_with_restarts_each_stage_has_a_cosine_of_its_own():
    assert [cosine_span([0, 3, 6], n, restarts=True) for n in (1, 2)] == [(0, 3), (0, 6)]


def test_the_rate_reaches_the_optimizer_under_loss_scaling(float16):
    optimizer = make_optimizer(config(), 123.0, {})
    assert rates_of(WarmCosine(2.0, 0, 2, (0, 1)), [0], optimizer) == pytest.approx([2, 1])
    assert float(optimizer.inner_optimizer.learning_rate) == pytest.approx(1)


# ---------------------------------------------------------------------------------- optimizer


def config(weight_decay=0.0, clip_norm=0.0):
    return SimpleNamespace(weight_decay=weight_decay, clip_norm=clip_norm)


def variables(*names):
    return [keras.Variable(np.ones(4, "float32"), name=name) for name in names]


def moved(optimizer, made, gradient=1.0):
    """Return how far each variable (of ones) moves down in one step."""
    optimizer.build(made)
    optimizer.apply([tf.fill((4,), gradient) for _ in made], made)
    return [1 - float(np.mean(variable.numpy())) for variable in made]


def test_weight_decay_makes_adam_adamw():
    assert not isinstance(make_optimizer(config(), 0.1, {}), keras.optimizers.AdamW)
    assert isinstance(make_optimizer(config(), 0.1, {}), keras.optimizers.Adam)
    assert isinstance(make_optimizer(config(weight_decay=0.1), 0.1, {}), keras.optimizers.AdamW)


def test_only_weights_that_multiply_decay():
    made = variables("kernel", "bias", "gamma", "beta")
    distances = moved(make_optimizer(config(weight_decay=0.5), 0.1, {}), made, gradient=0.0)
    assert distances == pytest.approx([0.05, 0, 0, 0], abs=1e-6)


def test_adam_alone_decays_nothing():
    assert moved(make_optimizer(config(), 0.1, {}), variables("kernel"), gradient=0.0) == [0]


@pytest.mark.parametrize("weight_decay", [0.0, 1e-9])
def test_a_variable_moves_by_its_own_fraction_of_the_rate(weight_decay):
    """The first step of Adam is as long as the rate."""
    optimizer = make_optimizer(config(weight_decay), 0.01, {"low": 0.1, "high": 3.0})
    distances = moved(optimizer, variables("other", "low", "high"))
    assert distances == pytest.approx([0.01, 0.001, 0.03], rel=1e-3)


def test_weight_decay_follows_a_variable_s_own_rate():
    """In layers that learn slowly, decay at the whole rate would be most of what moves them."""
    optimizer = make_optimizer(config(weight_decay=0.5), 0.1, {"low": 0.1, "high": 3.0})
    distances = moved(optimizer, variables("other", "low", "high"), gradient=0.0)
    assert distances == pytest.approx([0.05, 0.005, 0.15], abs=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_norm_of_all_gradients_together_is_clipped(weight_decay):
    made = variables("a", "b")
    optimizer = make_optimizer(config(weight_decay, clip_norm=0.5), 0.1, {})
    moved(optimizer, made, gradient=7.0)
    first = np.concatenate([m.numpy() for m in optimizer._momentums]) / 0.1  # (1 - beta_1) g
    assert np.linalg.norm(first) == pytest.approx(0.5, rel=1e-4)
    free = make_optimizer(config(weight_decay), 0.1, {})
    moved(free, variables("a"), gradient=7.0)
    assert free._momentums[0].numpy() / 0.1 == pytest.approx(7.0)


def test_float16_scales_the_loss_and_keeps_fractions_and_clipping(float16):
    optimizer = make_optimizer(config(clip_norm=0.5), 0.01, {"low": 0.1})
    assert isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)
    made = variables("other", "low")
    optimizer.build(made)
    distances = moved(optimizer, made, gradient=float(optimizer.scale_loss(1.0)))
    assert distances == pytest.approx([0.01, 0.001], rel=1e-3)
    assert float(optimizer.scale_loss(1.0)) > 1
    first = np.concatenate([m.numpy() for m in optimizer.inner_optimizer._momentums]) / 0.1
    assert np.linalg.norm(first) == pytest.approx(0.5, rel=1e-3)


def test_without_float16_the_loss_is_not_scaled():
    optimizer = make_optimizer(config(), 0.01, {})
    assert not isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)


def test_every_layer_gets_its_fraction_from_the_head_down():
    network = small_network(kind="hidden")
    factors = layer_factors(network, head_rate=10, decay=0.5)
    assert {factors[path] for path in paths([network.get_layer("head")])} == {10}
    assert {variable.path for variable in network.trainable_variables} <= set(factors)
    backbone = [factors[path] for path in paths(network.get_layer("backbone").layers)]
    assert backbone == sorted(backbone)
    assert len(set(backbone)) > 3
    assert backbone[0] < backbone[-1] <= 1


def test_a_convolution_and_its_normalisation_have_one_rate():
    network = small_network()
    factors, layers = layer_factors(network, 1, 0.5), network.get_layer("backbone").layers
    pairs = [
        (below, layer)
        for below, layer in pairwise(layers)
        if isinstance(layer, keras.layers.BatchNormalization)
        and isinstance(below, keras.layers.Conv2D)
    ]
    assert pairs
    for pair in pairs:
        assert len({factors[path] for path in paths(pair)}) == 1


def test_no_decay_leaves_the_backbone_its_rate():
    network = small_network()
    factors = layer_factors(network, head_rate=1, decay=1)
    assert set(factors.values()) == {1}


# -------------------------------------------------------------------------------------- average


class Recorder(keras.callbacks.Callback):
    """Notes the network's weights after each step, before the next, and while it validates."""

    def __init__(self):
        super().__init__()
        self.before, self.after, self.validated = [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.before.append(self.model.get_weights())

    def on_train_batch_end(self, batch, logs=None):
        self.after.append(self.model.get_weights())

    def on_test_begin(self, logs=None):
        self.validated.append(self.model.get_weights())


def numpy_average(first, following, momentum, done=0):
    """Return the averages after each of the `following` weights, as the class documents them."""
    average, seen = [weight.astype(np.float64) for weight in first], []
    for number, weights in enumerate(following, done + 1):
        m = min(momentum, (1 + number) / (10 + number))
        average = [m * a + (1 - m) * w for a, w in zip(average, weights, strict=True)]
        seen.append(average)
    return seen


def assert_equal(these, those, **tolerances):
    assert len(these) == len(those)
    for this, that in zip(these, those, strict=True):
        np.testing.assert_allclose(this, that, **({"rtol": 1e-4, "atol": 1e-5} | tolerances))


def values(variables):
    return [variable.numpy() for variable in variables]


def random_steps(network, averaging, count, seed):
    """Set the weights at random and average them, `count` times; return the weights."""
    rng, steps = np.random.default_rng(seed), []
    for _ in range(count):
        steps.append([rng.normal(size=w.shape).astype("float32") for w in network.get_weights()])
        network.set_weights(steps[-1])
        averaging.on_train_batch_end(0)
    return steps


@pytest.mark.parametrize("momentum", [0.15, 0.5, 0.999])
def test_the_average_is_exponential_and_warms_up(momentum):
    """0.15 never warms up (2 / 11 after the first step is more), 0.999 only does."""
    network = plain_network()
    first, averaging = network.get_weights(), Averaging(network, momentum, 0, None)
    steps = random_steps(network, averaging, 12, seed=0)
    assert_equal(values(averaging.average), numpy_average(first, steps, momentum)[-1])
    assert_equal(network.get_weights(), steps[-1], rtol=0, atol=0)
    assert averaging.steps == 12


def test_the_average_goes_on_from_its_file_as_if_never_interrupted(tmp_path):
    network = plain_network()
    averaging = Averaging(network, 0.6, 0, None)
    random_steps(network, averaging, 5, seed=0)
    average, raw = values(averaging.average), network.get_weights()
    file = tmp_path / "average.weights.h5"
    averaging.averaged(lambda: write_weights(network, file))
    assert_equal(network.get_weights(), raw, rtol=0, atol=0)

    other = plain_network()
    other.set_weights(raw)
    again = Averaging(other, 0.6, 5, file)
    assert_equal(values(again.average), average, rtol=0, atol=0)
    assert_equal(other.get_weights(), raw, rtol=0, atol=0)
    random_steps(network, averaging, 4, seed=1)
    random_steps(other, again, 4, seed=1)
    assert_equal(values(again.average), values(averaging.average), rtol=0, atol=0)


def test_the_weights_come_back_when_work_on_the_average_fails():
    network = plain_network()
    averaging = Averaging(network, 0.5, 0, None)
    random_steps(network, averaging, 2, seed=0)
    average, raw = values(averaging.average), network.get_weights()

    def fail():
        assert_equal(network.get_weights(), average, rtol=0, atol=0)
        raise OutOfTime

    with pytest.raises(OutOfTime):
        averaging.averaged(fail)
    assert_equal(network.get_weights(), raw, rtol=0, atol=0)
    assert_equal(values(averaging.average), average, rtol=0, atol=0)


def check_average_in_training(folder):
    """Train, validate and go on from a file; run on one device and on two."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 3)).astype("float32"), rng.normal(size=(24, 1)).astype("float32")
    network = plain_network()
    network.compile(keras.optimizers.Adam(0.05), "mse")
    first, recorder = network.get_weights(), Recorder()
    averaging = Averaging(network, 0.7, 0, None)
    history = network.fit(
        *(x, y, 8, 2),
        validation_data=(x, y),
        callbacks=[averaging, recorder],
        shuffle=False,
        verbose=0,
    ).history
    averages = numpy_average(first, recorder.after, 0.7)
    assert_equal(values(averaging.average), averages[-1])
    assert_equal(recorder.validated[0], averages[2])
    assert_equal(recorder.validated[1], averages[5])
    assert_equal(recorder.before[3], recorder.after[2], rtol=0, atol=0)
    assert_equal(network.get_weights(), recorder.after[5], rtol=0, atol=0)
    assert np.abs(recorder.after[5][0] - averages[5][0]).max() > 1e-3  # they do differ

    losses = []
    averaging.averaged(lambda: losses.append(network.evaluate(x, y, batch_size=8, verbose=0)))
    assert losses[0] == pytest.approx(history["val_loss"][-1], rel=1e-4)
    assert network.evaluate(x, y, batch_size=8, verbose=0) != pytest.approx(losses[0], rel=1e-4)

    file = folder / "average.weights.h5"
    averaging.averaged(lambda: write_weights(network, file))
    again, recorder = Averaging(network, 0.7, 6, file), Recorder()
    network.fit(x, y, 8, 1, callbacks=[again, recorder], shuffle=False, verbose=0)
    assert_equal(values(again.average), numpy_average(averages[-1], recorder.after, 0.7, 6)[-1])


def test_validation_sees_the_average_and_training_goes_on_with_the_weights(tmp_path):
    check_average_in_training(tmp_path)


def test_the_average_is_the_same_on_two_devices(tmp_path):
    """Run as a script, this file has two logical devices."""
    lib = Path(__file__).parents[2] / "lib"
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(lib), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "devices"]


# -------------------------------------------------------------------------------------- mixing


def mixer(mixup, cutmix, seed=1, network=None):
    """Return a model that mixes photos of two classes, and draws what `seed` decides."""
    inputs = keras.Input((24, 32, 3), dtype="uint8")
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(inputs))
    model = Mixing(network or keras.Model(inputs, outputs), mixup, cutmix)
    reseed(model, seed, 0)
    return model


def flat_photos(n=12):
    """Return photos of one value each (10 or 200), and their classes in pairs, one-hot."""
    labels = np.eye(2, dtype="float32")[np.arange(n) % 2]
    shades = np.where(labels[:, :1], 10, 200)[..., None, None]
    return np.broadcast_to(shades, (n, 24, 32, 3)).astype("uint8"), labels


def mixed(model, count=20):
    """Return photos, labels and mixed labels of `count` batches, as one array each."""
    photos, labels = flat_photos()
    drawn = [model.mix(tf.constant(photos), tf.constant(labels)) for _ in range(count)]
    return *(np.concatenate(each) for each in zip(*drawn, strict=True)), np.tile(labels, (count, 1))


@pytest.mark.parametrize("alphas", [(0.3, 0), (0, 0.7), (0.3, 0.7)])
def test_a_mixed_batch_has_its_shape_its_type_and_whole_labels(alphas):
    photos, labels, _ = mixed(mixer(*alphas))
    assert photos.shape == (240, 24, 32, 3)
    assert (photos.dtype, labels.dtype) == (np.uint8, np.float32)
    assert labels.sum(1) == pytest.approx(1, abs=1e-5)
    assert (labels >= 0).all()
    assert ((labels > 0.05) & (labels < 0.95)).any()  # some are mixed indeed


def test_mixup_shares_photos_as_it_shares_labels():
    photos, labels, _ = mixed(mixer(0.5, 0))
    shades = labels[:, 0] * 10 + labels[:, 1] * 200
    assert np.abs(photos - shades[:, None, None, None]).max() <= 0.5 + 1e-3


def test_cutmix_pastes_and_shares_labels_as_it_shares_areas():
    photos, labels, own = mixed(mixer(0, 1.0))
    assert set(np.unique(photos)) == {10, 200}
    area = (photos[..., 0] == 10).mean((1, 2))
    edges = (24 + 32 + 1) / (24 * 32)  # a rectangle of whole pixels may miss one row and column
    assert np.abs(area - labels[:, 0]).max() <= edges
    pasted = photos[..., 0] != np.where(own[:, 0], 10, 200)[:, None, None]
    for patch in pasted[pasted.any((1, 2))]:
        rows, columns = patch.any(1), patch.any(0)
        assert (patch == np.outer(rows, columns)).all()  # a rectangle


@pytest.mark.parametrize(("mixup", "cutmix"), [(4.0, 0), (0, 4.0)])
def test_alpha_decides_how_evenly_photos_are_shared(mixup, cutmix):
    """The variance of Beta(alpha, alpha) is 1 / (4 (2 alpha + 1)); half the pairs are alike."""
    _, labels, own = mixed(mixer(mixup, cutmix), count=60)
    kept = (labels * own).sum(1)
    shares = kept[kept < 1 - 1e-6]
    assert len(shares) > 200
    assert shares.var() == pytest.approx(1 / 36, rel=0.25)


def test_both_mixers_take_turns():
    model = mixer(0.5, 1.0)
    pasted = []
    for _ in range(40):
        photos = model.mix(*map(tf.constant, flat_photos()))[0].numpy()
        pasted.append(set(np.unique(photos)) == {10, 200})
    assert 8 < sum(pasted) < 32


@pytest.mark.parametrize("alphas", [(0.3, 0), (0, 0.7), (0.3, 0.7)])
def test_mixing_draws_the_same_again_from_the_same_epoch(alphas):
    model, count = mixer(*alphas), 4
    first = mixed(model, count)
    reseed(model, 1, 0)
    again = mixed(model, count)
    reseed(model, 1, 7)
    other = mixed(model, count)
    assert all((this == that).all() for this, that in zip(first, again, strict=True))
    assert (first[1] != other[1]).any()


class Told(keras.layers.Layer):
    """Passes on flattened photos and tells of them."""

    def build(self, input_shape):
        self.seen = self.add_weight(shape=(2,), initializer="zeros", trainable=False)

    def call(self, photos, training=False):
        values = tf.cast(photos, tf.float32)
        others = (tf.abs(values - 10) > 0.5) & (tf.abs(values - 200) > 0.5)
        self.seen.assign_add([1.0, tf.reduce_sum(tf.cast(others, tf.float32))])
        return tf.reduce_mean(values / 255, axis=(1, 2))


def told_network():
    inputs = keras.Input((24, 32, 3), dtype="uint8")
    told = Told()
    return keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(told(inputs))), told


def test_training_mixes_and_validation_never_does():
    network, told = told_network()
    model = mixer(0.5, 0, network=network)
    model.compile("sgd", "categorical_crossentropy")
    photos, labels = flat_photos()
    told.seen.assign([0, 0])
    model.evaluate(photos, labels, batch_size=4, verbose=0)
    assert list(told.seen.numpy()) == [3, 0]
    model.predict(photos, batch_size=4, verbose=0)
    assert list(told.seen.numpy()) == [6, 0]
    model.fit(photos, labels, batch_size=4, verbose=0)
    calls, others = told.seen.numpy()
    assert calls == 9
    assert others > 0


def test_without_mixers_a_step_trains_on_the_photos_as_they_are(monkeypatch):
    monkeypatch.setattr(Mixing, "mix", None)
    network, told = told_network()
    model = mixer(0, 0, network=network)
    plain = keras.models.clone_model(network, clone_function=lambda layer: layer)
    photos, labels = flat_photos()
    weights, ends = network.get_weights(), []
    for each in (model, plain):
        network.set_weights(weights)
        each.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
        each.fit(photos, labels, batch_size=4, shuffle=False, verbose=0)
        ends.append(network.get_weights())
    assert_equal(*ends, rtol=0, atol=1e-7)
    assert told.seen.numpy()[1] == 0


# ---------------------------------------------------------------------------------------- head


def clusters(rng, classes, n, width=6, noise=5.0):
    """Return features around a centre for each class, of unequal scales, and their classes."""
    labels = np.arange(n) % classes
    centres = np.random.default_rng(classes).normal(size=(classes, width))
    noise = rng.normal(scale=noise, size=(n, width))
    return np.float32((centres[labels] + noise) * 3.0 ** np.arange(width) + 5), labels


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_predicts_what_the_best_regression_predicts(classes):
    """The strengths are told apart by the validation photos' loss alone."""
    rng = np.random.default_rng(0)
    features, labels = clusters(rng, classes, 60)
    held, held_labels = clusters(rng, classes, 40)
    ((kernel, bias),) = best_regression(features, labels, held, held_labels)
    assert (kernel.shape, bias.shape) == ((6, classes), (classes,))
    assert (kernel.dtype, bias.dtype) == (np.float32, np.float32)

    scaler = StandardScaler().fit(features)
    found = []
    for strength in STRENGTHS:
        fitted = LogisticRegression(C=strength, max_iter=1000)
        fitted.fit(scaler.transform(features), labels)
        probabilities = fitted.predict_proba(scaler.transform(held))
        loss = -np.log(probabilities[np.arange(40), held_labels]).mean()
        found.append((loss, probabilities))
    assert 0 < np.argmin([loss for loss, _ in found]) < len(found) - 1  # not just an end of them
    best_loss, best = min(found, key=lambda pair: pair[0])
    assert sorted(loss for loss, _ in found)[1] > best_loss + 1e-4  # there is one best
    made = keras.ops.convert_to_numpy(keras.ops.softmax(held @ kernel + bias))
    np.testing.assert_allclose(made, best, atol=2e-3)
    assert -np.log(made[np.arange(40), held_labels]).mean() == pytest.approx(best_loss, abs=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_hidden_head_that_was_fitted_says_the_same_in_training(classes):
    """Its BatchNorm has the statistics of the features that it was fitted on."""
    rng = np.random.default_rng(0)
    features, labels = clusters(rng, classes, 300, noise=1.0)
    held, held_labels = clusters(rng, classes, 90, noise=1.0)
    settings = SimpleNamespace(head="hidden", dropout=0, l2=0, norm_momentum=0.9)
    head = build_head(settings, classes)
    head.build((None, features.shape[1]))
    dense, norm, _, last = head.layers
    fitted = best_network(features, labels, held, held_labels)
    for layer, weights in zip((dense, norm, last), fitted, strict=True):
        layer.set_weights(weights)
    told = head.predict(features, verbose=0)
    assert_equal([keras.ops.convert_to_numpy(head(features, training=True))], [told], atol=1e-4)
    assert (told.argmax(1) == labels).mean() > 1 / classes + 0.3
    own = -np.log(head.predict(held, verbose=0)[np.arange(90), held_labels]).mean()
    assert own < np.log(classes) - 0.2


class Flow:
    """Stands for an iterator over photos without labels."""

    epoch, batch_size, ready_times = 0, 8, ()

    def __init__(self, photos):
        self.photos, self.n = photos, len(photos)

    def as_tf_dataset(self):
        return tf.data.Dataset.from_tensor_slices(self.photos).batch(self.batch_size)


def coloured(rng, classes, n):
    """Return noisy photos, brighter in one channel for each class, and their classes."""
    labels = np.arange(n) % classes
    photos = rng.integers(0, 120, (n, SIDE, SIDE, 3))
    photos[np.arange(n), :, :, labels] += 90
    return photos.astype("uint8"), labels


def test_photos_far_from_all_others_are_found_also_in_pairs():
    rng = np.random.default_rng(0)
    features = np.float32(rng.normal(0, 0.05, (200, 300))) + np.eye(300)[rng.integers(0, 4, 200)]
    features[[20, 150]] = 3 * rng.normal(0, 1, 300)  # an odd photo and its copy
    features[90] = rng.normal(0, 1, 300)
    found = unlike_others([f"{row}.jpg" for row in range(200)], np.float32(features))
    assert {name for name, _ in found} == {"20.jpg", "150.jpg", "90.jpg"}
    assert found == sorted(found, key=lambda row: -row[1])
    assert unlike_others(list("abcdefghij"), np.float32(features[:10])) == []


@pytest.mark.parametrize("kind", ["linear", "hidden"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_fitted_head_is_in_the_network_and_counts_as_one_epoch(state, capsys, classes, kind):
    rng, stages = np.random.default_rng(0), [Stage("cached", views=1), Stage("all", 1.0)]
    train, labels = coloured(rng, classes, 30)
    held, held_labels = coloured(rng, classes, 21)
    view = np.clip(train + rng.integers(0, 20, train.shape), 0, 255).astype("uint8")
    network = small_network(classes, kind)
    backbone = network.get_layer("backbone").get_weights()
    clock = Clock(state, stages, 50, 1, math.inf)
    state.begin_job("one", 2)
    flows = [Flow(train), Flow(held), Flow(view)]
    features = fit_on_flows(network, flows, [labels, held_labels], clock)

    pooled = keras.Model(network.inputs, network.get_layer("pool").output)
    assert_equal([features], [pooled.predict(np.concatenate([train, held]), verbose=0)])
    (row,) = state.history
    told = network.predict(held, verbose=0)
    assert row["val_accuracy"] == pytest.approx((told.argmax(1) == held_labels).mean())
    assert row["val_accuracy"] > 1 / classes + 0.2
    own = -np.log(told[np.arange(21), held_labels]).mean()
    assert row["val_loss"] == pytest.approx(own, rel=1e-3)
    seen = network.predict(np.concatenate([train, view]), verbose=0).argmax(1)
    assert row["accuracy"] == pytest.approx((seen == np.tile(labels, 2)).mean())
    assert (row["member"], row["fold"], row["stage"], row["epoch"]) == ("one", 2, "cached", 1)
    assert_equal(network.get_layer("backbone").get_weights(), backbone, rtol=0, atol=0)

    assert (state.stage, state.epoch) == (1, 0)
    assert state.best == state.last == "epoch-0001.weights.h5"
    assert state.best_score == row["val_score"] == row["val_accuracy"]
    network.get_layer("head").set_weights([w * 0 for w in network.get_layer("head").get_weights()])
    state.load_best(network)
    assert_equal([network.predict(held, verbose=0)], [told])
    assert row["input_bound"] == 0
    assert "cached" in capsys.readouterr().out


def test_features_that_an_earlier_session_has_kept_are_not_computed_again(state, monkeypatch):
    """Time runs out in the view; the next session has the photos' features and needs the view's."""
    rng, stages = np.random.default_rng(0), [Stage("cached", views=1), Stage("all", 1.0)]
    (train, labels), (held, held_labels) = coloured(rng, 3, 30), coloured(rng, 3, 21)
    network, passes = small_network(3), []
    state.begin_job("one", 0)
    flows = [Flow(train), Flow(held), Flow(train)]
    clock = Clock(state, stages, 50, 1, math.inf)
    real = head.predict

    def predict(model, flow, callbacks):
        passes.append(flow)
        if len(passes) == 2:
            raise KeyboardInterrupt
        return real(model, flow, callbacks)

    monkeypatch.setattr(head, "predict", predict)
    with pytest.raises(KeyboardInterrupt):
        fit_on_flows(network, flows, [labels, held_labels], clock)
    fit_on_flows(network, flows, [labels, held_labels], clock)
    assert passes == [flows[0], flows[1], flows[1], flows[2]]
    assert state.stage == 1
    assert not list(state.folder.glob("features-*"))


def test_views_that_no_longer_fit_are_left_out_and_the_head_is_fitted(state, monkeypatch, capsys):
    rng, stages = np.random.default_rng(0), [Stage("cached", views=2), Stage("all", 1.0)]
    (train, labels), (held, held_labels) = coloured(rng, 3, 30), coloured(rng, 3, 21)
    network, passes = small_network(3), []
    state.begin_job("one", 0)
    clock = Clock(state, stages, 50, 1, math.inf)
    real = head.predict

    def predict(model, flow, callbacks):
        passes.append(flow)
        if len(passes) == 4:
            raise OutOfTime
        return real(model, flow, callbacks)

    monkeypatch.setattr(head, "predict", predict)
    flows = [Flow(train), Flow(held), Flow(train), Flow(train)]
    fit_on_flows(network, flows, [labels, held_labels], clock)
    assert state.history[0]["val_accuracy"] > 1 / 3 + 0.2
    assert state.stopped_by_time_limit
    assert "1 of 2 views" in capsys.readouterr().out


def test_a_pass_for_features_stops_when_the_session_ends(state):
    clock = Clock(state, [Stage(views=1)], 1000, 1, time.monotonic() - 1)
    network, photos = small_network(), np.zeros((16, SIDE, SIDE, 3), "uint8")
    with pytest.raises(OutOfTime):
        network.predict(photos, batch_size=8, verbose=0, callbacks=[Watch(clock, 8)])
    endless = Clock(state, [Stage(views=1)], 1000, 1, math.inf)
    network.predict(photos, batch_size=8, verbose=0, callbacks=[Watch(endless, 8)])


def test_a_pass_is_judged_by_its_own_speed(state):
    """1000 photos are predicted at 8 or at 8000 photos a second, in 60 seconds."""
    watch = Watch(Clock(state, [Stage(views=1)], 1000, 1, time.monotonic() + 60), 8)
    watch.began = time.monotonic() - 0.001
    watch.on_predict_batch_end(0)
    watch.began = time.monotonic() - 1
    with pytest.raises(OutOfTime):
        watch.on_predict_batch_end(0)


# ----------------------------------------------------------------------------------- BatchNorm


def normalised_network():
    """Return a network whose backbone normalises its input twice: frozen, and opened."""
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    inner = keras.Input((4, 4, 3))
    frozen = keras.layers.BatchNormalization(name="frozen", momentum=0.5)(inner)
    opened = keras.layers.BatchNormalization(name="opened", momentum=0.77)(frozen)
    backbone = keras.Model(inner, opened, name="backbone")
    x = keras.layers.Rescaling(1.0)(inputs)
    backbone.get_layer("frozen").trainable = False
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(backbone(x))))


def test_statistics_are_those_of_the_photos_once_estimated_anew():
    rng = np.random.default_rng(0)
    photos = rng.normal([60, 120, 180], [5, 10, 20], (60, 16, 4, 4, 3)).clip(0, 255).astype("uint8")
    network = normalised_network()
    norms = [network.get_layer("backbone").get_layer(name) for name in ("frozen", "opened")]
    weights = network.get_weights()
    norms[1].moving_mean.assign([50.0, 50.0, 50.0])  # far off
    others = [w.numpy() for w in network.trainable_variables]
    Reestimate(network, [(batch, None) for batch in photos]).on_test_begin()

    scale = 1 / np.sqrt(1 + norms[0].epsilon)  # the frozen layer's first statistics: 0 and 1
    seen = photos[:30].astype("float32") * scale
    left = MOMENTUM**30  # of what was there before
    mean = seen.mean((0, 1, 2, 3)) * (1 - left) + 50 * left
    variance = seen.var((0, 1, 2, 3)) * (1 - left) + left
    np.testing.assert_allclose(norms[1].moving_mean.numpy(), mean, rtol=0.01)
    np.testing.assert_allclose(norms[1].moving_variance.numpy(), variance, rtol=0.06)
    assert [norm.momentum for norm in norms] == [0.5, 0.77]
    assert_equal(norms[0].get_weights(), weights[:4], rtol=0, atol=0)
    assert_equal(values(network.trainable_variables), others, rtol=0, atol=0)


def test_the_average_is_validated_and_kept_with_statistics_estimated_anew():
    """The weights that train on keep the statistics of their own."""
    photos = np.random.default_rng(0).integers(50, 90, (30, 8, 4, 4, 3)).astype("uint8")
    network = normalised_network()
    opened = network.get_layer("backbone").get_layer("opened")
    averaging = Averaging(network, 0.5, 0, None)
    again = Reestimate(network, [(batch, None) for batch in photos])
    raw = network.get_weights()
    for callback in (averaging, again):
        callback.on_test_begin()
    anew = opened.moving_mean.numpy()
    assert (anew > 60).all()
    for callback in (averaging, again):
        callback.on_test_end()
    assert_equal(network.get_weights(), raw, rtol=0, atol=0)
    averaging.swap()
    assert_equal([opened.moving_mean.numpy()], [anew], rtol=0, atol=0)


# ------------------------------------------------------------------------------------- feeding


def test_steps_wait_for_batches_that_are_ready_after_they_were_asked_for():
    assert waiting_share([0, 3, 4, 5], [3.5, 3.5, 3.9, 5.5], 4) == 0.25  # the first one compiles
    assert waiting_share([0, 3, 4], [3.5, 3.5], 2) == 0.25  # the last one's time is not known yet
    assert waiting_share([0, 1], [0, 9], 2) == 1
    assert waiting_share([], [], 0) == 0


@pytest.mark.parametrize(("step", "photo", "low", "high"), [(0.05, 0, 0, 0.5), (0, 0.05, 0.5, 1)])
def test_the_share_tells_whether_photos_or_steps_are_slow(tmp_path, step, photo, low, high):
    """A real iterator, through a dataset that prefetches."""
    (tmp_path / "a").mkdir()
    for number in range(8):
        keras.utils.save_img(tmp_path / "a" / f"{number}.png", np.zeros((SIDE, SIDE, 3)))
    slow = {"preprocess_input": lambda x: (time.sleep(photo), x)[1]}
    augmentor = ImageDataAugmentor(workers=1, processes=False, **slow)
    flow = augmentor.flow_from_directory(
        tmp_path, target_size=(SIDE, SIDE), batch_size=1, class_mode=None, verbose=False
    )
    batches, asked, began = iter(flow.as_tf_dataset()), [], time.monotonic()
    for _ in range(len(flow)):
        asked.append(time.monotonic())
        next(batches)
        time.sleep(step)
    took = time.monotonic() - began
    assert low <= waiting_share(asked, flow.ready_times, took) <= high


def test_layers_of_the_same_shape_drop_different_things():
    inputs = keras.Input((64,))
    drop = [keras.layers.Dropout(0.5)(inputs) for _ in range(2)]
    model = keras.Model(inputs, drop)
    masks = []
    for epoch in (0, 1):
        reseed(model, 1, epoch)
        masks += [np.asarray(each) for each in model(np.ones((8, 64), "float32"), training=True)]
    reseed(model, 1, 1)
    again = model(np.ones((8, 64), "float32"), training=True)
    assert all((a != b).any() for i, a in enumerate(masks) for b in masks[:i])
    np.testing.assert_array_equal(again[1], masks[3])


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    with tf.distribute.MirroredStrategy(names).scope():
        check_average_in_training(Path(sys.argv[1]))
    print(len(names), "devices")
