"""Install albumentations from mounted wheels where it is missing or too old."""

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def why_unusable() -> str | None:
    """Return why the albumentations that Python finds can't be used, or None if it can.

    Version 2 or later is needed.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # don't ask PyPI for a newer version
    try:
        albumentations = importlib.import_module("albumentations")
    except Exception as error:  # a broken installation can raise any type
        text = str(error).partition("\n")[0]
        return f"albumentations can't be imported ({type(error).__name__}: {text})"
    version = albumentations.__version__
    return f"albumentations {version} is too old" if int(version.split(".")[0]) < 2 else None


def ensure_albumentations(lib: Path) -> None:
    """Make sure that `import albumentations` gives version 2 or later.

    Where it would not, the wheels in `lib`/wheels are installed into a temporary folder that comes
    first in `sys.path`.

    Raises:
        SystemExit: there are no wheels, or they don't help; its text is one sentence.
    """
    if not (reason := why_unusable()):
        return
    lock = lib / "wheels" / "requirements.txt"
    if not lock.is_file():
        raise SystemExit(
            f"kernel.py: {reason}, and {lib} has no wheels: here, `pip install -e .` in the "
            "project's folder mends it; for Kaggle, run `ship wheels` and `ship bundle`, and "
            "attach the new version of that dataset."
        )
    target = tempfile.mkdtemp(prefix="wheels-")
    command = [sys.executable, "-m", "pip", "install", "--isolated", "--quiet", "--no-index"]
    command += ["--disable-pip-version-check", "--no-deps", "--require-hashes"]
    command += ["--target", target, "--find-links", str(lock.parent), "--requirement", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for name in list(sys.modules):  # forget the failed or outdated import
        if name.partition(".")[0] in ("albumentations", "albucore"):
            del sys.modules[name]
    sys.path.insert(0, target)
    importlib.invalidate_caches()
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    failure = (errors or [done.stderr])[0] if done.returncode else why_unusable()
    if failure:
        raise SystemExit(
            f"kernel.py: {reason}, and the wheels in {lock.parent} don't help: {failure}"
        )
    print(f"{reason}: using the wheels in {lock.parent} instead.", file=sys.stderr, flush=True)
