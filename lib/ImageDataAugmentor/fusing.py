"""Albumentations transforms run together: one warp and a few passes over the colours.

The same random numbers are drawn as by each transform's own code, from the same generators and in
the same order, so that the results are those of the plain Compose but for rounding and for sampling
once instead of twice.
"""

import bisect
import copy
import math
from dataclasses import dataclass, field
from functools import lru_cache

import albumentations as A
import cv2
import numpy as np
from albucore import sz_lut
from albumentations.augmentations.crops.transforms import BaseCropAndPad

from .transforms import FancyPCA, QuickFancyPCA, planes_of, scale_components, shift_colours

# Of x' = a x + b y + u and y' = c x + d y + v: (a, b, u, c, d, v).
Matrix = tuple[float, float, float, float, float, float]
_IDENTITY: Matrix = (1, 0, 0, 0, 1, 0)
_UNITS = {-1, 0, 1}
# From some ten pixels for each one of the result on, to resize first costs less.
_MUCH_LARGER = 8
_RAMP = np.arange(256, dtype=np.float32)
_HUES = (np.arange(180 + 256) % 180).astype(np.uint8)
_SATURATED = np.arange(-255, 511).clip(0, 255).astype(np.uint8)


def fuse(compose: A.Compose) -> A.Compose:
    """The Compose with each run of known transforms fused; the others are left as they are.

    Known are flips, transpositions, quarter turns, crops without padding, linear Resize, Affine,
    ShiftScaleRotate, Rotate, RandomResizedCrop, RandomSizedCrop; RandomBrightnessContrast,
    RGBShift, HueSaturationValue, both FancyPCAs; GaussianBlur, which keeps its place; and OneOf,
    Sequential and Compose of these. A Compose with boxes or keypoints is returned as it is.
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
    """A Compose that asks less about one uint8 picture and its mask: its checks cost as much."""

    def __call__(self, *args, force_apply: bool = False, **data):
        """Transform what is in `data`."""
        if args or self.save_applied_params or not _is_simple(data):
            return super().__call__(*args, force_apply=force_apply, **data)
        if force_apply or self.py_random.random() < self.p:
            for transform in self.transforms:
                data = transform(**data)
        return data

    @property
    def can_plan(self) -> bool:
        """Whether `plan` knows all that a call would do."""
        return self.p >= 1 and len(self.transforms) == 1 and isinstance(self.transforms[0], Fused)

    def plan(self, shape: tuple[int, int, int], resizing: bool = False) -> "Plan":
        """Draw for a picture of `shape`, to be carried out later; one channel or three.

        With `resizing` the plan takes pictures of any size, as if resized linearly to that of
        `shape` first, but sampled once.
        """
        self.py_random.random()  # whether it is applied, which it is, but a call draws this
        return self.transforms[0].plan(shape, resizing)


def _is_simple(data: dict) -> bool:
    """Whether `data` is one uint8 picture, perhaps with a mask of its size."""
    picture = data.get("image")
    if not isinstance(picture, np.ndarray) or not _is_plain(picture):
        return False
    if len(data) == 1:
        return True
    mask = data.get("mask")
    return len(data) == 2 and isinstance(mask, np.ndarray) and mask.shape[:2] == picture.shape[:2]


class Fused(A.Sequential):
    """A run of known transforms, planned first and then carried out together.

    Pictures other than uint8, and targets other than pictures and masks, go through the transforms
    one by one.
    """

    def __init__(self, transforms: list):
        super().__init__(transforms, p=1)
        self._steps = [_step(transform) for transform in transforms]

    def __call__(self, *args, force_apply: bool = False, **data):
        """Transform the pictures and masks in `data`."""
        if len(data) == 1 and not args and "image" in data and _is_plain(data["image"]):
            image = data["image"]  # the usual case, which needs no look at the kinds of targets
            return {"image": self.plan(image.shape).transform(image)}
        kinds = {key: self._additional_targets.get(key, key) for key in data}
        fits = "image" in data and all(
            (kind == "mask" and data[key] is not None) or (kind == "image" and _is_plain(data[key]))
            for key, kind in kinds.items()
        )
        if args or not fits:
            return super().__call__(*args, force_apply=True, **data)  # draws no number of its own
        plan = self.plan(data["image"].shape)
        return {
            key: plan.transform_mask(value) if kinds[key] == "mask" else plan.transform(value)
            for key, value in data.items()
        }

    def plan(self, shape: tuple[int, ...], resizing: bool = False) -> "Plan":
        """Let the transforms draw; as of FusedCompose."""
        plan = Plan(shape)
        if resizing:
            plan.operations.append(Warp(shape[:2], cv2.INTER_LINEAR))
        for step in self._steps:
            step(plan)
        return plan


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
    ) -> "Warp":
        """The warp that takes up the next geometric step: the last one, where that is the same.

        A step commutes with the colour operations since the last warp, unless it fills in a
        constant colour that they would change; nothing commutes with a filter. One that enlarges
        stays where it is: to warp and to colour the smaller picture costs less.
        """
        for number in reversed(range(len(self.operations))):
            operation = self.operations[number]
            if isinstance(operation, Warp):
                colours_between = number + 1 < len(self.operations)
                dear = enlarging and (colours_between or operation.border is not None)
                wrong = constant and colours_between
                if operation.takes(bordered, flags) and not dear and not wrong:
                    return operation
                break
            if isinstance(operation, Filter):
                break
        warp = Warp(self.shape[:2])
        self.operations.append(warp)
        return warp

    def transform(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Carry the plan out on a uint8 picture [height, width, 1 or 3]; returns a new one.

        The result lies in `out` if it has its shape.
        """
        result, last = image, len(self.operations) - 1
        for number, operation in enumerate(self.operations):
            target = out if number == last else None
            if target is None and isinstance(operation, InPlace) and _is_apart(result, image):
                target = result
            result = operation(result, target)
        return result if _is_apart(result, image) else result.copy()

    def transform_mask(self, mask: np.ndarray) -> np.ndarray:
        """Carry out the geometry on a mask, without mixing its values; returns a new one."""
        result = mask
        for operation in self.operations:
            if isinstance(operation, Warp):
                result = operation(result, is_mask=True)
        return result if _is_apart(result, mask) else result.copy()


