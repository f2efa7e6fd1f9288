"""Which files of lib/ go to Kaggle and which stay on this machine: only this module decides it."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from common import Problem, file_hash
from ship.weights import required_weights
from ship.wheels import verified_wheels, wheels_in

LOCAL_ONLY = ("ship", "sample")
"""Packages that are never uploaded: `ship` itself, and the drawn sample competition."""

DATA_FOLDERS = ("weights", "wheels")
"""Folders of lib/ that are no packages, but whose files the kernel may need."""

BACKUPS = (".pyc", ".pyo", "~", ".bak", ".orig", ".rej")
"""Endings of compiled files and of what editors and git leave behind."""


def code_files(lib: Path) -> dict[str, Path]:
    """Return the files of every uploaded package, and the manifest of the weights.

    Hidden files, compiled ones and editors' backups are left out.

    Returns:
        Path below `lib`, with slashes, to file; sorted by package and path.

    Raises:
        Problem: there is no package in `lib`.
    """
    packages = [path for path in folders_of(lib) if is_package(path)]
    files = [
        file
        for package in packages
        if package.name not in LOCAL_ONLY
        for file in sorted(package.rglob("*"))
        if file.is_file() and is_source(file.relative_to(lib))
    ]
    if not files:
        raise Problem(f"there is no package in {lib}: run ship in a clone of the repository.")
    manifest = lib / "weights" / "manifest.json"
    files += [manifest] if manifest.is_file() else []
    return {file.relative_to(lib).as_posix(): file for file in files}


def upload_files(lib: Path, weights_files: list[str]) -> dict[str, Path]:
    """Return every file of the dataset: the code, the named weights, and the wheels that are here.

    Returns:
        Path in the dataset, with slashes, to file.

    Raises:
        Problem: there is no package, or weights or wheels are missing or not the published ones.
    """
    wheels = lib / "wheels"
    data = required_weights(weights_files, lib / "weights")
    data += verified_wheels(wheels) if wheels_in(wheels) else []
    return code_files(lib) | {f"{file.parent.name}/{file.name}": file for file in data}


def all_files(lib: Path) -> dict[str, Path]:
    """Return the code, and all weights and wheels that are here whether they are needed or not.

    Returns:
        Path below `lib`, with slashes, to file.
    """
    data = [
        file
        for name in DATA_FOLDERS
        for file in sorted((lib / name).glob("*"))
        if file.is_file() and not file.name.startswith(".") and file.suffix != ".part"
    ]
    return code_files(lib) | {f"{file.parent.name}/{file.name}": file for file in data}


def not_sent(lib: Path) -> list[str]:
    """Return the names in `lib` that are neither a package nor known, to tell the user of them."""
    return [
        path.name
        for path in folders_of(lib)
        if path.name not in (*LOCAL_ONLY, *DATA_FOLDERS, "__pycache__")
        and not path.name.startswith(".")
        and path.suffix != ".egg-info"
        and not is_package(path)
    ]


def folders_of(lib: Path) -> list[Path]:
    """Return what lies directly in `lib`, sorted; nothing when there is no such folder."""
    return sorted(lib.iterdir()) if lib.is_dir() else []


def is_package(path: Path) -> bool:
    """Tell whether a path is a Python package."""
    return (path / "__init__.py").is_file()


def is_source(path: Path) -> bool:
    """Tell whether a path below lib/ is neither hidden nor a compiled file or a backup."""
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    return not hidden and not path.name.endswith(BACKUPS)


def copy_files(files: Mapping[str, Path], target: Path) -> None:
    """Bring files to their paths below `target` by hard links, or by copies where links fail."""
    for name, file in files.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.resolve(), place)
        except OSError:  # another file system, or one without links
            shutil.copy2(file, place)


def content_hash(files: Mapping[str, Path]) -> str:
    """Return a hash of the names and the contents of files."""
    lines = [f"{name} {sha256(file)}\n" for name, file in sorted(files.items())]
    return sha256("".join(lines).encode())


def sha256(data: bytes | Path) -> str:
    """Return the SHA-256 of bytes or of a file, in hexadecimal."""
    return hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else file_hash(data)
