"""What `ship` offers besides the pipeline: cancel, status, compare, and how it speaks."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from saved_run import write_run
from ship.__main__ import COMMANDS, main, parse
from ship.ledger import Ledger, Run
from ship.project.project import Project
from shipping import REPOSITORY, SCORE, World, make_project, open_world, until


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A world with two finished runs, which the tests only look at."""
    with open_world(tmp_path_factory.mktemp("two")) as world:
        assert world.ship("--set", "skill=30").status == 0
        kernel = world.project / "kernel.py"
        kernel.write_text(kernel.read_text().replace("% 3])", "% 3 or 0])"))
        assert world.ship("--set", "skill=36").status == 0
        yield world


def start_a_long_run(world: World) -> None:
    assert world.ship("bundle").status == 0
    assert world.ship("push", "--set", "seconds=60").status == 0
    [version] = world.kaggle.store.state["kernels"]["alice/car-classification"]["versions"]
    until(lambda: version["status"] == "RUNNING" and world.kaggle.kernels.log_of(version))


def test_a_run_is_cancelled(world):
    start_a_long_run(world)
    outcome = world.ship("cancel", SHIP_PROVE="20")
    assert outcome.status == 0, outcome
    assert outcome.out.splitlines()[-1] == "car-classification-v1: CANCEL_ACKNOWLEDGED"
    assert world.runs[0].status == "cancel_acknowledged"
    assert "is over already: CANCEL_ACKNOWLEDGED" in world.ship("cancel", "1").out
    assert "exactly this kernel, ended with CANCEL_ACKNOWLEDGED" in world.ship("push").sentence


def test_a_run_whose_session_is_unknown_is_not_cancelled(world):
    start_a_long_run(world)
    world.kaggle.faults.add("ListKernelSessionOutput", "body", body={"log": "[]"})
    sentence = world.ship("cancel").sentence
    assert "the number of its session is only in the run's own log" in sentence
    sentence = world.ship("cancel", "--session", "1").sentence
    assert "does not end car-classification-v1 (Kaggle refused the end of session 1" in sentence
    assert not world.runs[0].ended
    outcome = world.ship("cancel", "--no-wait", "--json")
    assert json.loads(outcome.out)["command"] == "cancel"


@pytest.mark.parametrize("answer", [{"errorMessage": "it is over"}, None])
def test_a_run_that_ends_before_it_is_cancelled(world, answer):
    """Kaggle's refusal is no failure when the run is over, whatever the refusal's form."""
    world.ship("bundle")
    world.ship("push", "--set", "seconds=1")
    [version] = world.kaggle.store.state["kernels"]["alice/car-classification"]["versions"]
    until(lambda: version["status"] == "COMPLETE")
    world.kaggle.faults.add("GetKernelSessionStatus", "body", body={"status": "RUNNING"})
    if answer:
        world.kaggle.faults.add("CancelKernelSession", "body", body=answer)
    else:
        world.kaggle.faults.add("CancelKernelSession", "status", code=404)
    outcome = world.ship("cancel")
    assert outcome.status == 0, outcome
    assert "car-classification-v1 was over before it could be cancelled: COMPLETE" in outcome.out
    assert world.runs[0].status == "complete"


def test_a_version_that_kaggle_has_not_got(world):
    for command in ("follow", "fetch", "adopt", "cancel"):
        sentence = world.ship(command, "99").sentence
        assert "there is no version 99 of kernel alice/car-classification" in sentence
        assert "no version of it" in sentence
    world.arrives_once()
    for words in (["open", "99"], ["push", "--adopt", "99"], ["submit", "--version", "99"]):
        sentence = world.ship(*words).sentence
        assert "its newest is 1" in sentence
        assert not set("{}") & set(sentence)


