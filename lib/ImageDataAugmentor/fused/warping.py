"""Flips, crops, rotations and resizing, carried out as one warp."""

import math

import albumentations as A
import cv2
import numpy as np

# (a, b, u, c, d, v) stands for x' = a x + b y + u and y' = c x + d y + v.
Matrix = tuple[float, float, float, float, float, float]
IDENTITY: Matrix = (1, 0, 0, 0, 1, 0)
_UNITS = {-1, 0, 1}
# From about this many source pixels for each pixel of the result on, resizing first costs less.
_MUCH_LARGER = 8


class Warp:
    """Geometric steps as one matrix, from a window of the source to a picture of `shape`."""

    def __init__(self, source_shape: tuple[int, int], interpolation: int | None = None):
        self._source_shape = source_shape
        self.window = (0, 0, source_shape[1], source_shape[0])  # (left, top, right, bottom)
        self.shape = source_shape
        self.matrix = IDENTITY
        self.border: A.Affine | A.Rotate | None = None
        self._interpolation = interpolation
        self._cropped = False

    def takes(self, bordered: bool, interpolation: int | None) -> bool:
        """Return whether another step can be added.

        A warp has one interpolation and at most one step with a border. That step must see the
        edges of the source, or of its window, and does not after a crop that is part of the warp.
        """
        if bordered and (self.border is not None or self._cropped):
            return False
        return interpolation is None or self._interpolation in {None, interpolation}

    def add(
        self, matrix: Matrix, shape: tuple[int, int], interpolation: int | None = None, border=None
    ) -> None:
        """Add a step from old to new coordinates, into `shape`; `border` has mode and colours."""
        self.matrix = combine(matrix, self.matrix)
        self.shape = shape
        self._interpolation = self._interpolation if interpolation is None else interpolation
        self.border = self.border or border

    def crop(self, left: int, top: int, right: int, bottom: int) -> None:
        """Add a crop."""
        a, b, x, c, d, y = self.matrix
        if self.border is None and {a, b, c, d} <= _UNITS:
            corners = [(u - x, v - y) for u, v in ((left, top), (right - 1, bottom - 1))]
            # The inverse of such a matrix is its transpose.
            x0, x1 = sorted(round(a * u + c * v) for u, v in corners)
            y0, y1 = sorted(round(b * u + d * v) for u, v in corners)
            dx, dy = self.window[:2]
            self.window = (dx + x0, dy + y0, dx + x1 + 1, dy + y1 + 1)
            self.matrix = combine(self.matrix, (1, 0, x0, 0, 1, y0))
        else:
            self._cropped = True
        self.add((1, 0, -left, 0, 1, -top), (bottom - top, right - left))

    def __call__(
        self, image: np.ndarray, out: np.ndarray | None = None, is_mask: bool = False
    ) -> np.ndarray:
        """Warp a picture or a mask [height, width] or [height, width, channels]."""
        free = self.border is not None or self._cropped
        whole = self.window == (0, 0, *self._source_shape[::-1])
        size = image.shape[:2]
        matrix = self.matrix
        if size != self._source_shape and (free or not whole):
            if whole and math.prod(size) <= _MUCH_LARGER * math.prod(self._source_shape):
                matrix = combine(matrix, resizing_matrix(size, self._source_shape))
            else:
                image = cv2.resize(image, self._source_shape[::-1])
                image = image.reshape(*self._source_shape, -1)
        left, top, right, bottom = self.window
        view = image if whole else image[top:bottom, left:right]
        if free:
            warped = self._warp_freely(view, out, matrix, is_mask)
        else:
            warped = self._warp_along_axes(view, out, is_mask)
        return warped.reshape(*self.shape, *image.shape[2:])

    def _warp_along_axes(
        self, view: np.ndarray, out: np.ndarray | None, is_mask: bool
    ) -> np.ndarray:
        """Transpose, resize and flip the whole window."""
        a, b, _, c, d, _ = self.matrix
        if b or c:
            view, a, d = cv2.transpose(view), b, c
        flipped = a < 0 or d < 0
        if view.shape[:2] != self.shape:
            interpolation = cv2.INTER_NEAREST if is_mask else self._interpolation
            target = None if flipped else out
            view = cv2.resize(view, self.shape[::-1], dst=target, interpolation=interpolation)
        if flipped:
            view = cv2.flip(view, -1 if a < 0 and d < 0 else int(a < 0), dst=out)
        return view

    def _warp_freely(
        self, view: np.ndarray, out: np.ndarray | None, matrix: Matrix, is_mask: bool
    ) -> np.ndarray:
        border = self.border
        fill = 0 if border is None else border.fill_mask if is_mask else border.fill
        options = {
            "dsize": self.shape[::-1],
            "flags": cv2.INTER_NEAREST if is_mask else self._interpolation or cv2.INTER_LINEAR,
            "borderMode": cv2.BORDER_REPLICATE if border is None else border.border_mode,
            "borderValue": fill if np.ndim(fill) else (fill,) * 4,
        }
        matrix = np.array(matrix, float).reshape(2, 3)
        if view.ndim == 3 and view.shape[2] == 3:
            # OpenCV 5 warps four channels in two thirds of the time that three take.
            view = cv2.cvtColor(view, cv2.COLOR_RGB2RGBA)
            warped = cv2.warpAffine(view, matrix, **options)
            return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)
        return cv2.warpAffine(view, matrix, dst=out, **options)


def combine(second: Matrix, first: Matrix) -> Matrix:
    """Return the matrix of two steps. numpy would take microseconds for so few numbers."""
    a, b, x, c, d, y = second
    e, f, u, g, h, v = first
    return (
        a * e + b * g,
        a * f + b * h,
        a * u + b * v + x,
        c * e + d * g,
        c * f + d * h,
        c * u + d * v + y,
    )


def resizing_matrix(old: tuple[int, int], new: tuple[int, int]) -> Matrix:
    """Return the matrix that resizes (height, width) `old` to `new`, of whole pixel centres."""
    y, x = new[0] / old[0], new[1] / old[1]
    return (x, 0, (x - 1) / 2, 0, y, (y - 1) / 2)
