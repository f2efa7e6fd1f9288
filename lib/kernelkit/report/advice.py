"""What to do next: rules over the saved figures. A rule without evidence says nothing.

A rule returns what it is likely to bring in points of accuracy, a title, its evidence, and the
command, "" where no command does it. The gains only order the list and are rough: what the same
change brought where it was measured (tests/benchmarks/choices.md), else guesses beside those.
"""

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import pandas as pd

from kernelkit.core.metrics import Z, wilson
from kernelkit.core.progress import clock_text
from kernelkit.report.figuring import by_size, conflicts, confused_pairs
from kernelkit.report.saved import Run

GAP = 0.05  # of training above validation accuracy, that tells of overfitting
RISE = 1.15  # of the validation loss over its lowest
LEARNED = 0.9  # training accuracy below which a network may have more to learn
FASTER = 1.15  # times that a stage of fewer trained layers is faster, at least, on a busy GPU
DOMINANT = 0.25  # share of all mistakes that one pair of classes makes
FEW = 4  # photos: a difference of fewer is chance, even if none went the other way
INPUT_BOUND = 0.05  # share of the time that steps wait for photos
ENOUGH = 8  # photos at once from which BatchNorm's statistics are worth their name
RESCUED = 0.01  # share of the photos that some member has right and the blend wrong
SHORT, LONG = 18, 12  # epochs of a schedule that is short, and of a stage of a long one
APART = 1.2  # times the side of small photos, from which others are larger
LARGER = 1.5  # times the side that the network sees, from which most photos' details are lost
PER_SUSPECT = 0.6  # of the share of suspects: what leaving them out brought, planted_labels.py
FEW_OF_CLASS, RARE = 20, 0.2  # photos of a class that are few, and share of the median class
SOUGHT = 0.02  # of accuracy, that a change is hoped to bring
NEARLY_PERFECT = 0.99  # accuracy from which larger photos have little to bring
SLOW = 300  # seconds of a run from which on a GPU would be felt


@dataclass(frozen=True)
class Advice:
    """One thing to do next."""

    title: str
    """What to do, one sentence."""
    evidence: str
    """The figures that say so, in sentences."""
    command: str
    """What does it, as typed into a shell; "" where no command does it."""
    rule: str
    """The name of the rule that says so."""
    gain: float
    """What it is likely to bring, roughly, in points of accuracy."""


def advise(run: Run) -> list[Advice]:
    """Return what the saved figures of a finished run advise, the most promising first."""
    if not run.finished:
        return []
    rules = [rule for rule in RULES if not (unfinished(run) and rule in COSTLY)]
    found = [(rule.__name__, said) for rule in rules if (said := rule(run))]
    advice = [Advice(*said, rule=name, gain=gain) for name, (gain, *said) in found]
    return sorted(advice, key=lambda one: -one.gain)


def again(run: Run, **settings: object) -> str:
    """Return the command that repeats the run with other settings, its results in another folder.

    Options of the run's own command that `settings` names get their new values; those that it names
    with None are dropped.
    """
    start, options = options_of(run)
    options |= {name: None if v is None else str(v) for name, v in settings.items()}
    if on_kaggle(run):
        sets = [f"--set {name}={shlex.quote(v)}" for name, v in options.items() if v is not None]
        return " ".join([run.score.get("again", "ship push"), *sets])
    options["output"] = (options.get("output") or "output") + "-next"
    words = [f"--{n.replace('_', '-')} {shlex.quote(v)}" for n, v in options.items() if v]
    return " ".join([shlex.join(start), *words])


def on_kaggle(run: Run) -> bool:
    """Return whether the run was made on Kaggle, which gives every kernel the same name."""
    return PurePath(options_of(run)[0][-1]).name == "script.py"


def options_of(run: Run) -> tuple[list[str], dict[str, str | None]]:
    """Return the beginning of the run's own command, and its options by their fields' names."""
    words = shlex.split(run.metrics.get("command", "")) or ["python", "kernel.py"]
    start, options, name = words[:2], {}, ""
    for word in words[2:]:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            name = name.replace("-", "_")
            options[name] = value
        elif name:
            options[name] = word
    options.pop("fresh", None)
    return start, options


