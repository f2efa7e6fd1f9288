"""Find near-identical photos by a perceptual hash, and group them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

THUMBNAIL = 32  # pixels, height and width
CROPS = (0.0, 0.02, 0.04)  # the fraction cut off each side before a thumbnail is made
FREQUENCIES = 16  # of each axis
THRESHOLD = 40  # bits in which near-identical photos may differ
CHUNK = 32  # photos compared with all others at a time: their distances fit a processor's cache


def perceptual_hashes(grey: Image.Image) -> np.ndarray:
    """Hash a grey photo and its crops.

    The hash is pHash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions",
    2010) with 16 x 16 in place of 8 x 8 coefficients. The bit of the mean is always 0, because its
    sign carries no information; so no two hashes differ in more than 255 bits, which fit in uint8.

    Returns:
        uint64 [3, 4]: for the whole photo and two crops, the signs of 256 low frequencies.
    """
    width, height = grey.size
    side = (THUMBNAIL, THUMBNAIL)
    boxes = [(c * width, c * height, (1 - c) * width, (1 - c) * height) for c in CROPS]
    thumbnails = [np.asarray(grey.resize(side, Image.Resampling.BOX, box)) for box in boxes]
    spectrum = dctn(np.stack(thumbnails).astype("float32"), axes=(1, 2))
    low = spectrum[:, :FREQUENCIES, :FREQUENCIES].reshape(len(CROPS), -1)
    low[:, 0] = 0
    return np.packbits(low > 0, axis=1).view(np.uint64)


def near_duplicate_groups(hashes: np.ndarray, threshold: int = THRESHOLD) -> np.ndarray:
    """Group near-identical photos.

    Two photos are near-identical where the hash of one differs in at most `threshold` bits from
    that of the other or of one of its crops, because photos that are published again are often
    cropped a little. A group holds all photos that a chain of such pairs connects.

    Hash, crops and threshold were chosen on 1,102 real photos of ten car models with
    `tests/benchmarks/near_duplicates.py`. Of their 606,651 pairs, seven differ in at most 40 bits,
    and all seven are photos listed twice; the next closest pair differs in 62. Extrapolated, about
    six false pairs are expected among 15,561 photos. The benchmark also alters each photo and
    counts how often the two are found to be near-identical: always where it is compressed at
    quality 30, scaled to 320 x 240, brightened or darkened; in 99.7 % of the cases where 1, 2 or
    3 % are cropped on each side, and in 96 % where it is 5 %; in 77 % where 2 % are cropped on two
    sides alone; in 82 % where a caption covers 2 % of the picture.

    Args:
        hashes: uint64 [photos, crops, words], the whole photo first.
        threshold: in bits.

    Returns:
        The number of each photo's group, from 0: int [photos].
    """
    rows, columns = near_pairs(hashes[:, 0], hashes, threshold)
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(hashes),) * 2)
    return connected_components(graph, directed=False)[1]


def copies(hashes: np.ndarray, others: np.ndarray, threshold: int = THRESHOLD) -> np.ndarray:
    """Find for each photo the first of others that is near-identical.

    Args:
        hashes: uint64 [photos, crops, words], the whole photo first.
        others: those of other photos, uint64 [others, crops, words].
        threshold: as for `near_duplicate_groups`.

    Returns:
        The positions among the others, -1 where none is: int [photos].
    """
    found = np.full(len(hashes), -1)
    rows, columns = near_pairs(hashes[:, 0], others, threshold)
    order = np.argsort(-columns, kind="stable")  # so that the first is written last
    found[rows[order]] = columns[order]
    return found


def join_groups(near: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Join the groups of near-identical photos by the groups that a table names.

    Args:
        near: the number of each photo's group, int [photos].
        given: the name of its group in the table, str [photos]; "" where it has none.

    Returns:
        The number of each photo's joined group, from 0: int [photos].
    """
    photos, named = np.arange(len(near)), given != ""
    names = pd.factorize(given)[0] + near.max(initial=-1) + 1
    rows = np.concatenate([photos, photos[named]])
    columns = len(near) + np.concatenate([near, names[named]])
    size = int(columns.max(initial=0)) + 1
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(size, size))
    joined = connected_components(graph, directed=False)[1][: len(near)]
    return pd.factorize(joined)[0]


def near_pairs(wholes: np.ndarray, hashes: np.ndarray, threshold: int) -> np.ndarray:
    """Compare whole photos with others and their crops.

    Args:
        wholes: hashes, uint64 [photos, words].
        hashes: those of the others, uint64 [others, crops, words].
        threshold: in bits.

    Returns:
        The positions of the near-identical pairs, a photo paired with itself included:
        int [2, pairs].
    """
    words = np.ascontiguousarray(np.moveaxis(hashes, 0, -1))  # [crops, words, others]
    starts = range(0, len(wholes), CHUNK)
    with ThreadPoolExecutor() as pool:  # NumPy releases Python's global lock
        pairs = list(pool.map(lambda start: pairs_of(wholes, words, start, threshold), starts))
    return np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), int)


def pairs_of(wholes: np.ndarray, words: np.ndarray, start: int, threshold: int) -> np.ndarray:
    """Return `near_pairs` of one chunk of photos.

    Args:
        wholes: as there.
        words: the hashes of the others, uint64 [crops, words, others].
        start: the position of the chunk's first photo.
        threshold: in bits.
    """
    whole = np.ascontiguousarray(wholes[start : start + CHUNK].T)
    found = []
    for crop in words:
        distance = np.zeros((whole.shape[1], crop.shape[1]), np.uint8)
        for ours, theirs in zip(whole, crop, strict=True):
            distance += np.bitwise_count(ours[:, None] ^ theirs)
        found.append(np.nonzero(distance <= threshold))
    rows, columns = np.concatenate(found, axis=1)
    return np.stack([rows + start, columns])


def conflicting_labels(train: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `train` that are near-identical with one of another label, by near.

    Where the same photo has two labels, at least one of them is wrong.
    """
    several = train.groupby("near")["label"].transform("nunique") > 1
    return train[several].sort_values("near", kind="stable")
