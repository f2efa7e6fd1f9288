"""Find the files of a competition's folder, in which zips count as folders."""

import errno
import filecmp
import hashlib
import json
import os
import posixpath
import re
import shutil
import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm
from tqdm.contrib.concurrent import thread_map

from ImageDataAugmentor.files import is_data, is_photo, lies_in_clutter, walk
from kernelkit.core.contract import METRICS_FILE, RUN_FILES, RUN_FOLDERS
from kernelkit.core.files import temporary_name
from kernelkit.core.problem import Problem, first_names
from kernelkit.core.tables import read_csv
from kernelkit.data.layout import archive_of
from kernelkit.data.names import may_be_unlabelled, roles_of

LARGEST_OTHER = 300_000_000  # bytes of unpacked files that are neither photos nor tables
UTF8_NAME = 0x800  # flag of a zip's member
STEM = 50  # letters of a zip's name that the name of its folder begins with
COMPARED = 20  # photos of two folders that may be copies
DEEPEST = 3  # levels of zips within zips
IDS_FILE = ".photo-ids.json"  # in a folder of unpacked photos: the Ids by the files' names
# What only a run of the kernel, or `ship`, leaves in its folder of results.
RESULTS = ({METRICS_FILE, "report.html"}, {METRICS_FILE, "submission.csv"})
RESULTS += ({"photos.csv", "report.html"}, {"ledger.jsonl"})
OF_RUNS = {*RUN_FILES, *RUN_FOLDERS}  # the names in such a folder, where it is that of the data too
DATA = re.compile(r"\.(?:csv|tsv|zip|7z|rar|tar|t?gz|tfrec(?:ord)?s?|parquet)$", re.I)
TEXTS = (".csv", ".tsv", ".txt", ".json", ".xml", ".md", ".pdf", ".html", ".py", ".ipynb", ".zip")
FIRST_BYTES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")  # of photos

# -------------------------------------------------------------------------------- unpacking


def unpack(archive: Path, scratch: Path) -> Path:
    """Unpack a zip into a folder of its own below `scratch`, and return that folder.

    A zip that has changed is unpacked anew. A file gets its name once it is complete, and only
    files that are missing or of another size are unpacked, such as the rest after an interruption.
    Large files that are neither photos nor tables stay packed; a line names them. Raises Problem if
    the zip is corrupt, needs a password, is compressed in an unknown way, or names a file outside
    its folder, or if the disk is full.
    """
    stat = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode())
    target = scratch / f"{archive.stem[:STEM]}-{key.hexdigest()[:12]}"
    try:
        with zipfile.ZipFile(archive) as bundle:
            if missing := _missing_members(bundle, target):
                _unpack_members(bundle, missing, target)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise Problem(f"{archive} is corrupt ({error}): download it again.") from None
    except (RuntimeError, NotImplementedError) as error:  # a password, unknown compression
        raise Problem(
            f"{archive} needs a password, or is compressed in a way that Python does not know "
            f"({error}): unpack it with another program, such as 7-Zip, into the folder of the "
            "competition's files, and delete it."
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise Problem(f"{archive} can't be unpacked into {scratch}: {error}.") from None
        free = shutil.disk_usage(scratch).free / 1e9
        raise Problem(
            f"{archive} does not fit into {scratch}, where {free:.1f} GB are free: free some "
            "space, or set TMPDIR to a folder on a larger disk."
        ) from None
    return target


def _missing_members(bundle: zipfile.ZipFile, target: Path) -> dict[Path, zipfile.ZipInfo]:
    """Return the members that are still to be unpacked, by their paths below `target`."""
    missing, large = {}, []
    for member in bundle.infolist():
        name = _name_of(member)
        path = target / name
        if ".." in path.parts or not path.is_relative_to(target):
            raise zipfile.BadZipFile(f"its member {name!r} lies outside")
        if member.is_dir() or _size_of(path) == member.file_size:
            continue
        if member.file_size > LARGEST_OTHER and not is_photo(name) and not DATA.search(name):
            large.append(f"{name} ({member.file_size / 1e9:.1f} GB)")
        else:
            missing[path] = member
    if large and missing:
        print(f"Neither photos nor tables, and left in {bundle.filename}: {first_names(large)}")
    return missing


def _name_of(member: zipfile.ZipInfo) -> str:
    """Return a member's name, in which Windows' old Russian code page is recognised."""
    # Python takes all names for cp437 of which the zip does not say that they are UTF-8.
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


def _unpack_members(
    bundle: zipfile.ZipFile, members: dict[Path, zipfile.ZipInfo], target: Path
) -> None:
    for parent in {path.parent for path in members}:
        parent.mkdir(parents=True, exist_ok=True)
    if sum(member.file_size for member in members.values()) > shutil.disk_usage(target).free:
        raise OSError(errno.ENOSPC, "no space")

    def unpack_member(path: Path) -> None:
        # There are too many photos to flush each to the disk: one that a power cut damages is
        # found by its size, or when it is decoded.
        beside = temporary_name(path)
        try:
            with bundle.open(members[path]) as packed, beside.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)  # to its end, where the CRC is checked
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    title = f"Unpacking {Path(bundle.filename).name}"
    thread_map(unpack_member, members, tqdm_class=tqdm, desc=title, unit=" files")


