"""A sweep runs a grid of settings, at most two at once, survives anything, and compares fairly."""

import contextlib
import json
import random
import re
import threading
import time

import pytest

from kernelkit.core.locks import only_one
from kernelkit.core.problem import Problem
from ship.commands.sweep import grid_of
from shipping import ONCE, open_world, until

GRID = ("skill=30,36", "limit=1,2")
FOUR = {"kernel_versions": 4, "kernel_runs": 4}


@pytest.fixture
def world(tmp_path):
    with open_world(tmp_path) as world:
        watch_sessions(world)
        yield world
        assert world.most <= 2


def watch_sessions(world) -> None:
    """Count how many sessions there are at once, at each push."""
    world.most = 0
    save = world.kaggle.kernels.SaveKernel

    def counted(request):
        answer = save(request)
        states = [v["status"] for v in world.kaggle.kernels._versions()]
        world.most = max(world.most, sum(s in ("QUEUED", "RUNNING") for s in states))
        return answer

    world.kaggle.kernels.SaveKernel = counted


def test_the_grid():
    assert grid_of(["a=1,2", "b=x, y"]) == {"a": ["1", "2"], "b": ["x", "y"]}
    assert grid_of(["stages=head:0:1:1,all:1:1:1;all:1:1:2"]) == {
        "stages": ["head:0:1:1,all:1:1:1", "all:1:1:2"]
    }
    assert grid_of(["a=1,1"]) == {"a": ["1"]}
    with pytest.raises(Problem, match="a=1, has an empty value"):
        grid_of(["a=1,"])


def test_a_plan_sends_nothing(world):
    outcome = world.ship("sweep", *GRID, "--dry-run")
    assert "4 settings, 4 to be run: at most 48.0 GPU hours" in outcome.out
    assert "skill=36 limit=2: to be run" in outcome.out
    assert world.kaggle.requests == []
    outcome = world.ship("sweep", "skil=1,2")
    assert "there is no setting 'skil'" in outcome.sentence


def test_four_settings_become_a_table(world):
    outcome = world.ship("sweep", *GRID, "--submit", "best")
    assert outcome.status == 0, outcome
    assert world.kaggle.counts == ONCE | FOUR
    assert re.search(r"at most 48\.0 GPU hours; 30\.0 h .* UTC \(--hours N bounds", outcome.out)
    table = outcome.out.splitlines()[-5:]
    assert table[0].split()[:8] == ["setting", "run", "val", "95", "%", "to", "first", "p"]
    assert [line.split()[:2] for line in table[1:]] == [
        [f"skill={skill}", f"limit={limit}"] for skill in (30, 36) for limit in (1, 2)
    ]
    assert "0.7500  0.6500..0.8500 " in table[1]
    assert "0.7500  0.6500..0.8500  +0.0000   1.000" in table[2]
    assert "0.9000  0.8000..1.0000  +0.1500   0.031" in table[3]
    assert sum("0.88889" in line for line in table) == 1
    world.ship("sweep", "limit=2,1", "skill=36,30", "--submit", "best")  # two are equally good
    assert [run.submission.ref for run in world.runs].count(0) == 3
    before = len(world.calls("SaveKernel"))
    assert before == 4  # none was pushed while the sessions were taken
    again = world.ship("sweep", *GRID, "--json")
    assert len(world.calls("SaveKernel")) == before  # nothing is run again
    results = json.loads(again.out)["results"]
    assert [row["score"] for row in results] == [0.75, 0.75, 0.9, 0.9]
    more = world.ship("sweep", "skill=30,36,39", "limit=1", "--submit", "all")
    assert "3 settings, 1 to be run: " in more.out
    assert world.kaggle.counts["kernel_versions"] == 5
    assert world.kaggle.counts["submissions"] == 1  # all predict the same


def test_settings_that_fail_are_shown_and_not_run_again(world):
    outcome = world.ship("sweep", "fail=,oh", "--set", "skill=30")
    assert (outcome.status, world.kaggle.counts["kernel_versions"]) == (1, 0)
    assert outcome.sentence.startswith("fail=,oh has an empty value")
    outcome = world.ship("sweep", "label=0,1", "--set", "fail=oh")
    assert outcome.status == 1
    assert outcome.sentence.startswith("no setting has a result")
    assert [line.split()[-1] for line in outcome.out.splitlines()[-2:]] == ["error", "error"]
    world.ship("sweep", "label=0,1", "--set", "fail=oh")
    assert world.kaggle.counts["kernel_runs"] == 2
    world.ship("sweep", "label=0,1", "--set", "fail=oh", "--again")
    assert world.kaggle.counts["kernel_runs"] == 4


