"""The whole way of the kernel, in this process, with a backbone that trains in seconds."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from kernel_runs import check_submission, run, whole_run
from kernelkit.config.views import views_of
from kernelkit.core.metrics import unpacked
from small_networks import make_clock
from tiny_kernel import TINY, final_config, kernel


@pytest.fixture(scope="module")
def finished(competition, tmp_path_factory):
    return whole_run(competition, tmp_path_factory)


@pytest.fixture(scope="module")
def best(competition, finished):
    """The settings, photos and network of that run, the network at its best epoch."""
    config = final_config(*TINY, "--data", str(competition))
    (tables,) = kernel.load_tables(competition, kernel.COMPETITION, finished, config)
    network = kernel.build_model(config, 4, None)
    network.set_weights(keras.models.load_model(finished / "best.keras").get_weights())
    return config, tables, network


def test_labels_are_the_competitions_own_whatever_the_folder_order(competition, finished):
    made = check_submission(competition, finished)
    truth = pd.read_csv(competition.parent / "solution.csv")
    right = (made.merge(truth, on="Id").pipe(lambda t: t.Category_x == t.Category_y)).mean()
    assert right > 0.9  # a wrong order of labels can get 0.5 at most: 2 and 10 change places


def test_every_output_is_there_and_the_state_is_gone(finished):
    assert {path.name for path in finished.iterdir()} == {
        "members",
        "submission.csv",
        "probabilities.npz",
        "history.csv",
        "metrics.json",
        "best.keras",
        "model.json",
        "class_balance.png",
        "augmented.png",
        "learning_curves.png",
        "confusion_matrix.png",
        "photos.csv",
        "report.html",
        "report",
    }
    assert len(list((finished / "report" / "attention").iterdir())) == 1
    assert "Finished" in (finished / "report.html").read_text()


def test_metrics_keep_the_contract(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    names = """competition folder ended
        recipe backbone image_size weights seed train_images val_images test_images
        excluded_images classes stages metric greater_is_better score score_low score_high
        score_interval
        score_plain score_tta submission val_accuracy val_accuracy_tta tta_used
        val_accuracy_submitted folds members blend calibration_error command time_limit jobs
        seconds peak_memory_mb resumed untrained stopped_by_time_limit devices versions packages
        preflight photos_at_once scouting"""
    assert list(metrics) == names.split()
    assert metrics["image_size"] == [24, 32]  # not square: height, then width
    assert metrics["classes"] == [0, 1, 2, 10]
    assert [stage["name"] for stage in metrics["stages"]] == ["head", "half", "most", "all"]
    assert [stage["epochs_run"] for stage in metrics["stages"]] == [3, 2, 2, 2]
    assert metrics["train_images"] + metrics["val_images"] == 96
    assert not metrics["resumed"]
    assert not metrics["stopped_by_time_limit"]
    assert metrics["peak_memory_mb"] > 100
    assert metrics["versions"]["keras"] == keras.__version__


def test_history_has_a_row_an_epoch(finished):
    history = pd.read_csv(finished / "history.csv", dtype={"right": str})
    assert list(zip(history.stage, history.epoch, strict=True)) == [
        (stage, epoch)
        for stage, epochs in {"head": 3, "half": 2, "most": 2, "all": 2}.items()
        for epoch in range(1, epochs + 1)
    ]
    assert (history.images_per_second > 0).all()
    assert history.input_bound.between(0, 1).all()
    metrics = json.loads((finished / "metrics.json").read_text())
    assert all(0 <= stage["input_bound"] <= 1 for stage in metrics["stages"])
    right = [unpacked(text, metrics["val_images"]).mean() for text in history.right]
    assert right == pytest.approx(history.val_accuracy)


def test_probabilities_agree_with_the_submission(competition, finished):
    made = pd.read_csv(finished / "submission.csv")
    saved = np.load(finished / "probabilities.npz")
    assert saved["test"].dtype == saved["validation"].dtype == np.float32
    assert list(saved["test_ids"]) == list(made.Id)
    assert list(saved["classes"][saved["test"].argmax(1)]) == list(made.Category)
    assert len(saved["validation_labels"]) == len(saved["validation"])
    np.testing.assert_allclose(saved["test"].sum(1), 1, atol=1e-4)


def test_the_saved_weights_are_the_best_epochs(best, finished):
    config, tables, network = best
    flow = kernel.make_iterator(config, tables, tables.validation)
    predicted = network.predict(flow.as_tf_dataset(), verbose=0).argmax(1)
    accuracy = np.mean(predicted == tables.positions(tables.validation))
    history = pd.read_csv(finished / "history.csv")
    assert accuracy == pytest.approx(history.val_accuracy.max(), abs=1e-6)


def test_unreadable_test_photos_keep_their_rows(own_competition, tmp_path):
    ids = pd.read_csv(own_competition / "sample-submission.csv").Id
    (own_competition / "test_upload" / ids[3]).write_bytes(b"no photo")
    (own_competition / "test_upload" / ids[5]).unlink()
    output = tmp_path / "out"
    assert run(own_competition, output, "--stages", "head:0:3e-2:1", "--tta", 1) == 0
    check_submission(own_competition, output)
    saved = np.load(output / "probabilities.npz")["test"]
    np.testing.assert_allclose(saved[3], saved[5])
    np.testing.assert_allclose(saved[3], 0.25, atol=0.02)  # the classes' shares
    excluded = pd.read_csv(output / "excluded.csv")
    assert set(excluded[excluded.set == "test"].Id) == {ids[3], ids[5]}


@pytest.mark.parametrize("stage", [0, 1])
def test_time_running_out_in_a_stage_still_gives_a_submission(
    competition, tmp_path, monkeypatch, stage
):
    def time_is_up(clock, rate):
        if clock.state.stage == stage:
            raise kernel.OutOfTime

    monkeypatch.setattr(kernel.Clock, "check_batch", time_is_up)
    steps = "head:0:3e-2:1,half:0.5:1e-2:1,all:1:3e-3:1"
    assert run(competition, tmp_path, "--stages", steps) == 0
    check_submission(competition, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["stopped_by_time_limit"]
    assert [s["epochs_run"] for s in metrics["stages"]] == stage * [1] + (3 - stage) * [0]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Under way" not in page
    assert f"{metrics['score']:.2%}" in page
    assert 'data-rule="unfinished"' in page
    assert ("untrained" in page) == (stage == 0)


def test_a_limit_shorter_than_the_start_still_gives_a_submission(competition, tmp_path, capsys):
    assert run(competition, tmp_path, "--time-limit", 0.001, "--tta", 5) == 0
    assert "Time is up: 1 of 5 prediction passes were made." in capsys.readouterr().out
    check_submission(competition, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["stopped_by_time_limit"]
    assert not metrics["tta_used"]


def test_the_first_pass_tells_whether_others_fit_where_nothing_was_validated(
    competition, tmp_path, monkeypatch, capsys
):
    """Time is up in the first epoch, but not quite over: the prediction's speed is unknown."""
    monkeypatch.setattr(kernel.Clock, "left", lambda clock: 0.001)
    assert run(competition, tmp_path, "--tta", 5) == 0
    assert "Time is up: 1 of 5 prediction passes were made." in capsys.readouterr().out
    check_submission(competition, tmp_path)


