"""The finished networks of a run: their probabilities, kept one file a member.

members/<member>/probabilities.npz is the contract with later sessions and other tools:

| array | shape | what it is |
|---|---|---|
| validation | float32 [photos, classes] | of photos that their network did not train on |
| validation_plain | float32 [photos, classes] | the same without test-time augmentation |
| validation_ids, validation_labels, validation_folds | [photos] | their Ids, labels and folds |
| test | float32 [folds, rows, classes] | of the test photos that can be read, one network a fold |
| test_ids | [rows] | their Ids |
| folds | int [folds] | which folds are finished |
| accuracy, accuracy_tta | float [folds] | of the plain pass, and with test-time augmentation |
| views | str [folds] | the views whose mean it is, as JSON |
| cut | bool [folds] | whether time ended their training before the schedule |
| classes | [classes] | the labels in the order of the columns |
| fingerprint | str | a hash of the photos, labels and folds that it belongs to |
| settings | str | the member's settings, as JSON |
"""

import contextlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kernelkit.core.files import as_json, write_atomically
from kernelkit.core.problem import Problem
from kernelkit.offline import find_in_outputs

if TYPE_CHECKING:
    from kernelkit.train.state import State

FILE = "probabilities.npz"
# What NumPy, zipfile and zlib raise for files that are cut short, damaged or of another kind.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Fold:
    """What one finished network says; the arrays are as in the table above."""

    fold: int
    validation: np.ndarray
    validation_plain: np.ndarray
    validation_ids: np.ndarray
    validation_positions: np.ndarray
    """The positions of the photos' labels among the classes, int [photos]."""
    test: np.ndarray
    accuracy: float
    accuracy_tta: float
    views: list[str]
    cut: bool = False


@dataclass
class Member:
    """What a member is, and its finished folds by number."""

    name: str
    settings: dict
    folds: dict[int, Fold] = field(default_factory=dict)

    @property
    def test(self) -> np.ndarray:
        """The mean over the folds, float32 [rows, classes]."""
        tests = [fold.test for fold in self.folds.values()]
        return np.mean(tests, axis=0, dtype=np.float64).astype(np.float32)


class Portfolio:
    """The members of a run, in memory and on disk.

    Args:
        folder: of this run's members.
        inputs: below which the outputs of earlier sessions may be mounted; their members count too.
        parts: the run's photos, `photos.PhotoTables` of every fold, in order.
        state: the run's: its fingerprint decides which members count, and where it is not resumed,
            the files of those in `folder` are another run's and are removed.

    Raises:
        Problem: a member's file can't be read.
    """

    def __init__(self, folder: Path, inputs: Path, parts: list, state: "State"):
        self.folder, competition = folder, parts[0].competition
        self.identity = {
            "fingerprint": state.fingerprint,
            "classes": np.asarray(competition.classes),
            "test_ids": parts[0].test.Id.to_numpy(str),
        }
        if not state.resumed:
            remove_members(folder)
        self.members: dict[str, Member] = {}
        for file in [
            *find_in_outputs(inputs, f"members/*/{FILE}"),
            *sorted(folder.glob(f"*/{FILE}")),
        ]:
            if member := read_member(file, state.fingerprint):
                self.keep_apart(member.name, member.settings)
                self.members.setdefault(member.name, member).folds.update(member.folds)

    def has(self, name: str, settings: Mapping, fold: int) -> bool:
        """Return whether a fold of a member is finished, and not cut, with these settings.

        A mounted member of that name but with other settings is kept under another name.
        """
        self.keep_apart(name, as_json(settings))
        found = self.members[name].folds.get(fold) if name in self.members else None
        return found is not None and not found.cut

    def keep_apart(self, name: str, settings: dict) -> None:
        """Give a member of that name but with other settings another name."""
        known = self.members.get(name)
        if known and known.settings != settings:
            self.members[f"{name} (earlier)"] = self.members.pop(name)

    def add(self, name: str, settings: Mapping, fold: Fold, cut: bool = False) -> None:
        """Keep what a finished network, or one that time has cut short, says, on disk too.

        Raises:
            OSError: the file can't be written.
        """
        member = self.members.setdefault(name, Member(name, as_json(settings)))
        member.folds[fold.fold] = replace(fold, cut=cut)
        write_member(self.folder / name / FILE, member, self.identity)

    def weights_file(self, name: str, fold: int) -> Path:
        """Return the file of a finished network's weights."""
        return self.folder / name / f"fold-{fold}.weights.h5"

    def tests(self) -> list[np.ndarray]:
        """Return what each member says of the test photos, float32 [rows, classes]."""
        return [member.test for member in self.members.values()]


