"""The content of report.html: all that the template shows, from what a run has saved."""

from datetime import datetime

import numpy as np
import pandas as pd
from markupsafe import Markup

from kernelkit.core.metrics import METRICS, Z, paired_difference, wilson
from kernelkit.core.progress import clock_text
from kernelkit.predict.calibration import reliability
from kernelkit.predict.label_issues import why_no_issues
from kernelkit.report import figures, sheets
from kernelkit.report.advice import advise
from kernelkit.report.saved import Run
from kernelkit.report.tables import class_table, confused_pairs, stage_table

MATRIX = 30  # classes up to which the whole confusion matrix is shown
LONG_LABEL = 12  # letters of a class from which it gets a line of its own below a photo
PAIRS_LISTED = 20
HOME = (6675, 10)  # test photos and classes of sf-dl-car-classification
PUBLISHED = ((0.97827, "the best published score"), (0.96838, "the reference recipe"))
BINS = 10  # of the calibration chart


def contents(run: Run, thumbnails: sheets.Thumbnails) -> dict:
    """Return the template's variables; `thumbnails` gets the photos that it needs."""
    size = run.metrics.get("image_size") or run.settings.get("image_size")
    backbones = [member["backbone"] for member in run.metrics.get("members", [])]
    backbones = backbones or [run.settings.get("backbone", "A run")]
    shown = {
        "run": run,
        "state": state_of(run),
        "title": title_of(run),
        "long_labels": max(map(len, run.classes), default=0) > LONG_LABEL,
        "scaled_twice": run.settings.get("input_range") == "0..1",
        "networks": networks(run),
        "stages": stage_rows(run),
        "scouting": scouting_chart(run),
        "settings": {k: v for k, v in run.settings.items() if k != "stages"},
        "sheets": sheets.sheets_of(run),
        "examples": sheets.examples(run),
        "recipe": run.metrics.get("recipe") or run.settings.get("recipe", "unknown"),
        "backbones": list(dict.fromkeys(backbones)),
        "seen": size,
        "balance": balance_chart(run),
        "sizes": size_chart(run, size),
        "counts": counts_of(run),
        "advice": advise(run),
        "pairs": [],
        "augmented": "",
    }
    if run.finished:
        pairs = confused_pairs(run)
        shown |= finished_contents(run, pairs) | {"pairs": sheets.pair_sheets(run, pairs)}
        picture = str(run.folder / "augmented.png")
        thumbnails.add([picture], sheets.WIDE)
        shown["augmented"] = picture if thumbnails.uri(picture) else ""
    photos = sheets.photos_of([*shown["sheets"].values(), shown["examples"]], shown["pairs"])
    thumbnails.add(photo.path for photo in photos)
    shown["originals"] = sheets.originals(run, photos)
    shown["looked"] = sheets.add_looked(thumbnails, run, shown["sheets"])
    return shown


def finished_contents(run: Run, pairs) -> dict:
    """Return the variables of a finished run."""
    metrics, right = run.metrics, run.right
    accuracy, tests = wilson(int(right.sum()), len(right)), metrics["test_images"]
    home = (tests, len(run.classes)) == HOME
    gpus = sum("GPU" in name.upper() for name in metrics["devices"])
    reviewed = 0
    if len(run.excluded):
        reviewed = int(run.excluded.reason.str.startswith("a person marked it").sum())
    bins = reliability(run.validation, run.truth, BINS)
    return {
        "accuracy": accuracy,
        "strip": figures.svg(
            figures.interval_strip(accuracy, [score for score, _ in PUBLISHED if home]),
            f"{accuracy.value:.2%}, 95 % interval {accuracy.low:.2%} to {accuracy.high:.2%}",
        ),
        "wrong": [round(tests * (1 - v)) for v in (accuracy.value, accuracy.high, accuracy.low)],
        "metric": None if run.metric is METRICS["accuracy"] else run.metric,
        "published": [
            {"score": score, "of": of, "distance": 100 * (accuracy.value - score)}
            for score, of in PUBLISHED
            if home
        ],
        "views": views_of(run),
        "score": score_of(run),
        "reviewed": reviewed,  # photos that a person left out of the validation too
        "members": member_rows(run),
        "minutes": gpus * metrics["seconds"] / 60 if gpus else None,
        "matrix": matrix_chart(run, pairs) if len(run.classes) <= MATRIX else None,
        "pair_rows": pairs.head(PAIRS_LISTED).to_dict("records"),
        "pair_total": len(pairs),
        "class_rows": class_table(run).to_dict("records"),
        "calibration": figures.svg(
            figures.calibration(bins, BINS),
            "Accuracy by confidence. "
            + "; ".join(
                f"{row.photos} photos: confidence {row.confidence:.1%}, right {row.accuracy:.1%}"
                for row in bins.itertuples()
            ),
        ),
        "no_issues": why_no_issues(run.validation, run.truth),
    }


