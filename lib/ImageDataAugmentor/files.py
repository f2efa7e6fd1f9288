"""Which files are photos, and which were left among them by systems and programs."""

import os
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
    """Return whether a file or folder of this name is hidden, or a known leftover."""
    return name.startswith((".", "~$")) or name.lower() in _CLUTTER


def lies_in_clutter(path: str) -> bool:
    """Return whether any part of a path with slashes is clutter."""
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

    Each folder comes once, so that links in a circle end. The uppermost comes whatever its name is;
    `wanted` returns, for a folder below and all names in it, whether it is included. Raises OSError
    for a folder that can't be read.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # which os.walk would skip in silence
            raise error

    seen = set()
    for folder, folders, names in os.walk(directory, onerror=refuse, followlinks=follow_links):
        real = os.path.realpath(folder)
        inside = os.path.relpath(folder, directory) != "."
        if real in seen or (inside and not wanted(folder, [*folders, *names])):
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        yield folder, sorted(name for name in names if not is_clutter(name))


def validate_filename(filename: str, white_list_formats=SUFFIXES) -> bool:
    """Return whether the name has one of the suffixes, is no clutter, and the file exists."""
    return (
        filename.lower().endswith(tuple(white_list_formats))
        and not is_clutter(os.path.basename(filename))
        and os.path.isfile(filename)
    )


def list_pictures(directory: str, ext=SUFFIXES) -> list[str]:
    """Return the paths of all pictures in a folder and its sub-folders, without clutter."""
    suffixes = tuple(f".{suffix}" for suffix in ((ext,) if isinstance(ext, str) else ext))
    return [
        os.path.join(folder, name)
        for folder, names in walk(directory, follow_links=False)
        for name in names
        if name.lower().endswith(suffixes)
    ]
