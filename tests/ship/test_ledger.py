"""The state and the ledger survive the death of processes."""

import json
import os
import subprocess
import sys

import pytest

from kernelkit.core.boundary import Boundary
from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from ship.commands.live_runs import note_end
from ship.commands.runs import csv_text, rows_of, sorted_runs, table
from ship.context import Context
from ship.ledger import Dataset, Ledger, PendingPush, Run, Sending, State, Submission, file_run_name
from ship.project.project import Project


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "runs" / "ledger.jsonl")


def test_rows_add_up(ledger):
    ledger.append("a-v1", time="1", status="pushed")
    ledger.append("a-v2", time="2", status="pushed")
    ledger.append("a-v1", status="complete", public_score=0.5, score=None)
    assert ledger.rows() == [
        {"run": "a-v1", "time": "1", "status": "complete", "public_score": 0.5},
        {"run": "a-v2", "time": "2", "status": "pushed"},
    ]


def test_readable_after_a_crash_at_any_byte(ledger):
    ledger.append("a-v1", time="1", settings={"note": "größer"})
    ledger.append("a-v2", time="2")
    whole = ledger.path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(len(whole) + 1):
        ledger.path.write_bytes(whole[:size])
        ledger.append("a-v3", time="3")
        names = [row["run"] for row in ledger.rows()]
        assert names[-1] == "a-v3"
        assert ("a-v1" in names) == (size >= first - 1)
        assert ("a-v2" in names) == (size >= len(whole) - 1)


def test_an_append_never_rewrites(ledger):
    ledger.append("a-v1", time="1")
    before = ledger.path.read_bytes()
    ledger.append("a-v1", status="complete")
    assert ledger.path.read_bytes().startswith(before)
    before = ledger.path.read_bytes()
    ledger.append("a-v1", time="1", status="complete")  # no news
    assert ledger.path.read_bytes() == before


def test_best_leaves_a_run_out(ledger):
    assert ledger.best("cars") is None
    ledger.append("a-v1", public_score=0.9)
    ledger.append("a-v2", public_score=0.8)
    assert ledger.best("cars") == 0.9
    assert ledger.best("cars", Run("a-v1")) == 0.8
    ledger.append("b-v1", public_score=0.95, competition="dogs")
    assert (ledger.best("cars"), ledger.best("dogs")) == (0.9, 0.95)


def test_the_newest_run_says_which_scores_are_better(ledger):
    """The metric of a block may be corrected."""
    for number, (score, greater) in enumerate([(0.9, True), (0.5, True), (0.7, False)]):
        ledger.append(f"a-v{number}", public_score=score, greater_is_better=greater)
    assert [run.public_score for run in sorted_runs(ledger.runs())] == [0.5, 0.7, 0.9]
    assert ledger.best("cars", Run("a-v3", greater_is_better=False)) == 0.5


def test_runs_are_sorted_by_score(ledger, tmp_path):
    for number, score in enumerate([0.5, None, 0.9, 0.0, None]):
        ledger.append(f"a-v{number}", public_score=score, settings={"epochs": "2"})
    runs = sorted_runs(ledger.runs())
    assert [run.name for run in runs] == ["a-v2", "a-v0", "a-v3", "a-v4", "a-v1"]
    context = Context.of(Project(tmp_path), Boundary("ship", tmp_path / "x", ""))
    lines = table(rows_of(context, runs)).splitlines()
    assert lines[0].split() == ["run", "settings", "score"]
    assert lines[1].split() == ["a-v2", "epochs=2", "0.90000"]
    header, first, *others = csv_text(rows_of(context, runs)).splitlines()
    assert header == (
        "run,time,commit,recipe,backbone,image_size,settings,status,"
        "metric,score,low,high,difference,p,photos,gpu_minutes,public_score,competition"
    )
    assert first == "a-v2,,,,,,epochs=2,,,,,,,,,,0.9,"
    assert len(others) == 4


