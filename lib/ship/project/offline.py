"""What a kernel needs offline, weights and wheels: what is published, and whether it is here.

Weights are the rows of `lib/weights/manifest.json`: a row without a URL is of a file that comes
with the repository; Keras does not publish a hash of every file. Presets of keras_hub are models at
Kaggle, which a kernel attaches and does not upload; a version is named by its handle
`owner/model/framework/variation/version`.
"""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from kernelkit.core.files import file_hash, write_atomically
from kernelkit.core.problem import Problem
from kernelkit.offline import PRESET_FILES, mismatch
from ship.kaggle.client_process import Refused
from ship.kaggle.remote import HIDDEN, Remote
from ship.kaggle.response_schemas import loads
from ship.ledger import rehearsing
from ship.output import say

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


# --- weights ---


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


# --- the pinned wheels that a kernel installs if Kaggle's image lacks them one day ---

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
    all others have come. Raises Problem where pip is missing or can't download a wheel, or a wheel
    is not the published one.
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