def last_network(run: Run):
    """Return the history of the first network, without stages on cached features (no rate)."""
    history = run.history
    if history.empty:
        return history
    first = history.iloc[0]
    rows = history[(history.member == first.member) & (history.fold == first.fold)]
    return rows[rows.learning_rate.notna()]


def overfitting(run: Run):
    """The training accuracy runs away from the validation's, whose loss rises again."""
    rows = last_network(run)
    if len(rows) < 3:
        return None
    last, lowest = rows.iloc[-1], rows.val_loss.min()
    gap = last.accuracy - last.val_accuracy
    if gap < GAP or last.val_loss < RISE * lowest:
        return None
    wanted = {} if run.settings.get("weight_decay") else {"weight_decay": 0.05}
    stages = run.settings.get("stages")
    if not run.settings.get("label_smoothing"):
        wanted["label_smoothing"] = 0.1
    elif stages:  # mixup pays on top of smoothing, with a clean stage at the end
        *early, clean = stages
        mixed = [s if s.get("views") else s | {"mixup": 0.2} for s in early]
        wanted["stages"] = ",".join(map(stage_text, [*mixed, clean]))
    return (
        1.5,
        "Regularise: the network learns its training photos by heart.",
        f"At the end it has {last.accuracy:.1%} of the training photos right and "
        f"{last.val_accuracy:.1%} of the held-out ones, a gap of {100 * gap:.1f} points; the "
        f"validation loss rose from {lowest:.3f} to {last.val_loss:.3f}.",
        again(run, **wanted),
    )


def underfitting(run: Run):
    """The training accuracy is low, no lower than the validation's, and still rises."""
    rows = last_network(run)
    if len(rows) < 3:
        return None
    last, before = rows.iloc[-1], rows.iloc[-2]
    best = rows.val_accuracy.max()
    rises = last.accuracy > before.accuracy and last.val_accuracy >= best
    if last.accuracy >= LEARNED or last.accuracy - last.val_accuracy >= GAP or not rises:
        return None
    epochs = 2 * max((stage["epochs"] for stage in run.settings.get("stages", [])), default=6)
    wanted = {"epochs": epochs}
    if stages := run.settings.get("stages"):
        wanted = {"stages": ",".join(stage_text(s, 2) for s in stages)}
    return (
        3,
        "Train longer: the network was still learning when its schedule ended.",
        f"It has only {last.accuracy:.1%} of the training photos right, {last.val_accuracy:.1%} of "
        "the held-out ones, and both were at their best in the last epoch.",
        again(run, **wanted),
    )


def stage_text(stage: dict, epochs: float = 1, rate: float = 1) -> str:
    """Return a stage as the command line has it, with so many times its epochs and rate."""
    times = 1 if stage.get("views") else epochs
    words = [stage["name"], f"{stage['fraction']:g}", f"{rate * stage['learning_rate']:g}"]
    words.append(str(max(1, round(times * stage["epochs"]))))
    plain = {"views": 0, "scale": 1.0, "mixup": 0.0, "cutmix": 0.0, "pseudo": 0.0}
    extra = [f"{k}={stage[k]:g}" for k, v in plain.items() if stage.get(k, v) != v]
    return ":".join(words + extra)


def idle_stage(run: Run):
    """The last stages never came near the best of the stages before them."""
    rows, stages = last_network(run), run.settings.get("stages", [])
    if rows.empty or not stages:
        return None
    first = run.history.iloc[0]
    network = run.history[(run.history.member == first.member) & (run.history.fold == first.fold)]
    best = network.groupby("stage", sort=False).val_accuracy.max()
    high = best.cummax().shift(1)
    error = np.sqrt(high * (1 - high) / max(1, run.metrics["val_images"]))
    later = best[::-1].cummax()[::-1]  # of the stage itself and those after it
    idle = [name for name in best.index if best[name] < high[name] - error[name]]
    idle = [name for name in idle if later[name] <= high[name]]
    if not idle:
        return None
    name = idle[-1]
    text = ",".join(stage_text(s, rate=0.3 if s["name"] in idle else 1) for s in stages)
    return (
        1,
        f"Lower the rate of stage {name}: it never reached what was there before it.",
        f"Its best validation accuracy is {best[name]:.2%}, after {high[name]:.2%} before it, more "
        f"than one standard error ({100 * error[name]:.1f} points) less.",
        again(run, stages=text),
    )