# ---------------------------------------------------------------------------------- listing


def list_files(root: Path) -> pd.DataFrame:
    """List the files below `root` in a stable order, without clutter and the results of runs.

    Links to folders are followed, each folder once. Columns name (below `root`, with /) and path.
    """
    found, mixed = [], os.path.isdir(root) and not _holds_data(str(root), os.listdir(root))
    for folder, names in walk(root, wanted=_holds_data):
        inside = os.path.relpath(folder, root).replace(os.sep, "/")
        for file in names:
            name = posixpath.normpath(posixpath.join(inside, file))
            if not (mixed and name.split("/")[0] in OF_RUNS):
                found.append((name, os.path.join(folder, file)))
    return pd.DataFrame(found, columns=["name", "path"], dtype=object)


def find_files(root: Path, scratch: Path, depth: int = 1) -> pd.DataFrame:
    """List files as `list_files` does, also in zips, which are unpacked and count as folders."""
    folder = unpack(root, scratch) if root.is_file() else root
    found = list_files(folder)
    if (folder / IDS_FILE).is_file():
        ids = json.loads((folder / IDS_FILE).read_text(encoding="utf-8"))
        found["name"] = found["name"].map(ids)
    is_zip = found["path"].str.lower().str.endswith(".zip").astype(bool)
    zips = found[is_zip] if depth < DEEPEST else found[:0]
    parts = [found.drop(zips.index)]
    for name, path in zips.itertuples(index=False):
        if not _is_unpacked_beside(Path(path)):
            inner = find_files(Path(path), scratch, depth + 1)
            parts.append(inner.assign(name=name[: -len(".zip")] + "/" + inner["name"]))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def _holds_data(folder: str, names: Collection[str]) -> bool:
    """Tell whether a folder may hold photos and tables: no environment, and no run's results."""
    unfinished = "state" in names and os.path.isfile(os.path.join(folder, "state", "state.json"))
    results = unfinished or any(marks.issubset(names) for marks in RESULTS)
    return is_data(folder, names) and not results


def is_photo_file(path: str) -> bool:
    """Tell by a file's suffix, or without any by its first bytes, whether it is a photo."""
    if "." in os.path.basename(path):
        return is_photo(path)
    try:
        with open(path, "rb") as file:
            return file.read(4).startswith(FIRST_BYTES)
    except OSError:
        return False


def _members(archive: str | Path) -> list[zipfile.ZipInfo]:
    """Return a zip's files without clutter; none where it is no zip, as `unpack` reports."""
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = bundle.infolist()
    except (OSError, zipfile.BadZipFile):
        return []
    return [one for one in members if not one.is_dir() and not lies_in_clutter(_name_of(one))]


def _is_unpacked_beside(archive: Path) -> bool:
    """Tell whether all of a zip lies beside it too, or in a folder of its name beside it."""

    def lies_in(place: Path, member: zipfile.ZipInfo) -> bool:
        path = place / _name_of(member)
        inner = path.suffix.lower() == ".zip" and path.with_suffix("").is_dir()
        return inner or _size_of(path) == member.file_size

    members, places = _members(archive), (archive.with_suffix(""), archive.parent)
    return bool(members) and any(all(lies_in(place, one) for one in members) for place in places)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


# ---------------------------------------------------------------- the competition's own files


def only_zip(names: Sequence[str]) -> str:
    """Return the name of the zip that all of a competition is in, "" where there are more data."""
    data = [name for name in names if is_photo(name) or DATA.search(name)]
    whole = len(data) == 1 and re.search(r"(?<!\.csv)\.zip$", data[0], re.I)
    return data[0] if whole else ""


def holds_tables(names: Sequence[str]) -> bool:
    """Tell whether there is a CSV among files, or a zip, which may be one."""
    return any(name.lower().endswith((".csv", ".tsv", ".zip")) for name in names)


def open_competition(folder: Path, scratch: Path) -> Path:
    """Return the folder of a competition's files: the given one, or what its only zip holds."""
    for _ in range(DEEPEST):
        archive = str(folder) if folder.is_file() else only_zip(list_files(folder)["path"])
        if not archive or not holds_tables([_name_of(one) for one in _members(archive)]):
            break
        folder = unpack(Path(archive), scratch)
    return folder


