"""Replacements for the names and arguments of albumentations 1 that version 2 dropped."""

import functools
import sys
import warnings

import albumentations
from albumentations.core import validation

_VERSION = albumentations.__version__
_TRANSFORMS = {
    "Cutout": "CoarseDropout(num_holes_range=..., hole_height_range=..., hole_width_range=...)",
    "Flip": "OneOf([HorizontalFlip(p=1), VerticalFlip(p=1), "
    "Compose([HorizontalFlip(p=1), VerticalFlip(p=1)])], p=...), or D4(p=...) for all eight",
    "JpegCompression": "ImageCompression(quality_range=(lower, upper))",
    "RandomBrightness": "RandomBrightnessContrast(brightness_limit=..., contrast_limit=0)",
    "RandomContrast": "RandomBrightnessContrast(brightness_limit=0, contrast_limit=...)",
    "TemplateTransform": "FDA(...) or PixelDistributionAdaptation(...)",
    "IAAAdditiveGaussianNoise": "GaussNoise(std_range=...)",
    "IAAAffine": "Affine(...)",
    "IAACropAndPad": "CropAndPad(...)",
    "IAAEmboss": "Emboss(...)",
    "IAAFliplr": "HorizontalFlip(p=...)",
    "IAAFlipud": "VerticalFlip(p=...)",
    "IAAPerspective": "Perspective(scale=...)",
    "IAAPiecewiseAffine": "PiecewiseAffine(scale=...)",
    "IAASharpen": "Sharpen(alpha=..., lightness=...)",
    "IAASuperpixels": "Superpixels(p_replace=..., n_segments=...)",
}
# A transform, or any; its arguments that were dropped; and what to write instead.
_ARGUMENTS = """
any: value, fill_value, cval, image_fill_value, pad_cval, pad_val: fill=
any: mask_value, mask_fill_value, cval_mask, pad_cval_mask, mask_pad_val: fill_mask=
any: mode, pad_mode: border_mode=
any: always_apply: p=1
AdvancedBlur: sigmaX_limit: sigma_x_limit=
AdvancedBlur: sigmaY_limit: sigma_y_limit=
CoarseDropout: min_holes, max_holes: num_holes_range=(min, max)
CoarseDropout: min_height, max_height: hole_height_range=(min, max)
CoarseDropout: min_width, max_width: hole_width_range=(min, max)
Downscale: scale_min, scale_max: scale_range=(min, max)
Downscale: interpolation: interpolation_pair={'downscale': ..., 'upscale': ...}
ElasticTransform: alpha_affine: an Affine(...) of its own before it
GaussNoise: var_limit: std_range=(lower, upper), as fractions of the value range
GaussNoise: mean: mean_range=(lower, upper), as fractions of the value range
GridDropout: unit_size_min, unit_size_max: unit_size_range=(min, max)
GridDropout: holes_number_x, holes_number_y: holes_number_xy=(x, y)
GridDropout: shift_x, shift_y: shift_xy=(x, y)
ImageCompression: quality_lower, quality_upper: quality_range=(lower, upper)
Lambda: keypoint: keypoints=
Lambda: bbox: bboxes=
OpticalDistortion: shift_limit: an Affine(translate_percent=...) of its own
RandomFog: fog_coef_lower, fog_coef_upper: fog_coef_range=(lower, upper)
RandomRain: slant_lower, slant_upper: slant_range=(lower, upper)
RandomResizedCrop: height, width: size=(height, width)
RandomSizedCrop: height, width: size=(height, width)
RandomShadow: num_shadows_lower, num_shadows_upper: num_shadows_limit=(lower, upper)
RandomSnow: snow_point_lower, snow_point_upper: snow_point_range=(lower, upper)
RandomSunFlare: angle_lower, angle_upper: angle_range=(lower, upper)
RandomSunFlare: num_flare_circles_lower: num_flare_circles_range=(lower, upper)
RandomSunFlare: num_flare_circles_upper: num_flare_circles_range=(lower, upper)
Rotate: method: rotate_method=
Solarize: threshold: threshold_range=(lower, upper), as fractions of the value range
"""
_REPLACEMENTS = {
    (transform, argument): replacement
    for transform, arguments, replacement in (
        line.split(": ", 2) for line in _ARGUMENTS.strip().splitlines()
    )
    for argument in arguments.split(", ")
}


