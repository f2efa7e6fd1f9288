"""`ship weights`: download the backbones' ImageNet weights once, and check every file.

A file whose row in the manifest has no URL comes with the repository: it is checked, but never
downloaded.
"""

import argparse
import base64
import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from ship.grammar import meant
from ship.kaggle.shapes import loads
from ship.output import progress_bar, say
from ship.project.hashes import HASHES

if TYPE_CHECKING:
    import requests  # only a download imports it: it takes a fourth of the time of every `ship`

FOLDER = Path(__file__).resolve().parents[2] / "weights"
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
CHUNK = 1 << 16  # bytes; a cut connection loses at most one chunk
TIMEOUT = (15, 60)  # seconds to connect, and seconds without any byte
PAUSES = (1, 2, 4, 8, 16)  # seconds before the next attempt, after one to five without progress


@dataclass(frozen=True)
class WeightsFile:
    """One row of `manifest.json`: the file of a backbone's weights without the top.

    `url` is None for a file that comes with the repository. `size` is in bytes. `sha256` and `md5`
    are in hexadecimal, and None where Keras publishes none.
    """

    backbone: str
    file: str
    url: str | None
    size: int | None
    sha256: str | None
    md5: str | None
    licence: str


class _Interrupted(Exception):
    """An attempt ended early for a reason that may not occur again."""


def read_manifest(folder: Path = FOLDER) -> dict[str, WeightsFile]:
    """Read `manifest.json` in `folder`.

    Returns:
        Each backbone's row by the backbone's name.

    Raises:
        Problem: the manifest is missing, or a row has other fields or values than it must have.
    """
    path = folder / "manifest.json"
    try:
        rows = loads(path.read_text(encoding="utf-8"))
        manifest = {name: WeightsFile(name, **row) for name, row in rows.items()}
    except FileNotFoundError:
        raise Problem(f"{path} is missing: run `ship` from a clone of the repository.") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise Problem(f"{path} can't be read ({error}): restore it from git.") from None
    for row in manifest.values():
        if not row.file or Path(row.file).name != row.file or row.file == "..":
            raise Problem(f"{path}: {row.backbone}'s file {row.file!r} must be a bare file name.")
        if row.url is None and row.sha256 is None:
            raise Problem(f"{path}: {row.backbone} needs a sha256, because it has no url.")
    return manifest


def find_backbone(name: str, manifest: dict[str, WeightsFile]) -> WeightsFile:
    """Return a backbone's row by its name in any case.

    Raises:
        Problem: there is no such backbone; the known names are listed.
    """
    for known, row in manifest.items():
        if known.lower() == name.lower():
            return row
    raise Problem(
        f"{name!r} is no known backbone{meant(name, manifest)}; the known ones are: "
        f"{', '.join(manifest)}."
    )


