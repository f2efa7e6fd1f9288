"""Fine-tune an ImageNet backbone on a competition's photos and write `submission.csv`.

On Kaggle's GPUs, without internet or arguments:  ship        (or: kaggle kernels push -p .)
Dry run on this machine's CPU, with drawn cars:   python kernel.py
A competition's folder on this machine:           python kernel.py --data DIR [--backbone NAME ...]

Expected on sf-dl-car-classification: `reference` scored 0.96838; `default` (EfficientNetB3 at
384x512) has not been submitted yet; the best published score, of the same backbone, is 0.97827.
Run time: the dry run about a minute on two cores; on Kaggle never more than a session's 12 hours.

Sections, in the order in which they run: overrides, config, where am I, data, augmentation, model,
schedule, prediction, output, main.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

START = time.monotonic()  # the session's clock: imports, checks and training all count
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# --- overrides (ship push --set writes here; leave empty) ---
OVERRIDES: dict[str, str] = {}
# --- end of overrides ---


# ------------------------------------------------------------------------------------- config


@dataclass(frozen=True)
class Stage:
    """One step of gradual unfreezing."""

    name: str
    share: float  # of the backbone, from its output down, that trains: 0..1
    learning_rate: float
    epochs: int  # at most; early stopping may end it before


REFERENCE_STAGES = (
    Stage("head", 0.00, 1e-3, 12),
    Stage("half", 0.50, 1e-4, 12),
    Stage("three-quarters", 0.75, 1e-5, 12),
    Stage("all", 1.00, 1e-6, 12),
)
DRY_STAGES = (
    Stage("head", 0.00, 1e-2, 5),
    Stage("half", 0.50, 2e-3, 5),
    Stage("three-quarters", 0.75, 1e-3, 6),
    Stage("all", 1.00, 3e-4, 8),
)
DEFAULT_STAGES = (
    Stage("head", 0.00, 1e-3, 12),
    Stage("half", 0.50, 3e-4, 12),
    Stage("three-quarters", 0.75, 3e-4, 12),
    Stage("all", 1.00, 1e-4, 12),
)


def setting(default, help: str, least: float = -math.inf, most: float = math.inf):
    """Declare a config field: its default, its line of documentation, a number's range."""
    return field(default=default, metadata={"help": help, "least": least, "most": most})


@dataclass(frozen=True)
class Config:
    """Everything that decides the score; each field is an option and an override of its name."""

    recipe: str = setting("default", "row of RECIPES to start from")
    backbone: str = setting("EfficientNetB3", "row of BACKBONES")
    image_size: tuple[int, int] | None = setting(None, "N or HxW pixels (the backbone's own)")
    weights: str = setting("imagenet", "imagenet, drawn (Plain's), none (random), or a .h5 file")
    input_range: Literal["backbone", "0..1"] = setting("backbone", "what scaled pixels span")
    batch_size: int = setting(32, "photos a step, all devices together", least=1)
    stages: tuple[Stage, ...] = setting(DEFAULT_STAGES, "name:share:learning_rate:epochs,...")
    epochs: int | None = setting(None, "the most epochs a stage may run", least=1)
    unfreeze: Literal["blocks", "layers"] = setting("blocks", "open whole blocks, or by layer")
    batchnorm: Literal["train", "frozen", "last"] = setting(
        "train", "BatchNorm of opened layers trains always, never, or in the last stage alone"
    )
    l2: float = setting(0.0, "L2 penalty on the head's hidden layer", least=0)
    augmentation: str = setting("default", "row of AUGMENTATIONS")
    interpolation: Literal["area", "nearest"] = setting("area", "how photos are resized")
    tta: int = setting(4, "prediction passes over each photo; 1 is none", least=1)
    tta_style: Literal["weak", "training"] = setting(
        "weak", "flips and small crops, or the training augmentation"
    )
    validation_share: float = setting(0.15, "of the photos, held out", least=0.01, most=0.5)
    patience: int = setting(5, "epochs without a better val_accuracy that end a stage", least=1)
    plateau_patience: int = setting(2, "epochs without a lower val_loss that cut the rate", least=1)
    plateau_factor: float = setting(
        0.25, "by which the rate is then multiplied", least=0.01, most=1
    )
    limit: int | None = setting(None, "the most training photos of a class", least=2)
    time_limit: float | None = setting(None, "minutes for the whole session", least=0)
    seed: int = setting(42, "of the split, the head and every augmentation", least=0)
    mixed_precision: Literal["auto", "yes", "no"] = setting(
        "auto", "float16, where GPUs gain by it"
    )
    cache: bool = setting(True, "keep decoded photos in memory: yes, no")
    workers: int = setting(os.cpu_count() or 1, "threads that read and augment photos", least=1)


