"""Left alone overnight, `ship` waits out whatever passes, never silently, and finishes the rest."""

import contextlib
import dataclasses
import json
import re
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from kernelkit.core.locks import only_one
from loopback.store import ApiError
from shipping import KEY, ONCE, SCORE, open_world

LONG = {"SHIP_OUTAGE": "600"}
BEGINS = "no usable answer from Kaggle about"
ENDS = "Kaggle answers again, after"
OUTAGES = {
    "dropped": ("drop", {}),
    "503": ("status", {"code": 503}),
    "a page of maintenance": ("body", {"body": "<html>back soon</html>"}),
    "an answer of another shape": ("body", {"body": ["x"]}),
}
PHASES = {
    "READY": ("waiting until dataset", {"dataset_delay": 2.0}),
    "the run": ("car-classification-v1: RUNNING", {}),
    "the score": ("waiting for its score", {"scoring_delay": 2.0}),
}


def output_from(process, text: str) -> list[str]:
    """Read lines until one of them holds a text, and return them."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError((lines, process.stderr.read()))


def rest_of(process, lines: list[str]) -> str:
    """Wait until a `ship` has ended well, and return all that it has said."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (lines, out, err)
    return "".join(lines) + out


CASES = [(phase, "dropped") for phase in PHASES] + [("the run", kind) for kind in OUTAGES]


@pytest.mark.parametrize(("phase", "kind"), dict.fromkeys(CASES))
def test_an_outage_is_said_when_it_begins_and_when_it_is_over(tmp_path, phase, kind):
    text, settings = PHASES[phase]
    with open_world(tmp_path, **settings) as world:
        process = world.start("--set", "seconds=2", **LONG)
        lines = output_from(process, text)
        fault, details = OUTAGES[kind]
        world.kaggle.faults.add("*", fault, times=10**6, **details)
        lines += output_from(process, BEGINS)
        assert process.poll() is None
        world.kaggle.faults.clear()
        out = rest_of(process, lines)
        assert (out.count(BEGINS), out.count(ENDS)) == (1, 1), out
        assert "no usable answer about" not in out
        assert f"public score of car-classification-v1: {SCORE}" in out
        assert world.kaggle.counts == ONCE


@pytest.mark.parametrize("code", [403, 404, 520])
def test_a_refusal_for_a_moment_while_the_score_is_waited_for(tmp_path, code):
    with open_world(tmp_path, scoring_delay=1.0) as world:
        process = world.start(**LONG)
        lines = output_from(process, "waiting for its score")
        world.kaggle.faults.add("ListSubmissions", "status", times=3, code=code)
        rest_of(process, lines)
        assert world.kaggle.counts == ONCE


def test_a_laptop_that_sleeps(world):
    process = world.start("--set", "seconds=1", SHIP_TIMEOUT="0.5", **LONG)
    lines = output_from(process, "car-classification-v1: RUNNING")
    both = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
    for one in both:
        one.suspend()
    time.sleep(1.5)  # three times as long as an answer may take
    for one in both:
        one.resume()
    rest_of(process, lines)
    assert world.kaggle.counts == ONCE


def test_the_client_dies_while_a_run_is_followed(world):
    process = world.start("--set", "seconds=2")
    lines = output_from(process, "epoch 1/2")
    [client] = psutil.Process(process.pid).children()
    client.kill()
    out = rest_of(process, lines)
    assert out.count("epoch 1/2") == out.count("epoch 2/2") == 1
    assert world.kaggle.counts == ONCE


@pytest.mark.parametrize("phase", PHASES)
def test_nothing_is_silent_for_long(tmp_path, phase):
    _, settings = PHASES[phase]
    with open_world(tmp_path, **settings) as world:
        outcome = world.ship("--set", "seconds=2", SHIP_SILENCE="0.5")
    doing = {"READY": "waiting for the dataset", "the run": "following car-classification-v1"}
    doing["the score"] = "waiting for the score of submission 40000001"
    assert f"still {doing[phase]}, for 0:00:0" in outcome.out


def test_an_outage_is_not_silent_either(world):
    process = world.start("--set", "seconds=1", SHIP_SILENCE="0.5", **LONG)
    lines = output_from(process, "car-classification-v1: RUNNING")
    world.kaggle.faults.add("*", "drop", times=10**6)
    lines += output_from(process, "still no usable answer from Kaggle about")
    world.kaggle.faults.clear()
    rest_of(process, lines)


def renew_key(world, key: str) -> None:
    """Let Kaggle accept another key, which is written where the client looks."""
    file = world.kaggle.folder / "home" / ".kaggle" / "kaggle.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"username": "alice", "key": key}))
    world.kaggle.settings = dataclasses.replace(world.kaggle.settings, key=key)


