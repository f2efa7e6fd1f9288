"""Decode every photo once, and stop before training where too much can't be used."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from ImageDataAugmentor.reading import UnreadableImage, read_image, read_reduced
from kernelkit.core.problem import Problem, first_names
from kernelkit.data.duplicates import copies, join_groups, near_duplicate_groups, perceptual_hashes
from kernelkit.data.names import printable
from kernelkit.data.read import Competition, excluded_rows, used_rows

THUMBNAIL = 48  # pixels to which the shorter side may be reduced: enough to hash a photo's crops


def read_small(path: str) -> np.ndarray:
    """Decode a photo in grey, its shorter side reduced to `THUMBNAIL` pixels or a little more.

    A large JPEG is reduced while it is decoded: every byte is still read, in a fraction of the
    time. All else is decoded by the library in full.

    Returns:
        uint8 [height, width].

    Raises:
        UnreadableImage: there is no such file, it is no image, or it is truncated.
    """
    small = read_reduced(path, THUMBNAIL)
    if small is None:
        small = read_image(path, "gray", truncated="error")[..., 0]
    scale = THUMBNAIL / min(small.shape)
    if scale > 0.5:
        return small
    size = [max(1, round(side * scale)) for side in small.shape[::-1]]
    return cv2.resize(small, size, interpolation=cv2.INTER_AREA)


def is_readable_in_part(path: str) -> bool:
    """Tell whether the library decodes what is there of a truncated photo."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is truncated
            read_image(path)
    except UnreadableImage:
        return False
    return True


def reason_of(error: UnreadableImage, path: str) -> str:
    """Return why a photo can't be used, as excluded.csv has it."""
    said = str(error).removeprefix(f"{path}: ")
    if said == "the file is empty":
        return "its file is empty"
    if said == "the file is truncated":
        return "its file is truncated"
    if said.startswith("cannot be read"):
        return f"its file {said}"
    return f"it can't be decoded ({said})"


DARK = 32  # of 255: no photo in daylight stays below it
MOST = 0.95  # of a set's photos
NO_HASHES = np.zeros((3, 4), np.uint64)


@dataclass(frozen=True)
class Examined:
    """What was found out about a photo."""

    reason: str = ""
    """Why it can't be used; "" where it can."""
    hashes: np.ndarray | None = None
    """Its `perceptual_hashes`, where it can be used and is whole."""
    truncated: bool = False
    """Whether a part of it is missing."""
    brightest: int = 255
    """Its largest value in grey, 0 to 255, where it was decoded."""


def check_photos(competition: Competition, workers: int | None = None) -> Competition:
    """Decode every photo once, exclude the unusable ones and group near-identical ones.

    An unusable training photo loses its row of `train`; an unusable test photo keeps its row, with
    path "". Both are listed in `excluded` with the reason. A truncated photo does not train, but it
    is predicted from what is there; a line is printed of these.

    Args:
        competition: as `read_competition` returns it; it is not changed.
        workers: the number of threads; None for one per CPU.

    Returns:
        The competition without the unusable photos; group and near of `train` are set, and near of
        `test`.

    Raises:
        Problem: no training photo or no test photo is usable.
    """
    rows, test = competition.rows.copy(), competition.test.assign(reason="")
    used, tested = rows.index[rows["reason"] == ""], test.index[test["path"] != ""]
    paths = [(path, False) for path in rows.loc[used, "path"]]
    paths += [(path, True) for path in test.loc[tested, "path"]]
    found = examine_all(paths, workers)
    of_train, of_test = found[: len(used)], found[len(used) :]
    rows.loc[used, "reason"] = [one.reason for one in of_train]
    test.loc[tested, "reason"] = [one.reason for one in of_test]
    for part, examined in (("training", of_train), ("test", of_test)):
        warn_of_darkness(part, [one.brightest for one in examined if not one.reason])
    cut = test.loc[tested[[one.truncated for one in of_test]], "Id"]
    if len(cut):
        print(
            f"Truncated test photos, predicted from what is there: {len(cut)} ({first_names(cut)})"
        )
    hashes = np.stack([one.hashes for one in of_train if not one.reason] or [NO_HASHES])
    checked = without_unusable(competition, rows, test, hashes)
    whole = [one.hashes is not None for one in of_test]
    return with_copies(checked, tested[whole], [one.hashes for one in of_test], hashes)