RECIPES = {
    # Corrected: right input range, whole blocks, rates that move, label-preserving TTA.
    "default": Config(),
    # As it scored 0.96838, its weaknesses included (inputs 0..1, layers counted, strong TTA).
    "reference": Config(
        recipe="reference",
        backbone="InceptionV3",
        image_size=(336, 336),
        input_range="0..1",
        batch_size=24,
        stages=REFERENCE_STAGES,
        unfreeze="layers",
        augmentation="reference",
        interpolation="nearest",
        tta=10,
        tta_style="training",
    ),
    # The same code at a size that a CPU finishes in a minute.
    "dry": Config(
        recipe="dry",
        backbone="Plain",
        weights="drawn",
        batch_size=16,
        stages=DRY_STAGES,
        batchnorm="frozen",  # small batches estimate its statistics badly
        tta=4,
    ),
}

# Another competition is another block like this one.
COMPETITION = "sf-dl-car-classification"
COMPETITION_FILES = {
    "train_csv": "train.csv",
    "sample_csv": "sample-submission.csv",
    "train_photos": "train",
    "test_photos": "test_upload",
    "train_zip": "train.zip",
    "test_zip": "test.zip",
}
LIB_DATASET = "car-classification-lib"
KAGGLE_MINUTES = 11.5 * 60  # of the 12 hours that a session may last


# --------------------------------------------------------------------------------- where am I

ROOT = Path(os.environ.get("KAGGLE_ROOT", "/kaggle"))
ON_KAGGLE = "KAGGLE_KERNEL_RUN_TYPE" in os.environ


def find_mounted(slug: str, marker: list[str]) -> list[Path]:
    """Return the folders below Kaggle's inputs that hold every file of `marker`.

    A source lies at `<slug>`, `<owner>/<slug>` or `<kind>/<owner>/<slug>`, depending on the
    image; these places are looked at first, then every folder down to five levels.
    """
    inputs = ROOT / "input"
    known = [slug, f"*/{slug}", f"*/*/{slug}"]
    anywhere = ["/".join("*" * depth) + "/" for depth in range(1, 6)]
    for pattern in known + anywhere:
        found = [f for f in sorted(inputs.glob(pattern)) if all((f / m).exists() for m in marker)]
        if found:
            return found
    return []


def the_one(found: list[Path], what: str, marker: list[str], attach: str, error: type) -> Path:
    """Return the only folder in `found`, or raise `error` with what to attach or detach."""
    if len(found) == 1:
        return found[0]
    sought = f"{what} (a folder that holds {' and '.join(marker)}) below {ROOT / 'input'}"
    if not found:
        raise error(f"Found no {sought}: {attach}.")
    raise error(f"Found more than one {sought}: {', '.join(map(str, found))}. Detach all but one.")


def find_lib() -> Path:
    """Return the folder of our packages: beside this file, or the mounted dataset on Kaggle."""
    beside = Path(__file__).resolve().parent / "lib"
    if not ON_KAGGLE and beside.is_dir():
        return beside
    marker = ["ImageDataAugmentor/__init__.py", "photos/__init__.py"]
    attach = (
        f"attach the dataset {LIB_DATASET} to the kernel (dataset_sources), or run `ship bundle`"
    )
    return the_one(find_mounted(LIB_DATASET, marker), "lib dataset", marker, attach, SystemExit)


LIB = find_lib()
sys.path.insert(0, str(LIB))

from offline import ensure_albumentations, find_weights

ensure_albumentations(LIB)

import albumentations as A
import cv2
import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm import tqdm

import photos
import settings
import training
from common import Problem, clock_text, write_atomically
from ImageDataAugmentor import ImageDataAugmentor
from ImageDataAugmentor.transforms import FancyPCA
from results import figures
from results.machine import peak_memory_mb, versions
from training.plain import Plain


def find_competition(data: Path | None, scratch: Path, seed: int) -> Path:
    """Return the competition's folder: the one given, the one mounted, or one drawn on the spot."""
    if data:
        return data
    if not ON_KAGGLE:
        drawn = scratch / "drawn"
        if not (drawn / COMPETITION_FILES["sample_csv"]).is_file():
            from sample import draw_competition  # local only

            draw_competition(drawn, seed=seed)
        return drawn
    marker = [COMPETITION_FILES["train_csv"], COMPETITION_FILES["sample_csv"]]
    attach = f"attach the competition {COMPETITION} to the kernel (competition_sources)"
    found = find_mounted(COMPETITION, marker)
    return the_one(found, "competition data", marker, attach, Problem)


