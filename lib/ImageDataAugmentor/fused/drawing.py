"""How each known albumentations transform draws its parameters.

They draw the same random numbers as by their own code, from the same generators and in the same
order, so that a fused Compose gives what the plain one gives.
"""

import bisect
import math
from functools import lru_cache

import albumentations as A
import cv2
import numpy as np
from albumentations.augmentations.crops.transforms import BaseCropAndPad

from .colours import (
    ColourTransform,
    Filter,
    HueSaturationValue,
    PrincipalComponents,
    Shift,
    Table,
    linear_table,
    shift_table,
)
from .drawn_transform import DrawnTransform
from .transforms import FancyPCA, QuickFancyPCA
from .warping import Matrix, resizing_matrix


class TransformStep:
    """A single transform, and the function that draws its parameters."""

    def __init__(self, transform):
        self._transform = transform
        self._draw = _DRAWING[type(transform)]

    def __call__(self, drawn: DrawnTransform, force: bool = False) -> None:
        """Draw whether the transform is applied, and its parameters, as its own call would."""
        transform = self._transform
        p = transform.p
        if p > 0 and (force or p >= 1 or transform.py_random.random() < p):
            self._draw(transform, drawn)


class SequentialStep:
    """A Sequential or a Compose within another Compose."""

    def __init__(self, transform):
        self._transform = transform
        self._steps = [step_of(part) for part in transform.transforms]

    def __call__(self, drawn: DrawnTransform, force: bool = False) -> None:
        """Draw whether it is applied, and let its parts draw."""
        if force or self._transform.py_random.random() < self._transform.p:
            self._draw(drawn)

    def _draw(self, drawn: DrawnTransform) -> None:
        for step in self._steps:
            step(drawn)


class OneOfStep(SequentialStep):
    """A OneOf. It draws what `random_generator.choice(n, p=...)` would, in less time."""

    def __init__(self, transform: A.OneOf):
        super().__init__(transform)
        cumulative = np.cumsum(transform.transforms_ps)
        self._cumulative = (cumulative / cumulative[-1]).tolist()

    def _draw(self, drawn: DrawnTransform) -> None:
        number = bisect.bisect_right(self._cumulative, self._transform.random_generator.random())
        self._steps[number](drawn, force=True)


def step_of(transform) -> TransformStep | SequentialStep:
    """Return what draws for a known transform."""
    return _COMPOSITIONS.get(type(transform), TransformStep)(transform)


@lru_cache
def _placeholder(shape: tuple[int, ...]) -> np.ndarray:
    """Return a picture that takes no memory, for transforms that look at its shape and dtype."""
    return np.broadcast_to(np.uint8(0), shape)


def _parameters(transform, shape: tuple[int, ...]) -> dict:
    """Return the parameters that a transform draws for a picture of this shape."""
    data = {"image": _placeholder(shape)}
    return transform.get_params_dependent_on_data(params={"shape": shape}, data=data)


# Each of the following functions draws the parameters of a transform and adds its operation.


def _flip_horizontally(transform, drawn):
    height, width = drawn.shape[:2]
    drawn.warp().add((-1, 0, width - 1, 0, 1, 0), (height, width))


def _flip_vertically(transform, drawn):
    height, width = drawn.shape[:2]
    drawn.warp().add((1, 0, 0, 0, -1, height - 1), (height, width))


def _transpose(transform, drawn):
    height, width = drawn.shape[:2]
    drawn.warp().add((0, 1, 0, 1, 0, 0), (width, height))
    drawn.shape = (width, height, *drawn.shape[2:])


def _turn(transform, drawn):
    for _ in range(transform.get_params()["factor"]):  # anticlockwise quarter turns
        _transpose(transform, drawn)
        _flip_vertically(transform, drawn)


def _affine(transform, drawn):
    translate = transform._get_translate_params(drawn.shape[:2])
    shear = transform._get_shear_params()
    scale = transform._get_scale(
        transform.scale, transform.keep_ratio, transform.balanced_scale, transform.py_random
    )
    angle = math.radians(transform.py_random.uniform(*transform.rotate))
    cos, sin = math.cos(angle), math.sin(angle)
    shear_x, shear_y = (math.tan(math.radians(shear[axis])) for axis in "xy")
    a, b = scale["x"] * (cos - shear_x * sin), scale["y"] * (sin + shear_x * cos)
    c, d = scale["x"] * (shear_y * cos - sin), scale["y"] * (shear_y * sin + cos)
    _move(transform, drawn, (a, b, translate["x"], c, d, translate["y"]))


def _rotate(transform, drawn):
    angle = math.radians(transform.py_random.uniform(*transform.limit))
    cos, sin = math.cos(angle), math.sin(angle)
    _move(transform, drawn, (cos, sin, 0, -sin, cos, 0))


