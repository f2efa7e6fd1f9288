"""Each rule of a report speaks where its evidence is there, and is silent otherwise."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from report.advice import RULES, advise, again
from report.saved import read_run
from saved_run import COMMAND, history_of, write_photos, write_run

KERNEL = Path(__file__).parents[1] / "kernel.py"
FLAT = [0.9, 0.5, 0.6, 0.7, 0.75, 0.8, 0.82]  # an accuracy that still rises at the end


def rules_of(run) -> dict:
    return {advice.rule: advice for advice in advise(run)}


def sized(small_pixels: int, large_pixels: int) -> pd.DataFrame:
    """Return photos of which every class' first half is small and its second half large."""
    rows = np.arange(80)
    side = np.where(rows % 20 < 10, small_pixels, large_pixels) + rows % 7
    return pd.DataFrame(
        {
            "Id": [f"v{row:05d}.jpg" for row in rows],
            "set": "train",
            "label": [f"class {row // 20}" for row in rows],
            "fold": 0,
            "group": rows,
            "width": side,
            "height": side,
            "path": "",
        }
    )


def copies() -> pd.DataFrame:
    """Return photos of which two are the same under different labels, and two under one."""
    photos = sized(160, 160)
    photos.loc[photos.Id.isin(["v00000.jpg", "v00025.jpg"]), "group"] = 1000
    photos.loc[photos.Id.isin(["v00001.jpg", "v00002.jpg"]), "group"] = 1001
    return photos


