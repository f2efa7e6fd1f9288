"""Tell by folders' names which photos train and which are to be predicted."""

import functools
import posixpath
import re
from collections.abc import Iterable, Sequence

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


def words_of(part: str) -> list[str]:
    """Return the words and numbers in a folder's name, in lower case, without `.zip`."""
    name = re.sub(r"\.zip$", "", part, flags=re.I)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+|\d+", name.lower())


@functools.cache
def role_of(part: str) -> str:
    """Return train, test or valid for a folder whose name says nothing else, "" for others."""
    roles = set()
    for word in words_of(part):
        joined = [r for r in ROLES if word.startswith(r) and word.removeprefix(r) in {"", *BESIDE}]
        if joined:
            roles.add(ROLES[joined[-1]])
        elif word not in BESIDE and not word.isdigit():
            return ""
    return roles.pop() if len(roles) == 1 else ""


@functools.cache
def is_unsure(part: str) -> bool:
    """Tell whether a folder's name says that its photos may have no label."""
    words = [word for word in words_of(part) if word not in BESIDE - UNSURE and not word.isdigit()]
    return bool(words) and all(word in UNSURE for word in words)


def common_folder(names: Sequence[str]) -> str:
    """Return the folder that all files lie in, "" for the uppermost."""
    return posixpath.commonpath([posixpath.dirname(name) for name in names]) if names else ""


def roles_of(names: Sequence[str]) -> dict[str, str]:
    """Return the role of each photo: that of its outermost folder that has one.

    Folders that hold all photos do not count. Of folders beside each other, such as cars_train and
    cars_test, the words that both have do not count either.

    Args:
        names: of all photos, below the competition's folder.
    """
    depth = len(common_folder(names).split("/")) if common_folder(names) else 0
    parents = {name: tuple(posixpath.dirname(name).split("/")[depth:]) for name in names}
    inside: dict[tuple[str, ...], set[str]] = {}
    for parts in set(parents.values()):
        for level, part in enumerate(parts):
            inside.setdefault(parts[:level], set()).add(part)
    of_part = {above: siblings_roles(parts) for above, parts in inside.items()}

    @functools.cache
    def outermost(parts: tuple[str, ...]) -> str:
        found = (of_part[parts[:level]][part] for level, part in enumerate(parts))
        return next(filter(None, found), "")

    return {name: outermost(parts) for name, parts in parents.items()}


def siblings_roles(parts: Iterable[str]) -> dict[str, str]:
    """Return the role of each of the folders that lie in one."""
    roles = {part: role_of(part) for part in parts}
    rests: dict[tuple[str, ...], dict[str, str]] = {}
    for part in (part for part, role in roles.items() if not role):
        words = words_of(part)
        said = {ROLES[word] for word in words if word in ROLES}
        if len(said) == 1:
            rest = tuple(word for word in words if word not in ROLES)
            rests.setdefault(rest, {})[part] = said.pop()
    for alike in rests.values():
        if {"train", "test"} <= set(alike.values()):
            roles |= alike
    return roles


def common_end(some: Sequence[str], others: Sequence[str]) -> int:
    """Return how many of the last folders of two paths are equal; the files' names don't count."""
    pairs = list(zip(some[-2::-1], others[-2::-1], strict=False))
    return next((n for n, (one, other) in enumerate(pairs) if one != other), len(pairs))
