"""Failures that the client reports as a success (kaggle 2.2.4) must be failures of `ship`.

Each test ends with another `ship`, which must bring exactly one of everything to Kaggle.
"""

import pytest

from shipping import ONCE, World


def fails_then_goes_on(world: World, sentence: str, **counts: int) -> None:
    """Run `ship` and expect exit status 1 and the sentence; then run it again and expect success.

    `counts` are the counts at the end that are not 1, because a false success has left something
    at Kaggle.
    """
    outcome = world.ship()
    assert outcome.status == 1, outcome
    assert sentence in outcome.sentence
    world.kaggle.faults.clear()
    outcome = world.ship()
    assert outcome.status == 0, outcome
    assert world.kaggle.counts == ONCE | counts


def test_push_answered_with_an_error(world):
    error = "Maximum batch GPU session count of 2 reached."
    world.kaggle.faults.add("SaveKernel", "body", body={"error": error})
    fails_then_goes_on(world, f"Kaggle did not take the kernel: {error}")


@pytest.mark.parametrize("kind", ["dataset", "competition", "kernel", "model"])
def test_push_with_an_unknown_source(world, kind):
    invalid = {f"invalid{kind.capitalize()}Sources": ["bob/what-is-that"]}
    world.kaggle.faults.add("SaveKernel", "merge", fields=invalid)
    sentence = f"a source of the kernel: {kind} bob/what-is-that. It runs version 1 without it"
    outcome = world.ship()
    assert outcome.status == 1
    assert sentence in outcome.sentence
    outcome = world.ship()  # whose run would be the same
    assert outcome.status == 1
    assert f"without a source that Kaggle refused ({kind} bob/what-is-that)" in outcome.sentence
    assert world.kaggle.counts["kernel_runs"] == 1
    assert world.ship("--again").status == 0
    assert world.kaggle.counts == ONCE | {"kernel_versions": 2, "kernel_runs": 2}


def test_push_of_a_model_source_that_is_not_there(world):
    metadata = world.project / "kernel-metadata.json"
    text = metadata.read_text()
    unknown = '"model_sources": ["google/gemma/keras/wrong/1"]'
    metadata.write_text(text.replace('"model_sources": []', unknown))
    outcome = world.ship()
    assert outcome.status == 1
    assert "model google/gemma/keras/wrong/1" in outcome.sentence
    metadata.write_text(text)
    assert world.ship().status == 0


def test_push_without_a_version_number(world):
    body = {"ref": "/code/alice/car-classification", "url": "x"}
    world.kaggle.faults.add("SaveKernel", "body", body=body)
    outcome = world.arrives_once()
    assert "asking Kaggle whether it arrived" in outcome.out
    assert "Kaggle has not got the push of kernel alice/car-classification" in outcome.out


@pytest.mark.parametrize("call", ["CreateDataset", "CreateDatasetVersion"])
def test_dataset_answered_with_an_error(world, call):
    versions = 1
    if call == "CreateDatasetVersion":
        world.ship("bundle")
        (world.project / "lib" / "photos" / "more.py").write_text("X = 2\n")
        versions = 2
    body = {"status": "error", "error": "The title is already in use by a dataset."}
    world.kaggle.faults.add(call, "body", body=body)
    sentence = "Kaggle refused dataset alice/car-classification-lib: The title is already in use"
    fails_then_goes_on(world, sentence, dataset_versions=versions)


def test_dataset_answered_with_nothing(world):
    world.kaggle.faults.add("CreateDataset", "body", body={})
    outcome = world.arrives_once()
    assert "Kaggle has not got the upload of dataset alice/car" in outcome.out


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (403, "Kaggle refuses to say whether dataset alice/car-classification-lib exists (403)"),
        (500, "Kaggle gave no usable answer about dataset alice/car-"),
    ],
)
def test_asking_for_the_dataset_is_refused(world, code, sentence):
    world.kaggle.faults.add("GetDataset", "status", times=100, code=code)
    fails_then_goes_on(world, sentence)


def test_a_dataset_that_is_known_to_be_new_is_created_all_the_same(world):
    """If Kaggle answers 403 for a dataset that does not exist, a person can say that it is new."""
    world.kaggle.faults.add("GetDataset", "status", times=2, code=403)
    assert "create it with `ship bundle --new`" in world.ship("bundle").sentence
    assert world.ship("bundle", "--new").status == 0
    assert world.kaggle.counts["dataset_versions"] == 1


@pytest.mark.parametrize("code", [400, 403, 500])
def test_a_file_of_the_dataset_is_dropped(world, code):
    world.kaggle.faults.add("PUT blob", "status", times=100, after=1, code=code)
    sentence = "no usable answer about the upload of dataset alice/car-classification-lib"
    fails_then_goes_on(world, sentence)
    begun = [c.body["name"] for c in world.kaggle.requests if c.name == "StartBlobUpload"]
    assert len(begun) > len(set(begun)), "the failing address was asked over and over"