def test_status_shows_live_runs_quota_and_submissions(world):
    start_a_long_run(world)
    outcome = world.ship("status")
    assert "car-classification-v1: RUNNING  seconds=60  stage 1/1 all, epoch 1/2" in outcome.out
    assert "h of GPU time left this week" in outcome.out
    assert "5 submissions left today" in outcome.out
    told = json.loads(world.ship("status", "--json").out)
    assert told["runs"][0]["run_status"] == "RUNNING"
    assert told["submissions_left"] == 5
    world.ship("cancel")
    assert "no run is under way" in world.ship("status").out


def test_json_and_quiet(two):
    outcome = two.ship("--json")
    told = json.loads(outcome.out)
    assert (told["command"], told["exit_status"], told["run"]) == (
        "ship",
        0,
        "car-classification-v2",
    )
    assert "public score of car-classification-v2" in outcome.err
    outcome = two.ship("submit", "--quiet")
    assert outcome.out.startswith("public score of car-classification-v2")
    assert len(outcome.out.splitlines()) == 1
    outcome = two.ship("fetch", "--version", "9", "--json")
    told = json.loads(outcome.out)
    assert (told["exit_status"], told["sentence"]) == (1, outcome.sentence)
    for command in ("doctor", "bundle", "status", "runs", "weights", "wheels --dry-run"):
        assert json.loads(two.ship(*command.split(), "--json").out)["command"] in command
        assert "Traceback" not in two.ship(*command.split(), "--quiet").err


def test_what_a_command_is_asked_to_leave_undone(world):
    outcome = world.ship("--no-wait", "--gpu", "p100")
    assert outcome.status == 0
    assert world.calls("SaveKernel")[0].body["machineShape"] == "NvidiaTeslaP100"
    assert world.kaggle.counts["submissions"] == 0
    assert not world.runs[0].ended
    for command in ("follow", "fetch"):
        assert world.ship(command).status == 0
    outcome = world.ship("submit", "--no-wait")
    assert outcome.status == 0
    assert "public score" not in outcome.out
    assert world.ship("submit").status == 0
    assert world.runs[0].public_score == SCORE


def test_the_page_is_opened(world, tmp_path):
    browser = tmp_path / "browser"
    browser.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(tmp_path / 'page')!r}, 'w')"
        ".write(sys.argv[1])\n"
    )
    browser.chmod(0o755)
    world.ship("bundle")
    assert world.ship("push", "--open", BROWSER=str(browser)).status == 0
    until((tmp_path / "page").exists)
    until(lambda: (tmp_path / "page").read_text() == world.runs[0].page)


def test_versions_and_help(two):
    assert two.ship("--version").out.startswith("ship ")
    assert "kaggle client 2" in two.ship("--version").out
    listed = two.ship("push", "--help").out
    assert "  backbone           'MobileNet'    row of backbones" in listed
    assert "Download backbones' ImageNet weights." in two.ship("weights", "--help").out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_can_be_quiet_or_speak_json(name):
    needed = {"adopt": ["1"], "compare": ["1", "2"], "sweep": ["backbone=a,b"]}
    words = [*([name] if name else []), *needed.get(name, []), "--quiet", "--json", "--dry-run"]
    arguments = parse(words)
    assert (arguments.quiet, arguments.json, arguments.dry_run) == (True, True, True)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """A project that knows three runs and another kernel's, without a Kaggle."""
    folder = make_project(tmp_path_factory.mktemp("grammar"))
    known = Ledger(folder / "runs" / "ledger.jsonl")
    names = ("old-cars-v3", *(f"car-classification-v{number}" for number in (1, 2, 3)))
    for name in names:
        kernel, number = name.split("-v")
        run = Run(name, f"alice/{kernel}", int(number), status="complete", files={"a": 1})
        known.keep(run)
        (folder / "runs" / name).mkdir()
        (folder / "runs" / name / "report.html").write_text(name)
    return folder


def told_here(folder, capfd, *words):
    """Run a command in a project without a Kaggle; return its status, what it told, its stderr."""
    status = main([*words, "--json", "--project", str(folder)])
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return status, json.loads(out), err