def _move(transform, drawn, matrix: Matrix):
    """Add a warp whose matrix is relative to the picture's centre."""
    height, width = drawn.shape[:2]
    a, b, x, c, d, y = matrix
    u, v = (width - 1) / 2, (height - 1) / 2
    about = (a, b, u - a * u - b * v + x, c, d, v - c * u - d * v + y)
    constant = transform.border_mode == cv2.BORDER_CONSTANT
    warp = drawn.warp(bordered=True, constant=constant, interpolation=transform.interpolation)
    warp.add(about, (height, width), transform.interpolation, border=transform)


def _coordinates(transform, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    return tuple(map(int, _parameters(transform, shape)["crop_coords"]))


_fixed_coordinates = lru_cache(_coordinates)


def _crop(transform, drawn):
    fixed = type(transform) in {A.CenterCrop, A.Crop}  # These draw nothing.
    coordinates = _fixed_coordinates if fixed else _coordinates
    left, top, right, bottom = coordinates(transform, drawn.shape)
    drawn.warp().crop(left, top, right, bottom)
    drawn.shape = (bottom - top, right - left, *drawn.shape[2:])


def _resize(transform, drawn):
    _resize_to((transform.height, transform.width), transform.interpolation, drawn)


def _resize_to(size: tuple[int, int], interpolation: int, drawn: DrawnTransform):
    old = drawn.shape[:2]
    if size == old:
        return
    enlarging = math.prod(size) > math.prod(old)
    warp = drawn.warp(enlarging=enlarging, interpolation=interpolation)
    warp.add(resizing_matrix(old, size), size, interpolation)
    drawn.shape = (*size, *drawn.shape[2:])


def _crop_and_resize(transform, drawn):
    _crop(transform, drawn)
    _resize_to(tuple(transform.size), transform.interpolation, drawn)


def _filter(transform, drawn):
    drawn.operations.append(Filter(transform, _parameters(transform, drawn.shape)))


def _brightness_contrast(transform, drawn):
    parameters = _parameters(transform, drawn.shape)
    alpha, beta = parameters["alpha"], parameters["beta"]
    table = shift_table(math.floor(beta)) if alpha == 1 else linear_table(alpha, beta)
    drawn.operations.append(Table(table))


def _rgb_shift(transform, drawn):
    generator = transform.random_generator
    generator.integers(0, 2**16)  # The transform draws a seed that is not needed here.
    ranges = transform.noise_params["ranges"][: drawn.shape[2]]
    shifts = [
        int(255 * (low + (high - low) * number))
        for (low, high), number in zip(ranges, generator.random(len(ranges)).tolist(), strict=True)
    ]
    drawn.operations.append(Shift(shifts))


def _hue_saturation_value(transform, drawn):
    shifts = transform.get_params()
    if drawn.shape[2] == 1:
        drawn.operations.append(Table(shift_table(shifts["val_shift"])))
    else:
        drawn.operations.append(HueSaturationValue(**shifts))


def _fancy_pca(transform, drawn):
    parameters = _parameters(transform, drawn.shape)
    if drawn.shape[2] == 3:
        drawn.operations.append(PrincipalComponents(**parameters))
    else:
        drawn.operations.append(ColourTransform(transform, parameters))


def _constant_fancy_pca(transform, drawn):
    drawn.operations.append(ColourTransform(transform, transform.get_params()))


_DRAWING = {
    A.HorizontalFlip: _flip_horizontally,
    A.VerticalFlip: _flip_vertically,
    A.Transpose: _transpose,
    A.RandomRotate90: _turn,
    A.Affine: _affine,
    A.ShiftScaleRotate: _affine,
    A.Rotate: _rotate,
    A.CenterCrop: _crop,
    A.Crop: _crop,
    A.RandomCrop: _crop,
    A.Resize: _resize,
    A.RandomResizedCrop: _crop_and_resize,
    A.RandomSizedCrop: _crop_and_resize,
    A.GaussianBlur: _filter,
    A.RandomBrightnessContrast: _brightness_contrast,
    A.RGBShift: _rgb_shift,
    A.HueSaturationValue: _hue_saturation_value,
    A.FancyPCA: _fancy_pca,
    QuickFancyPCA: _fancy_pca,
    FancyPCA: _constant_fancy_pca,
}
_COMPOSITIONS = {A.OneOf: OneOfStep, A.Sequential: SequentialStep, A.Compose: SequentialStep}
_LINEAR_RESIZERS = (A.Resize, A.RandomResizedCrop, A.RandomSizedCrop)


def is_known(transform) -> bool:
    """Return whether a transform can be fused. A subclass cannot: it may do anything."""
    if type(transform) in _COMPOSITIONS:
        return len(transform.transforms) > 0 and all(map(is_known, transform.transforms))
    if type(transform) not in _DRAWING:
        return False
    if isinstance(transform, BaseCropAndPad):
        return not transform.pad_if_needed
    if isinstance(transform, _LINEAR_RESIZERS):
        return transform.interpolation == cv2.INTER_LINEAR and transform.area_for_downscale is None
    if isinstance(transform, A.Rotate):
        return not transform.crop_border
    if isinstance(transform, A.Affine):
        return not transform.fit_output
    if isinstance(transform, A.RandomBrightnessContrast):
        return transform.brightness_by_max
    return True
