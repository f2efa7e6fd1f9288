"""Presets of keras_hub go the whole way: trained, stopped, resumed, predicting."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kernel_runs import check_submission
from tiny_kernel import kernel
from tiny_presets import POOLING, save_preset

ROWS = {
    "siglip": "SigLIP2B",
    "clip": "CLIPL336",
    "dino2": "DINOv2B",
    "dino3": "DINOv3L",
    "vit": "ViTB384",
    "hgnet": "HGNetV2B6",
}


class Stop(BaseException):
    """Stands for whatever ends a process after its first tuned epoch."""


def arguments(family, folder, data, output):
    return [
        *("--data", str(data), "--output", str(output), "--backbone", family),
        *("--weights", str(folder), "--batch-size", "4", "--workers", "1", "--tta", "3"),
        *("--stages", "head:0:1e-3:1:views=1,all:1:1e-1:2", "--interpolate", "yes"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("family", POOLING)
def test_a_preset_goes_the_whole_way(family, competition, tmp_path, monkeypatch, capsys):
    assert set(ROWS) == set(POOLING)
    save_preset(family, tmp_path / family)
    row = replace(kernel.BACKBONES[ROWS[family]], size=(32, 32), gmacs=0.01)
    monkeypatch.setitem(kernel.BACKBONES, family, row)
    output, check = tmp_path / "output", kernel.Clock.check_epoch
    run = arguments(family, tmp_path / family, competition, output)

    def end(clock):
        if len(clock.state.history) == 2:
            raise Stop
        check(clock)

    monkeypatch.setattr(kernel.Clock, "check_epoch", end)
    with pytest.raises(Stop):
        kernel.main(run)
    monkeypatch.setattr(kernel.Clock, "check_epoch", check)
    assert kernel.main(run) == 0
    history = pd.read_csv(output / "history.csv")
    assert list(zip(history.stage, history.epoch, strict=True)) == [
        *[("head", 1), ("all", 1), ("all", 2)]
    ]
    assert json.loads((output / "metrics.json").read_text())["resumed"]
    check_submission(competition, output)
    assert "the head and" in (said := capsys.readouterr().out)
    assert "validation accuracy by the share of tuning" in said
    assert np.isfinite(history.val_loss).all()
    ask = ["--predict", str(competition / "test_upload"), "--run", str(output), "--all"]
    assert kernel.main([*ask, "--output", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "predictions.csv").set_index("file")
    with np.load(output / "probabilities.npz") as kept:
        expected = pd.DataFrame(kept["test"], kept["test_ids"], kept["classes"])
    columns = [f"p_{label}" for label in expected]
    assert np.allclose(table.loc[expected.index, columns], expected, atol=1e-5)
