"""Two versions of FancyPCA, and fast functions for the colours of pictures.

FancyPCA shifts a photo's colours along their principal components (Krizhevsky et al. 2012). There
is the formula of albumentations 1.2, and a faster implementation of version 2's.
"""

import itertools
import math

import albumentations as A
import cv2
import numpy as np
from albucore import sz_lut

_MANY_ROWS = 128  # From this height on, every fourth row is enough for the statistics.
_RAMP = np.arange(256, dtype=np.float32)
_HUES = (np.arange(180 + 256) % 180).astype(np.uint8)
_SATURATED = np.arange(-255, 511).clip(0, 255).astype(np.uint8)


class FancyPCA(A.ImageOnlyTransform):
    """FancyPCA with the formula of albumentations 1.2, which version 2 replaced.

    A Gaussian factor with the standard deviation `alpha` moves every pixel by the same colour. It
    takes uint8 pictures [height, width, 3].
    """

    def __init__(self, alpha: float = 0.1, p: float = 0.5):
        super().__init__(p=p)
        self.alpha = alpha

    def get_params(self) -> dict:
        """Return the factor, drawn anew."""
        return {"factor": self.py_random.gauss(0, self.alpha)}

    def apply(self, img: np.ndarray, factor: float, **params) -> np.ndarray:
        """Return uint8 [height, width, 3] shifted by one colour, clipped to 0..255."""
        variances, vectors, _ = _components(img)
        return shift_colours(img, np.rint(255 * factor * vectors @ variances).tolist())


class QuickFancyPCA(A.FancyPCA):
    """Albumentations 2's FancyPCA in a tenth of a millisecond instead of 7 to 11.

    It rounds differently and estimates the components from every fourth row. On photos in the
    tests the results differ by one of 255 at most.
    """

    def apply(self, img: np.ndarray, alpha_vector: np.ndarray, **params) -> np.ndarray:
        """Transform uint8 [height, width, 3] quickly; leave others to albumentations."""
        if img.dtype != np.uint8 or img.shape[2:] != (3,):
            return super().apply(img, alpha_vector, **params)
        return scale_components(img, alpha_vector)


def quicken(transform) -> None:
    """Replace albumentations' FancyPCA by QuickFancyPCA in a transform and all within it."""
    if type(transform) is A.FancyPCA:
        transform.__class__ = QuickFancyPCA
        # The instance keeps references to the methods of its former class.
        transform._key2func = {
            key: transform.targets[transform._additional_targets.get(key, key)]
            for key in transform._key2func
        }
    for part in getattr(transform, "transforms", ()):
        quicken(part)


def shift_colours(img: np.ndarray, shifts: list[int], out: np.ndarray | None = None) -> np.ndarray:
    """Add whole numbers to the channels of uint8 [h, w, channels], clipped; `out` may be `img`."""
    # OpenCV is slow with numbers that do not fit in a byte, so it adds and then subtracts.
    more, less = ([min(max(0, sign * one), 255) for one in shifts] + [0] for sign in (1, -1))
    shifted = cv2.add(img, (*more,), dst=out)
    if any(less):
        shifted = cv2.subtract(shifted, (*less,), dst=shifted)
    return shifted.reshape(img.shape)


def scale_components(
    img: np.ndarray, alpha_vector: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """Apply albumentations 2's formula, which scales the deviation along each component.

    `img` is uint8 [height, width, 3]; `alpha_vector` is float [3] and begins with the largest
    component's. The result is written to `out`, which must not be `img`, or to new memory.
    """
    variances, vectors, mean = _components(img)
    scaled = vectors[:, ::-1] * (alpha_vector * variances[::-1])
    matrix = np.empty((len(scaled), len(scaled) + 1))
    matrix[:, :-1] = scaled
    matrix[:, -1] = -scaled @ mean
    np.fill_diagonal(matrix, matrix.diagonal() + 1)
    return cv2.transform(img, matrix, dst=out)


def shift_hsv(
    img: np.ndarray,
    hue_shift: float,
    sat_shift: float,
    val_shift: float,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Shift hue (by two degrees), saturation and value (0..255) of uint8 [height, width, 3]."""
    saturations = shift_table(sat_shift).copy()
    saturations[0] = 0  # Grey stays grey.
    hue = math.floor(hue_shift) % 180
    tables = _HUES[hue : hue + 256], saturations, shift_table(val_shift)
    hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV)
    # Plane by plane takes half as long as OpenCV's table of three channels.
    planes = _planes(hsv)
    for plane, table in zip(planes, tables, strict=True):
        sz_lut(plane, table, inplace=True)
    return cv2.cvtColor(cv2.merge(planes, dst=hsv), cv2.COLOR_HSV2RGB, dst=out)


def replace_values(img: np.ndarray, table: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Replace each value of a uint8 picture by that in the table, uint8 [256]."""
    return sz_lut(img if out is img else img.copy(), table, inplace=True)


def shift_table(shift: float) -> np.ndarray:
    """Return the read-only table, uint8 [256], that adds `shift` truncated to a whole number."""
    start = 255 + min(max(int(shift), -255), 255)
    return _SATURATED[start : start + 256]


def linear_table(factor: float, shift: float) -> np.ndarray:
    """Return the table, uint8 [256], that multiplies by `factor` and then adds `shift`."""
    return (_RAMP * factor + shift).clip(0, 255).astype(np.uint8)


def _planes(img: np.ndarray) -> list[np.ndarray]:
    """Return the channels of uint8 [height, width, channels] as arrays [height, width]."""
    # OpenCV takes four times as long if it allocates the planes itself, because it copies them.
    return cv2.split(img, [np.empty(img.shape[:2], np.uint8) for _ in range(img.shape[2])])


def _components(img: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the principal components of the colours.

    These are the ascending variances [3] of colours in 0..1, the directions [3, 3] in columns and
    the mean colour [3] in 0..255. Every fourth row of a picture with many rows is used.
    """
    if len(img) >= _MANY_ROWS:
        img = np.ascontiguousarray(img[::4])
    planes = _planes(img)
    n = planes[0].size
    mean = [total / n for total in cv2.sumElems(img)[: len(planes)]]
    squares = [cv2.norm(plane, cv2.NORM_L2SQR) for plane in planes]
    covariance = np.diag([s / n - m * m for s, m in zip(squares, mean, strict=True)])
    for i, j in itertools.combinations(range(len(planes)), 2):
        # 2 x y = x^2 + y^2 - (x - y)^2: OpenCV adds up squares ten times as fast as products.
        apart = cv2.norm(planes[i], planes[j], cv2.NORM_L2SQR)
        # eigh reads only the lower half of the matrix.
        covariance[j, i] = (squares[i] + squares[j] - apart) / (2 * n) - mean[i] * mean[j]
    return *np.linalg.eigh(covariance / 255**2), np.array(mean)
