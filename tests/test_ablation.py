"""The benchmark of the recipe's ingredients: whom it compares, and by what."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ablation

LABELS = np.array(["a", "b", "a", "b"])
IDS = np.array(["1", "2", "3", "4"])


def finish(folder: Path, found: str, order=(0, 1, 2, 3)) -> None:
    """Write what a run leaves behind that took 7 seconds and found these classes, in an order."""
    folder.mkdir(parents=True)
    ours = list(order)
    likely = np.array([[letter == "a", letter == "b"] for letter in found], float)[ours]
    np.savez(
        folder / "probabilities.npz",
        classes=np.array(["a", "b"]),
        validation=likely,
        validation_ids=IDS[ours],
        validation_labels=LABELS[ours],
        test=1 - likely,
        test_ids=IDS[ours],
    )
    (folder / "metrics.json").write_text(json.dumps({"seconds": 7}))


def run(monkeypatch, folder: Path, *options: str) -> pd.DataFrame:
    """Run the benchmark and return its table."""
    monkeypatch.setattr(
        sys, "argv", ["ablation.py", str(folder), "--output", str(folder), *options]
    )
    ablation.main()
    return pd.read_csv(folder / "ablation.csv", index_col=0)


def test_differences_are_paired_by_photo_in_whatever_order_they_were_written(monkeypatch, tmp_path):
    finish(tmp_path / "default-1", "abaa")
    finish(tmp_path / "head-alone-1", "bbab", order=(3, 1, 0, 2))
    table = run(monkeypatch, tmp_path, "--only", "default,head alone")
    assert table["accuracy"].to_dict() == {"default": 0.75, "head alone": 0.75}
    alone = table.loc["head alone"]
    assert (alone.difference, alone.p) == (0, 1)
    assert alone.interval == pytest.approx(1.96 * np.sqrt(0.5) / 2)  # one won, one lost, of four
    assert (tmp_path / "ablation.png").stat().st_size > 1000


def test_the_test_photos_are_judged_by_the_solution(monkeypatch, tmp_path):
    finish(tmp_path / "default-1", "bbbb")  # their test photos are all "a"
    pd.DataFrame({"Id": IDS, "label": LABELS}).to_csv(tmp_path / "solution.csv", index=False)
    assert run(monkeypatch, tmp_path, "--test", "--only", "default").accuracy.item() == 0.5


def test_a_run_that_fails_is_named_and_has_no_row(monkeypatch, tmp_path, capsys):
    finish(tmp_path / "default-1", "abab")
    monkeypatch.setattr(ablation, "KERNEL", tmp_path / "missing.py")
    assert list(run(monkeypatch, tmp_path, "--only", "default,no TTA").index) == ["default"]
    assert "no-TTA-1 has not finished: see" in capsys.readouterr().out
    finish(tmp_path / "later" / "no-TTA-1", "abab")
    with pytest.raises(SystemExit, match="default-1 has not finished"):
        run(monkeypatch, tmp_path / "later", "--only", "default,no TTA")
