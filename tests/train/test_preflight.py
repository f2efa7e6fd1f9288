"""Before training, real steps are tried in a child process, and what fails there harms nobody."""

import dataclasses
import json
from importlib.metadata import version
from types import SimpleNamespace

import pytest

import failing_steps
from failing_steps import FACTORY, Settings, Stage
from kernelkit.data.tables import PhotoTables
from kernelkit.train import devices
from kernelkit.train.output import open_state
from kernelkit.train.preflight import Preflight, WorkerProcess, choose_step_mode
from kernelkit.train.preflight_worker import TOO_LARGE, activation_bytes, photos_that_fit
from kernelkit.train.step_mode import (
    FLOAT16,
    FLOAT16_WITHOUT_DEPTHWISE,
    FLOAT32,
    SAFEST,
    StepMode,
    allowed_precisions,
    step_modes,
)
from tiny_competition import load, write_competition

BACKBONES = {"tiny": SimpleNamespace(gmacs=1.0, size=(24, 32))}
MODES = [StepMode(1, FLOAT16), StepMode(1, FLOAT16_WITHOUT_DEPTHWISE), StepMode(1, FLOAT32)]


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> PhotoTables:
    folder = tmp_path_factory.mktemp("photos") / "data"
    write_competition(folder)
    return load(folder)[0]


def try_modes(tables, folder, modes, patience=300.0, **settings):
    """Return the chosen mode and the trials."""
    process = WorkerProcess(tables, FACTORY, folder / "printed.txt")
    trials = Preflight(process, {"one": Settings(**settings)}, {"one": 1.0}, 3000.0, patience)
    try:
        return trials.choose(modes), trials
    finally:
        process.stop()


def outcomes(trials):
    return [(row["precision"], row["micro_batch"], row["outcome"]) for row in trials.rows]


@pytest.mark.slow
def test_a_step_that_aborts_or_hangs_is_passed_over(tables, tmp_path):
    fails = {FLOAT16: "abort", FLOAT16_WITHOUT_DEPTHWISE: "hang"}
    mode, trials = try_modes(tables, tmp_path, MODES, 30.0, fails=fails)
    assert mode == StepMode(1, FLOAT32)
    assert outcomes(trials) == [
        (FLOAT16, None, "the process ended (SIGABRT)"),
        (FLOAT16_WITHOUT_DEPTHWISE, None, "no answer within 30 s"),
        (FLOAT32, None, "worked"),
        (FLOAT32, None, "worked"),  # the prediction
    ]
    *_, step, prediction = trials.rows
    assert step["images_per_second"] == trials.speeds["one/all"] > 0
    assert prediction["predict"] == trials.predict["one"] > 0
    assert trials.micro_batches == {}


@pytest.mark.slow
def test_wrong_numbers_are_no_success_and_a_step_that_does_not_fit_takes_fewer_photos(
    tables, tmp_path
):
    """An error says what it was."""
    fails = {FLOAT16: "give_wrong_numbers", FLOAT32: "run_out_of_memory"}
    mode, trials = try_modes(tables, tmp_path, MODES[::2], fails=fails, fit=2)
    assert mode == StepMode(1, FLOAT32, micro_batch=2)
    assert outcomes(trials) == [
        (FLOAT16, None, "wrong numbers: the loss is nan"),
        (FLOAT32, None, "out of memory"),
        (FLOAT32, 2, "worked"),
        (FLOAT32, 2, "worked"),
    ]
    assert trials.micro_batches == {}  # no stage differs from the mode


@pytest.mark.slow
def test_where_everything_fails_the_safest_is_left(tables, tmp_path):
    fails = {FLOAT16: "run_out_of_memory", FLOAT32: "raise_error"}
    mode, trials = try_modes(tables, tmp_path, MODES[::2], fails=fails, fit=0, batch_size=1)
    assert mode == SAFEST == StepMode(1, FLOAT32, micro_batch=4)
    assert outcomes(trials) == [
        (FLOAT16, None, "out of memory"),
        (FLOAT32, None, "failed: RuntimeError: cuDNN says no"),
    ]


