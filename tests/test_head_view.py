"""The head alone, fitted on cached features, has a vote in the prediction."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest

from common import Problem
from inference import views_of
from inference.prediction import predict, predict_photos
from tiny_kernel import kernel, settings_and_tables, small_network

VIEWS = kernel.VIEWS[0], kernel.View("head alone", head=True)


@pytest.fixture
def opened(competition, tmp_path):
    """Return settings, tables, a network, a clock, and what network and head say.

    The network finds all classes equally probable. The head, whose weights the clock's state has,
    has learned the validation photos at half their size.
    """
    stages = "head:0:1:1:views=1:scale=0.5,all:1:1e-3:1"
    config, (tables,) = settings_and_tables(competition, tmp_path, "--stages", stages)
    small = replace(config, image_size=(48, 64))
    head, network = small_network(small), small_network(config)
    network.set_weights([np.zeros_like(each) for each in network.get_weights()])
    seen = kernel.photos.make_iterator(small, tables, tables.validation.drop(columns="label"))
    photos = np.concatenate([seen[number] for number in range(len(seen))])
    head.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    head.fit(photos, tables.positions(tables.validation), epochs=100, verbose=0)
    state = kernel.training.open_state(tmp_path / "state", {}, "", fresh=False)
    state.store(head)
    state.head, state.best, state.best_stage = state.last, "another", 1
    told = [
        predict_photos(settings, tables, tables.validation, one, None)
        for settings, one in ((config, network), (small, head))
    ]
    return config, tables, network, kernel.Clock(state, config.stages, 24, 2, math.inf), told


def predicted(config, tables, network, clock):
    return predict(config, tables, network, clock, VIEWS, small_network, kernel.augmentation)


def test_the_head_alone_has_a_vote_at_the_size_of_its_stage(opened):
    *given, told = opened
    fold = predicted(*given)
    assert fold.views == ["plain", "head alone"]
    np.testing.assert_allclose(fold.validation, np.mean(told, axis=0), atol=1e-6)
    assert np.abs(told[1] - told[0]).max() > 0.1


@pytest.mark.parametrize("best", [True, False])
def test_a_head_that_is_the_chosen_network_or_missing_has_none(opened, best):
    *given, clock, told = opened
    clock.state.best, clock.state.head = (clock.state.head,) * 2 if best else ("another", "")
    np.testing.assert_allclose(predicted(*given, clock).validation, told[0], atol=1e-6)


def test_a_damaged_head_is_named(opened):
    *given, clock, _ = opened
    (clock.state.folder / clock.state.head).write_text("no weights")
    with pytest.raises(Problem, match=clock.state.head):
        predicted(*given, clock)


@pytest.mark.parametrize(("stages", "views"), [("head:0:1:1:views=1", 5), ("head:0:1:1", 4)])
def test_only_a_head_on_cached_features_is_a_view(stages, views):
    config, _ = kernel.read_arguments(["--stages", stages, "--tta", "5"])
    assert len(views_of(config, kernel.VIEWS)) == views
