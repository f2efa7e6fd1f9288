"""The whole kernel beside a plain Keras script of the same work: seconds a phase, peak memory.

    python tests/benchmarks/kernel.py DATA WEIGHTS [--size 128x160] [--epochs 2] [--repeats 1]

DATA is a competition's folder with train.zip and test.zip, WEIGHTS MobileNet's file without top.
Both train the head, half of the backbone and all of it, `--epochs` epochs each, validate after each
epoch, and predict in four views; `plain_keras.py` is the other one. The kernel checks, hashes and
unpacks the photos too, keeps a state that survives a kill, and makes the report: all of that counts
against it. They take turns. Memory is the largest sum over all processes, shared pages once.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
PLAIN = Path(__file__).with_name("plain_keras.py")
BATCH = 32
MARKS = {  # how a line begins after which the phase goes on
    "stage head begins": "head",
    "stage half begins": "half",
    "stage all begins": "all",
    "stage all is over": "prediction",
    "predicting": "prediction",
    "validation accuracy": "results",
    "writing": "results",
}


def memory(process: psutil.Process) -> float:
    """Return the GB that a process and its children take, shared pages counted once."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e9


def measure(command: list[str]) -> dict[str, float]:
    """Run a command; return the seconds of its phases, and its peak memory in GB as "memory"."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    began, phase, took = time.monotonic(), "start", {}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak, said = [0.0], []

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], memory(psutil.Process(process.pid)))
            time.sleep(0.5)

    threading.Thread(target=watch, daemon=True).start()
    for line in process.stdout:
        said.append(line)
        for mark, following in MARKS.items():
            if line.startswith(mark):
                now = time.monotonic()
                took[phase] = took.get(phase, 0.0) + now - began
                began, phase = now, following
    if process.wait():
        sys.exit("".join(said[-20:]))
    took[phase] = took.get(phase, 0.0) + time.monotonic() - began
    return took | {"all together": sum(took.values()), "memory": peak[0]}


def ours(options: argparse.Namespace, folder: Path) -> list[str]:
    """Return the command that runs the kernel."""
    stages = ",".join(
        f"{name}:{fraction}:1e-3:{options.epochs}"
        for name, fraction in (("head", 0), ("half", 0.5), ("all", 1))
    )
    command = [sys.executable, str(REPOSITORY / "kernel.py"), "--data", str(options.data)]
    command += ["--output", str(folder / "ours"), "--fresh", "--backbone", "mobilenet"]
    command += ["--weights", str(options.weights), "--image-size", options.size, "--tta", "4"]
    return [*command, "--stages", stages, "--batch-size", str(BATCH)]


def plain(options: argparse.Namespace, folder: Path) -> list[str]:
    """Return the command that runs the plain script; the photos are unpacked for it."""
    for name in ("train", "test"):
        if not (folder / name).exists():
            with zipfile.ZipFile(options.data / f"{name}.zip") as archive:
                archive.extractall(folder / name)
    train, test = ((folder / name / top) for name, top in (("train", "train"), ("test", "")))
    numbers = [*options.size.split("x"), options.epochs, BATCH]
    command = [sys.executable, str(PLAIN), str(train), str(test), str(options.weights)]
    return [*command, *map(str, numbers), str(folder)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--size", default="128x160")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    phases = ("start", "head", "half", "all", "prediction", "results", "all together", "memory")
    with tempfile.TemporaryDirectory() as work:
        for number in range(options.repeats):
            folder = Path(work) / str(number)
            folder.mkdir()
            found = []
            for command in (ours, plain):
                found.append(measure(command(options, folder)))
                print({name: round(value, 1) for name, value in found[-1].items()}, flush=True)
            print("| phase | kernel, s | plain Keras, s | plain over kernel |\n|---|---|---|---|")
            for phase in phases:
                one, other = (each.get(phase, 0.0) for each in found)
                name = "peak memory, GB" if phase == "memory" else phase
                ratio = f"{other / one:.2f}" if one else ""
                print(f"| {name} | {one:.1f} | {other:.1f} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
