"""What a run costs, what fits into its session, and what is cut where it does not."""

import dataclasses
import math
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from kernelkit.config.views import View
from kernelkit.train.costs import GPU_RATE, REPORT_SECONDS, Job, fill_session, gpu_minutes
from kernelkit.train.plan import Plan, make_plan
from small_networks import Stage

ONE_EPOCH = Stage(epochs=1)


def fold(number, train, validation=0, test=0):
    """Stand for the photos of a fold."""
    return SimpleNamespace(
        fold=number, train=train * [0], validation=validation * [0], test=test * [0]
    )


def member(size=(8, 8), stages=(ONE_EPOCH,), tta=1):
    """Stand for a member's settings."""
    return SimpleNamespace(
        backbone="Net", image_size=size, stages=stages, tta=tta, tta_style="weak"
    )


BACKBONES = {"Net": SimpleNamespace(gmacs=2.0, size=(8, 8))}
VIEWS = View("plain"), View("larger", scale=2.0)


def test_every_member_has_a_fold_before_any_has_the_next(state):
    members, parts = {"a": member(), "b": member()}, [fold(0, 10), fold(1, 20)]
    plan = make_plan(members, BACKBONES, VIEWS, parts, state, 0.0, None)
    assert [(job.member, job.fold) for job in plan.jobs] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert plan.jobs[2].cost == 2 * plan.jobs[0].cost > 0
    assert plan.end == math.inf


def test_lines_name_the_network_where_there_are_several(state):
    jobs = [Job(name, 1, (ONE_EPOCH,), 1.0, 1, 10, 0, 0) for name in "ab"]
    stage = Stage("half", epochs=1)
    assert Plan(jobs, state, math.inf, 1.0).begin(jobs[0]).name(stage) == "a, fold 1, stage half"
    assert Plan(jobs[:1], state, math.inf, 1.0).begin(jobs[0]).name(stage) == "stage half"


def test_a_job_s_cost_and_clock_are_those_of_its_photos_size_and_views(state):
    members = {"a": member(size=(8, 24), tta=2)}
    plan = make_plan(members, BACKBONES, VIEWS, [fold(0, 10, 4, 6)], state, 100.0, 2)
    (job,) = plan.jobs
    assert job == Job("a", 0, (ONE_EPOCH,), 2.0 * 3, 1 + 4, 10, 4, 6)
    assert plan.end == 220
    clock = plan.begin(job)
    clock.note_prediction(images=20, seconds=2)
    assert clock.predict_seconds(job.passes) == pytest.approx(1.1 * 5 * (4 + 6) / 10)


@pytest.mark.parametrize(
    ("changed", "times"),
    [
        ({"scale": 2.0}, 4),
        ({"fraction": 0.5}, 2),  # a whole forward pass, and half of a backward one
        ({"fraction": 1.0}, 3),
        ({"epochs": 6}, 2),
        ({"views": 5}, 2),  # three epochs against six passes, once
        ({"views": 5, "epochs": 50}, 2),
    ],
)
def test_a_stage_costs_what_its_passes_cost(changed, times):
    assert Job("a", 0, [Stage()], 2.0, 0, 100, 0, 0).cost == 2.0 * 3 * 100
    stage = dataclasses.replace(Stage(), **changed)
    assert Job("a", 0, [stage], 2.0, 0, 100, 0, 0).cost == times * 2.0 * 3 * 100


def test_validation_is_a_forward_pass_an_epoch_and_predictions_come_on_top():
    stages = [Stage(fraction=1.0, scale=2.0)]
    assert Job("a", 0, stages, 2.0, 1.5, 0, 10, 0).cost == 2.0 * (3 * 4 * 10 + 1.5 * 10)
    assert Job("a", 0, stages, 2.0, 1.5, 0, 0, 10).cost == 2.0 * 1.5 * 10
    assert Job("a", 0, 2 * [Stage()], 1.0, 0, 7, 0, 0).cost == 2 * 3 * 7


@pytest.mark.parametrize(("folds", "train", "held"), [(1, 80, 20), (4, 75, 25)])
def test_gpu_minutes_are_those_of_all_networks(folds, train, held):
    config = SimpleNamespace(folds=folds, validation_share=0.2, candidates=())
    members = {"a": member(tta=2), "b": member()}
    found = gpu_minutes(config, members, BACKBONES, VIEWS, (100, 50))
    cost = sum(Job("a", 0, [ONE_EPOCH], 2.0, passes, train, held, 50).cost for passes in (5, 1))
    assert found == pytest.approx((folds * cost / GPU_RATE + REPORT_SECONDS) / 60)


