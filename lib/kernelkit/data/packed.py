"""Photos that are pixels in tables, or in TFRecords: unpacked once into a folder of files."""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from kernelkit.core.problem import Problem
from kernelkit.data.find import IDS_FILE, list_files, read_table
from kernelkit.data.layout import Layout, table_file
from kernelkit.data.names import FILE_KEYS, LABEL_KEYS, Spellings, number_of

ID = "Id of the photo"  # the column of Ids in an unpacked copy's training table
FORMAT = 2  # of the unpacked copies: those that another version has left are not used
FIRST_BYTES = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png", b"RIFF": "webp", b"GIF8": "gif"}
# The usual ranges of pixels, black to white.
RANGES = ((0, 1), (-0.5, 0.5), (-1, 1), (0, 255), (-128, 128), (0, 4095), (0, 65535))
RECORDS = re.compile(r"\.tfrec(?:ord)?s?(?:-\d+-of-\d+)?(?:\.gz|\.zlib)?$", re.I)  # file names
# Names of the features of records.
LABELS = ("class", "label", "target", "category")
IDS = ("id", "image_name", "image_id", "filename")
PICTURES = ("image", "image/encoded", "img", "photo", "picture", "jpeg")

Value = bytes | int | float


def _unpacked_copy(
    folder: Path,
    layout: Layout,
    names: Sequence[str],
    scratch: Path,
    convert: Callable[[Path, pd.DataFrame | None], pd.DataFrame],
) -> tuple[Path, Layout]:
    """Return the folder of the unpacked copy below `scratch`, made where it is missing; its layout.

    Photos and labels are read from the files `names`. `convert` gets an empty folder, which it
    fills with train/ and test/, and the sample submission if any; it returns the training table.
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
        (beside / layout.sample_csv).parent.mkdir(parents=True, exist_ok=True)
        sample.to_csv(beside / layout.sample_csv, index=False)
    os.replace(beside, target)
    return target, copy


def _write_photos(folder: Path, photos: Iterable[bytes]) -> list[str]:
    """Write photos into a new folder; return the files' names, which are numbers, in order.

    No file is named after an Id, which may be a path, longer than a name, or what no name may hold.
    """
    folder.mkdir(parents=True)
    names = []
    for number, content in enumerate(photos):
        names.append(f"{number:06d}.{_suffix_of(content)}")
        (folder / names[-1]).write_bytes(content)
    return names


def _write_ids(folder: Path, names: Iterable[str], ids: Iterable[str]) -> None:
    text = json.dumps(dict(zip(names, ids, strict=True)))
    (folder / IDS_FILE).write_text(text, encoding="utf-8")


def _suffix_of(content: bytes) -> str:
    """Return the suffix of a picture's format, "" where the bytes are no picture."""
    if content[:2] == b"BM" and int.from_bytes(content[2:6], "little") == len(content):
        return "bmp"
    return next((kind for start, kind in FIRST_BYTES.items() if content.startswith(start)), "")


def _id_name(layout: Layout, sample: pd.DataFrame | None) -> str:
    """Return what the column of Ids is called in the block, or else in the sample submission."""
    return layout.id or ("Id" if sample is None else sample.columns[0])


# ----------------------------------------------------------------------------------- pixels


def unpack_pixels(folder: Path, layout: Layout, scratch: Path) -> tuple[Path, Layout]:
    """Write both tables' rows as PNGs, once; return folder and layout.

    Raises Problem if a table is missing, its rows are no pictures, or test rows have no known Ids.
    """
    tests = layout.test_photos[0] if layout.test_photos else ""
    names = [layout.train_csv, *([tests] if tests else [])]

    def convert(target: Path, sample: pd.DataFrame | None) -> pd.DataFrame:
        tables = [read_table(folder, name, scratch) for name in names]
        pixels = [_pixels_of(table, name) for table, name in zip(tables, names, strict=True)]
        black, white = _common_range(pixels, names)
        for values in pixels:
            values -= black
            values *= 255 / (white - black)
            values.clip(0, 255, out=values)
        train = tables[0].drop(columns=pixel_columns(tables[0].columns, layout.train_csv))
        own = Spellings(train.columns, LABEL_KEYS).only(_id_name(layout, sample))
        if own is None or own == layout.label or not train[own].is_unique:
            train[ID] = train.index.astype(str)
        else:
            train[ID] = train[own]
        _write_pixels(target / "train", pixels[0], train[ID], layout.train_csv)
        if tests:
            ids = _test_ids(tables[1], tests, layout, sample)
            _write_pixels(target / "test", pixels[1], ids, tests)
        return train

    return _unpacked_copy(folder, layout, names, scratch, convert)


