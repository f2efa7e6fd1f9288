"""`ship weights` and `ship wheels`: download what a kernel needs offline, and check every file."""

import argparse
import errno
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from kernelkit.core.boundary import doing
from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem, did_you_mean
from kernelkit.offline import mismatch
from ship.kaggle.remote import Remote
from ship.kaggle.timeouts import Timeouts
from ship.output import progress_bar, say
from ship.project.hashes import HASHES
from ship.project.presets import (
    copy_preset,
    download_preset,
    folder_of,
    preset_mismatch,
    presets_of,
)
from ship.project.project import Project
from ship.project.published import (
    REQUIREMENTS,
    WHEELS,
    WeightsFile,
    how_to_get,
    pins,
    read_manifest,
    requirements_text,
    weights_mismatch,
    wheels_in,
    wheels_mismatch,
)

TIMEOUT = (15, 60)  # seconds to connect, and seconds without any byte
PAUSES = (1, 2, 4, 8, 16)  # seconds after attempts that brought nothing
PYTHONS = ("3.12", "3.13")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def download(row: WeightsFile, folder: Path) -> None:
    """Download a weights file that has a URL in as many attempts as it takes, and check it.

    What arrives stays in `<file>.part`, from which the next attempt goes on, unless it is wrong.

    Raises:
        Problem: several attempts in a row brought nothing, none can help, or the file is not the
            published one.
        OSError: the disk is full, or the folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part, again = folder / f"{row.file}.part", f"run `ship weights {row.backbone}` again"
    md5 = "" if _size(part) == row.size else _complete(row, part, again)
    reason = weights_mismatch(part, row)
    if not reason and not (row.sha256 or row.md5):
        reason = mismatch(part, None, {"md5": md5}, HASHES.of)
    if reason:
        part.unlink()
        raise Problem(f"{row.url}: what arrived {reason} and was not kept; {again}.")
    part.replace(folder / row.file)


def _complete(row: WeightsFile, part: Path, again: str) -> str:
    """Complete the file `part`, and return the MD5 that the server tells of it, or ""."""
    import requests

    from ship.kaggle.download import LOST, told_md5
    from ship.kaggle.download import download as receive

    get = functools.partial(requests.get, timeout=TIMEOUT)
    for pause in (*PAUSES, None):
        try:
            with progress_bar(row.backbone) as show:
                return told_md5(receive(get, row.url, part, _checking(row, part.parent, show)))
        except Problem:  # of another size
            part.unlink()
            raise
        except ValueError as error:
            raise Problem(f"{row.url} can't be downloaded: {error}.") from None
        except LOST as error:
            answer = getattr(error, "response", None)
            reason = "no answer in time" if isinstance(error, requests.Timeout) else "no connection"
            if answer is not None:
                reason = f"the server answers {answer.status_code} {answer.reason}"
            elif type(error) is ConnectionError:  # with a reason for people
                reason = str(error)
            refused = answer is not None and answer.status_code != 429 and answer.status_code < 500
            if refused or "web page" in reason:
                raise Problem(f"{row.url} ({reason}): {_elsewhere(row)}.") from None
        if pause is not None:
            say(f"{row.backbone}: {reason}; trying again in {pause} s.")
            time.sleep(pause)
    kept = f"{_megabytes(_size(part))} arrived and are kept" if _size(part) else "Nothing arrived"
    raise Problem(
        f"{urlsplit(row.url).netloc} can't be reached or keeps breaking off ({reason}). {kept}: "
        f"{again} to go on, or use --from FOLDER."
    )


def _checking(row: WeightsFile, folder: Path, show: Callable) -> Callable:
    """Return a report of progress that ends a download of another size, or for a full disk."""

    def report(done: int, total: int | None) -> None:
        if row.size is not None and total not in (None, row.size):
            size = f"{total:,} bytes instead of the published {row.size:,}"
            raise Problem(f"{row.url} has {size}: {_elsewhere(row)}.")
        if total is not None and shutil.disk_usage(folder).free < total - done:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        show(done, total)

    return report


def _elsewhere(row: WeightsFile) -> str:
    return f"get the file elsewhere and run `ship weights {row.backbone} --from FOLDER`"


def copy_weights(row: WeightsFile, source: Path, folder: Path) -> None:
    """Copy a weights file from the folder `source`, checked like a downloaded one.

    Raises:
        Problem: the folder has no such file, or the file is not the published one.
        OSError: the disk is full, or the folder can't be written.
    """

    def copy_and_check(target: Path) -> None:
        shutil.copyfile(source / row.file, target)
        if reason := weights_mismatch(target, row):
            raise Problem(
                f"{source / row.file} {reason}: it was not kept; get it with `ship weights` "
                "without --from."
            )

    if not (source / row.file).is_file():
        raise Problem(f"{source} has no file {row.file}, the weights of {row.backbone}.")
    write_atomically(folder / row.file, copy_and_check)


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
        write_atomically(new / REQUIREMENTS, requirements_text())
        if source:
            for name in filter(lambda name: (source / name).is_file(), WHEELS):
                shutil.copyfile(source / name, new / name)
        else:
            _pip_download(new)
        for name, sha256 in WHEELS.items():
            if reason := mismatch(new / name, None, {"sha256": sha256}, HASHES.of):
                place = source / name if source else f"the {name} that pip has brought"
                raise Problem(f"{place} {reason}. The wheels that were here before stay.")
        folder.mkdir(exist_ok=True)
        for name in (*WHEELS, REQUIREMENTS):
            (new / name).replace(folder / name)
        for path in wheels_in(folder):
            if path.name not in WHEELS:
                path.unlink()
    finally:
        shutil.rmtree(new, ignore_errors=True)


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
                f"check the network, or collect {', '.join(pins())} in a folder and use --from. "
                "The wheels that were here before stay."
            )


def add_weights_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship weights`."""
    parser.add_argument(
        "backbones",
        nargs="*",
        metavar="BACKBONE",
        help="whose ImageNet weights to get, in any case; without one, list all and what is here",
    )
    add_wheels_arguments(parser)


