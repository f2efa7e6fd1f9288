"""Find the labels of an unknown competition's photos in their folders and names, or doubts."""

import posixpath
import re
from collections.abc import Collection, Iterable, Sequence

import pandas as pd

from kernelkit.core.problem import Problem, first_names
from kernelkit.data.infer_draft import Draft, counted, inside, unread
from kernelkit.data.labels import labels_by, sample_labels, spelling_notes
from kernelkit.data.layout import Layout
from kernelkit.data.names import (
    LABEL_KEYS,
    ROLES,
    Spellings,
    are_masks,
    common_folder,
    may_be_unlabelled,
    role_of,
    words_of,
)

ENOUGH = 0.9  # of names or rows that must fit for a guess
# The label that begins a photo's name, before a number: dog.9174.jpg, great_pyrenees_12.jpg.
PATTERNS = (r"^(.+?)[._ -]+\d+\.[^.]+$", r"^([^\W\d]+)\d+\.[^.]+$", r"^([^._-]+)[._-]")
# What cameras, phones and programs begin the names of photos with.
CAMERAS = {"img", "image", "images", "imgp", "dsc", "dscn", "dscf", "dcim", "pxl", "p", "pict"}
CAMERAS |= {"dji", "gopr", "gp", "gh", "g", "mvi", "mov", "vid", "video", "sam", "cimg", "mg"}
CAMERAS |= {"wp", "whatsapp", "signal", "screenshot", "screen", "shot", "snapshot", "capture"}
CAMERAS |= {"photo", "photos", "foto", "bild", "pic", "pics", "picture", "pictures", "scan"}
CAMERAS |= {"frame", "frames", "page", "file", "item", "sample", "object", "thumb", "burst"}
CAMERAS |= {"rimg", "hpim", "kif", "sdc", "dc", "s", "cam", "camera", "untitled", "copy", "of"}
CAMERAS |= {"jpg", "jpeg", "png", "id", "no", "nr", "number", "unknown", "new", "edit", *ROLES}


def training_photos(draft: Draft, tests: Sequence[str]) -> list[str]:
    """Return the training photos where no table lists them: all that are not to be predicted.

    Those in a folder called train come first; where it is only one class folder among others, a
    class is called train.
    """
    photos, place = draft.photos, common_folder(tests)
    given = Layout.typed("test_photos", draft.given.get("test_photos", ""))
    out = {*tests, *inside(photos.names, [*given, *([place] if place else [])])}
    left = [name for name in photos.names if name not in out]
    if "train_photos" in draft.given:
        return draft.in_given("train_photos", left)
    if not left:
        more = unread(draft.source.names)
        raise Problem(f"none of the {len(photos.names)} photos is one of the training set{more}")
    named = [name for name in left if photos.roles[name] == "train"]
    if not named:
        return [name for name in left if photos.roles[name] != "valid"] or left
    flat = not levels_of(named) and len({posixpath.dirname(name) for name in named}) == 1
    if flat and len(named) < len(left) and not names_pattern(named):
        if draft.sample is None and tests and not levels_of(tests):
            question = f"whether {place} is a class, as train is, or holds the photos to predict"
            draft.doubt(question, test_photos=[place, ""])
        return left  # train, bus, car
    return [*named, *_labelled_validation(draft, named, left)]


def _labelled_validation(draft: Draft, named: list[str], left: Sequence[str]) -> list[str]:
    """Return the photos for validation, where these lie in the class folders of `named` too.

    They train: the kernel splits off a validation set of its own. The pattern that finds the labels
    in both places is noted.
    """
    others = [name for name in left if draft.photos.roles[name] == "valid"]
    places = [common_folder(names) for names in (named, others)]
    inner = [
        [posixpath.relpath(name, place or ".") for name in names]
        for names, place in zip((named, others), places, strict=True)
    ]
    classes, more = ({posixpath.dirname(name) for name in names} for names in inner)
    if levels_of(inner[0]) != [0] or not others or not more <= classes:
        return []
    if "pattern" not in draft.given:
        above = common_folder([*named, *others])
        heads = [re.escape(posixpath.relpath(place, above or ".")) for place in places]
        draft.fields["pattern"] = f"^(?:{'|'.join(heads)})/([^/]+)/"
    draft.notes.append(f"{len(others)} photos in {places[1]} have labels and train too")
    return others


