"""The members of a run in memory and on disk; `kernelkit.core.contract` describes the files."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from kernelkit.core.contract import PROBABILITIES, Fold, Member, read_member, write_member
from kernelkit.core.files import as_json
from kernelkit.data.tables import PhotoTables
from kernelkit.offline import find_in_outputs
from kernelkit.predict.saved_model import ALONE
from kernelkit.train.state import State


class MemberStore:
    """The members of a run by name, those of earlier sessions that are mounted included.

    The fingerprint of `state` decides which members count; where it is not resumed, the files of
    those in `folder` are another run's and are removed. Earlier outputs are mounted below `inputs`.
    Raises Problem if a member's file can't be read.
    """

    def __init__(self, folder: Path, inputs: Path, folds: list[PhotoTables], state: State):
        self.folder, self.fingerprint = folder, state.fingerprint
        self.classes = np.asarray(folds[0].competition.classes)
        self.test_ids = folds[0].test.Id.to_numpy(str)
        if not state.resumed:
            remove_members(folder)
        self.by_name: dict[str, Member] = {}
        mounted = find_in_outputs(inputs, f"members/*/{PROBABILITIES}")
        for file in [*mounted, *sorted(folder.glob(f"*/{PROBABILITIES}"))]:
            member = read_member(file)
            if member.fingerprint == self.fingerprint:
                self._rename_other(member.name, member.settings)
                self.by_name.setdefault(member.name, member).folds.update(member.folds)

    def has(self, name: str, settings: Mapping, fold: int) -> bool:
        """Return whether a fold of a member is finished, and not cut, with these settings.

        A mounted member of that name but with other settings is kept under another name.
        """
        self._rename_other(name, as_json(settings))
        found = self.by_name[name].folds.get(fold) if name in self.by_name else None
        return found is not None and not found.cut

    def _rename_other(self, name: str, settings: dict) -> None:
        known = self.by_name.get(name)
        if known and known.settings != settings:
            self.by_name[f"{name} (earlier)"] = self.by_name.pop(name)

    def add(self, name: str, settings: Mapping, fold: Fold, cut: bool = False) -> None:
        """Keep a network's predictions, on disk too. Raises OSError if that can't be written."""
        if name not in self.by_name:
            made = Member(name, as_json(settings), self.fingerprint, self.classes, self.test_ids)
            self.by_name[name] = made
        self.by_name[name].folds[fold.fold] = replace(fold, cut=cut)
        write_member(self.folder / name / PROBABILITIES, self.by_name[name])

    def network_file(self, name: str, fold: int, alone: bool) -> Path:
        """Return the file of a finished network, which is another where it is the only one."""
        return self.folder.parent / ALONE if alone else self.folder / name / f"fold-{fold}.keras"

    def tests(self) -> list[np.ndarray]:
        """Return each member's probabilities of the test photos, float32 [rows, classes]."""
        return [member.test for member in self.by_name.values()]


def remove_members(folder: Path) -> None:
    """Remove the files of members, and their folders where nothing else is in them."""
    for file in folder.glob(f"*/{PROBABILITIES}"):
        for own in [file, *file.parent.glob("fold-*.keras")]:
            own.unlink()
        with contextlib.suppress(OSError):
            file.parent.rmdir()
