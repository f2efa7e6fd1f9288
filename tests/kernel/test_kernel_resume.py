"""A run that is killed goes on where it was: nothing trained twice, nothing lost."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from kernel_runs import run, start, stop_in, whole_run
from kernelkit.train.callbacks import Checkpoint
from tiny_kernel import kernel

SCHEDULE = [("head", 3), ("half", 2), ("most", 2), ("all", 2)]
EPOCHS = [(name, epoch) for name, epochs in SCHEDULE for epoch in range(1, epochs + 1)]
SHORT = ["--stages", "head:0:3e-2:1,half:0.5:1e-2:2", "--tta", "1"]


def schedule(output: Path) -> pd.DataFrame:
    return pd.read_csv(output / "history.csv")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_stopped_in_two_stages_it_ends_as_if_never_stopped(competition, tmp_path, tmp_path_factory):
    """In the first one, and in any of the others."""
    seed = time.time_ns()
    moment = random.Random(seed)
    print("seed of the moments:", seed)
    whole, stopped = whole_run(competition, tmp_path_factory), tmp_path / "stopped"

    process = start(competition, stopped)
    said = stop_in(process, "head", signal.SIGTERM, 2)
    assert process.returncode == 130
    assert "The same command goes on from the last finished epoch" in said
    process = start(competition, stopped)
    stage, _ = moment.choice(SCHEDULE[1:])
    stop_in(process, stage, signal.SIGKILL, moment.uniform(0, 4))
    assert process.returncode in (-signal.SIGKILL, 0)
    if process.returncode:  # or it was quicker than the moment
        process = start(competition, stopped)
        process.communicate(timeout=120)
    assert process.returncode == 0

    expected, made = schedule(whole), schedule(stopped)
    assert list(zip(made.stage, made.epoch, strict=True)) == EPOCHS
    assert list(zip(expected.stage, expected.epoch, strict=True)) == EPOCHS
    pd.testing.assert_series_equal(made.learning_rate, expected.learning_rate)
    # The same photos, dropout and weights: equal but for the order in which threads add floats.
    pd.testing.assert_series_equal(made.loss, expected.loss, rtol=1e-2)
    metrics = json.loads((stopped / "metrics.json").read_text())
    assert metrics["resumed"]
    assert not (stopped / "state").exists()
    assert list(pd.read_csv(stopped / "submission.csv")) == ["Id", "Category"]


class Stop(BaseException):
    """Stands for whatever ends a process, at a point that a test chooses."""


@pytest.fixture(scope="module")
def ended(competition, tmp_path_factory):
    """An output folder with a run that ended after the first epoch of the second stage."""
    output = tmp_path_factory.mktemp("ended")
    with pytest.MonkeyPatch.context() as patch:
        check = kernel.Clock.check_epoch

        def end(clock):
            if len(clock.state.history) == 2:
                raise Stop
            check(clock)

        patch.setattr(kernel.Clock, "check_epoch", end)
        with pytest.raises(Stop):
            run(competition, output, *SHORT)
    return output


@pytest.fixture
def half_done(ended, tmp_path):
    """A copy of that folder for one test."""
    return Path(shutil.copytree(ended, tmp_path / "half-done"))


def test_it_goes_on_from_what_the_state_names(competition, half_done):
    """Killed while writing the next epoch: its files are there, but they do not count."""
    state = json.loads((half_done / "state" / "state.json").read_text())
    assert (state["stage"], state["epoch"]) == (1, 1)
    assert state["optimizer"]
    assert state["average"] == state["best"] or state["best"].startswith("epoch-000")
    (half_done / "state" / "epoch-0003.weights.h5").write_bytes(b"half of it")
    (half_done / "state" / ".partial-0123456789ab.json").write_text('{"stage": 1, "ep')
    limit = ["--time-limit", "60"]  # a new limit is no new run
    assert run(competition, half_done, *SHORT, *limit) == 0
    history = schedule(half_done)
    assert list(zip(history.stage, history.epoch, strict=True)) == [
        *(("head", 1), ("half", 1), ("half", 2))
    ]


def test_another_run_is_never_thrown_away_silently(competition, half_done, capsys):
    assert run(competition, half_done, *SHORT, "--seed", "7") == 1
    said = capsys.readouterr().err
    assert "unfinished run with other settings (seed, the photos)" in said
    assert "--fresh" in said
    assert (half_done / "state" / "state.json").exists()


def test_fresh_throws_it_away(competition, half_done):
    other = ["--stages", "head:0:3e-2:1", "--seed", "7"]
    assert run(competition, half_done, *other, "--fresh") == 0
    assert len(schedule(half_done)) == 1
    assert not json.loads((half_done / "metrics.json").read_text())["resumed"]


def test_killed_while_predicting_trains_nothing_again(competition, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "write_results", lambda *_: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            run(competition, tmp_path, *SHORT)
    monkeypatch.setattr(kernel, "unfreeze", lambda *_: pytest.fail("trained again"))
    assert run(competition, tmp_path, *SHORT) == 0
    assert len(schedule(tmp_path)) == 3


def test_a_session_that_time_cut_short_goes_on_in_the_next_one(
    competition, tmp_path, monkeypatch, capsys
):
    """The first one's output is mounted like any other input, where nothing can be written."""
    first, mounted = tmp_path / "first", tmp_path / "root" / "input" / "notebooks" / "me" / "cars"

    def time_is_up(clock, rate):
        if (clock.state.stage, clock.state.epoch) == (1, 1):
            raise kernel.OutOfTime

    with monkeypatch.context() as patch:
        patch.setattr(kernel.Clock, "check_batch", time_is_up)
        assert run(competition, first, *SHORT) == 0
    earlier = schedule(first)
    assert list(earlier.stage) == ["head", "half"]
    assert "Time cut this run short" in capsys.readouterr().out
    shutil.copytree(first, mounted)
    for path in mounted.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)

    monkeypatch.setattr(kernel, "ROOT", tmp_path / "root")
    later = tmp_path / "later"
    assert run(competition, later, *SHORT) == 0
    assert "going on after 2 epochs of an earlier session" in capsys.readouterr().out
    history = schedule(later)
    pd.testing.assert_frame_equal(history[:2], earlier)  # nothing is trained twice
    assert list(history.stage[2:]) == ["half"]
    metrics = json.loads((later / "metrics.json").read_text())
    assert metrics["resumed"]
    assert not metrics["stopped_by_time_limit"]
    assert [job.get("cut") for job in metrics["jobs"]] == [None]
    assert not (later / "state").exists()


def test_a_step_that_runs_out_of_memory_goes_on_from_the_last_epoch_with_fewer_photos_at_once(
    competition, tmp_path, monkeypatch, capsys
):
    """It does so down to one photo, which fits here."""
    end_of_batch = Checkpoint.on_train_batch_end

    def run_out(callback, batch, logs=None):
        state, at_once = callback.state, callback.model.micro_batch
        if (state.stage, state.epoch) == (1, 1) and at_once != 1:
            raise kernel.OutOfMemory(None, None, "OOM when allocating a tensor")
        end_of_batch(callback, batch, logs)

    monkeypatch.setattr(Checkpoint, "on_train_batch_end", run_out)
    assert run(competition, tmp_path, *SHORT) == 0
    said = capsys.readouterr().out
    for number in (2, 1):
        sentence = f"on from the last epoch with at most {number} photos at once"
        assert f"Out of memory in stage half: {sentence}." in said
    assert list(schedule(tmp_path).epoch) == [1, 1, 2]
    assert said.count("[stage 2/2 half] epoch 1/2") == 1