def use_devices(config: Config) -> tf.distribute.Strategy:
    """Set the precision and return the strategy for this machine's accelerators.

    float16 pays from compute capability 7.0 on (tensor cores); every GPU gets a share of a batch.
    """
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    gains = bool(gpus) and all(d.get("compute_capability", (0, 0)) >= (7, 0) for d in details)
    wanted = {"yes": True, "no": False, "auto": gains}[config.mixed_precision]
    keras.mixed_precision.set_global_policy("mixed_float16" if wanted else "float32")
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) > 1:
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


# --------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Data:
    """The photos of a run: tables of Id, label and path, and the competition they come from."""

    competition: photos.Competition
    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame  # only rows whose photo can be read

    @property
    def fingerprint(self) -> str:
        """A hash of what trains, validates and is predicted, to tell whether a run can go on."""
        rows = pd.concat([t[["Id"]].assign(part=i) for i, t in enumerate(self.tables())])
        rows["label"] = pd.concat(
            [self.train.label, self.validation.label, self.test.Id]
        ).to_numpy()
        return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()

    def labels(self, table: pd.DataFrame) -> np.ndarray:
        """Return the position of each row's label among the classes, int [n]."""
        return pd.Categorical(table.label, categories=self.competition.classes).codes.astype(int)

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Return (train, validation, test)."""
        return self.train, self.validation, self.test


def load_data(config: Config, folder: Path, scratch: Path) -> Data:
    """Read, check and split the competition in `folder`; zips are unpacked into `scratch`."""
    layout = photos.Layout(**COMPETITION_FILES)
    competition = photos.read_competition(
        folder, layout, scratch, limit=config.limit, seed=config.seed
    )
    competition = photos.check_photos(competition, workers=config.workers)
    if conflicts := list(photos.conflicting_labels(competition.train).Id):
        print(f"Nearly the same photo, another label: {', '.join(conflicts[:9])}", end="")
        print(f" and {len(conflicts) - 9} more" if len(conflicts) > 9 else "")
    train, validation = photos.split(competition.train, config.validation_share, config.seed)
    test = competition.test[competition.test.path != ""]
    print(
        f"{len(train)} photos to train, {len(validation)} to validate, {len(competition.test)} to "
        f"predict, {len(competition.classes)} classes; {len(competition.excluded)} left out"
    )
    return Data(competition, train, validation, test.reset_index(drop=True))


def batches(config: Config, data: Data, table: pd.DataFrame, transform=None, training=False):
    """Return an iterator of (uint8 [n, h, w, 3] in 0..255, float32 one-hot [n, classes]).

    The columns of the labels stand in the order of the competition's classes. Predicting needs no
    labels: a table without them gets the first class.
    """
    # Named by position: sorted as text or left in the given order, class 10 stays behind class 2.
    classes = [f"{position:04d}" for position in range(len(data.competition.classes))]
    labels = [classes[i] for i in data.labels(table)] if "label" in table else classes[0]
    augmentor = ImageDataAugmentor(
        augment=transform, seed=config.seed, cache=config.cache or None, workers=config.workers
    )
    with contextlib.redirect_stdout(None):  # "Found N images" would repeat for every pass
        return augmentor.flow_from_dataframe(
            table.assign(label=labels),
            x_col="path",
            y_col="label",
            classes=classes,
            target_size=config.image_size,
            batch_size=config.batch_size,
            interpolation={"area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST}[
                config.interpolation
            ],
            shuffle=training,
            dtype="uint8",
            validate_filenames=False,
        )


# ------------------------------------------------------------------------------- augmentation


def reference_augmentation(height: int, width: int) -> A.Compose:
    """Return the reference's distributions in albumentations 2's words.

    It cropped 224x200 or 200x224 out of 336x336: here the same shares of any size.
    """
    long, short = 224 / 336, 200 / 336
    crops = [(long, short), (short, long)]
    return A.Compose(
        [
            A.GaussianBlur(blur_limit=(3, 7), sigma_limit=(0.8, 1.4), p=0.05),
            A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0, p=0.5),
            A.Affine(
                translate_percent={"x": (-0.0625, 0.0625), "y": (-0.0625, 0.0625)},
                scale=(0.99, 1.01),
                keep_ratio=True,
                rotate=(-20, 20),
                interpolation=cv2.INTER_LINEAR,
                border_mode=cv2.BORDER_REFLECT_101,
                p=0.75,
            ),
            A.OneOf([A.CenterCrop(round(h * height), round(w * width)) for h, w in crops], p=0.5),
            A.OneOf([A.RandomBrightnessContrast(limit, limit) for limit in (0.3, 0.1)], p=0.5),
            A.HorizontalFlip(p=0.5),
            A.HueSaturationValue(p=0.5),
            A.RGBShift(p=0.5),
            FancyPCA(alpha=0.1, p=0.5),
            A.Resize(height, width),
        ]
    )


def default_augmentation(height: int, width: int) -> A.Compose:
    """Return an augmentation that never hides what tells one car from another."""
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(
                translate_percent={"x": (-0.06, 0.06), "y": (-0.06, 0.06)},
                scale=(0.9, 1.15),
                keep_ratio=True,
                rotate=(-8, 8),
                interpolation=cv2.INTER_LINEAR,
                border_mode=cv2.BORDER_REFLECT_101,
                p=0.75,
            ),
            A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
            A.HueSaturationValue(10, 20, 10, p=0.5),
            A.GaussianBlur(blur_limit=(3, 5), sigma_limit=(0.5, 1.0), p=0.05),
        ]
    )


AUGMENTATIONS = {"default": default_augmentation, "reference": reference_augmentation}


def augmentation(config: Config) -> A.Compose:
    """Return the recipe's training augmentation at its size."""
    return AUGMENTATIONS[config.augmentation](*config.image_size)


