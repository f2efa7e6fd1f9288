"""Predict new photos with a finished run: predictions.csv, predictions.html, submission.csv."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from kernelkit.core.boundary import doing
from kernelkit.core.contract import METRICS_FILE, MODEL_FILE
from kernelkit.core.files import numbered, scratch_folder, write_atomically
from kernelkit.core.problem import Problem
from kernelkit.core.tables import read_csv, write_table
from kernelkit.data.layout import Layout
from kernelkit.data.names import PhotoIndex
from kernelkit.data.submission import fill
from kernelkit.offline import find_in_outputs
from kernelkit.predict.apply import as_tuples, find_photos, predict_model, settings_of, with_reasons
from kernelkit.predict.members import SavedModel, read_model
from kernelkit.report.sheets import Photo, Thumbnails
from kernelkit.report.writing import template

PAGE, SUBMISSION = "predictions.html", "submission.csv"
SIDE = 6  # photos of a class that are shown as the surest, and as the least sure
CLASSES = 60  # of which photos are shown, the most frequent ones


def apply_run(options, config_class: type, augment: Callable) -> None:
    """Predict photos with a run, and write predictions.csv, its page, and perhaps a submission.

    `augment` returns the training's augmentation for settings. Raises Problem if there is no such
    run, or no photo that can be read, and OSError if a file can't be written.
    """
    doing("reading the run")
    run = find_run(options.run or Path("output"))
    model = read_model(run)
    configs = {m.name: settings_of(m, config_class) for m in model.members}
    output = options.output or next(p for p in numbered(Path("predictions")) if not p.exists())
    if any((output / name).exists() for name in (METRICS_FILE, MODEL_FILE)):
        raise Problem(f"{output} holds a run, which stays as it is: give another --output.")
    scratch = scratch_folder("car-classification-predict", output)
    doing("reading the photos")
    photos = with_reasons(find_photos(options.predict, scratch))
    readable = photos[photos["reason"] == ""].reset_index(drop=True)
    if readable.empty:
        raise Problem(
            f"--predict {options.predict}: of {len(photos)} photos none can be read "
            f"({photos['reason'].iloc[0]})."
        )
    probabilities = predict_model(model, run, readable, configs, augment)
    table = prediction_table(photos, probabilities, model.classes, options.all)
    if (output / "predictions.csv").exists():  # of other photos, as its submission is
        (output / SUBMISSION).unlink(missing_ok=True)
    write_table(table, output / "predictions.csv")
    if options.sample:
        submission = submission_of(options.sample, photos, probabilities, model)
        write_table(submission, output / SUBMISSION)
    title = f"Predictions of {model.competition}"
    write_predictions_page(table, photos, title, output)
    shutil.rmtree(scratch, ignore_errors=True)
    unreadable = len(photos) - len(readable)
    print(f"{output / 'predictions.csv'}: {len(photos)} photos, {unreadable} of them unreadable")


def find_run(place: Path) -> Path:
    """Return the folder of the one run in a folder: itself, or as a Kaggle Model has it below."""
    if place.is_file():
        raise Problem(f"--run {place} is a file of a run, or another one: give its folder.")
    found = [] if (place / MODEL_FILE).is_file() else list(find_in_outputs(place, MODEL_FILE))
    return found[0].parent if len(found) == 1 else place


def prediction_table(
    photos: pd.DataFrame, probabilities: np.ndarray, classes: Sequence, every_class: bool
) -> pd.DataFrame:
    """Return a row a photo: file, label, probability, second, second_probability and reason.

    `probabilities` are float [photos without a reason, classes]. With `every_class` a column a
    class follows, with its probability.
    """
    names, readable = np.asarray(classes).astype(str), (photos["reason"] == "").to_numpy()
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sure = np.take_along_axis(probabilities, order, axis=1)
    shown = {"label": names[order[:, 0]], "probability": sure[:, 0]}
    if len(names) > 1:
        shown |= {"second": names[order[:, 1]], "second_probability": sure[:, 1]}
    if every_class:
        shown |= {f"p_{name}": probabilities[:, n] for n, name in enumerate(names)}
    rows = pd.DataFrame(shown, index=np.flatnonzero(readable)).reindex(range(len(photos)))
    rows = rows.fillna({"label": "", "second": ""})
    return pd.concat([photos["file"], rows, photos["reason"]], axis=1)


def submission_of(
    sample: Path, photos: pd.DataFrame, probabilities: np.ndarray, model: SavedModel
) -> pd.DataFrame:
    """Return a submission: the rows of a sample, each with what is predicted for its photo.

    A row whose photo is missing or unreadable gets the frequencies of the classes in training; a
    line counts these. Raises Problem if the sample can't be read, does not fit the classes, or has
    no row of a readable photo.
    """
    table, layout = read_csv(sample), Layout(**as_tuples(model.layout))
    readable = photos.loc[photos["reason"] == "", ["file", "path"]]
    index = PhotoIndex(readable.rename(columns={"file": "name"}).assign(folder=""))
    position = index.match(table.iloc[:, 0])["position"].to_numpy()
    rows = np.tile(np.float32(model.frequencies), (len(table), 1))
    rows[position >= 0] = probabilities[position[position >= 0]]
    if (position < 0).all():
        raise Problem(
            f"No Id of {sample}, such as {table.iat[0, 0]}, is the name of a photo that was "
            f"predicted, such as {readable['file'].iloc[0]}: give --predict the photos of its rows."
        )
    if missing := (position < 0).sum():
        print(f"{missing} rows of {sample} have no readable photo: they get the usual frequencies.")
    return fill(table, layout, model.classes, rows)


def write_predictions_page(table: pd.DataFrame, photos: pd.DataFrame, title: str, folder: Path):
    """Write the page of `prediction_table`'s rows. Raises OSError if it can't be written."""
    rows = table.assign(path=photos["path"].to_numpy())
    readable, unreadable = rows[rows["reason"] == ""], rows[rows["reason"] != ""]
    counts = readable["label"].astype(str).value_counts()
    sheets = []
    for label in counts.index[:CLASSES]:
        ordered = readable[readable["label"].astype(str) == label]
        ordered = ordered.sort_values("probability", ascending=False, kind="stable")
        least = ordered.iloc[SIDE:].tail(SIDE).iloc[::-1]
        sides = [("The surest", ordered.head(SIDE)), ("The least sure", least)]
        shown = [(name, [_photo(row) for row in side.itertuples()]) for name, side in sides]
        sheets.append((label, int(counts[label]), [side for side in shown if side[1]]))
    thumbnails = Thumbnails(folder / "thumbnails.zip")
    thumbnails.add(photo.path for _, _, sides in sheets for _, side in sides for photo in side)
    page = template("predictions.html.j2").render(
        title=title,
        photos=len(rows),
        counts=[(label, int(count), count / counts.iloc[0]) for label, count in counts.items()],
        sheets=sheets,
        hidden=max(0, len(counts) - CLASSES),
        unreadable=[(row.file, row.reason) for row in unreadable.itertuples()],
        thumbnail=thumbnails.uri,
        size=thumbnails.size,
    )
    write_atomically(folder / PAGE, page)


def _photo(row) -> Photo:
    lines = [("first", row.label, f"{row.probability:.1%}")]
    if hasattr(row, "second"):
        lines.append(("second", row.second, f"{row.second_probability:.1%}"))
    return Photo(row.file, row.path, lines, f"{row.file}: {row.label}")
