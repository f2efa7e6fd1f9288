"""The dry run is a transfer: pre-trained on drawn vehicles, it learns ten other kinds of cars."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

import pretrain
from equipment import EQUIPMENT
from kernelkit.train.backbones import Plain
from sample.bodies import CARS
from sample.competition import plan
from sample.features import FEATURES
from vehicles import VEHICLES

REPOSITORY = Path(__file__).parents[2]
WEIGHTS = REPOSITORY / "lib" / "weights"
FILE = WEIGHTS / "plain_notop.weights.h5"
SHAPE = (*pretrain.SIZE, 3)


def test_the_weights_are_small_and_the_manifests():
    row = json.loads((WEIGHTS / "manifest.json").read_text())["Plain"]
    content = FILE.read_bytes()
    assert row == {
        "file": FILE.name,
        "url": None,  # comes with the repository
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": None,
        "licence": "MIT",
    }
    assert len(content) < 300_000


def test_no_kind_of_the_competition_is_pre_trained_on():
    assert EQUIPMENT.keys() == VEHICLES.keys()
    assert 16 <= len(VEHICLES) <= 24
    assert not VEHICLES.keys() & CARS.keys()
    profiles = {body.profile for body in CARS.values()}
    assert not any(body.profile in profiles for body in VEHICLES.values())
    assert not set(EQUIPMENT.values()) & set(FEATURES.values())


def test_the_backbone_is_the_files():
    loaded = Plain(include_top=False, weights=str(FILE), input_shape=SHAPE)
    stored = []
    with h5py.File(FILE) as file:
        file.visititems(lambda _, item: stored.append(item[()]) if hasattr(item, "dtype") else None)
    assert all(array.dtype == "float32" for array in stored)
    known = sorted(float(np.abs(array).sum()) for array in stored)
    assert len(stored) == len(loaded.weights)
    sums = sorted(float(np.abs(array).sum()) for array in loaded.get_weights())
    np.testing.assert_allclose(sums, known, rtol=1e-5)


def test_the_backbone_has_no_top():
    with pytest.raises(ValueError, match="include_top=False"):
        Plain(include_top=True, weights=None, input_shape=SHAPE)


def test_vehicles_are_drawn_alike_from_a_seed():
    photos, labels = pretrain.draw_vehicles(1, seed=3)
    assert photos.shape == (len(VEHICLES), *SHAPE)
    assert photos.dtype == np.uint8
    assert labels.tolist() == list(range(len(VEHICLES)))
    np.testing.assert_array_equal(pretrain.draw_vehicles(1, seed=3)[0], photos)
    assert (pretrain.draw_vehicles(1, seed=4)[0] != photos).any(axis=(1, 2, 3)).all()


def test_the_pre_training_writes_weights_that_the_backbone_loads(tmp_path):
    file = tmp_path / "plain.weights.h5"
    pretrain.main(["--output", str(file), "--per-kind", "1", "--epochs", "1"])
    loaded = Plain(include_top=False, weights=str(file), input_shape=SHAPE)
    assert loaded.output_shape == (None, 5, 6, 64)
    assert file.stat().st_size < 300_000


@pytest.mark.slow
def test_a_dry_run_tells_the_drawn_cars_apart(tmp_path):
    command = [sys.executable, str(REPOSITORY / "kernel.py"), "--output", "output"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "This is a dry run: a tiny network, pre-trained on drawn vehicles" in done.stdout
    metrics = json.loads((tmp_path / "output" / "metrics.json").read_text())
    assert metrics["recipe"] == "dry"
    assert metrics["weights"] == "drawn"
    stages = metrics["stages"]
    assert [stage["name"] for stage in stages] == ["head", "half", "three-quarters", "all"]
    assert stages[0]["best_val_accuracy"] >= 0.5  # 0.40 to 0.43 with inputs in a wrong range
    assert metrics["val_accuracy_submitted"] >= 0.85
    answers = pd.read_csv(tmp_path / "output" / "submission.csv").set_index("Id").Category
    assert set(answers) == set(range(len(CARS)))
    truth = {f"{photo.name}.jpg": int(photo.label) for photo in plan(60, 10, metrics["seed"])[1]}
    assert sorted(answers.index) == sorted(truth)
    assert answers.eq(pd.Series(truth)).mean() >= 0.85
