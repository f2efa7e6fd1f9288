"""Find a competition's tables and photos in its folder, packed in zips or not."""

import posixpath
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from kernelkit.core.problem import Problem
from kernelkit.core.tables import read_csv
from kernelkit.data.layout import archive_of
from kernelkit.data.listing import (
    DEEPEST,
    find_files,
    holds_tables,
    list_files,
    members_of,
    only_zip,
    photos_in,
)
from kernelkit.data.unpacking import unpack


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