def unfinished(run: Run):
    """The session's end cut training or prediction short; the schedule's rest still can run."""
    if not run.metrics.get("stopped_by_time_limit"):
        return None
    start, _ = options_of(run)
    own = run.metrics.get("command") or shlex.join(start)
    return (
        20 if run.history.empty else 10,
        "Go on where time ran out: nothing that is finished is trained again.",
        f"{ran(run)} The same command goes on from there, for as long again.",
        "ship --continue" if on_kaggle(run) else own,
    )


def cut_short(run: Run):
    """The session's end cut training or prediction short; smaller photos would have fitted."""
    if not run.metrics.get("stopped_by_time_limit"):
        return None
    small = resized(run, 0.8)
    return (
        2,
        "Or make it fit into one session: with smaller photos.",
        f"{ran(run)} {work_of(run, small)}",
        again(run, image_size=small),
    )


def ran(run: Run) -> str:
    """Return how much of its schedule a run did, a sentence."""
    planned = sum(1 if s.get("views") else s["epochs"] for s in run.settings.get("stages", []))
    networks = run.history.groupby(["member", "fold"]).ngroups if len(run.history) else 0
    limit, epochs = run.metrics.get("time_limit"), len(run.history)
    within = f" of {limit:g} minutes" if limit else ""
    return (
        f"{epochs} epoch{'s' * (epochs != 1)} ran on {networks} network{'s' * (networks != 1)}, of "
        f"{planned} planned for each, within the session{within}."
    )


def limited(run: Run):
    """--limit left photos out."""
    limit, counts = run.settings.get("limit"), class_sizes(run)
    if not limit or counts.empty:
        return None
    full = int((counts >= limit).sum())
    if not full:
        return None
    return (
        10,
        f"Train on all photos: `--limit {limit}` left some out.",
        f"{full} of {len(counts)} classes have {limit} photos, the most that it allows. Nothing "
        "brings as much as more photos: of ten car makes, 80 photos a class gave an accuracy of "
        "0.74, and all 370 gave 0.93.",
        again(run, limit=None),
    )


def class_sizes(run: Run) -> pd.Series:
    """Return how many labelled photos each class has, those that validate included."""
    return run.photos[run.photos.set == "train"].label.value_counts()


def few_epochs(run: Run):
    """The schedule is short, and the network was not seen to need more of it."""
    stages = run.settings.get("stages", [])
    trained = [stage["epochs"] for stage in stages if not stage.get("views")]
    if not stages or sum(trained) >= SHORT or underfitting(run):
        return None
    _, options = options_of(run)
    if not trained:
        wanted, done = {"stages": None, "epochs": None}, "Only the head was fitted"
    else:
        done = f"The stages have {sum(trained)} epochs together"
        wanted = {"epochs": LONG}
        if "stages" in options:
            long = [s if s.get("views") else s | {"epochs": max(LONG, s["epochs"])} for s in stages]
            wanted = {"epochs": None, "stages": ",".join(map(stage_text, long))}
    return (
        4,
        "Train the whole schedule: this one is short.",
        f"{done}; the default recipe trains for 36. On three sets of car photos these were 3 to 9 "
        "points ahead of 9 epochs, the most on the smallest set.",
        again(run, **wanted),
    )


def resized(run: Run, factor: float) -> str:
    """Return the run's size of photos times a factor, in multiples of 16 pixels, as HxW."""
    height, width = (max(32, 16 * round(factor * s / 16)) for s in run.metrics["image_size"])
    return f"{height}x{width}"


def work_of(run: Run, size: str) -> str:
    """Return what photos of a size, HxW, cost beside those of the run, a sentence."""
    pixels = math.prod(map(int, size.split("x"))) / math.prod(run.metrics["image_size"])
    return f"Photos of {size.replace('x', ' x ')} take {pixels:.2g} times the time."


