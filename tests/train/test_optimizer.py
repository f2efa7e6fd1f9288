"""The optimizer: the learning rate of every step and layer, weight decay and clipping."""

import math
from itertools import pairwise
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from kernelkit.train.optimizer import (
    WarmCosine,
    cosine_span,
    layer_fractions,
    make_optimizer,
)
from small_networks import small_network


def paths(layers):
    return [variable.path for layer in layers for variable in layer.variables]


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


def config(weight_decay=0.0, clip_norm=0.0):
    return SimpleNamespace(weight_decay=weight_decay, clip_norm=clip_norm)


def variables(*names):
    return [keras.Variable(np.ones(4, "float32"), name=name) for name in names]


def moved(optimizer, made, gradient=1.0):
    """Return how far each variable (of ones) moves down in one step."""
    optimizer.build(made)
    optimizer.apply([tf.fill((4,), gradient) for _ in made], made)
    return [1 - float(np.mean(variable.numpy())) for variable in made]


def test_only_weights_that_multiply_decay():
    made = variables("kernel", "bias", "gamma", "beta")
    distances = moved(make_optimizer(config(weight_decay=0.5), 0.1, {}), made, gradient=0.0)
    assert distances == pytest.approx([0.05, 0, 0, 0], abs=1e-6)


def test_without_decay_the_steps_are_adam_s():
    assert moved(make_optimizer(config(), 0.1, {}), variables("kernel"), gradient=0.0) == [0]
    ends = []
    for optimizer in (make_optimizer(config(), 0.1, {}), keras.optimizers.Adam(0.1)):
        made = variables("kernel")
        ends.append([moved(optimizer, made, gradient) for gradient in (1.0, -3.0, 0.5)])
    assert ends[0] == ends[1]


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
    fractions = layer_fractions(SimpleNamespace(head_rate=10, layer_decay=0.5), network)
    assert {fractions[path] for path in paths([network.get_layer("head")])} == {10}
    assert {variable.path for variable in network.trainable_variables} <= set(fractions)
    backbone = [fractions[path] for path in paths(network.get_layer("backbone").layers)]
    assert backbone == sorted(backbone)
    assert len(set(backbone)) > 3
    assert backbone[0] < backbone[-1] <= 1


def test_a_convolution_and_its_normalisation_have_one_rate():
    network = small_network()
    fractions = layer_fractions(SimpleNamespace(head_rate=1, layer_decay=0.5), network)
    layers = network.get_layer("backbone").layers
    pairs = [
        (below, layer)
        for below, layer in pairwise(layers)
        if isinstance(layer, keras.layers.BatchNormalization)
        and isinstance(below, keras.layers.Conv2D)
    ]
    assert pairs
    for pair in pairs:
        assert len({fractions[path] for path in paths(pair)}) == 1


def test_no_decay_leaves_the_backbone_its_rate():
    network = small_network()
    fractions = layer_fractions(SimpleNamespace(head_rate=1, layer_decay=1), network)
    assert set(fractions.values()) == {1}
