"""The clock's decisions and the state's bookkeeping, without any training."""

import json
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kernelkit.core.problem import Problem
from kernelkit.core.progress import clock_text
from kernelkit.predict.members import remove_members
from kernelkit.train.callbacks import Checkpoint, Diverged
from kernelkit.train.output import STATE, choose_output, has_marker, open_state
from kernelkit.train.plan import OutOfTime
from small_networks import Stage, make_clock

STAGES = (Stage("head", 0.0), Stage("half", 0.5), Stage("all", 1.0))


def row(stage="head", accuracy=0.5, seconds=10.0, loss=0.7):
    return {
        "member": "",
        "fold": 0,
        "stage": stage,
        "epoch": 1,
        "val_accuracy": accuracy,
        "val_score": accuracy,
        "val_loss": loss,
        "seconds": seconds,
        "images_per_second": 100.0,
    }


class Network:
    """Stands for a model where only its file matters."""

    def get_weights(self):
        return []

    def save_weights(self, path):
        path.write_text("weights")


class Batches:
    """Stands for the iterator of the training photos."""

    epoch, n, batch_size, ready_times = 0, 4, 4, ()

    def __len__(self):
        return 1


def finish_epoch(state, accuracy, over=False, error=0.0, loss=0.7, head_only=False):
    figures = row("head", accuracy, loss=loss)
    known = {"error": error, "head_only": head_only, "stage_over": over}
    state.record_epoch(figures, Network(), **known)


def finish_uncertain_epoch(state, accuracy, **figures):
    finish_epoch(state, accuracy, error=math.sqrt(accuracy * (1 - accuracy) / 100), **figures)


def test_the_latest_epoch_within_one_standard_error_of_the_best_is_chosen(state):
    """Of 0.9 on 100 photos one standard error is 0.03."""
    finish_uncertain_epoch(state, 0.9)
    finish_uncertain_epoch(state, 0.871)
    assert (state.best, state.best_score) == ("epoch-0002.weights.h5", 0.871)
    finish_uncertain_epoch(state, 0.869)  # the highest so far counts, not the chosen one
    assert (state.best, state.best_score) == ("epoch-0002.weights.h5", 0.871)
    assert (state.folder / state.best).is_file()


def test_no_epoch_is_chosen_that_is_worse_than_the_head_alone_in_accuracy_and_loss(state):
    """On few photos the accuracy alone often speaks for the head, though the loss does not."""
    finish_uncertain_epoch(state, 0.88, loss=0.5, head_only=True)
    finish_uncertain_epoch(state, 0.9, loss=0.6)
    assert (state.best, state.best_score) == ("epoch-0002.weights.h5", 0.9)
    finish_uncertain_epoch(state, 0.875, loss=0.51)
    assert (state.best, state.best_score) == ("epoch-0002.weights.h5", 0.9)
    finish_uncertain_epoch(state, 0.875, loss=0.49)
    assert (state.best, state.best_score) == ("epoch-0004.weights.h5", 0.875)
    finish_uncertain_epoch(state, 0.8, loss=0.4)  # more than one standard error below the highest
    assert (state.best, state.best_score) == ("epoch-0004.weights.h5", 0.875)


def test_the_head_alone_that_is_the_best_gives_way_to_a_tuned_network_of_a_lower_loss(state):
    """Of 0.9 on 100 photos one standard error is 0.03."""
    finish_uncertain_epoch(state, 0.9, loss=0.42, head_only=True)
    finish_uncertain_epoch(state, 0.88, loss=0.43)
    assert state.best == "epoch-0001.weights.h5"
    finish_uncertain_epoch(state, 0.88, loss=0.33)
    assert state.best == "epoch-0003.weights.h5"


def test_an_accuracy_taken_as_exact_chooses_the_best_epoch(state):
    finish_epoch(state, 0.9)
    finish_epoch(state, 0.899)
    assert (state.best, state.best_score) == ("epoch-0001.weights.h5", 0.9)


def clock(state, seconds_left):
    return make_clock(state, STAGES, seconds_left)


def test_nothing_measured_lets_the_first_epoch_run(state):
    clock(state, 0.1).check_epoch()


def test_an_epoch_that_does_not_fit_beside_the_prediction_is_not_begun(state):
    state.history, state.predict_rate = (
        [row(seconds=10)],
        10,
    )  # predicts in 44 s
    clock(state, 60).check_epoch()
    with pytest.raises(OutOfTime):
        clock(state, 50).check_epoch()


def test_a_stage_that_trains_more_is_reckoned_slower(state):
    state.history = [row("head", seconds=10)]
    costs = [clock(state, 60).epoch_seconds(stage) for stage in range(3)]
    assert costs == [10, 20, 30]


