"""How each known albumentations transform draws its parameters, and what it then does.

They draw the same random numbers as by their own code, from the same generators and in the same
order, so that a fused Compose gives what the plain one gives.
"""

import bisect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import albumentations as A
import cv2
import numpy as np
from albumentations.augmentations.crops.transforms import BaseCropAndPad

from .transforms import (
    FancyPCA,
    QuickFancyPCA,
    linear_table,
    replace_values,
    scale_components,
    shift_colours,
    shift_hsv,
    shift_table,
)
from .warping import Matrix, Warp, resizing_matrix


@dataclass(frozen=True)
class ColourStep:
    """An operation on colours, or a filter.

    `apply` is a function of a picture, uint8 [height, width, channels], and `out`, in which the
    result may be written, even if that is the picture itself where `in_place`. One that
    `mixes_pixels` does not commute with a warp.
    """

    apply: Callable[..., np.ndarray]
    in_place: bool = False
    mixes_pixels: bool = False


@dataclass
class DrawnTransform:
    """Warps and colour steps with drawn parameters, in order; `shape` is that after all of them."""

    shape: tuple[int, ...]
    steps: list[Warp | ColourStep] = field(default_factory=list)

    def warp(self, bordered=False, constant=False, enlarging=False, interpolation=None) -> Warp:
        """Return the warp to which the next geometric step is added: the last one if possible.

        A step commutes with the colour steps since the last warp, unless it fills in a `constant`
        colour that they would change. It does not commute with a filter. A step that is
        `enlarging` starts a new warp after colour steps or a border, because these cost less on
        the smaller picture.
        """
        colours_between = False
        for step in reversed(self.steps):
            if isinstance(step, Warp):
                costly = enlarging and (colours_between or step.border is not None)
                wrong = constant and colours_between
                if step.takes(bordered, interpolation) and not costly and not wrong:
                    return step
                break
            if step.mixes_pixels:
                break
            colours_between = True
        warp = Warp(self.shape[:2])
        self.steps.append(warp)
        return warp

    def apply(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return a picture made of uint8 [height, width, 1 or 3], in `out` if that fits."""
        result, last = image, len(self.steps) - 1
        for number, step in enumerate(self.steps):
            target = out if number == last else None
            if isinstance(step, Warp):
                result = step(result, target)
                continue
            if target is None and step.in_place and not np.may_share_memory(result, image):
                target = result
            result = step.apply(result, out=target)
        return result.copy() if np.may_share_memory(result, image) else result

    def apply_to_mask(self, mask: np.ndarray) -> np.ndarray:
        """Return a new mask after the geometric steps, which do not mix its values."""
        result = mask
        for step in self.steps:
            if isinstance(step, Warp):
                result = step(result, is_mask=True)
        return result.copy() if np.may_share_memory(result, mask) else result


def draw(transform, drawn: DrawnTransform, force: bool = False) -> None:
    """Draw whether a known transform is applied, and its parameters; add its steps to `drawn`."""
    kind, p = type(transform), transform.p
    if kind not in _COMPOSITIONS:
        if p > 0 and (force or p >= 1 or transform.py_random.random() < p):
            _DRAWING[kind](transform, drawn)
    elif force or transform.py_random.random() < p:
        parts = transform.transforms
        if kind is A.OneOf:  # Draw as `random_generator.choice(n, p=...)` does, in less time.
            ends = list(itertools.accumulate(transform.transforms_ps))
            number = transform.random_generator.random()
            chosen = bisect.bisect_right([end / ends[-1] for end in ends], number)
            draw(parts[chosen], drawn, force=True)
            return
        for part in parts:
            draw(part, drawn)


def _parameters(transform, shape: tuple[int, ...]) -> dict:
    # Transforms look at the shape and the dtype of a picture. This one takes no memory.
    data = {"image": np.broadcast_to(np.uint8(0), shape)}
    return transform.get_params_dependent_on_data(params={"shape": shape}, data=data)


# Each of the following functions draws the parameters of a transform and adds its step.


def _flip_horizontally(transform, drawn):
    height, width = drawn.shape[:2]
    _warp(drawn, (-1, 0, width - 1, 0, 1, 0), (height, width))


def _flip_vertically(transform, drawn):
    height, width = drawn.shape[:2]
    _warp(drawn, (1, 0, 0, 0, -1, height - 1), (height, width))


def _transpose(transform, drawn):
    _warp(drawn, (0, 1, 0, 1, 0, 0), drawn.shape[1::-1])


def _warp(drawn, matrix: Matrix, shape: tuple[int, int]):
    drawn.warp().add(matrix, shape)
    drawn.shape = (*shape, *drawn.shape[2:])


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


def _crop(transform, drawn):
    left, top, right, bottom = map(int, _parameters(transform, drawn.shape)["crop_coords"])
    drawn.warp().crop(left, top, right, bottom)
    drawn.shape = (bottom - top, right - left, *drawn.shape[2:])


def _crop_and_resize(transform, drawn):
    _crop(transform, drawn)
    _resize(transform, drawn)


def _resize(transform, drawn):
    is_resize = isinstance(transform, A.Resize)
    size = (transform.height, transform.width) if is_resize else tuple(transform.size)
    old, interpolation = drawn.shape[:2], transform.interpolation
    if size != old:
        enlarging = math.prod(size) > math.prod(old)
        warp = drawn.warp(enlarging=enlarging, interpolation=interpolation)
        warp.add(resizing_matrix(old, size), size, interpolation)
        drawn.shape = (*size, *drawn.shape[2:])


def _by_albumentations(transform, drawn, parameters: dict, mixes_pixels: bool = False):
    drawn.steps.append(
        ColourStep(
            lambda image, out: transform.apply(image, **parameters), mixes_pixels=mixes_pixels
        )
    )


def _blur(transform, drawn):
    _by_albumentations(transform, drawn, _parameters(transform, drawn.shape), mixes_pixels=True)


def _replace_values(drawn, table: np.ndarray):
    drawn.steps.append(ColourStep(partial(replace_values, table=table), in_place=True))


def _brightness_contrast(transform, drawn):
    parameters = _parameters(transform, drawn.shape)
    alpha, beta = parameters["alpha"], parameters["beta"]
    table = shift_table(math.floor(beta)) if alpha == 1 else linear_table(alpha, beta)
    _replace_values(drawn, table)


def _rgb_shift(transform, drawn):
    generator = transform.random_generator
    generator.integers(0, 2**16)  # The transform draws a seed that is not needed here.
    ranges = transform.noise_params["ranges"][: drawn.shape[2]]
    shifts = [
        int(255 * (low + (high - low) * number))
        for (low, high), number in zip(ranges, generator.random(len(ranges)).tolist(), strict=True)
    ]
    drawn.steps.append(ColourStep(partial(shift_colours, shifts=shifts), in_place=True))


def _hue_saturation_value(transform, drawn):
    shifts = transform.get_params()
    if drawn.shape[2] == 1:
        _replace_values(drawn, shift_table(shifts["val_shift"]))
    else:
        drawn.steps.append(ColourStep(partial(shift_hsv, **shifts)))


def _fancy_pca(transform, drawn):
    parameters = _parameters(transform, drawn.shape)
    if drawn.shape[2] == 3:
        drawn.steps.append(ColourStep(partial(scale_components, **parameters)))
    else:
        _by_albumentations(transform, drawn, parameters)


def _constant_fancy_pca(transform, drawn):
    _by_albumentations(transform, drawn, transform.get_params())


_DRAWING = {
    A.HorizontalFlip: _flip_horizontally,
    A.VerticalFlip: _flip_vertically,
    A.Transpose: _transpose,
    A.RandomRotate90: _turn,
    A.Rotate: _rotate,
    **dict.fromkeys((A.Affine, A.ShiftScaleRotate), _affine),
    **dict.fromkeys((A.CenterCrop, A.Crop, A.RandomCrop), _crop),
    **dict.fromkeys((A.RandomResizedCrop, A.RandomSizedCrop), _crop_and_resize),
    A.Resize: _resize,
    A.GaussianBlur: _blur,
    A.RandomBrightnessContrast: _brightness_contrast,
    A.RGBShift: _rgb_shift,
    A.HueSaturationValue: _hue_saturation_value,
    **dict.fromkeys((A.FancyPCA, QuickFancyPCA), _fancy_pca),
    FancyPCA: _constant_fancy_pca,
}
_COMPOSITIONS = {A.OneOf, A.Sequential, A.Compose}
_LINEAR_RESIZERS = (A.Resize, A.RandomResizedCrop, A.RandomSizedCrop)


def is_known(transform) -> bool:
    """Return whether `draw` knows a transform. A subclass is unknown: it may do anything."""
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
