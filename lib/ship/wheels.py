"""`ship wheels`: download albumentations as wheels, in case Kaggle's image lacks it one day."""

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from common import Problem, file_hash, write_atomically
from ship.output import say

FOLDER = Path(__file__).resolve().parents[1] / "wheels"
REQUIREMENTS = "requirements.txt"  # in pip's format, so that the kernel can pass it to pip
PYTHONS = ("3.12", "3.13")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

# The first two have the versions of Kaggle's image. The other two are there for albucore alone, so
# they would leave the image together with it. All other requirements of these four stay: numpy and
# opencv are named in the image's list, scikit-learn needs scipy, kaggle needs PyYAML (through
# jupytext), and google-genai and google-adk, which Kaggle's own requirements name, need pydantic 2.
# A second pydantic beside the image's would conflict with it.
PINNED = {
    "albumentations": "2.0.8",
    "albucore": "0.0.24",
    "stringzilla": "5.3.2",
    "simsimd": "6.5.16",
}

_LINE = re.compile(r"([\w.-]+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})+)")


def check_wheels(folder: Path = FOLDER) -> str | None:
    """Return what is wrong with the wheels in `folder`, None when all are there and verified."""
    if not (folder / REQUIREMENTS).is_file():
        return f"{folder} has no {REQUIREMENTS}"
    try:
        required = _read_requirements(folder / REQUIREMENTS)
    except ValueError as error:
        return str(error)
    if {name: version for name, (version, _) in required.items()} != PINNED:
        return f"{folder / REQUIREMENTS} is of other versions than those now pinned"
    found: dict[str, set[Tag]] = {name: set() for name in PINNED}
    for wheel in wheels_in(folder):
        name, tags = _name_and_tags(wheel)
        if name not in required or file_hash(wheel) not in required[name][1]:
            return f"{wheel} is not a file that {REQUIREMENTS} lists"
        found[name] |= tags
    for python in PYTHONS:
        accepted = _accepted_tags(python)
        if lacking := [name for name, tags in found.items() if not tags & accepted]:
            return f"{folder} has no wheel of {', '.join(lacking)} for Python {python}"
    return None


def verified_wheels(folder: Path = FOLDER) -> list[Path]:
    """Return the wheels, each of them verified, and the requirements file that lists them.

    Raises:
        Problem: a wheel is missing, or is not the one that was downloaded.
    """
    if reason := check_wheels(folder):
        raise Problem(f"{reason}: run `ship wheels`.")
    return [*wheels_in(folder), folder / REQUIREMENTS]


def download_wheels(folder: Path = FOLDER, source: Path | None = None) -> None:
    """Download the pinned wheels for each of Kaggle's Pythons, and list them in a file at last.

    pip takes them from its configured index, or only from the folder `source`, and checks the
    index's hashes.

    Raises:
        Problem: pip is missing or can't download a wheel, or the folder can't be written.
    """
    if importlib.util.find_spec("pip") is None:
        raise Problem(
            f"{sys.executable} has no pip: run `{sys.executable} -m ensurepip` and try again."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in [folder / REQUIREMENTS, *wheels_in(folder)]:
            old.unlink(missing_ok=True)
        for python in PYTHONS:
            say(f"asking pip for the wheels of Python {python}")
            _pip_download(python, folder, source)
        _write_requirements(folder)
    except OSError as error:
        raise Problem(
            f"{error.filename or folder} can't be written ({error.strerror}): check the folder's "
            f"permissions and the free disk space, and run `ship wheels` again."
        ) from None
    if reason := check_wheels(folder):
        raise Problem(f"pip gave other wheels than asked for: {reason}.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship wheels`."""
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FOLDER",
        help="take the wheels from this folder instead of the package index",
    )


def run(arguments: argparse.Namespace, folder: Path = FOLDER) -> None:
    """Run `ship wheels`: download the wheels unless they are there, and list them.

    Raises:
        Problem: the wheels can't be had.
    """
    reason = check_wheels(folder)
    if reason and arguments.dry_run:
        say(
            f"{reason}: would download {', '.join(_pins())} for Python "
            f"{' and '.join(PYTHONS)} from {arguments.source or 'the package index'}."
        )
        return
    if reason:
        download_wheels(folder, arguments.source)
    wheels = wheels_in(folder)
    for wheel in wheels:
        say(f"{wheel.stat().st_size / 1e6:6.1f} MB  {wheel.name}")
    total = sum(wheel.stat().st_size for wheel in wheels)
    say(f"{total / 1e6:6.1f} MB in {len(wheels)} verified wheels in {folder}")


def _pins() -> list[str]:
    """Return the pinned packages in pip's format."""
    return [f"{name}=={version}" for name, version in PINNED.items()]


def wheels_in(folder: Path) -> list[Path]:
    """Return the wheels in a folder, without links that lead nowhere."""
    return sorted(path for path in folder.glob("*.whl") if path.is_file())


def _name_and_tags(wheel: Path) -> tuple[str, frozenset[Tag]]:
    name, _, _, tags = parse_wheel_filename(wheel.name)
    return name, tags


def _accepted_tags(python: str) -> set[Tag]:
    """Return the wheel tags that pip accepts on Kaggle's machine with this version of Python."""
    version = tuple(map(int, python.split(".")))
    interpreter = "cp" + python.replace(".", "")
    return {
        *cpython_tags(version, platforms=PLATFORMS),
        *compatible_tags(version, interpreter, PLATFORMS),
    }


def _pip_download(python: str, folder: Path, source: Path | None) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp"]
    command += [f"--python-version={python}", *(f"--platform={name}" for name in PLATFORMS)]
    command += ["--no-index", f"--find-links={source}"] if source else []
    command += [f"--dest={folder}", *_pins()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        raise Problem(
            f"pip can't download the wheels for Python {python} ({(errors or lines)[-1]}): check "
            f"the network, or collect {', '.join(_pins())} in a folder and use --from."
        )


def _write_requirements(folder: Path) -> None:
    """Write the wheels' versions and hashes into a file that pip can install from."""
    hashes: dict[str, list[str]] = {name: [] for name in PINNED}
    for wheel in wheels_in(folder):
        hashes[_name_and_tags(wheel)[0]].append(f"--hash=sha256:{file_hash(wheel)}")
    lines = ["# Written by `ship wheels`: the kernel installs these if Kaggle's image lacks them."]
    lines += [f"{name}=={version} {' '.join(hashes[name])}" for name, version in PINNED.items()]
    write_atomically(folder / REQUIREMENTS, "\n".join(lines) + "\n")


def _read_requirements(path: Path) -> dict[str, tuple[str, set[str]]]:
    """Return each package's version and the SHA-256 of its wheels.

    Raises:
        ValueError: a line is not one that `_write_requirements` writes.
    """
    required = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        if not (match := _LINE.fullmatch(line)):
            raise ValueError(f"{path} has a line that `ship wheels` did not write: {line!r}")
        name, version, hashes = match.groups()
        required[name] = version, set(re.findall(r"[0-9a-f]{64}", hashes))
    return required