def tta_passes(config: Config) -> list[A.Compose | None]:
    """Return the transform of each prediction pass; the first is always the plain photo."""
    height, width = config.image_size
    if config.tta_style == "training":
        return [None] + config.tta * [augmentation(config)]
    return [None] + [weak_view(height, width, view) for view in range(1, config.tta)]


def weak_view(height: int, width: int, view: int) -> A.Compose:
    """Return label-preserving view number `view`: odd ones flip, every second crops 5 % more."""
    kept = 1 - 0.05 * (view // 2)
    crop = [
        A.CenterCrop(round(kept * height), round(kept * width)),
        A.Resize(height, width, interpolation=cv2.INTER_LINEAR),
    ]
    return A.Compose((view % 2) * [A.HorizontalFlip(p=1)] + (kept < 1) * crop)


# -------------------------------------------------------------------------------------- model


@dataclass(frozen=True)
class Backbone:
    """A row of the table: what must not drift apart stands side by side."""

    build: Callable[..., keras.Model]  # keras.applications' constructor
    input_range: tuple[float, float]  # that its first layer expects
    size: tuple[int, int]  # height, width where none is asked for
    file: str  # its ImageNet weights without the top


zoo = keras.applications
ROWS = [
    # The dry run's own, pre-trained on drawn vehicles of other kinds.
    Backbone(Plain, (-1, 1), (72, 96), "plain_notop.weights.h5"),
    Backbone(zoo.MobileNet, (-1, 1), (224, 288), "mobilenet_1_0_224_tf_no_top.h5"),
    Backbone(
        zoo.InceptionV3,
        (-1, 1),
        (336, 448),
        "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    Backbone(
        zoo.Xception, (-1, 1), (336, 448), "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"
    ),
    # These scale inside: they expect 0..255, and 0..1 would be a nearly black picture.
    Backbone(zoo.EfficientNetB3, (0, 255), (384, 512), "efficientnetb3_notop.h5"),
    Backbone(zoo.EfficientNetB5, (0, 255), (456, 608), "efficientnetb5_notop.h5"),
    Backbone(zoo.EfficientNetB7, (0, 255), (480, 640), "efficientnetb7_notop.h5"),
    Backbone(zoo.EfficientNetV2S, (0, 255), (384, 512), "efficientnetv2-s_notop.h5"),
    Backbone(zoo.EfficientNetV2M, (0, 255), (480, 640), "efficientnetv2-m_notop.h5"),
    Backbone(zoo.ConvNeXtTiny, (0, 255), (384, 512), "convnext_tiny_notop.h5"),
    Backbone(zoo.ConvNeXtBase, (0, 255), (384, 512), "convnext_base_notop.h5"),
]
BACKBONES = {row.build.__name__: row for row in ROWS}


def load_backbone(config: Config, weights: Path | None) -> keras.Model:
    """Return the backbone without its top, its weights loaded from a file in keras' format."""
    row = BACKBONES[config.backbone]
    try:
        backbone = row.build(
            include_top=False,
            weights=str(weights) if weights else None,
            input_shape=(*config.image_size, 3),
        )
    except (ValueError, OSError) as error:
        named = f"from {weights} " if weights else ""
        raise Problem(
            f"{config.backbone} at {settings.size_text(config.image_size)} could not be built "
            f"{named}({str(error).splitlines()[0]}): a weight file must be keras.applications' own "
            "without the top, and the image not smaller than the backbone allows."
        ) from error
    if weights and config.backbone.startswith("EfficientNetB"):
        # ImageNet's B0..B7 were trained with (x - mean) / variance. keras.applications adds the
        # missing division only under weights="imagenet", not for a path: square the variance.
        (normalization,) = layers_of(backbone, keras.layers.Normalization)
        normalization.adapt_variance.assign(normalization.adapt_variance**2)
        normalization.finalize_state()
    backbone.name = "backbone"
    return backbone


def layers_of(model: keras.Model, kind: type) -> list[keras.Layer]:
    """Return the layers of a kind."""
    return [layer for layer in model.layers if isinstance(layer, kind)]


def build_model(config: Config, classes: int, weights: Path | None) -> keras.Model:
    """Return uint8 photos [n, h, w, 3] -> float32 probabilities [n, classes]."""
    row = BACKBONES[config.backbone]
    low, high = (0, 1) if config.input_range == "0..1" else row.input_range
    inputs = keras.Input((*config.image_size, 3), dtype="uint8", name="photo")
    x = keras.layers.Rescaling((high - low) / 255, offset=low, name="scale")(inputs)
    x = load_backbone(config, weights)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    penalty = keras.regularizers.L2(config.l2) if config.l2 else None
    x = keras.layers.Dense(256, activation="relu", kernel_regularizer=penalty)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.25)(x)
    outputs = keras.layers.Dense(classes, activation="softmax", dtype="float32")(x)
    return keras.Model(inputs, outputs)


