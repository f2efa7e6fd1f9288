"""What to do next: rules over the saved figures. A rule without evidence says nothing.

The gains only order the list and are rough: what the same change brought where it was measured
(tests/benchmarks/choices.md), else guesses.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kernelkit.core.metrics import Z, wilson
from kernelkit.core.progress import clock_text
from kernelkit.report.saved import Run, again, on_kaggle, options_of, path_of, resized, stages_text
from kernelkit.report.tables import by_size, conflicts, confused_pairs

GAP = 0.05  # of training above validation accuracy: a sign of overfitting
RISE = 1.15  # of the validation loss over its lowest
LEARNED = 0.9  # training accuracy below which a network may have more to learn
DOMINANT = 0.25  # share of all mistakes that one pair of classes makes
FEW = 4  # photos: a difference of fewer is chance, even if none went the other way
INPUT_BOUND = 0.05  # share of the time that steps wait for photos
ENOUGH = 8  # photos at once from which BatchNorm's statistics are worth their name
RESCUED = 0.01  # share of the photos that some member has right and the blend wrong
SHORT, LONG = 18, 12  # epochs of a schedule that is short, and of a stage of a long one
APART = 1.2  # times the side of small photos, from which others are larger
LARGER = 1.5  # times the side that the network sees, from which most photos' details are lost
PER_ISSUE = 0.6  # of the share of label issues: what leaving them out brought, planted_labels.py
FEW_OF_CLASS, RARE = 20, 0.2  # photos of a class that are few, and share of the median class
SOUGHT = 0.02  # of accuracy, that a change is hoped to bring
NEARLY_PERFECT = 0.99  # accuracy from which larger photos have little to bring
SLOW = 300  # seconds of a run from which on a GPU would be felt
# Backbones of different kinds, by how well they do on photos of cars.
DIFFERENT = ("EfficientNetV2S", "ConvNeXtTiny", "EfficientNetB3", "InceptionV3", "Xception")


@dataclass(frozen=True)
class Advice:
    """One thing to do next."""

    rule: str  # the name of the rule
    gain: float  # that it is likely to bring, roughly, in points of accuracy
    title: str  # what to do, one sentence
    evidence: str  # the figures that say so, in sentences
    command: str = ""  # as typed into a shell; "" where no command does it
    costly: bool = False  # it takes longer, and so is none for a run that time cut short


def advise(run: Run) -> list[Advice]:
    """Return what the saved figures of a finished run advise, the most promising first."""
    if not run.finished:
        return []
    found = [advice for topic in TOPICS for advice in topic(run)]
    if run.metrics["stopped_by_time_limit"]:
        found = [advice for advice in found if not advice.costly]
    return sorted(found, key=lambda advice: -advice.gain)


def _first_network(run: Run) -> pd.DataFrame:
    history = run.history
    if history.empty:
        return history
    first = history.iloc[0]
    return history[(history.member == first.member) & (history.fold == first.fold)]


def _trained(run: Run) -> pd.DataFrame:
    """Return the history of the first network, without stages on cached features (no rate)."""
    rows = _first_network(run)
    return rows if rows.empty else rows[rows.learning_rate.notna()]


def _stages(run: Run) -> list[dict]:
    return run.settings.get("stages", [])


def _cost_of(run: Run, size: str) -> str:
    """Return a sentence on the cost of photos of a size, HxW, relative to those of the run."""
    pixels = math.prod(map(int, size.split("x"))) / math.prod(run.metrics["image_size"])
    return f"Photos of {size.replace('x', ' x ')} take {pixels:.2g} times the time."


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


# ------------------------------------------------------------------------------- the session


def time_ran_out(run: Run) -> Iterator[Advice]:
    """Go on with a schedule that the session's end cut short, or fit it into one session."""
    if not run.metrics["stopped_by_time_limit"]:
        return
    planned = sum(1 if s.get("views") else s["epochs"] for s in _stages(run))
    networks = run.history.groupby(["member", "fold"]).ngroups if len(run.history) else 0
    limit, small = run.metrics["time_limit"], resized(run, 0.8)
    done = (
        f"{_plural(len(run.history), 'epoch')} ran on {_plural(networks, 'network')}, of "
        f"{planned} planned for each, within the session"
        f"{f' of {limit:g} minutes' if limit else ''}."
    )
    yield Advice(
        "unfinished",
        20 if run.history.empty else 10,
        "Go on where time ran out: nothing that is finished is trained again.",
        f"{done} The same command goes on from there, for as long again.",
        "ship --continue" if on_kaggle(run) else run.metrics["command"],
    )
    yield Advice(
        "cut_short",
        2,
        "Or make it fit into one session: with smaller photos.",
        f"{done} {_cost_of(run, small)}",
        again(run, image_size=small),
    )


