"""Albumentations transforms run together: one warp and a few passes over the colours.

Each transform still draws its own parameters, by its own code and in its own order, so that the
results are those of the plain Compose but for rounding and for sampling once instead of twice.
"""

import bisect
import copy
import itertools
import math
from dataclasses import dataclass, field
from functools import lru_cache, partial

import albumentations as A
import cv2
import numpy as np
from albumentations.augmentations.crops.transforms import BaseCropAndPad

from .transforms import FancyPCA, QuickFancyPCA, scale_components

# Rounds to nearest what albumentations truncates, without dropping whole numbers by one.
_TRUNCATION = -0.49
_RAMP = np.arange(256)
_EYES = {channels: np.eye(channels) for channels in (1, 3)}


def fuse(compose: A.Compose) -> A.Compose:
    """The Compose with each run of known transforms fused; the others are left as they are.

    Known are flips, transpositions, quarter turns, crops without padding, linear Resize, Affine,
    ShiftScaleRotate, Rotate, RandomResizedCrop, RandomSizedCrop; RandomBrightnessContrast,
    RGBShift, HueSaturationValue, both FancyPCAs; and OneOf, Sequential and Compose of these. A
    Compose with boxes or keypoints is returned as it is.
    """
    if not isinstance(compose, A.Compose):
        raise TypeError(f"fuse takes an albumentations.Compose, not {type(compose).__name__}")
    fused = copy.deepcopy(compose)
    if compose.processors:
        return fused
    transforms: list = []
    run: list = []
    for transform in [*fused.transforms, None]:
        if transform is not None and _is_known(transform):
            run.append(transform)
            continue
        if run:
            transforms.append(Fused(run))
            run = []
        if transform is not None:
            transforms.append(transform)
    fused.transforms = transforms
    if type(fused) is A.Compose:
        fused.__class__ = FusedCompose
    fused.add_targets(compose.additional_targets)
    return fused


class FusedCompose(A.Compose):
    """A Compose that asks less about a single uint8 picture, which half of its time went into."""

    def __call__(self, *args, force_apply: bool = False, **data):
        """Transform what is in `data`."""
        simple = data.keys() == {"image"} and isinstance(data["image"], np.ndarray)
        if args or not simple or self.save_applied_params or not _is_plain(data["image"]):
            return super().__call__(*args, force_apply=force_apply, **data)
        if force_apply or self.py_random.random() < self.p:
            for transform in self.transforms:
                data = transform(**data)
        return data


class Fused(A.Sequential):
    """A run of known transforms, planned first and then carried out together.

    Pictures other than uint8, and targets other than pictures and masks, go through the transforms
    one by one.
    """

    def __init__(self, transforms: list):
        super().__init__(transforms, p=1)

    def __call__(self, *args, force_apply: bool = False, **data):
        """Transform the pictures and masks in `data`."""
        kinds = {key: self._additional_targets.get(key, key) for key in data}
        fits = "image" in data and all(
            kind == "mask" or (kind == "image" and _is_plain(data[key]))
            for key, kind in kinds.items()
        )
        if args or not fits:
            return super().__call__(*args, force_apply=True, **data)  # draws no number of its own
        plan = Plan(data["image"].shape)
        for transform in self.transforms:
            _draw(transform, plan)
        return {
            key: plan.transform_mask(value) if kinds[key] == "mask" else plan.transform(value)
            for key, value in data.items()
        }


def _is_plain(picture) -> bool:
    return picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] in {1, 3}


@dataclass
class Plan:
    """What was drawn for one picture: warps and colour operations, in order."""

    shape: tuple[int, ...]
    operations: list = field(default_factory=list)

    def warp(
        self,
        bordered: bool = False,
        constant: bool = False,
        enlarging: bool = False,
        flags: int | None = None,
    ):
        """The warp that takes up the next geometric step: the last one, where that is the same.

        A step commutes with the colour operations since the last warp, unless it fills in a
        constant colour that they would change. One that enlarges stays where it is: to warp and to
        colour the smaller picture costs less.
        """
        for number, operation in reversed(list(enumerate(self.operations))):
            if isinstance(operation, Warp):
                colours_between = number + 1 < len(self.operations)
                dear = enlarging and (colours_between or operation.border is not None)
                wrong = constant and colours_between
                if operation.takes(bordered, flags) and not dear and not wrong:
                    return operation
                break
        warp = Warp(self.shape[:2])
        self.operations.append(warp)
        return warp

    def transform(self, image: np.ndarray) -> np.ndarray:
        """Carry the plan out on a uint8 picture [height, width, 1 or 3]."""
        for operation in self.operations:
            image = operation(image)
        return np.ascontiguousarray(image)

    def transform_mask(self, mask: np.ndarray) -> np.ndarray:
        """Carry out the geometry on a mask, without mixing its values."""
        for operation in self.operations:
            if isinstance(operation, Warp):
                mask = operation(mask, is_mask=True)
        return np.ascontiguousarray(mask)


