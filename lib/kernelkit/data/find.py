"""Find the files of a competition's folder, in which zips count as folders."""

import errno
import functools
import hashlib
import json
import os
import posixpath
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

import pandas as pd
from tqdm import tqdm

from ImageDataAugmentor.files import is_data, is_photo, lies_in_clutter, walk
from kernelkit.core.files import temporary_name
from kernelkit.core.problem import Problem
from kernelkit.core.tables import read_csv
from kernelkit.data.layout import archive_of

LARGEST_PHOTO = 300_000_000  # bytes; what is larger is unpacked only where a row asks for it
UTF8_NAME = 0x800  # the flag of a member whose name is UTF-8
ENCRYPTED = 0x1  # the flag of a member that needs a password
STEM = 50  # letters of a zip's name that the name of its folder begins with


def unpack(
    archive: Path, scratch: Path, asked: Callable[[str], bool]
) -> tuple[Path, list[tuple[str, int]]]:
    """Unpack `archive` into a folder of its own below `scratch`.

    The folder's name is made of the zip's path, size and time, so that a changed zip is unpacked
    anew. Files are renamed to their names once they are complete. Only files that are missing or of
    another size are unpacked: after an interruption the rest, or what the system has deleted from
    its temporary folder since.

    Args:
        archive: a zip.
        scratch: gets the folder.
        asked: tells whether a row asks for the photo of a name; members too large for a photo for
            which none does are left packed.

    Returns:
        The folder, and the names and sizes in bytes of the members that were left packed.

    Raises:
        Problem: the zip is corrupt, needs a password, is compressed in a way that Python does not
            know, or names a file outside its folder; or the disk is full.
    """
    stat = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode())
    target = scratch / f"{archive.stem[:STEM]}-{key.hexdigest()[:12]}"
    try:
        with zipfile.ZipFile(archive) as bundle:
            members, left = wanted_members(bundle, asked)
            whole = {destination(member, target): member for member in members}
            missing = {path: part for path, part in whole.items() if not is_unpacked(part, path)}
            if missing:
                unpack_members(bundle, missing, target)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise Problem(f"{archive} is corrupt ({error}): download it again.") from None
    except (RuntimeError, NotImplementedError) as error:  # a password, unknown compression
        raise Problem(f"{archive} {reason_not_to_unpack(archive, scratch, error)}.") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Problem(disk_full(archive, scratch)) from None
        raise Problem(f"{archive} can't be unpacked into {scratch}: {error}.") from None
    return target, [(name_of(member), member.file_size) for member in left]


def reason_not_to_unpack(archive: Path, scratch: Path, error: Exception) -> str:
    """Return the clause about a zip that Python can't unpack though it is whole, and the cure."""
    with zipfile.ZipFile(archive) as bundle:
        secret = any(member.flag_bits & ENCRYPTED for member in bundle.infolist())
        kinds = {member.compress_type for member in bundle.infolist()}
    what = "the file" if Path(archive.stem).suffix else "the folder"
    put = f"put {what} {archive.stem} that it holds beside it"
    if archive.is_relative_to(scratch):  # it lies in another zip, which is no place for a person
        put = "put what it holds into the competition's folder, in place of the zip that it lies in"
    if secret:
        return f"is protected by a password: unpack it with the password and {put}"
    names = sorted(zipfile.compressor_names.get(kind, f"method {kind}") for kind in kinds)
    return (
        f"is compressed in a way that Python can't unpack ({', '.join(names)}; {error}): unpack it "
        f"with another program, such as 7-Zip, and {put}"
    )


def wanted_members(
    bundle: zipfile.ZipFile, asked: Callable[[str], bool]
) -> tuple[list[zipfile.ZipInfo], list[zipfile.ZipInfo]]:
    """Return the members to unpack, and those that are too large and not asked for."""
    files = [member for member in bundle.infolist() if not member.is_dir()]
    left = [
        member
        for member in files
        if member.file_size > LARGEST_PHOTO
        and not member.filename.lower().endswith(".zip")  # which may hold the photos
        and not asked(name_of(member))
    ]
    return [member for member in files if member not in left], left


def name_of(member: zipfile.ZipInfo) -> str:
    """Return a member's name, in which Windows' old Russian code page is recognised.

    A zip says only of UTF-8 that a name is in it. Python takes all others for cp437.
    """
    if member.flag_bits & UTF8_NAME or member.filename.isascii():
        return member.filename
    try:
        raw = member.filename.encode("cp437")
    except UnicodeEncodeError:  # newer versions of Python heed a field with the Unicode name
        return member.filename
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp866")


def destination(member: zipfile.ZipInfo, target: Path) -> Path:
    """Return the path at which a member is unpacked below `target`.

    Raises:
        BadZipFile: the member's name leads out of `target`.
    """
    path = target / name_of(member)
    if ".." in path.parts or not path.is_relative_to(target):
        raise zipfile.BadZipFile(f"its member {name_of(member)!r} lies outside")
    return path


def is_unpacked(member: zipfile.ZipInfo, path: Path) -> bool:
    """Tell whether a member has already been unpacked."""
    try:
        return path.stat().st_size == member.file_size
    except FileNotFoundError:
        return False


