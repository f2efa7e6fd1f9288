"""Recognise names of files, folders, columns and classes, and find the photo of every row."""

import functools
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from operator import eq

import numpy as np
import pandas as pd

from ImageDataAugmentor.files import SUFFIXES
from kernelkit.core.problem import first_names

SUFFIX = re.compile(rf"\.(?:{'|'.join(SUFFIXES)})$", re.I)  # which Ids may lack
NEAR = 3  # near misses that a reason names
WHOLE_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")  # as it is usually written


def number_of(text: str) -> int | None:
    """Return the whole number that a text spells, as 7, 007 or 7.0; None where it is none."""
    match = re.fullmatch(r"(-?\d{1,18})(?:\.0*)?", text.strip())
    return int(match[1]) if match else None


def printable(name: str) -> str:
    r"""Return a name with its bytes that are not UTF-8 as \xNN, which any report can hold."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def folded(name: str) -> str:
    """Return a name in one form of Unicode, without case and surrounding spaces."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def _file_name(name: str) -> str:
    return re.split(r"[/\\]", name.strip())[-1]


def _stem(name: str) -> str:
    return folded(SUFFIX.sub("", _file_name(name)))


def _number_or(spell: Callable[[str], str]) -> Callable[[str], str]:
    def key(name: str) -> str:
        number = number_of(spell(name))
        return spell(name) if number is None else str(number)

    return key


# Functions that make equal texts of two spellings of a name, from exact to loose.
LABEL_KEYS = (str, folded, _number_or(_stem))
FILE_KEYS = (str, _file_name, lambda name: folded(_file_name(name)), _stem, _number_or(_stem))


class Spellings:
    """Finds names that may be spelt differently; equal names are found together.

    Of `keys`, functions as in LABEL_KEYS, each is used only where all before it found nothing.
    """

    def __init__(self, names: Iterable[str], keys: Sequence[Callable[[str], str]]):
        self.names, self.keys = list(names), keys
        self._positions: list[dict[str, list[int]]] = []

    def find(self, name: str) -> tuple[list[int], int]:
        """Return the positions of all names spelt like `name`, and the number of the key."""
        for level, key in enumerate(self.keys):
            if level == len(self._positions):
                self._positions.append({})
                for position, known in enumerate(self.names):
                    self._positions[level].setdefault(key(known), []).append(position)
            if found := self._positions[level].get(key(name)):
                return found, level
        return [], -1

    def closest(self, path: str) -> tuple[list[int], int]:
        """Return what `find` does; of several paths those whose last folders are most alike."""
        found, level = self.find(path)
        if len(found) > 1:
            folders = re.split(r"[/\\]", path.strip())[-2::-1]
            ends = [self.names[position].split("/")[-2::-1] for position in found]
            alike = [[*map(eq, folders, end), False].index(False) for end in ends]
            found = [p for p, count in zip(found, alike, strict=True) if count == max(alike)]
        return found, level

    def only(self, name: str) -> str | None:
        """Return the one name that is spelt like `name`; None where there are none or several."""
        found = {self.names[position] for position in self.find(name)[0]}
        return found.pop() if len(found) == 1 else None


def without_prefix(names: Sequence[str]) -> list[str]:
    """Return names without what begins all of them: cat and dog of prob_cat and prob_dog.

    It ends with no letter, or before a number, as in c0 and c1.
    """
    least, most = min(names), max(names)
    common = least[: [*map(eq, least, most), False].index(False)]
    head = common.rstrip("0123456789")
    if not all(name.removeprefix(head).isdecimal() for name in names):
        head = re.sub(r"[^\W_]+$", "", common)
    return [name.removeprefix(head) for name in names]


ROLES = {"train": "train", "training": "train", "trn": "train"}
ROLES |= {"test": "test", "testing": "test", "tst": "test"}
ROLES |= {"val": "valid", "valid": "valid", "validation": "valid", "validate": "valid"}
ROLES |= {"dev": "valid", "eval": "valid", "evaluation": "valid"}
# Words beside a role in a folder's name: train_images, test_upload, stage_2_train, seg_test.
BESIDE = {"image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pic", "pics"}
BESIDE |= {"data", "dataset", "set", "folder", "dir", "file", "files", "upload", "split", "part"}
BESIDE |= {"stage", "seg", "jpg", "jpeg", "png", "tif", "tiff", "x", "px", "small", "full", "all"}
BESIDE |= {"new", "public", "private", "resized", "cropped", "v", "the", "unlabeled", "unlabelled"}
# Folders that may hold photos without a label, and may as well be classes.
UNSURE = {"unlabelled", "unlabeled", "unlabel", "unknown", "new", "predict", "prediction"}
UNSURE |= {"predictions", "pred", "preds", "holdout", "hold", "unseen", "inference", "infer"}
UNSURE |= {"unclassified", "unsorted", "unannotated", "pending", "todo", "inbox", "submission"}
UNSURE |= {"upload", "uploads", "submit", "score", "scoring", "hidden", "images", "photos"}
UNSURE |= {"pictures", "pics", "imgs", "files", "data", "dataset", "extra"}