NAMED = ["1", "v1", "car-classification-v1", "--version 1", "--version=car-classification-v1"]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize(
    "command", ["follow", "fetch", "submit", "cancel", "open", "adopt", "push"]
)
def test_each_command_takes_a_version_in_every_form(ledger, capfd, command, name):
    if command == "push":
        name = f"--adopt {name.removeprefix('--version').lstrip(' =')}"
    for words in ([command, *name.split()], [*name.split(), command]):
        if words[0] in NAMED:
            continue  # a version before the command would be a command
        status, told, err = told_here(ledger, capfd, *words, "--dry-run")
        assert status == 0, err
        assert (told["command"], told["exit_status"]) == (command, 0)
        assert re.search(r"car-classification-v1|version 1 |Number=1\b", err), err


def test_two_runs_are_named_in_every_form(ledger, capfd):
    for words in (["1", "2"], ["1", "--version", "2"], ["v1", "car-classification-v2"]):
        status, told, err = told_here(ledger, capfd, "compare", *words)
        assert status == 0, err
        assert [row["metric"] for row in told["results"]] == [None, None]
    for words in ([], ["1"], ["1", "2", "3"]):
        status, told, err = told_here(ledger, capfd, "compare", *words)
        assert (status, told["exit_status"]) == (2, 2)
        assert "takes two runs" in told["sentence"]
    assert "takes one version, not 1 and 2" in told_here(ledger, capfd, "fetch", "1", "2")[2]


def test_a_run_of_another_kernel_is_known_by_its_name(ledger, capfd):
    _, told, _ = told_here(ledger, capfd, "open", "old-cars-v3", "--dry-run")
    assert Path(told["report"]).read_text() == "old-cars-v3"
    _, told, _ = told_here(ledger, capfd, "open", "3", "--dry-run")
    assert Path(told["report"]).read_text() == "car-classification-v3"
    status, told, _ = told_here(ledger, capfd, "follow", "new-cars-v3")
    assert status == 1
    assert "no run new-cars-v3 is known" in told["sentence"]
    assert "car-classification" in told["sentence"]


@pytest.fixture(scope="module")
def local_runs(tmp_path_factory):
    """The output of two runs of the kernel on this machine."""
    folder = tmp_path_factory.mktemp("local")
    command = "python kernel.py --data photos --output 'my output' --epochs={} --image-size 32 48"
    write_run(folder / "first", wrong={0: 1, 1: 2, 2: 3, 30: 0}, command=command.format(2))
    write_run(
        folder / "second",
        wrong={30: 2},
        command=command.format(3) + " --cache yes",
        packages="0123",
        devices=["/device:CPU:0", "/device:GPU:0"],
        seconds=90.0,
    )
    return folder


def test_folders_of_output_are_compared(ledger, local_runs, capfd):
    first, second = (str(local_runs / name) for name in ("first", "second"))
    status, told, err = told_here(ledger, capfd, "compare", first, second)
    assert status == 0, err
    assert told["changed"] == {
        "packages": ["0123456789abcdef", "0123"],
        "epochs": ["2", "3"],
        "cache": ["-", "yes"],
    }
    assert told["photos"]["only_second"] == ["v00000.jpg", "v00001.jpg", "v00002.jpg"]
    assert told["photos"]["only_first"] == []
    assert f"the accuracy of {second} is 0.0375 above {first}'s, p = 0.250" in err
    assert f"only {first}" not in err
    assert f"only {second} gets 3 right:\n  v00000.jpg: class 0, taken for class 1" in err
    status, told, err = told_here(ledger, capfd, "compare", first, "car-classification-v1")
    assert status == 0, err
    assert (
        "no probabilities of car-classification-v1 here: `ship fetch car-classification-v1`" in err
    )


