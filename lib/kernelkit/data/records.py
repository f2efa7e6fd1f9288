"""Photos in TFRecords."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from kernelkit.core.problem import Problem
from kernelkit.data.layout import Layout
from kernelkit.data.listing import list_files
from kernelkit.data.packing import ID, converted, note_ids, suffix_of, write_photos
from kernelkit.data.pixels import id_name
from kernelkit.data.spelling import WAYS_OF_LABELS, Spellings

RECORDS = re.compile(r"\.tfrec(?:ord)?s?(?:-\d+-of-\d+)?(?:\.gz|\.zlib)?$", re.I)
"""What the names of files of records end with."""
LABELS = ("class", "label", "target", "category")
IDS = ("id", "image_name", "image_id", "filename")
PICTURES = ("image", "image/encoded", "img", "photo", "picture", "jpeg")

Value = bytes | int | float


def unpack_records(folder: Path, layout: Layout, scratch: Path) -> tuple[Path, Layout]:
    """Write the photos of both sets' records as files, once; return their folder and its layout.

    Raises:
        Problem: there are no records, they are damaged, or one lacks a picture, a label or an Id.
    """
    train, test = (files_of(folder, places) for places in (layout.train_photos, layout.test_photos))
    if not train or (layout.test_photos and not test):
        lacking = layout.test_photos if train else layout.train_photos
        raise Problem(
            f"{folder} has no TFRecords in {' or '.join(lacking)}: download them again, or name "
            "other places in the block COMPETITION."
        )
    label = layout.label if isinstance(layout.label, str) else ""

    def convert(target: Path, sample: pd.DataFrame | None) -> pd.DataFrame:
        ids = (layout.id, id_name(layout, sample), *IDS)
        if test:
            write_set(test, target / "test", {ID: ids})
        more = {"group": (layout.group,)} if layout.group else {}
        wanted = {"label": (label, *LABELS), **more}
        return write_set(train, target / "train", wanted, ids)

    names = [str(file.relative_to(folder)) for file in (*train, *test)]
    target, copy = converted(folder, layout, names, scratch, convert)
    return target, replace(copy, label="label", group="group" if layout.group else "")


def files_of(folder: Path, places: Sequence[str]) -> list[Path]:
    """Return the files of records in some places below a folder, each a folder or a file."""
    files = [
        str(path)
        for place in places
        for path in (
            [folder / place] if (folder / place).is_file() else list_files(folder / place)["path"]
        )
    ]
    return [Path(path) for path in sorted(files) if RECORDS.search(path)]


def write_set(
    files: list[Path], target: Path, wanted: dict[str, Sequence[str]], ids: Sequence[str] = ()
) -> pd.DataFrame:
    """Write the pictures of records, and note their Ids.

    Args:
        files: of records.
        target: the new folder of the pictures.
        wanted: for each column the names of the features of which the first counts.
        ids: the features of the Id that a record may have; without it, or where two have the same
            one, a record's Id is its number.

    Returns:
        A row a record: the Id and what is wanted, all str.
    """
    rows: list[dict[str, str]] = []

    def pictures() -> Iterator[bytes]:
        for where, features in examples(files):
            row = {column: feature_of(features, names, where) for column, names in wanted.items()}
            if lacking := [column for column, value in row.items() if value is None]:
                names = ", ".join(features)
                what = " or ".join(name for name in wanted[lacking[0]] if name)
                raise Problem(f"{where} has no {what} among its features ({names}).")
            if ids and (own := feature_of(features, ids, where)) is not None:
                row[ID] = own
            rows.append(row)
            yield picture_of(features, where)

    names = write_photos(target, pictures())
    table = pd.DataFrame(rows, columns=[*dict.fromkeys([ID, *wanted])])
    if ids and (table[ID].isna().any() or table[ID].duplicated().any()):
        table[ID] = table.index.astype(str)
    note_ids(target, names, table[ID])
    return table


def feature_of(features: dict[str, list[Value]], names: Sequence[str], where: str) -> str | None:
    """Return the value of the first feature that a record has of several names, as text.

    Several numbers of which one is 1 and the others are 0 are a one-hot code: the position of 1.

    Raises:
        Problem: it is several values, or no text.
    """
    known = Spellings(features, WAYS_OF_LABELS)
    name = next((found for name in names if name and (found := known.only(name))), None)
    if name is None:
        return None
    values = features[name]
    if len(values) > 1 and set(values) <= {0, 1} and sum(values) == 1:
        return str(values.index(1))
    if len(values) != 1:
        shown = ", ".join(f"{value}" for value in values[:5])
        raise Problem(
            f"{where} has {len(values)} values ({shown}{', ...' * (len(values) > 5)}) in {name}, "
            "not one, nor a one-hot code of 0 and a single 1: only one label a photo is supported."
        )
    return text_of(values[0], f"{where} has in {name}")


def text_of(value: Value, where: str) -> str:
    """Return a feature's value as text.

    Raises:
        Problem: it is bytes that are no text, or a fraction.
    """
    if isinstance(value, bytes):
        text = value.rstrip(b"\0").decode(errors="replace")  # writers of fixed sizes fill up with 0
        if "\0" in text or "\N{REPLACEMENT CHARACTER}" in text:
            raise Problem(f"{where} bytes that are no text in UTF-8.")
        return text
    if not float(value).is_integer():
        raise Problem(f"{where} the fraction {value:g}, which is no label.")
    return str(int(value))


def picture_of(features: dict[str, list[Value]], where: str) -> bytes:
    """Return the one picture of a record.

    Raises:
        Problem: it has none, or several of which none has a usual name.
    """
    found = {
        name: values[0]
        for name, values in features.items()
        if len(values) == 1 and isinstance(values[0], bytes) and suffix_of(values[0])
    }
    named = [name for name in PICTURES if name in found] or list(found)
    if not named:
        raise Problem(
            f"{where} has no picture (JPEG, PNG, WebP, GIF or BMP) among its features "
            f"({', '.join(features)})."
        )
    if len(found) > 1 and named[0] not in PICTURES:
        raise Problem(f"{where} has several pictures ({', '.join(found)}): rename one to image.")
    return found[named[0]]


def examples(files: list[Path]) -> Iterator[tuple[str, dict[str, list[Value]]]]:
    """Yield where each record is and the values of its features, by their names.

    Raises:
        Problem: a file is damaged.
    """
    import tensorflow as tf  # which nothing else here needs
    from google.protobuf.message import DecodeError  # which TensorFlow brings

    for file in files:
        number = 0
        try:
            for raw in tf.data.TFRecordDataset(str(file), compression(file)).as_numpy_iterator():
                number += 1
                given = tf.train.Example.FromString(raw).features.feature
                kinds = {name: feature.WhichOneof("kind") for name, feature in given.items()}
                features = {n: list(getattr(given[n], k).value) for n, k in kinds.items() if k}
                yield f"Record {number} of {file}", features
        except (tf.errors.OpError, DecodeError) as error:
            reason = " ".join(str(error).split())[:100]
            raise Problem(
                f"{file} is damaged after {number} records ({reason}): download it again."
            ) from None
        if not number:
            raise Problem(f"{file} holds no records: download it again.")


def compression(file: Path) -> str:
    """Return how a file of records is compressed, as TensorFlow calls it: "", GZIP or ZLIB.

    Where it is not, it begins with the length of the first record, which the file holds.
    """
    with file.open("rb") as opened:
        head = opened.read(8)
    if head.startswith(b"\x1f\x8b\x08"):
        return "GZIP"
    length = int.from_bytes(head, "little")
    return "ZLIB" if head[:1] == b"\x78" and length > file.stat().st_size else ""