def name_replacements() -> None:
    """Let the errors for `albumentations.Flip` and the like name the replacement.

    Python calls a module's `__getattr__` (PEP 562) only for names that the module lacks, and it
    can be set from outside. For `from albumentations import Flip` it then looks for a module of
    that name.
    """
    sys.meta_path.append(_DroppedNames)
    if "__getattr__" in vars(albumentations):  # A later albumentations may have its own.
        return

    def __getattr__(name: str):
        message = f"module 'albumentations' has no attribute {name!r}{_replacement(name)}"
        raise AttributeError(message, name=name, obj=albumentations)

    albumentations.__getattr__ = __getattr__


def _replacement(name: str) -> str:
    if name not in _TRANSFORMS:
        return ""
    return f": albumentations {_VERSION} dropped it; write {_TRANSFORMS[name]} instead"


class _DroppedNames:
    """A finder of modules that finds none, but raises for the name of a dropped transform."""

    @staticmethod
    def find_spec(fullname: str, path=None, target=None) -> None:
        package, _, name = fullname.partition(".")
        if package == "albumentations" and name in _TRANSFORMS:
            raise ImportError(
                f"cannot import name {name!r} from 'albumentations'{_replacement(name)}"
            )


def explain_refusals() -> None:
    """Let the error for `RandomResizedCrop(height=8, width=8)` and the like name the replacement.

    albumentations checks arguments in one private function; without it the errors stay as they are.
    """
    checks = getattr(validation, "ValidatedTransformMeta", None)
    original = getattr(checks, "_validate_parameters", None)
    if original is None:
        return

    @functools.wraps(original)
    def validate(schema_cls, full_kwargs, param_names, *args, **kwargs):
        try:
            return original(schema_cls, full_kwargs, param_names, *args, **kwargs)
        except ValueError as error:
            name = schema_cls.__qualname__.partition(".")[0]
            unknown = [argument for argument in full_kwargs if argument not in param_names]
            advice = _advice(name, unknown)
            if advice is None:
                raise
            raise ValueError(advice if unknown else f"{error}\n{advice}") from error

    checks._validate_parameters = staticmethod(validate)


def _advice(name: str, unknown: list[str]) -> str | None:
    """Return how to correct refused arguments, of which albumentations does not know some."""
    if unknown:
        found = dict.fromkeys(filter(None, (_instead_of(name, argument) for argument in unknown)))
        given = ", ".join(f"{argument}=..." for argument in unknown)
        start = f"albumentations {_VERSION} refuses {name}({given}); write "
        return f"{start}{', '.join(found)} instead." if found else None
    changed = dict.fromkeys(
        new for (transform, _), new in _REPLACEMENTS.items() if transform == name
    )
    if not changed:
        return None
    return (
        f"The arguments of {name} have changed since albumentations 1: write {', '.join(changed)}."
    )


def _instead_of(name: str, argument: str) -> str | None:
    return _REPLACEMENTS.get((name, argument)) or _REPLACEMENTS.get(("any", argument))


def warn_of_arguments(transform: albumentations.BasicTransform) -> None:
    """Warn about each argument that albumentations ignored or that gives black pictures."""
    name = type(transform).__name__
    for argument in getattr(transform, "invalid_args", None) or ():
        instead = _instead_of(name, argument)
        advice = f"write {instead}" if instead else "see its documentation"
        warnings.warn(
            f"albumentations.{name}({argument}=...) is ignored by albumentations {_VERSION}; "
            f"{advice} instead.",
            stacklevel=6,
        )
    if name == "GaussianBlur" and max(transform.sigma_limit) == 0:
        warnings.warn(
            "albumentations.GaussianBlur(sigma_limit=0) gives black pictures since version 2; "
            "write for example sigma_limit=(0.8, 1.4) instead.",
            stacklevel=6,
        )
