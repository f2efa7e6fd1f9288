"""After SIGKILL at any moment the next `ship` continues, and nothing arrives twice."""

import random
import time

import pytest

from shipping import ONCE, SCORE, TWO

REQUESTS = 50
"""A whole shipment makes more requests."""

SETTINGS = ("--set", "seconds=0.4")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))  # tests/benchmarks/ship_faults.py makes many more
def test_killed_at_a_random_moment(world, seed):
    moment = random.Random(seed)
    request, delay = moment.randrange(REQUESTS), moment.uniform(0, 0.05)
    world.kill_when(lambda: len(world.kaggle.requests) > request, *SETTINGS, delay=delay)
    seen = [call.name for call in world.kaggle.requests]
    world.arrives_once(*SETTINGS)
    print(f"\nkill {seed + 1}: {len(seen)} requests, the last {seen[-1]}; {world.kaggle.counts}")


@pytest.mark.slow
def test_killed_again_and_again(world):
    moment = random.Random(42)
    kills = 0
    for _ in range(8):
        process = world.start(*SETTINGS)
        time.sleep(moment.uniform(0.3, 1.6))
        if process.poll() is None:
            kills += 1
        process.kill()
        process.communicate()
        if process.returncode == 0:
            break
    assert kills > 1
    world.arrives_once(*SETTINGS)


@pytest.mark.parametrize("call", ["CreateDataset", "SaveKernel", "CreateSubmission"])
@pytest.mark.parametrize("fault", ["late", "drop"])
def test_killed_while_a_call_that_changes_something_is_under_way(world, call, fault):
    """The request has been sent, and takes effect after the death of `ship`."""
    details = {"seconds": 2} if fault == "late" else {"effect": True}
    world.kaggle.faults.add(call, fault, **details)
    world.kill_when(lambda: world.calls(call), *SETTINGS)
    world.arrives_once(*SETTINGS, SHIP_PROVE="4")
    assert len(world.calls(call)) == 1


@pytest.mark.slow
def test_two_runs_at_once_are_killed_at_random_moments(world):
    """Two processes, each killed two times wherever it is."""
    moment = random.Random(0)
    world.ship("bundle")
    killed = 0
    for _ in range(2):
        both = [world.start(*one) for one in TWO]
        for process in both:
            time.sleep(moment.uniform(0.1, 1.8))
            process.kill()
        for process in both:
            process.communicate()
            killed += process.returncode < 0
    assert killed > 1
    seen = len(world.kaggle.requests)
    world.both_arrive()
    print(f"\n{seen} requests before; {world.kaggle.counts}")


def test_a_damaged_state_is_named_and_a_lost_one_costs_nothing(world):
    world.arrives_once()
    (world.project / "runs" / "state.json").write_text("{")
    outcome = world.ship()
    assert outcome.status == 1
    assert "state.json can't be read" in outcome.sentence
    (world.project / "runs" / "state.json").unlink()
    outcome = world.ship()
    assert outcome.status == 0, outcome
    assert f"public score of car-classification-v1: {SCORE}" in outcome.out
    assert world.kaggle.counts == ONCE
