"""The point between the network with the fitted head and the tuned one."""

import math
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

from kernelkit.core.metrics import METRICS
from kernelkit.train import interpolate
from kernelkit.train.interpolate import between, interpolate_weights

PHOTOS = 100


def point_of(network) -> float:
    return round(float(network.weights[0].numpy().ravel()[0]), 3)


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """Return a function from accuracies by share to the share that is chosen."""
    inputs = keras.Input((1,))
    network = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    network.set_weights([np.zeros((1, 1))])
    network.save_weights(tmp_path / "start.weights.h5")
    monkeypatch.setattr(interpolate, "make_iterator", lambda *arguments: None)
    validation = pd.DataFrame({"Id": range(PHOTOS), "label": 0})
    tables = SimpleNamespace(
        validation=validation, positions=lambda table: np.zeros(len(table), int)
    )

    def choose(accuracies, start="start.weights.h5", yes=True, passes=math.inf):
        def predict(asked, photos):
            right = np.arange(PHOTOS) < PHOTOS * accuracies[point_of(asked)]
            return np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])

        monkeypatch.setattr(interpolate, "predict_batches", predict)
        network.set_weights([np.ones((1, 1))])
        left = iter(range(int(min(passes, 10))))
        clock = SimpleNamespace(pass_fits=lambda: next(left, None) is not None)
        metric = METRICS["accuracy"]
        clock.state = SimpleNamespace(start=start, best="tuned", folder=tmp_path, metric=metric)
        interpolate_weights(SimpleNamespace(interpolate=yes), tables, network, clock)
        return point_of(network)

    return choose


@pytest.mark.parametrize(
    ("accuracies", "share"),
    [
        ({1: 0.9, 0.8: 0.9, 0.6: 0.9, 0.4: 0.9, 0.2: 0.9}, 1),
        ({1: 0.9, 0.8: 0.91, 0.6: 0.92, 0.4: 0.9, 0.2: 0.8}, 1),  # within a standard error, .027
        ({1: 0.7, 0.8: 0.89, 0.6: 0.91, 0.4: 0.9, 0.2: 0.8}, 0.8),
        ({1: 0.5, 0.8: 0.6, 0.6: 0.7, 0.4: 0.8, 0.2: 0.95}, 0.2),
    ],
)
def test_the_most_tuned_point_within_a_standard_error_of_the_best_is_chosen(
    chosen, accuracies, share, capsys
):
    assert chosen(accuracies) == share
    assert f"{share:g} is used" in capsys.readouterr().out


def test_without_a_start_a_wish_or_time_the_tuned_network_stays(chosen, capsys):
    worse = dict.fromkeys((1, 0.8, 0.6, 0.4, 0.2), 0.5) | {0.6: 1.0}
    assert chosen(worse) == 0.6
    capsys.readouterr()
    assert chosen(worse, start="") == chosen(worse, yes=False) == chosen(worse, passes=0) == 1
    assert not capsys.readouterr().out
    assert chosen(worse, passes=2) == 1  # only 1 and .8 were tried


def test_numbers_of_positions_are_not_mixed():
    mixed = between([np.zeros(2), np.arange(3)], [np.ones(2), np.arange(3) + 1], 0.25)
    assert [part.tolist() for part in mixed] == [[0.25, 0.25], [1, 2, 3]]
