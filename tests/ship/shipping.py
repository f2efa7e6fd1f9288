"""A project, a competition and a loopback Kaggle for the tests of `ship`."""

import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faulty import FaultyLoopback
from ship.ledger import Ledger, Run

REPOSITORY = Path(__file__).resolve().parents[2]
COMPETITION = "sf-dl-car-classification"
KEY = "k3y-that-must-never-be-seen-0123456789"
PACE = {
    "SHIP_TIMEOUT": "2",
    "SHIP_RETRIES": "3",
    "SHIP_BACKOFF": "0.05",
    "SHIP_POLL": "0.05",
    "SHIP_POLL_MAX": "0.2",
    "SHIP_PROVE": "0.5",
    "SHIP_OUTAGE": "0.3",
}
FORKS = hasattr(os, "fork") and "WHOLE_PROCESSES" not in os.environ
"""Whether `World.ship` does without starting Python anew, which WHOLE_PROCESSES=1 forbids."""
KERNEL = '''
"""A quick stand-in for kernel.py with the same command line, log and output."""

import csv
import hashlib
import json
import os
import sys
import time
from pathlib import Path

# --- overrides (ship push --set writes here; leave empty) ---
OVERRIDES: dict[str, str] = {}
# --- end of overrides ---



Layout = dict
COMPETITION = Layout(
    sample_csv="sample-submission.csv",
    train_csv="train.csv",
    train_photos=("train", "train.zip"),
    test_photos=("test_upload", "test.zip"),
)


def setting(default, help):
    return default


class Config:
    recipe: str = setting("quick", "row of recipes")
    backbone: str = setting("MobileNet", "row of backbones")
    seconds: str = setting("0", "how long it takes")
    fail: str = setting("", "fail with these words")
    label: str = setting("", "predict nothing else")
    limit: str = setting("", "photos")
    time_limit: str = setting("", "minutes")
    shift: str = setting("0", "predict another class")
    predict_from: str = setting("", "dataset of the networks that predict")
    weights: str = setting("", "not used")
    model: str = setting("", "whether it leaves a network")
    skill: str = setting("", "how many of the 40 validation photos it gets right")
    models: str = setting("", "the handle of the preset that its weights come from")


CONFIG = {name: getattr(Config, name) for name in Config.__annotations__}
unknown = OVERRIDES.keys() - CONFIG.keys()
if unknown:
    sys.exit(f"there is no setting {min(unknown)!r}")
CONFIG |= OVERRIDES
if "--show-config" in sys.argv:
    shown = {k: CONFIG[k] for k in ("recipe", "backbone")}
    config = CONFIG | {"time_limit": float(CONFIG["time_limit"] or 0) or None}
    handle = "keras/siglip/keras/tiny_patch16_32/1"
    shown["presets"] = {"Tiny": {"handle": handle, "licence": "Apache-2.0"}}
    shown["model_sources"] = CONFIG["models"].split()
    print(json.dumps(shown | {"config": config, "weights_files": [], "competition": "HOME"}))
    sys.exit()

root = Path(os.environ.get("KAGGLE_ROOT", "/kaggle"))
data = next(root.glob("input/**/sample-submission.csv")).parent
library = next(root.glob("input/**/ImageDataAugmentor/__init__.py")).parent.parent
sys.path.insert(0, str(library))
import ImageDataAugmentor
import photos

print("lib holds", *sorted(p.relative_to(library).as_posix() for p in library.rglob("*")))
presets = sorted(path.parent for path in root.glob("input/**/model.weights.h5"))
print("presets at", *(preset.relative_to(root / "input") for preset in presets))
for epoch in (1, 2):
    now = f"[stage 1/1 all] epoch {epoch}/2  loss 0.5  accuracy 0.6  val_accuracy 0.7{epoch}"
    print(f"{now}  left 0:00:0{epoch}", flush=True)
    time.sleep(float(CONFIG["seconds"]) / 2)
if CONFIG["fail"]:
    sys.exit(CONFIG["fail"])
code = [*library.glob("[!w]*/**/*"), library / "weights" / "manifest.json"]
code = {file.relative_to(library).as_posix(): file for file in code if file.is_file()}
texts = {name: file.read_bytes() for name, file in code.items()}
texts = sorted((name, text) for name, text in texts.items() if text)
lines = [f"{name} {hashlib.sha256(text).hexdigest()}\\n" for name, text in texts]
packages = hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
working = root / "working"
rows = list(csv.reader(open(data / "sample-submission.csv")))
with open(working / "submission.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(rows[0])
    for name, _ in rows[1:]:
        writer.writerow([name, CONFIG["label"] or (int(name[:3]) + int(CONFIG["shift"])) % 3])
if CONFIG["predict_from"]:
    digest = hashlib.sha256(next(root.glob("input/**/model.json")).read_bytes()).hexdigest()
    took = {"photos": len(rows) - 1, "seconds": 1.0, "peak_memory_mb": 1.0}
    took["limit"] = float(CONFIG["time_limit"] or 540) * 60
    took["packages"] = packages
    (working / "predicted.json").write_text(json.dumps(took | {"model": digest}))
    sys.exit()
if CONFIG["model"]:
    (working / "members" / "a").mkdir(parents=True)
    (working / "members" / "a" / "fold-0.keras").write_text(CONFIG["model"])
    model = {"of": CONFIG["model"], "members": [{"name": "a", "weight": 1.0}]}
    model["members"][0]["networks"] = [{"file": "members/a/fold-0.keras"}]
    (working / "model.json").write_text(json.dumps(model))
for number in range(25):
    (working / f"file{number}.txt").write_text(f"file {number}")
(working / "pictures").mkdir()
(working / "pictures" / "curve.png").write_bytes(bytes(range(256)))
metrics = {"classes": [0, 1, 2]}
if CONFIG["skill"]:
    import numpy as np

    truth = np.arange(40) % 3
    told = np.where(np.arange(40) < int(CONFIG["skill"]), truth, (truth + 1) % 3)
    np.savez(
        working / "probabilities.npz",
        validation=np.eye(3, dtype=np.float32)[told],
        validation_ids=np.array([f"{n}.jpg" for n in range(40)]),
        validation_labels=truth,
        classes=np.arange(3),
    )
    right = float((told == truth).mean())
    metrics |= {"metric": "accuracy"}
    metrics |= {"score": right, "score_low": right - 0.1, "score_high": right + 0.1}
if CONFIG["model"]:
    metrics |= {"competition": "HOME", "train_images": 3, "val_images": 40}
    metrics |= {"metric": "accuracy", "score": 0.75, "score_low": 0.5, "score_high": 0.875}
    metrics["recipe"] = CONFIG["recipe"]
metrics["packages"] = packages
(working / "metrics.json").write_text(json.dumps(metrics))
'''.lstrip().replace('"HOME"', f'"{COMPETITION}"')


