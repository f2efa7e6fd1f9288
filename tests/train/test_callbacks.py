"""The callbacks of a stage: validation, BatchNorm's statistics, waiting for photos, and seeds."""

import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from ImageDataAugmentor import ImageDataAugmentor
from kernelkit.core.metrics import METRICS
from kernelkit.train.callbacks import (
    NORM_MOMENTUM,
    Validate,
    estimate_norms,
    reseed,
    waiting_share,
)
from kernelkit.train.ema import Average
from small_networks import (
    SIDE,
    Flow,
    assert_equal,
    coloured,
    normalised_network,
    small_network,
    values,
)


def validation(network, average, photos, truth, batches=(), reestimate=False):
    """Return the logs that a validation adds."""
    config, logs = SimpleNamespace(reestimate=reestimate), {}
    metric = METRICS["log-loss"]
    Validate(config, network, average, Flow(photos), truth, metric, batches).on_epoch_end(0, logs)
    return logs


def test_the_average_validates_in_place_of_the_weights():
    photos, truth = coloured(np.random.default_rng(0), 3, 21)
    network = small_network(3)
    average = Average(network, 0.9)
    for _ in range(3):
        network.set_weights([w + np.float32(0.005) for w in network.get_weights()])
        average.on_train_batch_end(0)
    raw, means = network.get_weights(), values(average.average)
    logs = validation(network, average, photos, truth)
    assert_equal(network.get_weights(), raw, rtol=0, atol=0)
    network.set_weights(means)
    probabilities = network.predict(photos, verbose=0)
    loss = -np.log(probabilities[np.arange(21), truth]).mean()
    assert logs["val_loss"] == logs["val_score"] == pytest.approx(loss, rel=1e-4)
    assert logs["val_accuracy"] == (probabilities.argmax(1) == truth).mean()
    assert logs["val_error"] > 0


def test_later_callbacks_read_the_validation_of_their_epoch():
    photos, truth = coloured(np.random.default_rng(0), 3, 24)
    network, seen = small_network(3), []
    network.compile("sgd", "sparse_categorical_crossentropy")
    config, metric = SimpleNamespace(reestimate=False), METRICS["accuracy"]
    validate = Validate(config, network, Average(network, 0), Flow(photos), truth, metric, [])
    early = keras.callbacks.EarlyStopping("val_score", min_delta=2, patience=2, mode="max")
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs))
    network.fit(photos, truth, 8, 9, callbacks=[validate, early, note], verbose=0)
    assert len(seen) == 3  # the first epoch and two that are not better
    assert all({"loss", "val_loss", "val_score", "val_error"} <= set(logs) for logs in seen)


def test_a_network_that_predicts_nan_validates_as_nan():
    photos, truth = coloured(np.random.default_rng(0), 3, 9)
    network = small_network(3)
    network.set_weights([w * np.float32("nan") for w in network.get_weights()])
    logs = validation(network, Average(network, 0), photos, truth)
    assert np.isnan(list(logs.values())).all()


def test_statistics_are_those_of_the_photos_once_estimated_anew():
    rng = np.random.default_rng(0)
    photos = rng.normal([60, 120, 180], [5, 10, 20], (60, 16, 4, 4, 3)).clip(0, 255).astype("uint8")
    network = normalised_network()
    norms = [network.get_layer("backbone").get_layer(name) for name in ("frozen", "opened")]
    weights = network.get_weights()
    norms[1].moving_mean.assign([50.0, 50.0, 50.0])  # far off
    others = [w.numpy() for w in network.trainable_variables]
    estimate_norms(network, [(batch, None) for batch in photos])

    scale = 1 / np.sqrt(1 + norms[0].epsilon)  # the frozen layer's first statistics: 0 and 1
    seen = photos[:30].astype("float32") * scale
    left = NORM_MOMENTUM**30  # of what was there before
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
    average, raw = Average(network, 0.5), network.get_weights()
    batches = [(batch, None) for batch in photos]
    logs = validation(network, average, photos[0], np.arange(8) % 2, batches, reestimate=True)
    assert_equal(network.get_weights(), raw, rtol=0, atol=0)
    with average.in_network():
        assert (opened.moving_mean.numpy() > 60).all()
        probabilities = network.predict(photos[0], verbose=0)
    loss = -np.log(probabilities[np.arange(8), np.arange(8) % 2]).mean()
    assert logs["val_loss"] == pytest.approx(loss, rel=1e-4)


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
