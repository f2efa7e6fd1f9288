"""A run's output counts as fetched when its files are verified; whatever else is fetched anew."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from kernelkit.core.files import temporary_name
from shipping import open_world
from terminal import COLOURS, on_terminal

NAME = "car-classification-v1"


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A world whose run is complete, and a copy of all that a test may change of it."""
    folder = tmp_path_factory.mktemp("followed")
    with open_world(folder) as world:
        for command in ("bundle", "push", "follow"):
            assert world.ship(command).status == 0
        shutil.copytree(world.project / "runs", folder / "runs")
        shutil.copytree(output_of(world), folder / "working")
        yield world, folder


def output_of(world):
    return world.kaggle.store.path("kernels", "alice", "car-classification", 1, "working")


@pytest.fixture
def complete(followed):
    """The world as it was when the run was complete."""
    world, folder = followed
    world.kaggle.faults.clear()
    world.kaggle.store.state["submissions"].clear()
    for kept, place in (("runs", world.project / "runs"), ("working", output_of(world))):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder / kept, place)
    return world


def test_the_list_is_empty_at_first(complete):
    complete.kaggle.faults.add("ListKernelSessionOutput", "body", times=2, body={"log": "[]"})
    complete.arrives_once()


@pytest.mark.parametrize("content", [None, ""])
def test_a_complete_run_without_a_submission_names_how_to_run_it_again(complete, content):
    submission = output_of(complete) / "submission.csv"
    submission.unlink() if content is None else submission.write_text(content)
    assert "`ship push --again`" in complete.ship("fetch").sentence


def test_the_list_stays_empty(complete):
    complete.kaggle.faults.add("ListKernelSessionOutput", "body", times=999, body={"log": "[]"})
    outcome = complete.ship()
    assert outcome.status == 1
    assert "Kaggle lists 0 output files of car-classification-v1 and no submission.csv" in (
        outcome.sentence
    )
    complete.kaggle.faults.clear()
    complete.arrives_once()


@pytest.mark.parametrize("kind", ["text/html", "application/octet-stream"])
def test_a_web_page_in_the_place_of_every_file(complete, kind):
    page = "<html><body>\nlog in, please\n</body></html>"
    complete.kaggle.faults.add("GET output", "body", times=99, body=page, content_type=kind)
    outcome = complete.ship()
    assert outcome.status == 1
    assert "a web page" in outcome.sentence
    complete.kaggle.faults.clear()
    complete.arrives_once()


@pytest.mark.parametrize("fault", [{"with_length": False}, {"with_length": True}])
def test_bodies_that_are_cut(complete, fault):
    complete.kaggle.faults.add("GET output", "cut", times=2, fraction=0.4, **fault)
    complete.arrives_once()
    folder, sent = (
        complete.project / "runs" / NAME,
        output_of(complete),
    )
    for file in [path for path in sent.rglob("*") if path.is_file()]:
        assert (folder / file.relative_to(sent)).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("fault", [{"with_length": False}, {"with_length": True}])
def test_a_sample_submission_that_is_cut_is_downloaded_anew(complete, fault):
    complete.kaggle.faults.add("GET data", "cut", fraction=0.4, **fault)
    complete.arrives_once()


def test_a_file_goes_on_where_it_was_cut(complete):
    part = temporary_name(complete.project / "runs" / f"{NAME}.part" / "pictures" / "curve.png")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 100)  # in truth these are other bytes, so it shows what was asked for
    assert complete.ship("fetch").status == 0
    picture = complete.project / "runs" / NAME / "pictures" / "curve.png"
    assert picture.read_bytes() == b"x" * 100 + bytes(range(100, 256))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal of Unix")
def test_the_bar_counts_all_bytes(complete):
    """Also those that an attempt before has left, in a whole file and in a part of one."""
    sent = {p.relative_to(output_of(complete)): p for p in output_of(complete).rglob("*.*")}
    part = complete.project / "runs" / f"{NAME}.part"
    for name, kept, size in (
        ("submission.csv", "submission.csv", 9999),
        ("metrics.json", temporary_name(Path("metrics.json")).name, 9),
    ):
        part.mkdir(exist_ok=True)
        (part / kept).write_bytes(sent[Path(name)].read_bytes()[:size])
    complete.kaggle.faults.add("GET output", "cut", after=3, fraction=0.4)
    status, shown = on_terminal(complete, "fetch", width=100)
    assert status == 0, shown
    total = sum(path.stat().st_size for path in sent.values())
    bars = [
        line for line in COLOURS.sub("", shown).replace("\r", "\n").splitlines() if "fetch " in line
    ]
    assert f"fetch {len(sent)}/{len(sent)} " in bars[-1]
    assert f" {total}/{total} bytes" in bars[-1]


