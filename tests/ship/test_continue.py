"""`ship --continue`: a run goes on from the output of the one before, and nothing is sent twice."""

import json

REF = "alice/car-classification"


def cut_short(world, version: int, stopped: bool) -> None:
    """Have a fetched run say whether the end of its session cut it short."""
    file = world.project / "runs" / f"car-classification-v{version}" / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"stopped_by_time_limit": stopped}))


def test_a_run_goes_on_with_the_same_settings_and_the_output_attached(world):
    assert "none is known here" in world.ship("push", "--continue").sentence
    assert world.ship("--set", "shift=1").status == 0
    cut_short(world, 1, False)
    assert "has done all that it was to do" in world.ship("--continue").sentence
    cut_short(world, 1, True)
    assert world.ship("--continue").status == 0
    first, second = world.runs
    assert second.settings == first.settings == {"shift": "1"}
    assert (first.continues, second.continues) == ("", first.name)
    versions = world.kaggle.store.state["kernels"][REF]["versions"]
    assert ["kernel", REF] not in versions[0]["sources"]
    assert ["kernel", REF] in versions[1]["sources"]

    again = world.ship("--continue")  # the second is taken up: nobody knows that it was cut too
    assert again.status == 0
    assert "nothing has changed since" in again.out
    cut_short(world, 2, True)
    assert world.ship("push", "--continue").status == 0
    assert [run.continues for run in world.runs] == ["", first.name, second.name]
    assert world.ship("push", "--continue").status == 0  # it runs already
    assert world.kaggle.counts["kernel_versions"] == 3


def test_a_run_that_is_not_over_can_not_go_on(world):
    assert world.ship("bundle").status == 0
    assert world.ship("push", "--set", "seconds=60").status == 0
    assert "whose status is pushed: `ship follow` waits" in world.ship("--continue").sentence
