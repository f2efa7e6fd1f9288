"""`ship wheels`: download albumentations as wheels, in case Kaggle's image lacks it one day."""

import argparse
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from ship.output import say
from ship.project.hashes import HASHES

FOLDER = Path(__file__).resolve().parents[2] / "wheels"
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

_MANY = "manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64"
WHEELS = {
    "albumentations-2.0.8-py3-none-any.whl": (
        "c4c4259aaf04a7386ad85c7fdcb73c6c7146ca3057446b745cc035805acb1017"
    ),
    "albucore-0.0.24-py3-none-any.whl": (
        "adef6e434e50e22c2ee127b7a3e71f2e35fa088bcf54431e18970b62d97d0005"
    ),
    f"stringzilla-5.3.2-cp312-cp312-{_MANY}.whl": (
        "76711faaad7ca263d0abab0de69321d181d8b5e418eec13f7c47398d7f154cf7"
    ),
    f"stringzilla-5.3.2-cp313-cp313-{_MANY}.whl": (
        "f1fdf1fc9b2f6ee598eb99f6f5d62a4b72fd98e794281e4c79bc09810de9588d"
    ),
    f"simsimd-6.5.16-cp312-cp312-{_MANY}.whl": (
        "12ae4f5f2ade1152d2d3a0094f56fae636204d40595b385ea9b304410647a353"
    ),
    f"simsimd-6.5.16-cp313-cp313-{_MANY}.whl": (
        "ec7e92323c820935475bc9ec84938eecc9d9bc625055ff057a6d0dcfffb7eb2a"
    ),
}
"""The files of PINNED that Kaggle's Pythons install, with their SHA-256 on PyPI."""


def check_wheels(folder: Path = FOLDER) -> str | None:
    """Return what is wrong with the wheels in `folder`, None when all are the published ones."""
    requirements = folder / REQUIREMENTS
    if not requirements.is_file():
        return f"{folder} has no {REQUIREMENTS}"
    if requirements.read_bytes() != requirements_text().encode():
        return f"{requirements} is not the list of the wheels that are now pinned"
    foreign = [path for path in wheels_in(folder) if path.name not in WHEELS]
    if foreign:
        return f"{foreign[0]} is none of the wheels that {REQUIREMENTS} lists"
    return next(filter(None, (mismatch(folder / name) for name in WHEELS)), None)


def mismatch(wheel: Path) -> str:
    """Return how a file differs from the published wheel of its name, "" when it does not."""
    if not wheel.is_file():
        return f"{wheel.parent} has no {wheel.name}"
    if HASHES.of(wheel) != WHEELS[wheel.name]:
        return f"{wheel} is damaged or changed: its SHA-256 is not the published one"
    return ""


def verified_wheels(folder: Path = FOLDER) -> list[Path]:
    """Return the wheels, each of them verified, and the requirements file that lists them.

    Raises:
        Problem: a wheel is missing, or is not the one that was downloaded.
    """
    if reason := check_wheels(folder):
        raise Problem(f"{reason}: run `ship wheels`.")
    return [*wheels_in(folder), folder / REQUIREMENTS]


def download_wheels(folder: Path = FOLDER, source: Path | None = None) -> None:
    """Get the published wheels from pip's index, or from the folder `source`, and list them.

    They are collected and verified beside the folder, so that the wheels that are there stay until
    all others have come.

    Raises:
        Problem: pip is missing or can't download a wheel, a wheel is not the published one, or the
            folder can't be written.
    """
    new = folder.with_name(f".{folder.name}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        write_atomically(new / REQUIREMENTS, requirements_text())
        if source:
            _copy(source, new)
        else:
            _pip_download(new)
        if reason := check_wheels(new):
            raise Problem(f"other wheels came than were asked for: {reason}.")
        folder.mkdir(exist_ok=True)
        for name in (*WHEELS, REQUIREMENTS):
            (new / name).replace(folder / name)
        for path in wheels_in(folder):
            if path.name not in WHEELS:
                path.unlink()
    except OSError as error:
        raise Problem(
            f"{error.filename or folder} can't be written ({error.strerror}): check the folder's "
            f"permissions and the free disk space, and run `ship wheels` again."
        ) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)


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


def requirements_text() -> str:
    """Return the list of all wheels with their hashes, from which pip can install."""
    lines = ["# Written by `ship wheels`: the kernel installs these if Kaggle's image lacks them."]
    for pin in _pins():
        start = f"{pin.replace('==', '-')}-"
        hashes = [f"--hash=sha256:{sha}" for name, sha in WHEELS.items() if name.startswith(start)]
        lines.append(f"{pin} {' '.join(hashes)}")
    return "\n".join(lines) + "\n"


def _copy(source: Path, folder: Path) -> None:
    """Copy the wheels from a folder, each of them verified.

    Raises:
        Problem: it lacks one, or has another than the published one.
    """
    wrong = [reason for name in WHEELS if (reason := mismatch(source / name))]
    if wrong:
        raise Problem(f"{'; '.join(wrong)}. The wheels that were here before stay.")
    for name in WHEELS:
        shutil.copyfile(source / name, folder / name)


def _pip_download(folder: Path) -> None:
    """Let pip download the wheels that a folder's list names, and check their hashes.

    Raises:
        Problem: pip is missing or can't download a wheel.
    """
    if importlib.util.find_spec("pip") is None:
        raise Problem(
            f"{sys.executable} has no pip: run `{sys.executable} -m ensurepip` and try again."
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp"]
    command += [*(f"--platform={name}" for name in PLATFORMS), f"--dest={folder}"]
    command += ["--require-hashes", f"--requirement={folder / REQUIREMENTS}"]
    for python in PYTHONS:
        say(f"asking pip for the wheels of Python {python}")
        one = [*command, f"--python-version={python}"]
        done = subprocess.run(one, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
            raise Problem(
                f"pip can't download the wheels for Python {python} ({(errors or lines)[-1]}): "
                f"check the network, or collect {', '.join(_pins())} in a folder and use --from. "
                "The wheels that were here before stay."
            )
