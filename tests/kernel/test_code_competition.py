"""The predicting kernel leaves a valid submission.csv, whatever the hidden test set holds."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from coloured_competition import COLOURS, photo
from kernel_runs import run
from kernelkit.predict import apply
from kernelkit.predict.saved_model import SavedMember, SavedModel, SavedNetwork
from kernelkit.report import code_competition
from kernelkit.report.code_competition import Passes
from tiny_kernel import kernel

SHORT = ["--stages", "head:0:3e-2:1:views=1,all:1:1e-2:2", "--tta", "3"]
BLEND = ["--members", "a:TinyNet,b:TinyNet:image_size=32x40", "--folds", "2"]


@pytest.fixture(scope="module")
def trained(competition, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("run")
    assert run(competition, output, *SHORT, *BLEND) == 0
    return output


def hidden_set(competition: Path, folder: Path, count: int, damaged: int = 0) -> pd.DataFrame:
    """Replace the test set by another of so many photos in a random order; return its labels."""
    import cv2

    shutil.copytree(competition, folder)
    shutil.rmtree(folder / "test_upload")
    (folder / "test_upload").mkdir()
    rng = np.random.default_rng(1)
    labels = rng.choice(list(COLOURS), count)
    names = [f"{number:05d}.jpg" for number in rng.permutation(count)]
    for number, (name, label) in enumerate(zip(names, labels, strict=True)):
        if number < damaged:
            (folder / "test_upload" / name).write_bytes(b"damaged")
        else:
            assert cv2.imwrite(str(folder / "test_upload" / name), photo(rng, label))
    truth = pd.DataFrame({"Id": names, "Category": labels})
    truth.assign(Category=0).to_csv(folder / "sample-submission.csv", index=False)
    return truth


def predict(data: Path, trained: Path, output: Path, *arguments: str) -> int:
    words = ["--data", data, "--output", output, "--predict-from", trained, *arguments]
    return kernel.main(list(map(str, words)))


@pytest.fixture(params=["public", "scored"])
def session(request, monkeypatch) -> str:
    if request.param == "scored":
        monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    return request.param


def test_a_hidden_set_in_another_order_with_damaged_photos(
    competition, trained, tmp_path, session, capsys
):
    truth = hidden_set(competition, tmp_path / "data", 120, damaged=20)
    assert predict(tmp_path / "data", trained, tmp_path / "out") == 0
    made = pd.read_csv(tmp_path / "out" / "submission.csv")
    assert list(made["Id"]) == list(truth["Id"])
    assert (made["Category"] == truth["Category"])[20:].mean() > 0.9
    assert made["Category"].isin(COLOURS).all()
    assert "20 photos can't be read" in capsys.readouterr().out


def test_its_probabilities_are_those_of_the_run(competition, trained, tmp_path, session):
    assert predict(competition, trained, tmp_path / "out") == 0
    ours, theirs = (folder / "submission.csv" for folder in (tmp_path / "out", trained))
    assert ours.read_bytes() == theirs.read_bytes()


def test_without_any_photo_each_row_gets_the_most_frequent_class(
    competition, trained, tmp_path, session
):
    truth = hidden_set(competition, tmp_path / "data", 3)
    shutil.rmtree(tmp_path / "data" / "test_upload")
    (tmp_path / "data" / "test_upload").mkdir()
    assert predict(tmp_path / "data", trained, tmp_path / "out") == 0
    made = pd.read_csv(tmp_path / "out" / "submission.csv")
    assert list(made["Id"]) == list(truth["Id"])


def test_a_limit_that_is_too_short_by_half_still_leaves_every_row(
    competition, trained, tmp_path, session, capsys, monkeypatch
):
    truth = hidden_set(competition, tmp_path / "data", 100)
    clock = Clock(monkeypatch, seconds=0.5)
    assert predict(tmp_path / "data", trained, tmp_path / "out", "--time-limit", "1") == 0
    assert clock.now < 60
    assert "100 photos take" in capsys.readouterr().out
    made = pd.read_csv(tmp_path / "out" / "submission.csv")
    assert list(made["Id"]) == list(truth["Id"])
    assert (made["Category"] == truth["Category"])[:60].mean() > 0.9


def test_views_go_first_and_then_the_weakest_member(capsys):
    views = [{"number": number, "scale": 1.0} for number in range(3)]
    networks = [SavedNetwork(0, "a.keras", "", views)]
    members = [SavedMember(name, weight, 1.0, {}, networks) for name, weight in WEIGHTS.items()]
    model = SavedModel("c", [], [], "accuracy", 0, 0, 0, {}, None, 1.0, members, {}, "")
    for seconds, left in ((1000, (3, 3)), (700, (2, 3)), (350, (1, 3)), (250, (1, 2)), (5, (1, 1))):
        passes = Passes(model, {}, dict.fromkeys(WEIGHTS, 1.0), time.monotonic() + seconds)
        passes.rate = 1.0
        passes.shorten(100)
        assert (passes.views, len(passes.members)) == left
    assert [member.name for member in passes.members] == ["best"]
    assert "weakest is left out" in capsys.readouterr().out


WEIGHTS = {"weakest": 0.1, "best": 0.6, "middle": 0.3}


class Clock:
    """A clock that a photo's prediction moves on by so many seconds."""

    def __init__(self, monkeypatch, seconds: float):
        self.now, network = 0.0, apply.LoadedNetwork.predict

        def predict(loaded, photos, view, bar):
            self.now += seconds * len(photos)
            return network(loaded, photos, view, bar)

        monkeypatch.setattr(apply.LoadedNetwork, "predict", predict)
        monkeypatch.setattr(kernel, "START", 0.0)
        monkeypatch.setattr(code_competition, "CHUNK_PHOTOS", 16)
        monkeypatch.setattr(code_competition, "FIRST_PHOTOS", 4)
        monkeypatch.setattr(code_competition.time, "monotonic", lambda: self.now)


