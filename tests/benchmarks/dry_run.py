"""Accuracy and time of the dry run, `python kernel.py`, over several seeds.

    python tests/benchmarks/dry_run.py                     (seeds 1 to 5: about five minutes)
    python tests/benchmarks/dry_run.py --seeds 42 --set --epochs 2

A seed decides the drawn competition, the split, the head and every augmentation. `validation` is
the accuracy that the run states, `test` that of its submission; processor seconds count all cores.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "lib"))

from sample.competition import draw_competition  # noqa: E402 - found in lib/


@dataclass(frozen=True)
class DryRun:
    """A finished dry run."""

    validation: float  # accuracies
    test: float
    seconds: float
    processor_seconds: float
    metrics: dict
    log: str


def dry_run(seed: int, folder: Path, *arguments: str, kernel: Path | None = None) -> DryRun:
    """Run the kernel without data in `folder`; raise RuntimeError with its words if it fails."""
    output, truth = folder / "output", folder / "solution.csv"
    command = [sys.executable, str(kernel or REPOSITORY / "kernel.py"), "--seed", str(seed)]
    command += ["--output", str(output), *arguments]
    began, before = monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    seconds, after = monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    draw_competition(folder / "again", seed=seed, solution=truth)  # the same photos
    metrics = json.loads((output / "metrics.json").read_text())
    predicted = pd.read_csv(output / "submission.csv").set_index("Id").Category
    right = predicted.eq(pd.read_csv(truth).set_index("Id").Category)
    return DryRun(
        validation=metrics["val_accuracy_tta" if metrics["tta_used"] else "val_accuracy"],
        test=float(right.mean()),
        seconds=seconds,
        processor_seconds=sum(
            getattr(after, kind) - getattr(before, kind) for kind in ("ru_utime", "ru_stime")
        ),
        metrics=metrics,
        log=done.stdout,
    )


def main() -> None:
    """Print a row a seed, then the lowest accuracies and the mean times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--kernel", type=Path, help="another kernel.py than the repository's")
    parser.add_argument(
        "--set", nargs=argparse.REMAINDER, default=[], help="the kernel's arguments"
    )
    arguments = parser.parse_args()
    runs = []
    print(f"{'seed':>6}  validation    test  seconds  processor seconds")
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            run = dry_run(seed, Path(folder), *arguments.set, kernel=arguments.kernel)
        runs.append(run)
        print(
            f"{seed:>6}      {run.validation:.4f}  {run.test:.4f}  {run.seconds:7.1f}  "
            f"{run.processor_seconds:17.1f}",
            flush=True,
        )
    lowest = [min(getattr(run, name) for run in runs) for name in ("validation", "test")]
    means = [
        statistics.mean(getattr(run, name) for run in runs)
        for name in ("seconds", "processor_seconds")
    ]
    print(f"lowest      {lowest[0]:.4f}  {lowest[1]:.4f}")
    print(f"  mean                      {means[0]:7.1f}  {means[1]:17.1f}")


if __name__ == "__main__":
    main()
