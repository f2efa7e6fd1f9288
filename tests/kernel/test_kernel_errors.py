"""Whatever goes wrong in the kernel ends in one sentence, and loses nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import kernel_runs
from kernel_runs import SCRIPT
from kernelkit.core.locks import only_one
from tiny_kernel import kernel

QUICK = ["--stages", "head:0:1e-3:1", "--tta", "1"]


def run(data, output, *arguments) -> int:
    return kernel_runs.run(data, output, *QUICK, *arguments)


def last_line(capsys) -> str:
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("kernel.py: ")
    return said.removeprefix("kernel.py: ")


def test_an_unexpected_error_is_one_sentence_with_its_traceback_in_a_file(
    competition, tmp_path, monkeypatch, capsys
):
    def fail(*_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("kernelkit.predict.tta.predict_views", fail)
    assert run(competition, tmp_path) == 1
    file = tmp_path / "traceback.txt"
    assert last_line(capsys) == (
        "an unexpected error while predicting (ZeroDivisionError: division by zero); the full "
        f"traceback is in {file}. The same command goes on from the last finished epoch "
        f"({tmp_path / 'state'})."
    )
    assert "ZeroDivisionError" in file.read_text()
    monkeypatch.undo()
    assert run(competition, tmp_path) == 0
    assert not file.exists()  # it would pass for a result


def test_a_folder_in_use_is_left_alone(competition, tmp_path, capsys):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.json").write_text("another process' state")
    with only_one(tmp_path / ".lock", "in use"):
        for more in ([], ["--fresh"]):
            assert run(competition, tmp_path, *more) == 1
            assert f"{tmp_path} is in use by " in last_line(capsys)
    assert (tmp_path / "state" / "state.json").read_text() == "another process' state"


def test_decorations_that_fail_are_warned_of(competition, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise MemoryError("no room for a picture")

    for name in ("confusion_matrix", "class_balance", "photo_grid", "learning_curves"):
        monkeypatch.setattr(f"kernelkit.report.figures.{name}", fail)
    assert run(competition, tmp_path) == 0
    said = capsys.readouterr().out
    for name in ("confusion_matrix", "class_balance", "augmented", "learning_curves"):
        assert f"{name}.png could not be written (no room for a picture)" in said
    assert len(pd.read_csv(tmp_path / "submission.csv")) == 12


def test_an_image_too_small_for_the_backbone_ends_in_a_sentence(competition, tmp_path, capsys):
    arguments = ["--backbone", "xception", "--image-size", "40"]
    assert run(competition, tmp_path, *arguments) == 1
    assert "Xception at 40x40 could not be built" in last_line(capsys)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a small file system of its own")
def test_a_full_disk_is_one_sentence(competition, tmp_path):
    """The output lies on a file system for one epoch's weights: HDF5 crashes when it is full."""
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "-rm"]
    if subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespaces here")
    root = Path(kernel.__file__).parent
    output = tmp_path / "small"
    output.mkdir()
    command = [sys.executable, str(SCRIPT), "--data", str(competition), "--output", str(output)]
    mounted = 'mount -t tmpfs -o size=200k tmpfs "$0" && exec "$@"'
    done = subprocess.run(
        [*namespace, "sh", "-c", mounted, str(output), *command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "lib")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("kernel.py: the disk"), done.stderr
    assert "full" in last
    assert "Traceback" not in done.stderr