def test_the_table_keeps_its_columns_in_order_and_leaves_out_empty_ones(ledger, tmp_path):
    ledger.append("a-v1", status="complete", public_score=0.9, time="2026-01-01 10:00:00")
    ledger.append("a-v12", status="pushed", gpu_minutes=12.5, settings={"note": "x" * 200})
    context = Context.of(Project(tmp_path), Boundary("ship", tmp_path / "x", ""))
    lines = table(rows_of(context, ledger.runs())).splitlines()
    assert lines[0].split() == ["run", "time", "settings", "GPU", "min", "score", "status"]
    assert lines[1].split() == ["a-v1", "2026-01-01", "10:00:00", "0.90000", "complete"]
    assert lines[2].split() == ["a-v12", f"note={'x' * 200}", "12.5", "pushed"]


def test_a_score_that_is_no_number_counts_as_none(ledger):
    ledger.append("a-v1", public_score="good")
    ledger.append("a-v2", public_score=0.5)
    assert ledger.best("cars") == 0.5
    assert [run.name for run in sorted_runs(ledger.runs())] == ["a-v2", "a-v1"]


def test_a_record_is_read_as_it_was_kept(ledger):
    run = Run("a-v1", "alice/a", 1, settings={"epochs": "2"}, files={"x.csv": 3}, score=0.5)
    run.submission = Submission("d" * 16, "x.csv", "m", 7, [1, 2], 2)
    run.verified["pushed"] = "Kaggle's answer"
    ledger.keep(run)
    ledger.append("a-v2", status="pushed")
    assert ledger.runs() == [run, Run("a-v2", status="pushed")]
    run.files, run.submission = {}, Submission()
    ledger.keep(run)
    assert ledger.runs()[0] == run
    before = ledger.path.read_bytes()
    ledger.keep(run)
    assert ledger.path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        {"version": "1"},
        {"version": True},
        {"settings": {"epochs": 2}},
        {"settings": None},
        {"submission": []},
        {"submission": {"ref": "x"}},
        {"public_score": [0.9]},
        {"files": {"x": "y"}},
        {"more": 1},
    ],
)
def test_a_value_of_another_type_leaves_the_rest_of_a_record(ledger, damage):
    ledger.append("a-v1", **({"kernel": "alice/a"} | damage))
    assert ledger.runs() == [Run("a-v1", kernel="alice/a")]


def test_the_end_of_a_run_leaves_what_another_ship_has_written_meanwhile(tmp_path):
    context = Context.of(Project(tmp_path), Boundary("ship", tmp_path / "x", ""))
    run = Run("a-v1", "alice/a", 1, status="pushed", verified={"pushed": "its mark"})
    context.ledger.keep(run)
    [other] = context.ledger.runs()
    other.files, other.submission = {"x.csv": 3}, Submission("d" * 16, "x.csv", "m", 7)
    other.verified["submitted"] = "Kaggle's answer"
    context.ledger.keep(other)
    note_end(context, run, "COMPLETE", "", [{"time": 90}])
    other.status, other.gpu_minutes = "complete", 1.5
    other.verified["ended"] = "Kaggle's status COMPLETE"
    assert context.ledger.runs() == [run] == [other]


