"""Steps of training that fail in each mode in which a real one may: for the tests of preflight.

The functions stand at the top level of a module, so that the process in which steps are tried can
import them.
"""

import os
import time
from dataclasses import dataclass, field

import keras
import tensorflow as tf

from kernelkit.train.optimizer import scaled_for_float16
from kernelkit.train.preflight_worker import StepFactory
from kernelkit.train.train_step import TrainingModel


@dataclass(frozen=True)
class Stage:
    name: str = "all"
    fraction: float = 1.0
    learning_rate: float = 1e-2
    scale: float = 1.0
    views: int = 0


@dataclass(frozen=True)
class Settings:
    """What a trial reads, and how steps fail: a function's name for each precision that does."""

    fails: dict = field(default_factory=dict)
    fit: int = 1000
    stages: tuple = (Stage(),)
    preflight: str = "full"
    mixed_precision: str = "no"
    backbone: str = "tiny"
    image_size: tuple = (24, 32)
    batch_size: int = 4
    interpolation: str = "area"
    fuse: bool = True
    cache: bool = True
    workers: int = 1
    seed: int = 1
    ema: float = 0.9
    unfreeze: str = "blocks"
    batchnorm: str = "train"
    norm_momentum: float = 0.9


def no_weights(config):
    return None


def no_augmentation(config):
    return None


def build(config, classes, weights):
    """Return a network as the kernel builds them, but tiny."""
    inputs = keras.Input((*config.image_size, 3), dtype="uint8")
    photos = keras.Input((*config.image_size, 3))
    features = keras.layers.Conv2D(4, 3, strides=4)(photos)
    backbone = keras.Model(photos, features, name="backbone")
    x = keras.layers.GlobalAveragePooling2D()(backbone(keras.layers.Rescaling(1 / 255)(inputs)))
    return keras.Model(inputs, keras.layers.Dense(classes, "softmax", dtype="float32")(x))


def compiled(config, network, stage, rate, mode):
    model = TrainingModel(network, micro_batch=mode.micro_batch)
    optimizer = scaled_for_float16(keras.optimizers.SGD(rate))
    model.compile(optimizer, "categorical_crossentropy", jit_compile=mode.xla)
    return model


def fail(config, network, stage, rate, mode):
    """Fail as the settings say."""
    if mode.precision in config.fails:
        globals()[config.fails[mode.precision]](config, mode, network)
    return compiled(config, network, stage, rate, mode)


def run_out_of_memory(config, mode, network):
    """Fail while more than `config.fit` photos are taken at once."""
    if (mode.micro_batch or config.batch_size // mode.devices) > config.fit:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating a tensor")


def abort(config, mode, network):
    os.abort()


def hang(config, mode, network):
    time.sleep(1000)


def raise_error(config, mode, network):
    raise RuntimeError("cuDNN says no")


def give_wrong_numbers(config, mode, network):
    network.set_weights([weight * float("nan") for weight in network.get_weights()])


FACTORY = StepFactory(no_weights, build, fail, no_augmentation)