def test_the_first_epoch_begins_also_where_it_is_forecast_not_to_fit(state, monkeypatch):
    forecast = make_clock(state, STAGES, 5)
    monkeypatch.setattr(forecast.plan, "epoch_seconds", lambda *_: 60.0)
    assert forecast.epoch_seconds(0) == 60
    forecast.check_epoch()
    state.history = [row("head", seconds=10)]
    assert [forecast.epoch_seconds(stage) for stage in range(3)] == [10, 60, 60]
    with pytest.raises(OutOfTime):
        forecast.check_epoch()


@pytest.mark.parametrize(("left", "epochs"), [(35.5, 3), (29.5, 2), (19.5, 1), (5, 1)])
def test_the_last_stage_has_the_epochs_that_fit_beside_all_views(state, left, epochs, capsys):
    state.history, state.predict_rate, state.stage = [row("all", seconds=10)], 88, 2  # 5 s for four
    assert make_clock(state, STAGES, left).fit_epochs(2).epochs == epochs
    assert ("stage all runs" in capsys.readouterr().out) == (epochs < 3)
    assert state.stopped_by_time_limit == (epochs < 3)
    assert make_clock(state, STAGES).fit_epochs(2).epochs == epochs  # goes on with that number


def test_stages_before_the_last_keep_their_epochs(state):
    state.history, state.predict_rate = [row("head", seconds=10)], 88
    assert clock(state, 6).fit_epochs(0).epochs == 3


def test_an_epoch_under_way_stops_before_the_prediction_is_in_danger(state):
    endangered = clock(state, 10)  # one pass at 20 photos a second: 5.5 s; four: 22 s
    endangered.check_batch(rate=20)  # nothing validated yet: one plain pass will do
    state.best = "epoch-0001.weights.h5"
    with pytest.raises(OutOfTime):
        endangered.check_batch(rate=20)
    state.predict_rate = 100  # measured: four passes take 4.4 s
    endangered.check_batch(rate=20)


def test_a_pass_that_does_not_fit_is_known_once_one_was_made(state):
    """Before anything was validated the first pass itself tells the speed."""
    endangered = clock(state, 10)
    assert endangered.pass_fits()
    endangered.note_prediction(images=100, seconds=12)
    assert not endangered.pass_fits()
    endangered.note_prediction(images=100, seconds=2)
    assert endangered.pass_fits()


def test_without_a_limit_there_is_always_time(state):
    endless = clock(state, math.inf)
    state.history = [row(seconds=1e9)]
    endless.check_epoch()
    endless.check_batch(1e-6)
    assert clock_text(endless.left()) == "-"


def test_remaining_counts_every_epoch_that_may_come(state):
    state.history, state.predict_rate, state.epoch = [row(seconds=10)], 44, 1
    assert clock(state, 1e6).remaining() == pytest.approx(2 * 10 + 3 * 20 + 3 * 30 + 10)


def test_the_best_over_all_stages_is_kept_and_the_next_stage_begins_on_it(state):
    finish_epoch(state, 0.6)
    finish_epoch(state, 0.9)
    finish_epoch(state, 0.7, over=True)
    assert (state.stage, state.epoch, state.stage_over) == (0, 3, True)
    state.advance(restore_best=True)
    assert state.best == state.last == "epoch-0002.weights.h5"
    assert (state.stage, state.epoch, state.optimizer) == (1, 0, "")
    files = {path.name for path in state.folder.iterdir()}
    assert files == {"state.json", "epoch-0002.weights.h5"}


def test_a_divergence_lowers_the_rate_and_the_third_ends_the_stage(state):
    finish_epoch(state, 0.6)
    finish_epoch(state, 0.5)
    assert "learning rate 0.0001" in state.diverge(1e-3)
    assert (state.stage, state.epoch, state.last) == (0, 2, "epoch-0001.weights.h5")
    state.diverge(1e-4)
    assert "the stage ends here" in state.diverge(1e-5)
    assert (state.stage, state.stage_over) == (0, True)
    state.advance(restore_best=False)
    assert (state.stage, state.epoch, state.learning_rate, state.divergences) == (1, 0, None, 0)