class Warp:
    """Geometric steps as one matrix, from a window of the source to a picture of `shape`."""

    def __init__(self, shape: tuple[int, int]):
        self.window = (0, 0, shape[1], shape[0])  # left, top, right, bottom
        self.shape = shape
        self.matrix = np.eye(3)
        self.border: A.Affine | A.Rotate | None = None
        self._flags: int | None = None
        self._cropped = False

    def takes(self, bordered: bool, flags: int | None) -> bool:
        """Whether another step can be added: one border, one filter, and no crop before a border.

        A border shows what lies at the edge of its input; only of the whole input or of a window of
        it does the source show the same.
        """
        if bordered and (self.border is not None or self._cropped):
            return False
        return flags is None or self._flags in {None, flags}

    def add(self, matrix, shape: tuple[int, int], flags: int | None = None, border=None) -> None:
        """Follow with a 3x3 matrix (old to new pixel coordinates, x first) into a new shape."""
        self.matrix = matrix @ self.matrix
        self.shape = tuple(shape)
        self._flags = self._flags if flags is None else flags
        self.border = self.border or border

    def crop(self, left: int, top: int, right: int, bottom: int) -> None:
        """Follow with a crop."""
        if self.border is None and self._keeps_pixels():
            inverse = np.linalg.inv(self.matrix)
            corners = inverse @ [[left, right - 1], [top, bottom - 1], [1, 1]]
            (x0, x1), (y0, y1) = np.sort(np.rint(corners[:2]).astype(int), axis=1)
            x, y = self.window[:2]
            self.window = (x + x0, y + y0, x + x1 + 1, y + y1 + 1)
            self.matrix = self.matrix @ _shift(x0, y0)
        else:
            self._cropped = True
        self.add(_shift(-left, -top), (bottom - top, right - left))

    def _keeps_pixels(self) -> bool:
        return all(abs(value) in {0.0, 1.0} for value in self.matrix[:2, :2].flat)

    def __call__(self, image: np.ndarray, is_mask: bool = False) -> np.ndarray:
        """Warp a picture or a mask [height, width] or [height, width, channels]."""
        left, top, right, bottom = self.window
        view = image[top:bottom, left:right]
        if self.border is None:
            warped = self._along_the_axes(view, is_mask)
        else:
            warped = self._freely(view, is_mask)
        return warped.reshape(*self.shape, *image.shape[2:])

    def _along_the_axes(self, view: np.ndarray, is_mask: bool) -> np.ndarray:
        """Flips, transpositions and resizing of the whole window."""
        (a, b), (c, d) = self.matrix[:2, :2]
        if b or c:
            view, a, d = cv2.transpose(view), b, c
        if self._cropped:
            return self._freely(view, is_mask)
        if view.shape[:2] != self.shape:
            flags = cv2.INTER_NEAREST if is_mask else self._flags
            view = cv2.resize(view, self.shape[::-1], interpolation=flags)
        if a < 0 or d < 0:
            view = cv2.flip(view, -1 if a < 0 and d < 0 else int(a < 0))
        return view

    def _freely(self, view: np.ndarray, is_mask: bool) -> np.ndarray:
        border = self.border
        fill = 0 if border is None else border.fill_mask if is_mask else border.fill
        options = {
            "dsize": self.shape[::-1],
            "flags": cv2.INTER_NEAREST if is_mask else self._flags or cv2.INTER_LINEAR,
            "borderMode": cv2.BORDER_REPLICATE if border is None else border.border_mode,
            "borderValue": fill if np.ndim(fill) else (fill,) * 4,
        }
        matrix = self.matrix[:2]
        if view.ndim == 3 and view.shape[2] == 3:
            # OpenCV 5 warps four channels in two thirds of the time that three take.
            view = cv2.cvtColor(view, cv2.COLOR_RGB2RGBA)
            return cv2.cvtColor(cv2.warpAffine(view, matrix, **options), cv2.COLOR_RGBA2RGB)
        return cv2.warpAffine(view, matrix, **options)


