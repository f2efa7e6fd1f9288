"""The packages of lib/ that go to Kaggle, and a hash by which `ship` and a run compare them."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from kernelkit.core.files import file_hash
from kernelkit.core.problem import Problem

# Packages that are never uploaded: `ship` itself, and the drawn sample competition.
LOCAL_ONLY = ("loopback", "sample", "ship")

MANIFEST = "weights/manifest.json"  # the list of the weights, which counts as code

# Endings of compiled files and of what editors and git leave behind.
BACKUPS = (".pyc", ".pyo", "~", ".bak", ".orig", ".rej")


def code_files(lib: Path) -> dict[str, Path]:
    """Return the files of every uploaded package and the weights' manifest, by path below `lib`.

    Hidden files, compiled ones and editors' backups are left out. Raises Problem if there is no
    package in `lib`.
    """
    files: dict[str, Path] = {}
    for package in folders_of(lib):
        if is_package(package) and package.name not in LOCAL_ONLY and not is_hidden(package.name):
            # os.walk is many times faster than Path.rglob, which counts with thousands of files.
            for place, folders, names in os.walk(package):
                folders[:] = sorted(name for name in folders if not is_hidden(name))
                below = Path(place).relative_to(lib).as_posix()
                for name in sorted(names):
                    file = Path(place, name)
                    if file.is_file() and not (is_hidden(name) or name.endswith(BACKUPS)):
                        files[f"{below}/{name}"] = file
    for name in files:
        if re.search("[\ud800-\udfff]", name):  # bytes of another encoding
            raise Problem(f"the name of {name!r} in {lib} is not in UTF-8: rename it.")
    if not files:
        raise Problem(f"there is no package in {lib}: run ship in a clone of the repository.")
    manifest = lib / MANIFEST
    return files | ({MANIFEST: manifest} if manifest.is_file() else {})


def packages_hash(lib: Path, hash_of: Callable[[Path], str] = file_hash) -> str:
    """Return a hash of the names and contents of `code_files`, as 16 hexadecimal digits.

    Files without content do not count: Kaggle need not keep them.
    """
    lines = [
        f"{name} {hash_of(file)}\n"
        for name, file in sorted(code_files(lib).items())
        if file.stat().st_size
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def packages_found() -> str:
    """Return the hash of this project's packages that are in use, "" where they are installed."""
    try:
        return packages_hash(Path(__file__).resolve().parents[2])
    except (OSError, Problem):
        return ""


def folders_of(lib: Path) -> list[Path]:
    """Return what lies directly in `lib`, sorted; nothing when there is no such folder."""
    return sorted(lib.iterdir()) if lib.is_dir() else []


def is_package(path: Path) -> bool:
    """Tell whether a path is a Python package."""
    return (path / "__init__.py").is_file()


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder of this name is hidden, or holds what Python has compiled."""
    return name.startswith(".") or name == "__pycache__"
