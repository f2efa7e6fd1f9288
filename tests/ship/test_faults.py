"""When Kaggle is busy, breaks off or hangs, `ship` repeats only what is safe to repeat.

Before it repeats a call that changes something, it asks Kaggle whether the call took effect.
"""

import psutil
import pytest

from shipping import until

READS = [
    "ListDataFiles",
    "GetDataset",
    "GetAcceleratorQuotaStatistics",
    "GetSubmissionLimits",
    "StartBlobUpload",
    "PUT blob",
    "GetDatasetStatus",
    "ListDatasetFiles",
    "GetKernelSessionStatus",
    "ListKernelSessionOutput",
    "GET log",
    "GET output",
    "DownloadDataFile",
    "GET data",
    "ListSubmissions",
    "StartSubmissionUpload",
]
"""Calls that may be repeated."""

CHANGES = ["CreateDataset", "SaveKernel", "CreateSubmission"]
"""Calls that may not be repeated; a shipment makes each of them once."""

INFORMING = ("GET log", "GetAcceleratorQuotaStatistics", "GetSubmissionLimits")
"""Calls that a shipment can do without: a run's log is shown all the same when it has ended."""

OF_THE_DATASET = ("StartBlobUpload", "PUT blob", "GetDatasetStatus", "ListDatasetFiles")
"""Calls that are over when the dataset is READY."""

FAULTS = {
    "429": ("status", {"code": 429}),
    "500": ("status", {"code": 500}),
    "503": ("status", {"code": 503}),
    "reset": ("drop", {}),
    "hang": ("hang", {"seconds": 60}),
    "no JSON": ("body", {"body": "<html>busy</html>", "content_type": "text/html"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_call_fails_once_and_ship_arrives(world, name):
    kind, details = FAULTS[name]
    reads = READS[::3] if name == "hang" else READS  # each of them takes a whole timeout
    for call in [*reads, *CHANGES]:
        if name == "no JSON" and call.startswith(("GET ", "PUT ")):
            continue  # these carry no JSON
        world.kaggle.faults.add(call, kind, **details)
    # A call without an answer in time may still take effect, so nothing is sent again.
    attempts, timeout = (1 + len(CHANGES), "0.6") if name == "hang" else (1, "2")
    world.arrives_once("--set", "seconds=0.3", attempts=attempts, SHIP_TIMEOUT=timeout)
    assert not world.kaggle.faults.left()  # each of them happened


@pytest.mark.parametrize("name", ["503", "reset"])
def test_each_call_fails_once_while_two_runs_are_under_way(world, name):
    kind, details = FAULTS[name]
    world.ship("bundle")
    for call in [*READS, *CHANGES[1:]]:
        if call not in OF_THE_DATASET:
            world.kaggle.faults.add(call, kind, **details)
    world.both_arrive()
    assert not world.kaggle.faults.left()


@pytest.mark.parametrize("call", [*READS, *CHANGES])
def test_a_call_fails_for_long_and_a_later_ship_continues(world, call):
    world.kaggle.faults.add(call, "status", times=1000, code=503)
    outcome = world.ship("--set", "seconds=0.2")
    if call not in INFORMING:
        assert outcome.status == 1, outcome
        assert outcome.sentence
    tried = [entry for entry in world.kaggle.requests if entry.name == call]
    least = 1 if call == "GET log" else 2  # the run may end before its log is asked for again
    assert least <= len(tried) <= 20
    world.kaggle.faults.clear()
    world.arrives_once()


@pytest.mark.parametrize("call", CHANGES)
@pytest.mark.parametrize("name", ["reset", "hang", "500", "no JSON"])
def test_the_answer_is_lost_but_the_call_took_effect(world, call, name):
    if name == "reset":
        world.kaggle.faults.add(call, "drop", effect=True)
    elif name == "hang":
        world.kaggle.faults.add(call, "late", seconds=3)
    else:
        code = 500 if name == "500" else 200
        world.kaggle.faults.add(call, "body", body="<html>oops</html>", code=code, effect=True)
    outcome = world.arrives_once("--set", "seconds=0.1")
    assert "was lost" in outcome.out
    assert sum(entry.name == call for entry in world.kaggle.requests) == 1


def test_a_new_version_whose_answer_is_lost(world):
    world.ship("bundle")
    (world.project / "lib" / "photos" / "more.py").write_text("X = 2\n")
    world.kaggle.faults.add("CreateDatasetVersion", "drop", effect=True)
    assert world.ship("bundle").status == 0
    assert world.kaggle.counts["dataset_versions"] == 2


def test_a_dataset_that_did_not_arrive_and_whose_status_is_empty(world):
    world.kaggle.faults.add("CreateDataset", "drop")
    world.kaggle.faults.add("GetDatasetStatus", "body", times=2, body={})
    outcome = world.ship("bundle", SHIP_READY="0.5")
    assert outcome.status == 0, outcome
    assert len(world.calls("CreateDataset")) == 2
    assert world.kaggle.counts["dataset_versions"] == 1


@pytest.mark.parametrize("call", CHANGES)
def test_the_answer_is_lost_and_so_is_what_kaggle_has(world, call):
    """Nothing is sent again until Kaggle has said whether it arrived."""
    asked = {"CreateDataset": "GetDataset", "SaveKernel": "GetKernel"}
    world.kaggle.faults.add(call, "drop", effect=True)
    before = {"CreateDataset": 2, "CreateSubmission": 1}  # how often it is asked until then
    name = asked.get(call, "ListSubmissions")
    world.kaggle.faults.add(name, "status", times=1000, after=before.get(call, 0))
    assert world.ship("--set", "seconds=0.1").status == 1
    assert world.ship("--set", "seconds=0.1").status == 1
    world.kaggle.faults.clear()
    world.arrives_once("--set", "seconds=0.1")


def test_the_client_is_killed_in_the_middle_of_a_push(world):
    world.kaggle.faults.add("SaveKernel", "late", seconds=1)
    process = world.start()
    until(lambda: world.calls("SaveKernel"))
    [client] = psutil.Process(process.pid).children()
    client.kill()
    out, _ = process.communicate()
    assert "the answer to the push of kernel alice/car-classification was lost" in out
    world.arrives_once(attempts=2)


def test_a_busy_kaggle_says_when_to_come_back(world):
    world.kaggle.faults.add("GetDataset", "status", code=429, retry_after=1)
    assert world.ship("bundle").status == 0


def test_kaggle_is_away(world):
    outcome = world.ship("bundle", http_proxy="http://127.0.0.1:9")
    assert outcome.status == 1
    assert "Kaggle gave no usable answer" in outcome.sentence