def is_norm(layer: keras.Operation) -> bool:
    """Tell whether a layer normalises what the one before it computes."""
    return isinstance(layer, (keras.layers.BatchNormalization, keras.layers.LayerNormalization))


def block_starts(backbone: keras.Model) -> list[int]:
    """Return the positions in `backbone.layers` at which a whole block begins.

    A block begins where a single tensor passes from the layers before to the layers after, so that
    no residual or parallel branch is cut in two, and never between a convolution and its
    normalization.
    """
    operations = backbone.operations  # the layers, and sums or products written as a + b
    position = {id(operation): i for i, operation in enumerate(operations)}
    last_use = list(range(len(operations)))
    for node in itertools.chain(*backbone._nodes_by_depth.values()):
        for tensor in node.input_tensors:
            source = position[id(tensor._keras_history.operation)]
            last_use[source] = max(last_use[source], position[id(node.operation)])
    starts = []
    for i, operation in enumerate(operations):
        passing = sum(use >= i for use in last_use[:i])
        if passing <= 1 and operation in backbone.layers and not is_norm(operation):
            starts.append(backbone.layers.index(operation))
    return starts


def unfreeze(config: Config, backbone: keras.Model, stage: Stage) -> str:
    """Let the upper `stage.share` of the backbone train, and say what does."""
    layers = backbone.layers
    first = int((1 - stage.share) * len(layers))
    if config.unfreeze == "blocks" and first < len(layers):
        first = max(start for start in [0, *block_starts(backbone)] if start <= first)
    last_stage = stage == config.stages[-1]
    normalize = config.batchnorm == "train" or (config.batchnorm == "last" and last_stage)
    backbone.trainable = True  # each layer decides
    for i, layer in enumerate(layers):
        batchnorm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = i >= first and (normalize or not batchnorm)
    return f"the head and {len(layers) - first} of {len(layers)} backbone layers train"


# ----------------------------------------------------------------------------------- schedule


def train(
    config: Config, data: Data, network: keras.Model, state: training.State, clock: training.Clock
) -> None:
    """Run the schedule from where `state` stands; `network` ends with the best weights."""
    photos_in = batches(config, data, data.train, augmentation(config), training=True)
    photos_val = batches(config, data, data.validation)
    if not state.last:  # what a loss that is no number in the first epoch goes back to
        state.store(network)
        state.save()
    while state.stage < len(config.stages):
        stage = config.stages[state.stage]
        rate = state.learning_rate or stage.learning_rate
        try:
            clock.check_epoch()
            what = train_stage(config, network, state, clock, photos_in, photos_val)
        except training.Diverged:
            print(f"The loss of stage {stage.name} is no longer a number: {state.diverge(rate)}.")
        except training.OutOfTime:
            print(f"Time is up in stage {stage.name}: on to the prediction.")
            state.stopped_by_time_limit = True
            break
        else:
            left = clock_text(clock.remaining())
            print(state.stage_line(stage, what, left), flush=True)
    if state.best:
        network.load_weights(state.folder / state.best)