def test_a_loss_that_is_no_number_goes_on_from_the_best_weights(
    competition, tmp_path, monkeypatch, capsys
):
    """The rate is absurd in one stage: its weights overflow, and the run must not."""
    steps = "head:0:1e-2:2,wild:1:1e30:3,calm:1:1e-3:1"
    assert run(competition, tmp_path, "--stages", steps, "--tta", 1) == 0
    said = capsys.readouterr().out
    assert "is no longer a number: on from the best weights at learning rate 1e+29" in said
    assert "the stage ends here, on the best weights" in said
    history = pd.read_csv(tmp_path / "history.csv")
    assert "calm" in set(history.stage)
    assert np.isfinite(history[["loss", "val_loss"]].to_numpy()).all()
    check_submission(competition, tmp_path)


def test_tta_that_hurts_is_not_used(best, tmp_path, monkeypatch, capsys):
    config, tables, network = best
    inverted = kernel.A.Compose([kernel.A.InvertImg(p=1)])
    monkeypatch.setattr(kernel.View, "transform", lambda view, *_: (view.flip and inverted) or None)
    state = kernel.open_state(tmp_path, {}, "", fresh=False)
    clock = make_clock(state, config.stages, images=24, passes=2)
    views = views_of(config, kernel.VIEWS)
    fold = kernel.predict(config, tables, network, clock, views, kernel.augmentation)
    assert config.tta == 2
    assert fold.views == ["plain"]
    assert fold.accuracy_tta == fold.accuracy > 0.9
    assert "the plain prediction is used" in capsys.readouterr().out


def test_reference_tta_averages_training_views(competition):
    config = final_config("--recipe", "reference", "--data", str(competition))
    passes = views_of(config, kernel.VIEWS)
    assert [view.trained for view in passes] == [False] + 10 * [True]


def test_one_pass_of_any_style_is_the_plain_photo(competition):
    for style in ("weak", "training"):
        arguments = ["--data", str(competition), "--tta", "1", "--tta-style", style]
        assert [
            view.name for view in views_of(kernel.read_arguments(arguments)[0], kernel.VIEWS)
        ] == ["plain"]


def test_the_history_has_the_rate_that_each_epoch_trained_at(competition, tmp_path):
    """A plateau lowers the rate at the end of an epoch: for the next one."""
    arguments = ["--stages", "all:1:0.3:6", "--patience", 6, "--plateau-patience", 1]
    arguments += ["--schedule", "plateau", "--ema", 0, "--head", "hidden", "--tta", 1]
    assert run(competition, tmp_path, *arguments, "--plateau-factor", 0.5) == 0
    history = pd.read_csv(tmp_path / "history.csv")
    rate, lowest, expected = 0.3, np.inf, []
    for loss in history.val_loss:
        expected.append(rate)
        if loss < lowest - 1e-4:
            lowest = loss
        else:
            rate *= 0.5
    assert rate < 0.3, "no plateau: this test would pass anyway"
    np.testing.assert_allclose(history.learning_rate, expected, rtol=1e-5)
