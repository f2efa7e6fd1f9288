"""Train a tiny tower on a CPU that passes for two devices, with and without recomputing blocks.

    python recompute_on_devices.py PRESET

Each case is a line of JSON: devices, precision, whether blocks are recomputed, and losses.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])

from kernelkit.train.devices import make_strategy  # noqa: E402
from kernelkit.train.optimizer import scaled_for_float16  # noqa: E402
from kernelkit.train.presets import load_preset  # noqa: E402
from kernelkit.train.step_mode import set_precision  # noqa: E402
from kernelkit.train.train_step import TrainingModel  # noqa: E402

PHOTOS = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
LABELS = np.eye(3, dtype=np.float32)[np.arange(8) % 3]

CASES = [(1, "float32", False)]  # with which the others are compared
CASES += [(2, precision, again) for precision in ("float32", "float16") for again in (False, True)]

for devices, precision, recompute in CASES:
    keras.utils.clear_session()
    set_precision(precision)
    with make_strategy(devices).scope():
        keras.utils.set_random_seed(0)
        photos = keras.Input((32, 32, 3), dtype="uint8")
        x = keras.layers.Rescaling(2 / 255, -1)(photos)
        x = load_preset(Path(sys.argv[1]), (32, 32), "own")(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        outputs = keras.layers.Dense(3, activation="softmax", dtype="float32")(x)
        network = keras.Model(photos, outputs)
        model = TrainingModel(network, recompute=recompute)
        optimizer = scaled_for_float16(keras.optimizers.SGD(0.005))
        model.compile(optimizer, keras.losses.CategoricalCrossentropy(), jit_compile=False)
        optimizer.build(model.trainable_variables)
        data = tf.data.Dataset.from_tensor_slices((PHOTOS, LABELS)).batch(8)
        losses = model.fit(data, epochs=3, verbose=0).history["loss"]
    case = {"devices": devices, "precision": precision, "recompute": recompute}
    print(json.dumps(case | {"losses": losses}), flush=True)