@pytest.mark.parametrize(
    "error",
    [
        "Maximum batch GPU session count of 2 reached.",
        "You have used up your weekly GPU quota",
    ],
)
def test_the_sessions_or_the_quota_are_taken(world, error):
    world.kaggle.faults.add("SaveKernel", "body", times=3, body={"error": error})
    outcome = world.ship("sweep", *GRID)
    assert outcome.status == 0, outcome
    assert f"Kaggle did not take the kernel: {error}: waiting" in outcome.out
    assert world.kaggle.counts["kernel_versions"] == 4


def occupy(world, call: str, *locks: str) -> None:
    """Hold locks for a second, as another `ship` would, from a call on (when a run has ended)."""
    kaggle = world.kaggle.kernels if call.startswith("GetKernel") else world.kaggle.competitions
    answer, occupied = getattr(kaggle, call), threading.Event()

    def hold() -> None:
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(only_one(world.project / "runs" / lock, ""))
            occupied.set()
            time.sleep(1)

    def at_first(request):
        told = answer(request)
        if not occupied.is_set() and told.get("status", "COMPLETE") == "COMPLETE":
            threading.Thread(target=hold).start()
            assert occupied.wait(10)
        return told

    setattr(kaggle, call, at_first)


def test_a_sweep_waits_for_another_ship(world):
    runs = [f"locks/car-classification-v{number}" for number in range(1, 5)]
    occupy(world, "GetKernelSessionStatus", ".lock", *runs)
    occupy(world, "GetSubmissionLimits", *runs)
    outcome = world.ship("sweep", *GRID, "--submit", "best")
    assert outcome.status == 0, outcome
    assert "another ship is sending something of this project" in outcome.out
    assert re.search("another ship is at work on car-classification-v[12]", outcome.out)
    assert "another ship is at work on car-classification-v3" in outcome.out
    assert outcome.out.count("another ship is sending something of this project") == 1
    assert world.kaggle.counts == ONCE | FOUR
    assert all(run.files for run in world.runs)


def test_a_sweep_waits_out_a_silence_but_not_wrong_credentials(world):
    for call in ("GetKernelSessionStatus", "ListKernelSessionOutput"):
        world.kaggle.faults.add(call, "status", times=7, code=503)
    world.kaggle.faults.add("GetKernelSessionStatus", "status", after=5, code=404)
    command = ("sweep", "skill=30,36", "--set", "seconds=0.3")
    assert world.ship(*command).status == 0
    world.kaggle.faults.add("GetKernelSessionStatus", "status", times=99, code=401)
    assert "refused the credentials" in world.ship("sweep", "skill=31").sentence
    world.kaggle.faults.clear()
    assert world.ship("sweep", "skill=31").status == 0
    assert world.kaggle.counts["kernel_runs"] == 3


def test_hours_are_shared(world):
    outcome = world.ship("sweep", "skill=30,36", "--hours", "3")
    assert "2 settings, 2 to be run: at most 3.0 GPU hours" in outcome.out
    assert [run.settings["time_limit"] for run in world.runs] == ["90", "90"]
    assert "0 to be run" in world.ship("sweep", "skill=30,36", "--hours", "9").out


def test_time_limits_that_a_person_names_are_runs_of_their_own(world):
    assert world.ship("sweep", "skill=30", "time_limit=60,90").status == 0
    assert [run.settings["time_limit"] for run in world.runs] == ["60", "90"]
    assert "1 to be run" in world.ship("sweep", "skill=30", "time_limit=90,120", "--dry-run").out
    shown = world.ship("sweep", "skill=30", "--dry-run").out
    assert "car-classification-v2, complete, whose time_limit was 90 minutes" in shown
    outcome = world.ship("sweep", "time_limit=60,90", "--hours", "3")
    assert outcome.status == 2
    assert "takes --hours, which it shares evenly, or time_limit, not both" in outcome.sentence


