"""The OpenCV calls of the fused augmentation list and nothing else, as a ceiling of its speed."""

import random

import cv2
import numpy as np
from albucore import sz_lut

_RAMP = np.arange(256, dtype=np.float32)
_HSV_TABLES = ((_RAMP + 9) % 180).astype(np.uint8), _RAMP.astype(np.uint8), _RAMP.astype(np.uint8)


def bare_kernels(image: np.ndarray, rng: random.Random) -> np.ndarray:
    """Apply the fused list's OpenCV calls to a square uint8 picture [size, size, 3].

    The calls have the same probabilities, but their parameters are drawn in the cheapest way.
    """
    size = len(image)
    if rng.random() < 0.05:
        image = cv2.GaussianBlur(image, (5, 5), rng.uniform(0.8, 1.4))
    if rng.random() < 0.5:
        image = sz_lut(image, _colour_table(1, rng.uniform(-51, 51)), inplace=False)
    image = _colours(_geometry(image, rng), rng)
    return cv2.resize(image, (size, size)) if len(image) < size else image


def _geometry(image: np.ndarray, rng: random.Random) -> np.ndarray:
    """Rotate, crop and flip in one warp, or crop and flip only."""
    size = len(image)
    matrix = _rotation(size, rng) if rng.random() < 0.75 else None
    crop = rng.choice([(224, 200), (200, 224)]) if rng.random() < 0.5 else (size, size)
    flip = rng.random() < 0.5
    top, left = (size - crop[0]) // 2, (size - crop[1]) // 2
    if matrix is None:
        image = image[top : top + crop[0], left : left + crop[1]]
        return cv2.flip(image, 1) if flip else image
    matrix[:, 2] -= left, top
    if flip:
        matrix = np.diag([-1.0, 1]) @ matrix + [[0, 0, crop[1] - 1], [0, 0, 0]]
    four = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    four = cv2.warpAffine(four, matrix, crop[::-1], borderMode=cv2.BORDER_REFLECT_101)
    return cv2.cvtColor(four, cv2.COLOR_RGBA2RGB)


def _rotation(size: int, rng: random.Random) -> np.ndarray:
    centre = (size - 1) / 2
    angle, scale = rng.uniform(-20, 20), rng.uniform(0.99, 1.01)
    matrix = cv2.getRotationMatrix2D((centre, centre), angle, scale)
    matrix[:, 2] += rng.uniform(-21, 21), rng.uniform(-21, 21)
    return matrix


def _colours(image: np.ndarray, rng: random.Random) -> np.ndarray:
    """Change contrast, hue, colour balance and principal components, each or not."""
    if rng.random() < 0.5:
        limit = rng.choice([0.3, 0.1])
        factor, shift = 1 + rng.uniform(-limit, limit), 255 * rng.uniform(-limit, limit)
        image = sz_lut(image, _colour_table(factor, shift), inplace=False)
    if rng.random() < 0.5:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        planes = _planes(hsv)
        for plane, table in zip(planes, _HSV_TABLES, strict=True):
            sz_lut(plane, table, inplace=True)
        image = cv2.cvtColor(cv2.merge(planes, dst=hsv), cv2.COLOR_HSV2RGB)
    if rng.random() < 0.5:
        shifts = [rng.randint(-20, 20) for _ in range(3)]
        image = cv2.add(image, (*(max(shift, 0) for shift in shifts), 0))
        image = cv2.subtract(image, (*(max(-shift, 0) for shift in shifts), 0), dst=image)
    if rng.random() < 0.5:
        rows = np.ascontiguousarray(image[::4])
        image = cv2.transform(image, _principal_matrix(rows, rng))
    return image


def _colour_table(factor: float, shift: float) -> np.ndarray:
    return (_RAMP * factor + shift).clip(0, 255).astype(np.uint8)


def _planes(image: np.ndarray) -> list[np.ndarray]:
    return cv2.split(image, [np.empty(image.shape[:2], np.uint8) for _ in range(3)])


def _principal_matrix(image: np.ndarray, rng: random.Random) -> np.ndarray:
    r, g, b = _planes(image)
    rr, gg, bb = (cv2.norm(plane, cv2.NORM_L2SQR) for plane in (r, g, b))
    rg, rb, gb = (cv2.norm(*pair, cv2.NORM_L2SQR) for pair in ((r, g), (r, b), (g, b)))
    mean = np.array(cv2.sumElems(image)[:3]) / r.size
    moments = [
        [rr, 0, 0],
        [(rr + gg - rg) / 2, gg, 0],
        [(rr + bb - rb) / 2, (gg + bb - gb) / 2, bb],
    ]
    covariance = np.array(moments) / r.size - np.outer(mean, mean)
    variances, vectors = np.linalg.eigh(covariance / 255**2)
    scaled = vectors * variances * [rng.gauss(0, 0.1) for _ in range(3)]
    return np.column_stack([np.eye(3) + scaled, -scaled @ mean])
