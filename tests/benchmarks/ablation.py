"""What each ingredient of the recipe brings: runs of the kernel, one ingredient changed in each.

    python tests/benchmarks/ablation.py DATA [--seeds 1,2] [--only NAME,...] [--epochs 3]
        [--backbone MobileNet --weights FILE --image-size 160 ...]

By default every photo is a test photo: it is judged out of fold, over five folds. With --test the
rows of the sample submission are judged instead, by DATA/solution.csv. Differences are paired by
photo against the first row: with a 95 % interval, and the p value of McNemar's exact test. Options
that are not the benchmark's own go to the kernel. Schedules are variations of the recipe's own.

It can be stopped and started again: finished runs are kept, an unfinished one goes on. Every run
rewrites ablation.md, ablation.csv and ablation.png (the differences with their intervals) in the
output folder. A run takes minutes to hours.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

REPOSITORY = Path(__file__).parents[2]
KERNEL = REPOSITORY / "kernel.py"
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "lib")]

import kernel  # noqa: E402 - found in the repository
from kernelkit.config.settings import text_of  # noqa: E402
from kernelkit.core.progress import clock_text  # noqa: E402
from kernelkit.report.figures import BLUE, SOFT, lettering, new_figure, styled, write_png  # noqa: E402

SETTINGS = {
    "reference": ["--recipe", "reference"],
    "BatchNorm trains": ["--batchnorm", "train"],
    "BatchNorm's momentum .99": ["--norm-momentum", "0.99"],
    "BatchNorm re-estimated": ["--reestimate", "yes"],
    "a cosine a stage": ["--schedule", "restarts"],
    "plateau": ["--schedule", "plateau"],
    "no warm-up": ["--warmup", "0"],
    "no average": ["--ema", "0"],
    "no clipping": ["--clip-norm", "0"],
    "no weight decay": ["--weight-decay", "0"],
    "the head ten times faster": ["--head-rate", "10"],
    "layer-wise decay": ["--layer-decay", "0.9"],
    "label smoothing": ["--label-smoothing", "0.1"],
    "no label smoothing": ["--label-smoothing", "0"],
    "dropout .5": ["--dropout", "0.5"],
    "linear head": ["--head", "linear"],
    "hidden head": ["--head", "hidden"],
    "batches of 8": ["--batch-size", "8"],
    "batches of 16": ["--batch-size", "16"],
    "batches of 32": ["--batch-size", "32"],
    "no TTA": ["--tta", "1"],
    "interpolated (WiSE-FT)": ["--interpolate", "yes"],
}


def ingredients(stages: Sequence[kernel.Stage]) -> dict[str, list[str]]:
    """Return the options of each run, by its name; the first one is the recipe as it is.

    Args:
        stages: the recipe's; the first one fits the head on cached features.
    """
    head, *opened = stages
    *early, last = opened
    sizes = np.linspace(0.6, 1, len(opened)).round(2).tolist()
    schedules = {
        "head alone": [],
        "rate a fifth": [at_rate(stage, 0.2) for stage in opened],
        "rate halved": [at_rate(stage, 0.5) for stage in opened],
        "rate doubled": [at_rate(stage, 2) for stage in opened],
        "rate four times": [at_rate(stage, 4) for stage in opened],
        "all open at once": [replace(stage, fraction=1.0) for stage in opened],
        "smaller photos first": [
            replace(stage, scale=size) for stage, size in zip(opened, sizes, strict=True)
        ],
        "mixup before a clean tail": [*(replace(stage, mixup=0.2) for stage in early), last],
        "CutMix before a clean tail": [*(replace(stage, cutmix=1.0) for stage in early), last],
        "pseudo-labels": [*early, replace(last, pseudo=0.9)],
    }
    options = {name: ["--stages", text_of((head, *rest))] for name, rest in schedules.items()}
    frozen = [*options["rate a fifth"], "--batchnorm", "frozen"]
    options["BatchNorm frozen at a fifth of the rate"] = frozen
    return {"default": []} | options | SETTINGS


def at_rate(stage: kernel.Stage, times: float) -> kernel.Stage:
    """Return a stage at `times` its learning rate."""
    return replace(stage, learning_rate=times * stage.learning_rate)


def finished(output: Path) -> bool:
    """Return whether a run of the kernel has ended there."""
    return (output / "metrics.json").is_file()


def run_kernel(data: Path, output: Path, options: list[str]) -> None:
    """Run the kernel, or go on with a run that was interrupted."""
    command = [sys.executable, str(KERNEL), "--data", str(data), "--output", str(output)]
    output.mkdir(parents=True, exist_ok=True)
    with (output / "log.txt").open("a") as log:
        subprocess.run([*command, *options], stdout=log, stderr=log, check=False)
    if not finished(output):
        print(f"{output.name} has not finished: see {output / 'log.txt'}", flush=True)


def right_answers(data: Path, output: Path, on_test: bool) -> pd.Series:
    """Return for each judged photo whether its class was found, by Id."""
    with np.load(output / "probabilities.npz") as stored:
        part = "test" if on_test else "validation"
        found = pd.Series(stored["classes"][stored[part].argmax(1)], stored[f"{part}_ids"])
        truth = pd.Series(stored["validation_labels"], stored["validation_ids"])
    if on_test:
        solution = pd.read_csv(data / "solution.csv", dtype={0: str})
        truth = solution.set_index(solution.columns[0]).iloc[:, 0]
    return (found.astype(str) == truth.astype(str).reindex(found.index)).sort_index()


def compare(rights: list[pd.Series], base: list[pd.Series]) -> dict[str, float]:
    """Return the difference to `base` over all seeds and photos, its 95 % interval and p value."""
    ours, theirs = (pd.concat(each).to_numpy(float) for each in (rights, base))
    difference = ours - theirs
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    p = binomtest(better, better + worse).pvalue if better + worse else 1.0
    error = 1.96 * difference.std() / np.sqrt(len(difference))
    return {"difference": difference.mean(), "interval": error, "p": p}


def table_of(folders: dict[str, list[Path]], data: Path, on_test: bool) -> pd.DataFrame:
    """Return a row for each ingredient that has finished with every seed, once the first has.

    Args:
        folders: each ingredient's runs, one a seed.
        data: the competition's folder.
        on_test: whether the test photos are judged, and not the labelled ones out of fold.
    """
    done = {name: runs for name, runs in folders.items() if all(map(finished, runs))}
    rights = {
        name: [right_answers(data, run, on_test) for run in runs] for name, runs in done.items()
    }
    base = rights.get(next(iter(folders)))
    if base is None:
        return pd.DataFrame()
    return pd.DataFrame(
        {
            "ingredient": name,
            "accuracy": pd.concat(ours).mean(),
            "seeds": " ".join(f"{one.mean():.4f}" for one in ours),
            "photos": len(ours[0]),
            "seconds": np.mean([seconds_of(run) for run in done[name]]),
        }
        | compare(ours, base)
        for name, ours in rights.items()
    )


def seconds_of(output: Path) -> float:
    """Return what a run took."""
    return json.loads((output / "metrics.json").read_text())["seconds"]


def markdown(table: pd.DataFrame) -> str:
    """Return the table as Markdown."""
    lines = ["| ingredient | accuracy | by seed | difference | p | seconds |", "|" + "---|" * 6]
    for row in table.itertuples():
        difference = f"{row.difference:+.4f} ± {row.interval:.4f}" if row.Index else ""
        lines.append(
            f"| {row.ingredient} | {row.accuracy:.4f} | {row.seeds} | {difference} | "
            f"{row.p:.3f} | {row.seconds:.0f} |"
        )
    return "\n".join(lines) + "\n"


@styled
def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw each row's difference to the first one, in points, with its 95 % interval."""
    others, rows = table.iloc[1:], np.arange(len(table) - 1)
    figure = new_figure(576, 94 + 22 * len(others))
    axes = figure.add_subplot()
    axes.axvline(0, color=SOFT, lw=1)
    axes.errorbar(
        100 * others["difference"], rows, xerr=100 * others["interval"], fmt="o", color=BLUE
    )
    axes.set_yticks(rows, lettering(others["ingredient"], 40))
    axes.set_ylim(len(others) - 0.5, -0.5)
    axes.set_xlabel("difference in points, with its 95 % interval")
    first = table.iloc[0]
    axes.set_title(
        f"against {first.ingredient}: {first.accuracy:.4f} of {first.photos:,} photos", loc="left"
    )
    write_png(figure, path)


