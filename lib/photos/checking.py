"""Decoding every photo once: what is unusable, and what is there twice."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from common import Problem
from photos.competition import Competition
from photos.duplicates import near_duplicate_groups, perceptual_hashes

SMALLEST_SIDE = 32
DRAFT = 48  # the least size of a JPEG's fast decoding: enough for thumbnails of its crops
END_OF_IMAGE = b"\xff\xd9"


def check_photos(competition: Competition, workers: int | None = None) -> Competition:
    """Decode every photo once, leave the unusable ones out and group near-identical ones.

    A bad training photo leaves `train`; a bad test photo keeps its row, with path "". Both are
    named in `excluded` with the reason.

    Args:
        competition: as `read_competition` returns it; not changed.
        workers: threads; None for one a CPU.

    Raises:
        Problem: no training photo is usable.
    """
    train, test = competition.train, competition.test
    tested = test["path"] != ""
    paths = [*train["path"], *test.loc[tested, "path"]]
    reasons, hashes = zip(*examine_all(paths, workers), strict=True)

    bad = np.array([reason != "" for reason in reasons])
    train_bad, test_bad = bad[: len(train)], np.zeros(len(test), bool)
    test_bad[tested] = bad[len(train) :]
    excluded = pd.concat(
        [
            competition.excluded,
            train[train_bad].assign(set="train"),
            test[test_bad].assign(set="test", label=""),
        ],
        ignore_index=True,
    )[competition.excluded.columns]
    excluded.loc[len(competition.excluded) :, "reason"] = [r for r in reasons if r]
    if train_bad.all():
        raise Problem(
            f"None of the {len(train)} training photos in {competition.folder} can be used: of the "
            f"first, {train['path'].iloc[0]}, {reasons[0]}. Download them again."
        )

    groups = near_duplicate_groups(np.stack([h for h in hashes[: len(train)] if h is not None]))
    return replace(
        competition,
        train=train[~train_bad].assign(group=groups).reset_index(drop=True),
        test=test.assign(path=test["path"].mask(test_bad, "")),
        excluded=excluded.astype(str),
    )


def examine_all(paths: list[str], workers: int | None) -> list[tuple[str, np.ndarray | None]]:
    """Examine photos in parallel, in their order, with a progress bar."""
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    try:
        examined = pool.map(examine, paths)
        return list(tqdm(examined, "Checking photos", len(paths), unit=" photos"))
    finally:
        pool.shutdown(cancel_futures=True)


def examine(path: str) -> tuple[str, np.ndarray | None]:
    """Decode a photo: the reason why it can't be used or "", and its `perceptual_hashes`.

    A JPEG is decoded at an eighth of its size, in grey: every byte of it is read and a truncation
    found, at a fraction of the time (640x480 on two cores: 1,300 to 1,700 photos a second).
    """
    try:
        if os.path.getsize(path) == 0:
            return "its file is empty", None
        if ends_in_zeros(path):
            return "its file is incomplete (it ends in zeros)", None
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            if min(image.size) < SMALLEST_SIDE:
                return f"it measures only {image.width} x {image.height} pixels", None
            if image.format != "JPEG" and not cv2.haveImageReader(path):
                return f"it is a {image.format} file, which OpenCV does not read", None
            image.draft("L", (DRAFT, DRAFT))
            grey = image.convert("L")
    except Exception as error:  # decoders raise many kinds, and none may end the run
        return f"it can't be decoded ({error})", None
    return "", perceptual_hashes(grey)


def ends_in_zeros(path: str) -> bool:
    """Tell whether a JPEG's last bytes are zeros in place of its end: a copy that broke off."""
    with open(path, "rb") as file:
        jpeg = file.read(2) == b"\xff\xd8"
        file.seek(max(0, os.path.getsize(path) - 4096))
        tail = file.read()
    return jpeg and tail.endswith(b"\0\0") and not tail.rstrip(b"\0").endswith(END_OF_IMAGE)
