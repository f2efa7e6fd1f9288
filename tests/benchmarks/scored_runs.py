"""Run the predicting kernel on hidden test sets and faults, and print what each run left.

    python tests/benchmarks/scored_runs.py [--rows 500] [--only memory] [--json FILE]

Two members are trained on two folds of a competition of four colours. Then kernel.py, unchanged but
for its settings, predicts with them in Kaggle's surroundings: first the public test set, and then,
under the variable of a scored run, the hidden one. A row a case: exit status and rows of the file
in both runs, and the score, or the message that Kaggle would give.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
sys.path[:0] = [str(ROOT / "lib"), str(TESTS)]

from coloured_competition import hidden_set, write_competition  # noqa: E402
from loopback.sandbox import run_script  # noqa: E402
from loopback.scoring import score_file  # noqa: E402

TRAINING = ["--backbone", "Plain", "--weights", "drawn", "--folds", "2", "--tta", "3"]
TRAINING += ["--members", "a:Plain:image_size=32x40,b:Plain:image_size=40x48"]
TRAINING += ["--stages", "head:0:1e-2:2:views=2"]
SLUG = "sf-dl-car-classification"


class Case:
    """The folders of a case, and its two runs."""

    def __init__(self, work: Path, model: Path, public: Path, hidden: Path, truth: pd.DataFrame):
        self.work, self.model, self.data = work, model, {False: public, True: hidden}
        self.solution = work / "solution.csv"
        work.mkdir()
        truth.to_csv(self.solution, index=False)

    def run(self, scored: bool, minutes: float = 9 * 60, memory: int | None = None) -> dict:
        """Return the exit status or message, the seconds, the rows of the file and the score."""
        settings = {"predict_from": "models", "weights": "none", "recipe": "dry"}
        settings["time_limit"] = f"{minutes:.3f}"
        text = (ROOT / "kernel.py").read_text(encoding="utf-8")
        script = self.work / "script.py"
        script.write_text(text.replace("str] = {}\n", f"str] = {settings}\n", 1), "utf-8")
        inputs = {"lib": ROOT / "lib", SLUG: self.data[scored], "models": self.model}
        working = self.work / ("scored" if scored else "public")
        variables = {"KAGGLE_KERNEL_RUN_TYPE": "Batch"}
        variables |= {"KAGGLE_IS_COMPETITION_RERUN": "1"} if scored else {}
        lines, began = [], time.monotonic()
        try:
            ended = run_script(
                script, inputs, working, lines.append, 60 * minutes, variables, memory=memory
            )
        except TimeoutError:
            ended = "Notebook Timeout"
        except MemoryError:
            ended = "Notebook Exceeded Allowed Compute"
        seconds = time.monotonic() - began
        (self.work / f"{working.name}.log").write_text("\n".join(lines))
        file, rows, score = working / "submission.csv", 0, ended
        if file.is_file():
            rows = len(pd.read_csv(file))
        if scored and ended == 0:
            value, wrong = score_file(file, self.solution, "accuracy")
            score = wrong or f"{value:.4f}"
        took = working / "predicted.json"
        found = json.loads(took.read_text()) if took.is_file() else {}
        return {"ended": ended, "seconds": seconds, "rows": rows, "score": score} | found


def cut(model: Path) -> None:
    """Leave half of the file of a member's first network."""
    members = json.loads((model / "model.json").read_text())["members"]
    file = model / members[0]["networks"][0]["file"]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def show(name: str, rows: dict[str, dict]) -> None:
    """Print a case's row."""
    public, scored = rows["public"], rows["scored"]
    print(
        f"{name:46} {public['ended']!s:6} {public['rows']:5}   {scored['ended']!s:34} "
        f"{scored['rows']:5}  {scored['score']}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500, help="of the hidden test set")
    parser.add_argument(
        "--only", default="", help="the first case, and those whose name holds this"
    )
    parser.add_argument("--json", type=Path, help="gets all that was measured")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        training = write_competition(work / "training")
        model = work / "model"
        command = [sys.executable, ROOT / "kernel.py", "--data", training, "--output", model]
        subprocess.run([*command, *TRAINING], check=True, stdout=subprocess.DEVNULL)
        hidden_set(training, work / "three", 3)
        hidden_set(training, work / "none", 3)
        shutil.rmtree(work / "none" / "test_upload")
        (work / "none" / "test_upload").mkdir()
        truth = hidden_set(training, work / "hidden", options.rows)
        hidden_set(training, work / "damaged", options.rows, damaged=20)
        spoiled = work / "spoiled"
        shutil.copytree(model, spoiled)
        cut(spoiled)
        print(f"{'':46} public: exit, rows   scored: exit, rows, score")

        def both(name, public="three", hidden="hidden", networks=model, **limits) -> dict | None:
            if results and options.only not in name:
                return None
            folders = work / public, work / hidden
            case = Case(work / f"case-{len(results)}", networks, *folders, truth)
            results[name] = {"public": case.run(False), "scored": case.run(True, **limits)}
            show(name, results[name])
            return results[name]

        usual = both(f"three public photos, {options.rows} hidden in another order")
        both("an empty public folder", public="none")
        both("20 damaged photos among the hidden", hidden="damaged")
        few, many = usual["public"]["seconds"], usual["scored"]["seconds"]
        short = (few + (many - few) / 2) / 0.8 / 60  # of which the kernel uses four fifths
        both("a limit too short by half", minutes=short)
        peak = int(usual["scored"]["peak_memory_mb"] * 2**20)
        both("a memory limit of nine tenths of the peak", memory=peak * 9 // 10)
        both("a member's file cut", networks=spoiled)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
