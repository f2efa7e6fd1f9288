"""Each rule of a report speaks where its evidence is there, and is silent otherwise."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kernelkit.report import advice
from kernelkit.report import writing as report
from kernelkit.report.advice import advise
from kernelkit.report.saved import again, read_run
from saved_run import COMMAND, STAGES, history_of, write_photos, write_run
from tiny_kernel import TINY, kernel

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
LONG = {"stages": [stage | {"epochs": 1 if stage.get("views") else 12} for stage in STAGES]}
CASES = {
    "unfinished": (
        {"stopped_by_time_limit": True, "time_limit": 690.0},
        COMMAND,
        "7 epochs ran on 1 network, of 7 planned for each, within the session of 690 minutes",
    ),
    "cut_short": (
        {"stopped_by_time_limit": True},
        "--image-size 128x128",
        "7 epochs ran on 1 network, of 7 planned for each, within the session. Photos of 128 x 128 "
        "take 0.64 times the time.",
    ),
    "limited": (
        {"settings": {"limit": 20}, "photos": sized(160, 160), "command": f"{COMMAND} --limit=20"},
        f"{COMMAND}-next",
        "4 of 4 classes have 20 photos",
    ),
    "few_epochs": ({}, "--epochs 12", "The stages have 6 epochs together"),
    "no_gpu": ({"seconds": 600.0}, "", "It took 0:10:00 on a CPU with photos of 160 x 160 pixels"),
    "rare_class": (
        {"wrong": {79: 0}, "photos": sized(160, 160).iloc[:63]},
        "",
        "class 3 (3). Of their 20 held-out photos 19 are right",
    ),
    "rough_validation": ({}, "--folds 5", "on 80 photos is 95.4% to 100.0%"),
    "label_issues": (
        {"wrong": SPREAD, "suspects": [1, 22]},
        "",
        "2 of 80 held-out photos look like another class",
    ),
    "conflicting_copies": (
        {"photos": copies()},
        "",
        "2 training photos in 1 group are near-identical but labelled differently",
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
        "--stages head:0.0:0.001:1:views=4,half:0.5:0.001:6,all:1.0:0.001:6",
        "only 82.0% of the training photos right, 83.0% of the held-out ones",
    ),
    "idle_stage": (
        {"history": history_of(val_accuracy=[0.93, 0.7, 0.75, 0.8, 0.81, 0.8, 0.82])},
        "--stages head:0.0:0.001:1:views=4,half:0.5:0.0003:3,all:1.0:0.0003:3",
        "Its best validation accuracy is 82.00%, after 93.00% before it",
    ),
    "shrunken_batch": (
        {"photos_at_once": {"b3/half": 16, "b3/all": 3}, "devices": ["GPU:0", "GPU:1"]},
        "--image-size 112x112",
        "In b3/all a device takes 3 photos at once, of its 16 of each batch",
    ),
    "input_bound": (
        {"history": history_of().assign(input_bound=[0.9, 0.9, *[0.2] * 5]),
         "settings": {"cache": False, "fuse": True}},
        "--cache yes",
        "20% of the training time",
    ),
    "another_member": (
        {"wrong": SPREAD, "members": {"b3": SPREAD, "next": {5: 1, 26: 2, 47: 3, 68: 0}}},
        "b3:MobileNet:image_size=160x160,next:MobileNet:image_size=160x160,"
        "efficientnetv2s:EfficientNetV2S",
        "for 4 of the 4 photos that the blend has wrong one of them is right",
    ),
}  # fmt: skip

# What is nearly evidence, for each rule.
SILENT = {
    "unfinished": {"stopped_by_time_limit": False, "time_limit": 690.0},
    "cut_short": {"stopped_by_time_limit": False, "time_limit": 690.0},
    "limited": {"settings": {"limit": 21}, "photos": sized(160, 160)},
    "few_epochs": {"settings": LONG},
    "no_gpu": GPU | {"seconds": 600.0},
    "rare_class": {"photos": sized(160, 160).iloc[:75]},
    "rough_validation": {"folds": 5},
    "label_issues": {"wrong": SPREAD},
    "conflicting_copies": {"photos": sized(160, 160)},
    "harmful_views": {"val_accuracy": 0.95, "val_accuracy_tta": 0.9125},  # three photos of 80
    "larger_photos": {"wrong": SMALL_WRONG, "photos": sized(100, 150)},  # the network sees 160
    "dominant_pair": {"wrong": SPREAD},
    "overfitting": {"history": history_of(val_loss=[0.3, 0.4, 0.35, 0.3, 0.28, 0.27, 0.26])},
    "underfitting": {"history": history_of(FLAT, [0.5, 0.55, 0.6, 0.7, 0.84, 0.85, 0.83])},
    "idle_stage": {"history": history_of(val_accuracy=[0.9, 0.7, 0.75, 0.8, 0.9, 0.91, 0.92])},
    "shrunken_batch": {"photos_at_once": {"b3/all": 8}},
    "input_bound": {"history": history_of().assign(input_bound=[0.9, 0.9, *[0.04] * 5])},
    "another_member": {"wrong": SPREAD, "members": {"b3": SPREAD, "next": SPREAD}},
}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_speaks_with_its_evidence_and_a_command(tmp_path, rule):
    changes, command, evidence = CASES[rule]
    found = rules_of(read_run(write_run(tmp_path, **changes)))
    assert rule in found
    assert evidence in found[rule].evidence
    assert command in found[rule].command
    assert bool(command) == bool(found[rule].command)
    if command:
        assert found[rule].command.startswith(COMMAND)


@pytest.mark.parametrize("rule", SILENT)
def test_a_rule_without_evidence_says_nothing(tmp_path, rule):
    assert rule not in rules_of(read_run(write_run(tmp_path, **SILENT[rule])))


def test_every_rule_has_both_tests():
    rules = re.findall(r'yield Advice\(\s*"(\w+)"', Path(advice.__file__).read_text())
    assert set(rules) == set(CASES) == set(SILENT)


def test_a_run_without_faults_gets_no_advice(tmp_path):
    assert advise(read_run(write_run(tmp_path, settings=LONG, folds=5))) == []


@pytest.mark.parametrize(
    ("rule", "file"),
    [("label_issues", "suspects.csv"), ("conflicting_copies", "report/duplicates.csv")],
)
def test_a_list_that_a_person_marks_is_named_as_exclude_finds_it(tmp_path, monkeypatch, rule, file):
    """The report lies in the run's folder; the command is typed in the folder of kernel.py."""
    folder = write_run(tmp_path / "output-2", **CASES[rule][0])
    monkeypatch.chdir(tmp_path)
    assert f"`--exclude output-2/{file}`" in rules_of(read_run(folder))[rule].evidence
    kaggle = CASES[rule][0] | {"command": "python /kaggle/src/script.py"}
    folder = write_run(tmp_path / "kaggle", **kaggle)
    assert f"`--exclude {file}`" in rules_of(read_run(folder))[rule].evidence