def test_a_key_that_is_renewed_while_a_run_is_followed(world):
    renew_key(world, KEY)
    process = world.start("--set", "seconds=2", KAGGLE_USERNAME=None, KAGGLE_KEY=None)
    lines = output_from(process, "car-classification-v1: RUNNING")
    renew_key(world, "another-key-0123456789abcdef")
    rest_of(process, lines)
    assert world.kaggle.counts == ONCE


GRID = ("sweep", "skill=30,36,39", "--submit", "best")
THREE = {"kernel_versions": 3, "kernel_runs": 3}


def hide_status(world, version: int, answer) -> None:
    """Let Kaggle answer otherwise about the status of one version."""
    status = world.kaggle.kernels.GetKernelSessionStatus

    def told(request):
        if request["versionLabel"] != f"v{version}":
            return status(request)
        if isinstance(answer, int):
            raise ApiError(answer, "no")
        return answer

    world.kaggle.kernels.GetKernelSessionStatus = told


@pytest.mark.parametrize("answer", [404, 403, 400, 503, {"status": "HIBERNATED"}, {}], ids=str)
def test_a_version_without_a_status_does_not_keep_the_others_back(world, answer):
    hide_status(world, 3, answer)
    outcome = world.ship(*GRID)
    assert outcome.status == 0, outcome
    assert world.kaggle.counts == ONCE | THREE
    assert [run.status for run in world.runs] == ["complete", "complete", "lost"]
    assert [run.public_score for run in world.runs] == [None, SCORE, None]
    table = outcome.out[outcome.out.index("setting ") :].splitlines()
    assert [line.split()[0] for line in table[1:4]] == ["skill=30", "skill=36", "skill=39"]
    assert table[4].startswith("left out: car-classification-v3: ")
    again = world.ship(*GRID)  # at once: it was given up before
    assert again.status == 0
    assert world.kaggle.counts == ONCE | THREE


def test_a_lost_version_that_comes_back_is_taken_up(world):
    shown = world.kaggle.kernels.GetKernelSessionStatus
    hide_status(world, 3, 404)
    assert world.ship(*GRID).status == 0
    world.kaggle.kernels.GetKernelSessionStatus = shown
    outcome = world.ship("sweep", "skill=30,36,39")
    assert outcome.status == 0
    assert [run.status for run in world.runs] == ["complete"] * 3
    assert "left out" not in outcome.out
    assert world.kaggle.counts == ONCE | THREE


def test_runs_of_a_deleted_kernel_block_nothing(world):
    assert world.ship("push").status == 1  # there is no dataset, but a ledger may begin
    rows = [
        {"run": f"old-cars-v{n}", "kernel": "alice/old-cars", "version": n, "status": "pushed"}
        for n in (1, 2)
    ]
    ledger = world.project / "runs" / "ledger.jsonl"
    ledger.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = world.ship("sweep", "skill=30,36", SHIP_PROVE="60")  # nobody waits ten minutes
    assert outcome.status == 0, outcome
    assert world.kaggle.counts["kernel_runs"] == 2


@pytest.mark.parametrize("which", ["best", "all"])
def test_a_file_that_can_not_be_scored_does_not_keep_the_others_back(world, which):
    kernel = world.project / "kernel.py"
    label = 'CONFIG["label"] or'
    spoiled = '("1" if CONFIG["skill"] == "39" else "") or'
    kernel.write_text(kernel.read_text().replace(label, spoiled))
    outcome = world.ship("sweep", "skill=30,39,36", "--submit", which)
    assert outcome.status == (which == "all"), outcome
    assert world.kaggle.counts == ONCE | THREE  # two of the files are the same
    assert {run.settings["skill"]: run.public_score for run in world.runs} == {
        "30": SCORE if which == "all" else None,
        "36": SCORE,
        "39": None,
    }
    assert "has the label '1' in every row" in outcome.out[outcome.out.index("left out: ") :]


def test_a_file_that_kaggle_can_not_score_does_not_keep_the_others_back(world):
    shown = world.kaggle.competitions._public
    failed = {"status": "ERROR", "errorDescription": "oops"}
    world.kaggle.competitions._public = lambda entry: (
        shown(entry) | (failed if entry["ref"] == 40000001 else {})
    )
    for _ in range(2):
        outcome = world.ship("sweep", "shift=0,1", "--submit", "all")
        assert outcome.status == 1
        assert "could not score submission 40000001: oops" in outcome.sentence
        assert world.kaggle.counts["submissions"] == 2


def test_a_submission_without_a_score_does_not_keep_the_others_back(world):
    shown = world.kaggle.competitions._public

    def pending(entry):
        first = {"status": "PENDING", "publicScore": None}
        return shown(entry) | (first if entry["ref"] == 40000001 else {})

    world.kaggle.competitions._public = pending
    outcome = world.ship("sweep", "shift=0,1", "--submit", "all", SHIP_SCORE="1")
    assert "submission 40000001 has no score" in outcome.sentence
    assert sorted(run.public_score is None for run in world.runs) == [False, True]
    world.kaggle.competitions._public = shown
    assert world.ship("sweep", "shift=0,1", "--submit", "all").status == 0
    assert world.kaggle.counts["submissions"] == 2


