"""The head: it is fitted on features that are computed once, and kept for the next session."""

import time
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from kernelkit.train import head
from kernelkit.train.head import (
    STRENGTHS,
    PredictionTimer,
    best_network,
    best_regression,
    build_head,
    fit_on_flows,
)
from kernelkit.train.plan import OutOfTime
from small_networks import SIDE, Flow, Stage, assert_equal, coloured, make_clock, small_network


def clusters(rng, classes, n, width=6, noise=5.0):
    """Return features around a centre for each class, of unequal scales, and their classes."""
    labels = np.arange(n) % classes
    centres = np.random.default_rng(classes).normal(size=(classes, width))
    noise = rng.normal(scale=noise, size=(n, width))
    return np.float32((centres[labels] + noise) * 3.0 ** np.arange(width) + 5), labels


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_predicts_what_the_best_regression_predicts(classes):
    """The strengths are distinguished by the validation photos' loss alone."""
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
    predicted = head.predict(features, verbose=0)
    assert_equal(
        [keras.ops.convert_to_numpy(head(features, training=True))], [predicted], atol=1e-4
    )
    assert (predicted.argmax(1) == labels).mean() > 1 / classes + 0.3
    own = -np.log(head.predict(held, verbose=0)[np.arange(90), held_labels]).mean()
    assert own < np.log(classes) - 0.2


