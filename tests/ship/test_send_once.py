"""Once means once: what may not arrive twice is sent again only when its absence is proven."""

import os
import re
import shutil
import threading
import time

import pytest

from ship.kaggle.timeouts import Timeouts
from shipping import ONCE, SCORE, open_world, until

LAG = 1.2
"""Seconds for which Kaggle hides what it has."""
PATIENT = {"SHIP_PROVE": "4"}


@pytest.fixture
def lagging(tmp_path):
    with open_world(tmp_path, lag=LAG) as world:
        yield world


@pytest.mark.parametrize("call", ["SaveKernel", "CreateSubmission"])
def test_the_answer_is_lost_and_the_lists_lag(lagging, call):
    lagging.kaggle.faults.add(call, "drop", effect=True)
    outcome = lagging.arrives_once(**PATIENT)
    assert "asking Kaggle whether it arrived" in outcome.out
    assert len(lagging.calls(call)) == 1


def test_somebody_else_pushes_on_top_of_a_push_whose_answer_is_lost(lagging):
    lagging.ship("bundle")
    lagging.kaggle.faults.add("SaveKernel", "drop", effect=True)

    def push_on_top() -> None:
        until(lambda: lagging.kaggle.counts["kernel_versions"])
        mine = lagging.calls("SaveKernel")[0].body
        lagging.kaggle.kernels.SaveKernel(mine | {"text": "print('from the website')"})

    thread = threading.Thread(target=push_on_top)
    thread.start()
    outcome = lagging.ship("push", **PATIENT)
    thread.join()
    assert outcome.status == 0, outcome
    assert [run.version for run in lagging.runs] == [1]
    assert lagging.runs[0].verified == {"pushed": "its mark in the version's source"}
    assert len(lagging.calls("SaveKernel")) == 1


DESCRIPTIONS = {
    "cut": lambda text: text[:50],
    "cut short": lambda text: text[:16] + "…",
    "escaped": lambda text: text.replace(".", "&#46;").replace(" ", "&nbsp;"),
    "escaped with slashes": lambda text: re.sub(r"(\W)", r"\\\1", text),
}


@pytest.mark.parametrize(
    ("name", "lost"), [("cut", False), *((name, True) for name in DESCRIPTIONS)]
)
def test_kaggle_changes_the_message_of_a_submission(world, name, lost):
    shown, change = world.kaggle.competitions._public, DESCRIPTIONS[name]
    world.kaggle.competitions._public = lambda entry: (
        shown(entry) | {"description": change(entry["description"])}
    )
    if lost:
        world.kaggle.faults.add("CreateSubmission", "drop", effect=True)
    world.arrives_once()
    assert world.arrives_once("submit").status == 0


def lose_the_submission(world):
    """Submit while Kaggle drops its answer and the message, and return what `ship` says."""
    world.go_to_the_submission()
    shown = world.kaggle.competitions._public
    world.kaggle.competitions._public = lambda entry: shown(entry) | {"description": ""}
    world.kaggle.faults.add("CreateSubmission", "drop", effect=True)
    for _ in range(2):
        outcome = world.ship("submit")
        assert outcome.status == 1
        assert "nobody knows whether the submission of submission.csv arrived" in outcome.sentence
        assert "submission 40000001 of " in outcome.sentence
    assert world.kaggle.counts["submissions"] == 1
    return outcome.sentence


def test_a_person_decides_about_a_submission(world):
    assert "`ship submit car-classification-v1 --adopt REF` takes" in lose_the_submission(world)
    assert "0 must be at least 1" in world.ship("submit", "--adopt", "0").sentence
    assert "leave out --again" in world.ship("submit", "--again", "--adopt", "40000001").sentence
    assert world.ship("submit", "--adopt", "7").sentence.startswith("Kaggle lists no submission 7")
    world.arrives_once("submit", "--version", "1", "--adopt", "40000001")
    assert world.runs[0].verified["submitted"] == "a person's word"


def test_a_person_takes_up_a_submission_of_a_file_that_is_scored(world):
    world.arrives_once()
    assert world.ship("submit", "--again").status == 0
    assert world.runs[0].submission.ref == 40000002
    assert world.ship("submit", "--adopt", "40000001").status == 0
    assert world.runs[0].submission.ref == 40000001
    assert world.ship("submit", "--adopt", "7").sentence.startswith("Kaggle lists no submission 7")
    submission = world.project / "runs" / "car-classification-v1" / "submission.csv"
    mine = world.project / "mine.csv"
    mine.write_text(submission.read_text().replace(",2", ",1"))
    assert world.ship("submit", "mine.csv").status == 0
    outcome = world.ship("submit", "--adopt", "40000003")
    assert outcome.status == 1
    assert "submission 40000003 is of another file" in outcome.sentence
    assert world.runs[0].submission.ref == 40000001
    assert world.kaggle.counts["submissions"] == 3


