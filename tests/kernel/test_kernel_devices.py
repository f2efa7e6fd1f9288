"""Several devices and mixed precision, seen on logical CPU devices: no GPU is needed here."""

import json
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kernel_runs import start, stop_in

SCRIPT = Path(__file__).with_name("two_devices.py")
STAGES = ["--stages", "cached:0:3e-2:1:views=1,head:0:3e-2:3,all:1:1e-2:3", "--head", "hidden"]
STAGES += ["--weight-decay", "0.01"]


@pytest.mark.slow
def test_two_devices_in_float16_go_the_whole_way_and_on_after_a_kill(competition, tmp_path):
    process = start(competition, tmp_path, *STAGES, script=SCRIPT)
    stop_in(process, "all", signal.SIGKILL, 3)
    process = start(competition, tmp_path, *STAGES, script=SCRIPT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert len(metrics["devices"]) == 2
    assert metrics["resumed"]
    history = pd.read_csv(tmp_path / "history.csv")
    assert list(history.stage) == ["cached"] + 3 * ["head"] + 3 * ["all"]
    assert list(history.epoch) == [1, 1, 2, 3, 1, 2, 3]
    assert np.isfinite(history.val_loss).all()
    truth = pd.read_csv(competition.parent / "solution.csv")
    made = pd.read_csv(tmp_path / "submission.csv").merge(truth, on="Id")
    assert (made.Category_x == made.Category_y).mean() > 0.7
