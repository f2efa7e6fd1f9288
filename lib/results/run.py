"""Writing the results of a run: what counts first, then what decorates it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from results.files import write_arrays, write_table
from results.machine import device_names, peak_memory_mb, versions
from results.metrics import Metrics, StageMetrics

if TYPE_CHECKING:
    from photos import PhotoTables
    from training import State

PACKAGES = ("tensorflow", "keras", "albumentations", "numpy", "pandas", "opencv-python-headless")
MOST_PHOTOS = 25  # in the picture of augmented photos


def write_results(
    output: Path,
    submission: pd.DataFrame,
    test: np.ndarray,
    config,
    tables: "PhotoTables",
    state: "State",
    prediction,
    seconds: float,
) -> None:
    """Write submission.csv, history.csv, probabilities.npz and metrics.json.

    Args:
        output: the folder of the results.
        submission: the table to submit.
        test: probabilities of its rows, float32 [rows, classes].
        config: the kernel's settings; recipe, backbone, image_size, weights, seed and stages count.
        tables: the photos of the run.
        state: the finished run's state.
        prediction: has validation (probabilities, float32 [photos, classes]), accuracy,
            accuracy_tta and tta_used.
        seconds: of this session so far.

    Raises:
        OSError: a file can't be written.
    """
    competition = tables.competition
    classes = np.asarray(competition.classes)
    arrays = {
        "test": test,
        "test_ids": competition.test.Id.to_numpy(str),
        "validation": prediction.validation,
        "validation_ids": tables.validation.Id.to_numpy(str),
        "validation_labels": tables.validation.label.to_numpy(classes.dtype),
        "classes": classes,
    }
    metrics = Metrics(
        recipe=config.recipe,
        backbone=config.backbone,
        image_size=list(config.image_size),
        weights=Path(config.weights).name,
        seed=config.seed,
        train_images=len(tables.train),
        val_images=len(tables.validation),
        test_images=len(competition.test),
        excluded_images=len(competition.excluded),
        classes=competition.classes,
        stages=[StageMetrics.of(stage, state.history) for stage in config.stages],
        val_accuracy=prediction.accuracy,
        val_accuracy_tta=prediction.accuracy_tta,
        tta_used=prediction.tta_used,
        seconds=seconds + state.earlier_seconds,
        peak_memory_mb=peak_memory_mb(),
        resumed=state.resumed,
        stopped_by_time_limit=state.stopped_by_time_limit,
        devices=device_names(),
        versions=versions(PACKAGES),
    )
    write_table(submission, output / "submission.csv")
    write_table(pd.DataFrame(state.history), output / "history.csv")
    write_arrays(arrays, output / "probabilities.npz")
    metrics.write(output / "metrics.json")


def decorate(
    output: Path,
    tables: "PhotoTables",
    history: Sequence[dict],
    validation: np.ndarray,
    augmented,
) -> None:
    """Write the list of what was left out and the pictures; warn where that fails.

    Args:
        output: the folder of the results.
        tables: the photos of the run.
        history: one row for each epoch; may be empty.
        validation: probabilities of the validation photos, float32 [photos, classes].
        augmented: an iterator over augmented training photos, whose batches are (uint8
            [n, height, width, 3], one-hot [n, classes]).
    """
    competition = tables.competition
    predicted = np.asarray(competition.classes)[validation.argmax(1)]

    def augmented_photos(path: Path) -> None:
        needed = -(-min(MOST_PHOTOS, augmented.n) // augmented.batch_size)
        batches = [augmented[number] for number in range(needed)]
        images, labels = (np.concatenate(part)[:MOST_PHOTOS] for part in zip(*batches, strict=True))
        titles = [competition.classes[position] for position in labels.argmax(1)]
        figures().photo_grid(images, titles, path)

    def confusion(path: Path) -> None:
        classes = competition.classes
        figures().confusion_matrix(tables.validation.label, predicted, classes, path)

    writers = {
        "class_balance.png": lambda path: figures().class_balance(tables.class_counts(), path),
        "augmented.png": augmented_photos,
        "confusion_matrix.png": confusion,
    }
    if history:
        curves = pd.DataFrame(history)
        writers["learning_curves.png"] = lambda path: figures().learning_curves(curves, path)
    if len(competition.excluded):
        writers["excluded.csv"] = lambda path: write_table(competition.excluded, path)
    for name, write in writers.items():
        try:
            write(output / name)
        except Exception as error:
            path = output / name
            print(f"{path} could not be written ({error}); the results are complete.", flush=True)


def figures():
    """Return the package of figures, imported late: what is wrong with matplotlib ends no run."""
    from results import figures

    return figures