def add_wheels_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship wheels`."""
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FOLDER",
        help="take the files from this folder instead of the internet (checked alike)",
    )


def run_weights(arguments: argparse.Namespace, project: Project) -> None:
    """Download backbones' ImageNet weights.

    Raises:
        Problem: a backbone is unknown, or a file can't be had.
    """
    folder = project.lib / "weights"
    manifest = read_manifest(folder)
    if not arguments.backbones:
        for row in manifest.values():
            state = weights_mismatch(folder / row.file, row) or "is here and verified"
            origin = " (comes with the repository)" if row.url is None else ""
            size = _megabytes(row.size)
            say(f"{row.backbone:<19} {size:>12}  {row.licence:<10}  {row.file} {state}{origin}")
        return _list_presets(project)
    known = {name.lower(): name for name in manifest}
    wanted = dict.fromkeys(name.lower() for name in arguments.backbones)
    presets = {} if wanted.keys() <= known.keys() else presets_of(project)
    known |= {name.lower(): name for name in presets}
    for name in arguments.backbones:
        if name.lower() not in known:
            raise Problem(
                f"{name!r} is no known backbone{did_you_mean(name, known.values())}; the known "
                f"ones are: {', '.join(known.values())}."
            )
    for name in map(known.get, wanted):
        if name in manifest:
            _get_weights(manifest[name], folder, arguments)
        else:
            _get_preset(name, presets[name], project, arguments)


def _list_presets(project: Project) -> None:
    """Print a line for each backbone that is a preset, and whether it is here."""
    try:
        presets = presets_of(project)
    except Problem as problem:
        return say(f"presets of keras_hub are not listed: {problem}")
    for name, preset in presets.items():
        state = preset_mismatch(folder_of(project, preset["handle"])) or "is here"
        say(f"{name:<19} {'':>12}  {preset['licence']:<10}  {preset['handle']} {state}")
    return None


def _get_weights(row: WeightsFile, folder: Path, arguments: argparse.Namespace) -> None:
    """Download or copy the weights of one row unless they are there."""
    path = folder / row.file
    reason = weights_mismatch(path, row)
    if not reason:
        return say(f"{row.backbone}: {row.file} is here and verified.")
    if row.url is None and not arguments.source:
        raise Problem(f"{path} {reason}: {how_to_get([row], folder)}.")
    if path.exists():
        say(f"{row.backbone}: {row.file} {reason}, and is replaced.")
    if arguments.dry_run:
        origin = arguments.source / row.file if arguments.source else row.url
        return say(f"{row.backbone}: would get {origin} ({_megabytes(row.size)}) into {folder}.")
    doing(f"getting the weights of {row.backbone} ({_megabytes(row.size)})")
    if arguments.source:
        copy_weights(row, arguments.source, folder)
    else:
        download(row, folder)
    proof = f"{'SHA-256' if row.sha256 else 'MD5'} as published"
    if not (row.sha256 or row.md5):
        proof = "size as published (Keras publishes no hash of this file)"
    return say(f"{row.backbone}: {path}, {proof}; licence {row.licence}.")


def _get_preset(
    name: str, preset: dict[str, str], project: Project, arguments: argparse.Namespace
) -> None:
    """Download or copy the preset of one backbone unless it is there."""
    handle, folder = preset["handle"], folder_of(project, preset["handle"])
    if not preset_mismatch(folder):
        return say(f"{name}: {folder} is here.")
    if arguments.dry_run:
        return say(f"{name}: would get {arguments.source or handle} into {folder}.")
    doing(f"getting the weights of {name}")
    if arguments.source:
        copy_preset(arguments.source, folder)
    else:
        with Remote(project.runs / "uploads", Timeouts.from_environment()) as remote:
            download_preset(remote, handle, folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return say(
        f"{name}: {folder} ({_megabytes(size)}); licence {preset['licence']}. A kernel attaches it "
        "as a model and uploads nothing of it."
    )


def run_wheels(arguments: argparse.Namespace, project: Project) -> None:
    """Download what Kaggle's image may lack one day.

    Raises:
        Problem: the wheels can't be had.
    """
    folder = project.lib / "wheels"
    reason = wheels_mismatch(folder)
    if reason and arguments.dry_run:
        return say(
            f"{reason}: would download {', '.join(pins())} for Python {' and '.join(PYTHONS)} "
            f"from {arguments.source or 'the package index'}."
        )
    if reason:
        doing(f"getting the wheels for {folder}")
        get_wheels(folder, arguments.source)
    wheels = wheels_in(folder)
    for wheel in wheels:
        say(f"{_megabytes(wheel.stat().st_size):>9}  {wheel.name}")
    total = _megabytes(sum(wheel.stat().st_size for wheel in wheels))
    return say(f"{total:>9} in {len(wheels)} verified wheels in {folder}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _megabytes(size: int | None) -> str:
    return "unknown size" if size is None else f"{size / 1e6:,.1f} MB"
