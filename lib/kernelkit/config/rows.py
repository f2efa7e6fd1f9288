"""Rows of the kernel's tables: stages, members and backbones. Importing this takes no time."""

from dataclasses import dataclass, replace
from typing import Literal

from kernelkit.config.settings import setting


@dataclass(frozen=True)
class Stage:
    """One step of gradual unfreezing."""

    name: str = setting(help="as the log and metrics.json have it", unique=True)
    fraction: float = setting(help="of the backbone, from its output down", least=0, most=1)
    learning_rate: float = setting(help="at its beginning", above=0, most=1e30)
    epochs: int = setting(help="at most, where the schedule is plateau", least=1, most=1000)
    views: int = setting(0, "augmented views whose cached features fit the head", least=0, most=50)
    scale: float = setting(1.0, "photo size relative to image_size", least=0.2, most=3)
    mixup: float = setting(0.0, "alpha of mixup; 0 is off", least=0, most=10)
    cutmix: float = setting(0.0, "alpha of CutMix; 0 is off", least=0, most=10)
    pseudo: float = setting(0.0, "minimum confidence for pseudo-labels; 0 is off", least=0, most=1)


@dataclass(frozen=True)
class Member:
    """One network of several that are blended."""

    name: str = setting(help="as the log and members/ have it", unique=True)
    backbone: str = setting(help="row of BACKBONES")
    image_size: tuple[int, int] | None = setting(None, "of its photos", least=32, most=2048)
    recipe: str | None = setting(None, "row of RECIPES whose training settings it takes")


@dataclass(frozen=True)
class Backbone:
    """Everything that depends on a backbone.

    Its weights are a file of keras.applications without the top, which weights/manifest.json names,
    or a preset of keras_hub among Kaggle's models (`handle`), whose config.json says what it is.
    """

    preprocessing: Literal["tf", "caffe", "torch", "clip", "none"]  # a row of PREPROCESSING
    size: tuple[int, int] = (224, 224)  # height and width in pixels where none is asked for
    gmacs: float = 0.0  # billions of multiply-adds of a photo of that size, from published ones
    rate: float = 1.0  # times the stages' learning rates
    package: str = "keras.applications"  # which holds a constructor of the row's name
    handle: str = ""  # owner/model/framework/variation/version
    pooling: Literal["average", "token", "own"] = "average"  # mean, first token, or pooled inside
    head_rate: float = 1.0  # learning rate of the head over the backbone's
    layer_decay: float = 1.0  # rate of a block over the one above
    weight_decay: float = 0.05  # of AdamW
    batchnorm: Literal["train", "frozen", "last"] = "train"  # what opened BatchNorm does
    head: Literal["linear", "hidden"] = "linear"  # where a schedule has few steps, else linear
    interpolate: bool = False  # whether means of the weights before and after tuning are tried
    stages: tuple[Stage, ...] = ()  # in the place of the default ones
    licence: str = "Apache-2.0"  # of a preset; the manifest has those of the files

    def preset(self, handle: str, size: int | tuple[int, int], gmacs: float) -> "Backbone":
        """Return the row of a preset of keras_hub; one number is the side of a square photo."""
        size = size if isinstance(size, tuple) else (size, size)
        return replace(self, handle=handle, size=size, gmacs=gmacs)

    @property
    def variation(self) -> str:
        """The name of the preset; "" without a handle."""
        return self.handle.split("/")[3] if self.handle else ""