def test_folders_of_output_are_runs(ledger, local_runs, capfd):
    first, second = (str(local_runs / name) for name in ("first", "second"))
    _, told, _ = told_here(ledger, capfd, "runs", first, second, "old-cars-v3")
    rows = {row["run"]: row for row in told["runs"]}
    assert list(rows) == [first, second, "old-cars-v3"]
    assert rows[first]["score"] == 0.95
    assert rows[first]["settings"] == "epochs=2 image_size=32 48"
    assert rows[second]["settings"] == "epochs=3 image_size=32 48 cache=yes"
    assert round(rows[second]["difference"], 4) == 0.0375
    assert [row["gpu_minutes"] for row in rows.values()] == [None, 1.5, None]
    (local_runs / "second" / "report.html").write_text("<p>report</p>")
    status, _, err = told_here(ledger, capfd, "runs", first, second, "--html")
    assert status == 0
    page = Path(err.strip())
    [address] = re.findall(r'href="([^"]*report.html)"', page.read_text(encoding="utf-8"))
    assert (page.parent / address).resolve() == (local_runs / "second" / "report.html").resolve()


def test_the_folder_of_a_known_run_is_that_run(ledger, capfd, monkeypatch):
    monkeypatch.chdir(ledger / "runs")
    _, told, _ = told_here(ledger, capfd, "runs", "car-classification-v2", "1")
    assert [row["run"] for row in told["runs"]] == [
        "car-classification-v2",
        "car-classification-v1",
    ]


@pytest.mark.parametrize("content", [None, "", "[1]", '{"score": '])
def test_a_folder_without_a_finished_run(ledger, capfd, tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    for command in (["runs", str(tmp_path)], ["compare", "1", str(tmp_path)]):
        status, told, _ = told_here(ledger, capfd, *command)
        assert status == 1
        assert f"{tmp_path} holds no finished run" in told["sentence"]
    missing = str(tmp_path / "missing")
    assert f"{missing} is neither a folder" in told_here(ledger, capfd, "runs", missing)[2]


def test_settings_mean_the_same_before_and_after_a_command():
    for words in (
        "--set a=1 push --set b=2",
        "push --set a=1 --set b=2",
        "--set=a=1 push --set=b=2",
    ):
        assert parse(words.split()).set == ["a=1", "b=2"]
    arguments = parse(["--set", "push=1", "--submit", "best", "sweep", "shift=1,2", "--gpu=t4"])
    assert (arguments.command, arguments.set, arguments.submit) == ("sweep", ["push=1"], "best")
    assert (arguments.grid, arguments.gpu) == (["shift=1,2"], "NvidiaTeslaT4")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("pusch", ["'pusch'", "mean push?", "ship --help"]),
        ("--quiet pusch", ["'pusch'", "mean push?"]),
        ("3", ["'3'"]),
        ("push --sett a=1", ["--sett", "mean --set?", "ship push --help"]),
        ("--dry-rum push", ["--dry-rum", "mean --dry-run?"]),
        ("push --dry_run", ["--dry_run", "mean --dry-run?"]),
        ("--no-wiat", ["--no-wiat", "mean --no-wait?"]),
        ("runs --set a=1", ["`ship runs`", "--set"]),
        ("status 3", ["`ship status`", "'3'"]),
        ("push --set", ["`ship push`", "--set"]),
        ("--force competiton", ["'competiton'", "mean competition?", "disk"]),
        ("sweep a=1 --submit bset", ["'bset'", "mean best?"]),
        ("sweep", ["`ship sweep`"]),
        ("push --set a", ["'a'", "FIELD=VALUE"]),
        ("--set =1", ["'=1'", "FIELD=VALUE"]),
        ("sweep a", ["'a'", "FIELD=VALUE"]),
        ("follow three", ["'three'", "ship follow --help"]),
        ("follow 0", ["'0'"]),
        ("push --gpu a_b", ["--gpu", "t4, p100", "'a_b'"]),
        ("cancel --session x", ["--session", "'x'"]),
        ("adopt", ["ship adopt 3"]),
        ("submit --code kernel.py", ["kernel.py", "ship submit --code"]),
    ],
)
def test_a_typo_is_one_line(ledger, capfd, words, named):
    status, told, err = told_here(ledger, capfd, *words.split())
    assert (status, told["exit_status"]) == (2, 2)
    assert err == f"ship: {told['sentence']}\n"
    assert [name for name in named if name not in err] == []


