"""The lists behind a report, as CSV files beside it."""

import pandas as pd

from kernelkit.data.tables import with_marks
from kernelkit.report.figuring import (
    class_table,
    conflicts,
    confused_pairs,
    least_sure,
    mistakes,
    resembling_none,
)
from kernelkit.report.files import write_list
from kernelkit.report.saved import Run

FOLDER = "report"  # beside report.html


def write_lists(run: Run) -> dict[str, pd.DataFrame]:
    """Write the lists of a run and return them by the names of their files, whole.

    A list without rows has no file; one that an earlier report left is removed.

    Raises:
        OSError: a file can't be written.
    """
    copies = conflicts(run.photos).drop(columns=["set"])
    lists = {"duplicates.csv": with_marks(copies, run.folder / FOLDER / "duplicates.csv")}
    if run.finished:
        lists |= {
            "mistakes.csv": mistakes(run),
            "least_sure.csv": least_sure(run),
            "resembling_none.csv": resembling_none(run),
            "confused_pairs.csv": confused_pairs(run),
            "classes.csv": class_table(run),
        }
    for name, table in lists.items():
        write_list(table, run.folder / FOLDER / name, "%.6g")
    return lists