DAMAGES: dict[str, Callable[[Path, dict], None]] = {
    "a cut network": lambda folder, model: _cut(
        folder / model["members"][0]["networks"][0]["file"]
    ),
    "a missing network": lambda folder, model: (
        folder / model["members"][0]["networks"][0]["file"]
    ).unlink(),
    "a cut manifest": lambda folder, model: _cut(folder / "model.json"),
}


def _cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_fails_in_public_and_leaves_a_file_when_it_is_scored(
    competition, trained, tmp_path, session, damage, capsys
):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    DAMAGES[damage](copy, json.loads((copy / "model.json").read_text()))
    status = predict(competition, copy, tmp_path / "out")
    assert status == (1 if session == "public" else 0)
    assert "Traceback" not in capsys.readouterr().err
    made = pd.read_csv(tmp_path / "out" / "submission.csv")
    assert list(made["Id"]) == list(pd.read_csv(competition / "sample-submission.csv")["Id"])
    if session == "scored" and damage != "a cut manifest":  # the other networks predict
        theirs = pd.read_csv(trained / "submission.csv")
        assert (made["Category"] == theirs["Category"]).mean() > 0.7


def test_an_inference_server_is_refused_by_name(own_competition, trained, tmp_path, capsys):
    (own_competition / "kaggle_evaluation").mkdir()
    assert predict(own_competition, trained, tmp_path / "out") == 1
    assert "inference server" in capsys.readouterr().err


def test_as_many_photos_as_the_hidden_set_has(competition, trained, tmp_path):
    assert predict(competition, trained, tmp_path / "out", "--as-many", "150") == 0
    measured = json.loads((tmp_path / "out" / "predicted.json").read_text())
    assert measured["photos"] == 150
    assert measured["peak_memory_mb"] > 0
    assert len(pd.read_csv(tmp_path / "out" / "submission.csv")) == 150
