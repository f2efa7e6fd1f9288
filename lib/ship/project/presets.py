"""Presets of keras_hub at Kaggle Models: backbones whose weights a kernel attaches, not uploads.

A version of a model is named by its handle `owner/model/framework/variation/version`.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from kernelkit.offline import PRESET_FILES, mismatch
from ship.kaggle.client_process import Refused
from ship.kaggle.remote import HIDDEN, Remote
from ship.ledger import rehearsing
from ship.output import progress_bar
from ship.project.hashes import known_hash
from ship.project.project import Project
from ship.project.published import HDF5_SIGNATURE


class NotShown(Problem):
    """Kaggle shows this user no such preset."""


def attached(metadata: dict[str, Any], handles: Iterable[str]) -> dict[str, Any]:
    """Return the kernel's metadata with these models attached, in the place of other versions."""
    handles = list(handles)
    replaced = {handle.rpartition("/")[0] for handle in handles}
    own = metadata.get("model_sources") or []
    kept = [handle for handle in own if handle.rpartition("/")[0] not in replaced]
    return metadata | {"model_sources": [*kept, *handles]}


def listed_files(remote: Remote, handle: str) -> dict[str, int]:
    """Return the sizes in bytes of a preset's files, by their names at Kaggle.

    Raises:
        NotShown: there is no such preset, or its licence is not accepted.
    """
    cure = (
        f"accept its licence at {page_of(handle)} if it asks for that, correct the handle in the "
        "row of BACKBONES, or leave this backbone out (--set backbone=, members= or candidates=)"
    )
    if rehearsing():
        cure = (
            "a rehearsal offers the presets in lib/weights, into which `ship weights BACKBONE` "
            "downloads one"
        )
    try:
        files = dict(remote.model_files(handle))
    except Refused as refusal:
        if refusal.status not in HIDDEN:
            raise
        raise NotShown(f"{str(refusal).rstrip('.')}: {cure}.") from None
    for name in PRESET_FILES:
        if name not in files:
            raise NotShown(f"the model {handle} has no {name}, so it is no preset: {cure}.")
    return files


def page_of(handle: str) -> str:
    """Return the address of a model's page."""
    return f"https://www.kaggle.com/models/{'/'.join(handle.split('/')[:2])}"


def presets_of(project: Project) -> dict[str, dict[str, str]]:
    """Return handle and licence of each of the kernel's backbones that is a preset."""
    return project.show_config(project.script({}, "presets")).get("presets") or {}


def folder_of(project: Project, handle: str) -> Path:
    """Return the folder in which a preset lies on this machine, or would."""
    return project.lib / "weights" / handle.split("/")[3]


def preset_mismatch(folder: Path) -> str:
    """Return what is wrong with the preset in a folder, "" where nothing is."""
    for name in PRESET_FILES:
        if not (folder / name).is_file():
            return f"has no {name}" if folder.is_dir() else "is not here"
    weights = folder / PRESET_FILES[1]
    with weights.open("rb") as file:
        if file.read(len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
            return f"has a {weights.name} that is not an HDF5 file"
    return ""


def download_preset(remote: Remote, handle: str, folder: Path) -> None:
    """Download what a backbone needs of a preset into a folder, each file checked.

    What arrives of a file stays beside it, from where the next attempt goes on.

    Raises:
        Problem: Kaggle does not show the preset, the disk has too little room, or a file is not as
            Kaggle lists it.
    """
    files = {
        name: size
        for name, size in listed_files(remote, handle).items()
        if Path(name).name == name and name.endswith((".json", ".h5"))  # others are a tokenizer's
    }
    folder.mkdir(parents=True, exist_ok=True)
    missing = {name: size for name, size in files.items() if _size(folder / name) != size}
    left = sum(size - _size(folder / f"{name}.part") for name, size in missing.items())
    free = shutil.disk_usage(folder).free
    if left > free:
        raise Problem(
            f"{handle} needs {left / 1e9:.1f} GB more, and the disk of {folder} has "
            f"{free / 1e9:.1f} GB free: free some room and run the same command again."
        )
    remote.doing = lambda: f"downloading {handle}"
    for name, size in missing.items():
        part = folder / f"{name}.part"
        with progress_bar(name) as show, remote.reporting(show):
            md5 = remote.download_model(handle, name, part)
        if reason := mismatch(part, size, {"md5": md5}, known_hash):
            part.unlink()
            raise Problem(f"{name} of {handle}: what arrived {reason} and was not kept; try again.")
        part.replace(folder / name)
    if reason := preset_mismatch(folder):
        raise Problem(f"{folder} {reason}: delete that folder, and run the same command again.")


def copy_preset(source: Path, folder: Path) -> None:
    """Copy a preset from a folder, or from the folder of its variation in that one.

    Raises:
        Problem: there is none, or it is damaged.
    """
    inside = source / folder.name
    source = inside if inside.is_dir() else source
    if reason := preset_mismatch(source):
        raise Problem(
            f"{source} {reason}: --from takes the folder of a preset, or one that has it."
        )
    for path in sorted(source.iterdir()):
        if path.suffix in (".json", ".h5"):
            write_atomically(folder / path.name, lambda to, path=path: shutil.copyfile(path, to))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