def _is_apart(result: np.ndarray, source: np.ndarray) -> bool:
    """Whether it has memory of its own: the source may be a page of a cache."""
    return not np.may_share_memory(result, source)


class Warp:
    """Geometric steps as one matrix, from a window of the source to a picture of `shape`.

    A source of another size than it was planned for is first resized, if need be in the same step.
    """

    def __init__(self, shape: tuple[int, int], flags: int | None = None):
        self._source = shape
        self.window = (0, 0, shape[1], shape[0])  # left, top, right, bottom
        self.shape = shape
        self.matrix = _IDENTITY
        self.border: A.Affine | A.Rotate | None = None
        self._flags = flags
        self._cropped = False

    def takes(self, bordered: bool, flags: int | None) -> bool:
        """Whether another step can be added: one border, one filter, and no crop before a border.

        A border shows what lies at the edge of its input; only of the whole input or of a window of
        it does the source show the same.
        """
        if bordered and (self.border is not None or self._cropped):
            return False
        return flags is None or self._flags in {None, flags}

    def add(
        self, matrix: Matrix, shape: tuple[int, int], flags: int | None = None, border=None
    ) -> None:
        """Follow with a matrix (old to new pixel coordinates) into a new shape."""
        self.matrix = _after(matrix, self.matrix)
        self.shape = shape
        self._flags = self._flags if flags is None else flags
        self.border = self.border or border

    def crop(self, left: int, top: int, right: int, bottom: int) -> None:
        """Follow with a crop."""
        a, b, x, c, d, y = self.matrix
        if self.border is None and {a, b, c, d} <= _UNITS:
            corners = [(u - x, v - y) for u, v in ((left, top), (right - 1, bottom - 1))]
            # The inverse of such a matrix is its transpose.
            x0, x1 = sorted(round(a * u + c * v) for u, v in corners)
            y0, y1 = sorted(round(b * u + d * v) for u, v in corners)
            dx, dy = self.window[:2]
            self.window = (dx + x0, dy + y0, dx + x1 + 1, dy + y1 + 1)
            self.matrix = _after(self.matrix, (1, 0, x0, 0, 1, y0))
        else:
            self._cropped = True
        self.add((1, 0, -left, 0, 1, -top), (bottom - top, right - left))

    def __call__(
        self, image: np.ndarray, out: np.ndarray | None = None, is_mask: bool = False
    ) -> np.ndarray:
        """Warp a picture or a mask [height, width] or [height, width, channels]."""
        free = self.border is not None or self._cropped
        whole = self.window == (0, 0, *self._source[::-1])
        size = image.shape[:2]
        scaling = _IDENTITY
        if size != self._source and (free or not whole):
            if whole and math.prod(size) <= _MUCH_LARGER * math.prod(self._source):
                scaling = _scaling(size, self._source)
            else:
                image = cv2.resize(image, self._source[::-1]).reshape(*self._source, -1)
        left, top, right, bottom = self.window
        view = image if whole else image[top:bottom, left:right]
        if free:
            warped = self._freely(view, out, scaling, is_mask)
        else:
            warped = self._along_axes(view, out, is_mask)
        return warped.reshape(*self.shape, *image.shape[2:])

    def _along_axes(self, view: np.ndarray, out: np.ndarray | None, is_mask: bool) -> np.ndarray:
        """Flips, transpositions and resizing of the whole window."""
        a, b, _, c, d, _ = self.matrix
        if b or c:
            view, a, d = cv2.transpose(view), b, c
        flipped = a < 0 or d < 0
        if view.shape[:2] != self.shape:
            flags = cv2.INTER_NEAREST if is_mask else self._flags
            target = None if flipped else out
            view = cv2.resize(view, self.shape[::-1], dst=target, interpolation=flags)
        if flipped:
            view = cv2.flip(view, -1 if a < 0 and d < 0 else int(a < 0), dst=out)
        return view

    def _freely(
        self, view: np.ndarray, out: np.ndarray | None, scaling: Matrix, is_mask: bool
    ) -> np.ndarray:
        border = self.border
        fill = 0 if border is None else border.fill_mask if is_mask else border.fill
        options = {
            "dsize": self.shape[::-1],
            "flags": cv2.INTER_NEAREST if is_mask else self._flags or cv2.INTER_LINEAR,
            "borderMode": cv2.BORDER_REPLICATE if border is None else border.border_mode,
            "borderValue": fill if np.ndim(fill) else (fill,) * 4,
        }
        matrix = np.array(_after(self.matrix, scaling), float).reshape(2, 3)
        if view.ndim == 3 and view.shape[2] == 3:
            # OpenCV 5 warps four channels in two thirds of the time that three take.
            view = cv2.cvtColor(view, cv2.COLOR_RGB2RGBA)
            warped = cv2.warpAffine(view, matrix, **options)
            return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)
        return cv2.warpAffine(view, matrix, dst=out, **options)


