"""Take training steps on a CPU that passes for two devices, and print what became of them.

A test runs it as a process of its own, because devices are divided before TensorFlow starts. Each
case is a line of JSON.
"""

import json
import sys
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])

from kernelkit.train.backbones import load_backbone, unfreeze  # noqa: E402
from kernelkit.train.devices import (  # noqa: E402
    OutOfMemory,
    make_strategy,
    predict_batches,
    share,
    shared_batch,
)
from kernelkit.train.ema import Average  # noqa: E402
from kernelkit.train.optimizer import scaled_for_float16  # noqa: E402
from kernelkit.train.step_mode import set_precision  # noqa: E402
from kernelkit.train.train_step import TrainingModel  # noqa: E402

SIDE, CLASSES, BATCH = 16, 3, 8


def data(n):
    """Return n photos, four different ones in turn, uint8 [n, h, w, 3], and one-hot labels."""
    labels = np.arange(4) % CLASSES
    photos = np.random.default_rng(n).integers(0, 160, (4, SIDE, SIDE, 3), dtype=np.uint8)
    photos[np.arange(4), :, :, labels] += 90
    return photos[np.arange(n) % 4], np.eye(CLASSES, dtype="float32")[labels[np.arange(n) % 4]]


def network(norm_momentum):
    """Return a network as the kernel builds them, without dropout; BatchNorm may be frozen."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    backbone = load_backbone("kernelkit.train.backbones.Plain", (SIDE, SIDE), None)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone(x))
    stage = SimpleNamespace(name="all", fraction=1.0)
    batchnorm = "train" if norm_momentum else "frozen"
    config = SimpleNamespace(
        unfreeze="blocks", batchnorm=batchnorm, norm_momentum=norm_momentum, stages=[stage]
    )
    unfreeze(config, backbone, stage)
    penalty = keras.regularizers.L2(0.01)
    last = keras.layers.Dense(CLASSES, "softmax", kernel_regularizer=penalty, dtype="float32")
    return keras.Model(inputs, keras.Sequential([last], name="head")(x))


class Losses(keras.callbacks.Callback):
    """Keeps the mean loss after each step."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])


def case(devices, micro_batch, precision="float32", n=2 * BATCH, norm_momentum=None):
    """Return what an epoch over n photos leaves."""
    keras.utils.clear_session()
    set_precision(precision)
    with make_strategy(devices).scope():
        net = network(norm_momentum)
        model = TrainingModel(net, micro_batch=micro_batch)
        optimizer = scaled_for_float16(keras.optimizers.SGD(0.05))
        accuracy = keras.metrics.CategoricalAccuracy("accuracy")
        model.compile(
            optimizer, keras.losses.CategoricalCrossentropy(), weighted_metrics=[accuracy]
        )
        optimizer.build(model.trainable_variables)
        average, losses = Average(net, 0.8), Losses()
        batches = tf.data.Dataset.from_tensor_slices(data(n)).batch(BATCH)
        model.fit(share(batches), callbacks=[average, losses], verbose=0)
        flow = Flow(data(n)[0])
        with average.in_network():
            averaged = predict_batches(net, flow).tolist()
        return {
            "losses": losses.losses,
            "averaged": averaged,
            "predicted": predict_batches(net, flow).tolist(),
            "odd": predict_batches(net, Flow(data(n)[0], 5)).tolist(),
            "halved": predict_batches(net, Flow(data(n)[0], 6), [LittleMemory(3)]).tolist(),
            "alone": net(data(n)[0], training=False).numpy().tolist(),
            "weights": flat(net.get_weights()),
            "average": flat([variable.numpy() for variable in average.average]),
        }


class LittleMemory(keras.callbacks.Callback):
    """Runs out of memory where a batch has more photos than `most`."""

    def __init__(self, most):
        super().__init__()
        self.most = most

    def on_predict_batch_end(self, batch, logs=None):
        if len(logs["outputs"]) > self.most:
            raise OutOfMemory(None, None, "OOM when allocating a tensor")


class Flow:
    """Stands for an iterator over photos without labels."""

    epoch = 0

    def __init__(self, photos, batch_size=BATCH):
        self.photos, self.n, self.batch_size = photos, len(photos), batch_size

    def as_tf_dataset(self):
        return tf.data.Dataset.from_tensor_slices(self.photos).batch(self.batch_size)


def flat(arrays):
    return np.concatenate([np.ravel(array) for array in arrays]).tolist()


CASES = {
    "whole": (1, None),
    "parts": (1, 3),
    "whole on two": (2, None),
    "parts on two": (2, 3),
    "whole, scaled": (1, None, "float16"),
    "parts, scaled": (1, 3, "float16"),
    "parts on two, scaled": (2, 3, "float16"),
    "whole, odd": (1, None, "float32", 13),
    "parts on two, odd": (2, 2, "float32", 13),
    "whole, single": (1, None, "float32", 1),
    "whole on two, single": (2, None, "float32", 1),
    "whole, normalised": (1, None, "float32", 2 * BATCH, 0.8),
    "parts, normalised": (1, 4, "float32", 2 * BATCH, 0.8),
}


def main():
    for name, settings in CASES.items():
        print(json.dumps({"case": name} | case(*settings)), flush=True)
    with make_strategy(2).scope():
        print(json.dumps({"case": "shared", "sizes": [shared_batch(33), shared_batch(32)]}))


if __name__ == "__main__":
    sys.exit(main())