def test_without_a_process_the_run_goes_on_with_the_safest_and_says_so(tables, state, capsys):
    factory = dataclasses.replace(FACTORY, build=lambda *_: None)  # which no process can be sent
    choose_step_mode(Settings(), {"one": Settings()}, BACKBONES, tables, state, factory)
    assert StepMode(**state.step_mode) == SAFEST
    printed = capsys.readouterr().out
    assert "no process to try steps in" in printed
    assert f"preflight: {SAFEST}" in printed


@pytest.mark.slow
def test_a_resumed_session_on_the_same_machine_tries_nothing_again(
    tables, state, capsys, monkeypatch
):
    choose = lambda state: choose_step_mode(  # noqa: E731
        Settings(), {"one": Settings()}, BACKBONES, tables, state, FACTORY
    )
    choose(state)
    first = dict(state.preflight)
    assert first["chosen"]["devices"] == 1
    assert {"machine", "rows", "chosen", "speeds", "predict"} == set(first)
    json.dumps(first)
    again = open_state(state.folder, {"seed": 1}, "photos", fresh=False)
    with monkeypatch.context() as patch:
        patch.setattr(failing_steps, "FACTORY", None)
        process = "kernelkit.train.preflight.WorkerProcess"
        patch.setattr(process, lambda *_: pytest.fail("tried again"))
        choose(again)
        assert again.preflight == json.loads(json.dumps(first))
        assert "an earlier session of this run chose: 1 device, float32" in capsys.readouterr().out
        patch.setattr("kernelkit.train.devices.machine", lambda: "another machine")
        patch.setattr(process, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            choose(again)


def test_on_a_cpu_nothing_is_tried_unless_asked_for(tables, state):
    config = Settings(preflight="quick")
    choose_step_mode(config, {"one": config}, BACKBONES, tables, state, None)
    assert state.preflight == {}
    assert state.step_mode == dataclasses.asdict(StepMode(1, FLOAT32))
    assert open_state(state.folder, {"another": 1}, "photos", fresh=False).preflight == {}


def test_the_order_of_ways_is_that_of_likelihood():
    auto = allowed_precisions("auto", gains=True)
    assert auto == [FLOAT16, FLOAT16_WITHOUT_DEPTHWISE, FLOAT32]
    assert allowed_precisions("auto", gains=False) == [FLOAT32]
    assert allowed_precisions("no", gains=True) == [FLOAT32]
    assert allowed_precisions("yes", gains=False) == [FLOAT16, FLOAT16_WITHOUT_DEPTHWISE]
    modes = step_modes(2, auto)
    assert modes[:3] == [
        StepMode(2, FLOAT16),
        StepMode(2, FLOAT16_WITHOUT_DEPTHWISE),
        StepMode(1, FLOAT16, xla=True),
    ]
    assert len(modes) == len(set(modes)) == 9
    assert not any(mode.xla and mode.devices > 1 for mode in modes)
    assert step_modes(1, [FLOAT32]) == [StepMode(1, FLOAT32), StepMode(1, FLOAT32, xla=True)]


def test_photos_at_once_halve_down_to_one():
    mode, seen = StepMode(2, FLOAT16, xla=True), []
    while mode := mode.halved(32):
        assert not mode.xla
        seen.append(mode.micro_batch)
    assert seen == [8, 4, 2, 1]


def test_a_gpu_that_tensorflow_does_not_see_gets_the_command_that_helps(
    tables, state, monkeypatch, tmp_path, capsys
):
    driver = tmp_path / "proc" / "driver" / "nvidia" / "version"
    monkeypatch.setattr(devices, "NVIDIA_SIGNS", (str(driver),))
    assert devices.unused_device() == ""
    driver.parent.mkdir(parents=True)
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06\n")
    config = Settings(preflight="no")
    choose_step_mode(config, {"one": config}, BACKBONES, tables, state, None)
    said = f"pip install 'tensorflow[and-cuda]=={version('tensorflow')}'"
    assert said in capsys.readouterr().out
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert devices.unused_device() == ""


def test_a_tpu_that_can_not_be_used_gets_one_sentence(monkeypatch):
    assert devices.unused_device() == ""
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v3-8")
    assert "has a TPU" in devices.unused_device()
    assert "NvidiaTeslaT4" in devices.unused_device()


def test_the_most_expensive_step_is_tried_first():
    small, large = Stage("small", 1.0, scale=0.5), Stage("large", 0.5)
    members = {"light": Settings(stages=(large,)), "heavy": Settings(stages=(small, large))}
    trials = Preflight(None, members, {"light": 1.0, "heavy": 3.0}, 60.0, 30.0)
    named = [(name, stage.name) for name, stage in trials.tasks()]
    assert named == [("heavy", "large"), ("heavy", "small"), ("light", "large")]


class Scripted:
    """Stands for the process: answers trials by a function."""

    def __init__(self, answer):
        self.answer, self.taken = answer, []

    def take(self, trial, seconds):
        self.taken.append(trial)
        row = {"images_per_second": None, "peak_bytes": None, "predict": None}
        return row | {"outcome": "worked"} | self.answer(trial)


def scripted(answer, members):
    return Preflight(Scripted(answer), members, dict.fromkeys(members, 1.0), 1000.0, 100.0)


def test_a_step_too_large_by_computation_goes_on_with_what_may_fit():
    def answer(trial):
        at_once = trial.mode.at_once(trial.config.batch_size)
        if not trial.trains:
            return {"predict": 9.0}
        if trial.stage.name == "all" and at_once > 7:
            return {"outcome": TOO_LARGE, "fits": 7}
        if trial.stage.name == "all" and at_once > 4:
            return {"outcome": "out of memory"}
        return {"images_per_second": 5.0}

    stages = (Stage("half", 0.5), Stage("all", 1.0))
    trials = scripted(answer, {"one": Settings(batch_size=32, stages=stages)})
    mode = trials.choose([StepMode(2, FLOAT16), StepMode(2, FLOAT32)])
    assert mode == StepMode(2, FLOAT16, micro_batch=4)
    tried = [trial.mode.micro_batch for trial in trials.process.taken]
    assert tried == [None, 7, 4, 4, 4, None]  # the second mode begins with 4; then all else
    assert trials.micro_batches == {"one/half": 16}  # which has room for its whole share
    assert trials.speeds == {"one/all": 5.0, "one/half": 5.0}
    assert not any("fits" in row for row in trials.rows)


def test_the_fastest_way_in_which_every_stage_works_is_chosen():
    speeds = {FLOAT16: 9.0, FLOAT16_WITHOUT_DEPTHWISE: 8.0, FLOAT32: 3.0}

    def answer(trial):
        if trial.mode.precision == FLOAT16 and trial.stage.name == "half":
            return {"outcome": "the process ended (SIGABRT)"}
        return {"images_per_second": speeds[trial.mode.precision], "predict": 1.0}

    stages = (Stage("half", 0.5), Stage("all", 1.0))
    trials = scripted(answer, {"one": Settings(stages=stages)})
    assert trials.choose(MODES) == StepMode(1, FLOAT16_WITHOUT_DEPTHWISE)
    assert trials.speeds == {"one/all": 8.0, "one/half": 8.0}
    assert trials.predict == {"one": 1.0}


def test_when_the_time_for_a_choice_is_over_no_further_way_is_tried(monkeypatch):
    trials = scripted(lambda _: {"images_per_second": 1.0, "predict": 1.0}, {"one": Settings()})
    monkeypatch.setattr(Preflight, "left", lambda trials: 1.0)
    assert trials.choose(MODES) == MODES[0]
    assert [trial.mode for trial in trials.process.taken] == 2 * [MODES[0]]


def test_memory_is_that_of_the_layers_from_the_first_that_trains():
    config = Settings(image_size=(8, 8))
    network = failing_steps.build(config, 3, None)
    features = 2 * 2 * 4  # of the convolution
    assert activation_bytes(network) == 4 * (features + 4 + 3)
    weights = 20 * network.count_params()
    assert photos_that_fit(network, weights + 5 * activation_bytes(network)) == 5
    assert photos_that_fit(network, 0) == 1
    assert photos_that_fit(network, float("inf")) > 10**6
    network.get_layer("backbone").trainable = False
    assert activation_bytes(network) == 4 * 3  # the head alone