def _after(second: Matrix, first: Matrix) -> Matrix:
    """The matrix of two steps, without the microseconds that numpy takes for so few numbers."""
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


def _scaling(old: tuple[int, int], new: tuple[int, int]) -> Matrix:
    """Resizing between (height, width)s, pixel centres at whole coordinates."""
    y, x = new[0] / old[0], new[1] / old[1]
    return (x, 0, (x - 1) / 2, 0, y, (y - 1) / 2)


class ByItself:
    """A transform of the colours, by its own code."""

    def __init__(self, transform, parameters: dict):
        self._transform, self._parameters = transform, parameters

    def __call__(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Apply to uint8 [height, width, channels]."""
        return self._transform.apply(image, **self._parameters)


class Filter(ByItself):
    """A transform that mixes neighbouring pixels."""


class InPlace:
    """An operation whose result may be written over its input."""


class Table(InPlace):
    """The same new value for each old one in all channels."""

    def __init__(self, table: np.ndarray):
        self._table = table  # uint8 [256]

    def __call__(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Apply to uint8 [height, width, channels]."""
        if out is not image:
            image = image.copy()
        return sz_lut(image, self._table, inplace=True)


class Shift(InPlace):
    """A whole number added to each channel."""

    def __init__(self, shifts: list[int]):
        self._shifts = shifts

    def __call__(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Apply to uint8 [height, width, channels]."""
        return shift_colours(image, self._shifts, out)


class Components:
    """Albumentations 2's FancyPCA, for the numbers that it drew."""

    def __init__(self, alpha_vector: np.ndarray):
        self._alpha_vector = alpha_vector

    def __call__(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Apply to uint8 [height, width, 3]."""
        return scale_components(image, self._alpha_vector, out)


class HueSaturationValue:
    """Shifts of hue (half degrees), saturation and value (0..255)."""

    def __init__(self, hue_shift: float, sat_shift: float, val_shift: float):
        saturations = _shifted(sat_shift).copy()
        saturations[0] = 0  # grey stays grey
        hue = math.floor(hue_shift) % 180
        self._tables = (_HUES[hue : hue + 256], saturations, _shifted(val_shift))

    def __call__(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Apply to uint8 [height, width, 3]."""
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        # Plane by plane takes half as long as OpenCV's table of three channels.
        planes = planes_of(hsv)
        for plane, table in zip(planes, self._tables, strict=True):
            sz_lut(plane, table, inplace=True)
        return cv2.cvtColor(cv2.merge(planes, dst=hsv), cv2.COLOR_HSV2RGB, dst=out)


def _shifted(shift: float) -> np.ndarray:
    """The table (uint8 [256], not to be written to) that adds `shift`, cut to a whole number."""
    start = 255 + min(max(int(shift), -255), 255)
    return _SATURATED[start : start + 256]


class Step:
    """A transform and how to plan it, looked up once."""

    def __init__(self, transform):
        self._transform = transform
        self._add = _STEPS[type(transform)]

    def __call__(self, plan: Plan, force: bool = False) -> None:
        """Let the transform draw whether and how it is applied, as its own call would."""
        transform = self._transform
        p = transform.p
        if p > 0 and (force or p >= 1 or transform.py_random.random() < p):
            self._add(transform, plan)


class Series:
    """A Sequential or a Compose in another."""

    def __init__(self, transform):
        self._transform = transform
        self._parts = [_step(part) for part in transform.transforms]

    def __call__(self, plan: Plan, force: bool = False) -> None:
        """Let it and its parts draw."""
        if force or self._transform.py_random.random() < self._transform.p:
            self._carry_out(plan)

    def _carry_out(self, plan: Plan) -> None:
        for part in self._parts:
            part(plan)


class Choice(Series):
    """A OneOf, which `random_generator.choice(n, p=...)` would answer alike in 14 microseconds."""

    def __init__(self, transform: A.OneOf):
        super().__init__(transform)
        shares = np.cumsum(transform.transforms_ps)
        self._shares = (shares / shares[-1]).tolist()

    def _carry_out(self, plan: Plan) -> None:
        number = bisect.bisect_right(self._shares, self._transform.random_generator.random())
        self._parts[number](plan, force=True)


def _step(transform) -> Step | Series:
    return _COMPOSITIONS.get(type(transform), Step)(transform)


@lru_cache
def _placeholder(shape: tuple[int, ...]) -> np.ndarray:
    """A picture of no memory, for transforms that look at its shape and dtype."""
    return np.broadcast_to(np.uint8(0), shape)


def _parameters(transform, shape: tuple[int, ...]) -> dict:
    """The parameters that a transform draws for a picture of this shape."""
    data = {"image": _placeholder(shape)}
    return transform.get_params_dependent_on_data(params={"shape": shape}, data=data)


def _flip_horizontally(transform, plan):
    height, width = plan.shape[:2]
    plan.warp().add((-1, 0, width - 1, 0, 1, 0), (height, width))


def _flip_vertically(transform, plan):
    height, width = plan.shape[:2]
    plan.warp().add((1, 0, 0, 0, -1, height - 1), (height, width))


def _transpose(transform, plan):
    height, width = plan.shape[:2]
    plan.warp().add((0, 1, 0, 1, 0, 0), (width, height))
    plan.shape = (width, height, *plan.shape[2:])


def _turn(transform, plan):
    for _ in range(transform.get_params()["factor"]):  # a quarter turn against the clock
        _transpose(transform, plan)
        _flip_vertically(transform, plan)


def _affine(transform, plan):
    translate = transform._get_translate_params(plan.shape[:2])
    shear = transform._get_shear_params()
    scale = transform._get_scale(
        transform.scale, transform.keep_ratio, transform.balanced_scale, transform.py_random
    )
    angle = math.radians(transform.py_random.uniform(*transform.rotate))
    cos, sin = math.cos(angle), math.sin(angle)
    shear_x, shear_y = (math.tan(math.radians(shear[axis])) for axis in "xy")
    a, b = scale["x"] * (cos - shear_x * sin), scale["y"] * (sin + shear_x * cos)
    c, d = scale["x"] * (shear_y * cos - sin), scale["y"] * (shear_y * sin + cos)
    _move(transform, plan, (a, b, translate["x"], c, d, translate["y"]))


def _rotate(transform, plan):
    angle = math.radians(transform.py_random.uniform(*transform.limit))
    cos, sin = math.cos(angle), math.sin(angle)
    _move(transform, plan, (cos, sin, 0, -sin, cos, 0))


def _move(transform, plan, matrix: Matrix):
    """Add a matrix about the picture's centre, with the border of its transform."""
    height, width = plan.shape[:2]
    a, b, x, c, d, y = matrix
    u, v = (width - 1) / 2, (height - 1) / 2
    about = (a, b, u - a * u - b * v + x, c, d, v - c * u - d * v + y)
    constant = transform.border_mode == cv2.BORDER_CONSTANT
    warp = plan.warp(bordered=True, constant=constant, flags=transform.interpolation)
    warp.add(about, (height, width), transform.interpolation, border=transform)


def _coordinates(transform, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    return tuple(map(int, _parameters(transform, shape)["crop_coords"]))


_fixed_coordinates = lru_cache(_coordinates)


def _crop(transform, plan):
    fixed = type(transform) in {A.CenterCrop, A.Crop}  # which draw nothing
    coordinates = _fixed_coordinates if fixed else _coordinates
    left, top, right, bottom = coordinates(transform, plan.shape)
    plan.warp().crop(left, top, right, bottom)
    plan.shape = (bottom - top, right - left, *plan.shape[2:])


def _resize(transform, plan):
    _resize_to((transform.height, transform.width), transform.interpolation, plan)


def _resize_to(size: tuple[int, int], flags: int, plan: Plan):
    old = plan.shape[:2]
    if size == old:
        return
    enlarging = math.prod(size) > math.prod(old)
    plan.warp(enlarging=enlarging, flags=flags).add(_scaling(old, size), size, flags)
    plan.shape = (*size, *plan.shape[2:])


def _crop_and_resize(transform, plan):
    _crop(transform, plan)
    _resize_to(tuple(transform.size), transform.interpolation, plan)


def _filter(transform, plan):
    plan.operations.append(Filter(transform, _parameters(transform, plan.shape)))


def _brightness_contrast(transform, plan):
    parameters = _parameters(transform, plan.shape)
    alpha, beta = parameters["alpha"], parameters["beta"]
    if alpha == 1:
        table = _shifted(math.floor(beta))
    else:
        table = (_RAMP * alpha + beta).clip(0, 255).astype(np.uint8)
    plan.operations.append(Table(table))


def _rgb_shift(transform, plan):
    generator = transform.random_generator
    generator.integers(0, 2**16)  # seeds OpenCV's own numbers, which a constant shift needs none of
    ranges = transform.noise_params["ranges"][: plan.shape[2]]
    shifts = [
        int(255 * (low + (high - low) * number))
        for (low, high), number in zip(ranges, generator.random(len(ranges)).tolist(), strict=True)
    ]
    plan.operations.append(Shift(shifts))


def _hue_saturation_value(transform, plan):
    shifts = transform.get_params()
    if plan.shape[2] == 1:
        plan.operations.append(Table(_shifted(shifts["val_shift"])))
    else:
        plan.operations.append(HueSaturationValue(**shifts))


def _fancy_pca(transform, plan):
    parameters = _parameters(transform, plan.shape)
    three = plan.shape[2] == 3
    plan.operations.append(Components(**parameters) if three else ByItself(transform, parameters))


def _constant_fancy_pca(transform, plan):
    plan.operations.append(ByItself(transform, transform.get_params()))


_STEPS = {
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
_COMPOSITIONS = {A.OneOf: Choice, A.Sequential: Series, A.Compose: Series}
_LINEAR_RESIZERS = (A.Resize, A.RandomResizedCrop, A.RandomSizedCrop)


def _is_known(transform) -> bool:
    """Whether a transform can be planned; a subclass, which may do anything, cannot."""
    if type(transform) in _COMPOSITIONS:
        return len(transform.transforms) > 0 and all(map(_is_known, transform.transforms))
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
