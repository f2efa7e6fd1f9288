"""The pinned wheels that a kernel installs offline if Kaggle's image lacks them one day."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from ship.output import say
from ship.project.weights import known_hash

REQUIREMENTS = "requirements.txt"  # in pip's format, so that the kernel can pass it to pip
PYTHONS = ("3.12", "3.13")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

# The SHA-256 are those on PyPI; stringzilla and simsimd have a wheel for each of PYTHONS. The first
# two have the versions of Kaggle's image. The others are there for albucore alone, so they would
# leave the image together with it. All other requirements stay: numpy and opencv are named in the
# image's list, scikit-learn needs scipy, kaggle needs PyYAML (through jupytext), and google-genai
# and google-adk, which Kaggle's own requirements name, need pydantic 2. A second pydantic beside
# the image's would conflict with it.
WHEELS = """\
# Written by `ship wheels`: the kernel installs these if Kaggle's image lacks them.
albumentations==2.0.8 \\
    --hash=sha256:c4c4259aaf04a7386ad85c7fdcb73c6c7146ca3057446b745cc035805acb1017
albucore==0.0.24 \\
    --hash=sha256:adef6e434e50e22c2ee127b7a3e71f2e35fa088bcf54431e18970b62d97d0005
stringzilla==5.3.2 \\
    --hash=sha256:76711faaad7ca263d0abab0de69321d181d8b5e418eec13f7c47398d7f154cf7 \\
    --hash=sha256:f1fdf1fc9b2f6ee598eb99f6f5d62a4b72fd98e794281e4c79bc09810de9588d
simsimd==6.5.16 \\
    --hash=sha256:12ae4f5f2ade1152d2d3a0094f56fae636204d40595b385ea9b304410647a353 \\
    --hash=sha256:ec7e92323c820935475bc9ec84938eecc9d9bc625055ff057a6d0dcfffb7eb2a
"""


def wheels_in(folder: Path) -> list[Path]:
    """Return the wheels in a folder, without links that lead nowhere."""
    return sorted(path for path in folder.glob("*.whl") if path.is_file())


def wheels_mismatch(folder: Path) -> str:
    """Return what is wrong with the wheels in a folder, "" when all are the published ones."""
    requirements = folder / REQUIREMENTS
    if not requirements.is_file():
        return f"{folder} has no {REQUIREMENTS}"
    if requirements.read_bytes() != WHEELS.encode():
        return f"{requirements} is not the list of the wheels that are now pinned"
    missing = dict(_pinned_hashes())
    for path in wheels_in(folder):
        if not missing.pop(known_hash(path), ""):
            return f"{path} is none of the wheels that {REQUIREMENTS} lists, or is damaged"
    return f"{folder} lacks a wheel of {next(iter(missing.values()))}" if missing else ""


def verified_wheels(folder: Path) -> list[Path]:
    """Return the wheels and their list, all verified; Problem where one is missing or another."""
    if reason := wheels_mismatch(folder):
        raise Problem(f"{reason}: run `ship wheels`.")
    return [*wheels_in(folder), folder / REQUIREMENTS]


def pins() -> list[str]:
    """Return the pinned packages as NAME==VERSION."""
    return list(dict.fromkeys(pin for _, pin in _pinned_hashes()))


def _pinned_hashes() -> list[tuple[str, str]]:
    """Return the SHA-256 of each wheel, with the package that it is of."""
    hashes = []
    for line in WHEELS.replace("\\\n", "").splitlines()[1:]:
        pin = line.split()[0]
        hashes += [(sha256, pin) for sha256 in re.findall("sha256:([0-9a-f]{64})", line)]
    return hashes


def get_wheels(folder: Path, source: Path | None = None) -> None:
    """Get the published wheels from pip's index, or from the folder `source`, and list them.

    They are collected and verified beside the folder, so that the wheels that are there stay until
    all others have come.

    Raises:
        Problem: pip is missing or can't download a wheel, or a wheel is not the published one.
        OSError: the folder can't be written.
    """
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # that a killed process has left
    try:
        new.mkdir(parents=True)
        write_atomically(new / REQUIREMENTS, WHEELS)
        _pip_download(new, source)
        if reason := wheels_mismatch(new):
            raise Problem(f"{reason}. The wheels that were here before stay.")
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _pip_download(folder: Path, source: Path | None) -> None:
    """Let pip download the wheels that a folder's list names, and check their hashes."""
    if importlib.util.find_spec("pip") is None:
        raise Problem(
            f"{sys.executable} has no pip: run `{sys.executable} -m ensurepip` and try again."
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp"]
    command += [*(f"--platform={name}" for name in PLATFORMS), f"--dest={folder}"]
    command += ["--require-hashes", f"--requirement={folder / REQUIREMENTS}"]
    command += ["--no-index", f"--find-links={source}"] if source else []
    for python in PYTHONS:
        say(f"asking pip for the wheels of Python {python}")
        one = [*command, f"--python-version={python}"]
        done = subprocess.run(one, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
            raise Problem(
                f"pip can't get the wheels for Python {python} ({(errors or lines)[-1]}): check "
                f"the network, or collect {', '.join(pins())} in a folder and use --from. The "
                "wheels that were here before stay."
            )
