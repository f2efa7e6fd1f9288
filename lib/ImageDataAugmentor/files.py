"""Which files are photos, and which are only what systems and programs leave among them."""

import os
import posixpath
from collections.abc import Callable, Collection, Iterator

SUFFIXES = ("jpg", "jpeg", "jpe", "jfif", "jif", "png", "bmp", "dib", "gif", "tif", "tiff", "webp")
SUFFIXES += ("ppm", "pgm", "pbm", "pnm", "avif", "heic", "heif", "hif", "jp2", "j2k", "jpx", "jxl")
SUFFIXES += ("mpo", "pcx", "tga", "dcm")
_ENDINGS = tuple(f".{suffix}" for suffix in SUFFIXES)
# macOS, Windows, Linux, network disks, programming tools, and programs that draw or export labels.
_CLUTTER = {"__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"}
_CLUTTER |= {"$recycle.bin", "system volume information", "lost+found"}
_CLUTTER |= {"@eadir", "#recycle", "#snapshot", "@tmp", "__pycache__", "node_modules"}
_CLUTTER |= {"site-packages", "labels.txt", "_annotations.csv", "_darknet.labels"}
_CLUTTER |= {"_annotations.coco.json", "_annotations.txt"}
_ENVIRONMENT = {"pyvenv.cfg", "conda-meta"}  # which every virtual environment of Python holds


def is_photo(name: str) -> bool:
    """Return whether a file's name ends as a photo's does."""
    return name.lower().endswith(_ENDINGS)


def is_clutter(name: str) -> bool:
    """Return whether a file or folder of this name is no data.

    These are known leftovers and everything hidden: Jupyter's `.ipynb_checkpoints` holds copies of
    photos, and macOS's `._cat.jpg` is no photo.
    """
    return name.startswith((".", "~$")) or name.lower() in _CLUTTER


def lies_in_clutter(path: str) -> bool:
    """Return whether any part of a path is clutter, as of a member of a zip."""
    return any(is_clutter(part) for part in path.split("/") if part)


def is_data(folder: str, names: Collection[str]) -> bool:
    """Return whether a folder with these files and folders in it is no virtual environment."""
    return not _ENVIRONMENT.intersection(names)


def walk(
    directory: str | os.PathLike,
    follow_links: bool = True,
    wanted: Callable[[str, Collection[str]], bool] = is_data,
) -> Iterator[tuple[str, list[str]]]:
    """Yield (folder, file names) for a folder and those within it, sorted and without clutter.

    Each folder comes once, so that links in a circle end.

    Args:
        directory: the uppermost folder, which comes whatever its name is.
        follow_links: whether links to folders are followed.
        wanted: tells of a folder below it and all names in that whether it is looked into.
    """
    seen = set()
    for folder, folders, names in os.walk(directory, followlinks=follow_links):
        real = os.path.realpath(folder)
        inside = os.path.relpath(folder, directory) != "."
        if real in seen or (inside and not wanted(folder, [*folders, *names])):
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        yield folder, sorted(name for name in names if not is_clutter(name))


def relative(path: str, directory: str | os.PathLike) -> str:
    """Return a path below a folder with / between its parts."""
    return posixpath.join(*os.path.relpath(path, directory).split(os.sep))
