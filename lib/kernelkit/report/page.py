"""What stands on the page: everything that the template shows, from what a run has saved."""

import math
from datetime import datetime
from pathlib import Path

import numpy as np

from kernelkit.core.metrics import METRICS, Interval, Z, paired_difference, wilson
from kernelkit.core.progress import clock_text
from kernelkit.predict.label_issues import why_no_issues
from kernelkit.report import charts
from kernelkit.report.advice import advise
from kernelkit.report.charts import signed
from kernelkit.report.figuring import (
    calibration,
    class_table,
    confused_pairs,
    confusion,
    stage_table,
)
from kernelkit.report.pictures import WIDE, Thumbnails
from kernelkit.report.saved import Run
from kernelkit.report.sheets import (
    add_looked,
    examples,
    originals,
    pair_sheets,
    photos_of,
    sheets_of,
)

MATRIX = 30  # classes up to which the whole confusion matrix is shown
SHORT_NAME = 3  # letters of a class that fit above a column of the matrix
LONG_LABEL = 12  # letters of a class from which it stands on a line of its own below a photo
PAIRS_LISTED = 20
CLASSES_OPEN = 30  # classes up to which the table of classes is open
HOME = (6675, 10)  # test photos and classes of sf-dl-car-classification
PUBLISHED = ((0.97827, "the best published score"), (0.96838, "the reference recipe"))
COUNTS_SHOWN = 60  # classes whose balance is drawn


def contents(run: Run, thumbnails: Thumbnails) -> dict:
    """Return what the template shows; `thumbnails` gets the photos that it needs."""
    shown = {
        "run": run,
        "state": state_of(run),
        "title": title_of(run),
        "long_labels": max(map(len, run.classes), default=0) > LONG_LABEL,
        "scaled_twice": run.settings.get("input_range") == "0..1",
        "silence": why_no_issues(run.validation, run.truth) if run.finished else "",
        "networks": charts.networks(run),
        "stages": stage_rows(run),
        "settings": {k: v for k, v in run.settings.items() if k != "stages"},
        "sheets": sheets_of(run),
        "examples": examples(run),
        "balance": balance(run),
        "recipe": run.metrics.get("recipe") or run.settings.get("recipe", "unknown"),
        "backbones": backbones(run),
        "seen": image_size(run),
        "sizes": charts.size_cloud(run.photos, image_size(run)) if image_size(run) else None,
        "counts": counts_of(run),
        "pairs": [],
        "augmented": "",
        "advice": advise(run),
    }
    if run.finished:
        pairs = confused_pairs(run)
        shown |= judged(run, pairs) | {"pairs": pair_sheets(run, pairs)}
    augmented = str(run.folder / "augmented.png")
    if run.finished:
        thumbnails.add([augmented], WIDE)
        shown["augmented"] = augmented if thumbnails.uri(augmented) else ""
    photos = photos_of([*shown["sheets"].values(), shown["examples"]], shown["pairs"])
    thumbnails.add(photo.path for photo in photos)
    shown["originals"] = originals(run, photos)
    shown["looked"] = add_looked(thumbnails, run, shown["sheets"])
    return shown


def image_size(run: Run) -> list[int] | None:
    """Return the height and width of the photos as the network sees them, where it is known."""
    return run.metrics.get("image_size") or run.settings.get("image_size")


def backbones(run: Run) -> list[str]:
    """Return the backbones of a run, of the members where it is finished."""
    named = [member["backbone"] for member in run.metrics.get("members", [])]
    return list(dict.fromkeys(named or [run.settings.get("backbone", "A run")]))


def judged(run: Run, pairs) -> dict:
    """Return what only a finished run can show."""
    table = class_table(run)
    interval, tests = wilson(int(run.right.sum()), len(run.right)), run.metrics["test_images"]
    return {
        "accuracy": interval,
        "strip": strip(run, interval),
        "wrong": [round(tests * (1 - v)) for v in (interval.value, interval.high, interval.low)],
        "metric": metric_of(run),
        "published": published(run, interval.value),
        "views": views_of(run),
        "score": score_of(run, interval),
        "reviewed": reviewed(run),
        "members": member_rows(run),
        "minutes": gpu_minutes(run),
        "matrix": matrix_rows(run) if len(run.classes) <= MATRIX else None,
        "long_names": max(map(len, run.classes)) > SHORT_NAME,
        "pair_rows": pairs.head(PAIRS_LISTED).to_dict("records"),
        "pair_total": len(pairs),
        "class_rows": table.to_dict("records"),
        "classes_open": len(run.classes) <= CLASSES_OPEN,
        "calibration": charts.calibration_chart(calibration(run)),
    }


