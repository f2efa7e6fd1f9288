"""Whether the scout's choice is as good as training every candidate, and what it costs.

    python tests/benchmarks/scouting.py DATA WEIGHTS [--backbones MobileNet,Xception]
        [--sizes 96,128,160,192] [--epochs 3] [--limit 40] [--seed 1] [--output DIR]

DATA is a competition's folder with the answers in DATA/solution.csv, WEIGHTS a folder of weights.
Each backbone at each size is a candidate. The scout judges all of them on frozen features (rung 0)
and, for this table, fine-tunes all shortly (rung 1), where a run would do so with the better half.
Then each candidate is trained on its own by the kernel and judged on the test photos. Printed are
a row a candidate, the rank correlations, whether the scout's first choice is within one standard
error of the best of all, and the processor seconds of both. It can be stopped and started again.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from scipy.stats import spearmanr

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "lib"), str(Path(__file__).parent)]

import kernel  # noqa: E402 - found in the repository
from ablation import finished, right_answers, run_kernel  # noqa: E402
from kernelkit.core.files import write_atomically  # noqa: E402
from kernelkit.predict.scout import Scout  # noqa: E402
from kernelkit.train.preflight_worker import StepFactory  # noqa: E402


def processor_seconds() -> float:
    """Return what this process and its children have taken, finished ones and others."""
    own = psutil.Process()
    times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


class WholeScout(Scout):
    """A scout that fine-tunes every candidate, and remembers which of them a run would have."""

    def _better_half(self):
        self.rung_0 = processor_seconds()
        self.half = [each.name for each in super()._better_half()]
        for each in self.alive:
            each.reason = ""
        return self.alive


def scouted(options: argparse.Namespace, settings: list[str], names: dict[str, list[str]]) -> dict:
    """Return what the scout finds: rows, half, order (with it, and on rung 0 alone) and seconds."""
    file = options.output / "scouted.json"
    if file.is_file() and json.loads(file.read_text())["names"] == list(names):
        return json.loads(file.read_text())
    rows = ",".join(
        f"{name}:{name.split('-')[0]}:image_size={name.split('-')[1]}" for name in names
    )
    words = ["--data", str(options.data), *settings, "--candidates", rows, "--folds", "5"]
    config, others = kernel.read_arguments(words)
    scratch = options.output / "scratch"
    scratch.mkdir(exist_ok=True, parents=True)
    run = kernel.open_run(config, others, options.output / "scout", scratch)
    parts = kernel.weights_of, kernel.build_model, kernel.compile_model, kernel.augmentation
    scout = WholeScout(run, StepFactory(*parts), kernel.BACKBONES, kernel.VIEWS, Path("none"))
    began = processor_seconds()
    scout.look_at_all()
    frozen = [each.name for each in scout._ranked(scout.alive, scout.judged)]
    half = [each for each in scout.alive if each.name in scout.half]
    order = [each.name for each in scout._ranked(half, scout.held)] if half else frozen
    found = {
        "names": list(names),
        "rows": scout.rows(scout.choose()),
        "half": scout.half,
        "frozen": frozen,
        "order": order,
        "seconds": processor_seconds() - began,
        "rung_0_seconds": scout.rung_0 - began,
    }
    write_atomically(file, json.dumps(found, indent=1))
    return found


def trained(options: argparse.Namespace, settings: list[str], names: dict) -> pd.DataFrame:
    """Return a row for each candidate that was trained on its own: accuracy and seconds."""
    rows = []
    for name, words in names.items():
        output = options.output / name
        if not finished(output):
            began, clock = processor_seconds(), time.monotonic()
            run_kernel(options.data, output, [*settings, *words])
            took = {"processor": processor_seconds() - began, "seconds": time.monotonic() - clock}
            write_atomically(output / "took.json", json.dumps(took))
            print(f"{name}: {took['processor']:.0f} processor seconds", flush=True)
        if finished(output):
            right = right_answers(options.data, output, on_test=True)
            took = json.loads((output / "took.json").read_text())
            row = {"name": name, "accuracy": right.mean(), "photos": len(right)}
            rows.append(row | {"processor": took["processor"]})
    return pd.DataFrame(rows)


def show(found: dict, table: pd.DataFrame) -> None:
    """Print the rows, the correlations, the choice and the cost."""
    rows = pd.DataFrame(found["rows"])[["name", "score", "tuned"]].merge(table, on="name")
    print("| candidate | frozen, out of fold | after 2 epochs | trained | processor seconds |")
    print("|---|---|---|---|---|")
    for row in rows.sort_values("accuracy", ascending=False).itertuples():
        tuned = f"{row.tuned:.4f}" if row.tuned is not None and np.isfinite(row.tuned) else "-"
        cells = row.name, f"{row.score:.4f}", tuned, f"{row.accuracy:.4f}", f"{row.processor:.0f}"
        print(f"| {' | '.join(cells)} |")
    for rung in ("score", "tuned"):
        known = rows.dropna(subset=[rung])
        rank = spearmanr(known[rung], known.accuracy).statistic if len(known) > 2 else np.nan
        print(f"rank correlation of {rung} with the trained accuracy: {rank:.2f} ({len(known)})")
    accuracy = rows.set_index("name").accuracy
    best, photos = accuracy.max(), rows.photos.iloc[0]
    error = np.sqrt(best * (1 - best) / photos)
    for kind in ("frozen", "order"):
        first = next((name for name in found[kind] if name in accuracy.index), None)
        within = "within" if accuracy[first] >= best - error else "NOT within"
        print(
            f"{'rung 0 alone' if kind == 'frozen' else 'with rung 1'} takes {first}, "
            f"{accuracy[first]:.4f}: {within} one standard error ({error:.4f}) of the best, "
            f"{accuracy.idxmax()} {best:.4f}"
        )
    all_of_them = rows.processor.sum()
    for rung, seconds in (
        ("the scout on frozen features", found["rung_0_seconds"]),
        ("with all fine-tuned shortly", found["seconds"]),
    ):
        print(
            f"{rung}: {seconds:.0f} of {all_of_them:.0f} processor seconds of training all, "
            f"{seconds / all_of_them:.2f}"
        )
    print(f"a run would have fine-tuned {', '.join(found['half']) or 'none'} shortly")


def main() -> None:
    """Measure what is not measured yet, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--backbones", default="MobileNet,Xception")
    parser.add_argument("--sizes", default="96,128,160,192")
    parser.add_argument("--epochs", default="3", help="of a stage")
    parser.add_argument("--limit", help="training photos of a class")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--output", type=Path, default=Path("output/scouting"))
    options = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    settings = ["--weights", str(options.weights), "--epochs", options.epochs, "--tta", "2"]
    settings += ["--seed", options.seed, "--preflight", "no", "--workers", "1"]
    settings += ["--limit", options.limit] if options.limit else []
    names = {
        f"{backbone}-{size}": ["--backbone", backbone, "--image-size", size]
        for backbone in options.backbones.split(",")
        for size in options.sizes.split(",")
    }
    table = trained(options, settings, names)
    show(scouted(options, settings, names), table)


if __name__ == "__main__":
    main()
