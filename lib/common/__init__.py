"""The ground floor: what every package of lib/ may use. It imports none of them.

`common.tables` and `common.locks` are imported by name, because they bring pandas and filelock.
"""

from common.boundary import Boundary
from common.files import file_hash, scratch_folder, temporary_name, write_atomically
from common.lazy import import_lazily
from common.problem import Problem, first_names
from common.progress import EpochProgress, clock_text

__all__ = [
    "Boundary",
    "EpochProgress",
    "Problem",
    "clock_text",
    "file_hash",
    "first_names",
    "import_lazily",
    "scratch_folder",
    "temporary_name",
    "write_atomically",
]
