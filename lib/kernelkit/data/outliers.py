"""Photos that are unlike all others, by the features of the frozen backbone."""

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

NEIGHBOURS = 5  # so that a few copies of an odd photo do not hide it
COMPONENTS = 64  # of the features: distances in thousands of dimensions are all alike, and slow
FAR = 3.5  # modified z-score of an outlier, after Iglewicz and Hoaglin (1993)


def find_outliers(Ids: Sequence[str], features: np.ndarray) -> list[tuple[str, float]]:
    """Return Id and distance of the photos that lie far from all others, the farthest first.

    A photo's distance is that to its fifth nearest neighbour, between the first 64 principal
    components of the features (float32 [photos, features]) at unit length. Far is more than 3.5
    standard deviations above the median, the deviation estimated from the median of absolute
    deviations. Among ten photos or fewer there are none.
    """
    if len(features) <= 2 * NEIGHBOURS:
        return []
    unit = normalize(features)
    reduced = PCA(min(COMPONENTS, *unit.shape), random_state=0).fit_transform(unit)
    nearest = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(reduced)
    distances = nearest.kneighbors()[0][:, -1]
    deviations = distances - np.median(distances)
    scores = 0.6745 * deviations / max(np.median(np.abs(deviations)), 1e-12)
    order = np.argsort(-distances, kind="stable")
    return [(str(Ids[row]), float(distances[row])) for row in order if scores[row] > FAR]
