"""A run, --predict, Keras alone and the kernel that only predicts say the same of the photos."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from kernel_runs import MEMBERS, run, start, stop_in
from loopback.sandbox import run_script
from tiny_kernel import kernel

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("two_devices.py")
STAGES = ["--stages", "cached:0:3e-2:1:views=1,all:1:1e-2:2", "--head", "hidden", "--tta", "2"]
STAGES += ["--weight-decay", "0.01", "--set", "submission=probabilities", "--set", "label=Category"]
BARE = """
import json, sys
for name in ("kernelkit", "ImageDataAugmentor", "kernel"):
    sys.modules[name] = None  # importing it fails
import cv2, keras, numpy as np
run, *files = sys.argv[1:]
found = {}
for member in json.load(open(f"{run}/model.json"))["members"]:
    for one in member["networks"]:
        network = keras.models.load_model(f"{run}/{one['file']}")
        size = network.input_shape[2:0:-1]
        photos = [cv2.cvtColor(cv2.imread(file), cv2.COLOR_BGR2RGB) for file in files]
        photos = np.stack([cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in photos])
        views = [photos[:, :, ::-1] if view["flip"] else photos for view in one["views"]]
        made = [network.predict(view, verbose=0) for view in views]
        found[one["file"]] = np.mean(made, axis=0).tolist()
print(json.dumps(found))
"""


def in_bare_keras(output: Path, photos: list[Path]) -> np.ndarray:
    """Return what another program makes of the networks and model.json, without our packages."""
    model = json.loads((output / "model.json").read_text())
    command = [sys.executable, "-I", "-c", BARE, output, *photos]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])

    def calibrated(probabilities, temperature):
        return softmax(np.log(np.maximum(probabilities, 1e-7)) / temperature, axis=1)

    members = [
        member["weight"]
        * calibrated(
            np.mean([found[one["file"]] for one in member["networks"]], axis=0),
            member["temperature"],
        )
        for member in model["members"]
    ]
    return calibrated(np.sum(members, axis=0), model["temperature"])


def in_the_sandbox(output: Path, competition: Path, folder: Path) -> pd.DataFrame:
    """Return the submission of the kernel that only predicts, as Kaggle runs it."""
    script = folder / "kernel.py"
    settings = {"predict_from": "models", "weights": "none", "recipe": "dry"}
    text = (ROOT / "kernel.py").read_text(encoding="utf-8")
    text = text.replace("str] = {}\n", f"str] = {settings}\n", 1)
    row = '"TinyNet": Backbone("tf", (24, 32), 1.0),'
    text = text.replace("BACKBONES = {\n", f"BACKBONES = {{\n    {row}\n", 1)
    script.write_text(text, encoding="utf-8")
    inputs = {"lib": ROOT / "lib", "sf-dl-car-classification": competition, "models": output}
    lines = []
    status = run_script(script, inputs, folder / "working", lines.append, timeout=300)
    assert status == 0, lines
    return pd.read_csv(folder / "working" / "submission.csv", index_col="Id")


@pytest.fixture
def data(own_competition) -> Path:
    """A competition whose submission has a column a class."""
    file = own_competition / "sample-submission.csv"
    sample = pd.read_csv(file)[["Id"]].assign(**dict.fromkeys(("0", "1", "2", "10"), 0.25))
    sample.to_csv(file, index=False)
    return own_competition


def check_history(output: Path, networks: int) -> None:
    """Assert that every epoch has run once."""
    history = pd.read_csv(output / "history.csv")
    assert list(history.stage) == networks * ["cached", "all", "all"]
    assert list(history.epoch) == networks * [1, 1, 2]
    assert np.isfinite(history.val_loss).all()


def check_alike(data: Path, output: Path, predict_alone, tolerance: float) -> None:
    """Assert that the submission is good, and what the other ways say, too.

    `predict_alone` returns the submission of the kernel that only predicts.
    """
    truth = pd.read_csv(data.parent / "solution.csv", index_col="Id").Category
    made = pd.read_csv(output / "submission.csv", index_col="Id")
    assert (made.idxmax(axis=1).astype(int) == truth.loc[made.index]).mean() > 0.7
    photos, new = data / "test_upload", data.parent / "new"
    words = ["--predict", photos, "--run", output, "--output", new]
    words += ["--sample", data / "sample-submission.csv"]
    assert kernel.main(list(map(str, words))) == 0
    ways = {
        "--predict": pd.read_csv(new / "submission.csv", index_col="Id"),
        "Keras": in_bare_keras(output, [photos / name for name in made.index]),
        "kernel": predict_alone(),
    }
    apart = {
        name: float(np.abs(one - made.to_numpy()).max(axis=None)) for name, one in ways.items()
    }
    print(f"\n{apart}")
    assert max(apart.values()) < tolerance, apart


@pytest.mark.slow
def test_float16_on_two_devices_after_a_kill(data, tmp_path):
    output = tmp_path / "output"
    process = start(data, output, *STAGES, script=SCRIPT)
    stop_in(process, "all", signal.SIGKILL, 1)
    assert process.returncode == -signal.SIGKILL
    process = start(data, output, *STAGES, script=SCRIPT)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 0, said
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["resumed"]
    assert len(metrics["devices"]) == 2
    check_history(output, networks=1)
    network = keras.models.load_model(output / "best.keras")
    assert network.get_layer("backbone").output.dtype == "float16"
    check_alike(data, output, lambda: in_the_sandbox(output, data, tmp_path), 1e-3)


@pytest.mark.slow
def test_two_members_on_two_folds(data, tmp_path):
    output, again = tmp_path / "output", tmp_path / "again"
    assert run(data, output, *STAGES, *MEMBERS) == 0
    check_history(output, networks=4)

    def predict_alone() -> pd.DataFrame:
        words = ["--data", data, "--output", again, "--predict-from", output]
        words += STAGES[-4:]  # of the submission
        assert kernel.main(list(map(str, words))) == 0
        return pd.read_csv(again / "submission.csv", index_col="Id")

    # A run keeps photos at its members' largest size: the smaller member's are resized twice.
    check_alike(data, output, predict_alone, 1e-4)