def test_a_divergence_never_raises_the_rate(state):
    """The rate in force counts, which a plateau may have lowered, not the stage's first."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    model.optimizer.learning_rate.assign(1e-3 * 0.25**2)
    config = SimpleNamespace(seed=1, schedule="plateau")
    checkpoint = Checkpoint(config, clock(state, 60), Batches(), None)
    wrong = np.full((4, 1), np.nan)
    with pytest.raises(Diverged) as diverged:
        model.fit(np.ones((4, 2)), wrong, callbacks=[checkpoint], verbose=0)
    state.diverge(diverged.value.learning_rate)
    assert state.learning_rate == pytest.approx(1e-3 * 0.25**2 * 0.1)


def test_a_run_killed_before_a_stage_was_left_goes_on_with_the_next(state):
    finish_epoch(state, 0.6, over=True)
    again = open_state(state.folder, {"seed": 1}, "photos", fresh=False)
    assert (again.stage, again.stage_over) == (0, True)
    assert clock(again, 1e6).rest() == 3 * 20 + 3 * 30  # nothing of the first stage
    again.advance(restore_best=False)
    later = open_state(state.folder, {"seed": 1}, "photos", fresh=False)
    assert (later.stage, later.epoch, later.last) == (1, 0, "epoch-0001.weights.h5")


def test_a_state_reads_back_as_it_was(state):
    finish_epoch(state, 0.6)
    again = open_state(state.folder, {"seed": 1}, "photos", fresh=False)
    assert again.resumed
    assert again.earlier_seconds == 10
    assert (again.history, again.best, again.epoch) == (state.history, state.best, state.epoch)


@pytest.mark.parametrize(
    ("settings", "photos", "named"),
    [({"seed": 2}, "photos", r"\(seed\)"), ({"seed": 1}, "others", r"\(the photos\)")],
)
def test_another_unfinished_run_is_refused(state, settings, photos, named):
    finish_epoch(state, 0.6)
    with pytest.raises(Problem, match=named):
        open_state(state.folder, settings, photos, fresh=False)
    fresh = open_state(state.folder, settings, photos, fresh=True)
    assert not fresh.history


def test_the_furthest_unfinished_run_that_is_mounted_goes_on(state, tmp_path, capsys):
    """Only one with the same settings and photos, and only where none lies here already."""
    inputs = tmp_path / "input"
    for number, (name, epochs, settings) in enumerate(
        [("one", 1, {"seed": 1}), ("deep/er", 2, {"seed": 1}), ("other", 3, {"seed": 2})]
    ):
        earlier = open_state(inputs / name / "state", settings, "photos", fresh=False)
        for _ in range(epochs):
            finish_epoch(earlier, 0.5 + number / 10)
        earlier.finish_job(1.0, 2.0, cut=True)
    (inputs / "bad" / "state").mkdir(parents=True)
    (inputs / "bad" / "state" / "state.json").write_text("{")

    folder = tmp_path / "new" / "state"
    found = open_state(folder, {"seed": 1}, "photos", fresh=False, inputs=inputs)
    assert len(found.history) == 2
    assert found.resumed
    assert found.jobs == []  # a job that was cut is not finished
    assert (folder / found.best).is_file()
    said = capsys.readouterr().out
    assert "going on after 2 epochs of an earlier session" in said
    assert "other/state/state.json is of a run with other settings" in said
    assert "bad/state/state.json is damaged" in said

    finish_epoch(found, 0.9)
    again = open_state(folder, {"seed": 1}, "photos", fresh=False, inputs=inputs)
    assert len(again.history) == 3
    new = open_state(folder, {"seed": 1}, "photos", fresh=True, inputs=inputs)
    assert new.history == []


@pytest.mark.parametrize(
    ("cut", "epochs", "last", "best", "said"),
    [
        ("last", 2, "epoch-0002.weights.h5", "epoch-0002.weights.h5", "from the chosen epoch"),
        ("best", 2, "epoch-0003.weights.h5", "epoch-0003.weights.h5", "last epoch is the chosen"),
        ("best last", 0, "", "", "begins anew"),
        ("", 2, "epoch-0003.weights.h5", "epoch-0002.weights.h5", None),
    ],
)
def test_a_checkpoint_cut_in_half_costs_its_own_job_at_most(
    state, cut, epochs, last, best, said, capsys
):
    finish_epoch(state, 0.5)
    state.finish_job(1.0, 2.0)
    state.begin_job("second", 0)
    for accuracy in (0.9, 0.6):
        second = row("head", accuracy) | {"member": "second"}
        state.record_epoch(second, Network(), stage_over=False)
    for name in cut.split():
        file = state.folder / getattr(state, name)
        file.write_bytes(file.read_bytes()[:3])
    again = open_state(state.folder, state.settings, "photos", fresh=False)
    assert (len(again.rows), again.last, again.best) == (epochs, last, best)
    assert (again.member, again.epoch) == ("second", epochs)
    assert len(again.history) == 1 + epochs
    assert [job["member"] for job in again.jobs] == [""]
    assert said in capsys.readouterr().out if said else not capsys.readouterr().out


def test_a_run_that_time_cut_short_keeps_its_files(state, capsys):
    finish_epoch(state, 0.5)
    state.run_out_of_time()
    state.end()
    assert "`ship --continue`" in capsys.readouterr().out
    again = open_state(state.folder, state.settings, "photos", fresh=False)
    assert not again.stopped_by_time_limit
    again.end()
    assert not state.folder.exists()


def test_a_damaged_state_is_named(state):
    finish_epoch(state, 0.6)
    (state.folder / "state.json").write_text('{"stage": 1')
    with pytest.raises(Problem, match=r"state\.json.*--fresh"):
        open_state(state.folder, {"seed": 1}, "photos", fresh=False)


def test_a_stage_without_memory_for_one_photo_ends_in_a_sentence(state):
    state.begin_job("one", 0)
    state.step_mode = {"devices": 2, "precision": "float32"}
    assert "at most 2 photos at once" in state.halve_micro_batch("all", 8)
    assert state.mode_of("all").micro_batch == 2
    assert state.mode_of("half").micro_batch is None  # another stage has its own number
    state.halve_micro_batch("all", 8)
    with pytest.raises(Problem, match="Stage all ran out of memory with one photo"):
        state.halve_micro_batch("all", 8)
    again = open_state(state.folder, state.settings, state.fingerprint, fresh=False)
    assert again.micro_batches == {"one/all": 1}


METRICS = json.dumps({"recipe": "dry", "val_accuracy_submitted": 0.9})


def test_results_of_others_and_of_finished_runs_stay_as_they_are(tmp_path, capsys):
    """A run takes the folder, or one beside it that nothing is lost in."""
    output = tmp_path / "output"
    assert choose_output(output, fresh=False) == output
    (output / "mine").mkdir(parents=True)
    (output / "notes.txt").write_text("of a person")
    assert choose_output(output, fresh=False) == output  # nothing here has a name of ours
    (output / "metrics.json").write_text(METRICS)
    assert choose_output(output, fresh=False) == tmp_path / "output-2"
    assert f"{output} holds a finished run" in capsys.readouterr().out
    assert choose_output(output, fresh=True) == output
    open_state(tmp_path / "output-2" / "state", {}, "photos", fresh=False)
    for fresh in (False, True):  # the unfinished one is what goes on, or is thrown away
        assert choose_output(output, fresh) == tmp_path / "output-2"
    (tmp_path / "output-2" / "metrics.json").write_text(METRICS)  # cut by time
    assert choose_output(output, fresh=False) == tmp_path / "output-2"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("photos.csv", "a person's own"),
        ("state/notes.txt", "mine"),
        ("state/state.json", "{}"),
        ("members/anna.txt", "mine"),
        ("metrics.json", '{"loss": 1}'),
        ("report/thesis.tex", "mine"),
    ],
)
@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_with_somebody_else_s_files_is_not_written_to(
    tmp_path, capsys, name, content, fresh
):
    file = tmp_path / "output" / name
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert choose_output(tmp_path / "output", fresh) == tmp_path / "output-2"
    said = capsys.readouterr().out
    assert str(tmp_path / "output" / name.partition("/")[0]) in said
    assert file.read_text() == content


def test_a_new_state_is_known_as_a_run_s_at_once_and_may_be_given_up_before_an_epoch(tmp_path):
    open_state(tmp_path / "state", {"seed": 1}, "photos", fresh=False)
    assert has_marker(tmp_path, STATE)
    other = open_state(tmp_path / "state", {"seed": 2}, "photos", fresh=False)
    assert other.settings == {"seed": 2}


def test_looking_at_a_state_changes_nothing(tmp_path):
    assert not open_state(tmp_path / "a", {}, "photos", False, read_only=True).resumed
    assert not list(tmp_path.iterdir())
    open_state(tmp_path / "state", {"seed": 1}, "photos", fresh=False)
    before = (tmp_path / "state" / "state.json").read_bytes()
    for fresh in (False, True):
        open_state(tmp_path / "state", {"seed": 1}, "photos", fresh, read_only=True)
    assert (tmp_path / "state" / "state.json").read_bytes() == before


def test_members_of_another_run_go_and_a_person_s_files_stay(tmp_path):
    for name in ("b3/probabilities.npz", "b3/fold-0.keras", "b3/notes.txt", "mine/photo.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    remove_members(tmp_path)
    left = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.*")}
    assert left == {"b3/notes.txt", "mine/photo.jpg"}
