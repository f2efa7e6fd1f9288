"""Replacements for the names and arguments of albumentations 1 that version 2 dropped."""

import functools
import sys
import warnings

import albumentations
from albumentations.core import validation

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
# Arguments that were renamed alike in all transforms.
_ARGUMENTS = {
    "value": "fill=",
    "mask_value": "fill_mask=",
    "fill_value": "fill=",
    "mask_fill_value": "fill_mask=",
    "image_fill_value": "fill=",
    "cval": "fill=",
    "cval_mask": "fill_mask=",
    "pad_mode": "border_mode=",
    "pad_cval": "fill=",
    "pad_cval_mask": "fill_mask=",
    "pad_val": "fill=",
    "mask_pad_val": "fill_mask=",
    "mode": "border_mode=",
    "always_apply": "p=1",
}
# Arguments that one transform replaced, mostly by the two ends of a range.
_ARGUMENTS_OF = {
    "AdvancedBlur": {"sigmaX_limit": "sigma_x_limit=", "sigmaY_limit": "sigma_y_limit="},
    "CoarseDropout": {
        **dict.fromkeys(("min_holes", "max_holes"), "num_holes_range=(min, max)"),
        **dict.fromkeys(("min_height", "max_height"), "hole_height_range=(min, max)"),
        **dict.fromkeys(("min_width", "max_width"), "hole_width_range=(min, max)"),
    },
    "Downscale": {
        **dict.fromkeys(("scale_min", "scale_max"), "scale_range=(min, max)"),
        "interpolation": "interpolation_pair={'downscale': ..., 'upscale': ...}",
    },
    "ElasticTransform": {"alpha_affine": "an Affine(...) of its own before it"},
    "GaussNoise": {
        "var_limit": "std_range=(lower, upper), as fractions of the value range",
        "mean": "mean_range=(lower, upper), as fractions of the value range",
    },
    "GridDropout": {
        **dict.fromkeys(("unit_size_min", "unit_size_max"), "unit_size_range=(min, max)"),
        **dict.fromkeys(("holes_number_x", "holes_number_y"), "holes_number_xy=(x, y)"),
        **dict.fromkeys(("shift_x", "shift_y"), "shift_xy=(x, y)"),
    },
    "ImageCompression": dict.fromkeys(
        ("quality_lower", "quality_upper"), "quality_range=(lower, upper)"
    ),
    "Lambda": {"keypoint": "keypoints=", "bbox": "bboxes="},
    "OpticalDistortion": {"shift_limit": "an Affine(translate_percent=...) of its own"},
    "RandomFog": dict.fromkeys(
        ("fog_coef_lower", "fog_coef_upper"), "fog_coef_range=(lower, upper)"
    ),
    "RandomRain": dict.fromkeys(("slant_lower", "slant_upper"), "slant_range=(lower, upper)"),
    "RandomResizedCrop": dict.fromkeys(("height", "width"), "size=(height, width)"),
    "RandomSizedCrop": dict.fromkeys(("height", "width"), "size=(height, width)"),
    "RandomShadow": dict.fromkeys(
        ("num_shadows_lower", "num_shadows_upper"), "num_shadows_limit=(lower, upper)"
    ),
    "RandomSnow": dict.fromkeys(
        ("snow_point_lower", "snow_point_upper"), "snow_point_range=(lower, upper)"
    ),
    "RandomSunFlare": {
        **dict.fromkeys(("angle_lower", "angle_upper"), "angle_range=(lower, upper)"),
        **dict.fromkeys(
            ("num_flare_circles_lower", "num_flare_circles_upper"),
            "num_flare_circles_range=(lower, upper)",
        ),
    },
    "Rotate": {"method": "rotate_method="},
    "Solarize": {"threshold": "threshold_range=(lower, upper), as fractions of the value range"},
}


def name_replacements() -> None:
    """Make the errors for `albumentations.Flip` and the like name the replacement.

    Python calls a module's `__getattr__` (PEP 562) only for names that the module lacks, and it
    can be set from outside. For `from albumentations import Flip` it then looks for a module of
    that name.
    """
    sys.meta_path.append(_DroppedNames)
    if "__getattr__" in vars(albumentations):  # A later albumentations may have its own.
        return

    def __getattr__(name: str):
        message = f"module 'albumentations' has no attribute {name!r}"
        if name in _TRANSFORMS:
            message += _replacement(name)
        raise AttributeError(message, name=name, obj=albumentations)

    albumentations.__getattr__ = __getattr__


def _replacement(name: str) -> str:
    version = albumentations.__version__
    return f": albumentations {version} dropped it; write {_TRANSFORMS[name]} instead"


class _DroppedNames:
    """A finder of modules that finds none, but knows what became of a dropped transform."""

    @staticmethod
    def find_spec(fullname: str, path=None, target=None) -> None:
        """Raise ImportError for the name of a dropped transform."""
        package, _, name = fullname.partition(".")
        if package == "albumentations" and name in _TRANSFORMS:
            raise ImportError(
                f"cannot import name {name!r} from 'albumentations'" + _replacement(name)
            )


def explain_refusals() -> None:
    """Make the error for `RandomResizedCrop(height=8, width=8)` and the like name the way out.

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
            advice = _advice_on_refusal(name, unknown)
            if advice is None:
                raise
            raise ValueError(advice if unknown else f"{error}\n{advice}") from error

    checks._validate_parameters = staticmethod(validate)


def _advice_on_refusal(name: str, unknown: list[str]) -> str | None:
    """Return the way out of refused arguments, of which albumentations does not know some."""
    version = albumentations.__version__
    instead = dict.fromkeys(filter(None, (_instead_of(name, argument) for argument in unknown)))
    if instead:
        given = ", ".join(f"{argument}=..." for argument in unknown)
        return (
            f"albumentations {version} refuses {name}({given}); write {', '.join(instead)} instead."
        )
    if name in _ARGUMENTS_OF and not unknown:
        instead = ", ".join(dict.fromkeys(_ARGUMENTS_OF[name].values()))
        return f"The arguments of {name} have changed since albumentations 1: write {instead}."
    return None


def _instead_of(name: str, argument: str) -> str | None:
    """Return what replaces an argument of a transform, or None if that is not known."""
    return _ARGUMENTS_OF.get(name, {}).get(argument) or _ARGUMENTS.get(argument)


def warn_of_arguments(transform: albumentations.BasicTransform) -> None:
    """Warn about each argument that albumentations ignored or that gives black pictures."""
    name = type(transform).__name__
    for argument in getattr(transform, "invalid_args", None) or ():
        instead = _instead_of(name, argument)
        advice = f"write {instead}" if instead else "see its documentation"
        warnings.warn(
            f"albumentations.{name}({argument}=...) is ignored by albumentations "
            f"{albumentations.__version__}; {advice} instead.",
            stacklevel=6,
        )
    if name == "GaussianBlur" and max(transform.sigma_limit) == 0:
        warnings.warn(
            "albumentations.GaussianBlur(sigma_limit=0) gives black pictures since version 2; "
            "write for example sigma_limit=(0.8, 1.4) instead.",
            stacklevel=6,
        )