ANNOTATIONS = re.compile(
    r"(?:^|/)(?:segmentations?|annotations?|trimaps?|ground[ _-]?truths?)/", re.I
)


def words_of(folder: str) -> list[str]:
    """Return the words and numbers in a folder's name, in lower case, without `.zip`."""
    name = re.sub(r"\.zip$", "", folder, flags=re.I)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+|\d+", name.lower())


@functools.cache
def role_of(folder: str) -> str:
    """Return train, test or valid for a folder whose name means nothing else, "" for others."""
    roles = set()
    for word in words_of(folder):
        joined = [r for r in ROLES if word.startswith(r) and word.removeprefix(r) in {"", *BESIDE}]
        if joined:
            roles.add(ROLES[joined[-1]])
        elif word not in BESIDE and not word.isdigit():
            return ""
    return roles.pop() if len(roles) == 1 else ""


def named_role(name: str) -> str:
    """Return the role that a word of a table's name is, "" where none or several are."""
    words = words_of(re.sub(r"\.[ct]sv$", "", posixpath.basename(name), flags=re.I))
    roles = {ROLES[word] for word in words if word in ROLES}
    return roles.pop() if len(roles) == 1 else ""


@functools.cache
def may_be_unlabelled(folder: str) -> bool:
    """Tell whether a folder's name suggests that its photos have no label."""
    words = [w for w in words_of(folder) if w not in BESIDE - UNSURE and not w.isdigit()]
    return bool(words) and all(word in UNSURE for word in words)


def common_folder(names: Sequence[str]) -> str:
    """Return the folder that all files lie in, "" for the uppermost."""
    return posixpath.commonpath([posixpath.dirname(name) for name in names]) if names else ""


def branches(names: Sequence[str]) -> dict[str, str]:
    """Return of each file the outermost folder below the common one of all, or else that one."""
    depth = len(common_folder(names).split("/")) if common_folder(names) else 0
    return {name: "/".join(name.split("/")[:-1][: depth + 1]) for name in names}


def roles_of(names: Sequence[str]) -> dict[str, str]:
    """Return the role of each of all photos: that of its outermost folder that has one.

    Folders that hold all photos do not count, nor do words that folders beside each other share,
    such as cars_train and cars_test.
    """
    depth = len(common_folder(names).split("/")) if common_folder(names) else 0
    parents = {name: tuple(posixpath.dirname(name).split("/")[depth:]) for name in names}
    inside: dict[tuple[str, ...], set[str]] = {}
    for parts in set(parents.values()):
        for level, part in enumerate(parts):
            inside.setdefault(parts[:level], set()).add(part)
    roles = {above: _roles_of_siblings(parts) for above, parts in inside.items()}

    @functools.cache
    def outermost(parts: tuple[str, ...]) -> str:
        found = (roles[parts[:level]][part] for level, part in enumerate(parts))
        return next(filter(None, found), "")

    return {name: outermost(parts) for name, parts in parents.items()}


def _roles_of_siblings(folders: Iterable[str]) -> dict[str, str]:
    roles = {folder: role_of(folder) for folder in folders}
    alike: dict[tuple[str, ...], dict[str, str]] = {}  # folders by their other words
    for folder in (folder for folder, role in roles.items() if not role):
        words = words_of(folder)
        named = {ROLES[word] for word in words if word in ROLES}
        if len(named) == 1:
            others = tuple(word for word in words if word not in ROLES)
            alike.setdefault(others, {})[folder] = named.pop()
    for found in alike.values():
        if {"train", "test"} <= set(found.values()):
            roles |= found
    valid = {folder for folder, role in roles.items() if role == "valid"}
    last = {folder for folder in valid if words_of(folder)[0].startswith("eval")}
    if last < valid and "test" not in roles.values():  # training, validation, evaluation
        roles |= dict.fromkeys(last, "test")
    return roles


def folders_of(names: pd.Series) -> set[str]:
    """Return the names of all folders that photos lie in, at any depth."""
    parents = {name.rpartition("/")[0] for name in names}
    return {folder for parent in parents for folder in parent.split("/")} - {""}


def are_masks(names: pd.Series) -> pd.Series:
    """Tell which photos mark what another shows: dog_mask.png beside dog.png, masks/dog.png.

    A photo in a folder of annotations is one of a photo of its name in any other folder.
    """
    stems = names.map(lambda name: SUFFIX.sub("", name))
    beside = stems.str.replace(r"[ _.-]?masks?([ _.-]?\d+)?$", "", case=False, regex=True)
    images = stems.str.replace(r"(^|/)masks?(?=/)", r"\1images", case=False, regex=True)
    marked, bare = names.str.contains(ANNOTATIONS), stems.str.rpartition("/")[2]
    found = [(other != stems) & other.isin(stems) for other in (beside, images)]
    return sum([*found, marked & bare.isin(bare[~marked])]) > 0