@pytest.mark.parametrize("code", [500, 503])
def test_the_submission_is_not_taken_by_the_storage(world, code):
    world.go_to_the_submission()
    world.kaggle.faults.add("PUT blob", "status", times=100, code=code)
    fails_then_goes_on(world, "no usable answer about the submission")


def test_a_submission_that_is_refused_with_ref_0(world):
    refusal = "Submission not allowed: your team has used its daily submission allowance."
    world.kaggle.faults.add("CreateSubmission", "body", body={"message": refusal, "ref": 0})
    sentence = f"Kaggle did not take the submission: {refusal.rstrip('.')}"
    fails_then_goes_on(world, f"{sentence}: `ship submit car-classification-v1`")


@pytest.mark.parametrize("code", [403, 404])
def test_an_error_in_the_place_of_an_output_file(world, code):
    world.kaggle.faults.add("GET output", "status", times=100, after=3, code=code)
    fails_then_goes_on(world, "nothing of it was saved")
    saved = [path.read_bytes() for path in world.project.glob("runs/*-v1/**/*") if path.is_file()]
    assert not any(b'"code"' in content for content in saved)


def test_an_output_file_named_outside_the_folder(world):
    url = world.kaggle.file_url("output", "alice/car-classification/1/submission.csv")
    names = ["../x", "/etc/x", "a/../../x", "..\\x", "C:\\x", "submission.csv"]
    body = {"files": [{"fileName": name, "url": url} for name in names], "log": "[]"}
    world.kaggle.faults.add("ListKernelSessionOutput", "body", times=9, body=body)
    outcome = world.ship()
    assert outcome.status == 0
    assert "the output file '../x' is left out: its name would lead out" in outcome.out
    assert not [*world.project.rglob("x"), *world.project.parent.glob("x")]


@pytest.mark.parametrize("word", ["ERROR", "CANCEL_ACKNOWLEDGED"])
def test_a_run_that_did_not_complete(world, word):
    failure = {"status": word, "failureMessage": "Your notebook ran out of memory"}
    world.kaggle.faults.add("GetKernelSessionStatus", "body", body=failure)
    outcome = world.ship("--set", "seconds=0.1")
    assert outcome.status == 1
    assert f"car-classification-v1 ended with {word}: Your notebook ran out" in outcome.sentence
    assert "what to do: " in outcome.err
    for command in ((), ("push",), ()):
        outcome = world.ship(*command)  # the very same kernel is not pushed again
        assert outcome.status == 1
        assert f"exactly this kernel, ended with {word} (Your notebook ran out" in outcome.sentence
    assert world.kaggle.counts["kernel_runs"] == 1
    assert world.ship("--again").status == 0
    assert world.kaggle.counts["kernel_runs"] == 2


def test_a_status_is_missing(world):
    world.kaggle.faults.add("GetKernelSessionStatus", "body", times=999, body={})
    fails_then_goes_on(world, "Kaggle gives no status of car-classification-v1")


def test_a_status_word_is_unknown(world):
    body = {"status": "HIBERNATED"}
    world.kaggle.faults.add("GetKernelSessionStatus", "body", times=999, body=body)
    fails_then_goes_on(world, "the unknown status 'HIBERNATED' of car-classification-v1")


def test_a_status_word_that_is_unknown_for_a_moment(world):
    body = {"status": "HIBERNATED"}
    world.kaggle.faults.add("GetKernelSessionStatus", "body", times=3, body=body)
    assert world.arrives_once().out.count("HIBERNATED") == 1


def test_a_submission_that_can_not_be_scored(world):
    world.go_to_the_submission()
    solution = world.project.parent / "solution.csv"
    truth = solution.read_text()
    solution.write_text("Id,Label\n1,1\n")  # Kaggle's own mistake: the submission is right
    outcome = world.ship("submit")
    assert outcome.status == 1
    assert "Kaggle could not score submission 40000001: The columns must be" in outcome.sentence
    assert "`ship submit car-classification-v1 --again` sends the same once" in outcome.sentence
    assert "could not score" in world.ship().sentence  # alone it does not spend another one
    mine = world.project / "mine.csv"
    output = world.project / "runs" / "car-classification-v1" / "submission.csv"
    mine.write_text(output.read_text().replace("108.jpg,0", "108.jpg,1"))
    assert "`ship submit mine.csv --again` sends" in world.ship("submit", "mine.csv").sentence
    solution.write_text(truth)
    assert world.ship("submit", "--again").status == 0
    assert world.kaggle.counts["submissions"] == 3