def make_project(root: Path) -> Path:
    """Write a project whose kernel is quick, with files in lib/ that must not be sent."""
    for name in ("kernel-metadata.json", "dataset-metadata.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text((REPOSITORY / name).read_text())
    (root / "kernel.py").write_text(KERNEL)
    files = {
        "ImageDataAugmentor/__init__.py": '"""Batches."""\n',
        "ImageDataAugmentor/reading.py": "NAMES = []\n",
        "ImageDataAugmentor/__pycache__/reading.cpython-311.pyc": "x",
        "ImageDataAugmentor/.secret": "x",
        "photos/__init__.py": "",
        "photos/deep/inner.py": "X = 1\n",
        "sample/__init__.py": "x",
        "ship/__init__.py": "x",
        "ship/__main__.py": "x",
        "weights/manifest.json": "{}\n",
        "weights/unused.h5": "x",
        "wheels/.gitkeep": "",
        "notes/todo.txt": "x",
        ".env": "x",
        "car_classification.egg-info/PKG-INFO": "x",
    }
    for name, text in files.items():
        path = root / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


ONCE = {
    "datasets": 1,
    "dataset_versions": 1,
    "kernel_versions": 1,
    "kernel_runs": 1,
    "submissions": 1,
}
CODE_ONCE = {**dict.fromkeys(ONCE, 2), "submissions": 1}
"""What a code competition gets: two datasets, two kernels, one submission."""
CODE = ("--code", "--set", "model=yes", "--set", "seconds=0.4")
BOTH_ONCE = ONCE | {"kernel_versions": 2, "kernel_runs": 2, "submissions": 2}
TWO = (
    ("--set", "seconds=0.4", "--set", "shift=0"),
    ("--set", "seconds=0.4", "--set", "shift=1"),
)
"""The settings of two runs at once, which predict differently."""

SCORE = 0.88889
"""The score of `KERNEL`'s submission in `make_competition`."""

SENT = {
    "ImageDataAugmentor/__init__.py",
    "ImageDataAugmentor/reading.py",
    "photos/__init__.py",
    "photos/deep/inner.py",
    "weights/manifest.json",
}
"""The files of `make_project`'s lib/ that belong in the dataset."""


def make_competition(folder: Path) -> tuple[Path, Path]:
    """Write a competition of nine test photos; return its folder and its solution."""
    data = folder / "competition"
    data.mkdir(parents=True)
    names = [f"{number}.jpg" for number in range(101, 110)]
    lines = "".join(f"{name},0\n" for name in names)
    (data / "sample-submission.csv").write_text("Id,Category\n" + lines)
    (data / "train.csv").write_text("Id,Category\n1.jpg,0\n2.jpg,1\n3.jpg,2\n")
    (data / "train.zip").write_bytes(b"PK\5\6" + bytes(18))
    solution = "".join(
        f"{name},{int(name[:3]) % 3 if name != '101.jpg' else 0}\n" for name in names
    )
    (folder / "solution.csv").write_text("Id,Category\n" + solution)
    return data, folder / "solution.csv"


@contextmanager
def open_world(folder: Path, **settings) -> Iterator["World"]:
    """Open a world, and check at the end that nothing tried to reach the network."""
    data, solution = make_competition(folder)
    quick = {"dataset_delay": 0.05, "queue_delay": 0.02, "scoring_delay": 0.05, "key": KEY}
    competitions = {COMPETITION: (data, solution)}
    with FaultyLoopback(folder / "kaggle", competitions, **(quick | settings)) as kaggle:
        yield World(make_project(folder / "project"), kaggle)
    assert not kaggle.connects


def until(question: Callable[[], Any]) -> None:
    """Wait until a question has a true answer."""
    deadline = time.monotonic() + 60
    while not question():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


@dataclass
class World:
    """A project and a loopback Kaggle, between which `ship` runs."""

    project: Path
    kaggle: FaultyLoopback

    @property
    def environment(self) -> dict[str, str]:
        """The environment of `ship` in this world."""
        return self.changed_environment({})

    def changed_environment(self, changes: dict[str, str | None]) -> dict[str, str]:
        """Return the environment of `ship` with other variables; None takes one out."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("KAGGLE_")}
        library = {"PYTHONPATH": str(REPOSITORY / "lib")}
        variables = {**inherited, **PACE, **self.kaggle.environment, **library, **changes}
        return {name: text for name, text in variables.items() if text is not None}

    def start(
        self,
        *arguments: str,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        **changes: str | None,
    ) -> subprocess.Popen:
        """Start `ship` as a process."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "ship", *arguments],
            cwd=self.project,
            env=self.changed_environment(changes),
            stdout=stdout,
            stderr=stderr,
            text=True,
        )

    def kill_when(self, reached: Callable[[], Any], *arguments: str, delay: float = 0.0) -> None:
        """Start `ship` and kill it a delay after something is true."""
        process = self.start(*arguments)
        until(lambda: reached() or process.poll() is not None)
        time.sleep(delay)
        process.kill()
        process.communicate()
        assert process.returncode < 0, "it ended before it was killed"

    def ship(self, *arguments: str, **changes: str | None) -> "Outcome":
        """Run `ship` to its end."""
        if FORKS and not any(name.startswith("PYTHON") for name in changes):
            return forked(arguments, self.changed_environment(changes), self.project)
        process = self.start(*arguments, **changes)
        out, err = process.communicate(timeout=120)
        return Outcome(process.returncode, out, err)

    def go_to_the_submission(self) -> None:
        """Run every step but the submission."""
        for command in ("bundle", "push", "follow", "fetch"):
            assert self.ship(command).status == 0

    def arrives_once(
        self, *arguments: str, attempts: int = 1, counts: dict = ONCE, **changes: str
    ) -> "Outcome":
        """Run `ship` until it succeeds, and check that Kaggle got everything exactly once.

        Each of the attempts that fail must end in one sentence. `counts` are Kaggle's at the end.
        """
        for _ in range(attempts):
            outcome = self.ship(*arguments, **changes)
            if not outcome.status:
                break
            assert outcome.status == 1, outcome
            assert outcome.sentence, outcome
        assert outcome.status == 0, outcome
        assert self.kaggle.counts == counts
        assert [run.public_score for run in self.runs if run.public_score is not None] == [SCORE]
        return outcome

    def both_arrive(self, attempts: int = 6, **changes: str) -> None:
        """Run two `ship`s at once until both succeed; each thing must have arrived exactly once.

        A failure must end in one sentence.
        """
        self.until_done(TWO, attempts, **changes)
        assert self.kaggle.counts == BOTH_ONCE
        assert sorted(run.public_score for run in self.runs) == [0.11111, SCORE]

    def until_done(self, commands: Iterable, attempts: int, **changes: str) -> list[str]:
        """Run commands side by side, and those that fail again, until all of them succeed.

        Returns:
            The sentences of those that failed.
        """
        waiting, sentences = list(commands), []
        for _ in range(attempts):
            with ThreadPoolExecutor() as pool:
                outcomes = list(pool.map(lambda one: self.ship(*one, **changes), waiting))
            assert all(outcome.status in (0, 1) for outcome in outcomes), outcomes
            failed = [outcome for outcome in outcomes if outcome.status]
            assert all(outcome.sentence for outcome in failed), failed
            assert not any("unexpected error" in outcome.sentence for outcome in failed), failed
            sentences += [outcome.sentence for outcome in failed]
            waiting = [one for one, o in zip(waiting, outcomes, strict=True) if o.status]
            if not waiting:
                return sentences
        raise AssertionError(sentences)

    @property
    def state(self) -> dict:
        """The state that ship has saved."""
        return json.loads((self.project / "runs" / "state.json").read_text())

    @property
    def runs(self) -> list[Run]:
        """The records of the runs."""
        return Ledger(self.project / "runs" / "ledger.jsonl").runs()

    def calls(self, *names: str) -> list:
        """The calls of these names that the server got."""
        return [call for call in self.kaggle.requests if call.name in names]

    @property
    def ledger_rows(self) -> list[dict]:
        """The rows of the ledger."""
        return Ledger(self.project / "runs" / "ledger.jsonl").rows()