def real_paths(paths: pd.Series) -> pd.Series:
    """Return paths without links to folders, so that those of one photo are equal."""
    folders = {os.path.dirname(path) for path in paths}
    real = {folder: os.path.realpath(folder) if folder else "" for folder in folders}
    return paths.map(
        lambda path: os.path.join(real[os.path.dirname(path)], os.path.basename(path))
    ).astype(object)


def with_labels(photos: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """Return photos with a column folder: the label of the innermost class folder, or ""."""
    parents = [name.rpartition("/")[0] for name in photos["name"]]
    inner = {parent: reversed(parent.split("/")) for parent in set(parents)}
    of_parent = {
        parent: next((labels[f] for f in inner[parent] if f in labels), "") for parent in inner
    }
    return photos.assign(folder=[of_parent[parent] for parent in parents])


class PhotoIndex:
    """Finds photos (name, path, folder) by Id: a file's name with or without folders and suffix."""

    def __init__(self, photos: pd.DataFrame):
        self.paths, self.folders = photos["path"].tolist(), photos["folder"].tolist()
        self.names = photos["name"].tolist()
        self.spellings = Spellings(self.names, FILE_KEYS)

    def match(self, ids: pd.Series, labels: pd.Series | None = None) -> pd.DataFrame:
        """Return of each Id its photo's path and folder, "" without exactly one, and `near`.

        Of several photos with the same Id, the one whose folders the Id names is taken, and then
        the one in the class folder of the row's label. Where two Ids are near the same photo, it
        belongs to the one that is spelt as the photo is. `near` names photos that may be meant.
        """
        labels = pd.Series("", ids.index) if labels is None else labels
        found = [self._find(Id, label) for Id, label in zip(ids, labels, strict=True)]
        table = pd.DataFrame(found, columns=["position", "level", "near"], index=ids.index)
        claimed = table.assign(Id=ids.str.strip())[table["position"] >= 0]
        firsts = claimed.groupby("position")["level"].transform("min")
        several = claimed[claimed["level"] == firsts].groupby("position")["Id"].nunique() > 1
        lost = claimed[(claimed["level"] > firsts) | claimed["position"].map(several)]
        for row, position in lost["position"].items():
            table.at[row, "near"] = (
                f"; {printable(self.names[position])} is nearly its name, and that of another row"
            )
            table.at[row, "position"] = -1
        return table.assign(
            path=[self.paths[p] if p >= 0 else "" for p in table["position"]],
            folder=[self.folders[p] if p >= 0 else "" for p in table["position"]],
        ).astype({"near": object, "path": object, "folder": object})  # of no rows too

    def _find(self, Id: str, label: str) -> tuple[int, int, str]:
        """Return the position of the photo or -1, the level of its spelling, and near misses."""
        found, level = self.spellings.closest(Id)
        meant = [p for p in found if label and self.folders[p] == label] or found
        if len(meant) == 1:
            return meant[0], level, ""
        if not meant:
            return -1, -1, ""
        names = first_names((printable(self.names[p]) for p in meant), NEAR)
        return -1, -1, f"; it may be any of {names}"

    def without_row(self, used: pd.Series, csv: str) -> pd.DataFrame:
        """Return the photos whose path is not in `used` as rows to exclude."""
        orphans = pd.DataFrame({"Id": self.names, "path": self.paths}, dtype=object)
        orphans = orphans[~orphans["path"].isin(set(used))]
        names = [name.rpartition("/")[2] for name in orphans["Id"]]
        return orphans.assign(Id=names, reason=f"{csv} has no row for it")


def is_predicted(ids: pd.Series, photos: pd.DataFrame, tests: pd.DataFrame) -> pd.Series:
    """Tell of each Id of the training table whether it means only photos to be predicted.

    `photos` are those in the places of the training photos, `tests` those to be predicted.
    """
    both = pd.concat([photos[["name", "path"]], tests[["name", "path"]]])
    both = both.assign(path=real_paths(both["path"])).drop_duplicates("path")
    folders, names = both["path"].str.rpartition("/")[0], both["name"].str.rpartition("/")[2]
    spellings = Spellings(folders + "/" + names, FILE_KEYS[1:])
    predicted = set(np.flatnonzero(both["path"].isin(real_paths(tests["path"]))))
    found = (spellings.closest(Id)[0] for Id in ids)
    return pd.Series([bool(each) and predicted.issuperset(each) for each in found], ids.index)