def networks(run: Run) -> list[dict]:
    """Return name and charts of accuracy and loss of each network with more than one epoch."""
    if run.history.empty:
        return []
    charts, groups = [], run.history.groupby(["member", "fold"], sort=False)
    for (member, fold), rows in groups:
        if len(rows) < 2:
            continue
        name, last = f"{member}, fold {fold}" if groups.ngroups > 1 else str(member), rows.iloc[-1]
        drawn = {
            panel: figures.svg(
                figures.learning_curves(rows, [panel]),
                f"{panel} of {name} by epoch: training {last[panel]:.4g}, validation "
                f"{last['val_' + panel]:.4g} in epoch {len(rows)}",
            )
            for panel in ("accuracy", "loss")
        }
        charts.append({"name": name, "charts": drawn, "epochs": len(rows)})
    return charts


def scouting_chart(run: Run) -> Markup | None:
    """Return the candidates' scores with their intervals; None where fewer than two have one."""
    rows = [row for row in run.scouting if row["score"] is not None]
    if len(rows) < 2:
        return None
    chosen = [row["name"] for row in rows if row["chosen"]]
    return figures.svg(
        figures.scouting(rows), f"Out-of-fold scores of the candidates; chosen {', '.join(chosen)}"
    )


def matrix_chart(run: Run, pairs) -> Markup:
    """Return the confusion matrix; its description names the most confused pairs."""
    names = np.asarray(run.classes, object)
    figure = figures.confusion_matrix(
        names[run.truth], names[run.validation.argmax(1)], run.classes, recall=False
    )
    worst = [f"{row.first} and {row.second}: {row.mistakes}" for row in pairs.head(5).itertuples()]
    return figures.svg(figure, f"Confusion matrix. Most mistakes: {'; '.join(worst)}", "matrix")


def balance_chart(run: Run) -> Markup | None:
    """Return the numbers of training and validation photos of each class; None where unknown."""
    train = run.photos[run.photos.set == "train"]
    if train.empty:
        return None
    # With several folds, each class' share is about that of the first.
    counts = pd.crosstab(train.label, train.fold == 0)
    counts = counts.reindex(columns=[False, True], fill_value=0)
    counts.columns = ["train", "validation"]
    order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
    return figures.svg(
        figures.class_balance(counts.loc[order]), "Training and validation photos of each class"
    )


def size_chart(run: Run, size: list[int] | None) -> Markup | None:
    """Return the photos' widths and heights beside what the network sees; None where unknown."""
    known = run.photos[(run.photos.width > 0) & (run.photos.height > 0)]
    if known.empty or not size:
        return None
    seen = f"the {size[1]} x {size[0]} pixels that the network sees"
    return figures.svg(
        figures.photo_sizes(known, size), f"Widths and heights of the photos, beside {seen}"
    )


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign, as it is typeset; what rounds to 0 has a plus."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def state_of(run: Run) -> dict:
    """Return how the run ended, or how far it is: a word, a sentence, and its tone."""
    if not run.finished:
        epochs = len(run.history)
        best = f", best validation accuracy {run.history.val_accuracy.max():.2%}" if epochs else ""
        done = "1 epoch is" if epochs == 1 else f"{epochs} epochs are"
        text = f"{done} finished{best}. This page is made anew after every stage."
        return {"word": "Under way", "text": text, "tone": "busy"}
    metrics = run.metrics
    if run.history.empty and len(metrics["members"]) < 2:  # others may be of earlier sessions
        text = "No epoch was finished in the session: what is submitted is of an untrained network."
        return {"word": "Untrained", "text": text, "tone": "warn"}
    resumed = " It went on from an earlier session." if metrics["resumed"] else ""
    if metrics["stopped_by_time_limit"]:
        text = "The session's end cut it short; the submission is complete."
        if names := metrics["untrained"]:
            text += f" But it is of a network without any training: {'; '.join(names)}."
        return {"word": "Cut short", "text": text + resumed, "tone": "warn"}
    return {"word": "Finished", "text": "The whole schedule ran." + resumed, "tone": "good"}


