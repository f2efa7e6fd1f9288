"""The loopback runs a submitted kernel again on a hidden test set, as Kaggle does."""

import pytest

from loopback_world import COMPETITION, make_competition, until, world_in

# Counts the rows of the sample that it sees, and answers each with the label that it deserves.
PREDICT = """
import csv, os
root = os.environ.get("KAGGLE_ROOT", "/kaggle")
with open(root + "/input/some-cars/sample-submission.csv") as file:
    header, *rows = csv.reader(file)
scored = bool(os.environ.get("KAGGLE_IS_COMPETITION_RERUN"))
{behaviour}
with open(root + "/working/submission.csv", "w") as file:
    csv.writer(file).writerows([header, *([row[0], len(row[0]) % 7] for row in rows)])
"""


@pytest.fixture
def hidden(tmp_path):
    folder, _ = make_competition(tmp_path / "hidden")
    names = ["x" * length for length in (5, 1, 3, 2, 9)]
    lines = "".join(f"{name},{len(name) % 7}\n" for name in names)
    solution = tmp_path / "hidden-solution.csv"
    solution.write_text("Id,Category\n" + lines)
    sample = "".join(f"{name},0\n" for name in names)
    (folder / "sample-submission.csv").write_text("Id,Category\n" + sample)
    return {COMPETITION: (folder, solution)}


def submit(world, version: int) -> dict:
    """Submit a version of the kernel; return Kaggle's answer."""
    request = {"kernelOwner": "alice", "kernelSlug": "car-kernel", "fileName": "submission.csv"}
    return world.get(
        "CreateCodeSubmission", competitionName=COMPETITION, kernelVersion=version, **request
    )


def submitted(world, behaviour: str = "") -> dict:
    """Push a predicting kernel, submit its version, and return the submission at its end."""
    world.push(PREDICT.format(behaviour=behaviour), competitionDataSources=[COMPETITION])
    assert world.finish()["status"] == "COMPLETE"
    version = len(world.kaggle.store.state["kernels"]["alice/car-kernel"]["versions"])
    return world.submission(submit(world, version)["ref"])


def test_the_score_is_that_of_the_hidden_rows(tmp_path, hidden):
    with world_in(tmp_path, hidden=hidden) as world:
        about = world.get("GetCompetition", competitionName=COMPETITION)
        assert about["isKernelsSubmissionsOnly"]
        scored = submitted(world)
        assert (scored["status"], scored["publicScore"]) == ("COMPLETE", "1.00000")
        public = [line for line in world.lines() if line]
        assert public == []  # nothing of the scored run is shown


def test_it_is_pending_until_the_hidden_set_has_been_predicted(tmp_path, hidden):
    with world_in(tmp_path, hidden=hidden) as world:
        wait = "import time\nif scored: time.sleep(1)"
        world.push(PREDICT.format(behaviour=wait), competitionDataSources=[COMPETITION])
        world.finish()
        sent = submit(world, 1)
        assert world.submission_now(sent["ref"])["status"] == "PENDING"
        assert "publicScore" not in world.submission_now(sent["ref"])
        assert world.submission(sent["ref"])["publicScore"] == "1.00000"


@pytest.mark.parametrize(
    ("behaviour", "settings", "message"),
    [
        ("if scored: raise RuntimeError", {}, "Notebook Threw Exception"),
        ("import time\nif scored: time.sleep(60)", {"scored_seconds": 0.5}, "Notebook Timeout"),
        ("if scored: os._exit(0)", {}, "Submission CSV Not Found"),
        ("if scored: rows.pop()", {}, "Submission Scoring Error"),
        ("", {"kaggle_errors": 1}, "Kaggle Error"),
    ],
)
def test_what_goes_wrong_in_the_scored_run_has_kaggle_s_message(
    tmp_path, hidden, behaviour, settings, message
):
    with world_in(tmp_path, hidden=hidden, **settings) as world:
        failed = submitted(world, behaviour)
    assert failed["status"] == "ERROR"
    assert failed["errorDescription"].startswith(message)


def test_a_file_cannot_be_submitted(tmp_path, hidden):
    with world_in(tmp_path, hidden=hidden) as world:
        token = world.upload("submission.csv", b"Id,Category\n")
        answer = world.ask("CreateSubmission", competitionName=COMPETITION, blobFileTokens=token)
        assert answer.status_code == 400
        assert "notebooks" in answer.json()["message"]


def test_the_scored_run_gets_the_dataset_s_version_of_the_public_run(tmp_path, hidden):
    show = "print(sorted(os.listdir(root + '/input/car-lib')), scored)"
    with world_in(tmp_path, hidden=hidden) as world:
        world.make_dataset({"one.txt": b"1"})
        read = "rows = rows if os.path.exists(root + '/input/car-lib/one.txt') else []\n"
        world.push(
            PREDICT.format(behaviour=read + show),
            competitionDataSources=[COMPETITION],
            datasetDataSources=["alice/car-lib"],
        )
        world.finish()
        token = {"token": world.upload("two.txt", b"2")}
        world.get(
            "CreateDatasetVersion",
            ownerSlug="alice",
            datasetSlug="car-lib",
            body={"files": [token], "versionNotes": "2"},
        )
        until(lambda: world.dataset_status() == "READY")
        sent = submit(world, 1)
        assert world.submission(sent["ref"])["publicScore"] == "1.00000"