class LossScale(keras.mixed_precision.LossScaleOptimizer):
    """Keras' loss scaling for several devices.

    Keras 3 asks the first device alone whether its gradients are finite, before they are summed: an
    overflow on another one reaches the weights as a NaN. Here an overflow on any skips the step.
    """

    def check_finite(self, grads):
        """Return whether the gradients are finite on every device, a bool scalar."""
        overflow = tf.cast(tf.logical_not(super().check_finite(grads)), tf.float32)
        return tf.equal(tf.distribute.get_replica_context().all_reduce("SUM", overflow), 0)


def train_stage(config, network, state, clock, photos_in, photos_val) -> str:
    """Open the stage's share of the backbone, compile anew, and fit; return what trained."""
    stage = config.stages[state.stage]
    what = unfreeze(config, network.get_layer("backbone"), stage)
    rate = state.learning_rate or stage.learning_rate
    print(f"stage {stage.name} begins: {what}, learning rate {rate:g}", flush=True)
    model = keras.Model(network.inputs, network.outputs)
    optimizer = keras.optimizers.Adam(rate)
    if keras.mixed_precision.global_policy().compute_dtype == "float16":
        optimizer = LossScale(optimizer)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    state.restore(network, model.optimizer, model.trainable_variables)
    counters = {
        "early": keras.callbacks.EarlyStopping("val_accuracy", patience=config.patience),
        "plateau": keras.callbacks.ReduceLROnPlateau(
            "val_loss", config.plateau_factor, config.plateau_patience, min_lr=1e-7
        ),
    }
    checkpoint = training.Checkpoint(state, clock, network, photos_in, photos_val.n, counters)
    model.fit(
        photos_in.as_tf_dataset(),
        validation_data=photos_val.as_tf_dataset(),
        initial_epoch=state.epoch,
        epochs=stage.epochs,
        callbacks=[*counters.values(), checkpoint],
        verbose=0,
    )
    return what


# --------------------------------------------------------------------------------- prediction


@dataclass(frozen=True)
class Prediction:
    """Probabilities, float32 [n, classes], and how good they are on the validation photos."""

    validation: np.ndarray
    test: np.ndarray
    accuracy: float  # of the plain pass
    accuracy_tta: float  # of the mean over passes
    tta_used: bool


def predict(config: Config, data: Data, network: keras.Model, clock: training.Clock) -> Prediction:
    """Predict in as many passes as fit; keep their mean unless it is worse than the plain pass."""
    passes, views = [], tta_passes(config)
    for number, view in enumerate(tqdm(views, "predicting", unit="pass", disable=None)):
        if number and clock.predict_seconds(1, clock.state.predict_rate) > clock.left():
            print(f"Time is up: {number} of {len(views)} prediction passes were made.")
            clock.state.stopped_by_time_limit = True
            break
        tables = []
        for table in (data.validation, data.test):
            flow = batches(config, data, table, view)
            flow.epoch = number  # random views differ from pass to pass
            tables.append(network.predict(flow.as_tf_dataset(), verbose=0))
        passes.append(tables)
    averaged = passes[1:] if config.tta_style == "training" and len(passes) > 1 else passes
    plain = passes[0]
    mean = [np.mean(tables, axis=0, dtype=np.float64) for tables in zip(*averaged, strict=True)]
    truth = data.labels(data.validation)
    accuracy, accuracy_tta = (float(np.mean(p[0].argmax(1) == truth)) for p in (plain, mean))
    tta_used = len(passes) > 1 and accuracy_tta >= accuracy
    said = "it is used" if tta_used else "the plain prediction is used"
    print(f"validation accuracy {accuracy:.4f}, with TTA {accuracy_tta:.4f}: {said}", flush=True)
    chosen = [np.asarray(p, np.float32) for p in (mean if tta_used else plain)]
    return Prediction(*chosen, accuracy, accuracy_tta, tta_used)


