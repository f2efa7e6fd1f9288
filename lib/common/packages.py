"""The packages of lib/ that go to Kaggle: which files they are, and a hash that tells them apart.

`ship` takes the hash of what it sends, and a run that of what it has found, so that both can be
compared.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from common.files import file_hash
from common.problem import Problem

LOCAL_ONLY = ("ship", "sample")
"""Packages that are never uploaded: `ship` itself, and the drawn sample competition."""

MANIFEST = "weights/manifest.json"
"""The list of the weights, which counts as code."""

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
    manifest = lib / MANIFEST
    files += [manifest] if manifest.is_file() else []
    return {file.relative_to(lib).as_posix(): file for file in files}


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
