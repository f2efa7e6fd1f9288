"""Unpack a competition's zips, safely and only once."""

import errno
import hashlib
import os
import shutil
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from common import Problem


def unpack(archive: Path, scratch: Path) -> Path:
    """Unpack `archive` into a folder of its own below `scratch` and return that folder.

    The folder's name is made of the zip's path, size and time, so that a changed zip is unpacked
    anew. Files are renamed to their names once they are complete. Only files that are missing or of
    another size are unpacked: after an interruption the rest, or what the system has deleted from
    its temporary folder since.

    Raises:
        Problem: the zip is corrupt, encrypted or names a file outside its folder, or the disk is
            full.
    """
    stat = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode())
    target = scratch / f"{archive.stem}-{key.hexdigest()[:12]}"
    try:
        with zipfile.ZipFile(archive) as bundle:
            missing = [
                member
                for member in bundle.infolist()
                if not member.is_dir() and not is_unpacked(member, destination(member, target))
            ]
            if missing:
                unpack_members(bundle, missing, target)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise Problem(f"{archive} is corrupt ({error}): download it again.") from None
    except (RuntimeError, NotImplementedError) as error:  # encryption, unknown compression
        raise Problem(f"{archive} can't be unpacked ({error}): download it again.") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Problem(disk_full(archive, scratch)) from None
        raise Problem(f"{archive} can't be unpacked into {scratch}: {error}.") from None
    return target


def destination(member: zipfile.ZipInfo, target: Path) -> Path:
    """Return the path at which a member is unpacked below `target`.

    Raises:
        BadZipFile: the member's name leads out of `target`.
    """
    path = target / member.filename
    if ".." in path.parts or not path.is_relative_to(target):
        raise zipfile.BadZipFile(f"its member {member.filename!r} lies outside")
    return path


def is_unpacked(member: zipfile.ZipInfo, path: Path) -> bool:
    """Tell whether a member has already been unpacked."""
    try:
        return path.stat().st_size == member.file_size
    except FileNotFoundError:
        return False


def unpack_members(bundle: zipfile.ZipFile, members: list[zipfile.ZipInfo], target: Path) -> None:
    """Unpack members in parallel: reading, inflating and writing release Python's global lock."""
    paths = [destination(member, target) for member in members]
    for parent in {path.parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)
    if sum(member.file_size for member in members) > shutil.disk_usage(target).free:
        raise OSError(errno.ENOSPC, "no space")
    name = Path(bundle.filename).name
    pool = ThreadPoolExecutor()
    try:
        unpacked = pool.map(
            lambda pair: unpack_member(bundle, *pair), zip(members, paths, strict=True)
        )
        for _ in tqdm(unpacked, f"Unpacking {name}", len(members), unit=" files"):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def unpack_member(bundle: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Unpack one member into a temporary file, then rename it.

    There are too many photos to flush each to the disk, as `write_atomically` would: a file that a
    power cut damages is found by its size, or when it is decoded.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(bundle.read(member))  # `read` checks the CRC
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
