"""Several devices and mixed precision, seen on logical CPU devices: no GPU is needed here."""

import json
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from test_kernel_resume import EPOCHS, start, stop_in

SCRIPT = Path(__file__).with_name("two_devices.py")


@pytest.mark.slow
def test_two_devices_in_float16_go_the_whole_way_and_on_after_a_kill(competition, tmp_path):
    process = start(competition, tmp_path, script=SCRIPT)
    stop_in(process, "most", signal.SIGKILL, 3)
    process = start(competition, tmp_path, script=SCRIPT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert len(metrics["devices"]) == 2
    assert metrics["resumed"]
    history = pd.read_csv(tmp_path / "history.csv")
    assert list(zip(history.stage, history.epoch, strict=True)) == EPOCHS
    assert np.isfinite(history.val_loss).all()
    truth = pd.read_csv(competition.parent / "solution.csv")
    made = pd.read_csv(tmp_path / "submission.csv").merge(truth, on="Id")
    assert (made.Category_x == made.Category_y).mean() > 0.7