def metric_of(run: Run) -> dict | None:
    """Return the competition's metric with its interval; None where it is the accuracy itself."""
    metrics = run.metrics
    if metrics.get("metric", "accuracy") == "accuracy":
        return None
    figures = ("score", "score_low", "score_high", "score_plain", "score_tta")
    texts = {name: f"{metrics[name]:.4f}" for name in figures}
    direction = "greater" if metrics["greater_is_better"] else "less"
    texts["interval"] = metrics.get("score_interval", "")  # earlier versions lack it
    return texts | {"name": METRICS[metrics["metric"]].name, "direction": direction}


def state_of(run: Run) -> dict:
    """Return how the run ended, or where it stands: a word, a sentence, and its tone."""
    if not run.finished:
        epochs = len(run.history)
        best = f", best validation accuracy {run.history.val_accuracy.max():.2%}" if epochs else ""
        said = f"{epochs} epochs are finished{best}. This page is made anew after every stage."
        return {"word": "Under way", "text": said, "tone": "busy"}
    metrics = run.metrics
    if run.history.empty and not members_trained(run):
        said = "No epoch was finished in the session: what is submitted is of an untrained network."
        return {"word": "Untrained", "text": said, "tone": "warn"}
    resumed = " It went on from an earlier session." if metrics.get("resumed") else ""
    if metrics.get("stopped_by_time_limit"):
        said = "The session's end cut it short; the submission is complete."
        if names := metrics.get("untrained"):
            said += f" But it is of a network without any training: {'; '.join(names)}."
        return {"word": "Cut short", "text": said + resumed, "tone": "warn"}
    text = "The whole schedule ran." + resumed
    return {"word": "Finished", "text": text, "tone": "good"}


def strip(run: Run, interval) -> dict:
    """Return the geometry of the strip below the headline: interval, point, published scores."""
    marks = [score for score, _ in PUBLISHED] if is_home(run) else []
    low = math.floor(20 * min([interval.low, *marks])) / 20
    axis = charts.Axis(max(0.0, min(low, 0.95)), 1.0, 4, 356)
    return {
        "low": axis.at(interval.low),
        "high": axis.at(interval.high),
        "at": axis.at(interval.value),
        "marks": [axis.at(mark) for mark in marks],
        "ends": (f"{axis.low:.0%}", "100%"),
    }


def is_home(run: Run) -> bool:
    """Return whether the run is of the competition whose scores are published."""
    return (run.metrics.get("test_images"), len(run.classes)) == HOME


def published(run: Run, accuracy: float) -> list[dict]:
    """Return the distance to each published score in points; none for other competitions."""
    if not is_home(run):
        return []
    return [
        {"score": score, "of": of, "distance": 100 * (accuracy - score)} for score, of in PUBLISHED
    ]


def gpu_minutes(run: Run) -> float | None:
    """Return the run's time on all its GPUs together in minutes; None without a GPU."""
    gpus = sum("GPU" in name.upper() for name in run.metrics.get("devices", []))
    return gpus * run.metrics["seconds"] / 60 if gpus else None


def views_of(run: Run) -> dict | None:
    """Return what test-time augmentation brought by the metric; None where it changed nothing.

    The gains are texts: in points where the metric is the accuracy.
    """
    metrics = run.metrics
    names = [view for m in metrics["members"] for fold in m["views"] for view in fold]
    metric = METRICS[metrics.get("metric", "accuracy")]
    plain = metrics.get("score_plain", metrics["val_accuracy"])  # earlier versions lack it
    mean = metrics.get("score_tta", metrics["val_accuracy_tta"])
    if not metrics["tta_used"] and plain == mean:
        return None
    if metric is METRICS["accuracy"]:
        gains = {m.name: paired_difference(m.right, m.right_plain) for m in run.members}
        ends = {n: [signed(100 * v) for v in (g.low, g.high)] for n, g in gains.items()}
        texts = f"{plain:.2%}", f"{mean:.2%}", f"{signed(100 * (mean - plain))} points"
    else:
        sides = {m.name: (m.gain[0], Z * m.gain[1]) for m in run.members}
        ends = {n: [signed(v, 4) for v in (g - s, g + s)] for n, (g, s) in sides.items()}
        texts = f"{plain:.4f}", f"{mean:.4f}", signed(metric.sign * (mean - plain), 4)
    return {
        "metric": metric.name,
        "plain": texts[0],
        "tta": texts[1],
        "gain": texts[2],
        "less_is_better": not metric.greater,
        "names": list(dict.fromkeys(names)),
        "gains": {name: " to ".join(pair) for name, pair in ends.items()},
    }


