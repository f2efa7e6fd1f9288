"""Read CSV files that people and Kaggle write, as text; write those of a run."""

import codecs
import csv
from itertools import islice
from pathlib import Path

import pandas as pd

from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

SEPARATORS = ",;\t|"
FIRST_ROWS = 20  # that tell the separator


def read_csv(
    path: Path, advice: str = "download it again", separators: str = SEPARATORS
) -> pd.DataFrame:
    """Read a CSV with every value as the text that stands there.

    The file is in UTF-8, or in UTF-16 with a byte order mark. Its values are separated by commas,
    or by another of the separators where its first rows fit that one alone; those that a short row
    lacks are "". The sentence about an unusable file ends with `advice`. Raises Problem if there is
    no such file, it can't be parsed, it has no rows, or a row has more values than the header.
    """
    try:
        encoding = encoding_of(path)
        separator = separator_of(path, encoding, separators)
        table = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding=encoding
        )
    except FileNotFoundError:
        raise Problem(
            f"There is no {path.name} in {path.parent}: give the folder into which the "
            "competition's files were downloaded."
        ) from None
    except UnicodeError:
        raise Problem(f"{path} is in an unknown encoding: save it as UTF-8.") from None
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        reason = " ".join(str(error).split())
        raise Problem(f"{path} can't be read ({reason}): {advice}.") from None
    if table.empty:
        raise Problem(f"{path} has no rows: {advice}.")
    if not isinstance(table.index, pd.RangeIndex):  # how pandas reads rows longer than the header
        raise Problem(f"{path} has more values in a row than column names: {advice}.")
    return table.fillna("")


def encoding_of(path: Path) -> str:
    """Return a text file's encoding. Raises UnicodeError for UTF-16 without a byte order mark."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(UTF16):
        return "utf-16"
    if b"\0" in head:
        raise UnicodeError
    return "utf-8-sig"


def separator_of(path: Path, encoding: str, separators: str = SEPARATORS) -> str:
    """Return what separates the values of a CSV: a comma, unless only another one fits."""

    def fits(separator: str) -> bool:
        try:
            with path.open(encoding=encoding) as file:
                rows = csv.reader(file, delimiter=separator)
                widths = {len(row) for row in islice(rows, FIRST_ROWS) if row}
        except csv.Error:  # a quotation mark that opens a value is never closed
            return False
        return len(widths) == 1 and widths.pop() > 1

    fitting = [separator for separator in separators if fits(separator)]
    return fitting[0] if "," in fitting or len(fitting) == 1 else ","


def write_table(table: pd.DataFrame, path: Path, float_format: str | None = None) -> None:
    """Write a table as CSV without its index. Raises OSError if it can't be written."""
    write_atomically(
        path, lambda beside: table.to_csv(beside, index=False, float_format=float_format)
    )


def write_list(table: pd.DataFrame, path: Path, float_format: str | None = None) -> None:
    """Write a table as `write_table` does; without rows, remove what an earlier run left there."""
    if table.empty:
        path.unlink(missing_ok=True)
    else:
        write_table(table, path, float_format)
