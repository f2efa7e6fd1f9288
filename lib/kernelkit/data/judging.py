"""Stop before training where too much of a competition would be left out, and name the rest."""

import pandas as pd

from kernelkit.core.problem import Problem, first_names
from kernelkit.data.competition import Competition

REASONS = 3  # that a sentence names
WAY_OUT = (
    "Mend these rows and photos, or list the rows' Ids in a CSV and leave them out with --exclude"
)


def judge(competition: Competition, most: float) -> None:
    """Check that what is left out does not decide what the network learns.

    Rows that people leave out themselves do not count, nor rows that repeat another.

    Args:
        competition: what was read of it so far.
        most: the largest fraction of the training rows that may be left out, 0 to 1.

    Raises:
        Problem: a class that has rows has lost all of them, fewer than two classes are left, or
            more rows are left out than that.
    """
    rows = competition.rows[competition.rows["counts"]]
    out = rows[rows["reason"] != ""]
    labels = rows["class"].where(rows["class"].notna(), rows["label"]).astype(str)
    gone = set(labels) - set(
        competition.rows.loc[competition.rows["reason"] == "", "class"].map(str)
    )
    unusable = out[labels.loc[out.index].isin(gone) & ~is_without_label(out)]
    if len(unusable):
        names = class_counts(labels.loc[unusable.index])
        raise Problem(
            f"In {competition.folder}, classes would be missing because none of their rows can be "
            f"used: {names}; {counted_reasons(unusable)}. {WAY_OUT}."
        )
    if len(competition.classes) < 2:
        raise Problem(
            f"The training table in {competition.folder} has only the class "
            f"{competition.classes[0]}: give one of two or more classes."
        )
    if len(out) > most * len(rows):
        raise Problem(
            f"{len(out)} of the {len(rows)} training rows in {competition.folder} can't be used "
            f"({len(out) / len(rows):.1%}, more than {most:.1%}): {counted_reasons(out)}. "
            f"{WAY_OUT}; or allow more with --most-excluded."
        )


def is_without_label(rows: pd.DataFrame) -> pd.Series:
    """Tell of each row whether its label is blank or means none, and so is no class."""
    return rows["reason"].str.endswith(("its label is blank", " means none"))


def class_counts(labels: pd.Series) -> str:
    """Return the first classes of rows, each with the number of its rows."""
    counts = labels.value_counts(sort=False)
    return first_names([f"{label} ({count} rows)" for label, count in counts.items()])


def counted_reasons(rows: pd.DataFrame) -> str:
    """Return the most frequent reasons, each with how many rows it has and the first of these."""
    counts = rows["reason"].value_counts()
    parts = [
        f"{reason} ({count}: {first_names(list(rows.loc[rows['reason'] == reason, 'Id']), 3)})"
        for reason, count in counts.head(REASONS).items()
    ]
    other = counts.iloc[REASONS:].sum()
    return "; ".join(parts + [f"other reasons ({other})"] * bool(other))


def print_left_out(competition: Competition) -> None:
    """Print a line for each reason for which rows and photos are left out."""
    excluded = competition.excluded
    for part, rows in excluded.groupby("set", sort=False):
        print(f"Left out of {part}: {counted_reasons(rows)}")