def test_only_a_known_end_lets_the_output_be_fetched(complete):
    path = complete.project / "runs" / "ledger.jsonl"
    complete.kaggle.faults.add("GetKernelSessionStatus", "body", times=1, body={})
    path.write_text(path.read_text().replace('"ended"', '"begun"').replace("complete", "pushed"))
    outcome = complete.ship("fetch")
    assert outcome.sentence.startswith(f"{NAME} is in a state that Kaggle does not tell")
    assert not (complete.project / "runs" / NAME).exists()
    complete.arrives_once()


def test_a_folder_that_was_damaged_is_fetched_anew(complete):
    submission = complete.project / "runs" / NAME / "submission.csv"
    assert complete.ship("fetch").status == 0
    assert f"the output of {NAME} is in" in complete.ship("fetch").out
    whole = submission.read_text()
    for text in ("", whole[:30], None):
        submission.unlink() if text is None else submission.write_text(text)
        assert "fetched" in complete.ship("fetch").out
        assert submission.read_text() == whole
    assert "fetched" in complete.ship("fetch", "--again").out
    complete.arrives_once()


def test_a_submission_that_is_short_of_rows_is_fetched_anew_by_the_next_ship(complete):
    complete.ship("fetch")
    working = output_of(complete)
    whole = (working / "submission.csv").read_text()
    (working / "submission.csv").write_text("\n".join(whole.splitlines()[:5]) + "\n")
    complete.ship("fetch", "--again")
    assert "no row for an Id of the sample" in complete.ship("submit").sentence
    (working / "submission.csv").write_text(whole)
    complete.arrives_once()


def test_odd_names_and_entries_on_two_pages_block_nothing(complete, monkeypatch):
    working = output_of(complete)
    (working / "log 12:30.txt").write_text("x")
    listed = complete.kaggle.kernels.ListKernelSessionOutput

    def twice(request):
        page = listed(request)
        return page | {"files": page["files"] + page["files"][:1]}

    monkeypatch.setattr(complete.kaggle.kernels, "ListKernelSessionOutput", twice)
    complete.arrives_once()
    assert (complete.project / "runs" / NAME / "log 12:30.txt").read_text() == "x"


@pytest.mark.parametrize("name", ["x" * 250, "é" * 125, "x" * 246 + ".csv"])
def test_a_long_name_is_fetched(complete, name):
    (output_of(complete) / name).write_text("long")
    complete.kaggle.faults.add("GET output", "cut", times=2, fraction=0.4)
    complete.arrives_once()
    assert (complete.project / "runs" / NAME / name).read_text() == "long"


@pytest.mark.parametrize("pieces", [["a \ud83d", "\ude97 b\n"], ["a \ud83d", "b"], ["\ude97"]])
def test_half_of_a_letter_in_the_log_blocks_nothing(complete, pieces):
    """Kaggle cuts the log into entries wherever it likes."""
    log = json.dumps([{"stream_name": "stdout", "time": 1, "data": data} for data in pieces])
    complete.kaggle.faults.add("ListKernelSessionOutput", "merge", times=99, fields={"log": log})
    assert complete.ship("follow").status == 0
    complete.arrives_once()
    kept = (complete.project / "runs" / NAME / "car-classification.log").read_text()
    assert ("🚗" in kept) == (len(pieces) == 2 and "\ude97" in pieces[1])


def test_many_files_take_few_connections(complete, monkeypatch):
    for number in range(300):
        (output_of(complete) / f"more{number}.txt").write_text(str(number))
    connections = []
    server = complete.kaggle._http
    serve = server.process_request
    monkeypatch.setattr(
        server, "process_request", lambda *client: (connections.append(client), serve(*client))
    )
    assert complete.ship("fetch").status == 0
    assert len(complete.calls("GET output")) >= 300
    assert len(connections) < 20


def test_a_download_goes_on_as_long_as_it_brings_bytes(complete):
    """Many more cuts than there are attempts at a call."""
    data = bytes(range(256)) * 4000
    (output_of(complete) / "weights.h5").write_bytes(data)
    complete.kaggle.faults.add("GET output", "cut", times=30, after=28, fraction=0.04)
    assert complete.ship("fetch", SHIP_RETRIES="2").status == 0
    assert (complete.project / "runs" / NAME / "weights.h5").read_bytes() == data
    complete.arrives_once()


