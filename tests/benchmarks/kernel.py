"""The whole kernel beside a plain Keras script of the same work: seconds a phase, peak memory.

    python tests/benchmarks/kernel.py DATA WEIGHTS [--size 128x160] [--epochs 2] [--repeats 1]

DATA is a competition's folder with train.zip and test.zip, WEIGHTS MobileNet's file without top.
Both train the head, half of the backbone and all of it, `--epochs` epochs each, validate after each
epoch, and predict in four views; `plain_keras.py` is the other one. The kernel checks, hashes and
unpacks the photos too, keeps a state that survives a kill, and makes the report: all of that counts
against it. They take turns. Where other work goes on, processor seconds tell more than the clock;
or both run `--together` under one load, and the clock's last row tells which one is ready first.
Memory is the largest sum over all processes, shared pages once.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
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


def processor_seconds(process: psutil.Process) -> float:
    """Return the processor time of a process and its children, those that have ended included."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
        except psutil.Error:
            continue
    return total


def measure(command: list[str]) -> dict[str, tuple[float, float]]:
    """Run a command; return the seconds of its phases by the clock and of all processors.

    "memory" has its peak memory in GB, twice.
    """
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    began, used, phase, took = time.monotonic(), 0.0, "start", {}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    watched, peak, cpu, said = psutil.Process(process.pid), [0.0], [0.0], []

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], memory(watched))
            cpu[0] = max(cpu[0], processor_seconds(watched))
            time.sleep(0.5)

    def end_phase() -> None:
        nonlocal began, used
        now, before = time.monotonic(), took.get(phase, (0.0, 0.0))
        took[phase] = before[0] + now - began, before[1] + cpu[0] - used
        began, used = now, cpu[0]

    threading.Thread(target=watch, daemon=True).start()
    for line in process.stdout:
        said.append(line)
        for mark, following in MARKS.items():
            if line.startswith(mark):
                end_phase()
                phase = following
    if process.wait():
        sys.exit("".join(said[-20:]))
    end_phase()
    together = tuple(map(sum, zip(*took.values(), strict=True)))
    return took | {"all together": together, "memory": (peak[0], peak[0])}


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
    parser.add_argument("--together", action="store_true", help="both at once, under one load")
    options = parser.parse_args()
    phases = ("start", "head", "half", "all", "prediction", "results", "all together", "memory")
    with tempfile.TemporaryDirectory() as work:
        for number in range(options.repeats):
            folder = Path(work) / str(number)
            folder.mkdir()
            commands = [command(options, folder) for command in (ours, plain)]
            with ThreadPoolExecutor(2 if options.together else 1) as pool:
                found = list(pool.map(measure, commands))
            head = "phase", "kernel, s", "plain Keras, s", "plain over kernel"
            more = "kernel, processor s", "plain, processor s", "plain over kernel"
            print(f"| {' | '.join(head + more)} |\n|{7 * '---|'}")
            for phase in phases:
                one, other = (each.get(phase, (0.0, 0.0)) for each in found)
                cells = ["peak memory, GB" if phase == "memory" else phase]
                for ours_took, plain_took in zip(one, other, strict=True):
                    ratio = f"{plain_took / ours_took:.2f}" if ours_took else ""
                    cells += [f"{ours_took:.1f}", f"{plain_took:.1f}", ratio]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
