"""`ship weights` and `ship wheels`: download what a kernel needs offline, and check every file."""

import argparse
import functools
import shutil
import time
from pathlib import Path

from kernelkit.core.boundary import doing
from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem, did_you_mean
from kernelkit.offline import mismatch
from ship.command_line import option
from ship.kaggle.remote import Remote
from ship.kaggle.timeouts import Timeouts
from ship.output import progress_bar, say
from ship.project.offline import (
    PYTHONS,
    WeightsFile,
    get_wheels,
    how_to_get,
    known_hash,
    listed_files,
    pins,
    preset_mismatch,
    read_manifest,
    weights_mismatch,
    wheels_in,
    wheels_mismatch,
)
from ship.project.project import Project

TIMEOUT = (15, 60)  # seconds to connect, and seconds without any byte
PAUSES = (1, 2, 4, 8, 16)  # seconds after attempts that brought nothing


def download(row: WeightsFile, folder: Path) -> None:
    """Download a weights file that has a URL in as many attempts as it takes, and check it.

    What arrives stays in `<file>.part`, from which the next attempt goes on, unless it is wrong.
    Raises Problem where several attempts in a row brought nothing, none can help, or the file is
    not the published one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part, again = folder / f"{row.file}.part", f"run `ship weights {row.backbone}` again"
    md5 = "" if _size(part) == row.size else _complete(row, part, again)
    reason = weights_mismatch(part, row)
    if not reason and not (row.sha256 or row.md5):
        reason = mismatch(part, None, {"md5": md5}, known_hash)
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
                return told_md5(receive(get, row.url, part, show))
        except (*LOST, ValueError) as error:
            reason = "no answer in time" if isinstance(error, requests.Timeout) else "no connection"
            if type(error) is ConnectionError or isinstance(error, requests.HTTPError | ValueError):
                reason = str(error)
            answer = getattr(error, "response", None)
            refused = answer is not None and answer.status_code != 429 and answer.status_code < 500
            if refused or "web page" in reason or isinstance(error, ValueError) or pause is None:
                break
        say(f"{row.backbone}: {reason}; trying again in {pause} s.")
        time.sleep(pause)
    kept = f"{_megabytes(_size(part))} arrived and are kept" if _size(part) else "Nothing arrived"
    raise Problem(
        f"{row.url} can't be downloaded ({reason}). {kept}: {again} to go on, or get the file "
        "elsewhere and use --from FOLDER."
    )


def copy_weights(row: WeightsFile, source: Path, folder: Path) -> None:
    """Copy a weights file from the folder `source`; Problem if it is not the published one."""

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


def download_preset(remote: Remote, handle: str, folder: Path) -> None:
    """Download what a backbone needs of a preset into a folder, each file checked.

    What arrives of a file stays beside it, from where the next attempt goes on. Raises Problem
    where Kaggle does not show the preset, the disk has too little room, or a file is not as Kaggle
    lists it.
    """
    files = {
        name: size
        for name, size in listed_files(remote, handle).items()
        if Path(name).name == name and name.endswith((".json", ".h5"))  # others are a tokenizer's
    }
    folder.mkdir(parents=True, exist_ok=True)
    missing = {name: size for name, size in files.items() if _size(folder / name) != size}
    left = sum(size - _size(folder / f"{name}.part") for name, size in missing.items())
    free = shutil.disk_usage(folder).free
    if left > free:
        raise Problem(
            f"{handle} needs {left / 1e9:.1f} GB more, and the disk of {folder} has "
            f"{free / 1e9:.1f} GB free: free some room and run the same command again."
        )
    remote.doing = lambda: f"downloading {handle}"
    for name, size in missing.items():
        part = folder / f"{name}.part"
        with progress_bar(name) as show, remote.reporting(show):
            md5 = remote.download_model(handle, name, part)
        if reason := mismatch(part, size, {"md5": md5}, known_hash):
            part.unlink()
            raise Problem(f"{name} of {handle}: what arrived {reason} and was not kept; try again.")
        part.replace(folder / name)
    if reason := preset_mismatch(folder):
        raise Problem(f"{folder} {reason}: delete that folder, and run the same command again.")


def copy_preset(source: Path, folder: Path) -> None:
    """Copy a preset from a folder, or from the folder of its variation in that one."""
    inside = source / folder.name
    source = inside if inside.is_dir() else source
    if reason := preset_mismatch(source):
        raise Problem(
            f"{source} {reason}: --from takes the folder of a preset, or one that has it."
        )
    for path in sorted(source.iterdir()):
        if path.suffix in (".json", ".h5"):
            write_atomically(folder / path.name, lambda to, path=path: shutil.copyfile(path, to))


WHEELS_ARGUMENTS = (
    option("--from", "take the files from this folder instead of the internet (checked alike)",
        dest="source", type=Path, metavar="FOLDER"),
)  # fmt: skip
WEIGHTS_ARGUMENTS = (
    option("backbones",
        "whose ImageNet weights to get, in any case; without one, list all and what is here",
        nargs="*", metavar="BACKBONE"),
    *WHEELS_ARGUMENTS,
)  # fmt: skip


def run_weights(arguments: argparse.Namespace, project: Project) -> None:
    """Download backbones' ImageNet weights."""
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
    found = {} if wanted.keys() <= known.keys() else project.presets()
    known |= {name.lower(): name for name in found}
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
            _get_preset(name, found[name], project, arguments)


def _list_presets(project: Project) -> None:
    try:
        found = project.presets()
    except Problem as problem:
        return say(f"presets of keras_hub are not listed: {problem}")
    for name, preset in found.items():
        state = preset_mismatch(project.preset_folder(preset["handle"])) or "is here"
        say(f"{name:<19} {'':>12}  {preset['licence']:<10}  {preset['handle']} {state}")
    return None


def _get_weights(row: WeightsFile, folder: Path, arguments: argparse.Namespace) -> None:
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
    handle, folder = preset["handle"], project.preset_folder(preset["handle"])
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
    """Download what Kaggle's image may lack one day."""
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
