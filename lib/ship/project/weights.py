"""The published weights: which files and presets they are, and whether those here are the same.

Files are the rows of `lib/weights/manifest.json`: a row without a URL is of a file that comes with
the repository; Keras does not publish a hash of every file. Presets of keras_hub are models at
Kaggle, which a kernel attaches and does not upload; a version is named by its handle
`owner/model/framework/variation/version`.
"""

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path

from kernelkit.core.files import file_hash
from kernelkit.core.problem import Problem
from kernelkit.offline import PRESET_FILES, mismatch
from ship.kaggle.client_process import Refused
from ship.kaggle.remote import HIDDEN, Remote
from ship.kaggle.response_schemas import loads
from ship.ledger import rehearsing

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
SETTLED = 2_000_000_000  # nanoseconds after which a file's times show every later change of it


def known_hash(file: Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file's content in hexadecimal; an unchanged file is read once."""
    stat = file.stat()
    changed = max(stat.st_mtime_ns, stat.st_ctime_ns)
    if time.time_ns() - changed < SETTLED:  # it may be written again in the same tick
        return file_hash(file, algorithm)
    return _hash_of(Path(os.path.abspath(file)), algorithm, stat.st_size, changed, stat.st_ino)


@functools.cache
def _hash_of(file: Path, algorithm: str, *_state: int) -> str:
    return file_hash(file, algorithm)


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE


# --- files ---


@dataclass(frozen=True)
class WeightsFile:
    """A row of the manifest: the file of a backbone's weights without the top."""

    backbone: str
    file: str
    url: str | None
    size: int | None  # bytes
    sha256: str | None  # in hexadecimal, as is md5
    md5: str | None
    licence: str


def read_manifest(folder: Path) -> dict[str, WeightsFile]:
    """Return the rows of `manifest.json` by the backbones' names; Problem where it is damaged."""
    path = folder / "manifest.json"
    try:
        rows = loads(path.read_text(encoding="utf-8"))
        return {name: WeightsFile(name, **row) for name, row in rows.items()}
    except FileNotFoundError:
        raise Problem(f"{path} is missing: run `ship` from a clone of the repository.") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise Problem(f"{path} can't be read ({error}): restore it from git.") from None


def weights_mismatch(path: Path, row: WeightsFile) -> str:
    """Return how a file differs from the weights of a row, "" where it does not."""
    if path.is_file() and not _is_hdf5(path):
        return "is not an HDF5 file"
    return mismatch(path, row.size, {"sha256": row.sha256, "md5": row.md5}, known_hash)


def required_weights(files: list[str], folder: Path) -> list[Path]:
    """Return the paths of the named weights files, each present, and verified if it is published.

    A file that no row of the manifest names is a person's own, of any size. Raises Problem where a
    file is missing or damaged.
    """
    rows = {row.file: row for row in read_manifest(folder).values()}
    for name in files:
        if name not in rows and (Path(name).name != name or not (folder / name).is_file()):
            raise Problem(
                f"The weights file {name!r} is not in {folder}: put a file of your own there, "
                f"and ask for it by its name, --set weights={Path(name).name}."
            )
    own = WeightsFile("", "", None, None, None, None, "")  # of which nothing is published
    wrong = {n: why for n in files if (why := weights_mismatch(folder / n, rows.get(n, own)))}
    if wrong:
        reasons = "; ".join(f"{folder / name} {reason}" for name, reason in wrong.items())
        cure = how_to_get([rows[name] for name in wrong if name in rows], folder)
        cure = cure or "give the weights of the backbone without its top"
        taken = any((folder / name).is_file() for name in wrong if name in rows)
        hint = " (a file of your own needs a name of its own, and --set weights=NAME)" * taken
        raise Problem(f"{reasons}: {cure}{hint}.")
    return [folder / name for name in files]


def how_to_get(rows: list[WeightsFile], folder: Path) -> str:
    """Return the commands that bring weights that are missing or damaged."""
    missing = " ".join(row.backbone for row in rows if row.url is not None)
    lost = " ".join(str(folder / row.file) for row in rows if row.url is None)
    download = missing and f"run `ship weights {missing}`"
    restore = lost and f"restore the repository's copy with `git checkout -- {lost}`"
    return " and ".join(filter(None, [download, restore]))


# --- presets ---


class NotShown(Problem):
    """Kaggle shows this user no such preset."""


def listed_files(remote: Remote, handle: str) -> dict[str, int]:
    """Return the sizes in bytes of a preset's files, by their names at Kaggle.

    Raises NotShown where there is no such preset, or its licence is not accepted.
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


def preset_mismatch(folder: Path) -> str:
    """Return what is wrong with the preset in a folder, "" where nothing is."""
    for name in PRESET_FILES:
        if not (folder / name).is_file():
            return f"has no {name}" if folder.is_dir() else "is not here"
    weights = folder / PRESET_FILES[1]
    return "" if _is_hdf5(weights) else f"has a {weights.name} that is not an HDF5 file"
