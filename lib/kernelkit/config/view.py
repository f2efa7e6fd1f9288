"""Ways of looking at a photo. This module is imported before the slow libraries are."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """A pass of test-time augmentation."""

    name: str
    """As the log and metrics.json have it."""
    flip: bool = False
    """Left to right."""
    scale: float = 1.0
    """Of the photo's sides to the size that trained."""
    crop: float = 1.0
    """The fraction of each side that is kept, from the middle."""
    trained: bool = False
    """Through the training's augmentation instead, which may not preserve the label."""

    def transform(self, height: int, width: int):
        """Return what the view does to a photo of this size, an albumentations Compose; or None."""
        import albumentations as A
        import cv2

        steps = [A.HorizontalFlip(p=1)] if self.flip else []
        if self.crop < 1:
            steps.append(A.CenterCrop(round(self.crop * height), round(self.crop * width)))
            steps.append(A.Resize(height, width, interpolation=cv2.INTER_LINEAR))
        return A.Compose(steps) if steps else None


def views_of(config, views: Sequence[View]) -> list[View]:
    """Return the prediction passes of a config; the first is always the plain photo.

    Args:
        config: has tta, the number of passes, and tta_style: "weak" takes the first of `views`,
            "training" adds as many passes as trained to the plain one.
        views: the first is the plain one.
    """
    if config.tta_style == "training" and config.tta > 1:
        return [views[0], *(View(f"as trained {n}", trained=True) for n in range(config.tta))]
    return list(views[: config.tta])


def passes_of(config, views: Sequence[View]) -> float:
    """Return what all prediction passes cost, in passes over photos of the trained size.

    The arguments are those of `views_of`.
    """
    return sum(view.scale**2 for view in views_of(config, views))
