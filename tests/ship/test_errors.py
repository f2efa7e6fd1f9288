"""Whatever goes wrong, `ship` ends with one sentence, and no secret is in it."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kernelkit.core.boundary import Boundary
from kernelkit.core.problem import Problem
from ship.__main__ import main
from ship.kaggle.client import describe
from ship.kaggle.client_process import ClientProcess
from ship.kaggle.timeouts import Timeouts
from shipping import KEY, REPOSITORY


def remember(world, **values) -> Path:
    """Write a state that an earlier `ship` has left, and return the folder of it."""
    runs = world.project / "runs"
    runs.mkdir()
    (runs / "state.json").write_text(json.dumps(values))
    return runs


def test_an_unexpected_error_is_one_sentence_with_a_traceback_in_a_file(world):
    runs = world.project / "runs"
    world.ship("bundle")
    kernel = world.project / "kernel.py"
    kernel.write_text(
        kernel.read_text().replace('"config": config', '"config": {"time_limit": "x"}')
    )
    outcome = world.ship("push")
    assert outcome.status == 1
    assert len(outcome.err.splitlines()) == 1
    assert outcome.sentence.startswith(
        "an unexpected error while checking the gpu-quota (TypeError: "
    )
    assert f"the full traceback is in {runs / 'traceback.txt'}. What was sent" in outcome.sentence
    assert outcome.sentence.endswith("`ship doctor` checks everything.")
    text = (runs / "traceback.txt").read_text()
    assert text.startswith("Traceback (most recent call last)")
    assert "in _gpu_quota" in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("null", "all of it: input should be a valid dictionary"),
        ("[]", "all of it: input should be a valid dictionary"),
        ("{", "Expecting property name"),
        ('{"datasets": 3}', "datasets: input should be"),
        ('{"datasets": {"a/b": {"ready": 7}}}', "datasets.a/b.ready: input should be a valid bool"),
        ('{"push": {"run": null}}', "push.run: input should be"),
        ('{"settings": {"a": 1}}', "settings.a: input should be a valid string"),
    ],
)
def test_a_state_of_another_type_is_one_sentence(world, text, reason):
    runs = remember(world)
    (runs / "state.json").write_text(text)
    outcome = world.ship("bundle")
    assert outcome.status == 1
    assert f"state.json can't be read ({reason}" in outcome.sentence
    assert "move it away and run `ship` again" in outcome.sentence


def test_a_state_of_an_older_ship_is_no_obstacle(world):
    remember(world, run=None)
    assert world.ship("bundle").status == 0


def test_no_secret_is_in_the_sentence_about_a_file(world):
    runs = remember(world)
    metadata = world.project / "kernel-metadata.json"
    metadata.write_text(metadata.read_text().replace("/car-classification", f"/{KEY}", 1))
    row = {"run": f"{KEY}-v1", "kernel": f"alice/{KEY}", "version": 1, "status": "complete"}
    (runs / "ledger.jsonl").write_text(json.dumps(row) + "\n")
    (runs / f"{KEY}-v1.part").write_text("a file where a folder should be")
    outcome = world.ship("fetch")
    assert outcome.status == 1
    assert "[secret]-v1.part can't be used (File exists)" in outcome.sentence
    assert "while fetching the output of [secret]-v1" in outcome.sentence
    assert KEY not in outcome.out + outcome.err


def test_a_secret_is_not_cut_before_it_is_hidden(tmp_path, capsys):
    boundary = Boundary(
        "ship", tmp_path / "traceback.txt", "", hide=lambda text: text.replace(KEY, "[secret]")
    )

    def fail():
        raise ValueError("x" * 190 + KEY)

    assert boundary.run(fail) == 1
    assert KEY[:8] not in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_a_full_disk_is_one_sentence(world):
    runs = remember(world)
    (runs / ".lock.who").symlink_to("/dev/full")
    outcome = world.ship("bundle")
    assert outcome.status == 1
    assert outcome.sentence.startswith(f"the disk of {runs} is full (while packing the dataset")


def test_without_room_for_temporary_files(monkeypatch, capsys):
    def refuse():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ship ")


def test_the_client_tells_of_a_full_disk():
    error = OSError(errno.ENOSPC, "No space left on device", "submission.csv.part")
    assert describe(error)["kind"] == "disk"


def test_a_full_disk_of_the_client_is_named(tmp_path):
    error = describe(OSError(errno.ENOSPC, "No space left on device"))
    path = {"path": str(tmp_path / "submission.csv")}
    with pytest.raises(Problem, match=f"the disk of {tmp_path} is full .during file x.: free some"):
        ClientProcess(tmp_path / "scratch", Timeouts(), {})._reason(error, "file x", path)


def test_an_error_before_the_project_is_found_is_one_sentence(world):
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(
            [
                sys.executable,
                "-P",
                "-c",
                "import os, sys\nos.rmdir(os.getcwd())\n"
                "from ship.__main__ import main\nsys.exit(main(['runs']))",
            ],
            cwd=folder,
            env=world.environment,
            capture_output=True,
            text=True,
        )
        os.makedirs(folder, exist_ok=True)
    assert process.returncode == 1
    [line] = process.stderr.splitlines()
    assert line.startswith("ship: the current folder can't be used (No such file or directory)")


def test_a_damaged_ledger_does_not_fail_a_run_that_has_its_score(world):
    runs = remember(world)
    (runs / "ledger.jsonl").write_text('{"run": "other-v1", "public_score": "good"}\n[1]\nnull\n')
    outcome = world.ship()
    assert outcome.status == 0, outcome
    assert "public score of car-classification-v1: 0.88889" in outcome.out
    assert world.ship("runs").status == 0


@pytest.mark.parametrize(
    ("code", "cure"),
    [(403, "accept the competition's rules at"), (404, "correct the block of kernel.py")],
)
def test_a_table_that_kaggle_does_not_give(world, code, cure):
    world.kaggle.faults.add("DownloadDataFile", "status", times=99, code=code)
    outcome = world.ship()
    assert outcome.status == 1
    assert f"sample-submission.csv ({code})" in outcome.sentence
    assert cure in outcome.sentence
    world.kaggle.faults.clear()
    world.arrives_once()


NOBODY = """
import pwd


