"""List the files of a competition's folder, in which zips count as folders."""

import functools
import json
import os
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import pandas as pd

from ImageDataAugmentor.files import is_data, is_photo, lies_in_clutter, walk
from kernelkit.data.unpacking import name_of, unpack

DEEPEST = 3  # levels of zips within zips
IDS_FILE = ".photo-ids.json"  # in a folder of unpacked photos: the Ids by the files' names
# What only a run of the kernel, or `ship`, leaves in its folder of results.
RESULTS = ({"metrics.json", "report.html"}, {"metrics.json", "submission.csv"})
RESULTS += ({"photos.csv", "report.html"}, {"ledger.jsonl"})
# The names in such a folder, where it is also that of the data.
OF_RUNS = {"photos.csv", "submission.csv", "history.csv", "suspects.csv", "unlike.csv"}
OF_RUNS |= {"excluded.csv", "augmented.png", "class_balance.png", "confusion_matrix.png"}
OF_RUNS |= {"learning_curves.png", "state", "members", "report", "tensorboard"}
DATA = re.compile(r"\.(?:csv|tsv|zip|7z|rar|tar|t?gz|tfrec(?:ord)?s?|parquet)$", re.I)
TEXTS = (".csv", ".tsv", ".txt", ".json", ".xml", ".md", ".pdf", ".html", ".py", ".ipynb", ".zip")
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def holds_data(folder: str, names: Collection[str]) -> bool:
    """Tell whether a folder may hold photos and tables: no environment, and no run's results.

    Args:
        folder: its path.
        names: of the files and folders in it.
    """
    unfinished = "state" in names and os.path.isfile(os.path.join(folder, "state", "state.json"))
    return is_data(folder, names) and not holds_results(names) and not unfinished


def holds_results(names: Collection[str]) -> bool:
    """Tell by the names in a folder whether a run has written its results there."""
    return any(marks.issubset(names) for marks in RESULTS)


def list_files(root: Path) -> pd.DataFrame:
    """List the files below `root` in a stable order, without clutter and the results of runs.

    Links to folders are followed, each folder once.

    Returns:
        Columns name (below `root`, with /) and path, both str.
    """
    found, own = [], os.path.isdir(root) and not holds_data(str(root), os.listdir(root))
    for folder, names in walk(root, wanted=holds_data):
        if own and OF_RUNS.intersection(Path(folder).relative_to(root).parts[:1]):
            continue
        if own and Path(folder) == Path(root):
            names = [name for name in names if name not in OF_RUNS]
        inside = os.path.relpath(folder, root).replace(os.sep, "/")
        found += [
            (posixpath.normpath(posixpath.join(inside, name)), os.path.join(folder, name))
            for name in names
        ]
    return pd.DataFrame(found, columns=["name", "path"], dtype=object)


def find_files(
    root: Path, scratch: Path, asked: Callable[[str], bool], depth: int = 1
) -> pd.DataFrame:
    """List the files below `root`, and those in zips among them as if these were folders.

    Args:
        root: a folder or a zip.
        scratch: where zips are unpacked.
        asked: as in `unpack`.
        depth: the level of a zip within others, from 1.

    Returns:
        The columns of `list_files`, and packed: the size in bytes of what was left packed, else 0.

    Raises:
        Problem: as `unpack` does.
    """
    left: list[tuple[str, int]] = []
    folder = root
    if root.is_file():
        folder, left = unpack(root, scratch, asked)
    found = by_id(list_files(folder), folder).assign(packed=0)
    is_zip = found["path"].str.lower().str.endswith(".zip").astype(bool)
    zips = found[is_zip] if depth < DEEPEST else found[:0]
    packed = [(name, str(root), size) for name, size in left]
    parts = [found.drop(zips.index), pd.DataFrame(packed, columns=found.columns)]
    for name, path in zips[["name", "path"]].itertuples(index=False):
        if is_unpacked_beside(Path(path)):
            continue
        inner = find_files(Path(path), scratch, asked, depth + 1)
        parts.append(inner.assign(name=name[: -len(".zip")] + "/" + inner["name"]))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def only_zip(names: Sequence[str]) -> str:
    """Return the name of the zip in which all of a competition is, "" where there are more data."""
    data = [name for name in names if is_photo(name) or DATA.search(name)]
    whole = len(data) == 1 and re.search(r"(?<!\.csv)\.zip$", data[0], re.I)
    return data[0] if whole else ""


def holds_tables(names: Sequence[str]) -> bool:
    """Tell whether there is a CSV among files, or a zip, which may be one."""
    return any(name.lower().endswith((".csv", ".zip")) for name in names)