def mismatch(path: Path, row: WeightsFile) -> str | None:
    """Return how the file at `path` differs from its row, None when it agrees with it."""
    if not path.is_file():
        return "is not there"
    with path.open("rb") as file:
        if file.read(len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
            return "is not an HDF5 file"
    size = path.stat().st_size
    if row.size is not None and size != row.size:
        return f"has {size:,} bytes instead of {row.size:,}"
    for algorithm in ("sha256", "md5"):
        published = getattr(row, algorithm)
        if published and (found := HASHES.of(path, algorithm)) != published.lower():
            return f"has the {algorithm.upper()} {found} instead of the published {published}"
    return None


def required_weights(files: list[str], folder: Path = FOLDER) -> list[Path]:
    """Return the paths of the named weights files, each present and verified.

    Raises:
        Problem: a file is missing, damaged or unknown; the sentence says how to get it.
    """
    rows = _rows_of(files, folder)
    wrong = {row: reason for row in rows if (reason := mismatch(folder / row.file, row))}
    if wrong:
        reasons = "; ".join(f"{folder / row.file} {reason}" for row, reason in wrong.items())
        raise Problem(f"{reasons}: {_remedy(list(wrong), folder)}.")
    return [folder / row.file for row in rows]


def _remedy(rows: list[WeightsFile], folder: Path) -> str:
    """Return how to get files that are missing or damaged."""
    download = " ".join(row.backbone for row in rows if row.url is not None)
    restore = " ".join(str(folder / row.file) for row in rows if row.url is None)
    remedies = [f"run `ship weights {download}`"] if download else []
    remedies += (
        [f"restore the repository's copy with `git checkout -- {restore}`"] if restore else []
    )
    return " and ".join(remedies)


def download(row: WeightsFile, folder: Path = FOLDER) -> Path:
    """Download one weights file that has a URL, and check it.

    The download resumes what an earlier attempt has left in `<file>.part`. What arrives stays there
    for the next attempt, unless it proves to be wrong.

    Raises:
        Problem: the network or the server failed, the disk is full, or the file is not the
            published one.
    """
    part = folder / f"{row.file}.part"
    with _disk_errors_explained(row, folder):
        folder.mkdir(parents=True, exist_ok=True)
        announced_md5 = _complete(row, part)
        if (
            announced_md5
            and not (row.sha256 or row.md5)
            and HASHES.of(part, "md5") != announced_md5
        ):
            part.unlink()
            raise Problem(
                f"{row.file} arrived damaged (its MD5 is not the one that the server announced), "
                f"and was not kept: run `ship weights {row.backbone}` again."
            )
        return _accept(part, row, row.url, f"run `ship weights {row.backbone}` again")


def copy(row: WeightsFile, source: Path, folder: Path = FOLDER) -> Path:
    """Copy a weights file from the folder `source`, checked like a downloaded one.

    Raises:
        Problem: the folder has no such file, the file is not the published one, or the disk is
            full.
    """
    original = source / row.file
    if not source.is_dir():
        raise Problem(f"--from takes a folder that holds {row.file}, and {source} is none.")
    if not original.is_file():
        raise Problem(f"{source} has no file {row.file}, the weights of {row.backbone}.")

    def copy_and_check(target: Path) -> None:
        shutil.copyfile(original, target)
        if reason := mismatch(target, row):
            raise Problem(
                f"{original} {reason}: it was not kept; get it with `ship weights` without --from."
            )

    with _disk_errors_explained(row, folder):
        write_atomically(folder / row.file, copy_and_check)
    return folder / row.file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship weights`."""
    parser.add_argument(
        "backbones",
        nargs="*",
        metavar="BACKBONE",
        help="whose ImageNet weights to get, in any case; without one, list all and what is here",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FOLDER",
        help="take the files from this folder instead of the internet (checked alike)",
    )


def run(arguments: argparse.Namespace, folder: Path = FOLDER) -> None:
    """Run `ship weights`: list all files, or get the named backbones' files.

    Raises:
        Problem: a named file can't be had.
    """
    manifest = read_manifest(folder)
    if not arguments.backbones:
        _list(manifest, folder)
        return
    rows = [find_backbone(name, manifest) for name in arguments.backbones]
    for row in dict.fromkeys(rows):
        reason = mismatch(folder / row.file, row)
        if reason is None:
            say(f"{row.backbone}: {row.file} is here and verified.")
            continue
        if row.url is None and not arguments.source:
            raise Problem(f"{folder / row.file} {reason}: {_remedy([row], folder)}.")
        if (folder / row.file).exists():
            say(f"{row.backbone}: {row.file} {reason}, and is replaced.")
        origin = arguments.source / row.file if arguments.source else row.url
        if arguments.dry_run:
            say(f"{row.backbone}: would get {origin} ({_megabytes(row.size)}) into {folder}.")
            continue
        path = copy(row, arguments.source, folder) if arguments.source else download(row, folder)
        say(f"{row.backbone}: {path}, {_proof(row)}; licence {row.licence}.")


def _rows_of(files: list[str], folder: Path) -> list[WeightsFile]:
    by_file = {row.file: row for row in read_manifest(folder).values()}
    for name in files:
        if name not in by_file:
            raise Problem(
                f"The weights file {name!r} is not in {folder / 'manifest.json'}: add a row for it."
            )
    return [by_file[name] for name in files]


def _complete(row: WeightsFile, part: Path) -> str | None:
    """Complete `part` in as many attempts as it takes; return the MD5 that the server announces.

    Raises:
        Problem: several attempts in a row brought nothing, or none can help.
    """
    import requests

    most, idle = _size(part), 0
    while True:
        try:
            return _fetch(row, part)
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
            _Interrupted,
        ) as error:
            idle = 0 if _size(part) > most else idle + 1
            most = max(most, _size(part))
            if idle > len(PAUSES):
                raise Problem(_given_up(row, part, error)) from None
            pause = PAUSES[max(idle, 1) - 1]
            say(f"{row.backbone}: {_reason(error)}; trying again in {pause} s.")
            time.sleep(pause)
        except requests.RequestException as error:
            raise Problem(f"{row.url} can't be downloaded: {error}.") from None


def _fetch(row: WeightsFile, part: Path) -> str | None:
    """Make one attempt to complete `part`; return the MD5 that the server announces, or None."""
    import requests

    start = _size(part)
    if row.size is not None and start == row.size:
        return None
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(row.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        _check_answer(row, part, answer)
        start = _first_byte(row, answer, start)
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        if row.size is not None and total is not None and total != row.size:
            raise Problem(
                f"{row.url} has {total:,} bytes instead of the published {row.size:,}: nothing was "
                f"downloaded. Get the file elsewhere and use --from FOLDER."
            )
        _receive(row, part, answer, start, total)
        return _announced_md5(answer)


def _check_answer(row: WeightsFile, part: Path, answer: "requests.Response") -> None:
    if answer.status_code == 416:  # the partial file is longer than the server's
        part.unlink(missing_ok=True)
        raise _Interrupted("the server refused to go on from the partial file")
    if answer.status_code == 429 or answer.status_code >= 500:
        raise _Interrupted(f"the server answers {answer.status_code} {answer.reason}")
    if answer.status_code not in (200, 206):
        raise Problem(
            f"{row.url} answers {answer.status_code} {answer.reason}: get the file elsewhere and "
            f"run `ship weights {row.backbone} --from FOLDER`."
        )
    if "text/html" in answer.headers.get("Content-Type", ""):
        raise Problem(
            f"{row.url} answers with a web page instead of the weights (a proxy or a login page?): "
            f"open it in a browser to see why. Nothing of it was saved."
        )


def _first_byte(row: WeightsFile, answer: "requests.Response", asked: int) -> int:
    """Return the offset of the answer's first byte, which is 0 when the server ignores Range."""
    if answer.status_code == 200:
        return 0
    if not answer.headers.get("Content-Range", "").startswith(f"bytes {asked}-"):
        raise Problem(
            f"{row.url} answers with other bytes than those asked for (from {asked:,} on): "
            f"get the file elsewhere and use --from FOLDER."
        )
    return asked


def _receive(
    row: WeightsFile, part: Path, answer: "requests.Response", start: int, total: int | None
) -> None:
    if total is not None and shutil.disk_usage(part.parent).free < total - start:
        raise _disk_full(row, part.parent)
    done = start
    with progress_bar(row.backbone) as show, part.open("ab" if start else "wb") as file:
        for chunk in answer.iter_content(CHUNK):
            done += file.write(chunk)
            show(done, total)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and _size(part) < total:  # urllib3 1 raises no error for this
        raise _Interrupted("the connection broke off")


def _announced_md5(answer: "requests.Response") -> str | None:
    """Return the whole file's MD5 in Google Cloud Storage's `x-goog-hash`, in hexadecimal."""
    for item in answer.headers.get("x-goog-hash", "").split(","):
        if item.strip().startswith("md5="):
            return base64.b64decode(item.strip().removeprefix("md5=")).hex()
    return None


def _accept(temporary: Path, row: WeightsFile, origin: str, remedy: str) -> Path:
    """Move a complete download to its place; remove it and raise Problem when it is not right."""
    if reason := mismatch(temporary, row):
        temporary.unlink()
        raise Problem(f"{origin} {reason}: it was not kept; {remedy}.")
    final = temporary.with_name(row.file)
    os.replace(temporary, final)
    return final


@contextmanager
def _disk_errors_explained(row: WeightsFile, folder: Path) -> Iterator[None]:
    """Turn an error of the file system into a Problem that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(row, folder) from None
        raise Problem(
            f"{error.filename or folder} can't be read or written ({error.strerror}): check its "
            f"permissions and run the same command again."
        ) from None


def _disk_full(row: WeightsFile, folder: Path) -> Problem:
    return Problem(
        f"The disk of {folder} is full: {row.backbone}'s weights take {_megabytes(row.size)}. "
        f"Free some room and run the same command again."
    )


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, _Interrupted):
        return str(error)
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return "no answer in time" if isinstance(error, requests.Timeout) else "no connection"


def _given_up(row: WeightsFile, part: Path, error: Exception) -> str:
    kept = f"{_megabytes(_size(part))} arrived and are kept" if _size(part) else "Nothing arrived"
    return (
        f"{urlsplit(row.url).netloc} can't be reached or keeps breaking off ({_reason(error)}). "
        f"{kept}: run `ship weights {row.backbone}` again to go on, or use --from FOLDER."
    )


def _list(manifest: dict[str, WeightsFile], folder: Path) -> None:
    for row in manifest.values():
        state = mismatch(folder / row.file, row) or "is here and verified"
        origin = " (comes with the repository)" if row.url is None else ""
        size = _megabytes(row.size)
        say(f"{row.backbone:<16} {size:>12}  {row.licence:<10}  {row.file} {state}{origin}")


def _proof(row: WeightsFile) -> str:
    if row.sha256 or row.md5:
        return f"{'SHA-256' if row.sha256 else 'MD5'} as published"
    return "size as published (Keras publishes no hash of this file)"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _megabytes(size: int | None) -> str:
    return "unknown size" if size is None else f"{size / 1e6:,.1f} MB"
