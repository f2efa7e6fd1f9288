"""Decode every photo once, as in training, and stop where too much can't be used."""

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm
from tqdm.contrib.concurrent import thread_map

from ImageDataAugmentor.reading import UnreadableImage, read_image, read_reduced
from kernelkit.core.problem import Problem, first_names
from kernelkit.data.duplicates import copies, join_groups, near_duplicate_groups, perceptual_hashes
from kernelkit.data.names import printable
from kernelkit.data.read import Competition, excluded_rows, used_rows

THUMBNAIL = 48  # pixels to which the shorter side may be reduced: enough to hash a photo's crops
DARK = 32  # of 255: no photo in daylight stays below it
MOST = 0.95  # of a set's photos
MOST_TESTS = 0.5  # of the photos to predict may be unusable, whatever share of the rows may
REASONS = 3  # that a sentence names
NO_HASHES = np.zeros((3, 4), np.uint64)
CURE = "Correct these rows and photos, or list the rows' Ids in a CSV and leave them out with "
CURE += "--exclude"


@dataclass(frozen=True)
class Examined:
    """What was found out about a photo."""

    reason: str = ""  # why it can't be used; "" where it can
    hashes: np.ndarray | None = None  # its `perceptual_hashes`, where it can be used and is whole
    truncated: bool = False
    brightest: int = 255  # its largest value in grey, 0 to 255, where it was decoded


def check_photos(competition: Competition, workers: int | None = None) -> Competition:
    """Decode every photo once, exclude the unusable ones and group near-identical ones.

    An unusable training photo loses its row of `train`; an unusable test photo keeps its row, with
    path "". Both are listed in `excluded` with the reason. A truncated photo does not train, but is
    predicted. Lines are printed of these, of sets that are nearly black, and of test photos that
    are nearly the same as training photos. Group and near of `train` are set, and near of `test`.
    Raises Problem if no training photo or no test photo is usable.
    """
    rows, test = competition.rows.copy(), competition.test.assign(reason="")
    used, tested = rows.index[rows["reason"] == ""], test.index[test["path"] != ""]
    photos = [(path, False) for path in rows.loc[used, "path"]]
    photos += [(path, True) for path in test.loc[tested, "path"]]
    found = examine_all(photos, workers)
    of_train, of_test = found[: len(used)], found[len(used) :]
    rows.loc[used, "reason"] = [one.reason for one in of_train]
    test.loc[tested, "reason"] = [one.reason for one in of_test]
    lost = _unusable("training", rows.loc[used], of_train, competition.folder)
    lost_tests = _unusable("test", test.loc[tested], of_test, competition.folder)
    cut = test.loc[tested[[one.truncated for one in of_test]], "Id"]
    if len(cut):
        named = f"{len(cut)} ({first_names(cut)})"
        print(f"Truncated test photos, predicted from what is there: {named}")
    hashes = np.stack([one.hashes for one in of_train if not one.reason] or [NO_HASHES])
    near = near_duplicate_groups(hashes)
    train = used_rows(rows, competition.classes).assign(near=near)
    train["group"] = _groups(train, rows.loc[rows["reason"] == "", "group"].to_numpy(str))
    test["path"] = test["path"].mask(test["reason"] != "", "")
    of_test = {row: one.hashes for row, one in zip(tested, of_test, strict=True)}
    excluded = [competition.excluded, excluded_rows(lost), excluded_rows(lost_tests, "test")]
    return replace(
        competition,
        train=train,
        test=test[["Id", "path"]].assign(near=_near_of_test(test, of_test, train, hashes)),
        rows=rows,
        excluded=pd.concat(excluded, ignore_index=True),
    )


def _groups(train: pd.DataFrame, given: np.ndarray) -> np.ndarray:
    """Return the number of each photo's group, of near-identical ones and of `given` names.

    Where so every class is of a single group, as frames of one video are, only the names count.
    """

    def divides(groups: np.ndarray) -> bool:
        return train.assign(group=groups).groupby("label")["group"].nunique().max() > 1

    groups = join_groups(train["near"].to_numpy(), given)
    named = join_groups(np.arange(len(train)), given)
    if divides(groups) or not divides(named):
        return groups
    print(
        "All photos of each class are nearly the same, so such photos are divided too: the score "
        "of the validation will be too good, unless the photos to predict are like these as well."
    )
    return named


def _unusable(
    name: str, table: pd.DataFrame, examined: list[Examined], folder: Path
) -> pd.DataFrame:
    """Return the rows of a set that have a reason; a line is printed of sets that are too dark."""
    unusable = table[table["reason"] != ""]
    if len(unusable) == len(table) > 0:
        first, reason = printable(unusable["path"].iloc[0]), unusable["reason"].iloc[0]
        raise Problem(
            f"None of the {len(table)} {name} photos in {folder} can be used: of the first, "
            f"{first}, {reason}. Download them again, or convert them to PNG or JPEG."
        )
    brightest = [one.brightest for one in examined if not one.reason]
    if brightest and np.quantile(brightest, MOST) < DARK:
        print(
            f"The {name} photos are nearly black throughout: of {MOST:.0%} of them the brightest "
            f"value is below {DARK} of 255, the largest of all is {max(brightest)}. Their values "
            "may lack a scale, such as 12 bits in files of 16: then scale them to the whole range. "
            "Or only their transparency shows something, which is dropped: then draw them on white."
        )
    return unusable


