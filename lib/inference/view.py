"""One way of looking at a photo. This module is imported before the slow libraries are."""

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
