"""Photos whose pixels are columns of the competition's tables."""

import math
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from common import Problem
from photos.layout import Layout
from photos.packing import UNPACKED, converted
from photos.places import read_table


def unpack_pixels(folder: Path, layout: Layout, scratch: Path) -> tuple[Path, Layout]:
    """Write the rows of both tables as PNGs, once; return their folder and its layout.

    A test row's Id is that of the same row of the sample submission.

    Raises:
        Problem: a table is missing, or its rows are no pictures.
    """
    tests = layout.test_photos[0] if layout.test_photos else ""
    names = [layout.train_csv, layout.sample_csv, tests]

    def convert(target: Path) -> pd.DataFrame:
        train, test = (read_table(folder, name, scratch) for name in (layout.train_csv, tests))
        sample = read_table(folder, layout.sample_csv, scratch)
        if len(test) != len(sample):
            raise Problem(f"{tests} has {len(test)} rows, {layout.sample_csv} {len(sample)}.")
        write_pictures(train, train.index.astype(str), target / "train", layout.train_csv)
        write_pictures(test, sample.iloc[:, 0], target / "test", tests)
        return pd.DataFrame({"Id": train.index, "label": train[str(layout.label)]})

    target = converted(folder, names, layout.sample_csv, scratch, convert)
    return target, replace(layout, **UNPACKED)


def write_pictures(table: pd.DataFrame, ids: pd.Series, target: Path, name: str) -> None:
    """Write each row of pixels, 0 to 255, as a PNG of its Id.

    Raises:
        Problem: there are not as many pixels as a square has, in grey or in colour.
    """
    columns = [column for column in table.columns if re.fullmatch(r"\D*\d+", column)]
    depth = next((d for d in (1, 3) if math.isqrt(len(columns) // d) ** 2 * d == len(columns)), 0)
    if not depth:
        raise Problem(f"{name} has {len(columns)} columns of pixels, which make no square.")
    side = math.isqrt(len(columns) // depth)
    values = table[columns].to_numpy(np.float32).clip(0, 255).astype(np.uint8)
    pictures = values.reshape(-1, side, side, depth)[..., ::-1]
    target.mkdir(parents=True)
    for Id, picture in zip(ids, pictures, strict=True):
        cv2.imwrite(str(target / f"{Id}.png"), picture)