def _near_of_test(
    test: pd.DataFrame, of_test: dict[int, np.ndarray], train: pd.DataFrame, of_train: np.ndarray
) -> pd.Series:
    near = pd.Series(-1, test.index)
    if hashed := {row: hashes for row, hashes in of_test.items() if hashes is not None}:
        found = copies(np.stack(list(hashed.values())), of_train)
        same = pd.Series(found, list(hashed))[found >= 0]
        near[same.index] = train["near"].to_numpy()[same]
        pairs = zip(test["Id"][same.index], train["Id"].iloc[same], strict=True)
        if named := [f"{one} = {other}" for one, other in pairs]:
            print(
                f"Test photos that are nearly the same as training photos: {len(named)} "
                f"({first_names(named)}); in photos.csv they have one group"
            )
    return near


def examine_all(photos: list[tuple[str, bool]], workers: int | None = None) -> list[Examined]:
    """Return what `examine` does for each of its arguments, in order, with a progress bar."""
    return thread_map(
        lambda photo: examine(*photo),
        photos,
        max_workers=workers or os.cpu_count(),
        tqdm_class=tqdm,
        desc="Checking photos",
        unit=" photos",
    )


def examine(path: str, test: bool = False) -> Examined:
    """Decode a photo, as small as it can be. A truncated one of the test set has no hashes."""
    try:
        small = _read_small(path)
    except UnreadableImage as error:
        reason = str(error).removeprefix(f"{path}: ")
        if test and "truncated" in reason and _is_readable_in_part(path):
            return Examined(truncated=True)
        if reason in ("the file is empty", "the file is truncated"):
            return Examined(f"its {reason.removeprefix('the ')}")
        if reason.startswith("cannot be read"):
            return Examined(f"its file {reason}")
        return Examined(f"it can't be decoded ({reason})")
    except Exception as error:  # decoders raise many types, and no photo may end the run
        return Examined(f"it can't be decoded ({' '.join(str(error).split())})")
    hashes = perceptual_hashes(Image.fromarray(small))
    return Examined(hashes=hashes, brightest=int(small.max()))


def _read_small(path: str) -> np.ndarray:
    """Decode a photo in grey, uint8 [height, width], its shorter side about THUMBNAIL pixels."""
    small = read_reduced(path, THUMBNAIL)
    if small is None:
        small = read_image(path, "gray", truncated="error")[..., 0]
    scale = THUMBNAIL / min(small.shape)
    if scale > 0.5:
        return small
    size = [max(1, round(side * scale)) for side in small.shape[::-1]]
    return cv2.resize(small, size, interpolation=cv2.INTER_AREA)


def _is_readable_in_part(path: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is truncated
            read_image(path)
    except UnreadableImage:
        return False
    return True


def check_losses(competition: Competition, most: float) -> None:
    """Check that what is left out does not decide what the network learns.

    Rows that people leave out themselves do not count, nor rows that repeat another. At most the
    fraction `most` of the training rows may be left out. Raises Problem if a class has lost all its
    rows, fewer than two are left, more rows are left out, or most photos to predict are.
    """
    rows = competition.rows[competition.rows["counts"]]
    out = rows[rows["reason"] != ""]
    labels = rows["class"].where(rows["class"].notna(), rows["label"]).astype(str)
    used = competition.rows.loc[competition.rows["reason"] == "", "class"].map(str)
    no_class = out["reason"].str.endswith(("its label is blank", " means none"))
    gone = out[~labels.loc[out.index].isin(set(used)) & ~no_class]
    if len(gone):
        counts = labels.loc[gone.index].value_counts(sort=False)
        names = first_names([f"{label} ({count} rows)" for label, count in counts.items()])
        raise Problem(
            f"In {competition.folder}, classes would be missing because none of their rows can be "
            f"used: {names}; {_counted_reasons(gone)}. {CURE}."
        )
    if len(competition.classes) < 2:
        raise Problem(
            f"The training table in {competition.folder} has only the class "
            f"{competition.classes[0]}: give one of two or more classes."
        )
    if len(out) > most * len(rows):
        raise Problem(
            f"{len(out)} of the {len(rows)} training rows in {competition.folder} can't be used "
            f"({len(out) / len(rows):.1%}, more than {most:.1%}): {_counted_reasons(out)}. "
            f"{CURE}; or allow more with --most-excluded."
        )
    _check_tests(competition, max(most, MOST_TESTS))


def _check_tests(competition: Competition, most: float) -> None:
    """Raise Problem where more than the fraction `most` of the photos to predict is unusable."""
    test, out = competition.test, competition.excluded
    lost = test.loc[test["path"] == "", "Id"]
    if len(lost) > most * len(test):
        reasons = out[(out["set"] == "test") & out["Id"].isin(lost)]
        raise Problem(
            f"{len(lost)} of the {len(test)} photos to predict in {competition.folder} can't be "
            f"used: {_counted_reasons(reasons)}. Download them again; or allow more with "
            "--most-excluded."
        )


def print_left_out(competition: Competition) -> None:
    """Print a line for each set of which rows and photos are left out, with the reasons."""
    for part, rows in competition.excluded.groupby("set", sort=False):
        print(f"Left out of {part}: {_counted_reasons(rows)}")


def _counted_reasons(rows: pd.DataFrame) -> str:
    """Return the most frequent reasons, each with how many rows it has and the first of these."""
    counts = rows["reason"].value_counts()
    parts = [
        f"{reason} ({count}: {first_names(list(rows.loc[rows['reason'] == reason, 'Id']), 3)})"
        for reason, count in counts.head(REASONS).items()
    ]
    other = counts.iloc[REASONS:].sum()
    return "; ".join(parts + [f"other reasons ({other})"] * bool(other))
