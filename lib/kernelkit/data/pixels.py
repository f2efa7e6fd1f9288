"""Photos whose pixels are columns of the competition's tables."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from kernelkit.core.problem import Problem
from kernelkit.data.layout import Layout
from kernelkit.data.packing import ID, converted, note_ids, write_photos
from kernelkit.data.places import read_table
from kernelkit.data.spelling import WAYS_OF_FILES, WAYS_OF_LABELS, Spellings, number_of

RANGES = ((0, 1), (-0.5, 0.5), (-1, 1), (0, 255), (-128, 128), (0, 4095), (0, 65535))
"""The usual ranges of pixels, black to white."""


def unpack_pixels(folder: Path, layout: Layout, scratch: Path) -> tuple[Path, Layout]:
    """Write the rows of both tables as PNGs, once; return their folder and its layout.

    Raises:
        Problem: a table is missing, its rows are no pictures, or the Ids of test rows are unknown.
    """
    tests = layout.test_photos[0] if layout.test_photos else ""
    names = [layout.train_csv, *([tests] if tests else [])]

    def convert(target: Path, sample: pd.DataFrame | None) -> pd.DataFrame:
        tables = [read_table(folder, name, scratch) for name in names]
        pixels = [pixels_of(table, name) for table, name in zip(tables, names, strict=True)]
        black, white = common_range(pixels, names)
        for values in pixels:
            values -= black
            values *= 255 / (white - black)
            values.clip(0, 255, out=values)
        train = labelled(tables[0], layout, sample)
        write_set(target / "train", pixels[0], train[ID], layout.train_csv)
        if tests:
            ids = test_ids(tables[1], tests, layout, sample)
            write_set(target / "test", pixels[1], ids, tests)
        return train

    return converted(folder, layout, names, scratch, convert)


def pixel_columns(columns: Sequence[str], name: str) -> list[str]:
    """Return the columns of pixels, which differ in their numbers alone, in the numbers' order.

    Args:
        columns: of a table.
        name: the table's.

    Raises:
        Problem: several kinds of columns may be the pixels.
    """
    kinds: dict[str, list[str]] = {}
    for column in columns:
        if (kind := re.sub(r"\d+", "#", column.strip())) != column.strip():
            kinds.setdefault(kind, []).append(column)
    most = max(map(len, kinds.values()), default=0)
    largest = [kind for kind, found in kinds.items() if len(found) == most]
    if len(largest) > 1 and most > 1:
        raise Problem(
            f"{name} has {most} columns each of {' and '.join(largest[:5])}: pixels must be the "
            "columns of one name, numbered row by row."
        )
    found = kinds[largest[0]] if most > 1 else []
    return sorted(found, key=lambda column: [int(digits) for digits in re.findall(r"\d+", column)])


def pixels_of(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return a table's pixels, float32 [rows, side, side, 1 or 3], NaN where there is no number.

    Raises:
        Problem: there are not as many as a square has, in grey or in colour.
    """
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


def common_range(pixels: Sequence[np.ndarray], names: Sequence[str]) -> tuple[float, float]:
    """Return the values of black and of white, of all tables; print a line where not 0 and 255.

    Raises:
        Problem: tables hold no pixels, differ in their number, or in the range of their values.
    """
    spans = []
    for values, name in zip(pixels, names, strict=True):
        if np.isnan(values).all() or np.nanmin(values) == np.nanmax(values):
            raise Problem(f"The columns of pixels of {name} hold no pictures: download it again.")
        if values.shape[1:] != pixels[0].shape[1:]:
            numbers = [math.prod(each.shape[1:]) for each in (pixels[0], values)]
            raise Problem(f"{names[0]} has {numbers[0]} columns of pixels, {name} {numbers[1]}.")
        spans.append((float(np.nanmin(values)), float(np.nanmax(values))))
    usual = {usual_range(*span) for span in spans} & {*RANGES}
    if len(usual) > 1:
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


def labelled(table: pd.DataFrame, layout: Layout, sample: pd.DataFrame | None) -> pd.DataFrame:
    """Return the training table without pixels, with a column of its own Ids or of row numbers."""
    train = table.drop(columns=pixel_columns(table.columns, layout.train_csv))
    known = Spellings(train.columns, WAYS_OF_LABELS).only(id_name(layout, sample))
    own = known is not None and known != layout.label and train[known].is_unique
    return train.assign(**{ID: train[known] if own else train.index.astype(str)})


def id_name(layout: Layout, sample: pd.DataFrame | None) -> str:
    """Return what the column of Ids is called in the block, or else in the sample submission."""
    return layout.id or ("Id" if sample is None else sample.columns[0])


def test_ids(
    table: pd.DataFrame, name: str, layout: Layout, sample: pd.DataFrame | None
) -> pd.Series:
    """Return the Id of each row of the test table, from its own column of them.

    A table without such a column has the Ids in their order where they are numbers in a row, such
    as 1 to 28000; a line says so.

    Raises:
        Problem: the Ids are unknown.
    """
    pixels = set(pixel_columns(table.columns, name))
    others = [column for column in table.columns if column not in pixels]
    known = Spellings(others, WAYS_OF_LABELS).only(id_name(layout, sample))
    if known or sample is None:
        return table[known] if known else pd.Series(table.index.astype(str))
    ids = sample.iloc[:, 0]
    for column in others:
        values = Spellings(table[column], WAYS_OF_FILES)
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


def write_set(folder: Path, pixels: np.ndarray, ids: pd.Series, name: str) -> None:
    """Write pixels, 0 to 255, as PNGs, without the rows in which one is NaN; a line names those."""
    blank = np.isnan(pixels).any(axis=(1, 2, 3))
    if blank.any():
        row = int(blank.argmax())
        print(
            f"{name} has {blank.sum()} rows with pixels that are no numbers, the first in line "
            f"{row + 2}: they count as rows without a photo."
        )
    pictures = np.uint8(np.round(pixels[~blank]))[..., ::-1]
    files = write_photos(folder, (cv2.imencode(".png", each)[1].tobytes() for each in pictures))
    note_ids(folder, files, ids[~blank])