SMALL_WRONG = {row: (row // 20 + 1) % 4 for row in range(80) if row % 20 < 6}
SPREAD = {1: 1, 22: 2, 43: 3, 64: 0}  # four mistakes, of four pairs of classes
DOMINANT = dict.fromkeys(range(6), 1) | {45: 3}
LOST = {"val_accuracy": 0.95, "val_accuracy_tta": 0.90}
GPU = {"devices": ["/device:GPU:0"]}
CASES = {
    "cut_short": (
        {"stopped_by_time_limit": True, "time_limit": 690.0},
        "--image-size 128x128",
        "7 epochs ran on 1 network, of 7 planned for each, within the session of 690 minutes",
    ),
    "label_suspects": (
        {"wrong": SPREAD, "suspects": [1, 22]},
        "/suspects.csv",
        "2 of 80 held-out photos look like another class",
    ),
    "conflicting_copies": (
        {"photos": copies()},
        "/report/duplicates.csv",
        "2 training photos in 1 groups are near-identical but labelled differently",
    ),
    "harmful_views": (LOST, "--tta 1", "4 more of 80 held-out photos wrong: accuracy 90.00%"),
    "larger_photos": (
        {"wrong": SMALL_WRONG, "photos": sized(100, 400)},
        "--image-size 192x192",
        "Of the smallest third",
    ),
    "dominant_pair": (
        {"wrong": DOMINANT},
        "--image-size 192x192",
        "6 of all 7 mistakes are between these two (6 and 0 in either direction)",
    ),
    "overfitting": (
        {"history": history_of(val_loss=[0.3, 0.4, 0.35, 0.3, 0.28, 0.3, 0.4],
                               val_accuracy=[0.85, 0.87, 0.9, 0.9, 0.9, 0.91, 0.9])},
        "--weight-decay 0.05 --label-smoothing 0.1",
        "97.0% of the training photos right and 90.0% of the held-out ones, a gap of 7.0 points",
    ),
    "underfitting": (
        {"history": history_of(FLAT, [0.5, 0.55, 0.6, 0.7, 0.76, 0.79, 0.83])},
        "--stages head:0:0.001:1:views=4,half:0.5:0.001:6,all:1:0.001:6",
        "only 82.0% of the training photos right, 83.0% of the held-out ones",
    ),
    "idle_stage": (
        {"history": history_of(val_accuracy=[0.93, 0.7, 0.75, 0.8, 0.81, 0.8, 0.82])},
        "--stages head:0:0.001:1:views=4,half:0.5:0.0003:3,all:1:0.0003:3",
        "Its best validation accuracy is 82.00%, after 93.00% before it",
    ),
    "shrunken_batch": (
        {"photos_at_once": {"b3/half": 16, "b3/all": 3}, "devices": ["GPU:0", "GPU:1"]},
        "--image-size 112x112",
        "In b3/all a device takes 3 photos at once, of its 16 of each batch",
    ),
    "input_bound": (
        GPU | {"history": history_of(speed=[100.0, 62, 62, 62, 60, 60, 60])},
        "--cache yes --fuse yes",
        "Stage all costs 1.5 times the arithmetic of stage half",
    ),
    "another_member": (
        {"wrong": SPREAD, "members": {"b3": SPREAD, "next": {5: 1, 26: 2, 47: 3, 68: 0}}},
        "b3:MobileNet,next:MobileNet,efficientnetv2s:EfficientNetV2S",
        "for 4 of the 4 photos that the blend has wrong one of them is right",
    ),
}  # fmt: skip

# What is nearly evidence, for each rule.
SILENT = {
    "cut_short": {"stopped_by_time_limit": False, "time_limit": 690.0},
    "label_suspects": {"wrong": SPREAD},
    "conflicting_copies": {"photos": sized(160, 160)},
    "harmful_views": {"val_accuracy": 0.95, "val_accuracy_tta": 0.9125},  # three photos of 80
    "larger_photos": {"wrong": SMALL_WRONG, "photos": sized(100, 150)},  # the network sees 160
    "dominant_pair": {"wrong": SPREAD},
    "overfitting": {"history": history_of(val_loss=[0.3, 0.4, 0.35, 0.3, 0.28, 0.27, 0.26])},
    "underfitting": {"history": history_of(FLAT, [0.5, 0.55, 0.6, 0.7, 0.84, 0.85, 0.83])},
    "idle_stage": {"history": history_of(val_accuracy=[0.9, 0.7, 0.75, 0.8, 0.9, 0.91, 0.92])},
    "shrunken_batch": {"photos_at_once": {"b3/all": 8}},
    "input_bound": GPU,
    "another_member": {"wrong": SPREAD, "members": {"b3": SPREAD, "next": SPREAD}},
}


@pytest.mark.parametrize(("waited", "says"), [(0.2, True), (0.04, False)])
def test_what_steps_waited_decides_where_it_was_measured(tmp_path, waited, says):
    history = history_of().assign(input_bound=[0.9, *[waited] * 6])  # the first epoch decodes
    found = rules_of(read_run(write_run(tmp_path, history=history)))
    assert ("input_bound" in found) == says
    if says:
        assert f"{waited:.0%} of the training time" in found["input_bound"].evidence


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_speaks_with_its_evidence_and_a_command(tmp_path, rule):
    changes, command, evidence = CASES[rule]
    found = rules_of(read_run(write_run(tmp_path, **changes)))
    assert rule in found
    assert evidence in found[rule].evidence
    assert command in found[rule].command
    assert found[rule].command.startswith(f"{COMMAND}-next ")


@pytest.mark.parametrize("rule", SILENT)
def test_a_rule_without_evidence_says_nothing(tmp_path, rule):
    assert rule not in rules_of(read_run(write_run(tmp_path, **SILENT[rule])))


def test_every_rule_has_both_tests():
    assert {rule.__name__ for rule in RULES} == set(CASES) == set(SILENT)


def test_a_run_without_faults_gets_no_advice(tmp_path):
    assert advise(read_run(write_run(tmp_path))) == []


def test_a_run_on_kaggle_is_repeated_by_ship(tmp_path):
    run = read_run(write_run(tmp_path, command="python /kaggle/src/script.py"))
    assert again(run, tta=1, image_size="208x208") == (
        "ship push --set tta=1 --set image_size=208x208"
    )


def test_a_run_is_repeated_into_another_folder_with_new_values_of_its_options(tmp_path):
    told = "python kernel.py --data photos --image-size 160 --fresh"
    run = read_run(write_run(tmp_path, command=told))
    assert again(run, image_size="192x192", tta=1) == (
        "python kernel.py --data photos --image-size 192x192 --tta 1 --output output-next"
    )


def test_a_run_whose_options_have_equals_signs_is_repeated_into_another_folder(tmp_path):
    told = "python kernel.py --data photos --image-size=160 --output=one"
    run = read_run(write_run(tmp_path, command=told))
    assert again(run, image_size="192x192") == (
        "python kernel.py --data photos --image-size 192x192 --output one-next"
    )


def test_the_kernel_takes_the_settings_that_the_rules_give(tmp_path):
    """Each option is read by the kernel's own command line, which checks all of them."""
    words = []
    for number, (rule, (changes, *_)) in enumerate(CASES.items()):
        run = read_run(write_run(tmp_path / str(number), **changes))
        words += shlex.split(rules_of(run)[rule].command.removeprefix(f"{COMMAND}-next"))
    command = [sys.executable, str(KERNEL), *words, "--show-config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    config = json.loads(done.stdout)["config"]
    assert config["tta"] == 1
    assert [stage["epochs"] for stage in config["stages"]] == [1, 3, 3]
    assert len(config["members"]) == 3


def test_a_network_that_overfits_smoothed_labels_gets_mixup_before_a_clean_stage(tmp_path):
    run = read_run(write_run(tmp_path, **CASES["overfitting"][0]))
    run.settings.update(label_smoothing=0.1, weight_decay=0.05)
    assert "half:0.5:0.001:3:mixup=0.2,all:1:0.001:3" in rules_of(run)["overfitting"].command


def test_photos_on_disk_make_no_rule_speak(tmp_path):
    photos = write_photos(tmp_path / "photos", 4, 20, 30)
    assert advise(read_run(write_run(tmp_path / "run", photos=photos))) == []
