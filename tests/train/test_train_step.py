"""The training step: it mixes photos, and in parts or on two devices it is the whole step."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kernelkit.train.callbacks import reseed
from kernelkit.train.train_step import LEAST_NORMS, TrainingModel
from small_networks import assert_equal

LIB = Path(__file__).parents[2] / "lib"
SCRIPT = Path(__file__).with_name("steps_on_devices.py")


def mixer(mixup, cutmix, seed=1, network=None):
    """Return a model that mixes photos of two classes, and draws what `seed` decides."""
    inputs = keras.Input((24, 32, 3), dtype="uint8")
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(inputs))
    model = TrainingModel(network or keras.Model(inputs, outputs), mixup, cutmix)
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


class Witness(keras.layers.Layer):
    """Averages photos; counts its calls, and values that no photo as it is has."""

    def build(self, input_shape):
        self.seen = self.add_weight(shape=(2,), initializer="zeros", trainable=False)

    def call(self, photos, training=False):
        values = tf.cast(photos, tf.float32)
        others = (tf.abs(values - 10) > 0.5) & (tf.abs(values - 200) > 0.5)
        self.seen.assign_add([1.0, tf.reduce_sum(tf.cast(others, tf.float32))])
        return tf.reduce_mean(values / 255, axis=(1, 2))


def witness_network():
    inputs = keras.Input((24, 32, 3), dtype="uint8")
    witness = Witness()
    outputs = keras.layers.Dense(2, activation="softmax")(witness(inputs))
    return keras.Model(inputs, outputs), witness


def test_training_mixes_and_prediction_never_does():
    network, witness = witness_network()
    model = mixer(0.5, 0, network=network)
    model.compile("sgd", "categorical_crossentropy")
    photos, labels = flat_photos()
    witness.seen.assign([0, 0])
    model.predict(photos, batch_size=4, verbose=0)
    assert list(witness.seen.numpy()) == [3, 0]
    model.fit(photos, labels, batch_size=4, verbose=0)
    calls, others = witness.seen.numpy()
    assert calls == 6
    assert others > 0


def test_without_mixers_a_step_trains_on_the_photos_as_they_are(monkeypatch):
    monkeypatch.setattr(TrainingModel, "mix", None)
    network, witness = witness_network()
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
    assert witness.seen.numpy()[1] == 0


# ------------------------------------------------------------------------ in parts, and on devices


@pytest.fixture(scope="module")
def cases():
    """What `steps_on_devices.py` prints, by the case's name."""
    environment = os.environ | {"PYTHONPATH": str(LIB), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(SCRIPT)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["case"]: line for line in lines} | {"printed": done.stdout}


def differences(one, other):
    """Return how far the weights and their averages are apart, at most."""
    names = ("weights", "average")
    return [np.abs(np.subtract(one[name], other[name])).max() for name in names]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "same_as", "tolerance"),
    [
        ("parts", "whole", 1e-6),
        ("whole on two", "whole", 1e-6),
        ("parts on two", "whole", 1e-6),
        ("whole, scaled", "whole", 3e-4),  # or the two below would prove little
        ("parts, scaled", "whole, scaled", 3e-4),
        ("parts on two, scaled", "whole, scaled", 3e-4),
        ("parts on two, odd", "whole, odd", 1e-6),
        ("whole on two, single", "whole, single", 1e-6),
    ],
)
def test_weights_and_their_average_are_those_of_the_plain_step(cases, case, same_as, tolerance):
    assert max(differences(cases[case], cases[same_as])) < tolerance
    moved = np.abs(np.subtract(cases[case]["weights"], cases[case]["average"])).max()
    assert moved > 5 * tolerance  # weights that do not move would be equal too


@pytest.mark.slow
def test_moving_averages_of_batchnorm_move_as_far_in_parts(cases):
    """The parts have the same photos, so that their statistics are those of the whole."""
    whole, parts = cases["whole, normalised"], cases["parts, normalised"]
    assert max(differences(whole, parts)) < 1e-4
    assert np.abs(np.subtract(whole["weights"], whole["average"])).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["odd", "single"])
def test_each_photo_is_predicted_once_on_two_devices(cases, kind):
    one = cases[f"whole, {kind}"]
    (two,) = (row for name, row in cases.items() if "two" in name and name.endswith(kind))
    np.testing.assert_allclose(two["averaged"], one["averaged"], atol=1e-5)
    for way in ("predicted", "odd", "halved"):  # also in batches that two devices cannot share
        np.testing.assert_allclose(two[way], two["alone"], atol=1e-6)


@pytest.mark.slow
def test_a_batch_that_devices_can_not_share_is_rounded_with_a_sentence(cases):
    assert cases["shared"]["sizes"] == [34, 32]
    assert cases["printed"].count("2 devices can't share --batch-size 33: 34 is used.") == 1


def norms_in_a_row(count):
    """Return a network of nothing but norms."""
    inputs = x = keras.Input((6, 5, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 100)(x)
    for number in range(count):
        x = keras.layers.BatchNormalization(momentum=0.7, trainable=number % 3 > 0)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    return keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))


@pytest.mark.parametrize("fused", [True, False])
def test_norms_are_fused_in_a_step_and_train_as_keras_own_do(fused, monkeypatch):
    """Also between frozen ones. The network keeps Keras' layers, so that any program opens it."""
    keras.utils.set_random_seed(0)
    count = LEAST_NORMS if fused else LEAST_NORMS - 1
    network = norms_in_a_row(count)
    weights = network.get_weights()
    photos = np.random.default_rng(0).integers(0, 256, (8, 6, 5, 3)).astype("uint8")
    batch = tf.constant(photos), tf.constant(np.eye(2, dtype="float32")[np.arange(8) % 2])

    def stepped():
        network.set_weights(weights)
        model = TrainingModel(network, 0, 0)
        model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
        model.optimizer.build(model.trainable_variables)
        step = tf.function(model.train_step)
        graph = step.get_concrete_function(batch).graph
        step(batch)
        kinds = [op.type for op in graph.get_operations()]
        return network.get_weights(), kinds.count("FusedBatchNormV3")

    found, operations = stepped()
    trained = sum(number % 3 > 0 for number in range(count))
    assert operations == (trained if fused else 0)
    assert {type(each) for each in network.layers if "norm" in each.name} == {
        keras.layers.BatchNormalization
    }
    monkeypatch.setattr("kernelkit.train.train_step.LEAST_NORMS", 1000)
    expected, _ = stepped()
    assert_equal(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found[-1] - weights[-1]).max() > 1e-4  # it did train
