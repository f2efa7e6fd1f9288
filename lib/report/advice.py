"""What to do next: rules over the saved figures. A rule without evidence says nothing."""

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath

import numpy as np

from inference.scores import Z
from report.figuring import by_size, conflicts, confused_pairs
from report.saved import Run

GAP = 0.05  # of training above validation accuracy, that tells of overfitting
RISE = 1.15  # of the validation loss over its lowest
LEARNED = 0.9  # training accuracy below which a network may have more to learn
FASTER = 1.15  # times that a stage of fewer trained layers is faster, at least, on a busy GPU
DOMINANT = 0.25  # share of all mistakes that one pair of classes makes
FEW = 4  # photos: a difference of fewer is chance, even if none went the other way
INPUT_BOUND = 0.05  # share of the time that steps wait for photos
ENOUGH = 8  # photos at once from which BatchNorm's statistics are worth their name
RESCUED = 0.01  # share of the photos that some member has right and the blend wrong


@dataclass(frozen=True)
class Advice:
    """One thing to do next."""

    title: str
    """What to do, one sentence."""
    evidence: str
    """The figures that say so, in sentences."""
    command: str
    """What does it, as typed into a shell."""
    rule: str
    """The name of the rule that says so."""


def advise(run: Run) -> list[Advice]:
    """Return what the saved figures of a finished run advise, the most promising first."""
    if not run.finished:
        return []
    found = ((rule.__name__, rule(run)) for rule in RULES)
    return [Advice(*said, rule=name) for name, said in found if said]


def again(run: Run, **settings: object) -> str:
    """Return the command that repeats the run with other settings, its results in another folder.

    Options of the run's own command that `settings` names get their new values.
    """
    words = shlex.split(run.metrics.get("command", "")) or ["python", "kernel.py"]
    if len(words) > 1 and PurePath(words[1]).name == "script.py":  # as Kaggle names every kernel
        sets = [f"--set {name}={shlex.quote(str(value))}" for name, value in settings.items()]
        return " ".join(["ship push", *sets])
    options = (word.split("=", 1) if word.startswith("--") else [word] for word in words)
    words = [part for option in options for part in option]
    wanted = {f"--{name.replace('_', '-')}": str(value) for name, value in settings.items()}
    wanted["--output"] = dict(pairwise(words)).get("--output", "output") + "-next"
    for number, word in enumerate(words[:-1]):
        if word in wanted:
            words[number + 1] = wanted.pop(word)
    given = [word for word in words if word != "--fresh"]
    return shlex.join([*given, *(word for pair in wanted.items() for word in pair)])


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
        "Regularise: the network learns its training photos by heart.",
        f"At the end it has {last.accuracy:.1%} of the training photos right and "
        f"{last.val_accuracy:.1%} of the held-out ones, a gap of {100 * gap:.1f} points; the "
        f"validation loss rose from {lowest:.3f} to {last.val_loss:.3f}.",
        again(run, **wanted),
    )


def underfitting(run: Run):
    """The training accuracy is low, no lower than the validation's, and still rises."""
    rows = last_network(run)
    if len(rows) < 3 or run.metrics.get("stopped_by_time_limit"):
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
        f"Lower the rate of stage {name}: it never reached what was there before it.",
        f"Its best validation accuracy is {best[name]:.2%}, after {high[name]:.2%} before it, more "
        f"than one standard error ({100 * error[name]:.1f} points) less.",
        again(run, stages=text),
    )


def cut_short(run: Run):
    """The session's end cut training or prediction short."""
    if not run.metrics.get("stopped_by_time_limit"):
        return None
    planned = sum(1 if s.get("views") else s["epochs"] for s in run.settings.get("stages", []))
    networks = run.history.groupby(["member", "fold"]).ngroups if len(run.history) else 0
    limit, small = run.metrics.get("time_limit"), resized(run, 0.8)
    within = f" of {limit:g} minutes" if limit else ""
    return (
        "Make it fit: time ran out before the schedule ended.",
        f"{len(run.history)} epochs ran on {networks} network{'s' * (networks != 1)}, of {planned} "
        f"planned for each, within the session{within}. Photos of 0.8 times the side take 0.64 "
        "times the time.",
        again(run, image_size=small),
    )


def resized(run: Run, factor: float) -> str:
    """Return the run's size of photos times a factor, in multiples of 16 pixels, as HxW."""
    height, width = (max(32, 16 * round(factor * s / 16)) for s in run.metrics["image_size"])
    return f"{height}x{width}"


