"""What the adapters of packed photos share: an unpacked copy of the competition, made once."""

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from photos.layout import table_file
from photos.places import read_table

UNPACKED = {
    "packed": "",
    "train_csv": "train.csv",
    "id": "Id",
    "label": "label",
    "train_photos": ("train",),
    "test_photos": ("test",),
}
"""The fields of an unpacked copy's block."""


def converted(
    folder: Path,
    names: Sequence[str],
    sample_csv: str,
    scratch: Path,
    convert: Callable[[Path], pd.DataFrame],
) -> Path:
    """Return the folder of the unpacked copy below `scratch`, which is made where it is missing.

    Args:
        folder: the competition's.
        names: the files that it is made of.
        sample_csv: the sample submission, which is copied; may be "".
        scratch: gets the folder.
        convert: fills a folder with train/ and test/, and returns the training table.
    """
    stats = [(name, (table_file(folder, name) or folder / name)) for name in names if name]
    told = [(name, p.stat().st_size, p.stat().st_mtime_ns) for name, p in stats if p.exists()]
    key = hashlib.sha256(f"{folder}|{told}".encode()).hexdigest()[:12]
    target = scratch / f"unpacked-{key}"
    if target.is_dir():
        return target
    print("Unpacking photos out of the competition's tables or records", flush=True)
    beside = scratch / f"unpacked-{key}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    convert(beside).to_csv(beside / "train.csv", index=False)
    if sample_csv:
        copy = beside / sample_csv
        copy.parent.mkdir(parents=True, exist_ok=True)
        read_table(folder, sample_csv, scratch).to_csv(copy, index=False)
    os.replace(beside, target)
    return target
