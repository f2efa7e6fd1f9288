"""Write what a run saves, without running one: for the tests of its report."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd

from kernelkit.core.contract import MemberMetrics, Metrics
from kernelkit.core.contract import write_metrics as write
from kernelkit.report.results import stage_metrics

STAGES = [
    {"name": "head", "fraction": 0.0, "learning_rate": 1e-3, "epochs": 1, "views": 4},
    {"name": "half", "fraction": 0.5, "learning_rate": 1e-3, "epochs": 3},
    {"name": "all", "fraction": 1.0, "learning_rate": 1e-3, "epochs": 3},
]
SETTINGS = {
    "recipe": "default",
    "backbone": "MobileNet",
    "image_size": [160, 160],
    "weight_decay": 0.0,
    "batch_size": 32,
    "stages": [
        stage | {"scale": 1.0, "mixup": 0.0, "cutmix": 0.0, "pseudo": 0.0} for stage in STAGES
    ],
}
COMMAND = "python kernel.py --data photos --output results"
TRAINING = [0.99, 0.8, 0.9, 0.93, 0.95, 0.96, 0.97]
VALIDATION = [0.85, 0.87, 0.90, 0.91, 0.92, 0.93, 0.95]


def history_of(accuracy=TRAINING, val_accuracy=VALIDATION, val_loss=None, member="b3"):
    """Return the history of a network that ran the stages above."""
    names = [s["name"] for s in STAGES for _ in range(s["epochs"])]
    rates = [np.nan, *[1e-3] * 6]
    rows = {
        "member": member,
        "fold": 0,
        "stage": names,
        "epoch": [1, 1, 2, 3, 1, 2, 3],
        "loss": 1 - np.asarray(accuracy),
        "accuracy": accuracy,
        "val_loss": 1 - np.asarray(val_accuracy) if val_loss is None else val_loss,
        "val_accuracy": val_accuracy,
        "val_score": val_accuracy,
        "val_error": 0.01,
        "learning_rate": rates,
        "seconds": 10.0,
        "images_per_second": [100.0, 90, 90, 90, 60, 60, 60],
        "input_bound": 0.0,
    }
    return pd.DataFrame(rows)


def probabilities_of(truth: np.ndarray, wrong: dict[int, int], classes: int) -> np.ndarray:
    """Return float32 [photos, classes]: 0.9 for the label, or for the class in `wrong`."""
    best = truth.copy()
    for row, position in wrong.items():
        best[row] = position
    rest = 0.1 / max(1, classes - 1)
    made = np.full((len(truth), classes), rest, np.float32)
    made[np.arange(len(truth)), best] = 0.9
    return made


def write_run(
    folder: Path,
    classes: int = 4,
    per_class: int = 20,
    tests: int = 30,
    wrong: dict[int, int] | None = None,
    members: dict[str, dict[int, int]] | None = None,
    photos: pd.DataFrame | None = None,
    history: pd.DataFrame | None = None,
    suspects: list[int] = (),
    names: list[str] | None = None,
    settings: dict | None = None,
    **metrics,
) -> Path:
    """Write a finished run into a folder and return it.

    Args:
        folder: is made.
        classes: how many.
        per_class: held-out photos of each.
        tests: test photos.
        wrong: of held-out photos (their rows), the class that each is taken for.
        members: the same for each member, by its name; one that agrees with the blend by default.
        photos: photos.csv; none is written by default.
        history: as `history_of` makes it, which is the default.
        suspects: rows of held-out photos whose label is suspicious.
        names: the classes'.
        settings: others than those above.
        metrics: other values of fields of metrics.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = names or [f"class {number}" for number in range(classes)]
    truth, wrong = np.repeat(np.arange(classes), per_class), wrong or {}
    members = members or {"b3": wrong}
    history = history_of() if history is None else history
    settings = SETTINGS | (settings or {})
    write_probabilities(folder, names, truth, tests, wrong, members, settings)
    history.to_csv(folder / "history.csv", index=False)
    if suspects:
        write_suspects(folder, names, truth, {r: c for r, c in wrong.items() if r in suspects})
    if photos is not None:
        photos.to_csv(folder / "photos.csv", index=False)
    accuracy = 1 - len(wrong) / len(truth)
    write_metrics(folder, names, members, accuracy, len(truth), tests, history, metrics)
    return folder


def write_probabilities(
    folder: Path, names, truth, tests: int, wrong, members, settings: dict
) -> None:
    """Write probabilities.npz of the blend, and of each member."""
    classes = len(names)
    test = probabilities_of(np.arange(tests) % classes, {}, classes)
    shared = {
        "validation_ids": np.asarray([f"v{row:05d}.jpg" for row in range(len(truth))]),
        "validation_labels": np.asarray(names)[truth],
        "validation_folds": np.zeros(len(truth), int),
        "test_ids": np.asarray([f"t{row:05d}.jpg" for row in range(tests)]),
        "classes": np.asarray(names),
    }
    said = probabilities_of(truth, wrong, classes)
    np.savez_compressed(folder / "probabilities.npz", test=test, validation=said, **shared)
    for name, theirs in members.items():
        said = probabilities_of(truth, theirs, classes)
        write_member(folder, name, said, test, shared, settings)


