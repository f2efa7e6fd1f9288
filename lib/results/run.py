"""Writing the results of a run: what counts first, then what decorates it."""

from collections.abc import Callable, Sequence
from functools import partial
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
        config: the kernel's settings: recipe, backbone, image_size, weights, seed and stages.
        tables: the photos of the run.
        state: the finished run's state.
        prediction: has validation (probabilities, float32 [photos, classes]), accuracy,
            accuracy_tta and tta_used.
        seconds: of this session so far.

    Raises:
        OSError: a file can't be written.
    """
    write_table(submission, output / "submission.csv")
    write_table(pd.DataFrame(state.history), output / "history.csv")
    classes = np.asarray(tables.competition.classes)
    arrays = {
        "test": test,
        "test_ids": tables.competition.test.Id.to_numpy(str),
        "validation": prediction.validation,
        "validation_ids": tables.validation.Id.to_numpy(str),
        "validation_labels": tables.validation.label.to_numpy(classes.dtype),
        "classes": classes,
    }
    write_arrays(arrays, output / "probabilities.npz")
    metrics = metrics_of(config, tables, state, prediction, seconds)
    metrics.write(output / "metrics.json")


def metrics_of(
    config, tables: "PhotoTables", state: "State", prediction, seconds: float
) -> Metrics:
    """Return the metrics of a run; the arguments are those of `write_results`."""
    competition = tables.competition
    return Metrics(
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
    classes = tables.competition.classes
    predicted = np.asarray(classes)[validation.argmax(1)]
    truth, excluded = tables.validation.label, tables.competition.excluded
    writers: dict[str, Callable[[Path], None]] = {
        "class_balance.png": partial(draw, "class_balance", tables.class_counts()),
        "confusion_matrix.png": partial(draw, "confusion_matrix", truth, predicted, classes),
        "augmented.png": lambda path: draw("photo_grid", *first_photos(augmented, classes), path),
    }
    if history:
        writers["learning_curves.png"] = partial(draw, "learning_curves", pd.DataFrame(history))
    if len(excluded):
        writers["excluded.csv"] = partial(write_table, excluded)
    for name, write in writers.items():
        try:
            write(output / name)
        except Exception as error:
            path = output / name
            print(f"{path} could not be written ({error}); the results are complete.", flush=True)


def draw(figure: str, *content: object) -> None:
    """Draw one of `results.figures`, imported late: what is wrong with matplotlib ends no run."""
    from results import figures

    getattr(figures, figure)(*content)


def first_photos(iterator, classes: Sequence) -> tuple[np.ndarray, list]:
    """Return the first photos of an iterator, uint8 [n, height, width, 3], and their labels."""
    needed = -(-min(MOST_PHOTOS, iterator.n) // iterator.batch_size)
    batches = [iterator[number] for number in range(needed)]
    images, labels = (np.concatenate(part)[:MOST_PHOTOS] for part in zip(*batches, strict=True))
    return images, [classes[position] for position in labels.argmax(1)]
