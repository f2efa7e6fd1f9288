"""Several machines under TF_CONFIG: one submission, and a sentence where one of them is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kernelkit.core.problem import Problem
from kernelkit.train.devices import worker, worker_folder
from tiny_kernel import kernel

SCRIPT = Path(__file__).parents[1] / "kernel" / "tiny_kernel.py"
SHORT = ["--stages", "head:0:3e-2:1:views=1,half:0.5:1e-2:2", "--tta", "1"]


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nothing uses."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(data: Path, output: Path, *arguments: str) -> list[subprocess.Popen]:
    """Start the kernel on two workers of this machine."""
    root = Path(kernel.__file__).parent
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    started = []
    for number in range(2):
        config = {"cluster": cluster, "task": {"type": "worker", "index": number}}
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(root), str(root / "lib")]),
            "TF_CONFIG": json.dumps(config),
        }
        command = [sys.executable, str(SCRIPT), "--data", str(data), "--output", str(output)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([*command, *arguments], env=environment, **pipes))
    return started


def ends(processes) -> list[tuple[int, str, str]]:
    """Return each one's status, output and errors; none outlives the test."""
    try:
        said = [process.communicate(timeout=420) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *texts) for p, texts in zip(processes, said, strict=True)]


@pytest.mark.slow
def test_a_lost_worker_ends_the_other_and_both_go_on_to_one_submission(competition, tmp_path):
    first, second = processes = start(competition, tmp_path, *SHORT)
    for line in first.stdout:
        if line.startswith("[stage 2/2 half] epoch 1/2"):
            second.send_signal(signal.SIGKILL)
            break
    (status, _, said), _ = ends(processes)
    assert status == 1
    assert "Another of the 2 workers is gone, so worker 0 ends too" in said
    assert (tmp_path / "state" / "state.json").exists()

    chief, other = ends(start(competition, tmp_path, *SHORT))
    assert chief[0] == other[0] == 0, chief[2] + other[2]
    assert "worker 1: results are written by the first worker alone" in other[1]
    assert "epoch 1/2" not in chief[1]  # nothing trains twice
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["resumed"]
    history = pd.read_csv(tmp_path / "history.csv")
    assert list(history.epoch) == [1, 1, 2]
    assert np.isfinite(history.val_loss).all()
    sample = pd.read_csv(competition / "sample-submission.csv")
    assert list(pd.read_csv(tmp_path / "submission.csv").Id) == list(sample.Id)


def test_the_first_worker_writes_where_it_was_told_and_others_begin_from_there(
    tmp_path, monkeypatch
):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.json").write_text("{}")
    assert worker_folder(tmp_path) == tmp_path
    for number in (0, 1):
        cluster = {"worker": ["a:1", "b:1"]}
        config = {"cluster": cluster, "task": {"type": "worker", "index": number}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
        assert worker() == (number, 2)
        folder = worker_folder(tmp_path)
        assert (folder == tmp_path) == (number == 0)
        assert (folder / "state" / "state.json").read_text() == "{}"


@pytest.mark.parametrize("text", ["{", "[1]", '{"cluster": 3}'])
def test_a_tf_config_that_can_not_be_read_ends_in_a_sentence(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(Problem, match="TF_CONFIG can't be read"):
        worker()


def test_without_tf_config_there_is_one_worker(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert worker() == (0, 1)