def test_what_is_no_file_to_submit(world):
    (world.project / "mine.csv").write_text("Id,Category\n101.jpg,0\n")
    outcome = world.ship("submit", "mine.csv", "--code")
    assert outcome.status == 2
    assert "not mine.csv" in outcome.sentence
    outcome = world.ship("submit", "lib")
    assert "lib is a folder: name the file in it" in outcome.sentence
    assert "none.csv is neither a file" in world.ship("submit", "none.csv").sentence
    assert not world.kaggle.requests
    world.ship("--no-wait")
    world.ship("follow")
    assert "`ship fetch car-classification-v1`" in world.ship("submit", "1").sentence


def test_a_person_sends_a_submission_again(world):
    lose_the_submission(world)
    assert world.ship("submit", "--again").status == 0
    assert world.kaggle.counts["submissions"] == 2


@pytest.mark.parametrize("name", ["upload-1.csv", None])
def test_the_one_new_submission_has_another_name(world, name):
    world.go_to_the_submission()
    shown = world.kaggle.competitions._public
    change = {"description": "", "fileName": name}
    world.kaggle.competitions._public = lambda entry: shown(entry) | change
    world.kaggle.faults.add("CreateSubmission", "drop", effect=True)
    assert "submission 40000001 of " in world.ship("submit").sentence
    assert len(world.calls("CreateSubmission")) == 1


def test_the_one_new_version_has_lost_its_mark(world):
    world.ship("bundle")
    world.kaggle.faults.add("SaveKernel", "drop", effect=True)
    source = world.kaggle.kernels.GetKernel
    world.kaggle.kernels.GetKernel = lambda request: source(request) | {"blob": {}}
    assert "version 1 came since" in world.ship("push").sentence
    assert len(world.calls("SaveKernel")) == 1


CLOCKS = """
import os, time
real = time.time
time.time = lambda: real() + float(os.environ.get("CLOCK_AHEAD", 0))
"""


@pytest.mark.parametrize("call", ["SaveKernel", "CreateSubmission"])
def test_the_clock_jumps_after_a_kill_while_lists_lag(tmp_path, call):
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CLOCKS)
    with open_world(tmp_path, lag=4.0) as lagging:
        lagging.kaggle.faults.add(call, "drop", effect=True)
        process = lagging.start(SHIP_PROVE="6")
        until(lambda: lagging.calls(call))
        process.kill()
        process.communicate()
        path = os.pathsep.join([str(tmp_path / "clock"), lagging.environment["PYTHONPATH"]])
        ahead = {"CLOCK_AHEAD": "5400", "PYTHONPATH": path, "SHIP_PROVE": "6"}
        outcome = lagging.ship(**ahead)
        assert outcome.status == 0, outcome
        assert len(lagging.calls(call)) == 1
        assert lagging.kaggle.counts == ONCE


@pytest.mark.parametrize("call", ["SaveKernel", "CreateSubmission"])
def test_an_outage_after_a_lost_answer_proves_nothing(tmp_path, call):
    """What Kaggle does not list right after an outage has been denied for no time at all."""
    with open_world(tmp_path, lag=4.5) as lagging:
        lagging.kaggle.faults.add(call, "drop", effect=True)
        process = lagging.start(SHIP_PROVE="2.5", SHIP_OUTAGE="600")
        until(lambda: lagging.calls(call))
        lagging.kaggle.faults.add("*", "drop", times=10**6)
        time.sleep(3)
        lagging.kaggle.faults.clear()
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert lagging.kaggle.counts == ONCE


def test_kaggle_counts_more_submissions_than_it_lists(world):
    world.go_to_the_submission()
    world.kaggle.faults.add("CreateSubmission", "drop", effect=True)
    world.kaggle.faults.add("ListSubmissions", "body", times=1000, after=2, body={})
    outcome = world.ship("submit")
    assert outcome.status == 1
    assert "Kaggle counts 1 submissions, more than it lists" in outcome.sentence
    world.kaggle.faults.clear()
    world.arrives_once("submit")


@pytest.mark.parametrize("title", ["Car classification 2", "Other cars"])
@pytest.mark.parametrize("lost", [False, True])
def test_kaggle_gives_the_kernel_another_slug(world, title, lost):
    path = world.project / "kernel-metadata.json"
    path.write_text(path.read_text().replace('"Car classification"', f'"{title}"'))
    slug = title.lower().replace(" ", "-")
    if lost:
        world.kaggle.faults.add("SaveKernel", "drop", effect=True)
    outcome = world.arrives_once("--force", "kernel-metadata")
    assert f"Kaggle calls this kernel alice/{slug}, not alice/car-classification" in outcome.out
    assert world.runs[0].name == f"{slug}-v1"
    world.arrives_once("--force", "kernel-metadata")