def with_prior(data: Data, probabilities: np.ndarray) -> np.ndarray:
    """Return a row for every test Id: photos that can't be read get the classes' shares."""
    prior = np.bincount(data.labels(data.train), minlength=len(data.competition.classes))
    rows = np.tile(np.float32(prior / prior.sum()), (len(data.competition.test), 1))
    readable = (data.competition.test.path != "").to_numpy()
    if not readable.all():
        print(f"{(~readable).sum()} test photos can't be read: the most frequent class is theirs.")
    rows[readable] = probabilities
    return rows


# ------------------------------------------------------------------------------------- output


def submission(data: Data, probabilities: np.ndarray) -> pd.DataFrame:
    """Return the sample submission's rows and columns with the predicted labels.

    Raises:
        Problem: a probability is not a number, so that no label can be told.
    """
    if not np.isfinite(probabilities).all():
        raise Problem(
            "The network predicts no numbers; no submission was written: see history.csv."
        )
    sample = data.competition.sample
    labels = np.asarray(data.competition.classes)[probabilities.argmax(1)]
    return sample.assign(**{sample.columns[1]: labels})


PACKAGES = ("tensorflow", "keras", "albumentations", "numpy", "pandas", "opencv-python-headless")


def write_results(
    output: Path,
    config: Config,
    data: Data,
    state: training.State,
    prediction: Prediction,
    weights: str,
) -> dict:
    """Write what a run leaves behind, but for weights and pictures; return the metrics."""
    test = with_prior(data, prediction.test)
    competition = data.competition
    tables = {"submission.csv": submission(data, test), "history.csv": pd.DataFrame(state.history)}
    if len(competition.excluded):
        tables["excluded.csv"] = competition.excluded
    for name, table in tables.items():
        write_atomically(output / name, lambda path, table=table: table.to_csv(path, index=False))
    arrays = {
        "test": test,
        "test_ids": competition.test.Id.to_numpy(str),
        "validation": prediction.validation,
        "validation_ids": data.validation.Id.to_numpy(str),
        "validation_labels": data.validation.label.to_numpy(np.asarray(competition.classes).dtype),
        "classes": np.asarray(competition.classes),
    }
    write_atomically(output / "probabilities.npz", lambda path: np.savez_compressed(path, **arrays))
    metrics = {
        "recipe": config.recipe,
        "backbone": config.backbone,
        "image_size": list(config.image_size),
        "weights": weights,
        "seed": config.seed,
        "train_images": len(data.train),
        "val_images": len(data.validation),
        "test_images": len(competition.test),
        "excluded_images": len(competition.excluded),
        "classes": competition.classes,
        "stages": [state.stage_metrics(stage) for stage in config.stages],
        "val_accuracy": prediction.accuracy,
        "val_accuracy_tta": prediction.accuracy_tta,
        "tta_used": prediction.tta_used,
        "seconds": time.monotonic() - START + state.earlier_seconds,
        "peak_memory_mb": peak_memory_mb(),
        "resumed": state.resumed,
        "stopped_by_time_limit": state.stopped_by_time_limit,
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "versions": versions(PACKAGES),
    }
    text = json.dumps(metrics, indent=1)
    write_atomically(output / "metrics.json", lambda path: path.write_text(text))
    return metrics


def draw_figures(
    output: Path, config: Config, data: Data, state: training.State, prediction: Prediction
):
    """Draw what people would rather look at than read."""
    classes = data.competition.classes
    names = {"train": data.train, "validation": data.validation}
    counts = {name: table.label.value_counts().reindex(classes) for name, table in names.items()}
    figures.class_balance(pd.DataFrame(counts), output / "class_balance.png")
    some = data.train.sample(min(25, len(data.train)), random_state=config.seed)
    one_batch = dataclasses.replace(config, batch_size=25)
    images, labels = batches(one_batch, data, some, augmentation(config), training=True)[0]
    titles = [str(classes[i]) for i in labels.argmax(1)]
    figures.photo_grid(images, titles, output / "augmented.png")
    if state.history:
        figures.learning_curves(pd.DataFrame(state.history), output / "learning_curves.png")
    predicted = np.asarray(classes)[prediction.validation.argmax(1)]
    figures.confusion_matrix(
        data.validation.label, predicted, classes, output / "confusion_matrix.png"
    )


# --------------------------------------------------------------------------------------- main


