"""What a step of training costs beside a plainer one: ratios within one run, on this CPU.

    python tests/benchmarks/step_cost.py [--backbone MobileNet] [--image-size 96x128] [--rounds 3]
        [--only WORDS]   (the rows that contain these words, beside the first)

Each row is the median of some rounds, in which all modes take turns. The CPU passes for two
devices; these share its cores, so two replicas can at best be as fast as one.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "lib")]

import tensorflow as tf  # noqa: E402

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])

import keras  # noqa: E402
import numpy as np  # noqa: E402

import kernel  # noqa: E402 - found in the repository
from kernelkit.data.batches import make_iterator  # noqa: E402
from kernelkit.data.tables import load_tables  # noqa: E402
from kernelkit.train import train_step  # noqa: E402
from kernelkit.train.backbones import unfreeze  # noqa: E402
from kernelkit.train.devices import make_strategy, share  # noqa: E402
from kernelkit.train.preflight_worker import BATCHES, TIMED, WARM_UP, Stopwatch, sample  # noqa: E402
from kernelkit.train.step_mode import StepMode  # noqa: E402
from kernelkit.train.train_step import LEAST_NORMS  # noqa: E402
from sample.competition import drawn_competition  # noqa: E402

ONE, TWO = StepMode(1, "float32"), StepMode(2, "float32")
MODES = {
    "the step, real input": (ONE, True),
    "with Keras' own BatchNorm, real input": (ONE, True, False),
    "compiled by XLA, real input": (dataclasses.replace(ONE, xla=True), True),
    "the step, one batch again and again": (ONE, False),
    "two replicas, real input": (TWO, True),
    "in two parts, real input": (ONE.at_most(8), True),
    "in four parts, real input": (ONE.at_most(4), True),
    "two replicas in two parts each, real input": (TWO.at_most(4), True),
}
BATCH = 16


class Processor(keras.callbacks.Callback):
    """Measures the processor seconds of the passes that are timed."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == WARM_UP:
            self.began = time.process_time()
        self.seconds = time.process_time() - getattr(self, "began", 0.0)


def cost_of_steps(
    config, tables, mode: StepMode, real: bool, fused: bool = True
) -> tuple[float, float]:
    """Return steps a second and processor seconds a step, once all is compiled and decoded."""
    train_step.LEAST_NORMS = LEAST_NORMS if fused else 10**6
    keras.utils.clear_session()
    stage = config.stages[-1]
    with make_strategy(mode.devices).scope():
        network = kernel.build_model(config, len(tables.competition.classes), None)
        unfreeze(config, network.get_layer("backbone"), stage)
        model = kernel.compile_model(config, network, stage, stage.learning_rate, mode)
        model.optimizer.build(model.trainable_variables)
        flow = make_iterator(
            config, tables, tables.train, kernel.augmentation(config), shuffle=True
        )
        batches = flow.as_tf_dataset()
        if not real:
            first = tf.data.Dataset.from_tensors(next(iter(batches)))
            batches = first.cache().repeat(BATCHES).prefetch(2)
        stopwatch, processor = Stopwatch(), Processor()
        epochs = WARM_UP + TIMED
        model.fit(share(batches), epochs=epochs, callbacks=[stopwatch, processor], verbose=0)
        steps = TIMED * BATCHES
        return steps / stopwatch.seconds, processor.seconds / steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="MobileNet")
    parser.add_argument("--image-size", default="96x128")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="words of the rows to measure")
    options = parser.parse_args()
    asked = ["--backbone", options.backbone, "--image-size", options.image_size]
    asked += ["--recipe", "default", "--weights", "none", "--batch-size", str(BATCH)]
    asked_for, _ = kernel.read_arguments(asked)
    (config,) = kernel.members_of(asked_for, kernel.HOME_PHOTOS[0]).values()
    with tempfile.TemporaryDirectory() as folder:
        data = drawn_competition(Path(folder) / "drawn", 1)
        tables = load_tables(data, kernel.COMPETITION, Path(folder), config)[0]
        tables = sample(tables, BATCH)
        first = next(iter(MODES))
        found = {name: [] for name in MODES if options.only in name or name == first}
        began = time.monotonic()
        for _ in range(options.rounds):
            for name, costs in found.items():
                costs.append(cost_of_steps(config, tables, *MODES[name]))
    medians = {name: np.median(costs, axis=0) for name, costs in found.items()}
    print(f"\n{options.backbone} at {options.image_size}, {BATCH} photos a step, CPU\n")
    print("| mode | images/s | of the first row's | processor s a step |\n|---|---|---|---|")
    for name, (speed, processor) in medians.items():
        ratio = speed / medians[first][0]
        print(f"| {name} | {BATCH * speed:.0f} | {ratio:.2f} | {processor:.2f} |")
    print(f"\n{options.rounds} rounds in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