def test_a_run_that_scouts_fills_its_session():
    config = SimpleNamespace(folds=5, validation_share=0.2, members=(), candidates=("a",))
    arguments = {"a": member()}, BACKBONES, VIEWS, (100, 50)
    config.time_limit = 600.0
    assert gpu_minutes(config, *arguments) == 600
    config.time_limit = None
    cost = Job("a", 0, [ONE_EPOCH], 2.0, 1, 80, 20, 50).cost
    assert gpu_minutes(config, *arguments) == pytest.approx((cost / GPU_RATE + REPORT_SECONDS) / 60)


LONG = Stage(name="all", fraction=1.0, epochs=8)


@pytest.mark.parametrize(
    ("seconds", "members", "length", "folds", "reason"),
    [
        (math.inf, "ab", 1.0, 1, "without a time limit"),
        (1, "a", 0.75, 1, "b would not fit"),  # not even one: its clock cuts it
        (200, "a", 0.75, 1, "b would not fit"),  # 18 for each of 8 epochs
        (250, "a", 1.0, 1, "b would not fit"),
        (400, "ab", 0.75, 1, "epochs would not fit"),
        (500, "ab", 1.0, 1, "2 folds would not fit"),
        (700, "ab", 1.25, 1, "2 folds would not fit"),
        (1000, "ab", 1.0, 2, "3 folds would not fit"),
        (1600, "ab", 1.0, 3, "all fit"),
        (1900, "ab", 1.25, 3, "all fit"),
        (9999, "ab", 1.5, 3, "all fit"),
    ],
)
def test_a_session_is_filled_by_members_then_folds_then_epochs(
    seconds, members, length, folds, reason
):
    """A job takes 10 * 3 * 8 photos at one a second: 240 seconds."""
    jobs = [Job(name, 0, [LONG], 1.0, 0, 10, 0, 0) for name in "ab"]
    found = fill_session(jobs, {"a": 1.0, "b": 1.0}, 3, seconds)
    assert ("".join(found.members), found.length, found.folds) == (members, length, folds)
    assert reason in found.reason
    assert found.seconds == len(members) * length * folds * 240


def test_a_member_that_does_not_fit_makes_room_for_a_cheaper_one():
    jobs = [Job(name, 0, [LONG], 1.0, 0, 10, 0, 0) for name in "abc"]
    found = fill_session(jobs, {"a": 1.0, "b": 0.1, "c": 1.0}, 1, 500)
    assert found.members == ["a", "c"]
    assert fill_session(jobs[1:], {"b": 0.1, "c": 1.0}, 1, 10).members == ["c"]


def test_the_scout_s_speeds_count_until_others_are_measured(state):
    plan = plan_of(state, 1000, members=[("a", 100)], folds=1)
    state.scouting = {"speeds": {"a": 4.0}}
    assert plan.estimate(plan.jobs[0]) == (25.0, True)
    state.preflight = {"predict": {"a": 2.0}}
    assert plan.estimate(plan.jobs[0]) == (50.0, True)


def test_costs_need_no_tensorflow():
    code = "import sys, kernelkit.train.costs; assert 'tensorflow' not in sys.modules"
    lib = Path(__file__).parents[2] / "lib"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(lib)})


def job(name, number, train):
    """A job of one epoch that costs 1 for each of the photos that train."""
    return Job(name, number, (ONE_EPOCH,), 1.0, 0, train, 0, 0)


def plan_of(state, left, members=(("a", 100), ("b", 300)), folds=2, published=1.0):
    jobs = [job(name, number, train) for number in range(folds) for name, train in members]
    return Plan(jobs, state, time.monotonic() + left, published)


def finish(state, one, seconds):
    state.begin_job(one.member, one.fold)
    state.finish_job(one.cost, seconds)


def names(jobs):
    return [f"{one.member}{one.fold}" for one in jobs]


def test_computed_speeds_leave_nothing_out(state):
    plan = plan_of(state, 1)
    assert plan.kept() == plan.jobs
    assert plan.seconds(plan.jobs[0]) == 0
    assert plan.estimate(plan.jobs[0]) == (100, False)


def test_a_member_is_reckoned_by_its_own_speed_and_a_new_one_by_the_slowest(state):
    plan = plan_of(state, math.inf, (("a", 100), ("b", 300), ("c", 10)))
    finish(state, plan.jobs[0], 50.0)
    finish(state, plan.jobs[1], 600.0)
    assert [plan.seconds(one) for one in plan.jobs[2:]] == [20, 50, 600, 20]
    assert plan.later(plan.jobs[1]) == 690
    assert plan.later(plan.jobs[5]) == 0


def test_the_preflight_s_speeds_count_until_epochs_are_measured(state):
    state.preflight = {"speeds": {"a/head": 4.0, "b/head": 2.0}, "predict": {"a": 8.0}}
    plan = plan_of(state, math.inf)
    assert [plan.seconds(one) for one in plan.jobs] == [25, 150, 25, 150]
    predicting = Job("a", 0, (Stage(scale=2.0),), 1.0, 1.0, 0, 0, 40)
    assert Plan([predicting], state, math.inf, 1.0).seconds(predicting) == 5
    state.begin_job("a", 0)
    state.history.append(
        {"member": "a", "fold": 0, "stage": "head", "seconds": 9.0, "images_per_second": 10.0}
    )
    assert plan.seconds(plan.jobs[2]) == 10