def by_id(files: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Return files with their photos' Ids as names, where the folder holds the list of these."""
    if not (folder / IDS_FILE).is_file():
        return files
    ids = json.loads((folder / IDS_FILE).read_text(encoding="utf-8"))
    return files.assign(name=files["name"].map(ids))


def names_below(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of a folder's files and of those in its zips, and which of them are photos.

    The name of a zip is that of a folder there. A zip that lies beside all it holds is left out.
    """
    names, photos = [], []
    for name, path in list_files(folder).itertuples(index=False):
        found = [Member(name, 0, is_photo(name) or begins_like_photo(path))]
        if name.lower().endswith(".zip"):
            if is_unpacked_beside(Path(path)):
                continue
            found += [one._replace(name=f"{name}/{one.name}") for one in members_of(path)]
        names += [one.name for one in found]
        photos += [one.name for one in found if one.photo]
    return names, photos


class Member(NamedTuple):
    """A file in a zip."""

    name: str
    size: int
    """In bytes."""
    photo: bool


def members_of(archive: str | Path | IO[bytes], depth: int = 1) -> list[Member]:
    """Return a zip's files without clutter, and those of zips in it; none where it is no zip."""
    found: list[Member] = []
    try:
        with zipfile.ZipFile(archive) as bundle:
            out = no_data([name_of(member) for member in bundle.infolist()])
            for member in bundle.infolist():
                name = name_of(member)
                if member.is_dir() or lies_in_clutter(name) or name.startswith(out):
                    continue
                opened = functools.partial(bundle.open, member)
                photo = is_photo(name) or begins_like_photo(name, opened)
                found.append(Member(name, member.file_size, photo))
                if name.lower().endswith(".zip") and depth < DEEPEST:
                    with bundle.open(member) as inner:
                        inside = members_of(inner, depth + 1)
                    found += [one._replace(name=f"{name}/{one.name}") for one in inside]
    except (OSError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile):
        return found  # `unpack` says what is wrong with it
    return found


def no_data(names: Sequence[str]) -> tuple[str, ...]:
    """Return the folders in a zip for which `holds_data` is false, each with a / at its end."""
    inside: dict[str, set[str]] = {}
    for name in names:
        parts = name.rstrip("/").split("/")
        for level in range(1, len(parts)):
            inside.setdefault("/".join(parts[:level]), set()).add(parts[level])
    return tuple(
        f"{folder}/"
        for folder, found in inside.items()
        if not is_data(folder, found)
        or holds_results(found)
        or "state.json" in inside.get(f"{folder}/state", ())
    )


def begins_like_photo(path: str, opened: Callable[[], IO[bytes]] | None = None) -> bool:
    """Tell of a file without any suffix whether its first bytes are those of a photo.

    Args:
        path: or the name of a zip's member.
        opened: opens it, where it is none on the disk.
    """
    if "." in os.path.basename(path):
        return False
    try:
        with opened() if opened else open(path, "rb") as file:
            return file.read(4).startswith(BEGINNINGS)
    except OSError:
        return False


def is_unpacked_beside(archive: Path) -> bool:
    """Tell whether all that a zip holds lies beside it too, or in a folder of its name beside it.

    Programs unpack into either place, and people keep the zip.
    """
    members = members_of(archive, DEEPEST)

    def lies_in(place: Path) -> bool:
        unpacked = [place / one.name for one in members]
        return all(
            size_of(path) == one.size
            or (path.suffix.lower() == ".zip" and path.with_suffix("").is_dir())
            for path, one in zip(unpacked, members, strict=True)
        )

    return bool(members) and any(map(lies_in, (archive.with_suffix(""), archive.parent)))


def size_of(path: Path) -> int:
    """Return a file's size in bytes, -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def photos_in(found: pd.DataFrame) -> pd.DataFrame:
    """Return the photos among files; a line is printed of others that no table or text are.

    Args:
        found: as `find_files` lists them. What was left packed stays among them.
    """
    rows = found[["path", "packed"]].itertuples(index=False)
    photo = [bool(packed) or is_photo(path) or begins_like_photo(path) for path, packed in rows]
    others = found.loc[[not one for one in photo], "name"].map(posixpath.basename)
    if len(others := others[~others.str.lower().str.endswith(TEXTS)]):
        kinds = others.map(lambda name: os.path.splitext(name)[1] or name).value_counts()
        said = ", ".join(f"{kind} ({count})" for kind, count in kinds.head(3).items())
        print(f"{len(others)} files beside the photos are no photos and are passed over: {said}")
    return found[photo].reset_index(drop=True)
