"""Find a competition's tables and photos in its folder, packed in zips or not."""

import posixpath
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from common import Problem
from common.tables import read_csv
from photos.layout import table_file
from photos.matching import find_files
from photos.unpacking import unpack


def read_table(folder: Path, name: str, scratch: Path) -> pd.DataFrame:
    """Read a CSV of a competition as text, out of a zip of its name where it is packed.

    Raises:
        Problem: it is missing or unreadable.
    """
    path = table_file(folder, name) or folder / name
    if path.suffix == ".zip":
        unpacked, _ = unpack(path, scratch, lambda member: True)
        inside = [file for file in sorted(unpacked.rglob("*.csv")) if file.name == Path(name).name]
        if not inside:
            raise Problem(f"{path} holds no {Path(name).name}: download it again.")
        path = inside[0]
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
        found = find_files(archive or folder / place, scratch, asked)
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
    folders = [place for place in places if not place.endswith(".zip")]
    zips = [place for place in places if place.endswith(".zip")]
    stems = [place.removesuffix(".zip") for place in zips]
    return list(dict.fromkeys([*folders, *stems, *zips, *(f"{place}.zip" for place in folders)]))


def archive_of(folder: Path, place: str) -> tuple[Path | None, str]:
    """Return the zip that a place is or lies in, and the folder in it; None and "" for a folder."""
    if (folder / place).is_dir():
        return None, ""
    parts = place.split("/")
    for number in range(len(parts), 0, -1):
        head = "/".join(parts[:number])
        for name in (head, f"{head}.zip"):
            if name.endswith(".zip") and (folder / name).is_file():
                return folder / name, "/".join(parts[number:])
    return None, ""


def below(found: pd.DataFrame, inside: str) -> pd.DataFrame:
    """Return the files of a zip that lie in one of its folders, at any depth."""
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