def read_arguments(argv: list[str]) -> tuple[Config, argparse.Namespace]:
    """Return the settings (recipe, then OVERRIDES, then the command line) and the other options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the competition's folder (drawn cars)")
    parser.add_argument("--output", type=Path, help="where results go (./output)")
    parser.add_argument("--fresh", action="store_true", help="throw an unfinished run away")
    parser.add_argument("--show-config", action="store_true", help="print the settings as JSON")
    names = {"backbone": BACKBONES, "augmentation": AUGMENTATIONS}
    config, options = settings.read_settings(
        parser,
        RECIPES,
        lambda options: "default" if ON_KAGGLE or options.data else "dry",
        OVERRIDES,
        argv,
        names,
    )
    most = config.epochs or math.inf
    return dataclasses.replace(
        config,
        image_size=config.image_size or BACKBONES[config.backbone].size,
        stages=tuple(dataclasses.replace(s, epochs=min(s.epochs, most)) for s in config.stages),
        time_limit=config.time_limit or (KAGGLE_MINUTES if ON_KAGGLE else None),
    ), options


def show_config(config: Config) -> None:
    """Print the settings for other programs to read."""
    own = BACKBONES[config.backbone].file
    files = {"none": [], "imagenet": [own], "drawn": [own]}
    content = {
        "config": dataclasses.asdict(config),
        "recipe": config.recipe,
        "backbone": config.backbone,
        "weights_files": files.get(config.weights, [config.weights]),
        "competition": COMPETITION,
        "recipes": list(RECIPES),
        "backbones": list(BACKBONES),
    }
    print(json.dumps(content))


def run(config: Config, options: argparse.Namespace, output: Path) -> None:
    """Go the whole way from photos to a submission in `output`."""
    print(f"recipe {config.recipe}: {config.backbone} at {settings.size_text(config.image_size)}")
    strategy = use_devices(config)
    if config.batch_size % strategy.num_replicas_in_sync:
        devices = strategy.num_replicas_in_sync
        raise Problem(
            f"--batch-size {config.batch_size} must be a multiple of {devices} (devices)."
        )
    keras.utils.set_random_seed(config.seed)
    scratch = scratch_folder(output)
    folder = find_competition(options.data, scratch, config.seed)
    print(f"photos from {folder}, packages from {LIB}, results to {output}")
    data = load_data(config, folder, scratch)
    decisive = {k: v for k, v in dataclasses.asdict(config).items() if k not in MAY_CHANGE}
    state = training.open_state(output / "state", decisive, data.fingerprint, options.fresh)
    weights = find_weights(config.backbone, config.weights, LIB, ROOT / "input")
    with strategy.scope():
        network = build_model(config, len(data.competition.classes), weights)
        end = START + config.time_limit * 60 if config.time_limit else math.inf
        images = len(data.validation) + len(data.test)
        clock = training.Clock(state, config.stages, images, len(tta_passes(config)), end)
        train(config, data, network, state, clock)
        prediction = predict(config, data, network, clock)
    used = config.weights if config.weights in ("imagenet", "drawn", "none") else weights.name
    write_results(output, config, data, state, prediction, used)
    write_atomically(output / "best.weights.h5", network.save_weights)
    draw_figures(output, config, data, state, prediction)
    shutil.rmtree(state.folder)
    shutil.rmtree(scratch, ignore_errors=True)
    print(f"{output / 'submission.csv'} is ready after {clock_text(time.monotonic() - START)}")
    if folder.is_relative_to(scratch):
        from sample import NOTE

        print(NOTE)


MAY_CHANGE = {"time_limit", "workers", "cache"}  # from one session of a run to the next


def scratch_folder(output: Path) -> Path:
    """Return the temporary folder of the run in `output`: a run that goes on finds its photos."""
    key = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"car-classification-{key}"
    folder.mkdir(exist_ok=True)
    return folder


def main(argv: list[str] | None = None) -> int:
    """Run, and turn what can go wrong into one sentence and an exit status."""
    config, options = read_arguments(sys.argv[1:] if argv is None else argv)
    if options.show_config:
        show_config(config)
        return 0
    output = options.output or (ROOT / "working" if ON_KAGGLE else Path("output"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        output.mkdir(parents=True, exist_ok=True)
        run(config, options, output)
        return 0
    except Problem as problem:
        print(f"kernel.py: {problem}", file=sys.stderr)
        return 1
    except tf.errors.ResourceExhaustedError:
        smaller = max(1, config.batch_size // 2)
        print(f"kernel.py: out of memory: try --batch-size {smaller}.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"kernel.py: {error.filename or output}: {error.strerror or error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        kept = "The same command goes on from the last finished epoch"
        print(f"\nInterrupted. {kept} ({output / 'state'}).", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