@pytest.mark.parametrize("kind", ["linear", "hidden"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_fitted_head_is_in_the_network_and_counts_as_one_epoch(
    state, capsys, monkeypatch, classes, kind
):
    threads = []
    name = "best_regression" if kind == "linear" else "best_network"
    fit = getattr(head, name)

    def counted(*arguments):
        threads.extend(pool["num_threads"] for pool in threadpool_info() if "blas" in str(pool))
        return fit(*arguments)

    monkeypatch.setattr(head, name, counted)
    rng, stages = np.random.default_rng(0), [Stage("cached", views=1), Stage("all", 1.0)]
    train, labels = coloured(rng, classes, 30)
    held, held_labels = coloured(rng, classes, 21)
    view = np.clip(train + rng.integers(0, 20, train.shape), 0, 255).astype("uint8")
    network = small_network(classes, kind)
    backbone = network.get_layer("backbone").get_weights()
    clock = make_clock(state, stages, images=50, passes=1)
    state.begin_job("one", 2)
    flows = [Flow(train), Flow(held), Flow(view)]
    with threadpool_limits(2, "blas"):
        features = fit_on_flows(network, flows, [labels, held_labels], clock)
    assert set(threads) == {1}  # more would only wait for each other

    pooled = keras.Model(network.inputs, network.get_layer("pool").output)
    assert_equal([features], [pooled.predict(np.concatenate([train, held]), verbose=0)])
    (row,) = state.history
    predicted = network.predict(held, verbose=0)
    assert row["val_accuracy"] == pytest.approx((predicted.argmax(1) == held_labels).mean())
    assert row["val_accuracy"] > 1 / classes + 0.2
    own = -np.log(predicted[np.arange(21), held_labels]).mean()
    assert row["val_loss"] == pytest.approx(own, rel=1e-3)
    seen = network.predict(np.concatenate([train, view]), verbose=0).argmax(1)
    assert row["accuracy"] == pytest.approx((seen == np.tile(labels, 2)).mean())
    assert (row["member"], row["fold"], row["stage"], row["epoch"]) == ("one", 2, "cached", 1)
    assert_equal(network.get_layer("backbone").get_weights(), backbone, rtol=0, atol=0)

    assert (state.stage, state.epoch, state.stage_over) == (0, 1, True)
    assert state.best == state.last == "epoch-0001.weights.h5"
    assert state.best_score == row["val_score"] == row["val_accuracy"]
    network.get_layer("head").set_weights([w * 0 for w in network.get_layer("head").get_weights()])
    state.load_best(network)
    assert_equal([network.predict(held, verbose=0)], [predicted])
    assert row["input_bound"] == 0
    assert "cached" in capsys.readouterr().out


def test_features_that_an_earlier_session_has_kept_are_not_computed_again(state, monkeypatch):
    """Time runs out in the view; the next session has the photos' features and needs the view's."""
    rng, stages = np.random.default_rng(0), [Stage("cached", views=1), Stage("all", 1.0)]
    (train, labels), (held, held_labels) = coloured(rng, 3, 30), coloured(rng, 3, 21)
    network, passes = small_network(3), []
    state.begin_job("one", 0)
    flows = [Flow(train), Flow(held), Flow(train)]
    clock = make_clock(state, stages, images=50, passes=1)
    real = head.predict_batches

    def predict(model, flow, callbacks):
        passes.append(flow)
        if len(passes) == 2:
            raise KeyboardInterrupt
        return real(model, flow, callbacks)

    monkeypatch.setattr(head, "predict_batches", predict)
    with pytest.raises(KeyboardInterrupt):
        fit_on_flows(network, flows, [labels, held_labels], clock)
    fit_on_flows(network, flows, [labels, held_labels], clock)
    assert passes == [flows[0], flows[1], flows[1], flows[2]]
    assert state.stage_over
    assert not list(state.folder.glob("features-*"))


def test_views_that_no_longer_fit_are_left_out_and_the_head_is_fitted(state, monkeypatch, capsys):
    rng, stages = np.random.default_rng(0), [Stage("cached", views=2), Stage("all", 1.0)]
    (train, labels), (held, held_labels) = coloured(rng, 3, 30), coloured(rng, 3, 21)
    network, passes = small_network(3), []
    state.begin_job("one", 0)
    clock = make_clock(state, stages, images=50, passes=1)
    real = head.predict_batches

    def predict(model, flow, callbacks):
        passes.append(flow)
        if len(passes) == 4:
            raise OutOfTime
        return real(model, flow, callbacks)

    monkeypatch.setattr(head, "predict_batches", predict)
    flows = [Flow(train), Flow(held), Flow(train), Flow(train)]
    fit_on_flows(network, flows, [labels, held_labels], clock)
    assert state.history[0]["val_accuracy"] > 1 / 3 + 0.2
    assert state.stopped_by_time_limit
    assert "1 of 2 views" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("left", "photos", "views", "said"),
    [
        (60, 100, 2, ""),
        (4, 100, 1, "1 of 2 views: no more fit into the session."),
        (2.5, 100, 0, "0 of 2 views: no more fit into the session."),
        (1.2, 48, 0, "of 100 photos fit the head: no more fit into the session."),
        (0.4, None, None, ""),
    ],
)
def test_where_time_is_short_views_go_first_and_then_photos_of_each_class_alike(
    state, monkeypatch, capsys, left, photos, views, said
):
    """The backbone takes 100 photos a second, of which 100 train and 20 validate."""
    train = pd.DataFrame({"Id": range(100), "label": np.arange(100) % 4})
    tables = SimpleNamespace(train=train, validation=train.head(20))
    seconds = iter(0.08 * step for step in range(9))
    monkeypatch.setattr(head, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr(head, "predict_batches", lambda *_: None)
    monkeypatch.setattr(head, "_photo_flow", lambda *_: None)
    stage, network = Stage("cached", views=2), small_network(4)
    state.begin_job("one", 0)
    clock = make_clock(state, [stage], left, images=20, passes=1)
    given = SimpleNamespace(batch_size=4), tables, network, stage, clock
    if photos is None:
        with pytest.raises(OutOfTime):
            head._photos_and_views(*given)
        return
    some, fitting = head._photos_and_views(*given)
    assert fitting == views
    assert abs(len(some) - photos) <= 16
    assert len(set(some.label.value_counts())) == 1
    assert said in capsys.readouterr().out
    assert state.stopped_by_time_limit == (left < 60)


def test_a_pass_for_features_stops_when_the_session_ends(state):
    clock = make_clock(state, [Stage(views=1)], -1, images=1000, passes=1)
    network, photos = small_network(), np.zeros((16, SIDE, SIDE, 3), "uint8")
    with pytest.raises(OutOfTime):
        network.predict(photos, batch_size=8, verbose=0, callbacks=[PredictionTimer(clock, 8)])
    endless = make_clock(state, [Stage(views=1)], images=1000, passes=1)
    network.predict(photos, batch_size=8, verbose=0, callbacks=[PredictionTimer(endless, 8)])


def test_a_pass_is_judged_by_its_own_speed(state):
    """1000 photos are predicted at 8 or at 8000 photos a second, in 60 seconds."""
    timer = PredictionTimer(make_clock(state, [Stage(views=1)], 60, images=1000, passes=1), 8)
    timer.began = time.monotonic() - 0.001
    timer.on_predict_batch_end(0)
    timer.began = time.monotonic() - 1
    with pytest.raises(OutOfTime):
        timer.on_predict_batch_end(0)