def rows_of_photos(draft: Draft, trains: Sequence[str], tests: Sequence[str]) -> pd.DataFrame:
    """Return Id, label and group of photos by folder or name. Raises Problem without labels."""
    place = common_folder(trains)
    names = pd.Series([posixpath.relpath(name, place or ".") for name in trains], dtype=object)
    if (masks := are_masks(names)).any():
        draft.notes.append(f"{masks.sum()} masks, such as {names[masks.idxmax()]}, do not train")
        names = names[~masks].reset_index(drop=True)
    rows = pd.DataFrame({"Id": names, "label": "", "group": ""}, dtype=object)
    levels = levels_of(names)
    pattern = draft.given.get("pattern") or draft.fields.get("pattern", "")
    if not pattern and levels:
        pattern = _choose_level(draft, rows["Id"], levels)
    elif not pattern and (pattern := names_pattern(names, sample_labels(draft.sample))):
        labels = labels_by(pattern, rows["Id"])
        known = draft.given.get("positive") in set(labels) or _is_in_sample(draft, labels)
        if not known:
            question = f"whether the photos' names begin with their labels: {counted(labels)}"
            draft.doubt(question, pattern=pattern)
    elif not pattern:
        raise Problem(
            f"no table names the {len(trains)} training photos' labels, nor do folders or names, "
            f"such as {trains[0] if trains else 'none'}; --set pattern=REGEX finds labels in names"
            f"{unread(draft.source.names)}{''.join(f'; {why}' for why in draft.unusable.values())}"
        )
    rows["label"] = labels_by(pattern, rows["Id"])
    if pattern:
        draft.fields["pattern"] = pattern
    where = "names" if pattern and "/" not in pattern else "folders"
    draft.notes.append(f"labels: the photos' {where}; {counted(rows['label'])}")
    draft.notes += spelling_notes(rows["label"], f"the {where}")
    if where == "folders":
        _doubt_folders(draft, rows["label"], place, common_folder(tests))
    return rows[rows["label"] != ""].reset_index(drop=True)


def levels_of(names: Sequence[str]) -> list[int]:
    """Return the levels, from 0, on which photos lie in several folders."""
    parents = [name.split("/")[:-1] for name in names]
    depth = max(map(len, parents), default=0)
    folders = [{parts[level] for parts in parents if len(parts) > level} for level in range(depth)]
    return [level for level, found in enumerate(folders) if len(found) > 1]


def level_pattern(level: int) -> str:
    """Return the pattern of a path's folder on a level, from 0 for the outermost."""
    return "^" + level * "[^/]+/" + "([^/]+)/"


def _choose_level(draft: Draft, names: pd.Series, levels: list[int]) -> str:
    """Return the pattern of the level of the class folders, "" for the outermost."""
    if len(levels) == 1:
        return ""
    labels = {level: labels_by(level_pattern(level), names) for level in levels}
    sets = [lv for lv in levels if set(map(role_of, labels[lv])) == {"train", "valid"}]
    again = [lv for lv in levels[1:] if labels[lv].equals(labels[levels[0]])]  # cat/cat/1.jpg
    if left := [level for level in levels if level not in (*sets, *again)]:
        if len(left) == 1:
            return "" if left[0] == levels[0] else level_pattern(left[0])
        levels = left
    shown = [level for level in levels if _is_in_sample(draft, labels[level])]
    if len(shown) == 1:
        return "" if shown[0] == levels[0] else level_pattern(shown[0])
    ends = (levels[0], levels[-1])
    outer, inner = (first_names(sorted(set(labels[level]) - {""}), 3) for level in ends)
    question = f"whether the classes are the outer folders ({outer}) or the inner ({inner})"
    draft.doubt(question, pattern=[level_pattern(level) for level in ends])
    return ""


def _is_in_sample(draft: Draft, labels: pd.Series) -> bool:
    """Tell whether the sample submission holds only, or has columns of, these labels."""
    wanted, known = sample_labels(draft.sample), Spellings(sorted(set(labels) - {""}), LABEL_KEYS)
    return bool(wanted) and all(known.only(text) is not None for text in wanted)


def names_pattern(names: Iterable[str], known: Collection[str] = ()) -> str:
    """Return a pattern that finds a label in most photos' names, "" where there is none.

    What cameras write before a number is no label, nor are numbers and dates, but for `known` ones.
    """
    bare = pd.Series([posixpath.basename(name) for name in names], dtype=object)
    for pattern in PATTERNS:
        labels = labels_by(pattern, bare)
        counts = labels[labels != ""].value_counts()
        words = {label: re.findall(r"[^\W\d_]+", label.lower()) for label in counts.index}
        if any(CAMERAS.issuperset(words[label]) for label in words.keys() - set(known)):
            continue
        if 2 <= len(counts) <= len(bare) / 4 and counts.sum() >= ENOUGH * len(bare):
            return pattern
    return ""


def _doubt_folders(draft: Draft, labels: pd.Series, place: str, tests: str) -> None:
    """Doubt class folders in `place` whose name suggests that their photos have no label."""
    shown = sample_labels(draft.sample) if _is_in_sample(draft, labels) else set()
    for name, count in labels.value_counts().items():
        lone_test = not tests and any(role_of(word) == "test" for word in words_of(name))
        if (may_be_unlabelled(name) and name not in shown) or lone_test:
            folder = posixpath.join(place, name)
            draft.doubt(
                f"whether {folder} ({count} photos) is a class or is to be predicted or left out",
                train_photos=place or ".",
                test_photos=",".join(filter(None, [tests, folder])),
            )