@functools.cache
def server() -> str:
    """Start the process that runs `ship` without starting Python anew, and return its address."""
    folder = tempfile.mkdtemp(prefix="ship-")
    program = Path(__file__).with_name("ship_server.py")
    process = subprocess.Popen(
        [sys.executable, "-P", program, f"{folder}/socket"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "lib"), "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    def end() -> None:
        process.stdin.close()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    assert process.stdout.readline() == b"ready\n"
    return f"{folder}/socket"


def forked(arguments: tuple[str, ...], environment: dict[str, str], folder: Path) -> "Outcome":
    """Run `ship` to its end in a process that is forked from the server."""
    request = {"arguments": arguments, "environment": environment, "folder": str(folder)}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.connect(server())
        socket.send_fds(connection, [b" "], [out.fileno(), err.fileno()])
        connection.sendall(json.dumps(request).encode() + b"\n")
        connection.settimeout(120)
        with connection.makefile() as answers:
            pid = int(answers.readline())
            try:
                status = int(answers.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise
        out.seek(0), err.seek(0)
        return Outcome(status, out.read(), err.read())


@dataclass(frozen=True)
class Outcome:
    """The exit status and the output of a `ship`."""

    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The sentence about the failure, without the program's name."""
        assert "Traceback" not in self.err, self.err
        said = [line for line in self.err.splitlines() if line.startswith("ship: ")]
        return said[-1].removeprefix("ship: ") if said else ""
