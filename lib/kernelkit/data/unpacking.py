"""Unpack a competition's zips, safely and only once."""

import errno
import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from kernelkit.core.files import temporary_name
from kernelkit.core.problem import Problem

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
