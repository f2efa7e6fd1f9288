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
    """Return hashes of a grey photo and two crops, uint64 [3, 4]: the signs of 256 frequencies.

    The hash is pHash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions",
    2010) with 16 x 16 in place of 8 x 8 coefficients. The bit of the mean is always 0, because its
    sign carries no information; so no two hashes differ in more than 255 bits, which fit in uint8.
    """
    width, height = grey.size
    side = (THUMBNAIL, THUMBNAIL)
    boxes = [(c * width, c * height, (1 - c) * width, (1 - c) * height) for c in CROPS]
    thumbnails = [np.asarray(grey.resize(side, Image.Resampling.BOX, box)) for box in boxes]
    spectrum = dctn(np.stack(thumbnails).astype("float32"), axes=(1, 2))
    low = spectrum[:, :FREQUENCIES, :FREQUENCIES].reshape(len(CROPS), -1)
    low[:, 0] = 0
    return np.packbits(low > 0, axis=1).view(np.uint64)


def near_duplicate_groups(hashes: np.ndarray) -> np.ndarray:
    """Return the number of each photo's group of near-identical photos, from 0, int [photos].

    Two photos are near-identical where the hash of one differs in at most THRESHOLD bits from that
    of the other or of one of its crops, because photos that are published again are often cropped a
    little. A group holds all photos that a chain of such pairs connects. `hashes` are uint64
    [photos, crops, words], the whole photo first. All was chosen on real photos with
    `tests/benchmarks/near_duplicates.py`: about six false pairs are expected among 15,561 photos.
    """
    return _components(*_near_pairs(hashes[:, 0], hashes), len(hashes))


def copies(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the position of each photo's first near-identical one of others, or -1: int [n]."""
    found = np.full(len(hashes), -1)
    rows, columns = _near_pairs(hashes[:, 0], others)
    order = np.argsort(-columns, kind="stable")  # so that the first is written last
    found[rows[order]] = columns[order]
    return found


def join_groups(near: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return the number of each photo's group, joined by the groups that a table names.

    `near` is int [photos]; `given` is str [photos], "" where the table names none.
    """
    photos, named = np.arange(len(near)), given != ""
    names = pd.factorize(given)[0] + near.max(initial=-1) + 1
    rows = np.concatenate([photos, photos[named]])
    columns = len(near) + np.concatenate([near, names[named]])
    joined = _components(rows, columns, int(columns.max(initial=0)) + 1)
    return pd.factorize(joined[: len(near)])[0]


def conflicting_labels(train: pd.DataFrame, by: str = "near") -> pd.DataFrame:
    """Return near-identical photos, which share the value of `by`, that differ in their label."""
    several = train.groupby(by)["label"].transform("nunique") > 1
    return train[several].sort_values(by, kind="stable")


def _components(rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    """Return the number of the component of each of `size` nodes, given the edges."""
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(size, size))
    return connected_components(graph, directed=False)[1]


def _near_pairs(wholes: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Return the positions of near-identical pairs, also of a photo with itself: int [2, pairs].

    `wholes` are hashes of photos, uint64 [photos, words]; `hashes` those of others and their crops.
    """
    crops = np.ascontiguousarray(np.moveaxis(hashes, 0, -1))  # [crops, words, others]

    def pairs_of(start: int) -> np.ndarray:
        whole = np.ascontiguousarray(wholes[start : start + CHUNK].T)
        found = []
        for crop in crops:
            distance = np.zeros((whole.shape[1], crop.shape[1]), np.uint8)
            for ours, theirs in zip(whole, crop, strict=True):
                distance += np.bitwise_count(ours[:, None] ^ theirs)
            found.append(np.nonzero(distance <= THRESHOLD))
        rows, columns = np.concatenate(found, axis=1)
        return np.stack([rows + start, columns])

    with ThreadPoolExecutor() as pool:  # NumPy releases Python's global lock
        pairs = list(pool.map(pairs_of, range(0, len(wholes), CHUNK)))
    return np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), int)
