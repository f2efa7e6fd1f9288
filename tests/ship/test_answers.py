"""Answers of another shape, odd terminals and signals end in a sentence, never in a traceback."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from ship.commands.submit import Problem, score_in
from ship.kaggle.response_schemas import SCHEMAS, schema_error
from shipping import SCORE, open_world

METHODS = {
    "ListDataFiles": "doctor",
    "GetDataset": "bundle",
    "GetDatasetStatus": "bundle --again",
    "ListDatasetFiles": "bundle --again",
    "GetAcceleratorQuotaStatistics": "status",
    "GetSubmissionLimits": "status",
    "GetKernel": "push --again",
    "SaveKernel": "push --again",
    "CreateDatasetVersion": "bundle --again",
    "GetKernelSessionStatus": "follow",
    "ListKernelSessionOutput": "fetch --again",
    "ListSubmissions": "submit",
    "CreateSubmission": "submit",
    "IntrospectToken": "push",
}
"""Each call, and a command that makes it."""


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """A world in which everything but the submission is done."""
    with open_world(tmp_path_factory.mktemp("fetched")) as world:
        world.go_to_the_submission()
        shutil.copytree(world.project / "runs", world.project.parent / "runs")
        yield world


def restore(world, method: str) -> None:
    """Bring back what was done, without the end of the run where its status is to be asked for."""
    world.kaggle.faults.clear()
    shutil.rmtree(world.project / "runs")
    shutil.copytree(world.project.parent / "runs", world.project / "runs")
    if method == "GetKernelSessionStatus":
        ledger = world.project / "runs" / "ledger.jsonl"
        text = ledger.read_text().replace('"ended"', '"begun"')
        ledger.write_text(text.replace('"complete"', '"pushed"'))


@pytest.mark.parametrize("method", METHODS)
def test_a_list_in_the_place_of_an_answer(fetched, method):
    world, command = fetched, METHODS[method]
    restore(world, method)
    world.kaggle.faults.add(method, "body", times=99, body=["a list"])
    token = {}
    if method == "IntrospectToken":
        token = {"KAGGLE_API_TOKEN": "KGAT_1", "KAGGLE_USERNAME": "", "KAGGLE_KEY": ""}
    outcome = world.ship(*command.split(), **token)
    assert "Traceback" not in outcome.err
    assert method == "IntrospectToken" or world.kaggle.faults.take(method).times < 98
    assert not (world.project / "runs" / "traceback.txt").exists(), outcome.err
    assert outcome.status == (0 if command == "status" else 1)


@pytest.mark.parametrize(
    ("method", "command"),
    [
        *((m, c) for m, c in METHODS.items() if m != "IntrospectToken"),
        ("GetSubmissionLimits", "submit"),
    ],
)
def test_refused_credentials_end_every_command(fetched, method, command):
    restore(fetched, method)
    fetched.kaggle.faults.add(method, "status", times=99, code=401)
    outcome = fetched.ship(*command.split())
    assert outcome.status == 1
    assert "refused the credentials (401" in outcome.sentence
    assert fetched.kaggle.counts["submissions"] == 0


COMPETITIONS = SCHEMAS["competitions.CompetitionApiService"]


@pytest.mark.parametrize(
    ("method", "answer", "place"),
    [
        ("ListSubmissions", {"submissions": [{"ref": 1, "publicScore": None}], "more": 1}, ""),
        ("ListSubmissions", {"submissions": [{"publicScore": "0.5"}, {"publicScore": 1}]}, ""),
        ("ListSubmissions", {}, ""),
        ("ListSubmissions", [], "all of it: "),
        ("ListSubmissions", None, "all of it: "),
        ("ListSubmissions", {"submissions": [{"ref": 1}, {"ref": "1"}]}, "submissions.1.ref: "),
        ("ListSubmissions", {"submissions": {}}, "submissions: "),
        ("GetSubmissionLimits", {"numToday": True}, "numToday: "),
    ],
)
def test_the_first_fault_of_an_answer_is_named(method, answer, place):
    error = schema_error(answer, COMPETITIONS[method])
    assert error.startswith(place)
    assert bool(error) == bool(place)


@pytest.mark.parametrize(("told", "score"), [("", None), (None, None), ("0,91234", 0.91234)])
def test_scores(told, score):
    assert score_in(told) == score
    assert score_in("0.5") == score_in(0.5) == 0.5


@pytest.mark.parametrize("told", ["NaN", "inf", "good"])
def test_a_score_that_is_no_number_is_not_final(world, told):
    with pytest.raises(Problem, match="which is no number"):
        score_in(told)
    shown = world.kaggle.competitions._public
    world.kaggle.competitions._public = lambda entry: shown(entry) | {"publicScore": told}
    assert f"Kaggle gives the score '{told}', which is no number" in world.ship().sentence
    assert world.runs[0].public_score is None
    world.kaggle.competitions._public = shown
    world.arrives_once()


@pytest.mark.parametrize("code", [403, 404, 200])
def test_a_status_that_is_hidden_right_after_a_push(world, code):
    kind = ("body", {"body": {}}) if code == 200 else ("status", {"code": code})
    world.kaggle.faults.add("GetKernelSessionStatus", kind[0], times=3, **kind[1])
    world.arrives_once()


@pytest.mark.parametrize("method", ["GetAcceleratorQuotaStatistics", "GetSubmissionLimits"])
@pytest.mark.parametrize("answer", [403, 404, None])
def test_what_only_informs_stops_nothing(world, method, answer):
    details = ("status", {"code": answer}) if answer else ("body", {"body": answer})
    world.kaggle.faults.add(method, details[0], times=99, **details[1])
    world.arrives_once()


def test_a_terminal_with_a_code_page(world):
    kernel = world.project / "kernel.py"
    kernel.write_text(kernel.read_text() + "print('50%|█████     | Пример')\n")
    outcome = world.arrives_once(PYTHONIOENCODING="cp1252")
    assert "50%|?????" in outcome.out


def test_a_cyrillic_path_without_utf8(world, tmp_path):
    folder = tmp_path / "Путь"
    world.project.rename(folder)
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ship", "--project", os.fsencode(folder)],
        env={**world.environment, **plain},
        cwd=tmp_path,
        capture_output=True,
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr.decode()
    assert f"{SCORE:.5f}".encode() in done.stdout


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_are_told(world, name, status):
    process = world.start("--set", "seconds=8")
    for line in process.stdout:
        if "epoch 1/2" in line:
            break
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "ship: interrupted while following car-classification-v1. What was sent" in err
    assert "car-classification-v1 goes on at Kaggle: come back with `ship`" in out
    assert "Traceback" not in err