def machine(run: Run) -> Iterator[Advice]:
    """Use a GPU, make room in its memory, and feed it faster."""
    few = {n: p for n, p in run.metrics["photos_at_once"].items() if p < ENOUGH}
    if few and run.settings.get("batchnorm") != "frozen":
        name = min(few, key=few.get)
        share = -(-run.settings.get("batch_size", 0) // max(1, len(run.metrics["devices"])))
        yield Advice(
            "shrunken_batch",
            2,
            "Make room: the photos are too large for the devices' memory.",
            f"In {name} a device takes {few[name]} photos at once, of its {share} of each batch, "
            "and BatchNorm sees only these. Photos of 0.7 times the side take half the memory.",
            again(run, image_size=resized(run, 0.7)),
        )
    seconds, (height, width) = run.metrics["seconds"], run.metrics["image_size"]
    gpus = [name for name in run.metrics["devices"] if "GPU" in name.upper()]
    if not gpus and seconds >= SLOW:
        cure = "those of a Kaggle account are free: `ship` runs the same kernel there"
        if on_kaggle(run):
            cure = "the kernel's metadata ask for one: `enable_gpu`"
        yield Advice(
            "no_gpu",
            2,
            "Use a GPU: this run had none.",
            f"It took {clock_text(seconds)} on a CPU with photos of {height} x {width} pixels. A "
            f"GPU does that work in a small part of the time; {cure}.",
        )


def waiting(run: Run) -> Iterator[Advice]:
    """Feed the network faster where its steps wait for photos."""
    rows = _trained(run)[1:]  # the first epoch decodes them
    waited = np.average(rows.input_bound, weights=rows.seconds) if len(rows) else 0
    if waited > INPUT_BOUND:
        wanted = {name: "yes" for name in ("cache", "fuse") if run.settings.get(name) is False}
        yield Advice(
            "input_bound",
            0.4,
            "Feed the network faster: its steps wait for photos.",
            f"After the first epoch, which decodes them, {waited:.0%} of the training time went by "
            "waiting for photos.",
            again(run, **wanted or {"interpolation": "nearest"}),
        )


# -------------------------------------------------------------------------------- the photos


def more_photos(run: Run) -> Iterator[Advice]:
    """Train on all photos, and find more of rare classes."""
    counts = run.photos[run.photos.set == "train"].label.value_counts()
    limit = run.settings.get("limit")
    if full := int((counts >= limit).sum()) if limit else 0:
        yield Advice(
            "limited",
            10,
            f"Train on all photos: `--limit {limit}` left some out.",
            f"{full} of {len(counts)} classes have {limit} photos, the most that it allows. "
            "Nothing brings as much as more photos: of ten car makes, 80 photos a class gave an "
            "accuracy of 0.74, and all 370 gave 0.93.",
            again(run, limit=None),
        )
    few = counts[(counts < FEW_OF_CLASS) & (counts < counts.median() / 2)]
    few = few if len(few) else counts[counts < RARE * counts.median()]
    if len(few):
        named = ", ".join(f"{name} ({count})" for name, count in few.sort_values().head(3).items())
        ours = run.held_out.label.isin(few.index).to_numpy()
        seen = "None of theirs is held out."
        if ours.any():
            seen = f"Of their {ours.sum()} held-out photos {run.right[ours].sum()} are right."
        rare = "a rare class" if len(few) == 1 else f"{len(few)} rare classes"
        yield Advice(
            "rare_class",
            min(3.0, 50 * (ours & ~run.right).mean()) or 0.3,
            f"Find more photos of {rare}.",
            f"The usual class has {counts.median():.0f} labelled photos. The rarest: {named}. "
            f"{seen}",
        )


def larger_photos(run: Run) -> Iterator[Advice]:
    """Use larger photos where these are right more often, or far larger than what is seen."""
    table, (height, width) = by_size(run), run.metrics["image_size"]
    side, larger = math.sqrt(height * width), resized(run, 1.25)
    wanted = again(run, image_size=larger)
    if len(table) and table.pixels.iloc[-1] >= max(APART * table.pixels.iloc[0], 1.2 * side):
        small, large = table.iloc[0], table.iloc[-1]
        shares = [row.right / row.photos for row in (small, large)]
        pooled = (small.right + large.right) / (small.photos + large.photos)
        error = math.sqrt(pooled * (1 - pooled) * (1 / small.photos + 1 / large.photos))
        if shares[1] - shares[0] > Z * error > 0:
            yield Advice(
                "larger_photos",
                3,
                "Use larger photos: size still pays.",
                f"Of the smallest third of the held-out photos (about {small.pixels:.0f} pixels "
                f"square) {shares[0]:.1%} are right, of the largest ({large.pixels:.0f}) "
                f"{shares[1]:.1%}, more than chance explains, while the network sees {side:.0f}.",
                wanted,
                costly=True,
            )
            return
    known = run.photos[(run.photos.width > 0) & (run.photos.height > 0)]
    usual = math.sqrt((known.width * known.height).median()) if len(known) else 0
    if usual >= LARGER * side and run.right.mean() < NEARLY_PERFECT:
        yield Advice(
            "larger_photos",
            2,
            "Use larger photos: the network sees a small part of what they show.",
            f"The usual photo is {known.width.median():.0f} pixels wide and "
            f"{known.height.median():.0f} high, and the network sees {width} by {height}. "
            + _cost_of(run, larger),
            wanted,
            costly=True,
        )


def labels(run: Run) -> Iterator[Advice]:
    """Look at labels that copies of the same photo, or held-out predictions, contradict."""
    copies = conflicts(run.photos)
    if len(copies):
        yield Advice(
            "conflicting_copies",
            1.2,
            "Decide which label is right where copies of one photo have different ones.",
            f"{len(copies)} training photos in {_plural(copies.group.nunique(), 'group')} are "
            "near-identical but labelled differently, so that at least one label of each group is "
            "wrong. Write `yes` in the column `leave_out` of `report/duplicates.csv` where it is, "
            f"and repeat the run with `--exclude {path_of(run, 'report/duplicates.csv')}`.",
        )
    if count := len(run.label_issues):
        worst = run.label_issues.iloc[0]
        suspicious = "suspicious label" if count == 1 else f"{count} suspicious labels"
        yield Advice(
            "label_issues",
            PER_ISSUE * 100 * count / len(run.held_out),
            f"Look at the {suspicious}: some are wrong, others are the network's own mistakes.",
            f"{count} of {len(run.held_out)} held-out photos look like another class than their "
            f"label. The most suspicious, {worst.Id}, is labelled {worst.label} (probability "
            f"{worst.probability_of_label:.1%}) and looks like {worst.suggested} "
            f"({worst.probability_of_suggested:.1%}). Write `yes` in the column `leave_out` of "
            "`suspects.csv` where the label is wrong, and repeat the run with `--exclude "
            f"{path_of(run, 'suspects.csv')}`.",
        )


# ------------------------------------------------------------------------------ the training


def schedule(run: Run) -> Iterator[Advice]:
    """Train longer where the network was still learning, or its schedule is short."""
    rows, stages = _trained(run), _stages(run)
    trained = [stage["epochs"] for stage in stages if not stage.get("views")]
    last, before = (rows.iloc[-1], rows.iloc[-2]) if len(rows) > 2 else (None, None)
    if (
        last is not None
        and last.accuracy < LEARNED
        and last.accuracy - last.val_accuracy < GAP
        and last.accuracy > before.accuracy
        and last.val_accuracy >= rows.val_accuracy.max()
    ):
        yield Advice(
            "underfitting",
            3,
            "Train longer: the network was still learning when its schedule ended.",
            f"It has only {last.accuracy:.1%} of the training photos right, "
            f"{last.val_accuracy:.1%} of the held-out ones, and both were at their best in the "
            "last epoch.",
            again(run, stages=stages_text(stages, epochs=2)),
            costly=True,
        )
    elif stages and sum(trained) < SHORT:
        done, wanted = (
            f"The stages have {_plural(sum(trained), 'epoch')} together",
            {"epochs": LONG},
        )
        if not trained:
            done, wanted = "Only the head was fitted", {"stages": None, "epochs": None}
        elif "stages" in options_of(run)[1]:
            long = [s if s.get("views") else s | {"epochs": max(LONG, s["epochs"])} for s in stages]
            wanted = {"epochs": None, "stages": stages_text(long)}
        yield Advice(
            "few_epochs",
            4,
            "Train the whole schedule: this one is short.",
            f"{done}; the default recipe trains for 36. On three sets of car photos these were 3 "
            "to 9 points ahead of 9 epochs, the most on the smallest set.",
            again(run, **wanted),
            costly=True,
        )


def overfitting(run: Run) -> Iterator[Advice]:
    """Regularise where training accuracy runs away from validation's, whose loss rises again."""
    rows = _trained(run)
    if len(rows) < 3:
        return
    last, lowest = rows.iloc[-1], rows.val_loss.min()
    gap = last.accuracy - last.val_accuracy
    if gap < GAP or last.val_loss < RISE * lowest:
        return
    wanted = {} if run.settings.get("weight_decay") else {"weight_decay": 0.05}
    if not run.settings.get("label_smoothing"):
        wanted["label_smoothing"] = 0.1
    else:  # mixup pays on top of smoothing, with a clean stage at the end
        *early, clean = _stages(run)
        mixed = [s if s.get("views") else s | {"mixup": 0.2} for s in early]
        wanted["stages"] = stages_text([*mixed, clean])
    yield Advice(
        "overfitting",
        1.5,
        "Regularise: the network learns its training photos by heart.",
        f"At the end it has {last.accuracy:.1%} of the training photos right and "
        f"{last.val_accuracy:.1%} of the held-out ones, a gap of {100 * gap:.1f} points; the "
        f"validation loss rose from {lowest:.3f} to {last.val_loss:.3f}.",
        again(run, **wanted),
    )


def idle_stage(run: Run) -> Iterator[Advice]:
    """Lower the rate of the last stages that never came near the best of those before them."""
    rows, stages = _trained(run), _stages(run)
    if rows.empty or not stages:
        return
    best = _first_network(run).groupby("stage", sort=False).val_accuracy.max()
    high = best.cummax().shift(1)
    error = np.sqrt(high * (1 - high) / max(1, run.metrics["val_images"]))
    later = best[::-1].cummax()[::-1]  # of the stage itself and those after it
    if idle := tuple(best.index[(best < high - error) & (later <= high)]):
        name = idle[-1]
        yield Advice(
            "idle_stage",
            1,
            f"Lower the rate of stage {name}: it never reached what was there before it.",
            f"Its best validation accuracy is {best[name]:.2%}, after {high[name]:.2%} before it, "
            f"more than one standard error ({100 * error[name]:.1f} points) less.",
            again(run, stages=stages_text(stages, slower=idle)),
        )


# ---------------------------------------------------------------------------- the prediction


def views(run: Run) -> Iterator[Advice]:
    """Predict without test-time augmentation where it lost photos."""
    photos = run.metrics["val_images"]
    plain, mean = run.metrics["val_accuracy"], run.metrics["val_accuracy_tta"]
    lost = (plain - mean) * photos
    if run.metrics["tta_used"] and round(lost) >= FEW:
        yield Advice(
            "harmful_views",
            50 * lost / photos,
            "Predict without test-time augmentation: it hurt.",
            f"It made {lost:.0f} more of {photos} held-out photos wrong: accuracy {mean:.2%} with "
            f"it, {plain:.2%} without.",
            again(run, tta=1),
        )


def mistakes(run: Run) -> Iterator[Advice]:
    """Tell a pair of classes apart that makes a good part of all mistakes."""
    pairs, wrong = confused_pairs(run), int((~run.right).sum())
    if pairs.empty or len(run.classes) < 3:
        return
    first = pairs.iloc[0]
    if first.mistakes >= max(5, DOMINANT * wrong):
        yield Advice(
            "dominant_pair",
            1.5,
            f"Tell {first['first']} and {first['second']} apart: look at their photos below, then "
            "give the network more pixels.",
            f"{first.mistakes} of all {wrong} mistakes are between these two "
            f"({first.first_as_second} and {first.second_as_first} in either direction).",
            again(run, image_size=resized(run, 1.25)),
            costly=True,
        )


def another_member(run: Run) -> Iterator[Advice]:
    """Add a member where they disagree, and where the blend is wrong some one is often right."""
    known = [member for member in run.members if run.member_right(member) is not None]
    used = {member.settings["backbone"] for member in known}
    new = next((name for name in DIFFERENT if name not in used), None)
    if len(known) < 2 or new is None or run.metrics["weights"] == "drawn":  # there are no others
        return
    any_right = np.any([member.right() for member in known], axis=0)
    rescued, wrong = int((any_right & ~run.right).sum()), int((~run.right).sum())
    if rescued < max(FEW, RESCUED * len(run.held_out)):
        return
    best = [member.all_folds("validation").argmax(1) for member in known]
    disagree = np.any([one != best[0] for one in best[1:]], axis=0).mean()
    rows = options_of(run)[1].get("members") or ",".join(
        "{}:{backbone}:image_size={image_size[0]}x{image_size[1]}".format(m.name, **m.settings)
        for m in known
    )
    wanted = {"members": f"{rows},{new.lower()}:{new}"}
    if run.metrics["weights"] not in ("imagenet", "none"):  # a file of one backbone
        wanted["weights"] = "imagenet"
    yield Advice(
        "another_member",
        1.5,
        "Add a member of another kind: the ones there err on different photos.",
        f"The members disagree on {disagree:.1%} of the held-out photos, and for {rescued} of the "
        f"{wrong} photos that the blend has wrong one of them is right. `ship weights {new}` "
        "downloads the new member's weights.",
        again(run, **wanted),
    )


def rough_validation(run: Run) -> Iterator[Advice]:
    """Validate on more photos where these are too few to tell whether a change helps."""
    photos = len(run.held_out)
    interval = wilson(int(run.right.sum()), photos)
    if run.metrics["folds"] == 1 and interval.high - interval.low > 2 * SOUGHT:
        yield Advice(
            "rough_validation",
            0.5,
            "Validate on more photos: this validation set is too small to compare runs by.",
            f"The 95 % interval of the accuracy on {photos} photos is {interval.low:.1%} to "
            f"{interval.high:.1%}, wider than the 1 to {100 * SOUGHT:.0f} points that most changes "
            "bring. Five folds hold every photo out once, in five times the time.",
            again(run, folds=5),
            costly=True,
        )


TOPICS = (time_ran_out, more_photos, views, larger_photos, schedule, overfitting, idle_stage)
TOPICS += (machine, mistakes, another_member, labels, rough_validation, waiting)
