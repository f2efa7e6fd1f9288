"""The photos of a run: what trains, what validates, and what is predicted."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kernelkit.core.boundary import doing
from kernelkit.core.problem import first_names
from kernelkit.data.check import check_photos, judge, print_left_out
from kernelkit.data.duplicates import conflicting_labels
from kernelkit.data.exclude import Exclusion, leave_out, not_a_loss, read_exclusion
from kernelkit.data.find import opened
from kernelkit.data.infer_layout import layout_of
from kernelkit.data.layout import Layout
from kernelkit.data.read import Competition, draw_limit, read_competition
from kernelkit.data.split import divide, only_trained, split


@dataclass(frozen=True)
class PhotoTables:
    """The tables of a run, and the competition that they come from."""

    competition: Competition
    """The whole competition, including what was left out."""
    train: pd.DataFrame
    """Columns Id, label, path, group, near: the photos to train on."""
    validation: pd.DataFrame
    """The same columns: the photos held out."""
    test: pd.DataFrame
    """Columns Id, path: the rows of the sample submission whose photo can be read."""
    fold: int = 0
    """Which of the run's divisions into training and validation photos it is."""
    kept_size: tuple[int, int] | None = None
    """Height and width at which decoded photos are kept, see `keep_decoded`; None for those at
    which each network sees them."""

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

    def with_test_photos(self, rows: np.ndarray, classes: np.ndarray) -> "PhotoTables":
        """Return the tables with some test photos to train on, under the labels given.

        Args:
            rows: positions in `test`.
            classes: positions among the classes, one for each of them.
        """
        labels = np.asarray(self.competition.classes, dtype=object)[classes]
        more = self.test.iloc[rows].assign(label=labels, group=-1, near=-1)
        more["label"] = more["label"].astype(self.train["label"].dtype)
        return replace(self, train=pd.concat([self.train, more], ignore_index=True))

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
        usual = (self.competition.test.path == "").to_numpy()
        if unreadable := usual.sum():
            print(f"{unreadable} test photos can't be read: they get the most frequent class.")
        counts = self.class_counts()["train"].to_numpy()
        rows = np.tile(np.float32(counts / counts.sum()), (len(usual), 1))
        rows[~usual] = probabilities
        return rows


def fingerprint(parts: list[PhotoTables]) -> str:
    """Return a hash of the photos, labels, classes in their order, and folds of a run."""
    known = [part.fingerprint for part in parts] + [str(parts[0].competition.classes)]
    return hashlib.sha256(" ".join(known).encode()).hexdigest()


def load_tables(
    folder: Path,
    layout: Layout,
    scratch: Path,
    config,
    given: Mapping[str, str] | None = None,
) -> list[PhotoTables]:
    """Read, check and split a competition, and print what was found.

    Args:
        folder: the competition's folder.
        layout: its block; where the folder is another competition's, one is proposed for it.
        scratch: where zips are unpacked.
        config: has limit, exclude, folds, validation_share, seed, workers and most_excluded; see
            `draw_limit`, `read_exclusion`, `divide`, `split`, `check_photos` and `judge`.
        given: fields of the block that a person has decided, as text.

    Returns:
        The tables of each fold; of one split where `folds` is 1. They share the competition.

    Raises:
        Problem: a file is missing or unreadable, or too little is left.
    """
    doing("reading the photos")
    folder = opened(folder, scratch)
    layout = layout_of(folder, layout, scratch, given)
    competition = read_competition(folder, layout, scratch)
    exclusion = Exclusion()
    if config.exclude:
        exclusion = read_exclusion(Path(config.exclude), competition)
        competition = not_a_loss(competition, exclusion)
    judge(competition, config.most_excluded)
    if config.limit is not None:
        competition = draw_limit(competition, config.limit, config.seed, exclusion.ids)
    competition = check_photos(competition, config.workers)
    judge(competition, config.most_excluded)
    if config.folds > 1:
        pairs = divide(competition.train, config.folds, config.seed)
    else:
        pairs = [split(competition.train, config.validation_share, config.seed)]
    competition, pairs = leave_out(competition, pairs, exclusion)
    print_left_out(competition)
    test = competition.test[competition.test.path != ""].reset_index(drop=True)
    parts = [PhotoTables(competition, *pair, test, fold) for fold, pair in enumerate(pairs)]
    print(summary(parts), flush=True)
    return parts


def summary(parts: list[PhotoTables]) -> str:
    """Return the numbers of photos in one line, after those about labels and small classes."""
    competition, photos = parts[0].competition, len(parts[0].competition.train)
    conflicts = list(conflicting_labels(competition.train).Id)
    named = f"Nearly the same photo, another label: {first_names(conflicts)}\n"
    small = only_trained(competition.train)
    too_small = f"Classes with too few photos to validate: {first_names(list(map(str, small)))}\n"
    divided = f"{len(parts[0].train)} photos to train, {len(parts[0].validation)} to validate"
    if len(parts) > 1:
        held = round(photos / len(parts))
        divided = (
            f"{photos} photos in {len(parts)} folds: about {photos - held} to train and {held} to "
            "validate in each"
        )
    counts = competition.train["label"].value_counts().reindex(competition.classes)
    classes = f"Classes: {first_names(f'{name} ({count})' for name, count in counts.items())}\n"
    return (
        (named if conflicts else "")
        + classes
        + (too_small if small else "")
        + (
            f"{divided}, {len(competition.test)} to predict, {len(competition.classes)} classes; "
            f"{len(competition.excluded)} left out"
        )
    )
