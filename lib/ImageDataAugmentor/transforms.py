"""FancyPCA twice: as albumentations 1.2 meant it, and albumentations 2's at a fraction of its cost.

Both shift a photo's colours along their principal components, as Krizhevsky et al. 2012 do.
"""

import itertools

import albumentations as A
import cv2
import numpy as np

_MANY_ROWS = 128


class FancyPCA(A.ImageOnlyTransform):
    """The formula of albumentations 1.2, which 2 replaced by another.

    One Gaussian factor of spread `alpha` moves every pixel by the same colour. For uint8 pictures
    [height, width, 3].
    """

    def __init__(self, alpha: float = 0.1, p: float = 0.5):
        super().__init__(p=p)
        self.alpha = alpha

    def get_params(self) -> dict:
        """Draw the factor."""
        return {"factor": self.py_random.gauss(0, self.alpha)}

    def apply(self, img: np.ndarray, factor: float, **params) -> np.ndarray:
        """Shift uint8 [height, width, 3] by one colour, saturating."""
        variances, vectors, _ = _components(img)
        return shift_colours(img, np.rint(255 * factor * vectors @ variances).tolist())


class QuickFancyPCA(A.FancyPCA):
    """Albumentations 2's FancyPCA in a tenth of a millisecond instead of 7 to 11.

    The same but for rounding and for components estimated from every fourth row: tested photos
    differ by one of 255 at most.
    """

    def apply(self, img: np.ndarray, alpha_vector: np.ndarray, **params) -> np.ndarray:
        """Transform a picture; one that is not uint8 [height, width, 3] as the original does."""
        if img.dtype != np.uint8 or img.shape[2:] != (3,):
            return super().apply(img, alpha_vector, **params)
        return scale_components(img, alpha_vector)


def quicken(transform) -> None:
    """Turn each of albumentations' FancyPCAs in a Compose, or any transform, into ours."""
    if type(transform) is A.FancyPCA:
        transform.__class__ = QuickFancyPCA
        # It has bound its methods to the targets' names.
        transform._key2func = {
            key: transform.targets[transform._additional_targets.get(key, key)]
            for key in transform._key2func
        }
    for part in getattr(transform, "transforms", ()):
        quicken(part)


def shift_colours(img: np.ndarray, shifts: list[int], out: np.ndarray | None = None) -> np.ndarray:
    """Add a whole number to each channel of uint8 [height, width, channels], saturating.

    The result is written to `out`, which may be `img`, or to memory of its own. OpenCV is slow with
    negative numbers and with others that a byte cannot hold.
    """
    more, less = ([min(max(0, sign * one), 255) for one in shifts] + [0] for sign in (1, -1))
    shifted = cv2.add(img, (*more,), dst=out)
    if any(less):
        shifted = cv2.subtract(shifted, (*less,), dst=shifted)
    return shifted.reshape(img.shape)


def scale_components(
    img: np.ndarray, alpha_vector: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """Albumentations 2's formula: each component's deviation, scaled by alpha and its variance.

    For uint8 [height, width, 3]; alpha_vector is float [3], for the largest component first. The
    result is written to `out`, which is not `img`, or to memory of its own.
    """
    variances, vectors, mean = _components(img)
    scaled = vectors[:, ::-1] * (alpha_vector * variances[::-1])
    matrix = np.empty((len(scaled), len(scaled) + 1))
    matrix[:, :-1] = scaled
    matrix[:, -1] = -scaled @ mean
    np.fill_diagonal(matrix, matrix.diagonal() + 1)
    return cv2.transform(img, matrix, dst=out)


def planes_of(img: np.ndarray) -> list[np.ndarray]:
    """The channels of uint8 [height, width, channels], each [height, width] by itself."""
    # OpenCV copies planes that it has to allocate itself, which takes four times as long.
    return cv2.split(img, [np.empty(img.shape[:2], np.uint8) for _ in range(img.shape[2])])


def _components(img: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variances of 0..1 colours (ascending), their directions in columns, the mean of 0..255.

    Estimated from every fourth row of a picture that has many.
    """
    if len(img) >= _MANY_ROWS:
        img = np.ascontiguousarray(img[::4])
    planes = planes_of(img)
    n = planes[0].size
    mean = [total / n for total in cv2.sumElems(img)[: len(planes)]]
    squares = [cv2.norm(plane, cv2.NORM_L2SQR) for plane in planes]
    covariance = np.diag([s / n - m * m for s, m in zip(squares, mean, strict=True)])
    for i, j in itertools.combinations(range(len(planes)), 2):
        # 2 x y = x^2 + y^2 - (x - y)^2: OpenCV adds up squares ten times as fast as products.
        apart = cv2.norm(planes[i], planes[j], cv2.NORM_L2SQR)
        # eigh reads the lower half alone
        covariance[j, i] = (squares[i] + squares[j] - apart) / (2 * n) - mean[i] * mean[j]
    return *np.linalg.eigh(covariance / 255**2), np.array(mean)