def test_help_and_versions_are_told_to_programs(ledger, capfd):
    status, told, _ = told_here(ledger, capfd, "--version")
    assert (status, told["command"]) == (0, "ship")
    assert told["versions"]["kaggle"][0].isdigit()
    for words in (["push", "--help"], ["help", "push"], ["--help", "push"]):
        status, told, _ = told_here(ledger, capfd, *words)
        assert (status, told["command"]) == (0, "push")
        assert "--gpu KIND" in told["help"]


DRY = ("bundle", "push", "status", "follow", "fetch", "submit", "cancel", "adopt 1", "rehearse")
WITHOUT_A_NETWORK = [
    "--version",
    "--help",
    "push --help",
    "pusch",
    "open 1",
    "weights",
    "--dry-run",
]
WITHOUT_A_NETWORK += [f"{name} --dry-run" for name in (*DRY, "wheels", "sweep shift=1,2")]
AT_KAGGLE = [
    "doctor",
    "bundle",
    "push --set skill=30 --set shift=1",
    "status",
    "follow 1",
    "fetch 1",
    "cancel 1",
]
READING = ["runs", "runs --csv", "compare 1 2"]
"""Commands that compare probabilities, which takes numpy."""
HEAVY = ["pandas", "numpy", "scipy", "sklearn", "requests", "kaggle", "kagglesdk", "cv2", "PIL"]
HEAVY += ["matplotlib", "keras", "tensorflow", "rich", "tqdm", "jinja2"]
LOOK = f"""
import contextlib, io, sys
from ship.__main__ import main
for command in {WITHOUT_A_NETWORK + AT_KAGGLE + READING}:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main(command.split())
    imported = {{name.partition(".")[0] for name in sys.modules}}
    print(command, *sorted({set(HEAVY)} & imported), sep=";")
"""


def test_a_command_imports_only_what_it_needs(world):
    """So that `ship` starts at once; the kaggle client is another process."""
    assert world.ship("bundle").status == 0
    for shift in ("0", "1"):
        push = ("push", "--set", "skill=30", "--set", f"shift={shift}")
        for command in (push, ("follow",), ("fetch",)):
            assert world.ship(*command).status == 0
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOOK],
        cwd=world.project,
        env=world.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = done.stdout.splitlines()
    light = WITHOUT_A_NETWORK + AT_KAGGLE
    assert found == light + [f"{command};numpy" for command in READING]


def test_the_settings_of_the_real_kernel_are_listed():
    found = {setting.name: setting for setting in Project(REPOSITORY).settings()}
    assert {"recipe", "backbone", "image_size", "seed"} <= found.keys()
    assert found["seed"].default == "42"
    assert all(setting.help and setting.default for setting in found.values())


def test_runs_are_compared_on_the_same_photos(two):
    lines = two.ship("runs").out.splitlines()
    assert lines[0].split()[:6] == [
        "run",
        "time",
        "recipe",
        "backbone",
        "settings",
        "val",
    ]
    rows = {line.split()[0][-1]: line for line in lines[1:]}
    assert " 0.7500  0.6500..0.8500 " in rows["1"]
    assert " 0.9000  0.8000..1.0000 " in rows["2"]
    told = {row["run"][-1]: row for row in json.loads(two.ship("runs", "--json").out)["runs"]}
    better = [row for row in told.values() if row["difference"] is not None]
    assert [abs(round(row["difference"], 4)) for row in better] == [0.15]
    assert better[0]["p"] == 0.03125  # six photos on one side and none on the other
    assert (
        two.ship("runs", "--csv")
        .out.splitlines()[0]
        .endswith("gpu_minutes,public_score,competition")
    )


