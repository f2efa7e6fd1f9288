"""Presets of keras_hub go the whole way: trained, stopped, resumed, predicting."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kernel_runs import check_submission, start
from tiny_kernel import kernel, without_pictures
from tiny_presets import POOLING, save_preset

TWO_DEVICES = Path(__file__).with_name("two_devices.py")
ROWS = {
    "siglip": "SigLIP2B",
    "clip": "CLIPL336",
    "dino2": "DINOv2B",
    "dino3": "DINOv3L",
    "vit": "ViTB384",
    "hgnet": "HGNetV2B6",
}
RESUMED = ("dino2", "hgnet")  # whose positions are no weights, and that has BatchNorm


class Stop(BaseException):
    """Stands for whatever ends a process after its first tuned epoch."""


def arguments(family, folder, *others):
    """Save the family's preset in a folder; return the words that train it."""
    save_preset(family, folder / family, blocks=2)
    return [
        *("--backbone", ROWS[family], "--weights", str(folder / family), "--image-size", "32"),
        *("--batch-size", "4", "--workers", "1", "--tta", "3", *others),
    ]


def stop_after_an_epoch(words):
    """Run until the first tuned epoch is over."""
    check = kernel.Clock.check_epoch

    def end(clock):
        if len(clock.state.history) == 2:
            raise Stop
        check(clock)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel.Clock, "check_epoch", end)
        with pytest.raises(Stop):
            kernel.main(words)


@pytest.mark.slow
@pytest.mark.parametrize("family", POOLING)
def test_a_preset_goes_the_whole_way(family, competition, tmp_path, capsys):
    """Two of them are stopped, go on, and then try means of the weights before and after."""
    assert set(ROWS) == set(POOLING)
    resumed, output = family in RESUMED, tmp_path / "output"
    epochs, interpolate = (2, "yes") if resumed else (1, "no")
    stages = f"head:0:1e-3:1:views=1,all:1:1e-1:{epochs}"
    words = arguments(family, tmp_path, "--stages", stages, "--interpolate", interpolate)
    words += ["--data", str(competition), "--output", str(output)]
    with without_pictures():
        if resumed:
            stop_after_an_epoch(words)
        assert kernel.main(words) == 0
    history = pd.read_csv(output / "history.csv")
    assert list(history.stage) == ["head", *epochs * ["all"]]
    assert list(history.epoch) == [1, *range(1, epochs + 1)]
    assert json.loads((output / "metrics.json").read_text())["resumed"] == resumed
    check_submission(competition, output)
    assert "the head and" in (said := capsys.readouterr().out)
    tuned = history.val_accuracy[1:].max() >= history.val_accuracy[0]  # else the head is kept
    assert ("validation accuracy by the share of tuning" in said) == (tuned and resumed)
    assert np.isfinite(history.val_loss).all()
    ask = ["--predict", str(competition / "test_upload"), "--run", str(output), "--all"]
    assert kernel.main([*ask, "--output", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "predictions.csv").set_index("file")
    with np.load(output / "probabilities.npz") as kept:
        expected = pd.DataFrame(kept["test"], kept["test_ids"], kept["classes"])
    columns = [f"p_{label}" for label in expected]
    assert np.allclose(table.loc[expected.index, columns], expected, atol=1e-5)


@pytest.mark.slow
def test_on_two_devices_in_float16(competition, tmp_path):
    stages = "head:0:1e-3:1:views=1,all:1:1e-1:1"
    words = arguments("siglip", tmp_path, "--stages", stages, "--interpolate", "no")
    process = start(competition, tmp_path / "output", *words, script=TWO_DEVICES)
    said, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    assert "not finite" not in said
    history = pd.read_csv(tmp_path / "output" / "history.csv")
    assert np.isfinite(history.loss).all()
    metrics = json.loads((tmp_path / "output" / "metrics.json").read_text())
    assert len(metrics["devices"]) == 2
    check_submission(competition, tmp_path / "output")