def title_of(run: Run) -> dict:
    """Return what the run is called: its competition, its photos' folder, and when it ended."""
    ended = run.metrics.get("ended", "")
    when = datetime.fromisoformat(ended) if ended else None
    return {
        "name": run.metrics.get("competition") or run.folder.resolve().name,
        "folder": run.metrics.get("folder", ""),
        "date": f"{when.day} {when:%B %Y, %H:%M}" if when else "",
    }


def score_of(run: Run, accuracy: Interval) -> dict | None:
    """Return what the submission scored, beside the validation's interval; None where unknown."""
    score = run.score.get("public_score")
    if score is None:
        return None
    metric = METRICS[run.metrics.get("metric", "accuracy")]
    low = run.metrics.get("score_low", accuracy.low)
    high = run.metrics.get("score_high", accuracy.high)
    is_accuracy = metric is METRICS["accuracy"]
    return {
        "text": f"{score:.2%}" if is_accuracy else f"{score:.4f}",
        "metric": metric.name,
        "of": run.score.get("of", ""),
        "inside": low <= score <= high,
        "better": metric.sign * score > metric.sign * run.metrics.get("score", accuracy.value),
    }


def reviewed(run: Run) -> int:
    """Return how many photos a person left out of the validation too."""
    if run.excluded.empty:
        return 0
    return int(run.excluded.reason.str.startswith("a person marked it").sum())


def members_trained(run: Run) -> bool:
    """Return whether a member of an earlier session, of which no history is here, takes part."""
    return len(run.metrics.get("members", [])) > 1


def member_rows(run: Run) -> list[dict]:
    """Return a row a member: what it is, its accuracies, and the blend's advantage over it."""
    known, rows = {member.name: member for member in run.members}, []
    for row in run.metrics["members"]:
        member, lead = known.get(row["name"]), None
        if member and np.array_equal(member.ids, run.held_out.Id.to_numpy(str)):
            lead = paired_difference(run.right, member.right)
        plain = member.accuracy_plain if member else None
        rows.append(row | {"plain": plain, "lead": lead})
    return rows


def matrix_rows(run: Run) -> list[dict]:
    """Return the rows of the confusion matrix; each count with its share of the row."""
    counts = confusion(run)
    sums = counts.sum(1)
    return [
        {
            "class": name,
            "cells": [
                {"count": int(n), "share": n / max(1, sums[i]), "right": i == j}
                for j, n in enumerate(counts[i])
            ],
        }
        for i, name in enumerate(run.classes)
    ]


def stage_rows(run: Run) -> list[dict]:
    """Return a row a stage that ran, beside what was planned for it."""
    if run.history.empty:
        return []
    planned = {
        s["name"]: 1 if s.get("views") else s["epochs"] for s in run.settings.get("stages", [])
    }
    folds = run.photos[run.photos.set == "train"].fold
    rows = stage_table(run.history, folds.value_counts().to_dict()).to_dict("records")
    for row in rows:
        row["planned"] = planned.get(row["stage"])
        row["clock"] = clock_text(row["seconds"])
    return rows


def balance(run: Run) -> list[dict]:
    """Return how many training photos each class has, the most first, and the share of the most."""
    counts = run.photos[run.photos.set == "train"].label.value_counts()
    most = counts.max() if len(counts) else 1
    rows = [{"class": n, "photos": int(c), "share": c / most} for n, c in counts.items()]
    if len(rows) <= COUNTS_SHOWN:
        return rows
    return rows[: COUNTS_SHOWN // 2] + rows[-COUNTS_SHOWN // 2 :]


def counts_of(run: Run) -> dict:
    """Return how many photos train, validate and are predicted, where that is known."""
    train, test = (int((run.photos.set == name).sum()) for name in ("train", "test"))
    held = int(((run.photos.set == "train") & run.photos.fold.notna()).sum())
    metrics = run.metrics
    return {
        "train": metrics.get("train_images", train - held),
        "validation": metrics.get("val_images", held),
        "test": metrics.get("test_images", test),
        "left out": metrics.get("excluded_images"),
        "classes": len(run.classes),
    }


def relative(path: str, folder: Path) -> str:
    """Return a path as it is from a folder, where it lies in it."""
    return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path
