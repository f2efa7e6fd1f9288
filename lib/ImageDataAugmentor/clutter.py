"""What systems and programs leave among people's photos."""

# Archives of macOS hold __MACOSX, Windows writes the two others.
_NAMES = {"__MACOSX", "Thumbs.db", "desktop.ini"}


def is_clutter(name: str) -> bool:
    """Return whether a file or folder of this name is no data.

    These are known leftovers and everything hidden: Jupyter's `.ipynb_checkpoints` holds copies of
    photos, and macOS's `._cat.jpg` is no photo.
    """
    return name in _NAMES or name.startswith(".")
