"""How many planted wrong labels the list of suspects finds, and what leaving photos out brings.

    python tests/benchmarks/planted_labels.py DATA... [--shares 0,0.02,0.1] [--seeds 1]
        [--backbone MobileNet --weights FILE --image-size 160 --stages head:0:1e-3:1:views=4 ...]

A share of the training photos of each folder gets the label of another class, drawn evenly. The
kernel judges every photo out of fold and lists suspects: the run "all". Then it runs again without
the whole list ("list"), and without the rows of the list whose label really is
wrong, as a person who looks at them finds ("reviewed"). The accuracy is on the test photos, by
DATA/solution.csv, from the mean of the folds' networks. Beside the list stands what confident
learning accuses as published, without the two bars and the condition that ours adds.

Options that are not the benchmark's own go to the kernel. It can be stopped and started again: a
run that has finished is kept. A run takes minutes.
"""

import argparse
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.append(str(Path(__file__).parent))

from ablation import finished, right_answers, run_kernel, seconds_of

FOUND = ("listed", "precision", "recall")


def read_arguments() -> tuple[argparse.Namespace, list[str]]:
    """Return the benchmark's options, and the kernel's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, default=Path("output/planted"))
    parser.add_argument("--shares", default="0,0.02,0.1")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--folds", default="5")
    parser.add_argument("--only", default="all,list,reviewed", help="runs, the first is needed")
    return parser.parse_known_args()


def plant(data: Path, target: Path, share: float, seed: int) -> None:
    """Write a copy of a folder in the home layout, its photos without class folders, to a new one.

    `share` of the rows of train.csv get another label; planted.csv has their Ids.
    """
    if (target / "planted.csv").is_file():
        return
    for name, folder in (("train.zip", "train"), ("test.zip", "test_upload")):
        (target / folder).mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(data / name) as archive:
            for member in archive.namelist():
                if member.endswith(".jpg"):
                    (target / folder / Path(member).name).write_bytes(archive.read(member))
    for name in ("sample-submission.csv", "solution.csv"):
        (target / name).write_bytes((data / name).read_bytes())
    table = pd.read_csv(data / "train.csv", dtype=str)
    labels, classes = table.iloc[:, 1].to_numpy(str), np.unique(table.iloc[:, 1].to_numpy(str))
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(table), round(share * len(table)), replace=False)
    moved = np.searchsorted(classes, labels[rows]) + rng.integers(1, len(classes), len(rows))
    labels[rows] = classes[moved % len(classes)]
    table.assign(**{table.columns[1]: labels}).to_csv(target / "train.csv", index=False)
    table.iloc[rows].to_csv(target / "planted.csv", index=False)


def mark(output: Path, target: Path, wrong: set[str] | None) -> bool:
    """Write a run's list with yes in each row, or in those of the Ids; return if there is one."""
    if not (output / "suspects.csv").is_file():
        return False
    table = pd.read_csv(output / "suspects.csv", dtype={"Id": str})
    marked = [wrong is None or Id in wrong for Id in table["Id"]]
    table.assign(leave_out=["yes" if one else "no" for one in marked]).to_csv(target, index=False)
    return any(marked)


def runs_of(data: Path, share: float, seed: int, arguments, rest: list[str]) -> list[dict]:
    """Make the runs of a folder, and return the table's rows."""
    work = arguments.output / f"{data.name}-{share:g}-{seed}"
    plant(data, work / "data", share, seed)
    planted = set(pd.read_csv(work / "data" / "planted.csv", dtype=str).iloc[:, 0])
    options = [*rest, "--folds", arguments.folds, "--seed", str(seed)]
    rows = []
    for name in arguments.only.split(","):
        given = []
        if name != "all":
            marked = work / f"{name}.csv"
            if not mark(work / "all", marked, None if name == "list" else planted):
                continue
            given = ["--exclude", str(marked)]
        if not finished(work / name):
            run_kernel(work / "data", work / name, [*options, *given])
        if not finished(work / name):
            continue
        rows.append(row_of(work / name, work / "data", planted) | {"run": name})
        rows[-1] |= {"photos": data.name, "share": share, "seed": seed}
        print(rows[-1], flush=True)
    return rows


def published(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return whom confident learning accuses as published, without our bars, bool [photos].

    After Northcutt et al. (2021): off the diagonal of the confident joint.
    """
    thresholds = np.full(probabilities.shape[1], np.inf)
    for label in np.unique(truth):
        thresholds[label] = probabilities[truth == label, label].mean()
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    return (reached.max(1) >= 0) & (reached.argmax(1) != truth)


def found(listed: set[str], wrong: set[str], prefix: str = "") -> dict:
    """Return how long a list is, and its precision and recall."""
    hits = len(listed & wrong)
    return {
        f"{prefix}listed": len(listed),
        f"{prefix}precision": hits / len(listed) if listed else np.nan,
        f"{prefix}recall": hits / len(wrong) if wrong else np.nan,
    }


def row_of(output: Path, data: Path, planted: set[str]) -> dict:
    """Return the figures of a run."""
    with np.load(output / "probabilities.npz") as stored:
        ids, labels = (stored[f"validation_{name}"].astype(str) for name in ("ids", "labels"))
        classes, said = stored["classes"].astype(str), stored["validation"]
        right = classes[said.argmax(1)] == labels
        truth = np.asarray([classes.tolist().index(label) for label in labels])
    wrong, listed = planted & set(ids), set()
    if (output / "suspects.csv").is_file():
        listed = set(pd.read_csv(output / "suspects.csv", dtype={"Id": str})["Id"])
    figures = {"wrong": len(wrong), "validation": float(right.mean())}
    figures |= found(set(ids[published(said, truth)]), wrong, "published ") | found(listed, wrong)
    figures["held out"] = float(right_answers(data, output, on_test=True).mean())
    return figures | {"seconds": seconds_of(output)}


def markdown(rows: list[dict]) -> str:
    """Return the table as Markdown."""
    lists = [f"{rule}{name}" for rule in ("published ", "") for name in FOUND]
    names = ["photos", "share", "seed", "run", "wrong", "validation", *lists, "held out", "seconds"]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        shown = dict(row, seconds=f"{row['seconds']:.0f}", share=f"{row['share']:.0%}")
        shown |= {name: f"{row[name]:.2f}" for name in lists if not name.endswith("listed")}
        shown |= {name: f"{row[name]:.4f}" for name in ("validation", "held out")}
        lines.append("| " + " | ".join(str(shown[name]) for name in names) + " |")
    return "\n".join(lines).replace("nan", "") + "\n"


def main() -> None:
    """Make the runs that are missing, and print the table."""
    arguments, rest = read_arguments()
    rows = []
    for seed in map(int, arguments.seeds.split(",")):
        for data in arguments.data:
            for share in map(float, arguments.shares.split(",")):
                rows += runs_of(data, share, seed, arguments, rest)
                arguments.output.mkdir(parents=True, exist_ok=True)
                (arguments.output / "planted.md").write_text(markdown(rows), encoding="utf-8")
    print(markdown(rows))


if __name__ == "__main__":
    main()