def unpack_members(
    bundle: zipfile.ZipFile, members: dict[Path, zipfile.ZipInfo], target: Path
) -> None:
    """Unpack members in parallel: reading, inflating and writing release Python's global lock."""
    for parent in {path.parent for path in members}:
        parent.mkdir(parents=True, exist_ok=True)
    if sum(member.file_size for member in members.values()) > shutil.disk_usage(target).free:
        raise OSError(errno.ENOSPC, "no space")
    name = Path(bundle.filename).name
    pool = ThreadPoolExecutor()
    try:
        unpacked = pool.map(lambda path: unpack_member(bundle, members[path], path), members)
        for _ in tqdm(unpacked, f"Unpacking {name}", len(members), unit=" files"):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def unpack_member(bundle: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Unpack one member into a temporary file, then rename it.

    There are too many photos to flush each to the disk, as `write_atomically` would: a file that a
    power cut damages is found by its size, or when it is decoded.
    """
    beside = temporary_name(path)
    try:
        with bundle.open(member) as packed, beside.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)  # to its end, where zipfile checks the CRC
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def disk_full(archive: Path, scratch: Path) -> str:
    """Return the sentence for a zip that does not fit on the disk."""
    free = shutil.disk_usage(scratch).free / 1e9
    return (
        f"{archive} does not fit into {scratch}, where {free:.1f} GB are free: free some space, or "
        "set TMPDIR to a folder on a larger disk."
    )


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


def read_table(folder: Path, name: str, scratch: Path) -> pd.DataFrame:
    """Read a CSV of a competition as text, out of a zip of its name where it is packed.

    Raises:
        Problem: it is missing or unreadable.
    """
    path = folder / name
    if not path.is_file():
        archive, inside = archive_of(folder, name)
        if archive:
            wanted = "/" + (inside.replace(".zip/", "/") or posixpath.basename(name))
            found = find_files(archive, scratch, lambda member: True)
            found = found[("/" + found["name"]).str.endswith(wanted)]
            if found.empty:
                raise Problem(f"{archive} holds no {wanted[1:]}: download it again.")
            path = Path(found["path"].iloc[0])
    return read_csv(path)


def find_photos(
    folder: Path,
    places: Sequence[str],
    scratch: Path,
    asked: Callable[[str], bool],
    without: Sequence[str] = (),
) -> pd.DataFrame:
    """List the photos of the training or test set in the first place that holds any.

    A place is a folder; or a zip, in place of which a folder of its name counts first, into which
    some programs unpack it; or a folder in a zip (`imgs/train` in imgs.zip). Zips are unpacked.

    Args:
        folder: the competition's.
        places: below it.
        scratch: where zips are unpacked.
        asked: as in `unpack`.
        without: places whose photos are not listed, as far as they lie in another.

    Returns:
        Columns name (below the place, with /), path and packed, as `find_files` has them.

    Raises:
        Problem: there are none, or as `unpack` does.
    """
    empty: Path | None = None
    for place in with_stems(places):
        archive, inside = archive_of(folder, place)
        if not archive and not (folder / place).is_dir():
            continue
        found = photos_in(find_files(archive or folder / place, scratch, asked))
        found = below(found, inside) if inside else outside(found, place, without)
        if len(found):
            return found
        empty = empty or archive
    if empty:
        raise Problem(f"{empty} holds no photos: download it again.")
    zips = [place for place in places if place.endswith(".zip")]
    folders = [f"{place or '.'}/" for place in places if place not in zips]
    raise Problem(
        f"{folder} holds neither photos in {' or '.join(folders or zips)}"
        f"{' nor ' + ' or '.join(zips) if folders and zips else ''}: download the competition's "
        "photos into it."
    )


def with_stems(places: Sequence[str]) -> list[str]:
    """Return places, folders before zips, and for each zip also the folder of its name."""
    folders = [place for place in places if not place.lower().endswith(".zip")]
    zips = [place for place in places if place.lower().endswith(".zip")]
    stems = [place[: -len(".zip")] for place in zips]
    return list(dict.fromkeys([*folders, *stems, *zips, *(f"{place}.zip" for place in folders)]))


def below(found: pd.DataFrame, inside: str) -> pd.DataFrame:
    """Return the files of a zip that lie in one of its folders, at any depth."""
    inside = re.sub(r"\.zip(/|$)", r"\1", inside, flags=re.I)
    marked = "/" + found["name"]
    there = marked.str.contains(f"/{inside}/", regex=False)
    names = marked.str.split(f"/{inside}/", n=1).str[-1]
    return found.assign(name=names)[there].reset_index(drop=True)


def outside(found: pd.DataFrame, place: str, without: Sequence[str]) -> pd.DataFrame:
    """Return the files of a folder that do not lie in other places."""
    for other in without:
        inside = posixpath.relpath(other or ".", place or ".").removesuffix(".zip")
        if other and other != place and not inside.startswith(".."):
            found = found[~found["name"].str.startswith(f"{inside}/")]
    return found.reset_index(drop=True)


def opened(folder: Path, scratch: Path) -> Path:
    """Return the folder of a competition's files: the given one, or what its only zip holds.

    Kaggle's client downloads a competition as one zip, which may also be given itself.

    Args:
        folder: what a person calls the competition's folder.
        scratch: where the zip is unpacked.

    Raises:
        Problem: as `unpack` does.
    """
    for _ in range(DEEPEST):
        archive = str(folder) if folder.is_file() else only_zip(list_files(folder)["path"])
        if not archive or not holds_tables([one.name for one in members_of(archive)]):
            break
        folder, _ = unpack(Path(archive), scratch, lambda member: True)
    return folder
