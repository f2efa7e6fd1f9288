"""What a step of training costs beside a plainer one: ratios within one run, on this CPU.

    python tests/benchmarks/step_cost.py [--backbone MobileNet] [--image-size 96x128] [--rounds 3]

Each row is the median of some rounds, in which all modes take turns. The CPU passes for two
devices; these share its cores, so two replicas can at best be as fast as one.
"""

import argparse
import statistics
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

import kernel  # noqa: E402 - found in the repository
from kernelkit.data.batches import make_iterator  # noqa: E402
from kernelkit.data.tables import load_tables  # noqa: E402
from kernelkit.train.backbones import unfreeze  # noqa: E402
from kernelkit.train.devices import make_strategy, share  # noqa: E402
from kernelkit.train.preflight_worker import BATCHES, TIMED, WARM_UP, Stopwatch, sample  # noqa: E402
from kernelkit.train.step_mode import StepMode  # noqa: E402
from sample.competition import drawn_competition  # noqa: E402

ONE, TWO = StepMode(1, "float32"), StepMode(2, "float32")
MODES = {
    "the step, real input": (ONE, True),
    "the step, one batch again and again": (ONE, False),
    "two replicas, real input": (TWO, True),
    "in two parts, real input": (ONE.at_most(8), True),
    "in four parts, real input": (ONE.at_most(4), True),
    "two replicas in two parts each, real input": (TWO.at_most(4), True),
}
BATCH = 16


def steps_per_second(config, tables, mode: StepMode, real: bool) -> float:
    """Return how many steps a second are taken, once all is compiled and decoded."""
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
        stopwatch = Stopwatch()
        epochs = WARM_UP + TIMED
        model.fit(share(batches), epochs=epochs, callbacks=[stopwatch], verbose=0)
        return TIMED * BATCHES / stopwatch.seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="MobileNet")
    parser.add_argument("--image-size", default="96x128")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    asked = ["--backbone", options.backbone, "--image-size", options.image_size]
    asked += ["--recipe", "default", "--weights", "none", "--batch-size", str(BATCH)]
    asked_for, _ = kernel.read_arguments(asked)
    (config,) = kernel.members_of(asked_for, kernel.HOME_PHOTOS[0]).values()
    with tempfile.TemporaryDirectory() as folder:
        data = drawn_competition(Path(folder) / "drawn", 1)
        tables = load_tables(data, kernel.COMPETITION, Path(folder), config)[0]
        tables = sample(tables, BATCH)
        found = {name: [] for name in MODES}
        began = time.monotonic()
        for _ in range(options.rounds):
            for name, mode in MODES.items():
                found[name].append(steps_per_second(config, tables, *mode))
    plain = statistics.median(found["the step, real input"])
    print(f"\n{options.backbone} at {options.image_size}, {BATCH} photos a step, CPU\n")
    print("| mode | images/s | of the step with real input |\n|---|---|---|")
    for name, speeds in found.items():
        speed = statistics.median(speeds)
        print(f"| {name} | {BATCH * speed:.0f} | {speed / plain:.2f} |")
    print(f"\n{options.rounds} rounds in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
