"""The predicting kernel leaves a valid submission.csv, whatever the hidden test set holds."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tqdm import tqdm

from coloured_competition import COLOURS, hidden_set
from kernel_runs import blended_run, run
from kernelkit.core.packages import packages_found
from kernelkit.predict import apply
from kernelkit.predict.members import SavedMember, SavedModel, SavedNetwork, read_model
from kernelkit.report import code_competition
from kernelkit.report.code_competition import Passes
from kernelkit.train.devices import OutOfMemory
from tiny_kernel import kernel


@pytest.fixture(scope="module")
def trained(competition, tmp_path_factory) -> Path:
    return blended_run(competition, tmp_path_factory)


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
        self.now, counted = 0.0, apply.Progress.on_predict_batch_end

        def predicted(progress, batch, logs):
            self.now += seconds * len(logs["outputs"])
            counted(progress, batch, logs)

        monkeypatch.setattr(apply.Progress, "on_predict_batch_end", predicted)
        monkeypatch.setattr(kernel, "START", 0.0)
        monkeypatch.setattr(code_competition, "FIRST_PHOTOS", 4)
        monkeypatch.setattr(code_competition.time, "monotonic", lambda: self.now)


@pytest.fixture
def little_memory(monkeypatch):
    """Let memory end in the second batch of a pass of more than two photos."""
    counted = apply.Progress.on_predict_batch_end

    def predicted(progress, batch, logs):
        if batch and len(logs["outputs"]) > 2:
            raise OutOfMemory(None, None, "OOM when allocating a tensor")
        counted(progress, batch, logs)

    monkeypatch.setattr(apply.Progress, "on_predict_batch_end", predicted)


@pytest.fixture(scope="module")
def trained_with_draws(competition, tmp_path_factory) -> Path:
    """A run whose views are drawn by the training's augmentation, photo by photo."""
    output = tmp_path_factory.mktemp("draws")
    views = ["--tta", "2", "--tta-style", "training"]
    assert run(competition, output, "--stages", "all:1:1e-2:2", *views) == 0
    (member,) = json.loads((output / "model.json").read_text())["members"]
    assert all(view["trained"] for view in member["networks"][0]["views"])
    return output


def test_halved_batches_change_nothing(
    competition, trained_with_draws, tmp_path, capsys, little_memory
):
    """Neither in the predicting kernel nor with --predict, also where views are drawn."""
    expected = (trained_with_draws / "submission.csv").read_bytes()
    assert predict(competition, trained_with_draws, tmp_path / "out") == 0
    assert "Out of memory: on with 2 photos at a time" in capsys.readouterr().out
    assert (tmp_path / "out" / "submission.csv").read_bytes() == expected
    words = ["--predict", competition / "test_upload", "--run", trained_with_draws, "--all"]
    words += ["--output", tmp_path / "again"]
    assert kernel.main(list(map(str, words))) == 0
    assert "Out of memory: on with 2 photos at a time" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "again" / "predictions.csv").set_index("file")
    with np.load(trained_with_draws / "probabilities.npz") as stored:
        made = table.loc[stored["test_ids"], [f"p_{label}" for label in stored["classes"]]]
        np.testing.assert_allclose(made, stored["test"], atol=1e-5)


def test_the_first_photos_have_the_same_draws_where_time_ends_early(
    competition, trained_with_draws
):
    model = read_model(trained_with_draws)
    (member,) = model.members
    config = apply.settings_of(member, kernel.Config)
    found = member.networks[0], config, model, trained_with_draws
    network = apply.LoadedNetwork(*found, kernel.augmentation)
    photos = apply.find_photos(competition / "test_upload", competition)
    view, bar = member.networks[0].views[0], tqdm(disable=True)
    whole = network.predict(photos, view, bar)
    first = network.predict(photos, view, bar, over=lambda: True)
    assert 0 < len(first) < len(whole)
    np.testing.assert_allclose(first, whole[: len(first)], atol=1e-6)


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
    assert measured["packages"] == packages_found()
    assert len(pd.read_csv(tmp_path / "out" / "submission.csv")) == 150
