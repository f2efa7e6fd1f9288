"""Near-identical photos: a perceptual hash and the groups it forms."""

import numpy as np
import pandas as pd
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

THUMBNAIL = 32
HASH_SIDE = 16
THRESHOLD = 40
CHUNK = 256


def perceptual_hash(thumbnails: np.ndarray) -> np.ndarray:
    """Hash thumbnails: uint8 [n, 32, 32] to uint64 [n, 4], the signs of 256 low frequencies.

    pHash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010) with
    16 x 16 coefficients: a bit is set where a coefficient lies above the photo's median.
    """
    spectrum = dctn(thumbnails.astype("float32"), axes=(1, 2))
    low = spectrum[:, :HASH_SIDE, :HASH_SIDE].reshape(len(thumbnails), -1)
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)


def near_duplicate_groups(hashes: np.ndarray, threshold: int = THRESHOLD) -> np.ndarray:
    """Number the groups of hashes linked by a Hamming distance of at most `threshold`.

    Args:
        hashes: uint64 [n, words].
        threshold: in bits.

    Returns:
        int [n], numbers from 0.
    """
    first, second = [], []
    for start in range(0, len(hashes), CHUNK):
        rows, rest = hashes[start : start + CHUNK], hashes[start:]
        distance = np.zeros((len(rows), len(rest)), np.uint16)
        for word in range(hashes.shape[1]):
            distance += np.bitwise_count(rows[:, None, word] ^ rest[None, :, word])
        near = np.nonzero(distance <= threshold)
        first.append(near[0] + start)
        second.append(near[1] + start)
    rows, columns = np.concatenate(first), np.concatenate(second)
    links = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(hashes),) * 2)
    return connected_components(links, directed=False)[1]


def conflicting_labels(train: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `train` whose group holds more than one label, group by group.

    The same photo under two labels: at least one of them is wrong.
    """
    several = train.groupby("group")["label"].transform("nunique") > 1
    return train[several].sort_values("group", kind="stable")