def test_a_sweep_leaves_the_settings_of_the_last_push(world):
    world.ship("--set", "skill=30")
    world.ship("sweep", "skill=30,36")
    assert "settings of the last push: skill=30" in world.ship("push").out


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1))
def test_killed_again_and_again(world, seed):
    """Two sessions at once, killed at any moment: four runs, one submission."""
    moment = random.Random(seed)
    command = ("sweep", *GRID, "--set", "seconds=0.6", "--submit", "best")
    kills = 0
    for _ in range(5):
        process = world.start(*command)
        time.sleep(moment.uniform(0.5, 3.0))
        kills += process.poll() is None
        process.kill()
        process.communicate()
        if process.returncode == 0:
            break
    outcome = world.ship(*command)
    assert outcome.status == 0, outcome
    assert kills > 0
    assert world.kaggle.counts == ONCE | FOUR
    assert [run.status for run in world.runs] == ["complete"] * 4
    print(f"\nseed {seed}: {kills} kills; {world.kaggle.counts}")


def edit_the_project(world) -> None:
    """Change the kernel and the lib as a person who goes on working would."""
    kernel = world.project / "kernel.py"
    kernel.write_text(kernel.read_text() + "\nprint('edited')\n")
    (world.project / "lib" / "photos" / "deep" / "inner.py").write_text("X = 2\n")


def pushed_scripts(world) -> list[str]:
    """Return the scripts that were pushed, without their marked blocks."""
    return [
        re.sub(r"# --- overr.*?# --- end", "", c.body["text"], flags=re.S)
        for c in world.calls("SaveKernel")
    ]


def test_edits_during_a_sweep_change_nothing_in_it(world):
    save, edited = world.kaggle.kernels.SaveKernel, []

    def edit_after_the_first(request):
        if not edited:
            edited.append(edit_the_project(world))
        return save(request)

    world.kaggle.kernels.SaveKernel = edit_after_the_first
    outcome = world.ship("sweep", *GRID, "--submit", "best")
    assert outcome.status == 0, outcome
    assert edited
    assert world.kaggle.counts == ONCE | FOUR
    assert len(set(pushed_scripts(world))) == 1
    assert len({(run.code, run.data) for run in world.runs}) == 1
    assert all(run.files for run in world.runs)


def test_a_sweep_that_was_killed_goes_on_with_the_files_that_it_began_with(world):
    command = ("sweep", "skill=30,36", "--set", "seconds=0.3")
    process = world.start(*command)
    until(lambda: world.kaggle.counts["kernel_versions"])
    process.kill()
    process.communicate()
    edit_the_project(world)
    outcome = world.ship(*command, "--hours", "9")
    assert outcome.status == 0, outcome
    assert "kernel.py, lib/photos/deep/inner.py changed since" in outcome.out
    assert "`--fresh` begins it again" in outcome.out
    assert world.kaggle.counts["kernel_versions"] == 2
    assert len(set(pushed_scripts(world))) == 1
    assert "0 to be run" in world.ship(*command, "--dry-run").out  # also when it is over
    fresh = world.ship(*command, "--fresh")
    assert fresh.status == 0, fresh
    assert "changed since" not in fresh.out
    assert world.kaggle.counts["kernel_versions"] == 4
    assert len(set(pushed_scripts(world))) == 2
    assert world.kaggle.counts["dataset_versions"] == 2


def test_a_sweep_that_has_not_begun_takes_the_files_that_were_corrected(world):
    kernel = world.project / "kernel.py"
    text = kernel.read_text()
    kernel.write_text(text.replace("CONFIG |= OVERRIDES", "sys.exit('not yet')"))
    assert "not yet" in world.ship("sweep", "skill=30,36").sentence
    kernel.write_text(text)
    world.kaggle.faults.add("CreateDataset", "body", body={"status": "error", "error": "no"})
    assert "Kaggle refused dataset" in world.ship("sweep", "skill=30,36").sentence
    edit_the_project(world)
    outcome = world.ship("sweep", "skill=30,36")
    assert outcome.status == 0, outcome
    assert "changed since" not in outcome.out
    assert all("print('edited')" in script for script in pushed_scripts(world))
