"""The kernel's recipes beside timm's and fastai's: same weights, photos, splits, size and epochs.

    python tests/benchmarks/peer_recipes.py WEIGHTS.h5 DATA [DATA ...] [--seeds 0,1,2]
        [--epochs 12] [--limit 40] [--only default,timm] [--output output/peers] [--threads 2]

WEIGHTS.h5 are Keras' ImageNet weights of MobileNet without the top; they are converted tensor by
tensor for timm, and the features of both are compared. Each DATA is a competition's folder in the
home layout with a solution.csv. The peers get an environment of their own (--peers-python names one
that is there), train on the photos that the kernel's split trains on, and predict the same
held-back photos at 160x160 pixels, without and with their views.

Printed are a table of accuracies a set and seed, the differences to `default` pooled over all
photos with the p value of McNemar's exact test, and each run's processor seconds by its parts. Runs
are kept: the same command goes on where it was stopped. A run takes 5 to 30 processor minutes.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[2]
SIZE = 160
PACKAGES = ("torch==2.13.*", "torchvision==0.28.*", "timm==1.0.*", "fastai==2.8.*")
HEAD = "head:0:1e-3:1:views=4"


def recipes(epochs: int) -> dict[str, list[str]]:
    """Return the kernel's options of each of our recipes, for so many epochs in all."""

    def at_rate(rate: str) -> list[str]:
        names = ("half:0.5", "three-quarters:0.75", "all:1")
        return ["--stages", ",".join([HEAD, *(f"{n}:{rate}:{epochs // 3}" for n in names)])]

    return {
        "default": ["--epochs", str(epochs // 3)],
        "rate 1.5e-3": at_rate("1.5e-3"),
        "rate 2e-3": at_rate("2e-3"),
        "linear head": ["--epochs", str(epochs // 3), "--head", "linear"],
        "hidden head": ["--epochs", str(epochs // 3), "--head", "hidden"],
        "hidden head at 1.5e-3": [*at_rate("1.5e-3"), "--head", "hidden"],
        "all open after the head": ["--stages", f"{HEAD},all:1:1e-3:{epochs}"],
        "all open, label smoothing": [
            *("--stages", f"{HEAD},all:1:1e-3:{epochs}", "--label-smoothing", "0.1")
        ],
        "all open, smoothing, rate 3e-4": [
            *("--stages", f"{HEAD},all:1:3e-4:{epochs}", "--label-smoothing", "0.1")
        ],
    }


PEERS = ("timm", "fastai", "fastai at lr_find's rate")


def environment(output: Path, given: Path | None) -> Path:
    """Return the Python of the peers' environment, which is made where it is missing."""
    if given:
        return given
    python = output / "environment" / "bin" / "python"
    if not python.exists():
        print(f"installing {', '.join(PACKAGES)} (some gigabytes)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", output / "environment"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        more = [python, "-m", "pip", "install", "-q", "opencv-python-headless"]
        subprocess.run(more, check=True)
    return python


def convert(weights: Path, photos: list[Path], output: Path) -> Path:
    """Write Keras' weights under timm's names, with some photos and Keras' features of them."""
    file = output / "mobilenet.npz"
    if file.exists():
        return file
    import cv2
    import keras

    network = keras.applications.MobileNet(
        include_top=False, weights=str(weights), input_shape=(SIZE, SIZE, 3)
    )
    named: dict[str, np.ndarray] = {}

    def norm(ours: str, theirs: str) -> None:
        names = ("weight", "bias", "running_mean", "running_var")
        for name, value in zip(names, network.get_layer(ours).get_weights(), strict=True):
            named[f"{theirs}.{name}"] = value

    named["conv_stem.weight"] = network.get_layer("conv1").get_weights()[0].transpose(3, 2, 0, 1)
    norm("conv1_bn", "bn1")
    blocks = [(stage, n) for stage, count in enumerate((1, 2, 2, 6, 2)) for n in range(count)]
    for number, (stage, n) in enumerate(blocks, 1):
        block = f"blocks.{stage}.{n}"
        depthwise, pointwise = (
            network.get_layer(f"conv_{kind}_{number}").get_weights()[0] for kind in ("dw", "pw")
        )
        named[f"{block}.conv_dw.weight"] = depthwise.transpose(2, 3, 0, 1)
        named[f"{block}.conv_pw.weight"] = pointwise.transpose(3, 2, 0, 1)
        norm(f"conv_dw_{number}_bn", f"{block}.bn1")
        norm(f"conv_pw_{number}_bn", f"{block}.bn2")
    some = np.stack([cv2.resize(cv2.imread(str(path))[..., ::-1], (SIZE, SIZE)) for path in photos])
    features = network.predict(np.float32(some) / 127.5 - 1, verbose=0)
    np.savez(file, **named, photos=some, features=features)
    return file


def unpack(data: Path, folder: Path) -> dict[str, Path]:
    """Unpack a competition's photos; return their paths by Id."""
    if not folder.exists():
        for name in ("train.zip", "test.zip"):
            with zipfile.ZipFile(data / name) as bundle:
                bundle.extractall(folder)
    return {path.name: path for path in folder.rglob("*.jpg")}


def processor_seconds(command: list, log: Path) -> tuple[float, float]:
    """Run a command; return the processor seconds and the peak bytes of its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("a") as file:
        subprocess.run(list(map(str, command)), stdout=file, stderr=file, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, after.ru_maxrss * 1024


def run_ours(options, data: Path, folder: Path, seed: int, more: list[str]) -> None:
    """Run the kernel, and note what it cost."""
    command = [sys.executable, Path(__file__).with_name("kernel_parts.py"), folder / "parts.json"]
    command += ["--data", data, "--output", folder / "run"]
    command += ["--limit", options.limit] if options.limit else []
    command += ["--backbone", "MobileNet", "--weights", options.weights, "--image-size", SIZE]
    spent, peak = processor_seconds([*command, "--seed", seed, *more], folder / "log.txt")
    parts = json.loads((folder / "parts.json").read_text())
    figures = {"processor": spent, "peak_bytes": peak, "parts": parts}
    with np.load(folder / "run" / "probabilities.npz") as stored:
        np.savez(
            folder / "found.npz", plain=stored["test"], views=stored["test"],
            ids=stored["test_ids"], classes=stored["classes"], figures=json.dumps(figures),
        )  # fmt: skip


def run_peer(options, python: Path, peer: str, data: Path, folder: Path, seed: int, base: Path):
    """Run a peer on the photos that the kernel's run in `base` trained on, and note the cost."""
    paths = unpack(data, options.output / data.name)
    photos = pd.read_csv(base / "run" / "photos.csv", dtype=str)
    solution = pd.read_csv(data / "solution.csv", dtype=str)
    training = photos[(photos["set"] == "train") & photos["fold"].isna()]
    classes = sorted(solution.iloc[:, 1].unique(), key=int)
    rows = zip(training["Id"].str.rpartition("/")[2], training["label"], strict=True)
    task = {
        "train": [(str(paths[Id]), classes.index(label)) for Id, label in rows],
        "test": [(str(paths[Id]), classes.index(label)) for Id, label in solution.to_numpy()],
        "classes": len(classes), "seed": seed, "epochs": options.epochs, "peer": peer,
        "threads": options.threads, "output": str(folder / "peer.npz"),
        "weights": str(convert(options.weights, list(paths.values())[:8], options.output)),
    }  # fmt: skip
    (folder / "task.json").write_text(json.dumps(task))
    script = Path(__file__).with_name("peer_training.py")
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # else threads that wait count as work
    spent, peak = processor_seconds([python, script, folder / "task.json"], folder / "log.txt")
    with np.load(folder / "peer.npz") as stored:
        figures = json.loads(str(stored["figures"])) | {"processor": spent, "peak_bytes": peak}
        np.savez(
            folder / "found.npz", plain=stored["plain"], views=stored["views"],
            ids=solution.iloc[:, 0], classes=classes, figures=json.dumps(figures),
        )  # fmt: skip


def right_of(folder: Path, data: Path, kind: str) -> pd.Series:
    """Return for each held-back photo whether its class was found, by Id."""
    truth = pd.read_csv(data / "solution.csv", dtype=str).set_index("Id").iloc[:, 0]
    with np.load(folder / "found.npz", allow_pickle=True) as stored:
        found = pd.Series(stored["classes"][stored[kind].argmax(1)].astype(str), stored["ids"])
    return (found == truth.reindex(found.index)).sort_index()


def figures_of(folder: Path) -> dict:
    """Return what a run cost."""
    with np.load(folder / "found.npz", allow_pickle=True) as stored:
        return json.loads(str(stored["figures"]))


def print_tables(options, names: list[str]) -> None:
    """Print accuracies, pooled differences to the first recipe, and costs, of complete runs."""
    runs = [(data, seed) for data in options.data for seed in options.seeds]
    folders = {name: [folder_of(options, *run, name) for run in runs] for name in names}
    done = [
        n
        for n in range(len(runs))
        if all((each[n] / "found.npz").exists() for each in folders.values())
    ]
    if not done:
        return
    heads = [f"{runs[n][0].name} {runs[n][1]}" for n in done]
    heads = ["recipe", *heads, "pooled", "won, lost, p", "processor s", "peak GB"]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    base = None
    kinds = {name: ("plain", "views") if name in PEERS else ("views",) for name in names}
    for name, kind in [(each, kind) for each in names for kind in kinds[each]]:
        rights = [right_of(folders[name][n], runs[n][0], kind) for n in done]
        every = pd.concat(rights).to_numpy()
        base = every if base is None else base
        won, lost = int((every & ~base).sum()), int((base & ~every).sum())
        p = binomtest(won, won + lost).pvalue if won + lost else 1.0
        costs = [figures_of(folders[name][n]) for n in done]
        cells = [f"{name}, {kind}", *(f"{each.sum()} of {len(each)}" for each in rights)]
        cells += [f"{every.mean():.4f}", f"{won}, {lost}, {p:.3f}"]
        cells += [f"{np.mean([cost['processor'] for cost in costs]):.0f}"]
        cells += [f"{max(cost['peak_bytes'] for cost in costs) / 2**30:.1f}"]
        print("| " + " | ".join(cells) + " |")
    for name, n in [(each, n) for each in names for n in done]:
        cost = figures_of(folders[name][n])
        parts = ", ".join(f"{part} {seconds:.0f}" for part, seconds in cost["parts"].items())
        apart = f"; features differ by {cost['difference']:.1e}" if "difference" in cost else ""
        print(f"{name}, {runs[n][0].name}, seed {runs[n][1]}: {parts}{apart}")


def folder_of(options, data: Path, seed: int, name: str) -> Path:
    """Return the folder of a run."""
    limited = f"{data.name}-{options.limit}" if options.limit else data.name
    return options.output / f"{limited}-{seed}-{name}".replace(" ", "-").replace("'", "")


def main() -> None:
    """Run what is missing, and print the tables after each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=12, help="in all, a multiple of three")
    parser.add_argument("--limit", type=int, help="labelled photos of a class, at most")
    parser.add_argument("--only", default="", help="recipes and peers, separated by commas")
    parser.add_argument("--output", type=Path, default=Path("output/peers"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peers-python", type=Path, help="an environment that has the peers")
    options = parser.parse_args()
    options.seeds = [int(seed) for seed in options.seeds.split(",")]
    options.output = options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    ours = recipes(options.epochs)
    names = [name for name in options.only.split(",") if name] or [*ours, *PEERS]
    names = ["default", *(name for name in names if name != "default")]
    if unknown := [name for name in names if name not in (*ours, *PEERS)]:
        parser.error(f"--only has {unknown[0]!r}; there are {', '.join([*ours, *PEERS])}")
    python = environment(options.output, options.peers_python) if {*names} & {*PEERS} else None
    for seed in options.seeds:
        for data in options.data:
            for name in names:
                folder = folder_of(options, data, seed, name)
                if (folder / "found.npz").exists():
                    continue
                folder.mkdir(exist_ok=True)
                print(f"{name} on {data.name}, seed {seed}", flush=True)
                if name in ours:
                    run_ours(options, data, folder, seed, ours[name])
                else:
                    base = folder_of(options, data, seed, "default")
                    run_peer(options, python, name, data, folder, seed, base)
        print_tables(options, names)


if __name__ == "__main__":
    main()