def lose_the_push(world) -> str:
    """Push a second version whose answer is lost while Kaggle hides the kernel."""
    world.arrives_once()
    world.kaggle.faults.add("SaveKernel", "drop", effect=True)
    world.kaggle.faults.add("GetKernel", "status", times=1000, after=2, code=403)
    for _ in range(2):
        outcome = world.ship("push", "--set", "label=2")
        assert outcome.status == 1
        assert "nobody knows whether the push of kernel alice/car-classification arrived" in (
            outcome.sentence
        )
    world.kaggle.faults.clear()
    assert len(world.calls("SaveKernel")) == 2
    return outcome.sentence


def test_a_person_takes_up_a_push(world):
    assert "`ship adopt VERSION` takes up the one that arrived" in lose_the_push(world)
    assert world.ship("adopt", "9").sentence.startswith("there is no version 9 of kernel")
    assert world.ship("adopt", "2").status == 0
    assert [run.settings for run in world.runs] == [{}, {"label": "2"}]
    assert world.ship("follow").status == 0
    assert "nothing has changed since" in world.ship("push", "--set", "label=2").out
    assert world.kaggle.counts["kernel_versions"] == 2


@pytest.mark.parametrize(("option", "versions"), [(("--adopt", "2"), 2), (("--again",), 3)])
def test_a_person_decides_about_a_push(world, option, versions):
    lose_the_push(world)
    assert world.ship("push", "--set", "label=2", *option).status == 0
    assert world.kaggle.counts["kernel_versions"] == versions
    assert world.runs[-1].version == versions


def test_a_push_that_was_hidden_is_found_by_the_next_ship(world):
    lose_the_push(world)
    assert world.ship("follow").status == 0
    assert [run.version for run in world.runs] == [1, 2]


def test_all_that_this_machine_knew_is_lost(world):
    world.arrives_once()
    shutil.rmtree(world.project / "runs")
    outcome = world.ship()
    assert outcome.status == 0, outcome
    assert "version 1 at Kaggle is of exactly this kernel" in outcome.out
    assert "submitted before, as 40000001" in outcome.out
    assert world.kaggle.counts == ONCE
    assert world.runs[0].public_score == SCORE


def test_a_second_machine_takes_up_a_run(world):
    world.arrives_once()
    shutil.rmtree(world.project / "runs")
    assert world.ship("adopt", "1").status == 0
    assert world.runs[0].verified == {"pushed": "the version's source"}
    for command in ("follow", "fetch", "submit"):
        assert world.ship(command).status == 0
    assert world.kaggle.counts == ONCE
    assert world.runs[0].public_score == SCORE


def test_absence_is_proven_over_minutes():
    assert Timeouts().prove >= 120


def test_settings_that_come_back(world):
    """A, B, A: the third is the first one's run, and its file the first one's submission."""
    for limit in ("8", "9", "8"):
        outcome = world.ship("--set", f"limit={limit}")
        assert outcome.status == 0, outcome
        assert f"{SCORE:.5f}" in outcome.out.splitlines()[-1]
    assert world.kaggle.counts["kernel_versions"] == 2
    assert world.kaggle.counts["submissions"] == 1
    assert [run.public_score for run in world.runs] == [SCORE, SCORE]


def test_the_same_kernel_is_pushed_again_and_predicts_the_same(world):
    world.arrives_once()
    assert world.ship("push", "--again").status == 0
    for _ in range(2):
        assert world.ship().status == 0
    assert [run.public_score for run in world.runs] == [SCORE, SCORE]
    assert world.kaggle.counts["submissions"] == 1


def test_a_submission_of_an_older_version_is_interrupted_while_it_waits(world):
    world.go_to_the_submission()
    world.ship("push", "--set", "label=2")
    world.kaggle.faults.add("ListSubmissions", "hang", times=3, after=2, seconds=5)
    process = world.start("submit", "--version", "1")
    until(lambda: world.kaggle.counts["submissions"])
    time.sleep(0.3)
    process.kill()
    process.communicate()
    world.kaggle.faults.clear()
    outcome = world.ship("submit", "--version", "1")
    assert outcome.status == 0, outcome
    assert [run.public_score for run in world.runs] == [SCORE, None]
    assert world.kaggle.counts["submissions"] == 1


def test_the_score_of_a_file_is_not_that_of_the_one_before(world):
    world.arrives_once()
    file = world.project / "runs" / "car-classification-v1" / "submission.csv"
    file.write_text(file.read_text().replace("108.jpg,0", "108.jpg,1"))
    assert world.ship("submit", "--no-wait").status == 0
    assert world.runs[0].public_score is None
    assert "public score of car-classification-v1: 0.77778" in world.ship("submit").out
    assert world.runs[0].public_score == 0.77778
    assert world.kaggle.counts["submissions"] == 2
    assert world.ship("submit", "--again", "--no-wait").status == 0
    assert world.runs[0].public_score is None
