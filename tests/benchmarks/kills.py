"""Kill a run of the whole plan at random moments, until it has been killed so often.

    python tests/benchmarks/kills.py [--kills 30] [--seed N] [--cpu 0]

Two members train on two folds of a tiny competition, each with features that are computed once and
two epochs through the network. First it runs twice without interruption on one CPU: both must
predict the same, bit for bit. Then it runs again, is killed by SIGKILL at random moments between
its plan and its end, and each time the same command goes on until it is done; a new run begins
until there have been enough kills. Each must train every epoch once, and predict what an
uninterrupted run does to within TOLERANCE. Printed are a row a kill and a row a finished run.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

TESTS = Path(__file__).parents[1]
REPOSITORY = TESTS.parent
sys.path[:0] = [str(REPOSITORY / "lib"), str(TESTS)]

from coloured_competition import write_competition  # noqa: E402 - found in the tests

TOLERANCE = 1e-3  # of a probability
PLAN = ["--stages", "head:0:3e-2:1:views=1,all:1:1e-2:2", "--tta", "2", "--folds", "2"]
PLAN += ["--members", "a:TinyNet,b:TinyNet:image_size=32x40"]


def start(data: Path, output: Path) -> subprocess.Popen:
    """Start the kernel with a backbone that trains in seconds."""
    paths = [str(REPOSITORY), str(REPOSITORY / "lib")]
    script = [sys.executable, str(TESTS / "kernel" / "tiny_kernel.py")]
    return subprocess.Popen(
        [*script, "--data", str(data), "--output", str(output), *PLAN],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(data: Path, output: Path, moment: float | None) -> tuple[int, float, str]:
    """Run until the end or `moment` seconds after the plan was printed.

    Returns:
        The exit status, the seconds since the plan, and the last line of the log.
    """
    process, began, last = start(data, output), None, ""
    for line in process.stdout:
        last = line.strip() or last
        if began is None and line.startswith("plan:"):
            began = time.monotonic()
            if moment is not None:
                threading.Timer(moment, process.send_signal, [signal.SIGKILL]).start()
    said = process.communicate()[1]
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"the kernel ended with {process.returncode}: {said}")
    return process.returncode, time.monotonic() - (began or time.monotonic()), last


def predictions(output: Path) -> dict[str, np.ndarray]:
    """Return the probabilities of a finished run."""
    with np.load(output / "probabilities.npz") as stored:
        return {name: stored[name] for name in ("test", "validation")}


def compare(made: Path, expected: Path) -> tuple[bool, float, int]:
    """Return if the epochs are the same, how far probabilities are apart, how many labels are."""
    names = ["member", "fold", "stage", "epoch"]
    rows = [pd.read_csv(output / "history.csv")[names] for output in (made, expected)]
    ours, theirs = predictions(made), predictions(expected)
    differs = max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)
    labels = [pd.read_csv(output / "submission.csv") for output in (made, expected)]
    return rows[0].equals(rows[1]), differs, int((labels[0] != labels[1]).any(axis=1).sum())


def main() -> int:
    """Print the table; return 1 where a run was not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--cpu", type=int, default=0, help="the one to run on")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.cpu})  # which the kernel inherits
    draw, bad = random.Random(options.seed), 0
    print(f"seed of the moments: {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = write_competition(work / "data")
        whole, again = work / "whole", work / "again"
        _, seconds, _ = run(data, whole, None)
        run(data, again, None)
        same, differs, labels = compare(again, whole)
        print(
            f"uninterrupted twice on one CPU: epochs {same}, difference {differs}, {seconds:.0f} s"
        )
        bad += not same or differs > 0
        kills, number = 0, 0
        while kills < options.kills:
            number, status, times = number + 1, -1, 0
            output = work / f"run-{number}"
            while status:
                wanted = draw.uniform(0, seconds) if kills < options.kills else None
                status, took, last = run(data, output, wanted)
                if status:
                    kills, times = kills + 1, times + 1
                    print(
                        f"  kill {kills:2}, {took:5.1f} s after the plan: {last[:90]}", flush=True
                    )
            same, differs, labels = compare(output, whole)
            bad += not same or labels > 0 or differs > TOLERANCE
            print(
                f"run {number}: {times} kills, every epoch once: {same}, probabilities differ by "
                f"{differs:.1e} at most, {labels} labels",
                flush=True,
            )
    print("as it must be" if not bad else f"{bad} runs are not as they must be")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
