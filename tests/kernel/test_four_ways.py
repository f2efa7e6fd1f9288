"""A trained network predicts alike in all ways, also in float16 on two (logical CPU) devices."""

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

from kernel_runs import start, stop_in
from loopback.sandbox import run_script

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("two_devices.py")
STAGES = ["--stages", "cached:0:3e-2:1:views=1,all:1:1e-2:2", "--head", "hidden", "--tta", "2"]
STAGES += ["--weight-decay", "0.01", "--set", "submission=probabilities", "--set", "label=Category"]
MEMBERS = ["--members", "a:TinyNet,b:TinyNet:image_size=32x40", "--folds", "2"]
WAYS = {  # of training: the program, its arguments, how many networks it trains, the tolerance
    "float16 on two devices": (SCRIPT, [], 1, 1e-3),
    "two members on two folds": (SCRIPT.with_name("tiny_kernel.py"), MEMBERS, 4, 1e-5),
}
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


def run_alone(*command) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_bare_keras(output: Path, photos: list[Path]) -> np.ndarray:
    """Return what another program makes of the networks and model.json, without our packages."""
    model = json.loads((output / "model.json").read_text())
    found = json.loads(
        run_alone(sys.executable, "-I", "-c", BARE, output, *photos).splitlines()[-1]
    )

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


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_after_a_kill_all_four_ways_predict_alike(own_competition, tmp_path, way):
    """The run itself, --predict, Keras without our packages, and the kernel that only predicts."""
    script, arguments, networks, tolerance = WAYS[way]
    file = own_competition / "sample-submission.csv"
    sample = pd.read_csv(file)[["Id"]].assign(**dict.fromkeys(("0", "1", "2", "10"), 0.25))
    sample.to_csv(file, index=False)
    output = tmp_path / "output"
    process = start(own_competition, output, *STAGES, *arguments, script=script)
    stop_in(process, "all", signal.SIGKILL, 1, occurrence=networks // 2 + 1)
    assert process.returncode == -signal.SIGKILL
    process = start(own_competition, output, *STAGES, *arguments, script=script)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 0, said
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["resumed"]
    history = pd.read_csv(output / "history.csv")
    assert list(history.stage) == networks * ["cached", "all", "all"]
    assert list(history.epoch) == networks * [1, 1, 2]
    assert np.isfinite(history.val_loss).all()
    truth = pd.read_csv(own_competition.parent / "solution.csv", index_col="Id").Category
    made = pd.read_csv(output / "submission.csv", index_col="Id")
    assert (made.idxmax(axis=1).astype(int) == truth.loc[made.index]).mean() > 0.7
    if script == SCRIPT:
        assert len(metrics["devices"]) == 2
        network = keras.models.load_model(output / "best.keras")
        assert network.get_layer("backbone").output.dtype == "float16"

    photos = own_competition / "test_upload"
    words = ["--predict", photos, "--run", output, "--sample", file, "--output", tmp_path / "new"]
    run_alone(sys.executable, ROOT / "kernel.py", *words)
    ways = {
        "--predict": pd.read_csv(tmp_path / "new" / "submission.csv", index_col="Id"),
        "Keras": in_bare_keras(output, [photos / name for name in made.index]),
        "sandbox": in_the_sandbox(output, own_competition, tmp_path),
    }
    apart = {
        name: float(np.abs(one - made.to_numpy()).max(axis=None)) for name, one in ways.items()
    }
    print(f"\n{way}: {apart}")
    assert max(apart.values()) < tolerance, apart
