"""The average of the weights: it follows them, survives a session, and stands in for them."""

import keras
import numpy as np
import pytest

from kernelkit.train.ema import Average
from kernelkit.train.plan import OutOfTime
from kernelkit.train.state import write_weights
from small_networks import assert_equal, values


def plain_network():
    """Return a dense network with BatchNorm, which trains at once."""
    layers = [keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((3,)), *layers])


def numpy_average(first, following, momentum, done=0):
    """Return the averages after each of the `following` weights, as the class documents them."""
    average, seen = [weight.astype(np.float64) for weight in first], []
    for number, weights in enumerate(following, done + 1):
        m = min(momentum, (1 + number) / (10 + number))
        average = [m * a + (1 - m) * w for a, w in zip(average, weights, strict=True)]
        seen.append(average)
    return seen


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
    first, averaging = network.get_weights(), Average(network, momentum)
    steps = random_steps(network, averaging, 12, seed=0)
    assert_equal(values(averaging.average), numpy_average(first, steps, momentum)[-1])
    assert_equal(network.get_weights(), steps[-1], rtol=0, atol=0)
    assert averaging.steps == 12


def test_the_average_goes_on_from_its_file_as_if_never_interrupted(tmp_path):
    network = plain_network()
    averaging = Average(network, 0.6)
    random_steps(network, averaging, 5, seed=0)
    average, raw = values(averaging.average), network.get_weights()
    file = tmp_path / "average.weights.h5"
    with averaging.in_network():
        write_weights(network, file)
    assert_equal(network.get_weights(), raw, rtol=0, atol=0)

    other = plain_network()
    other.set_weights(raw)
    again = Average(other, 0.6, 5, file)
    assert_equal(values(again.average), average, rtol=0, atol=0)
    assert_equal(other.get_weights(), raw, rtol=0, atol=0)
    random_steps(network, averaging, 4, seed=1)
    random_steps(other, again, 4, seed=1)
    assert_equal(values(again.average), values(averaging.average), rtol=0, atol=0)


def test_the_weights_come_back_when_work_on_the_average_fails():
    network = plain_network()
    averaging = Average(network, 0.5)
    random_steps(network, averaging, 2, seed=0)
    average, raw = values(averaging.average), network.get_weights()

    def fail():
        with averaging.in_network():
            assert_equal(network.get_weights(), average, rtol=0, atol=0)
            raise OutOfTime

    with pytest.raises(OutOfTime):
        fail()
    assert_equal(network.get_weights(), raw, rtol=0, atol=0)
    assert_equal(values(averaging.average), average, rtol=0, atol=0)


class Recorder(keras.callbacks.Callback):
    """Notes the network's weights before each step, after it, and while the average is in it."""

    def __init__(self, average):
        super().__init__()
        self.average, self.before, self.after, self.averaged = average, [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.before.append(self.model.get_weights())

    def on_train_batch_end(self, batch, logs=None):
        self.after.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        with self.average.in_network():
            self.averaged.append(self.model.get_weights())


def test_training_goes_on_with_the_weights_after_the_average_was_in_the_network(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 3)).astype("float32"), rng.normal(size=(24, 1)).astype("float32")
    network = plain_network()
    network.compile(keras.optimizers.Adam(0.05), "mse")
    first, average = network.get_weights(), Average(network, 0.7)
    recorder = Recorder(average)
    network.fit(x, y, 8, 2, callbacks=[average, recorder], shuffle=False, verbose=0)
    averages = numpy_average(first, recorder.after, 0.7)
    assert_equal(values(average.average), averages[-1])
    assert_equal(recorder.averaged[0], averages[2])
    assert_equal(recorder.averaged[1], averages[5])
    assert_equal(recorder.before[3], recorder.after[2], rtol=0, atol=0)
    assert_equal(network.get_weights(), recorder.after[5], rtol=0, atol=0)
    assert np.abs(recorder.after[5][0] - averages[5][0]).max() > 1e-3  # they do differ


def test_momentum_0_is_off():
    network = plain_network()
    average = Average(network, 0)
    (*_, last) = random_steps(network, average, 2, seed=0)
    with average.in_network():
        assert_equal(network.get_weights(), last, rtol=0, atol=0)
    assert average.average == []