def shrunken_batch(run: Run):
    """A device has room for so few photos at once that BatchNorm learns from too few."""
    few = {n: p for n, p in run.metrics.get("photos_at_once", {}).items() if p < ENOUGH}
    if not few or run.settings.get("batchnorm") == "frozen":
        return None
    name = min(few, key=few.get)
    devices = max(1, len(run.metrics.get("devices", [])))
    share = -(-run.settings.get("batch_size", 0) // devices)
    return (
        2,
        "Make room: the photos are too large for the devices' memory.",
        f"In {name} a device takes {few[name]} photos at once, of its {share} of each batch. The "
        "step is the same, but BatchNorm sees only these, and gradients are added up. Photos of "
        "0.7 times the side take half the memory.",
        again(run, image_size=resized(run, 0.7)),
    )


def input_bound(run: Run):
    """Steps wait for photos: as measured or, in runs before that was, by the stages' speeds."""
    rows = last_network(run)
    if "input_bound" in rows and len(rows) > 1:
        waited = np.average(rows.input_bound[1:], weights=rows.seconds[1:])
        if not waited > INPUT_BOUND:
            return None
        return (
            0.4,
            "Feed the network faster: its steps wait for photos.",
            f"After the first epoch, which decodes them, {waited:.0%} of the training time went by "
            "waiting for photos.",
            again(run, **faster_input(run)),
        )
    return slow_for_its_work(run)


def faster_input(run: Run) -> dict[str, str]:
    """Return the settings that feed a network faster and that the run did not have."""
    wanted = {name: "yes" for name in ("cache", "fuse") if run.settings.get(name) is False}
    return wanted or {"interpolation": "nearest"}


def slow_for_its_work(run: Run):
    """On a GPU, stages that train more layers are no slower: the steps wait for photos."""
    rows, shares = last_network(run), {s["name"]: s for s in run.settings.get("stages", [])}
    if not gpus(run) or rows.empty or not shares:
        return None
    speed = rows.groupby("stage", sort=False).images_per_second.max()
    same = [n for n in speed.index if n in shares and shares[n].get("scale", 1.0) == 1.0]
    if len(same) < 2:
        return None
    few = min(same, key=lambda name: shares[name]["fraction"])
    most = max(same, key=lambda name: shares[name]["fraction"])
    cost = (1 + 2 * shares[most]["fraction"]) / (1 + 2 * shares[few]["fraction"])
    if cost < 1.3 or speed[few] >= FASTER * speed[most]:
        return None
    return (
        0.4,
        "Feed the GPU faster: its steps wait for photos.",
        f"Stage {most} costs {cost:.1f} times the arithmetic of stage {few}, but both ran at much "
        f"the same speed: {speed[most]:.0f} and {speed[few]:.0f} photos a second.",
        again(run, **faster_input(run)),
    )


def gpus(run: Run) -> list[str]:
    """Return the names of the GPUs that a run had."""
    return [name for name in run.metrics.get("devices", []) if "GPU" in name.upper()]


def no_gpu(run: Run):
    """The run took a while on a CPU."""
    seconds = run.metrics.get("seconds", 0)
    if gpus(run) or seconds < SLOW:
        return None
    height, width = run.metrics["image_size"]
    cure = (
        "the kernel's metadata ask for one: `enable_gpu`"
        if on_kaggle(run)
        else ("those of a Kaggle account are free: `ship` runs the same kernel there")
    )
    return (
        2,
        "Use a GPU: this run had none.",
        f"It took {clock_text(seconds)} on a CPU with photos of {height} x {width} pixels. A GPU "
        "does that work in a small part of the time, and so can train a stronger backbone on "
        f"larger photos for longer; {cure}.",
        "",
    )


def dominant_pair(run: Run):
    """One pair of classes makes a good part of all mistakes."""
    pairs, wrong = confused_pairs(run), int((~run.right).sum())
    if pairs.empty or len(run.classes) < 3:
        return None
    first = pairs.iloc[0]
    if first.mistakes < 5 or first.mistakes < DOMINANT * wrong:
        return None
    return (
        1.5,
        f"Tell {first['first']} and {first['second']} apart: look at their photos below, then "
        "give the network more pixels.",
        f"{first.mistakes} of all {wrong} mistakes are between these two "
        f"({first.first_as_second} and {first.second_as_first} in either direction).",
        again(run, image_size=resized(run, 1.25)),
    )


def label_suspects(run: Run):
    """Held-out predictions contradict labels, and no person has looked at them yet."""
    if run.suspects.empty:
        return None
    worst, count = run.suspects.iloc[0], len(run.suspects)
    looked = (
        "Look at the suspicious label" if count == 1 else f"Look at the {count} suspicious labels"
    )
    return (
        PER_SUSPECT * 100 * count / len(run.held_out),
        f"{looked}: some are wrong, others are the network's own mistakes.",
        f"{count} of {len(run.held_out)} held-out photos look like another class than their label "
        f"says. The most suspicious, {worst.Id}, is labelled {worst.label} (probability "
        f"{worst.probability_of_label:.1%}) and looks like {worst.suggested} "
        f"({worst.probability_of_suggested:.1%}). Write `yes` in the column `leave_out` "
        "of `suspects.csv` where the label is wrong, and repeat the run with `--exclude "
        "suspects.csv`: it leaves out the rows that you marked, and no other.",
        "",
    )


def conflicting_copies(run: Run):
    """Copies of the same photo have different labels."""
    table = conflicts(run.photos)
    if table.empty:
        return None
    groups = table.group.nunique()
    return (
        1.2,
        "Decide which label is right where copies of one photo have different ones.",
        f"{len(table)} training photos in {groups} group{'s' * (groups != 1)} are near-identical "
        "but labelled differently, so that at least one label of each group is wrong. Write `yes` "
        "in the column `leave_out` of `report/duplicates.csv` where it is, and repeat the run with "
        "`--exclude report/duplicates.csv`.",
        "",
    )


def larger_photos(run: Run):
    """Large photos are right more often than small ones, or are far larger than what is seen."""
    table, side = by_size(run), math.sqrt(math.prod(run.metrics["image_size"]))
    large_size = resized(run, 1.25)
    wanted = again(run, image_size=large_size)
    apart = not table.empty and table.pixels.iloc[-1] >= APART * table.pixels.iloc[0]
    if apart and table.pixels.iloc[-1] >= 1.2 * side:
        small, large = table.iloc[0], table.iloc[-1]
        shares = [row.right / row.photos for row in (small, large)]
        pooled = (small.right + large.right) / (small.photos + large.photos)
        error = math.sqrt(pooled * (1 - pooled) * (1 / small.photos + 1 / large.photos))
        if shares[1] - shares[0] > Z * error > 0:
            return (
                3,
                "Use larger photos: size still pays.",
                f"Of the smallest third of the held-out photos (about {small.pixels:.0f} pixels "
                f"square) {shares[0]:.1%} are right, of the largest ({large.pixels:.0f}) "
                f"{shares[1]:.1%}, more than chance explains, while the network sees {side:.0f}.",
                wanted,
            )
    known = run.photos[(run.photos.width > 0) & (run.photos.height > 0)]
    usual = math.sqrt((known.width * known.height).median()) if len(known) else 0
    if usual < LARGER * side or run.accuracy >= NEARLY_PERFECT:
        return None
    return (
        2,
        "Use larger photos: the network sees a small part of what they show.",
        f"The usual photo is {known.width.median():.0f} pixels wide and "
        f"{known.height.median():.0f} high, and the network sees {run.metrics['image_size'][1]} by "
        f"{run.metrics['image_size'][0]}. {work_of(run, large_size)}",
        wanted,
    )


def rare_class(run: Run):
    """A class has few photos to learn from."""
    counts = class_sizes(run)
    if len(counts) < 2:
        return None
    few = counts[(counts < FEW_OF_CLASS) & (counts < counts.median() / 2)]
    few = few if len(few) else counts[counts < RARE * counts.median()]
    if few.empty:
        return None
    named = ", ".join(f"{name} ({count})" for name, count in few.sort_values().head(3).items())
    ours = run.held_out.label.isin(few.index).to_numpy()
    seen = f" Of their {ours.sum()} held-out photos {run.right[ours].sum()} are right."
    one = len(few) == 1
    return (
        min(3.0, 100 * (ours & ~run.right).sum() / max(1, len(ours)) / 2) or 0.3,
        f"Find more photos of {'a rare class' if one else f'{len(few)} rare classes'}.",
        f"The usual class has {counts.median():.0f} labelled photos. The rarest: {named}."
        + (seen if ours.any() else " None of theirs is held out."),
        "",
    )


def rough_validation(run: Run):
    """The validation photos are too few to tell whether a change helps."""
    photos = len(run.held_out)
    interval = wilson(int(run.right.sum()), photos)
    if run.metrics.get("folds", 1) > 1 or interval.high - interval.low <= 2 * SOUGHT:
        return None
    return (
        0.5,
        "Judge by more photos: this validation set is too small to compare runs by.",
        f"The 95 % interval of the accuracy on {photos} photos is {interval.low:.1%} to "
        f"{interval.high:.1%}, wider than the 1 to {100 * SOUGHT:.0f} points that most changes "
        "bring. With five folds every labelled photo is held out once, in five times the time, and "
        "five networks predict.",
        again(run, folds=5),
    )


def harmful_views(run: Run):
    """Test-time augmentation lost photos."""
    metrics = run.metrics
    lost = (metrics["val_accuracy"] - metrics["val_accuracy_tta"]) * metrics["val_images"]
    if not metrics.get("tta_used") or round(lost) < FEW:
        return None
    return (
        50 * lost / metrics["val_images"],
        "Predict without test-time augmentation: it hurt.",
        f"It made {lost:.0f} more of {metrics['val_images']} held-out photos wrong: accuracy "
        f"{metrics['val_accuracy_tta']:.2%} with it, {metrics['val_accuracy']:.2%} without.",
        again(run, tta=1),
    )


def another_member(run: Run):
    """Members disagree, and where the blend is wrong some member is often right."""
    known = [m for m in run.members if np.array_equal(m.ids, run.held_out.Id.to_numpy(str))]
    if len(known) < 2:
        return None
    any_right = np.any([member.right for member in known], axis=0)
    rescued, wrong = int((any_right & ~run.right).sum()), int((~run.right).sum())
    disagree = np.any([m.predicted != known[0].predicted for m in known[1:]], axis=0).mean()
    if rescued < max(FEW, RESCUED * len(run.held_out)):
        return None
    used = {member.settings["backbone"] for member in known}
    new = next((b for b in DIFFERENT if b not in used), None)
    if new is None or run.metrics.get("weights") == "drawn":  # of which there are no others
        return None
    _, options = options_of(run)
    rows = options.get("members") or ",".join(map(member_text, known))
    wanted = {"members": f"{rows},{new.lower()}:{new}"}
    if run.metrics.get("weights") not in ("imagenet", "none"):  # a file of one backbone
        wanted["weights"] = "imagenet"
    return (
        1.5,
        "Add a member of another kind: the ones there err on different photos.",
        f"The members disagree on {disagree:.1%} of the held-out photos, and for {rescued} of the "
        f"{wrong} photos that the blend has wrong one of them is right. `ship weights {new}` "
        "downloads the new member's weights.",
        again(run, **wanted),
    )


def member_text(member) -> str:
    """Return a saved member as the command line has it."""
    height, width = member.settings["image_size"]
    return f"{member.name}:{member.settings['backbone']}:image_size={height}x{width}"


# Backbones of different kinds, by how well they do on photos of cars.
DIFFERENT = ("EfficientNetV2S", "ConvNeXtTiny", "EfficientNetB3", "InceptionV3", "Xception")

RULES: tuple[Callable[[Run], tuple[float, str, str, str] | None], ...] = (
    unfinished,
    limited,
    cut_short,
    harmful_views,
    larger_photos,
    underfitting,
    few_epochs,
    overfitting,
    idle_stage,
    shrunken_batch,
    no_gpu,
    dominant_pair,
    another_member,
    conflicting_copies,
    label_suspects,
    rare_class,
    rough_validation,
    input_bound,
)

# What takes longer, and so is no advice for a run that time cut short.
COSTLY = (larger_photos, dominant_pair, underfitting, few_epochs, rough_validation)