def with_copies(
    competition: Competition, tested: pd.Index, of_test: list[np.ndarray | None], hashes: np.ndarray
) -> Competition:
    """Return the competition with the near-identical training photo's group of each test photo.

    A line is printed of these test photos, whose labels are likely to be known.

    Args:
        competition: after the check.
        tested: the test rows that have hashes.
        of_test: the hashes of test photos, None where they have none.
        hashes: of the training photos, uint64 [photos, crops, words].
    """
    known = [each for each in of_test if each is not None]
    near = pd.Series(-1, competition.test.index)
    if known:
        found = copies(np.stack(known), hashes)
        same = pd.Series(found, tested)[found >= 0]
        near[same.index] = competition.train["near"].to_numpy()[same]
        pairs = zip(
            competition.test["Id"][same.index], competition.train["Id"].iloc[same], strict=True
        )
        named = [f"{one} = {other}" for one, other in pairs]
        if named:
            print(
                f"Test photos that are nearly the same as training photos: {len(named)} "
                f"({first_names(named)}); in photos.csv they have one group"
            )
    return replace(competition, test=competition.test.assign(near=near))


def without_unusable(
    competition: Competition, rows: pd.DataFrame, test: pd.DataFrame, hashes: np.ndarray
) -> Competition:
    """Return the competition without what can't be used.

    Args:
        competition: before the check.
        rows: `Competition.rows` after it.
        test: the test table with a column reason: why a photo can't be used, or "".
        hashes: of each row without a reason, uint64 [rows, crops, words].

    Raises:
        Problem: nothing is left of the training photos, or of the test photos.
    """
    bad = rows[(rows["reason"] != "") & (competition.rows["reason"] == "")]
    unread = test[test["reason"] != ""]
    parts = [("training", bad, competition.train), ("test", unread, test[test["path"] != ""])]
    for name, unusable, whole in parts:
        if len(unusable) == len(whole) > 0:
            first, reason = printable(unusable["path"].iloc[0]), unusable["reason"].iloc[0]
            raise Problem(
                f"None of the {len(whole)} {name} photos in {competition.folder} can be used: of "
                f"the first, {first}, {reason}. Download them again."
            )
    new = [excluded_rows(bad), excluded_rows(unread, "test")]
    near = near_duplicate_groups(hashes)
    given = rows.loc[rows["reason"] == "", "group"].to_numpy(str)
    return replace(
        competition,
        train=used_rows(rows, competition.classes).assign(
            group=join_groups(near, given), near=near
        ),
        test=test.assign(path=test["path"].mask(test["reason"] != "", ""))[["Id", "path"]],
        rows=rows,
        excluded=pd.concat([competition.excluded, *new], ignore_index=True),
    )


def warn_of_darkness(part: str, brightest: list[int]) -> None:
    """Print a line if a set's photos are nearly black throughout, as where a scale is missing.

    Args:
        part: the set's name.
        brightest: the largest value of each photo, 0 to 255.
    """
    if brightest and np.quantile(brightest, MOST) < DARK:
        print(
            f"The {part} photos are nearly black throughout: of {MOST:.0%} of them the brightest "
            f"value is below {DARK} of 255, the largest of all is {max(brightest)}. Their values "
            "may lack a scale, such as 12 bits in files of 16: then scale them to the whole range."
        )


def examine_all(photos: list[tuple[str, bool]], workers: int | None) -> list[Examined]:
    """Return what `examine` says of each photo, in order, with a progress bar.

    Args:
        photos: the arguments of `examine` for each.
        workers: the number of threads that examine them; None for one per CPU.
    """
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    try:
        examined = pool.map(lambda photo: examine(*photo), photos)
        return list(tqdm(examined, "Checking photos", len(photos), unit=" photos"))
    finally:
        pool.shutdown(cancel_futures=True)


def examine(path: str, test: bool = False) -> Examined:
    """Decode a photo, as small as it can be, to find out whether it can be used.

    Two cores examine 1,300 to 1,700 photos of 640x480 pixels a second.

    Args:
        path: the photo's file.
        test: whether it is to be predicted: then it may be truncated, and has no hashes if so.
    """
    try:
        small = read_small(path)
    except UnreadableImage as error:
        reason = reason_of(error, path)
        if test and "truncated" in reason and is_readable_in_part(path):
            return Examined(truncated=True)
        return Examined(reason)
    except Exception as error:  # decoders raise many types, and no photo may end the run
        return Examined(f"it can't be decoded ({' '.join(str(error).split())})")
    hashes = perceptual_hashes(Image.fromarray(small))
    return Examined(hashes=hashes, brightest=int(small.max()))


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