def test_the_most_promising_comes_first(tmp_path):
    photos = sized(160, 160)
    run = write_run(tmp_path, wrong=SPREAD, suspects=[1, 22], photos=photos, settings={"limit": 20})
    said = advise(read_run(run))
    assert [advice.gain for advice in said] == sorted((a.gain for a in said), reverse=True)
    rules = [advice.rule for advice in said]
    assert rules == ["limited", "few_epochs", "label_issues", "rough_validation"]


def test_a_run_that_time_cut_short_is_told_nothing_that_takes_longer(tmp_path):
    photos, cut = sized(640, 640), {"stopped_by_time_limit": True}
    said = rules_of(read_run(write_run(tmp_path, wrong=SPREAD, photos=photos, **cut)))
    assert list(said) == ["unfinished", "cut_short"]


def test_photos_far_larger_than_what_the_network_sees_are_advice(tmp_path):
    run = read_run(write_run(tmp_path / "large", wrong=SPREAD, photos=sized(640, 640)))
    assert "643 pixels wide" in rules_of(run)["larger_photos"].evidence
    run = read_run(write_run(tmp_path / "small", wrong=SPREAD, photos=sized(200, 200)))
    assert "larger_photos" not in rules_of(run)


def test_a_run_of_the_head_alone_is_told_to_train_the_backbone(tmp_path):
    command = f"{COMMAND} --stages head:0:1e-3:1:views=4"
    run = write_run(tmp_path, settings={"stages": STAGES[:1]}, command=command)
    advice = rules_of(read_run(run))["few_epochs"]
    assert "Only the head was fitted" in advice.evidence
    assert advice.command == f"{COMMAND}-next"


def test_stages_that_were_given_are_given_with_more_epochs(tmp_path):
    command = f"{COMMAND} --stages head:0:0.001:1:views=4,half:0.5:0.001:3,all:1:0.001:3"
    advice = rules_of(read_run(write_run(tmp_path, command=command)))["few_epochs"]
    assert advice.command == (
        f"{COMMAND}-next --stages head:0.0:0.001:1:views=4,half:0.5:0.001:12,all:1.0:0.001:12"
    )
    run = write_run(tmp_path / "one", settings={"stages": [*STAGES[:1], STAGES[1] | {"epochs": 1}]})
    advice = rules_of(read_run(run))["few_epochs"]
    assert advice.evidence.startswith("The stages have 1 epoch together;")


