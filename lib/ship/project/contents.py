"""Which files of lib/ go to Kaggle and which stay on this machine: only this module decides it."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from kernelkit.core.packages import LOCAL_ONLY, MANIFEST, code_files, folders_of, is_package
from ship.project.hashes import HASHES
from ship.project.published import required_weights, verified_wheels, wheels_in

DATA_FOLDERS = ("weights", "wheels")
"""Folders of lib/ that are no packages, but whose files the kernel may need."""


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


def parts_of(files: Mapping[str, Path]) -> dict[str, str]:
    """Return a short hash of each part of a dataset: its code, each of its weights, its wheels.

    Args:
        files: path in the dataset to file.

    Returns:
        "code", "weights/NAME" or "wheels" to 12 hexadecimal digits; the code comes first.
    """
    parts: dict[str, dict[str, Path]] = {"code": {}}
    for name, file in files.items():
        folder = name.split("/")[0]
        part = {"weights": name, "wheels": "wheels"}.get(folder, "code")
        parts.setdefault("code" if name == MANIFEST else part, {})[name] = file
    return {part: content_hash(inside)[:12] for part, inside in parts.items()}


def sha256(data: bytes | Path) -> str:
    """Return the SHA-256 of bytes or of a file, in hexadecimal."""
    return hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else HASHES.of(data)
