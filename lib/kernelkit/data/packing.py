"""What the adapters of packed photos share: an unpacked copy of the competition, made once."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from kernelkit.data.layout import Layout, table_file
from kernelkit.data.listing import IDS_FILE
from kernelkit.data.places import read_table

ID = "Id of the photo"
"""The column of Ids in an unpacked copy's training table."""
FORMAT = 2  # of the unpacked copies: those that another version has left are not used
BEGINNINGS = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png", b"RIFF": "webp", b"GIF8": "gif"}


def converted(
    folder: Path,
    layout: Layout,
    names: Sequence[str],
    scratch: Path,
    convert: Callable[[Path, pd.DataFrame | None], pd.DataFrame],
) -> tuple[Path, Layout]:
    """Return the folder of the unpacked copy below `scratch`, made where it is missing; its layout.

    Args:
        folder: the competition's.
        layout: its block.
        names: the files below the folder that the photos and labels are read from.
        scratch: gets the copy.
        convert: gets an empty folder, which it fills with train/ and test/, and the sample
            submission, None where there is none; returns the training table.
    """
    copy = replace(
        layout, packed="", train_csv="train.csv", id=ID, train_photos=("train",),
        test_photos=("test",) if layout.test_photos else (),
    )  # fmt: skip
    paths = [table_file(folder, name) or folder / name for name in (layout.sample_csv, *names)]
    stats = [
        (path, path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.exists()
    ]
    key = hashlib.sha256(f"{FORMAT}|{folder}|{layout}|{stats}".encode()).hexdigest()[:12]
    target = scratch / f"unpacked-{key}"
    if target.is_dir():
        return target, copy
    print("Unpacking photos out of the competition's tables or records", flush=True)
    beside = scratch / f"unpacked-{key}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    sample = read_table(folder, layout.sample_csv, scratch) if layout.sample_csv else None
    convert(beside, sample).to_csv(beside / "train.csv", index=False)
    if sample is not None:
        file = beside / layout.sample_csv
        file.parent.mkdir(parents=True, exist_ok=True)
        sample.to_csv(file, index=False)
    os.replace(beside, target)
    return target, copy


def write_photos(folder: Path, photos: Iterable[bytes]) -> list[str]:
    """Write photos as numbered files into a new folder; return the files' names, in order.

    No file is named after an Id, which may be a path, longer than a name, or what no name may hold.
    """
    folder.mkdir(parents=True)
    names = []
    for number, content in enumerate(photos):
        names.append(f"{number:06d}.{suffix_of(content)}")
        (folder / names[-1]).write_bytes(content)
    return names


def note_ids(folder: Path, names: Iterable[str], ids: Iterable[str]) -> None:
    """Note the Id of each photo that `write_photos` has written, by which it is found."""
    text = json.dumps(dict(zip(names, ids, strict=True)))
    (folder / IDS_FILE).write_text(text, encoding="utf-8")


def suffix_of(content: bytes) -> str:
    """Return the suffix of a picture's format, "" where the bytes are no picture."""
    if content[:2] == b"BM" and int.from_bytes(content[2:6], "little") == len(content):
        return "bmp"
    return next((kind for start, kind in BEGINNINGS.items() if content.startswith(start)), "")