BAD_LINES = {
    "deep": '{"run": "a-v9", "x": ' + "[" * 5000 + "]" * 5000 + "}",
    "half": '{"run": "a-v9", "time"',
    "no object": "[1, 2]",
    "null": "null",
    "no run": '{"time": "1"}',
    "a number": '{"run": 7}',
    "a list": '{"run": ["a-v9"]}',
    "NUL": '{"run": "a\\u0000-v9"}',
    "zeros": "\0" * 50,
    "half a letter": '{"run": "\\ud83d-v9"}',
    "upwards": '{"run": "../../precious"}',
    "upwards with a version": '{"run": "../../precious-v1", "version": 1, "kernel": "alice/a"}',
    "absolute": '{"run": "/precious-v1"}',
    "backslashes": '{"run": "..\\\\precious-v1"}',
    "a folder of ship's own": '{"run": "staged", "version": 1, "kernel": "alice/a"}',
    "hidden": '{"run": ".git-v1"}',
    "long": '{"run": "' + "x" * 300 + '-v1"}',
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_skipped_with_one_sentence(ledger, kind, capsys):
    ledger.append("a-v1", time="1")
    with ledger.path.open("a") as file:
        file.write(BAD_LINES[kind] + "\n")
    ledger.append("a-v2", time="2")
    assert [row["run"] for row in ledger.rows()] == ["a-v1", "a-v2"]
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"line 2 of {ledger.path} is skipped")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1" * 400, "1e999", "9" * 5000])
def test_a_number_that_is_none_leaves_what_was_known(ledger, number):
    ledger.append("a-v1", kernel="alice/a", version=1, public_score=0.5, session=3)
    with ledger.path.open("a") as file:
        file.write(f'{{"run": "a-v1", "public_score": {number}, "session": {number}}}\n')
    ledger.append("a-v1", status="complete")
    [run] = ledger.runs()
    assert (run.public_score, run.session, run.status) == (0.5, 3, "complete")
    json.dumps(run.row(), allow_nan=False)


@pytest.mark.parametrize(
    "damage",
    [
        {"kernel": "../.."},
        {"kernel": "alice"},
        {"kernel": "alice/a/b"},
        {"version": -3},
        {"version": 10**12},
        {"dataset": "../x"},
        {"files": {"../../x": 1, "/etc/passwd": 2}},
    ],
)
def test_names_in_a_record_lead_nowhere(ledger, damage):
    ledger.append("a-v1", **({"kernel": "alice/a", "version": 1} | damage))
    [run] = ledger.runs()
    assert run.kernel in ("", "alice/a")
    assert run.version in (0, 1)
    assert not run.version or run.kernel
    assert (run.dataset, run.files) == ("", {})


@pytest.mark.parametrize("name", ["mine.csv", "my file (1).csv", "a:b*?.csv", "x" * 250, "é" * 125])
def test_any_file_has_a_record_of_a_safe_name(ledger, name):
    run = Run(file_run_name(name, "0123456789abcdef"), status="file")
    ledger.keep(run)
    assert ledger.runs() == [run]


def test_two_processes_append_at_once(ledger):
    program = (
        "import sys; from pathlib import Path; from ship.ledger import Ledger\n"
        "for n in range(30): Ledger(Path(sys.argv[1])).append(sys.argv[2], number=n)"
    )
    command = [sys.executable, "-c", program, str(ledger.path)]
    both = [subprocess.Popen([*command, name]) for name in ("a-v1", "a-v2")]
    assert [process.wait() for process in both] == [0, 0]
    assert len(ledger.path.read_text().splitlines()) == 60
    assert sorted(row["number"] for row in ledger.rows()) == [29, 29]


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "state.json"
    write_atomically(path, "one")
    monkeypatch.setattr(os, "fsync", lambda number: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, "two")
    assert path.read_text() == "one"


def test_state_is_read_back(tmp_path):
    state = State.open(tmp_path / "state.json")
    state.datasets["alice/lib"] = Dataset(3, sending=Sending(3, "ship 1", ["a"], {"x.py": 5}))
    state.push = PendingPush(Run("", "alice/a", mark="m", files={"x.csv": 3}), 2)
    state.save()
    assert State.open(tmp_path / "state.json") == state
    for damaged in ('{"run": ', '{"x": ' + "[" * 9999, "[]", '{"push": {"kernel": "../x"}}'):
        (tmp_path / "state.json").write_text(damaged)
        with pytest.raises(Problem, match=r"state\.json can't be read"):
            State.open(tmp_path / "state.json")
