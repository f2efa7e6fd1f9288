"""The files of a finished run, besides its metrics and pictures."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from common import write_atomically


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV without its index.

    Raises:
        OSError: the file can't be written.
    """
    write_atomically(path, lambda beside: table.to_csv(beside, index=False))


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays under their names as a compressed .npz file.

    Raises:
        OSError: the file can't be written.
    """
    write_atomically(path, lambda beside: np.savez_compressed(beside, **arrays))
