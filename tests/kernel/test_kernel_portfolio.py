"""Several members and folds in one session: planned, interrupted, cut short, blended."""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kernel_runs import BLEND, MEMBERS, SHORT, blended_run, check_submission, run, start, stop_in
from kernelkit.train.plan import Plan
from tiny_kernel import kernel


@pytest.fixture(scope="module")
def finished(competition, tmp_path_factory):
    return blended_run(competition, tmp_path_factory)


def members(output: Path) -> dict[str, dict]:
    """Return what metrics.json says of each member."""
    metrics = json.loads((output / "metrics.json").read_text())
    return {member["name"]: member for member in metrics["members"]}


def test_every_photo_is_judged_out_of_fold_by_every_member(competition, finished):
    check_submission(competition, finished)
    train = pd.read_csv(competition / "train.csv")
    for name in ("a", "b"):
        with np.load(finished / "members" / name / "probabilities.npz") as stored:
            assert sorted(stored["validation_ids"]) == sorted(train.Id)
            assert stored["test"].shape == (2, 12, 4)
            labels = pd.Series(stored["validation_labels"], stored["validation_ids"])
        assert labels.to_dict() == train.set_index("Id").Category.to_dict()
    assert {name: one["folds"] for name, one in members(finished).items()} == {
        "a": [0, 1],
        "b": [0, 1],
    }


def test_the_blend_is_no_worse_than_its_best_member(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    best = max(member["val_accuracy"] for member in metrics["members"])
    assert metrics["val_accuracy_submitted"] >= best
    assert sum(member["weight"] for member in metrics["members"]) == pytest.approx(1)


def test_each_network_has_its_rows_and_its_weights(finished):
    history = pd.read_csv(finished / "history.csv")
    networks = history.groupby(["fold", "member"], sort=False).size()
    assert list(networks.index) == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]
    assert (networks == 3).all()  # one for the head on cached features, two through the network
    files = sorted(path.name for path in (finished / "members" / "a").iterdir())
    assert files == ["fold-0.keras", "fold-1.keras", "probabilities.npz"]


def test_time_running_out_gives_fewer_members_and_a_submission(
    competition, tmp_path, monkeypatch, capsys
):
    """After two of four networks nothing more fits."""
    kept = Plan.kept
    monkeypatch.setattr(Plan, "kept", lambda p: kept(p) if len(p.state.jobs) < 2 else [])
    assert run(competition, tmp_path, *SHORT, *MEMBERS) == 0
    check_submission(competition, tmp_path)
    assert "Time is up: a, fold 1, is left out." in capsys.readouterr().out
    assert {name: one["folds"] for name, one in members(tmp_path).items()} == {"a": [0], "b": [0]}
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["stopped_by_time_limit"]
    best = max(member["val_accuracy"] for member in metrics["members"])
    assert metrics["val_accuracy_submitted"] >= best


def test_a_later_session_goes_on_with_the_members_of_an_earlier_one(
    competition, finished, tmp_path, monkeypatch, capsys
):
    """Its output is mounted as a kernel source: those members are not trained again."""
    mounted = tmp_path / "root" / "input" / "earlier-kernel"
    mounted.mkdir(parents=True)
    shutil.copytree(finished / "members", mounted / "members")
    monkeypatch.setattr(kernel, "ROOT", tmp_path / "root")
    more = MEMBERS[1] + ",c:TinyNet"
    assert run(competition, tmp_path / "later", *BLEND, "--members", more) == 0
    history = pd.read_csv(tmp_path / "later" / "history.csv")
    assert set(history.member) == {"c"}
    assert set(members(tmp_path / "later")) == {"a", "b", "c"}
    check_submission(competition, tmp_path / "later")


STAGES = (  # smaller photos first, mixed; the test photos' own labels; last the full size
    "head:0:3e-2:1:views=1,small:0.5:1e-2:2:scale=0.75:mixup=0.2,"
    "cut:1:1e-2:1:cutmix=1.0:mixup=0.2,sure:1:3e-3:1:pseudo=0.01"
)
INGREDIENTS = [
    *("--reestimate", "yes", "--weight-decay", "0.01", "--clip-norm", "1"),
    *("--label-smoothing", "0.1", "--head-rate", "5", "--layer-decay", "0.8"),
    *("--schedule", "restarts", "--tta", "4", "--tensorboard", "yes"),
]


@pytest.fixture(scope="module")
def with_everything(competition, tmp_path_factory):
    """The output and the words of one network that is trained with every ingredient at once."""
    output = tmp_path_factory.mktemp("everything")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert run(competition, output, "--stages", STAGES, *INGREDIENTS) == 0
    return output, said.getvalue()


def test_every_ingredient_runs(competition, with_everything):
    output, _ = with_everything
    check_submission(competition, output)
    history = pd.read_csv(output / "history.csv")
    assert list(history.stage) == ["head", "small", "small", "cut", "sure"]
    assert np.isfinite(history.loss).all()
    logs = {file.parts[-3] for file in output.glob("tensorboard/*/*/events.*")}
    assert logs == {f"TinyNet-0-{stage}" for stage in ("small", "cut", "sure")}


def test_sure_test_photos_train_in_a_stage_that_asks_for_it(with_everything):
    _, said = with_everything
    number = int(said.split(" of 12 test photos train")[0].split()[-1])
    assert 6 <= number <= 12  # as good as all of four colours


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_in_any_network_it_ends_as_if_never_stopped(competition, finished, tmp_path):
    """Both have the same views: the largest one decides how photos are kept, and so what trains."""
    seed = time.time_ns()
    moment = random.Random(seed)
    print("seed of the moments:", seed)
    network = moment.randint(1, 4)
    process = start(competition, tmp_path, *BLEND)
    stop_in(process, "all", signal.SIGKILL, moment.uniform(0, 3), occurrence=network)
    assert process.returncode in (-signal.SIGKILL, 0)
    if process.returncode:  # or it was quicker than the moment
        process = start(competition, tmp_path, *BLEND)
        process.communicate(timeout=240)
    assert process.returncode == 0
    made, expected = (pd.read_csv(output / "history.csv") for output in (tmp_path, finished))
    names = ["member", "fold", "stage", "epoch"]
    pd.testing.assert_frame_equal(made[names], expected[names])
    pd.testing.assert_series_equal(made.loss, expected.loss, rtol=2e-2)
    assert set(members(tmp_path)) == {"a", "b"}
