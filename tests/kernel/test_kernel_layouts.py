"""The kernel runs folders that its block does not fit, and lets their metric steer it."""

import json

import numpy as np
import pandas as pd
import pytest

from kernel_runs import run
from kernelkit.core.metrics import METRICS
from sample.competition import draw_competition
from tiny_competition import write_photo

ONE = ("--stages", "head:0:3e-2:3,all:1:3e-3:3")


@pytest.mark.slow
def test_probability_columns_and_log_loss_without_a_block(tmp_path, capsys):
    data, output = tmp_path / "data", tmp_path / "output"
    draw_competition(data, 8, 2, (96, 128), layout="dog-breed")
    assert run(data, output, *ONE) == 0
    said = capsys.readouterr().out
    assert 'submission="probabilities"' in said
    assert "val_log-loss" in said
    metrics = json.loads((output / "metrics.json").read_text())
    assert (metrics["metric"], metrics["greater_is_better"]) == ("log-loss", False)
    assert metrics["submission"] == "probabilities"
    saved = np.load(output / "probabilities.npz")
    classes = saved["classes"].tolist()
    truth = np.asarray([classes.index(label) for label in saved["validation_labels"]])
    score = METRICS["log-loss"].score(saved["validation"], truth)
    assert metrics["score"] == pytest.approx(score)
    assert metrics["score_low"] < score < metrics["score_high"]
    history = pd.read_csv(output / "history.csv")
    assert (history["val_score"] == history["val_loss"]).all()
    best = [stage["best_val_score"] for stage in metrics["stages"]]
    assert min(best) == pytest.approx(history["val_score"].min())
    made = pd.read_csv(output / "submission.csv")
    assert made.columns[1:].tolist() == sorted(made.columns[1:])
    assert np.float32(made.iloc[:, 1:]).tolist() == saved["test"].tolist()
    assert "Validation log loss of what is submitted" in (output / "report.html").read_text()


@pytest.mark.slow
def test_a_folder_of_class_folders_without_tables_or_test_photos(tmp_path):
    for name in ("cat", "dog"):
        for number in range(16):
            write_photo(tmp_path / "pets" / name / f"{name}{number}.jpg")
    assert run(tmp_path / "pets", tmp_path / "output", *ONE) == 0
    metrics = json.loads((tmp_path / "output" / "metrics.json").read_text())
    assert (metrics["classes"], metrics["test_images"]) == (["cat", "dog"], 0)
    assert (tmp_path / "output" / "submission.csv").read_text() == "Id,label\n"