def write_suspects(folder: Path, names: list[str], truth, suspects: dict[int, int]) -> None:
    """Write suspects.csv: rows of held-out photos, with the class that each looks like."""
    pd.DataFrame(
        {
            "Id": [f"v{row:05d}.jpg" for row in suspects],
            "label": [names[truth[row]] for row in suspects],
            "suggested": [names[position] for position in suspects.values()],
            "leave_out": "",
            "probability_of_label": 0.03,
            "probability_of_suggested": 0.9,
            "path": "",
        }
    ).to_csv(folder / "suspects.csv", index=False)


def write_member(folder: Path, name: str, said, test, shared: dict, settings: dict) -> None:
    """Write the probabilities of a member as `kernelkit.core.contract` does."""
    (folder / "members" / name).mkdir(parents=True, exist_ok=True)
    right = (np.asarray(shared["classes"])[said.argmax(1)] == shared["validation_labels"]).mean()
    np.savez_compressed(
        folder / "members" / name / "probabilities.npz",
        validation=said,
        validation_plain=said,
        test=test[None],
        folds=np.asarray([0]),
        accuracy=np.asarray([right]),
        accuracy_tta=np.asarray([right]),
        cut=np.asarray([False]),
        views=np.asarray(['["plain", "flipped"]']),
        fingerprint=np.asarray("f"),
        settings=np.asarray(json.dumps(settings)),
        **shared,
    )


def write_metrics(folder, names, members, accuracy, held_out, tests, history, others) -> None:
    """Write metrics.json."""
    epochs = history.to_dict("records")
    stages = [stage_metrics(SimpleNamespace(**stage), epochs, "b3", 0) for stage in STAGES]
    share = 1 / len(members)
    rows = [
        MemberMetrics(
            n, "MobileNet", [160, 160], [0], [["plain", "flipped"]], accuracy, accuracy, 1.0, share
        )
        for n in members
    ]
    metrics = Metrics(
        competition="some-cars",
        folder="/data/some-cars",
        ended="2026-03-01T09:30+00:00",
        recipe="default",
        backbone="MobileNet",
        image_size=[160, 160],
        weights="imagenet",
        seed=1,
        train_images=5 * held_out,
        val_images=held_out,
        test_images=tests,
        excluded_images=0,
        classes=names,
        stages=stages,
        metric="accuracy",
        greater_is_better=True,
        score=accuracy,
        score_low=accuracy - 0.02,
        score_high=accuracy + 0.02,
        score_interval="Wilson",
        score_plain=accuracy,
        score_tta=accuracy,
        submission="label",
        val_accuracy=accuracy,
        val_accuracy_tta=accuracy,
        tta_used=True,
        val_accuracy_submitted=accuracy,
        folds=1,
        members=rows,
        blend="single" if len(members) == 1 else "mean",
        calibration_error=0.02,
        command=COMMAND,
        time_limit=None,
        jobs=[{"member": "b3", "fold": 0, "cost": 1.0, "seconds": 70.0}],
        seconds=75.0,
        peak_memory_mb=900.0,
        resumed=False,
        untrained=[],
        stopped_by_time_limit=False,
        devices=["/device:CPU:0"],
        versions={"python": "3.12.1", "keras": "3.13.2"},
        packages="0123456789abcdef",
        preflight={},
        photos_at_once={},
    )
    write(folder, dataclasses.replace(metrics, **others))


def write_photos(
    folder: Path,
    classes: int,
    per_class: int,
    tests: int,
    pictures: int = 40,
    size=(60, 80),
    noise=40,
) -> pd.DataFrame:
    """Write JPEGs and return photos.csv for a run of `write_run`.

    `noise` of 255 makes pictures that no format compresses well. Photos share `pictures` different
    files, so that thousands are quickly there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, files = np.random.default_rng(0), []
    for number in range(pictures):
        blobs = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = cv2.resize(blobs, size[::-1], interpolation=cv2.INTER_CUBIC)
        picture = cv2.add(picture, rng.integers(0, noise, picture.shape, dtype=np.uint8))
        files.append(str(folder / f"{number}.jpg"))
        assert cv2.imwrite(files[-1], picture)
    held = classes * per_class
    labels = [f"class {n}" for n in np.repeat(np.arange(classes), per_class)]
    train = pd.DataFrame(
        {
            "Id": [f"v{n:05d}.jpg" for n in range(held)],
            "set": "train",
            "label": labels,
            "fold": 0,
            "group": range(held),
        }
    )
    test = pd.DataFrame({"Id": [f"t{n:05d}.jpg" for n in range(tests)], "set": "test"})
    table = pd.concat([train, test], ignore_index=True)
    paths = [files[n % pictures] for n in range(len(table))]
    return table.assign(width=size[1], height=size[0], path=paths)
