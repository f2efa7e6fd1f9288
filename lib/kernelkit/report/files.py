"""The files of a finished run, besides its metrics and pictures."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from kernelkit.core.files import write_atomically


def write_table(table: pd.DataFrame, path: Path, float_format: str | None = None) -> None:
    """Write a table as CSV without its index.

    Raises:
        OSError: the file can't be written.
    """
    write_atomically(
        path, lambda beside: table.to_csv(beside, index=False, float_format=float_format)
    )


def write_list(table: pd.DataFrame, path: Path, float_format: str | None = None) -> None:
    """Write a table, or remove the file that an earlier run left where it has no rows.

    Args:
        table: what to write.
        path: the CSV.
        float_format: of numbers, for example "%.6g"; None writes every digit.

    Raises:
        OSError: the file can't be written.
    """
    if table.empty:
        path.unlink(missing_ok=True)
    else:
        write_table(table, path, float_format)


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays under their names as a compressed .npz file.

    Raises:
        OSError: the file can't be written.
    """
    write_atomically(path, lambda beside: np.savez_compressed(beside, **arrays))
