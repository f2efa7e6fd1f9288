"""The members of a run: predictions, in memory and on disk, and their networks with a manifest.

`kernelkit.core.contract` describes the files of predictions. Each network is one `.keras` file
that `keras.models.load_model` opens where nothing of this project is installed: uint8 photos [n,
height, width, 3] in 0..255 to probabilities [n, classes], with its scaling inside. `model.json`
says how they are combined; it is written last.
"""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np

from kernelkit.config.views import View, views_of
from kernelkit.core.contract import (
    MODEL_FILE,
    PROBABILITIES,
    Fold,
    Member,
    Metrics,
    read_json,
    read_member,
    unreadable,
    write_member,
)
from kernelkit.core.files import as_json, file_hash, write_atomically
from kernelkit.core.problem import Problem
from kernelkit.data.tables import PhotoTables
from kernelkit.offline import find_in_outputs
from kernelkit.predict.ensemble import BlendResult
from kernelkit.train.plan import Run
from kernelkit.train.state import State, bytes_on_disk

VERSION = 1  # of the manifest; a newer one is refused
ALONE = "best.keras"  # the network of a run that trains only one


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
        """Return whether a fold is finished with these settings; rename a member of others."""
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


@dataclass(frozen=True)
class SavedNetwork:
    """A network of a member: its file, and the views whose mean it predicts."""

    fold: int
    file: str  # relative to the manifest
    sha256: str
    views: list[dict]  # the fields of `View`, and `number`, which decides a view's random draws
    cut: bool = False  # whether time ended its training before the schedule


@dataclass(frozen=True)
class SavedMember:
    """A member of the blend, whose prediction is the mean over its networks."""

    name: str
    weight: float  # in the blend; the weights add up to 1
    temperature: float  # by which its logits are divided, before the blend
    settings: dict  # of its training
    networks: list[SavedNetwork]


@dataclass(frozen=True)
class SavedModel:
    """The content of model.json."""

    competition: str
    classes: list  # the labels in the order of the probabilities
    frequencies: list[float]  # of the classes among the training photos
    metric: str  # a row of METRICS
    score: float  # its value on the validation photos
    score_low: float  # the ends of its 95 % interval
    score_high: float
    layout: dict  # the fields of the competition's block
    kept_size: list[int] | None  # to which photos are resized first; None: straight to the size
    temperature: float  # by which the logits of the blend are divided, at last
    members: list[SavedMember]
    versions: dict[str, str]  # of Python and of the packages that decide the result
    packages: str  # a hash of this project's
    version: int = VERSION


def write_network(network: keras.Model, path: Path) -> None:
    """Write a network to a `.keras` file, atomically. Raises OSError if it can't be written."""
    # The archive is made of a temporary copy, so that both must fit.
    write_atomically(path, network.save, 2 * bytes_on_disk(network) + (1 << 20))


def write_model(
    run: Run, result: BlendResult, views: Sequence[View], inputs: Path, metrics: Metrics
) -> None:
    """Write model.json into a run's folder, and copy networks of earlier sessions beside it.

    Where a network's file is missing there is no manifest, and a line says so. `views` are rows of
    VIEWS. Raises OSError if it can't be written.
    """
    tables = run.folds[0]
    counts = tables.class_counts()["train"].to_numpy()
    try:
        members = [
            SavedMember(
                name,
                weight,
                result.temperatures[name],
                result.members[name].settings,
                _networks(run, result.members[name], views, inputs),
            )
            for name, weight in result.blend.weights.items()
            if weight > 0
        ]
    except FileNotFoundError as missing:
        print(f"{MODEL_FILE} is not written: there is no {missing}, a network of this blend.")
        return
    model = SavedModel(
        competition=metrics.competition,
        classes=list(metrics.classes),
        frequencies=(counts / counts.sum()).tolist(),
        metric=metrics.metric,
        score=metrics.score,
        score_low=metrics.score_low,
        score_high=metrics.score_high,
        layout=dataclasses.asdict(tables.competition.layout),
        kept_size=tables.kept_size and list(tables.kept_size),
        temperature=result.temperature,
        members=members,
        versions=metrics.versions,
        packages=metrics.packages,
    )
    write_atomically(run.output / MODEL_FILE, json.dumps(dataclasses.asdict(model), indent=1))


def _networks(run: Run, member: Member, views: Sequence[View], inputs: Path) -> list[SavedNetwork]:
    settings = run.members.get(member.name)
    offered = views_of(settings, views) if settings else list(views)
    known = {view.name: {"number": n} | dataclasses.asdict(view) for n, view in enumerate(offered)}
    found = []
    for number, fold in sorted(member.folds.items()):
        file = Path("members", member.name, f"fold-{number}.keras")
        if not (run.output / file).is_file() and (run.output / ALONE).is_file():
            file = Path(ALONE)
        if not (run.output / file).is_file():
            mounted = next(find_in_outputs(inputs, file.as_posix()), None)
            if mounted is None:
                raise FileNotFoundError(file)
            write_atomically(run.output / file, partial(shutil.copyfile, mounted))
        of_file, seen = file_hash(run.output / file), [known[name] for name in fold.views]
        found.append(SavedNetwork(number, file.as_posix(), of_file, seen, fold.cut))
    return found


def read_model(folder: Path, every_file: bool = True) -> SavedModel:
    """Return the manifest of a finished run, whose files are all there and as they were written.

    Without `every_file` they are not looked at: whoever loads them finds out. Raises Problem if the
    folder holds no finished run, or one of a newer version, or a file is missing or changed.
    """
    path = folder / MODEL_FILE
    content = read_json(path)
    if not content:
        raise Problem(f"{folder} holds no {MODEL_FILE}: give a finished run's folder with --run.")
    if content.get("version") != VERSION:
        raise Problem(
            f"{path} is of version {content.get('version')}, but this program reads version "
            f"{VERSION}: use the kernel.py of the version that made the run, or train again."
        )
    try:
        members = [
            SavedMember(**one | {"networks": [SavedNetwork(**each) for each in one["networks"]]})
            for one in content["members"]
        ]
        model = SavedModel(**content | {"members": members})
    except (TypeError, KeyError) as error:
        raise unreadable(path, error) from error
    for network in (network for member in members for network in member.networks if every_file):
        file = folder / network.file
        if not file.is_file():
            raise Problem(f"{file} is missing, which {path} names: copy the whole run.")
        if file_hash(file) != network.sha256:
            raise Problem(f"{file} is not what {path} names, by its hash: copy the run again.")
    return model
