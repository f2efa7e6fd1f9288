"""Compare the accuracy of training with fused and with plain augmentation, seed by seed.

    PHOTOS=DIR python tests/benchmarks/fused_accuracy.py [--seeds 1 2 3 4] [kernel options ...]

DIR is a competition's folder with a solution.csv, which has the labels of the test photos. Options
that this program does not know are the kernel's, for example `--backbone mobilenet --weights FILE
--image-size 160 --epochs 3`. Each seed is trained twice; the table shows accuracy on the test
photos, and the differences fused - plain with their mean and its standard error.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from sklearn.metrics import accuracy_score
from tqdm import tqdm

KERNEL = Path(__file__).resolve().parents[2] / "kernel.py"


def accuracy_of(data: Path, output: Path) -> float:
    """Return the accuracy of a submission on the test photos."""
    solution = pd.read_csv(data / "solution.csv", dtype=str)
    submission = pd.read_csv(output / "submission.csv", dtype=str)
    truth = solution.merge(submission, on=solution.columns[0], suffixes=("_true", "_predicted"))
    return accuracy_score(truth.iloc[:, 1], truth.iloc[:, 2])


def train(data: Path, seed: int, fuse: str, options: list[str]) -> float:
    """Run the kernel once and return its accuracy on the test photos."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, str(KERNEL), "--data", str(data), "--output", output]
        command += ["--seed", str(seed), "--fuse", fuse, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return accuracy_of(data, Path(output))


def main() -> None:
    """Train every seed both ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    arguments, options = parser.parse_known_args()
    data = Path(os.environ["PHOTOS"])
    runs = [(seed, fuse) for seed in arguments.seeds for fuse in ("no", "yes")]
    rows = [
        {"seed": seed, "fuse": fuse, "accuracy": train(data, seed, fuse, options)}
        for seed, fuse in tqdm(runs, unit="run")
    ]
    table = pd.DataFrame(rows).pivot(index="seed", columns="fuse", values="accuracy")
    table = table.rename(columns={"no": "plain", "yes": "fused"}).rename_axis(columns=None)
    table["difference"] = table.fused - table.plain
    print(table.to_string(float_format="{:.4f}".format))
    difference = table.difference
    print(f"mean difference {difference.mean():+.4f}, standard error {difference.sem():.4f}")


if __name__ == "__main__":
    main()