def remove_members(folder: Path) -> None:
    """Remove the files of members, and their folders where nothing else is in them."""
    for file in folder.glob(f"*/{FILE}"):
        for own in [file, *file.parent.glob("fold-*.weights.h5")]:
            own.unlink()
        with contextlib.suppress(OSError):
            file.parent.rmdir()


def write_member(file: Path, member: Member, identity: Mapping[str, object]) -> None:
    """Write a member's file atomically; `identity` has fingerprint, classes and test_ids.

    Raises:
        OSError: the file can't be written.
    """
    folds = list(member.folds.values())
    positions = np.concatenate([f.validation_positions for f in folds])
    arrays = {
        "validation": np.concatenate([f.validation for f in folds]),
        "validation_plain": np.concatenate([f.validation_plain for f in folds]),
        "validation_ids": np.concatenate([f.validation_ids for f in folds]),
        "validation_labels": identity["classes"][positions],
        "validation_folds": np.repeat([f.fold for f in folds], [len(f.validation) for f in folds]),
        "test": np.stack([f.test for f in folds]),
        "folds": np.asarray([f.fold for f in folds]),
        "accuracy": np.asarray([f.accuracy for f in folds]),
        "accuracy_tta": np.asarray([f.accuracy_tta for f in folds]),
        "cut": np.asarray([f.cut for f in folds]),
        "views": np.asarray([json.dumps(f.views) for f in folds]),
        "settings": np.asarray(json.dumps(member.settings)),
        **{name: np.asarray(value) for name, value in identity.items()},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda beside: np.savez_compressed(beside, **arrays))


def read_member(file: Path, expected: str) -> Member | None:
    """Return the member of a file, or None where its fingerprint is not the expected one.

    Raises:
        Problem: the file can't be read.
    """
    try:
        with np.load(file) as stored:
            arrays = dict(stored)
        if str(arrays["fingerprint"]) != expected:
            return None
        return Member(file.parent.name, json.loads(str(arrays["settings"])), folds_of(arrays))
    except UNREADABLE as error:
        raise Problem(f"{file} can't be read ({error}): remove it, and it is made anew.") from error


def folds_of(arrays: Mapping[str, np.ndarray]) -> dict[int, Fold]:
    """Return the folds that a member's arrays hold, by number."""
    position = {str(label): number for number, label in enumerate(arrays["classes"])}
    folds = {}
    for number, fold in enumerate(arrays["folds"].tolist()):
        inside = arrays["validation_folds"] == fold
        folds[fold] = Fold(
            fold=fold,
            validation=arrays["validation"][inside],
            validation_plain=arrays["validation_plain"][inside],
            validation_ids=arrays["validation_ids"][inside],
            validation_positions=np.asarray(
                [position[str(label)] for label in arrays["validation_labels"][inside]]
            ),
            test=arrays["test"][number],
            accuracy=float(arrays["accuracy"][number]),
            accuracy_tta=float(arrays["accuracy_tta"][number]),
            views=json.loads(str(arrays["views"][number])),
            cut=bool(arrays["cut"][number]) if "cut" in arrays else False,
        )
    return folds