class Linear:
    """Colours times a matrix, plus an offset for each channel or for all."""

    def __init__(self, matrix: np.ndarray, offset):
        channels = len(matrix)
        self._matrix = np.empty((channels, channels + 1))
        self._matrix[:, :channels] = matrix
        self._matrix[:, channels] = offset

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Apply to uint8 [height, width, channels]."""
        return cv2.transform(image, self._matrix).reshape(image.shape)


class HueSaturationValue:
    """Shifts of hue (half degrees), saturation and value (0..255)."""

    def __init__(self, hue_shift: float, sat_shift: float, val_shift: float):
        table = np.empty((1, 256, 3), np.uint8)
        table[0, :, 0] = (_RAMP + math.floor(hue_shift)) % 180
        table[0, :, 1] = np.clip(_RAMP + round(sat_shift), 0, 255)
        table[0, :, 2] = np.clip(_RAMP + round(val_shift), 0, 255)
        table[0, 0, 1] = 0  # grey stays grey
        self._table = table

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Apply to uint8 [height, width, channels]."""
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        return cv2.cvtColor(cv2.LUT(hsv, self._table, dst=hsv), cv2.COLOR_HSV2RGB)


@lru_cache
def _placeholder(shape: tuple[int, ...]) -> np.ndarray:
    """A picture of no memory, for transforms that look at its shape and dtype."""
    return np.broadcast_to(np.uint8(0), shape)


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)


def _scaling(old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Resizing between (height, width)s, pixel centres at whole coordinates."""
    y, x = new[0] / old[0], new[1] / old[1]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def _draw(transform, plan: Plan, force: bool = False) -> None:
    """Let a transform draw whether and how it is applied, as its own call would."""
    step = _STEPS.get(type(transform))
    if step:
        if transform.should_apply(force_apply=force):
            step(transform, _parameters(transform, plan.shape), plan)
    elif force or transform.py_random.random() < transform.p:
        if isinstance(transform, A.OneOf):
            _draw(_one_of(transform), plan, force=True)
        else:
            for part in transform.transforms:
                _draw(part, plan)


def _parameters(transform, shape: tuple[int, ...]) -> dict:
    """The parameters that a transform draws for a picture."""
    if type(transform) in _AFFINES:
        return {"matrix": _affine_matrix(transform, shape[:2])}
    parameters = transform.get_params() | {"shape": shape}
    data = {"image": _placeholder(shape)}
    return parameters | transform.get_params_dependent_on_data(params=parameters, data=data)


def _affine_matrix(transform: A.Affine, shape: tuple[int, int]) -> np.ndarray:
    """The matrix of an Affine's own numbers, which it computes of dozens of small arrays."""
    translate = transform._get_translate_params(shape)
    shear = transform._get_shear_params()
    scale = transform._get_scale(
        transform.scale, transform.keep_ratio, transform.balanced_scale, transform.py_random
    )
    angle = math.radians(transform.py_random.uniform(*transform.rotate))
    cos, sin = math.cos(angle), math.sin(angle)
    shear_x, shear_y = (math.tan(math.radians(shear[axis])) for axis in "xy")
    a, b = scale["x"] * (cos - shear_x * sin), scale["y"] * (sin + shear_x * cos)
    c, d = scale["x"] * (shear_y * cos - sin), scale["y"] * (shear_y * sin + cos)
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2  # about the centre
    return np.array(
        [
            [a, b, x - a * x - b * y + translate["x"]],
            [c, d, y - c * x - d * y + translate["y"]],
            [0, 0, 1],
        ]
    )


def _one_of(transform: A.OneOf):
    """The part that `random_generator.choice(parts, p=...)` would choose, in less time."""
    shares = list(itertools.accumulate(transform.transforms_ps))
    number = bisect.bisect_right(shares, transform.random_generator.random() * shares[-1])
    return transform.transforms[number]


def _flip_horizontally(transform, parameters, plan):
    height, width = plan.shape[:2]
    plan.warp().add(np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]]), (height, width))