def test_a_report_is_shown(two):
    folder = two.project / "runs" / "car-classification-v1"
    assert (
        "`ship fetch car-classification-v1` fetches the run's output"
        in two.ship("open", "1").sentence
    )
    (folder / "report.html").write_text("<p>report</p>")
    try:
        outcome = two.ship("open", "1", BROWSER="echo opened %s")
    finally:
        (folder / "report.html").unlink()
    assert f"opened {(folder / 'report.html').resolve().as_uri()}" in outcome.out
    assert outcome.out.splitlines()[-1] == str(folder / "report.html")


def test_all_runs_are_a_page(two):
    folder = two.project / "runs"
    (folder / "car-classification-v2" / "report.html").write_text("<p>report</p>")
    assert two.ship("runs", "--html").out.splitlines()[-1] == str(folder / "runs.html")
    assert json.loads(two.ship("runs", "--html", "--json").out)["page"] == str(folder / "runs.html")
    page = (folder / "runs.html").read_text(encoding="utf-8")
    first, second = sorted(re.findall(r"<tr><th scope=.row.>.*", page))
    assert "car-classification-v1" in first
    assert "the first run" in first
    assert "skill: 30 to 36, the kernel" in second
    assert 'href="car-classification-v2/report.html"' in second
    assert "car-classification-v1/report.html" not in page
    assert (
        len(re.findall(r"<title>car-classification-v[12]: validation .*, public score", page)) == 2
    )
    assert "public score" in page


def test_two_runs_are_compared(two):
    out = two.ship("compare", "1", "2").out
    assert "skill: 30 -> 36" in out
    assert re.search(r"^\+ .*% 3 or 0\]\)$", out, re.MULTILINE)
    assert "40 photos validated both: the accuracy of car-classification-v2 is 0.1500 above" in out
    assert "only car-classification-v2 gets 6 right:\n  30.jpg: 0, taken for 1" in out
    told = json.loads(two.ship("compare", "2", "1", "--json").out)
    assert told["photos"]["only_second"] == []
    assert len(told["photos"]["only_first"]) == 6
    assert told["changed"]["skill"] == ["36", "30"]


def test_runs_without_probabilities_are_compared_as_far_as_they_go(world):
    world.arrives_once()
    world.ship("push", "--set", "limit=3")
    out = world.ship("compare", "1", "2").out
    assert "limit: - -> 3" in out
    assert (
        "no probabilities of car-classification-v1 here: `ship fetch car-classification-v1`" in out
    )
    assert Path(world.project / "runs" / "kernels" / "car-classification-v2.py").is_file()


def test_the_newest_run_is_the_newest_version_also_where_an_older_one_is_adopted(world):
    for shift in ("0", "1"):
        assert world.ship("--set", f"shift={shift}").status == 0
    (world.project / "runs" / "ledger.jsonl").unlink()
    assert world.ship("adopt", "2").status == 0
    assert world.ship("push", "--adopt", "1", "--set", "shift=0").status == 0
    assert "car-classification-v2" in world.ship("submit", "--dry-run").out
    for command in ((), ("push",)):
        outcome = world.ship(*command, "--adopt", "1", "--set", "shift=1")
        assert outcome.status == 1
        assert "the settings of car-classification-v1 are not those of --set but shift=0" in (
            outcome.sentence
        )


def test_a_known_version_that_is_adopted_keeps_its_time(world):
    assert world.ship("bundle").status == world.ship("push").status == 0
    [run] = world.runs
    ledger = Ledger(world.project / "runs" / "ledger.jsonl")
    ledger.append(run.name, time="2026-01-02 03:04:05")
    assert world.ship("adopt", "1").status == 0
    assert [run.time for run in world.runs] == ["2026-01-02 03:04:05"]


@pytest.mark.parametrize("command", [("--adopt", "1"), ("push", "--adopt", "1")])
@pytest.mark.parametrize("more", ["--gpu=t4", "--defaults", "--again", "--continue"])
def test_a_version_that_is_adopted_takes_no_settings(world, command, more):
    outcome = world.ship(*command, more)
    assert outcome.status == 2
    assert f"leave out {more.split('=')[0]}" in outcome.sentence
    assert not world.kaggle.requests
