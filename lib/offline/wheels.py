"""Albumentations from the mounted wheels, where the image lacks it or has an old one."""

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def albumentations_fault() -> str | None:
    """Say why the albumentations that Python finds won't do, or None when it is version 2."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask PyPI for a newer one
    try:
        albumentations = importlib.import_module("albumentations")
    except Exception as error:  # a broken installation may raise anything
        text = str(error).partition("\n")[0]
        return f"albumentations can't be imported ({type(error).__name__}: {text})"
    version = albumentations.__version__
    return f"albumentations {version} is too old" if int(version.split(".")[0]) < 2 else None


def ensure_albumentations(lib: Path) -> None:
    """Make `import albumentations` give version 2, from the wheels in `lib` where need be.

    Ends with a sentence when the wheels are not attached or don't help.
    """
    if not (fault := albumentations_fault()):
        return
    lock = lib / "wheels" / "requirements.txt"
    if not lock.is_file():
        raise SystemExit(
            f"{fault}, and {lib} has no wheels: run `ship wheels` and `ship bundle`, and attach "
            "the new version of that dataset."
        )
    target = tempfile.mkdtemp(prefix="wheels-")
    command = [sys.executable, "-m", "pip", "install", "--isolated", "--quiet", "--no-index"]
    command += ["--disable-pip-version-check", "--no-deps", "--require-hashes"]
    command += ["--target", target, "--find-links", str(lock.parent), "--requirement", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for name in list(sys.modules):  # what the failed or outdated import left
        if name.partition(".")[0] in ("albumentations", "albucore"):
            del sys.modules[name]
    sys.path.insert(0, target)
    importlib.invalidate_caches()
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    failure = (errors or [done.stderr])[0] if done.returncode else albumentations_fault()
    if failure:
        raise SystemExit(f"{fault}, and the wheels in {lock.parent} don't help: {failure}")
    print(f"{fault}: using the wheels in {lock.parent} instead.", file=sys.stderr, flush=True)
