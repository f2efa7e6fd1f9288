"""Views of a photo, for test-time augmentation. Importing this module takes no time."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """A pass of test-time augmentation."""

    name: str
    flip: bool = False  # left to right
    scale: float = 1.0  # the photo's size relative to the one that trained
    crop: float = 1.0  # the central fraction of each side that is kept
    trained: bool = False  # the training's augmentation instead, which may not preserve the label

    def transform(self, height: int, width: int):
        """Return the albumentations Compose for photos of this size; None for a plain one."""
        import albumentations as A
        import cv2

        steps = [A.HorizontalFlip(p=1)] if self.flip else []
        if self.crop < 1:
            steps.append(A.CenterCrop(round(self.crop * height), round(self.crop * width)))
            steps.append(A.Resize(height, width, interpolation=cv2.INTER_LINEAR))
        return A.Compose(steps) if steps else None


def views_of(config, views: Sequence[View]) -> list[View]:
    """Return the prediction passes of a config; the first, as that of `views`, is the plain photo.

    With tta_style "weak" they are the first `tta` of `views`; with "training" as many as trained
    follow the plain one.
    """
    if config.tta_style == "training" and config.tta > 1:
        return [views[0], *(View(f"as trained {n}", trained=True) for n in range(config.tta))]
    return list(views[: config.tta])


def passes_of(config, views: Sequence[View]) -> float:
    """Return the cost of all prediction passes, in passes over photos of the trained size."""
    return sum(view.scale**2 for view in views_of(config, views))