def test_the_submissions_of_a_day_are_used_up_by_a_sweep(tmp_path):
    with open_world(tmp_path, daily_submissions=1) as world:
        outcome = world.ship("sweep", "shift=0,1,2", "--submit", "all")
        assert outcome.status == 0, outcome
        assert outcome.out.count("no submissions are left today") == 1
        assert sum(run.public_score is not None for run in world.runs) == 1


def test_an_output_that_can_not_be_fetched_does_not_keep_the_others_back(world):
    output = world.kaggle.kernels.ListKernelSessionOutput

    def listed(request):
        if request["versionLabel"] == "v3":
            raise ApiError(503, "no")
        return output(request)

    world.kaggle.kernels.ListKernelSessionOutput = listed
    outcome = world.ship(*GRID)
    assert outcome.status == 0, outcome
    assert "left out: car-classification-v3: " in outcome.out
    assert world.kaggle.counts == ONCE | THREE


def test_an_outage_during_a_sweep(world):
    process = world.start(*GRID, "--set", "seconds=1")
    lines = output_from(process, "RUNNING")
    world.kaggle.faults.add("*", "drop", times=10**6)
    lines += output_from(process, BEGINS)
    world.kaggle.faults.clear()
    out = rest_of(process, lines)
    assert (out.count(BEGINS), out.count(ENDS)) == (1, 1), out
    assert world.kaggle.counts == ONCE | THREE


@contextlib.contextmanager
def another_ship(world):
    """Hold the project's lock as another `ship` does that sends something."""
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with only_one(world.project / "runs" / ".lock", ""):
            held.set()
            over.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("command", [(), GRID, ("bundle",)], ids=str)
def test_another_ship_that_sends_something_is_waited_for(world, command):
    waits = "another ship is sending something of this project"
    with another_ship(world):
        process = world.start(*command)
        lines = output_from(process, waits)
    assert rest_of(process, lines).count(waits) == 1


def test_another_ship_is_not_waited_for_without_end(world):
    with another_ship(world):
        outcome = world.ship("bundle", SHIP_READY="0.3")
    assert "another ship is sending something of this project (process " in outcome.sentence


def use_up_quota(world, seconds: float, ahead: timedelta = timedelta(0), told: bool = True):
    """Let Kaggle refuse pushes for lack of GPU time for so many seconds."""
    save, end = world.kaggle.kernels.SaveKernel, time.monotonic() + seconds
    quota = world.kaggle.kernels.GetAcceleratorQuotaStatistics
    renewal = datetime.now(UTC) + timedelta(seconds=seconds) + ahead

    def saved(request):
        if time.monotonic() < end:
            return {"error": "You have used up your weekly GPU quota"}
        return save(request)

    def told_quota(request):
        if not told:
            raise ApiError(403, "no")
        if time.monotonic() > end:
            return quota(request)
        used = {"timeUsed": "108000s", "timeReserved": "0s", "totalTimeAllowed": "108000s"}
        return {"quotaRefreshTime": renewal.isoformat()[:19] + "Z", "gpuQuota": used}

    world.kaggle.kernels.SaveKernel = saved
    world.kaggle.kernels.GetAcceleratorQuotaStatistics = told_quota


@pytest.mark.parametrize("hours", [0, -30, 30])
def test_the_weeks_gpu_time_is_waited_for(world, hours):
    use_up_quota(world, 4.0, timedelta(hours=hours))  # as a wrong clock has it
    outcome = world.ship("sweep", "skill=30,36")
    assert outcome.status == 0, outcome
    pushes = len(world.calls("SaveKernel")) - 2
    assert pushes <= (2 if hours >= 0 else 7)
    [line] = [line for line in outcome.out.splitlines() if "used up your weekly" in line]
    assert re.search(r"waiting, renewed at 20\d\d-\d\d-\d\d \d\d:\d\d UTC$", line)


def test_the_weeks_gpu_time_is_waited_for_although_kaggle_does_not_tell_it(world):
    use_up_quota(world, 3.0, told=False)
    outcome = world.ship("sweep", "skill=30,36")
    assert outcome.status == 0, outcome
    assert len(world.calls("SaveKernel")) <= 8
    assert outcome.out.count("used up your weekly") == 1


@pytest.mark.slow
def test_a_quarter_of_a_night_in_fast_motion():
    night = Path(__file__).parents[1] / "benchmarks" / "night.py"
    command = [sys.executable, night, "--short", "--speed", "1200"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\nok ") == 13