def test_an_epoch_is_forecast_by_the_preflight_alone(state):
    one = Job("a", 0, (ONE_EPOCH,), 1.0, 0, 100, 16, 0)
    plan = Plan([one], state, math.inf, 1.0)
    assert plan.epoch_seconds(one, ONE_EPOCH) == 0
    state.preflight = {"speeds": {"a/head": 4.0}, "predict": {"a": 8.0}}
    assert plan.epoch_seconds(one, ONE_EPOCH) == 25 + 2


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (1000, ["a0", "b0", "c0", "a1", "b1", "c1"]),
        (599, ["a0", "b0", "a1", "b1"]),  # the last member goes first
        (399, ["a0", "a1"]),
        (199, ["a0"]),  # then folds
        (0, ["a0"]),  # never the first: there is always a submission
    ],
)
def test_members_are_cut_before_folds(state, left, kept):
    members = ("a", 100), ("b", 100), ("c", 100)
    state.preflight = {"speeds": {f"{name}/head": 1.0 for name, _ in members}}
    plan = plan_of(state, left + 0.5, members)
    assert names(plan.kept()) == kept


def test_a_job_that_has_begun_is_kept_and_others_need_the_time_left(state):
    plan = plan_of(state, 120)
    finish(state, plan.jobs[0], 50.0)  # 2 a second
    assert names(plan.kept()) == ["a1"]
    state.begin_job("b", 0)
    state.history.append(
        {"member": "b", "fold": 0, "stage": "head", "seconds": 9.0, "images_per_second": 1.0}
    )
    assert names(plan.kept()) == ["b0", "a1"]


def test_a_job_that_goes_on_takes_only_its_rest(state):
    """Also before its clock is there: a resumed session prints its plan first."""
    plan = Plan([Job("a", 0, (Stage(epochs=5),), 1.0, 0, 100, 0, 0)], state, math.inf, 1.0)
    state.begin_job("a", 0)
    state.history.append(
        {"member": "a", "fold": 0, "stage": "head", "seconds": 9.0, "images_per_second": 1.0}
    )
    state.epoch = 3
    assert plan.seconds(plan.jobs[0]) == 18


def test_jobs_that_were_finished_before_cost_nothing(state):
    plan = plan_of(state, math.inf)
    plan.done = plan.jobs[:3]
    assert names(plan.unfinished()) == ["b1"]
    assert "b, fold 0: was finished before" in plan.table()


def test_what_is_left_out_is_said_once(state):
    plan = plan_of(state, 450)
    assert plan.news() == ""
    finish(state, plan.jobs[0], 100.0)
    assert plan.news() == "plan revised: left out are b, fold 0; b, fold 1"
    assert plan.news() == ""
    plan.end += 1000
    assert plan.news() == "plan revised: left out are none any more"


def test_the_table_has_each_phase_each_job_and_the_end(state):
    stages = (Stage("head", views=2), Stage("all", 1.0, 4))
    jobs = [Job("net", number, stages, 2.0, 5.0, 100, 10, 20) for number in (0, 1)]
    plan = Plan(jobs, state, time.monotonic() + 1200.5, 4.0)
    state.preflight = {"speeds": {"net/all": 0.5}}
    first, head, *lines = plan.table().splitlines()
    assert first == "plan: 2 networks, 0 finished"
    assert head.split() == ["network", "phase", "epochs", "photos/s", "time"]
    assert [line.split() for line in lines[:4]] == [
        ["net", "head", "1", "1.5", "0:03:20"],  # 3 billion multiply-adds a second, as all does
        ["net", "all", "4", "0.5", "0:13:20"],  # half a photo a second
        ["net", "validation", "5", "1.5", "0:00:33"],
        ["net", "prediction", "1", "1.5", "0:01:40"],
    ]
    assert [line.split(": ")[1].split(",")[0] for line in lines[4:6]] == 2 * ["about 0:18:53"]
    assert "does not fit and is left out" in lines[5]
    assert "in 0:19:23" in lines[6]  # with the report
    assert "the session ends at" in lines[7]
    assert "in 0:20:00" in lines[7]
    assert len(lines) == 8
    state.preflight = {}
    assert "* computed from published throughputs, not measured" in plan.table()


def test_a_plan_that_is_too_long_says_in_which_order_it_is_cut(state):
    plan = plan_of(state, 10)
    assert "cut are members, folds, epochs of the last stage and views" in plan.table()
    assert "cut are" not in plan_of(state, math.inf).table()