def write_table(table: pd.DataFrame, output: Path) -> None:
    """Write the table as CSV, as Markdown and as a picture, if it has rows."""
    if table.empty:
        return
    table.to_csv(output / "ablation.csv", index=False)
    (output / "ablation.md").write_text(markdown(table), encoding="utf-8")
    if len(table) > 1:
        draw(table, output / "ablation.png")


def read_arguments() -> tuple[argparse.Namespace, list[str], dict[str, list[str]]]:
    """Return the benchmark's options, the kernel's, and the chosen ingredients' by their names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("output/ablation"))
    parser.add_argument("--only", help="ingredients, separated by commas", default="")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--folds", default="5")
    parser.add_argument("--test", action="store_true", help="judge the test photos, on one split")
    options, rest = parser.parse_known_args()
    config, _ = kernel.read_arguments(["--data", str(options.data), *rest])
    tried = ingredients(config.stages)
    names = [name for name in options.only.split(",") if name] or list(tried)
    if unknown := [name for name in names if name not in tried]:
        parser.error(f"--only has no ingredient {unknown[0]!r}; there are: {', '.join(tried)}")
    rest += ["--folds", "1" if options.test else options.folds]
    return options, rest, {name: tried[name] for name in names}


def main() -> None:
    """Run what is asked for, and print the table."""
    options, rest, tried = read_arguments()
    seeds = options.seeds.split(",")
    folders = {
        name: [options.output / f"{name}-{seed}".replace(" ", "-") for seed in seeds]
        for name in tried
    }
    runs = [(name, number) for number in range(len(seeds)) for name in tried]
    runs = [(name, number) for name, number in runs if not finished(folders[name][number])]
    began = time.monotonic()
    for count, (name, number) in enumerate(runs, 1):
        changed = [*rest, "--seed", seeds[number], *tried[name]]
        print(f"run {count} of {len(runs)}, {name}: {' '.join(changed)}", flush=True)
        run_kernel(options.data, folders[name][number], changed)
        write_table(table_of(folders, options.data, options.test), options.output)
        left = (time.monotonic() - began) / count * (len(runs) - count)
        print(f"{clock_text(left)} left", flush=True)
    table = table_of(folders, options.data, options.test)
    if table.empty:
        sys.exit(f"{folders[next(iter(tried))][0].name} has not finished: nothing to compare with")
    write_table(table, options.output)
    print(markdown(table))


if __name__ == "__main__":
    main()