def _flip_vertically(transform, parameters, plan):
    height, width = plan.shape[:2]
    plan.warp().add(np.array([[1.0, 0, 0], [0, -1, height - 1], [0, 0, 1]]), (height, width))


def _transpose(transform, parameters, plan):
    height, width = plan.shape[:2]
    plan.warp().add(np.eye(3)[[1, 0, 2]], (width, height))
    plan.shape = (width, height, *plan.shape[2:])


def _turn(transform, parameters, plan):
    for _ in range(parameters["factor"]):  # a quarter turn against the clock
        _transpose(transform, parameters, plan)
        _flip_vertically(transform, parameters, plan)


def _affine(transform, parameters, plan):
    constant = transform.border_mode == cv2.BORDER_CONSTANT
    warp = plan.warp(bordered=True, constant=constant, flags=transform.interpolation)
    warp.add(parameters["matrix"], plan.shape[:2], transform.interpolation, border=transform)


def _crop(transform, parameters, plan):
    left, top, right, bottom = map(int, parameters["crop_coords"])
    plan.warp().crop(left, top, right, bottom)
    plan.shape = (bottom - top, right - left, *plan.shape[2:])


def _resize(transform, parameters, plan):
    size = getattr(transform, "size", None) or (transform.height, transform.width)
    enlarging = math.prod(size) > math.prod(plan.shape[:2])
    warp = plan.warp(enlarging=enlarging, flags=transform.interpolation)
    warp.add(_scaling(plan.shape[:2], size), size, transform.interpolation)
    plan.shape = (*size, *plan.shape[2:])


def _crop_and_resize(transform, parameters, plan):
    _crop(transform, parameters, plan)
    _resize(transform, parameters, plan)


def _brightness_contrast(transform, parameters, plan):
    matrix = _EYES[plan.shape[2]] * parameters["alpha"]
    plan.operations.append(Linear(matrix, parameters["beta"] + _TRUNCATION))


def _rgb_shift(transform, parameters, plan):
    shift = np.asarray(parameters["noise_map"]).reshape(-1)
    plan.operations.append(Linear(_EYES[plan.shape[2]], shift))


def _hue_saturation_value(transform, parameters, plan):
    if plan.shape[2] == 1:
        plan.operations.append(Linear(_EYES[1], parameters["val_shift"]))
    else:
        shifts = (parameters[name] for name in ("hue_shift", "sat_shift", "val_shift"))
        plan.operations.append(HueSaturationValue(*shifts))


def _fancy_pca(transform, parameters, plan):
    plan.operations.append(partial(scale_components, alpha_vector=parameters["alpha_vector"]))


def _constant_fancy_pca(transform, parameters, plan):
    plan.operations.append(partial(transform.apply, factor=parameters["factor"]))


_STEPS = {
    A.HorizontalFlip: _flip_horizontally,
    A.VerticalFlip: _flip_vertically,
    A.Transpose: _transpose,
    A.RandomRotate90: _turn,
    A.Affine: _affine,
    A.ShiftScaleRotate: _affine,
    A.Rotate: _affine,
    A.CenterCrop: _crop,
    A.Crop: _crop,
    A.RandomCrop: _crop,
    A.Resize: _resize,
    A.RandomResizedCrop: _crop_and_resize,
    A.RandomSizedCrop: _crop_and_resize,
    A.RandomBrightnessContrast: _brightness_contrast,
    A.RGBShift: _rgb_shift,
    A.HueSaturationValue: _hue_saturation_value,
    A.FancyPCA: _fancy_pca,
    QuickFancyPCA: _fancy_pca,
    FancyPCA: _constant_fancy_pca,
}
_AFFINES = {A.Affine, A.ShiftScaleRotate}
_COMPOSITIONS = {A.OneOf, A.Sequential, A.Compose}
_LINEAR_RESIZERS = (A.Resize, A.RandomResizedCrop, A.RandomSizedCrop)


def _is_known(transform) -> bool:
    """Whether a transform can be planned; a subclass, which may do anything, cannot."""
    if type(transform) in _COMPOSITIONS:
        return all(map(_is_known, transform.transforms))
    if type(transform) not in _STEPS:
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