def shrunken_batch(run: Run):
    """A device has room for so few photos at once that BatchNorm learns from too few."""
    few = {n: p for n, p in run.metrics.get("photos_at_once", {}).items() if p < ENOUGH}
    if not few or run.settings.get("batchnorm") == "frozen":
        return None
    name = min(few, key=few.get)
    devices = max(1, len(run.metrics.get("devices", [])))
    share = -(-run.settings.get("batch_size", 0) // devices)
    return (
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
            "Feed the network faster: its steps wait for photos.",
            f"After the first epoch, which decodes them, {waited:.0%} of the training time went by "
            "waiting for photos.",
            again(run, cache="yes", fuse="yes"),
        )
    return slow_for_its_work(run)


def slow_for_its_work(run: Run):
    """On a GPU, stages that train more layers are no slower: the steps wait for photos."""
    gpus = [name for name in run.metrics.get("devices", []) if "GPU" in name.upper()]
    rows, shares = last_network(run), {s["name"]: s for s in run.settings.get("stages", [])}
    if not gpus or rows.empty or not shares:
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
        "Feed the GPU faster: its steps wait for photos.",
        f"Stage {most} costs {cost:.1f} times the arithmetic of stage {few}, but both ran at much "
        f"the same speed: {speed[most]:.0f} and {speed[few]:.0f} photos a second.",
        again(run, cache="yes", fuse="yes", interpolation="nearest"),
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
        f"Tell {first['first']} and {first['second']} apart: look at their photos below, then "
        "give the network more pixels.",
        f"{first.mistakes} of all {wrong} mistakes are between these two "
        f"({first.first_as_second} and {first.second_as_first} in either direction).",
        again(run, image_size=resized(run, 1.25)),
    )


def label_suspects(run: Run):
    """Held-out predictions contradict labels."""
    if run.suspects.empty:
        return None
    worst, several = run.suspects.iloc[0], len(run.suspects) > 1
    return (
        f"Look at the {len(run.suspects)} suspicious labels, and leave out those that are wrong."
        if several
        else "Look at the suspicious label, and leave its photo out if it is wrong.",
        f"{len(run.suspects)} of {len(run.held_out)} held-out photos look like another class than "
        f"their label says. The most suspicious, {worst.Id}, is labelled {worst.label} "
        f"(probability {worst.probability_of_label:.1%}) and looks like {worst.suggested} "
        f"({worst.probability_of_suggested:.1%}). Delete the rows that are right first.",
        again(run, exclude=run.folder / "suspects.csv"),
    )


def conflicting_copies(run: Run):
    """Copies of the same photo have different labels."""
    table = conflicts(run.photos)
    if table.empty:
        return None
    return (
        "Leave out copies of one photo that have different labels.",
        f"{len(table)} training photos in {table.group.nunique()} groups are near-identical but "
        "labelled differently, so that at least one label of each group is wrong.",
        again(run, exclude=run.folder / "report" / "duplicates.csv"),
    )


def larger_photos(run: Run):
    """Large photos are right more often than small ones, and are larger than what is seen."""
    table, side = by_size(run), math.sqrt(math.prod(run.metrics["image_size"]))
    if table.empty or table.pixels.iloc[-1] < 1.2 * side:
        return None
    small, large = table.iloc[0], table.iloc[-1]
    shares = [row.right / row.photos for row in (small, large)]
    pooled = (small.right + large.right) / (small.photos + large.photos)
    error = math.sqrt(pooled * (1 - pooled) * (1 / small.photos + 1 / large.photos))
    if shares[1] - shares[0] <= Z * error or error == 0:
        return None
    return (
        "Use larger photos: size still pays.",
        f"Of the smallest third of the held-out photos (about {small.pixels:.0f} pixels square) "
        f"{shares[0]:.1%} are right, of the largest ({large.pixels:.0f}) {shares[1]:.1%}, more "
        f"than chance explains, while the network sees {side:.0f}.",
        again(run, image_size=resized(run, 1.25)),
    )


def harmful_views(run: Run):
    """Test-time augmentation lost photos."""
    metrics = run.metrics
    lost = (metrics["val_accuracy"] - metrics["val_accuracy_tta"]) * metrics["val_images"]
    if not metrics.get("tta_used") or round(lost) < FEW:
        return None
    return (
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
    names = [(m.name, m.settings["backbone"]) for m in known]
    used = {backbone for _, backbone in names}
    new = next(b for b in (*DIFFERENT, "Plain") if b not in used)
    text = ",".join(f"{name}:{backbone}" for name, backbone in [*names, (new.lower(), new)])
    return (
        "Add a member of another kind: the ones there err on different photos.",
        f"The members disagree on {disagree:.1%} of the held-out photos, and for {rescued} of the "
        f"{wrong} photos that the blend has wrong one of them is right.",
        again(run, members=text),
    )


# Backbones of different kinds, by how well they do on photos of cars.
DIFFERENT = ("EfficientNetV2S", "ConvNeXtTiny", "EfficientNetB3", "InceptionV3", "Xception")

RULES: tuple[Callable[[Run], tuple[str, str, str] | None], ...] = (
    cut_short,
    label_suspects,
    conflicting_copies,
    harmful_views,
    larger_photos,
    dominant_pair,
    overfitting,
    underfitting,
    idle_stage,
    shrunken_batch,
    input_bound,
    another_member,
)