def test_only_some_files(complete):
    outcome = complete.ship("fetch", "--pattern", "*.csv")
    folder = complete.project / "runs" / NAME
    assert "fetched 1 of 28 files" in outcome.out
    assert [path.name for path in folder.iterdir()] == ["submission.csv"]
    assert "none of the 28 files" in complete.ship("fetch", "--pattern", "*.h5").sentence
    (folder / "submission.csv").write_text("x")
    complete.ship("fetch", "--pattern", "*.csv", "--again")
    assert (folder / "submission.csv").read_text().startswith("Id,Category")
    complete.arrives_once()


def test_two_runs_are_followed_and_kept_side_by_side(world):
    world.ship("bundle")
    for limit in ("1", "2"):
        world.ship("push", "--set", f"limit={limit}", "--set", "seconds=0.5")
    outcome = world.ship("follow", "1", "2")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert sum("v1 | [stage" in line for line in lines) == 2
    assert sum("v2 | [stage" in line for line in lines) == 2
    for version in ("1", "2"):
        assert world.ship("fetch", "--version", version).status == 0
    assert [run.status for run in world.runs] == ["complete", "complete"]
    assert all(run.files for run in world.runs)


def test_marks_in_a_fetched_list_are_not_overwritten(complete):
    (output_of(complete) / "suspects.csv").write_text("Id,label,leave_out\n1.jpg,0,\n")
    assert complete.ship("fetch").status == 0
    listed = complete.project / "runs" / NAME / "suspects.csv"
    listed.write_text("Id,label,leave_out\n1.jpg,0,yes\n")
    assert complete.ship("fetch").status == 0
    assert complete.ship().status == 0  # which submits, and notes the score on the report
    assert listed.read_text().endswith("yes\n")


@pytest.mark.parametrize(
    "name", ["../../precious", "../../precious-v1", "staged", "a/../../../x-v1"]
)
def test_a_name_in_the_ledger_never_leads_out_of_the_folder_of_runs(complete, name):
    precious = complete.project.parent / "precious"
    for folder in (
        precious,
        precious.with_name("precious-v1"),
        complete.project / "runs" / "staged",
    ):
        folder.mkdir(exist_ok=True)
        (folder / "thesis.txt").write_text("ten years of work")
    ledger = complete.project / "runs" / "ledger.jsonl"
    row = {"kernel": "alice/car-classification", "version": 1, "status": "complete"}
    ledger.write_text(json.dumps(row | {"run": name, "verified": {"ended": "x"}}) + "\n")
    for command in ("fetch", "fetch 1 --again", "submit 1", "status --json", "runs --json"):
        outcome = complete.ship(*command.split())
        assert "Traceback" not in outcome.err
        assert "is skipped" in outcome.out + outcome.err
        assert "json" not in command or json.loads(outcome.out)
    for folder in (
        precious,
        precious.with_name("precious-v1"),
        complete.project / "runs" / "staged",
    ):
        assert (folder / "thesis.txt").read_text() == "ten years of work"


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/x", "\\x", "..\\x", "C:\\x", "C:x", "a/..", "a\0b"]
)
def test_no_output_file_leaves_its_folder(complete, monkeypatch, name):
    listed = complete.kaggle.kernels.ListKernelSessionOutput

    def more(request):
        page = listed(request)
        return page | {"files": [*page["files"], page["files"][0] | {"fileName": name}]}

    monkeypatch.setattr(complete.kaggle.kernels, "ListKernelSessionOutput", more)
    outcome = complete.ship("fetch")
    assert outcome.status == 0, outcome
    assert "is left out: its name would lead out of the folder" in outcome.out
    folder = complete.project / "runs" / NAME
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert "submission.csv" in names
    assert len(names) == 29  # the output and the log


def test_a_new_fetch_keeps_what_a_person_has_written(complete):
    (output_of(complete) / "suspects.csv").write_text("Id,leave_out\n1.jpg,\n2.jpg,\n")
    assert complete.ship("fetch").status == 0
    folder = complete.project / "runs" / NAME
    (folder / "suspects.csv").write_text("Id,leave_out\n1.jpg,yes\n2.jpg,\n")
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("all of it")
    (folder / "file3.txt").unlink()
    for command in (("fetch",), ("fetch", "--again")):
        outcome = complete.ship(*command)
        assert "fetched car-classification-v1 into" in outcome.out
        assert "1.jpg,yes" in (folder / "suspects.csv").read_text()
        assert (folder / "mine" / "notes.txt").read_text() == "all of it"
        assert (folder / "file3.txt").read_text() == "file 3"
    (folder / "mine" / "notes.txt").unlink()
    assert "the output of car-classification-v1 is in" in complete.ship("fetch").out