def test_nothing_is_advised_that_the_run_had(tmp_path):
    history = history_of().assign(input_bound=0.5)
    settings = {"cache": True, "fuse": True}
    run = write_run(tmp_path, history=history, settings=settings)
    assert rules_of(read_run(run))["input_bound"].command.endswith("--interpolation nearest")


def test_a_new_member_goes_beside_those_that_were_given(tmp_path):
    command = f"{COMMAND} --weights drawn.h5 --members b3:Plain,next:Plain:image_size=48"
    changes = CASES["another_member"][0] | {"command": command, "weights": "drawn.h5"}
    advice = rules_of(read_run(write_run(tmp_path / "one", **changes)))["another_member"]
    wanted = "--members b3:Plain,next:Plain:image_size=48,efficientnetv2s:EfficientNetV2S"
    assert f"--weights imagenet {wanted}" in advice.command
    drawn = changes | {"weights": "drawn"}
    assert "another_member" not in rules_of(read_run(write_run(tmp_path / "two", **drawn)))


def test_a_run_on_kaggle_is_repeated_by_ship(tmp_path):
    run = read_run(write_run(tmp_path, command="python /kaggle/src/script.py"))
    assert again(run, tta=1, image_size="208x208") == (
        "ship push --set tta=1 --set image_size=208x208"
    )


def test_a_run_on_kaggle_keeps_its_other_settings(tmp_path):
    command = "python /kaggle/src/script.py --recipe=quick --image-size=160 --limit=60"
    run = read_run(write_run(tmp_path, command=command, stopped_by_time_limit=True))
    assert again(run, limit=None, image_size="208x208") == (
        "ship push --set recipe=quick --set image_size=208x208"
    )
    assert rules_of(run)["unfinished"].command == "ship --continue"


def test_a_rehearsed_run_is_rehearsed_again(tmp_path):
    folder = write_run(tmp_path, command="python /kaggle/src/script.py --recipe=dry")
    (folder / "report.html").write_text("")
    report.note_score(folder, 0.9, "By this machine's Kaggle", "ship rehearse --data photos")
    wanted = "ship rehearse --data photos --set recipe=dry --set folds=5"
    assert rules_of(read_run(folder))["rough_validation"].command == wanted


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


@pytest.mark.parametrize("rule", [rule for rule, case in CASES.items() if case[1]])
def test_the_advised_command_works_as_printed(competition, tmp_path, rule):
    """The kernel reads the photos and prints its plan, in this process."""
    given = shlex.join([*TINY, "--data", str(competition), "--output", str(tmp_path / "output")])
    changes = CASES[rule][0] | {"command": f"python kernel.py {given}"}
    advice = rules_of(read_run(write_run(tmp_path / "run", **changes)))[rule]
    assert kernel.main([*shlex.split(advice.command)[2:], "--plan"]) == 0


@pytest.mark.parametrize("rule", [rule for rule, case in CASES.items() if case[1]])
def test_what_is_advised_for_kaggle_are_settings_of_the_kernel(tmp_path, monkeypatch, rule):
    """`ship push --set` writes them into the kernel, which reads them in this process."""
    command = "python /kaggle/src/script.py --seed=7"
    run = write_run(tmp_path / "run", **CASES[rule][0] | {"command": command})
    advice = rules_of(read_run(run))[rule]
    if rule == "unfinished":
        assert advice.command == "ship --continue"
        return
    program, step, *words = shlex.split(advice.command)
    assert (program, step) == ("ship", "push")
    assert set(words[::2]) == {"--set"}
    written = dict(word.split("=", 1) for word in words[1::2])
    assert written["seed"] == "7"
    monkeypatch.setattr(kernel, "OVERRIDES", written)
    kernel.read_arguments(["--data", "photos"])


def test_a_network_that_overfits_smoothed_labels_gets_mixup_before_a_clean_stage(tmp_path):
    run = read_run(write_run(tmp_path, **CASES["overfitting"][0]))
    run.settings.update(label_smoothing=0.1, weight_decay=0.05)
    assert "half:0.5:0.001:3:mixup=0.2,all:1.0:0.001:3" in rules_of(run)["overfitting"].command


def test_photos_on_disk_make_no_rule_speak(tmp_path):
    photos = write_photos(tmp_path / "photos", 4, 20, 30)
    run = write_run(tmp_path / "run", photos=photos, settings=LONG, folds=5)
    assert advise(read_run(run)) == []