def unknown(number):
    raise KeyError(number)


pwd.getpwuid = unknown
"""


def test_a_user_whom_the_system_lacks_and_no_home(world, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NOBODY)
    nowhere = {"HOME": None, "USERPROFILE": None, "KAGGLE_CONFIG_DIR": None}
    path = f"{tmp_path}:{REPOSITORY / 'lib'}"
    for command in ("doctor", "bundle", "push"):
        outcome = world.ship(command, **nowhere, PYTHONPATH=path)
        assert outcome.status == 0, outcome
    assert not list(world.project.glob("~*"))


def test_ctrl_c_while_it_starts(world, tmp_path):
    text = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "slugify.py").write_text(text)
    outcome = world.ship("runs", PYTHONPATH=f"{tmp_path}:{REPOSITORY / 'lib'}")
    assert (outcome.status, outcome.out) == (130, "")
    assert outcome.err == "ship: interrupted while starting: nothing was done.\n"


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "0", "-3", "1e9", "many", ""])
def test_hours_that_bound_nothing(world, text):
    outcome = world.ship("sweep", "shift=0,1", f"--hours={text}")
    assert outcome.status == 2
    assert "--hours" in outcome.sentence
    assert not world.kaggle.requests


@pytest.mark.parametrize("name", ["TIMEOUT", "RETRIES", "POLL", "PROVE"])
@pytest.mark.parametrize("text", ["nan", "inf", "-1", "x", ""])
def test_a_pace_that_is_none(name, text):
    with pytest.raises(Problem, match=f"SHIP_{name}: "):
        Timeouts.from_environment({f"SHIP_{name}": text})


CONFIGS = ["null", "[]", "7", "{}", '{"recipe": null}', "[" * 5000, '{"weights_files": "x"}']


@pytest.mark.parametrize("config", CONFIGS)
def test_a_cached_config_that_is_none_is_asked_for_again(world, config):
    assert world.ship("bundle").status == 0
    kept = world.project / "runs" / "config.json"
    whole = json.loads(kept.read_text())
    kept.write_text(f'{{"key": "{whole["key"]}", "config": {config}}}')
    assert world.ship("bundle").status == 0
    assert json.loads(kept.read_text()) == whole


@pytest.mark.parametrize("answer", ["None", "[]", "7", "{'recipe': 1}"])
def test_a_kernel_that_answers_something_else(world, answer):
    kernel = world.project / "kernel.py"
    spy = f"import json\nprint(json.dumps({answer})) if '--show-config' in sys.argv else 0\n"
    text = kernel.read_text().replace("import csv\n", f"import csv\nimport sys\n{spy}sys.exit()\n")
    kernel.write_text(text)
    assert "--show-config does not answer: " in world.ship("push").sentence


@pytest.mark.parametrize("name", ["gone.py", "lib", "..", "/nowhere/kernel.py", "a\0b", 7, ["x"]])
def test_a_code_file_that_is_none(world, name):
    path = world.project / "kernel-metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code_file": name}))
    for command in ("", "doctor", "bundle", "push", "sweep shift=0", "runs", "submit x.csv"):
        outcome = world.ship(*command.split())
        assert outcome.status == (0 if command == "runs" else 1), outcome
        assert "code_file" in outcome.out + outcome.err or command in ("runs", "submit x.csv")
        assert "unexpected error" not in outcome.err
    assert not world.calls("CreateDataset", "SaveKernel")