def test_a_submissions_status_is_unknown(world):
    world.go_to_the_submission()
    entry = {"ref": 40000001, "status": "LOST", "description": "x"}
    body = {"submissions": [entry]}
    world.kaggle.faults.add("ListSubmissions", "body", after=2, times=999, body=body)
    outcome = world.ship(SHIP_SCORE="1")
    assert outcome.out.count("the unknown status 'LOST' for submission 40000001") == 1
    assert "submission 40000001 has no score" in outcome.sentence
    world.kaggle.faults.clear()
    world.arrives_once()


def test_a_competition_that_hides_its_scores(world):
    world.go_to_the_submission()
    entry = {"ref": 40000001, "status": "COMPLETE", "publicScore": "", "description": "x"}
    body = {"submissions": [entry]}
    world.kaggle.faults.add("ListSubmissions", "body", after=2, times=999, body=body)
    outcome = world.ship()
    assert outcome.status == 0, outcome
    assert "submission 40000001 is COMPLETE, Kaggle shows no score of it" in outcome.out
    world.kaggle.faults.clear()
    world.arrives_once()


def test_there_are_no_submissions(world):
    """The client prints plain text instead of an empty JSON list, which `ship` must not parse."""
    world.kaggle.faults.add("ListSubmissions", "body", times=2, body={})
    assert world.ship().status == 0
    assert world.kaggle.counts == ONCE


def test_a_submission_that_is_listed_late(world):
    """The number in Kaggle's answer is a witness: the list may lag behind it."""
    world.kaggle.faults.add("ListSubmissions", "body", times=5, after=1, body={"submissions": []})
    assert world.ship().status == 0
    assert world.kaggle.counts == ONCE


def test_the_status_is_that_of_the_version_and_not_of_the_newest(world):
    world.ship("bundle")
    world.ship("push")
    world.ship("push", "--set", "fail=too bad", "--set", "seconds=0.1")
    assert world.ship("follow").status == 1
    assert world.ship("follow", "--version", "1").status == 0
    statuses = [c for c in world.kaggle.requests if c.name == "GetKernelSessionStatus"]
    assert {call.body["versionLabel"] for call in statuses} == {"v1", "v2"}


@pytest.mark.parametrize("word", ["FAILED", "DELETED"])
def test_a_dataset_that_does_not_become_ready(world, word):
    world.kaggle.faults.add("GetDatasetStatus", "body", body={"status": word})
    outcome = world.ship("bundle")
    assert outcome.status == 1
    assert f"could not make dataset alice/car-classification-lib of what was uploaded ({word})" in (
        outcome.sentence
    )
    assert world.ship("bundle").status == 0


def test_a_dataset_that_lacks_a_file(world):
    body = {"datasetFiles": [{"name": "photos/deep/inner.py", "totalBytes": 6}]}
    world.kaggle.faults.add("ListDatasetFiles", "body", times=1000, body=body)
    outcome = world.ship("bundle")
    assert outcome.status == 1
    assert "without 3 of the 5 files" in outcome.sentence
    world.kaggle.faults.clear()
    assert world.ship("bundle").status == 0
    assert world.kaggle.counts["dataset_versions"] == 1  # nothing was uploaded again


@pytest.mark.parametrize("listed", [[], [{"name": "photos/deep/inner.py", "totalBytes": 6}], 404])
def test_a_list_of_files_that_lags_uploads_nothing_again(world, listed):
    if listed == 404:
        world.kaggle.faults.add("ListDatasetFiles", "status", times=3, code=404)
    else:
        body = {"datasetFiles": listed}
        world.kaggle.faults.add("ListDatasetFiles", "body", times=3, body=body)
    assert world.ship("bundle").status == 0
    assert world.kaggle.counts["dataset_versions"] == 1


@pytest.mark.parametrize("dropped", [False, True])
def test_a_dataset_listed_by_bare_names(world, dropped):
    """Several packages have an __init__.py, each of its own size."""
    (world.project / "lib" / "photos" / "__init__.py").write_text("X = 1\n")
    files = [f for f in world.project.glob("lib/[Ip]*/**/*.py") if f.stat().st_size]
    files.append(world.project / "lib" / "weights" / "manifest.json")
    if dropped:
        files.remove(world.project / "lib" / "photos" / "__init__.py")
    listed = [{"name": file.name, "totalBytes": file.stat().st_size} for file in files]
    body = {"datasetFiles": listed}
    world.kaggle.faults.add("ListDatasetFiles", "body", times=1000, body=body)
    outcome = world.ship("bundle")
    assert outcome.status == int(dropped), outcome
    assert ("without 1 of the 5 files, photos/__init__.py" in outcome.err) == dropped