def title_of(run: Run) -> dict:
    """Return the run's name: its competition, its photos' folder, and when it ended."""
    ended = run.metrics.get("ended", "")
    when = datetime.fromisoformat(ended) if ended else None
    return {
        "name": run.metrics.get("competition") or run.folder.resolve().name,
        "folder": run.metrics.get("folder", ""),
        "date": f"{when.day} {when:%B %Y, %H:%M}" if when else "",
    }


def views_of(run: Run) -> dict | None:
    """Return what test-time augmentation brought by the metric, as texts; None where nothing."""
    metrics, metric = run.metrics, run.metric
    plain, mean = metrics["score_plain"], metrics["score_tta"]
    if not metrics["tta_used"] and plain == mean:
        return None
    names = [view for m in metrics["members"] for fold in m["views"] for view in fold]
    gains = {}
    for member in run.members:
        if metric is METRICS["accuracy"]:
            gain = paired_difference(member.right(), member.right("validation_plain"))
            low, high = (signed(100 * end) for end in (gain.low, gain.high))
        else:
            arrays = ("validation_plain", "validation", "validation_positions")
            value, error = metric.gain(*map(member.all_folds, arrays))
            low, high = (signed(value + side * Z * error, 4) for side in (-1, 1))
        gains[member.name] = f"{low} to {high}"
    if metric is METRICS["accuracy"]:
        texts = f"{plain:.2%}", f"{mean:.2%}", f"{signed(100 * (mean - plain))} points"
    else:
        texts = f"{plain:.4f}", f"{mean:.4f}", signed(metric.sign * (mean - plain), 4)
    return {
        "metric": metric.name,
        "less_is_better": not metric.greater,
        "names": list(dict.fromkeys(names)),
        "gains": gains,
        **dict(zip(("plain", "tta", "gain"), texts, strict=True)),
    }


def score_of(run: Run) -> dict | None:
    """Return what the submission scored, beside the validation's interval; None where unknown."""
    score = run.score.get("public_score")
    if score is None:
        return None
    is_accuracy, sign = run.metric is METRICS["accuracy"], run.metric.sign
    return {
        "text": f"{score:.2%}" if is_accuracy else f"{score:.4f}",
        "metric": run.metric.name,
        "of": run.score.get("of", ""),
        "inside": run.metrics["score_low"] <= score <= run.metrics["score_high"],
        "better": sign * score > sign * run.metrics["score"],
    }


def member_rows(run: Run) -> list[dict]:
    """Return a row a member: its settings, its accuracies, and the blend's advantage over it."""
    known, rows = {member.name: member for member in run.members}, []
    for row in run.metrics["members"]:
        member = known.get(row["name"])
        plain = float(member.right("validation_plain").mean()) if member else None
        right = run.member_right(member) if member else None
        lead = None if right is None else paired_difference(run.right, right)
        rows.append(row | {"plain": plain, "lead": lead})
    return rows


def stage_rows(run: Run) -> list[dict]:
    """Return a row a stage that ran, beside the plan for it."""
    if run.history.empty:
        return []
    stages = run.settings.get("stages", [])
    planned = {s["name"]: 1 if s.get("views") else s["epochs"] for s in stages}
    folds = run.photos[run.photos.set == "train"].fold.value_counts().to_dict()
    return [
        row | {"planned": planned.get(row["stage"]), "clock": clock_text(row["seconds"])}
        for row in stage_table(run.history, folds).to_dict("records")
    ]


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
