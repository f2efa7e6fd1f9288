"""Decode every photo once, to find the unusable ones and those that are there more than once."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from ImageDataAugmentor.reading import UnreadableImage
from kernelkit.core.problem import Problem, first_names
from kernelkit.data.competition import Competition, excluded_rows, used_rows
from kernelkit.data.duplicates import copies, join_groups, near_duplicate_groups, perceptual_hashes
from kernelkit.data.reading import is_readable_in_part, printable, read_small, reason_of

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
