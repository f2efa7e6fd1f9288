"""The photos of a run: what trains, what validates, and what is predicted."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from photos.checking import check_photos
from photos.competition import Competition, CompetitionFiles, read_competition
from photos.duplicates import conflicting_labels
from photos.splitting import split

NAMED = 9  # photos that a line of the log names


@dataclass(frozen=True)
class PhotoTables:
    """The tables of a run, and the competition that they come from."""

    competition: Competition
    """The whole competition, including what was left out."""
    train: pd.DataFrame
    """Columns Id, label, path, group: the photos to train on."""
    validation: pd.DataFrame
    """The same columns: the photos held out."""
    test: pd.DataFrame
    """Columns Id, path: the rows of the sample submission whose photo can be read."""

    @property
    def fingerprint(self) -> str:
        """A hash of Ids, labels and parts, which tells whether an unfinished run can go on."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        rows = pd.concat(table.assign(part=part) for part, table in parts.items())
        columns = rows[["Id", "part", "label"]].astype(str)
        return hashlib.sha256(columns.to_csv(index=False).encode()).hexdigest()

    def positions(self, table: pd.DataFrame) -> np.ndarray:
        """Return the position of each row's label among the classes, int64 [n]."""
        return pd.Index(self.competition.classes).get_indexer(table.label)

    def class_counts(self) -> pd.DataFrame:
        """Return a row for each class, with columns train and validation: numbers of photos."""
        parts = {"train": self.train, "validation": self.validation}
        return pd.DataFrame(
            {
                part: table.label.value_counts().reindex(self.competition.classes, fill_value=0)
                for part, table in parts.items()
            }
        )

    def with_prior(self, probabilities: np.ndarray) -> np.ndarray:
        """Return a row for every Id of the sample submission.

        Args:
            probabilities: float [readable test photos, classes].

        Returns:
            float32 [Ids, classes]: photos that can't be read get the classes' fractions among the
            training photos.
        """
        if unreadable := len(self.competition.test) - len(self.test):
            print(f"{unreadable} test photos can't be read: they get the most frequent class.")
        counts = self.class_counts()["train"].to_numpy()
        rows = np.tile(np.float32(counts / counts.sum()), (len(self.competition.test), 1))
        rows[(self.competition.test.path != "").to_numpy()] = probabilities
        return rows

    def summary(self) -> str:
        """Return the numbers of photos in one line, after one about labels that contradict."""
        conflicts = list(conflicting_labels(self.competition.train).Id)
        more = f" and {len(conflicts) - NAMED} more" if len(conflicts) > NAMED else ""
        named = f"Nearly the same photo, another label: {', '.join(conflicts[:NAMED])}{more}\n"
        return (named if conflicts else "") + (
            f"{len(self.train)} photos to train, {len(self.validation)} to validate, "
            f"{len(self.competition.test)} to predict, {len(self.competition.classes)} classes; "
            f"{len(self.competition.excluded)} left out"
        )


def load_tables(folder: Path, files: CompetitionFiles, scratch: Path, config) -> PhotoTables:
    """Read, check and split a competition, and print what was found.

    Args:
        folder: the competition's folder.
        files: the names of its files.
        scratch: where zips are unpacked.
        config: has limit, validation_share, seed and workers; see `read_competition`, `split` and
            `check_photos`.

    Raises:
        Problem: a file is missing or unreadable, or too little is left.
    """
    competition = read_competition(folder, files, scratch, config.limit, config.seed)
    competition = check_photos(competition, config.workers)
    train, validation = split(competition.train, config.validation_share, config.seed)
    test = competition.test[competition.test.path != ""].reset_index(drop=True)
    tables = PhotoTables(competition, train, validation, test)
    print(tables.summary(), flush=True)
    return tables
