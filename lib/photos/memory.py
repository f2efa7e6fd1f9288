"""Which photos a run could use: what is lost on disk later must not change its tables.

A run that is interrupted goes on with the same photos, folds and positions. So a photo that an
earlier session of it used keeps its row; where it can't be read any more, another one stands in.
"""

import hashlib
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from common import write_atomically
from photos.competition import Competition, used_rows

# What NumPy, zipfile and zlib raise for files that are cut short, damaged or of another kind.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass
class Memory:
    """The photos that the sessions of a run could use, kept in a file."""

    file: Path | None = None
    """Where it is kept; None where it is not."""
    tables: str = ""
    """A hash of the tables that it belongs to."""
    train: dict[tuple[str, str], tuple[str, np.ndarray]] = field(default_factory=dict)
    """The path and the `perceptual_hashes` of training photos, by Id and label."""
    test_paths: dict[str, str] = field(default_factory=dict)
    """The paths of test photos by Id."""

    @classmethod
    def of(cls, file: Path, competition: Competition) -> "Memory":
        """Return what a file holds of a competition's photos; nothing if it is of other tables."""
        tables = hash_of_tables(competition)
        memory = cls(file, tables)
        try:
            with np.load(file) as stored:
                if str(stored["tables"]) != tables:
                    return memory
                keys = zip(stored["ids"].tolist(), stored["labels"].tolist(), strict=True)
                values = zip(stored["paths"].tolist(), stored["hashes"], strict=True)
                test = zip(stored["test_ids"].tolist(), stored["test_paths"].tolist(), strict=True)
                memory.train, memory.test_paths = dict(zip(keys, values, strict=True)), dict(test)
        except UNREADABLE:  # no earlier session, or one that was killed while it wrote
            pass
        return memory

    def hashes_of(self, rows: pd.DataFrame) -> dict[int, np.ndarray]:
        """Return the hashes of photos of some of a competition's rows, by the row."""
        keys = zip(rows.index, rows["Id"], rows["label"], strict=True)
        return {row: self.train[Id, la][1] for row, Id, la in keys if (Id, la) in self.train}

    def has_test(self, Id: str) -> bool:
        """Tell whether the run could use the test photo of an Id."""
        return Id in self.test_paths

    def restored(self, competition: Competition) -> Competition:
        """Return the competition with the rows whose photos an earlier session found."""
        rows, test = competition.rows.copy(), competition.test.copy()
        keys = list(zip(rows["Id"], rows["label"], strict=True))
        gone = (rows["path"] == "") & rows["class"].notna() & ~rows[["Id", "label"]].duplicated()
        gone &= pd.Series([key in self.train for key in keys], rows.index)
        rows.loc[gone, "path"] = [self.train[keys[row]][0] for row in rows.index[gone]]
        rows.loc[gone, "reason"] = ""
        gone_test = (test["path"] == "") & test["Id"].isin(self.test_paths)
        test.loc[gone_test, "path"] = test.loc[gone_test, "Id"].map(self.test_paths)
        names = [*rows.loc[gone, "Id"], *test.loc[gone_test, "Id"]]
        if not names:
            return competition
        excluded = competition.excluded
        back = (excluded["path"] == "") & excluded["Id"].isin(names)
        return replace(
            competition,
            train=used_rows(rows, competition.classes),
            test=test,
            rows=rows,
            excluded=excluded[~back].reset_index(drop=True),
        )

    def keep(self, competition: Competition, hashes: list[np.ndarray]) -> None:
        """Add the usable photos of a checked competition.

        Args:
            competition: after the check.
            hashes: of the rows of its `train`.
        """
        rows = competition.rows[competition.rows["reason"] == ""]
        keys = zip(rows["Id"], rows["label"], strict=True)
        self.train |= dict(zip(keys, zip(rows["path"], hashes, strict=True), strict=True))
        test = competition.test[competition.test["path"] != ""]
        self.test_paths |= dict(zip(test["Id"], test["path"], strict=True))

    def write(self) -> None:
        """Write the file, once nothing stops the run.

        Raises:
            OSError: it can't be written.
        """
        arrays = {
            "tables": self.tables,
            "ids": [Id for Id, _ in self.train],
            "labels": [label for _, label in self.train],
            "paths": [path for path, _ in self.train.values()],
            "hashes": np.stack([known for _, known in self.train.values()]),
            "test_ids": list(self.test_paths),
            "test_paths": list(self.test_paths.values()),
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file, lambda beside: np.savez(beside, **arrays))


def hash_of_tables(competition: Competition) -> str:
    """Return a hash of the rows of both tables, whatever lies on the disk."""
    rows = competition.rows[["Id", "label"]].to_csv(index=False)
    ids = competition.sample.iloc[:, 0].to_csv(index=False)
    return hashlib.sha256(f"{rows}{ids}".encode("utf-8", "surrogateescape")).hexdigest()