def read_table(folder: Path, name: str, scratch: Path) -> pd.DataFrame:
    """Read a competition's CSV as text, out of a zip too. Raises Problem if it can't be read."""
    path = folder / name
    archive, inside = (None, "") if path.is_file() else archive_of(folder, name)
    if archive:
        wanted = "/" + (inside.replace(".zip/", "/") or posixpath.basename(name))
        found = find_files(archive, scratch)
        found = found[("/" + found["name"]).str.endswith(wanted)]
        if found.empty:
            raise Problem(f"{archive} holds no {wanted[1:]}: download it again.")
        path = Path(found["path"].iloc[0])
    return read_csv(path)


def find_photos(
    folder: Path, places: Sequence[str], scratch: Path, without: Sequence[str] = ()
) -> pd.DataFrame:
    """List the photos of a set in the first place that holds any: columns name (below it) and path.

    A place is a folder; or a zip, in place of which a folder of its name counts first; or a folder
    in a zip (`imgs/train` in imgs.zip). Photos in the places `without` are not listed, as far as
    these lie in another. Raises Problem if there are none, or as `unpack` does.
    """
    empty: Path | None = None
    zips = [place for place in places if place.lower().endswith(".zip")]
    folders = [place for place in places if place not in zips]
    stems = [place[: -len(".zip")] for place in zips]
    for place in dict.fromkeys([*folders, *stems, *zips, *(f"{name}.zip" for name in folders)]):
        archive, inside = archive_of(folder, place)
        if not archive and not (folder / place).is_dir():
            continue
        found = photos_in(find_files(archive or folder / place, scratch))
        found = _below(found, inside) if inside else _outside(found, place, without)
        if len(found):
            return found
        empty = empty or archive
    if empty:
        raise Problem(f"{empty} holds no photos: download it again.")
    sought = [" or ".join(names) for names in ([f"{n or '.'}/" for n in folders], zips) if names]
    sentence = f"{folder} holds {'neither' if len(sought) > 1 else 'no'} photos in "
    raise Problem(f"{sentence}{' nor '.join(sought)}: download the competition's photos into it.")


def photos_in(found: pd.DataFrame) -> pd.DataFrame:
    """Return the photos among files; a line is printed of others that no table or text are."""
    photo = found["path"].map(is_photo_file).astype(bool)
    others = found.loc[~photo, "name"].map(posixpath.basename)
    if len(others := others[~others.str.lower().str.endswith(TEXTS)]):
        kinds = others.map(lambda name: os.path.splitext(name)[1] or name).value_counts()
        named = ", ".join(f"{kind} ({count})" for kind, count in kinds.head(3).items())
        print(f"{len(others)} files beside the photos are no photos and are ignored: {named}")
    return found[photo].reset_index(drop=True)


def copied_folders(photos: pd.DataFrame) -> dict[str, str]:
    """Return the folders whose photos all lie in another of their name and role, with that one.

    Of two with the same photos the deeper one stays. Some of the photos are compared byte by byte.
    """
    roles, held, alike = roles_of(photos["name"].tolist()), {}, {}
    for name, path in photos[["name", "path"]].itertuples(index=False):
        held.setdefault(posixpath.dirname(name), {})[posixpath.basename(name)] = path
    role = {posixpath.dirname(name): found for name, found in roles.items()}
    for folder in sorted(held, key=lambda folder: (-folder.count("/"), folder)):
        last = posixpath.basename(folder).casefold()
        if last not in ("mask", "masks") and not may_be_unlabelled(last):  # of any class
            alike.setdefault(last, []).append(folder)
    copies: dict[str, str] = {}
    for folders in alike.values():
        for folder in reversed(folders):
            fit = (one for one in folders if one != folder and role[folder] in ("", role[one]))
            held_in = (one for one in fit if one not in copies and _holds(held[one], held[folder]))
            if found := next(held_in, ""):
                copies[folder] = found
    return copies


def _holds(files: dict[str, str], others: dict[str, str]) -> bool:
    """Tell whether all others are copies, under the same name, of some of the files."""
    if not others.keys() <= files.keys():
        return False
    compared = [*others][:: len(others) // COMPARED + 1]
    same = all(_size_of(Path(files[name])) == _size_of(Path(others[name])) for name in others)
    return same and all(filecmp.cmp(files[n], others[n], shallow=False) for n in compared)


def _below(found: pd.DataFrame, inside: str) -> pd.DataFrame:
    inside = re.sub(r"\.zip(/|$)", r"\1", inside, flags=re.I)
    marked = "/" + found["name"]
    there = marked.str.contains(f"/{inside}/", regex=False)
    names = marked.str.split(f"/{inside}/", n=1).str[-1]
    return found.assign(name=names)[there].reset_index(drop=True)


def _outside(found: pd.DataFrame, place: str, without: Sequence[str]) -> pd.DataFrame:
    for other in without:
        inside = posixpath.relpath(other or ".", place or ".").removesuffix(".zip")
        if other and other != place and not inside.startswith(".."):
            found = found[~found["name"].str.startswith(f"{inside}/")]
    return found.reset_index(drop=True)