def pixel_columns(columns: Sequence[str], table: str) -> list[str]:
    """Return a table's columns of pixels in their order. Raises Problem if several kinds may be."""
    kinds: dict[str, list[str]] = {}
    for column in columns:
        if (kind := re.sub(r"\d+", "#", column.strip())) != column.strip():
            kinds.setdefault(kind, []).append(column)
    most = max(map(len, kinds.values()), default=0)
    largest = [kind for kind, found in kinds.items() if len(found) == most]
    if len(largest) > 1 and most > 1:
        raise Problem(
            f"{table} has {most} columns each of {' and '.join(largest[:5])}: pixels must be the "
            "columns of one name, numbered row by row."
        )
    found = kinds[largest[0]] if most > 1 else []
    return sorted(found, key=lambda column: [int(digits) for digits in re.findall(r"\d+", column)])


def _pixels_of(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return pixels, float32 [rows, side, side, 1 or 3], NaN where there is no number."""
    columns = pixel_columns(table.columns, name)
    depth = next((d for d in (1, 3) if math.isqrt(len(columns) // d) ** 2 * d == len(columns)), 0)
    if not columns or not depth:
        raise Problem(f"{name} has {len(columns)} columns of pixels, which make no square.")
    texts = table[columns]
    if texts.iloc[0].str.contains(",", regex=False).any():  # decimal commas
        texts = texts.apply(lambda column: column.str.replace(",", ".", regex=False))
    values = texts.apply(pd.to_numeric, errors="coerce").to_numpy(np.float32, copy=True)
    values[~np.isfinite(values)] = np.nan
    side = math.isqrt(len(columns) // depth)
    return values.reshape(-1, side, side, depth)


def _common_range(pixels: Sequence[np.ndarray], names: Sequence[str]) -> tuple[float, float]:
    """Return the values of black and of white, of all tables; print a line where not 0 and 255."""
    # Tables that differ in the number of pixels or the range of their values are refused.
    spans = []
    for values, name in zip(pixels, names, strict=True):
        if np.isnan(values).all() or np.nanmin(values) == np.nanmax(values):
            raise Problem(f"The columns of pixels of {name} hold no pictures: download it again.")
        if values.shape[1:] != pixels[0].shape[1:]:
            numbers = [math.prod(each.shape[1:]) for each in (pixels[0], values)]
            raise Problem(f"{names[0]} has {numbers[0]} columns of pixels, {name} {numbers[1]}.")
        spans.append((float(np.nanmin(values)), float(np.nanmax(values))))
    if len({usual_range(*span) for span in spans} & {*RANGES}) > 1:
        differing = " but ".join(
            f"from {low:g} to {high:g} in {name}"
            for (low, high), name in zip(spans, names, strict=True)
        )
        raise Problem(f"Pixels run {differing}: give both tables the same range, such as 0 to 255.")
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    black, white = usual_range(low, high)
    if (black, white) != (0, 255):
        print(
            f"Pixels of {' and '.join(names)} run from {low:g} to {high:g}: {black:g} is taken for "
            f"black, {white:g} for white."
        )
    return black, white


def usual_range(low: float, high: float) -> tuple[float, float]:
    """Return the usual range of values, of which they use half or more; else their own, from 0."""
    for black, white in RANGES:
        if black <= low and high <= white and high - low > (white - black) / 2:
            return black, white
    return min(low, 0), high


def _test_ids(
    table: pd.DataFrame, name: str, layout: Layout, sample: pd.DataFrame | None
) -> pd.Series:
    """Return the Id of each row of the test table, from its own column of them."""
    # A table without such a column has the Ids in their order where they are numbers in a row.
    pixels = set(pixel_columns(table.columns, name))
    others = [column for column in table.columns if column not in pixels]
    known = Spellings(others, LABEL_KEYS).only(_id_name(layout, sample))
    if known or sample is None:
        return table[known] if known else pd.Series(table.index.astype(str))
    ids = sample.iloc[:, 0]
    for column in others:
        values = Spellings(table[column], FILE_KEYS)
        if table[column].is_unique and all(values.find(Id)[0] for Id in ids):
            return table[column]
    if len(table) != len(sample):
        raise Problem(
            f"{name} has {len(table)} rows, {layout.sample_csv} {len(sample)}, and no column of "
            f"{name} holds the Ids of {layout.sample_csv}: take both from the same competition."
        )
    of_number = {number_of(Id): Id for Id in ids}
    first = 0 if None in of_number else min(of_number)
    if set(of_number) != set(range(first, first + len(ids))):
        raise Problem(
            f"No column of {name} holds the Ids of {layout.sample_csv}, such as {ids.iloc[0]}, "
            f"which are no numbers in a row: add the Ids to {name} as a column {sample.columns[0]}."
        )
    print(f"{name} has no column of Ids: its first row is the Id {first}, and so on.")
    return pd.Series([of_number[first + row] for row in range(len(table))])


def _write_pixels(folder: Path, pixels: np.ndarray, ids: pd.Series, name: str) -> None:
    """Write pixels, 0 to 255, as PNGs, without the rows in which one is NaN; a line names those."""
    blank = np.isnan(pixels).any(axis=(1, 2, 3))
    if blank.any():
        row = int(blank.argmax())
        print(
            f"{name} has {blank.sum()} rows with pixels that are no numbers, the first in line "
            f"{row + 2}: they count as rows without a photo."
        )
    pictures = np.uint8(np.round(pixels[~blank]))[..., ::-1]
    files = _write_photos(folder, (cv2.imencode(".png", each)[1].tobytes() for each in pictures))
    _write_ids(folder, files, ids[~blank])


# ---------------------------------------------------------------------------------- records


def unpack_records(folder: Path, layout: Layout, scratch: Path) -> tuple[Path, Layout]:
    """Write both sets' records as files, once; return folder and layout.

    Raises Problem if there are none, they are damaged, or one lacks a picture, a label or an Id.
    """
    files = {}
    for part, places in (("train", layout.train_photos), ("test", layout.test_photos)):
        paths = [
            path
            for place in map(folder.joinpath, places)
            for path in ([place] if place.is_file() else map(Path, list_files(place)["path"]))
        ]
        files[part] = sorted(path for path in paths if RECORDS.search(path.name))
        if places and not files[part]:
            raise Problem(
                f"{folder} has no TFRecords in {' or '.join(places)}: download them again, or name "
                "other places in the block COMPETITION."
            )
    labels = (layout.label if isinstance(layout.label, str) else "", *LABELS)

    def convert(target: Path, sample: pd.DataFrame | None) -> pd.DataFrame:
        ids = (layout.id, _id_name(layout, sample), *IDS)
        if files["test"]:
            _write_records(files["test"], target / "test", {ID: ids})
        group = {"group": (layout.group,)} if layout.group else {}
        return _write_records(files["train"], target / "train", {"label": labels, **group}, ids)

    names = [str(file.relative_to(folder)) for part in files.values() for file in part]
    target, copy = _unpacked_copy(folder, layout, names, scratch, convert)
    return target, replace(copy, label="label", group="group" if layout.group else "")


def _write_records(
    files: list[Path], target: Path, wanted: dict[str, Sequence[str]], ids: Sequence[str] = ()
) -> pd.DataFrame:
    """Write the pictures of records, and their Ids; return a row a record, all str."""
    # The first feature of the names `wanted` for each column counts. An Id is the first feature of
    # `ids`; without it, or where two records have the same one, their numbers.
    rows: list[dict[str, str]] = []

    def pictures() -> Iterator[bytes]:
        for where, features in _examples(files):
            row = {column: _feature_of(features, names, where) for column, names in wanted.items()}
            if lacking := [column for column, value in row.items() if value is None]:
                raise Problem(
                    f"{where} has no {' or '.join(filter(None, wanted[lacking[0]]))} among its "
                    f"features ({', '.join(features)})."
                )
            if ids and (own := _feature_of(features, ids, where)) is not None:
                row[ID] = own
            rows.append(row)
            yield _picture_of(features, where)

    names = _write_photos(target, pictures())
    table = pd.DataFrame(rows, columns=[*dict.fromkeys([ID, *wanted])])
    if ids and (table[ID].isna().any() or table[ID].duplicated().any()):
        table[ID] = table.index.astype(str)
    _write_ids(target, names, table[ID])
    return table


def _feature_of(features: dict[str, list[Value]], names: Sequence[str], where: str) -> str | None:
    """Return the value of the first feature that a record has of several names, as text."""
    # Several numbers of which one is 1 and the others are 0 are a one-hot code: the position of 1.
    known = Spellings(features, LABEL_KEYS)
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
    if not isinstance(value := values[0], bytes):
        if not float(value).is_integer():
            raise Problem(f"{where} has in {name} the fraction {value:g}, which is no label.")
        return str(int(value))
    text = value.rstrip(b"\0").decode(errors="replace")  # writers of fixed sizes fill up with 0
    if "\0" in text or "\N{REPLACEMENT CHARACTER}" in text:
        raise Problem(f"{where} has in {name} bytes that are no text in UTF-8.")
    return text


def _picture_of(features: dict[str, list[Value]], where: str) -> bytes:
    found = {
        name: values[0]
        for name, values in features.items()
        if len(values) == 1 and isinstance(values[0], bytes) and _suffix_of(values[0])
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


def _examples(files: list[Path]) -> Iterator[tuple[str, dict[str, list[Value]]]]:
    """Yield where each record is and the values of its features, by their names."""
    import tensorflow as tf  # which nothing else here needs
    from google.protobuf.message import DecodeError  # which TensorFlow brings

    for file in files:
        number = 0
        try:
            for raw in tf.data.TFRecordDataset(str(file), _compression(file)).as_numpy_iterator():
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


def _compression(file: Path) -> str:
    """Return how a file of records is compressed, as TensorFlow calls it: "", GZIP or ZLIB."""
    # Where it is not, it begins with the length of the first record, which the file holds.
    with file.open("rb") as opened:
        head = opened.read(8)
    if head.startswith(b"\x1f\x8b\x08"):
        return "GZIP"
    length = int.from_bytes(head, "little")
    return "ZLIB" if head[:1] == b"\x78" and length > file.stat().st_size else ""
