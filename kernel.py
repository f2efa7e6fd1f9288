"""Fine-tune an ImageNet backbone on a competition's photos and write `submission.csv`.

On Kaggle's GPUs, without internet or arguments:  ship        (or: kaggle kernels push -p .)
Dry run on this machine's CPU, with drawn cars:   python kernel.py
A competition's folder on this machine:           python kernel.py --data DIR [--backbone NAME ...]

Expected on sf-dl-car-classification: `reference` scored 0.96838; `default` (EfficientNetB3 at
384x512) has not been submitted yet; the best published score, of the same backbone, is 0.97827.
Run time: the dry run about a minute on two cores; on Kaggle never more than a session's 12 hours.

Sections, in the order in which they run: overrides, where our packages are, config, augmentation,
command line, data, model, schedule, prediction, output, main.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

START = time.monotonic()  # the session's clock: imports, checks and training all count
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# --- overrides (ship push --set writes here; leave empty) ---
OVERRIDES: dict[str, str] = {}
# --- end of overrides ---


# --------------------------------------------------------------------- where our packages are

ROOT = Path(os.environ.get("KAGGLE_ROOT", "/kaggle"))
ON_KAGGLE = "KAGGLE_KERNEL_RUN_TYPE" in os.environ


def find_lib() -> Path:
    """Return the folder of our packages: beside this file, or the mounted dataset on Kaggle."""
    beside = Path(__file__).resolve().parent / "lib"
    if not ON_KAGGLE and beside.is_dir():
        return beside
    for depth in range(5):  # Kaggle's images differ in where they mount a dataset
        if found := sorted(ROOT.glob(f"input/{depth * '*/'}*/common/boundary.py")):
            break
    if len(found) != 1:
        raise SystemExit(
            f"Found {len(found)} folders with our packages below {ROOT / 'input'}, not one: attach "
            "the dataset car-classification-lib (`ship bundle` makes it) to the kernel, only once."
        )
    return found[0].parents[1]


LIB = find_lib()
sys.path.insert(0, str(LIB))

from common import Boundary, Problem, clock_text, scratch_folder
from common.locks import only_one
from settings import read_settings, setting, size_text

# ------------------------------------------------------------------------------------- config

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
KAGGLE_MINUTES = 11.5 * 60  # a session may last 12 hours


@dataclass(frozen=True)
class Backbone:
    """A row of the table of backbones: everything that depends on the backbone."""

    input_range: tuple[float, float]  # that its first layer expects
    size: tuple[int, int]  # height and width in pixels where none is asked for
    file: str  # its pre-trained weights without the top
    package: str = "keras.applications"  # which holds a constructor of the row's name


BACKBONES = {
    # The dry run's own, pre-trained on drawn vehicles of other kinds.
    "Plain": Backbone((-1, 1), (72, 96), "plain_notop.weights.h5", "training.plain"),
    "MobileNet": Backbone((-1, 1), (224, 288), "mobilenet_1_0_224_tf_no_top.h5"),
    "InceptionV3": Backbone(
        (-1, 1), (336, 448), "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
    ),
    "Xception": Backbone(
        (-1, 1), (336, 448), "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"
    ),
    # These scale inside: they expect 0..255, and 0..1 would be a nearly black picture.
    "EfficientNetB3": Backbone((0, 255), (384, 512), "efficientnetb3_notop.h5"),
    "EfficientNetB5": Backbone((0, 255), (456, 608), "efficientnetb5_notop.h5"),
    "EfficientNetB7": Backbone((0, 255), (480, 640), "efficientnetb7_notop.h5"),
    "EfficientNetV2S": Backbone((0, 255), (384, 512), "efficientnetv2-s_notop.h5"),
    "EfficientNetV2M": Backbone((0, 255), (480, 640), "efficientnetv2-m_notop.h5"),
    "ConvNeXtTiny": Backbone((0, 255), (384, 512), "convnext_tiny_notop.h5"),
    "ConvNeXtBase": Backbone((0, 255), (384, 512), "convnext_base_notop.h5"),
}


@dataclass(frozen=True)
class Stage:
    """One step of gradual unfreezing."""

    name: str = setting(help="as the log and metrics.json have it", unique=True)
    fraction: float = setting(help="of the backbone, from its output down", least=0, most=1)
    learning_rate: float = setting(help="at its beginning", above=0, most=1e30)
    epochs: int = setting(help="at most; early stopping may end it before", least=1, most=1000)


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


@dataclass(frozen=True)
class Config:
    """Everything that decides the score; each field is an option and an override of its name."""

    recipe: str = setting("default", "row of RECIPES to start from")
    backbone: str = setting("EfficientNetB3", "row of BACKBONES")
    image_size: tuple[int, int] | None = setting(None, "N or HxW pixels", least=32, most=2048)
    weights: str = setting("imagenet", "imagenet, drawn (Plain's), none (random), or a .h5 file")
    input_range: Literal["backbone", "0..1"] = setting("backbone", "what scaled pixels span")
    batch_size: int = setting(32, "photos a step, all devices together", least=1, most=1024)
    stages: tuple[Stage, ...] = setting(DEFAULT_STAGES, "name:fraction:learning_rate:epochs,...")
    epochs: int | None = setting(None, "the most epochs a stage may run", least=1, most=1000)
    unfreeze: Literal["blocks", "layers"] = setting("blocks", "open whole blocks, or by layer")
    batchnorm: Literal["train", "frozen", "last"] = setting("train", "when opened BatchNorm trains")
    l2: float = setting(0.0, "L2 penalty on the head's hidden layer", least=0, most=1)
    augmentation: str = setting("default", "row of AUGMENTATIONS")
    fuse: bool = setting(True, "run the augmentation's known transforms together: yes, no")
    interpolation: Literal["area", "nearest"] = setting("area", "how photos are resized")
    tta: int = setting(4, "prediction passes over each photo; 1 is none", least=1, most=20)
    tta_style: Literal["weak", "training"] = setting("weak", "small crops and flips, or as trained")
    validation_share: float = setting(0.15, "fraction held out to validate", least=0.02, most=0.5)
    patience: int = setting(5, "epochs without a better val_accuracy that end a stage", least=1)
    plateau_patience: int = setting(2, "epochs without a lower val_loss that cut the rate", least=1)
    plateau_factor: float = setting(
        0.25, "by which the rate is then multiplied", least=0.01, below=1
    )
    limit: int | None = setting(None, "the most training photos of a class", least=2, most=10**6)
    time_limit: float | None = setting(None, "minutes for the session", above=0, most=60_000)
    seed: int = setting(42, "decides split, head and augmentation", least=0, most=2**32 - 1)
    mixed_precision: Literal["auto", "yes", "no"] = setting("auto", "float16, where GPUs gain")
    cache: bool = setting(True, "keep decoded photos in memory: yes, no")
    workers: int = setting(min(os.cpu_count() or 1, 256), "threads that read", least=1, most=256)


MAY_CHANGE = {"time_limit", "workers", "cache"}  # from one session of a run to the next

RECIPES = {
    # Corrected: right input range, whole blocks, rates that move, label-preserving TTA.
    "default": Config(),
    # As it scored 0.96838, its weaknesses included (inputs 0..1, layers counted, strong TTA).
    "reference": Config(
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
        backbone="Plain",
        weights="drawn",
        batch_size=16,
        stages=DRY_STAGES,
        batchnorm="frozen",  # small batches estimate its statistics badly
    ),
}


# ------------------------------------------------------------------------------- augmentation
# A and cv2 are imported below, once the command line is answered.


def reference_augmentation(height: int, width: int) -> A.Compose:
    """Return the reference recipe's augmentation, ported to albumentations 2.

    The reference cropped 224x200 or 200x224 out of 336x336; here any size keeps these fractions.
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
    """Return a mild, label-preserving augmentation."""
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


# ------------------------------------------------------------------------------- command line


def read_arguments(argv: list[str]) -> tuple[Config, argparse.Namespace]:
    """Return the settings (recipe, then OVERRIDES, then the command line) and the other options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the competition's folder (drawn cars)")
    parser.add_argument("--output", type=Path, help="where results go (./output)")
    parser.add_argument("--fresh", action="store_true", help="throw an unfinished run away")
    parser.add_argument("--show-config", action="store_true", help="print the settings as JSON")
    config, options = read_settings(
        parser,
        RECIPES,
        lambda options: "default" if ON_KAGGLE or options.data else "dry",
        OVERRIDES,
        argv,
        {"backbone": BACKBONES, "augmentation": AUGMENTATIONS},
    )
    most = config.epochs or math.inf
    return dataclasses.replace(
        config,
        image_size=config.image_size or BACKBONES[config.backbone].size,
        stages=tuple(dataclasses.replace(s, epochs=min(s.epochs, most)) for s in config.stages),
        time_limit=config.time_limit or (KAGGLE_MINUTES if ON_KAGGLE else None),
    ), options


def show_config(config: Config) -> int:
    """Print the settings as JSON for other programs to read; return the exit status 0."""
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
    return 0


if __name__ == "__main__":  # answer wrong arguments and --show-config before TensorFlow is imported
    early_config, early_options = read_arguments(sys.argv[1:])
    if early_options.show_config:
        sys.exit(show_config(early_config))

from offline import ensure_albumentations, find_mounted, find_weights

ensure_albumentations(LIB)

import albumentations as A
import cv2
import keras
import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score
from tqdm import tqdm

import photos
import results
import training
from ImageDataAugmentor import ImageDataAugmentor
from ImageDataAugmentor.transforms import FancyPCA
from photos import PhotoTables
from training import Checkpoint, Clock, State

# --------------------------------------------------------------------------------------- data


def find_competition(data: Path | None, scratch: Path, seed: int) -> Path:
    """Return the competition's folder: the one given, the one mounted, or one drawn on the spot."""
    if data:
        return data
    if ON_KAGGLE:
        csvs = COMPETITION_FILES["train_csv"], COMPETITION_FILES["sample_csv"]
        attach = f"attach the competition {COMPETITION} to the kernel (competition_sources)"
        return find_mounted(ROOT / "input", COMPETITION, csvs, "competition data", attach)
    from sample import drawn_competition  # which stays on this machine

    return drawn_competition(scratch / "drawn", seed)


def make_iterator(config: Config, tables: PhotoTables, table, transform=None, shuffle=False):
    """Return an iterator over the photos of one of `tables`.

    Its batches are (uint8 [n, h, w, 3] in 0..255, float32 one-hot [n, classes]), the columns in the
    order of the competition's classes. A table without labels gives the photos alone.
    """
    labelled = "label" in table
    if labelled:
        table = table.assign(position=tables.positions(table))
    if transform and config.fuse:
        transform = ImageDataAugmentor.fuse(transform)
    augmentor = ImageDataAugmentor(
        augment=transform, seed=config.seed, cache=config.cache or None, workers=config.workers
    )
    filters = {"area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST}
    return augmentor.flow_from_dataframe(
        table,
        x_col="path",
        y_col="position",
        classes=[str(label) for label in tables.competition.classes] if labelled else None,
        class_mode="categorical" if labelled else None,
        target_size=config.image_size,
        batch_size=config.batch_size,
        interpolation=filters[config.interpolation],
        shuffle=shuffle,
        dtype="uint8",
        validate_filenames=False,
        verbose=False,
    )


# -------------------------------------------------------------------------------------- model


def build_model(config: Config, classes: int, weights: Path | None) -> keras.Model:
    """Return uint8 photos [n, h, w, 3] -> float32 probabilities [n, classes]."""
    row = BACKBONES[config.backbone]
    low, high = (0, 1) if config.input_range == "0..1" else row.input_range
    inputs = keras.Input((*config.image_size, 3), dtype="uint8", name="photo")
    x = keras.layers.Rescaling((high - low) / 255, offset=low, name="scale")(inputs)
    x = training.load_backbone(f"{row.package}.{config.backbone}", config.image_size, weights)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    penalty = keras.regularizers.L2(config.l2) if config.l2 else None
    x = keras.layers.Dense(256, activation="relu", kernel_regularizer=penalty)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.25)(x)
    outputs = keras.layers.Dense(classes, activation="softmax", dtype="float32")(x)
    return keras.Model(inputs, outputs)


def unfreeze(config: Config, backbone: keras.Model, stage: Stage) -> str:
    """Let the upper `stage.fraction` of the backbone train; return a message that says so."""
    last = stage == config.stages[-1]
    normalize = config.batchnorm == "train" or (config.batchnorm == "last" and last)
    whole_blocks = config.unfreeze == "blocks"
    return training.open_backbone(backbone, stage.fraction, whole_blocks, normalize)


# ----------------------------------------------------------------------------------- schedule


def train(config: Config, tables: PhotoTables, network: keras.Model, state: State, clock: Clock):
    """Run the schedule from where `state` stands; `network` ends with the best weights."""
    batches = make_iterator(config, tables, tables.train, augmentation(config), shuffle=True)
    validation = make_iterator(config, tables, tables.validation)
    if not state.last:  # the fallback if the first epoch diverges
        state.store(network)
        state.save()
    while state.stage < len(config.stages):
        stage = config.stages[state.stage]
        rate = state.learning_rate or stage.learning_rate
        try:
            clock.check_epoch()
            opened = unfreeze(config, network.get_layer("backbone"), stage)
            print(f"stage {stage.name} begins: {opened}, learning rate {rate:g}", flush=True)
            model = keras.Model(network.inputs, network.outputs)
            model.compile(training.adam(rate), "categorical_crossentropy", metrics=["accuracy"])
            state.restore(network, model.optimizer, model.trainable_variables)
            counters = training.make_counters(config)
            saver = Checkpoint(state, clock, network, batches, validation.n, counters, config.seed)
            model.fit(
                batches.as_tf_dataset(),
                validation_data=validation.as_tf_dataset(),
                initial_epoch=state.epoch,
                epochs=stage.epochs,
                callbacks=[*counters.values(), saver],  # which keeps the best weights
                verbose=0,
            )
        except training.Diverged as diverged:
            message = state.diverge(diverged.learning_rate)
            print(f"The loss of stage {stage.name} is no longer a number: {message}.")
        except training.OutOfTime:
            print(f"Time is up in stage {stage.name}: on to the prediction.")
            state.run_out_of_time()
            break
        else:
            ran = results.StageMetrics.of(stage, state.history)
            left = clock_text(clock.remaining())
            print(ran.sentence(opened, state.best_accuracy, left), flush=True)
    state.load_best(network)


# --------------------------------------------------------------------------------- prediction


@dataclass(frozen=True)
class Prediction:
    """Probabilities, float32 [n, classes], and how good they are on the validation photos."""

    validation: np.ndarray
    test: np.ndarray
    accuracy: float  # without test-time augmentation
    accuracy_tta: float  # with it
    tta_used: bool


def tta_views(config: Config) -> list[A.Compose | None]:
    """Return the transform of each prediction pass; the first is always the plain photo."""
    if config.tta == 1:
        return [None]
    if config.tta_style == "training":
        return [None] + config.tta * [augmentation(config)]
    return [None] + [weak_view(*config.image_size, view) for view in range(1, config.tta)]


def weak_view(height: int, width: int, view: int) -> A.Compose:
    """Return label-preserving view number `view`: odd ones flip, every second crops 5 % more."""
    kept = 1 - 0.05 * (view // 2)
    crop = A.CenterCrop(round(kept * height), round(kept * width))
    resize = A.Resize(height, width, interpolation=cv2.INTER_LINEAR)
    flip = A.HorizontalFlip(p=1)
    return A.Compose(([flip] if view % 2 else []) + ([crop, resize] if kept < 1 else []))


def predict(
    config: Config, tables: PhotoTables, network: keras.Model, state: State, clock: Clock
) -> Prediction:
    """Predict in as many passes as fit; keep their mean unless it is worse than the plain pass."""
    passes, views = [], tta_views(config)
    for number, view in enumerate(tqdm(views, "predicting", unit="pass", disable=None)):
        if number and not clock.pass_fits():
            print(f"Time is up: {number} of {len(views)} prediction passes were made.")
            state.run_out_of_time()
            break
        began = time.monotonic()
        passes.append([])
        for table in (tables.validation.drop(columns="label"), tables.test):
            flow = make_iterator(config, tables, table, view)
            flow.epoch = number  # random views differ from pass to pass
            passes[-1].append(network.predict(flow.as_tf_dataset(), verbose=0))
        clock.note_prediction(sum(map(len, passes[-1])), time.monotonic() - began)
    return choose_prediction(config, passes, tables.positions(tables.validation))


def choose_prediction(config: Config, passes: list, truth: np.ndarray) -> Prediction:
    """Return the mean over `passes`, each [validation, test], or the plain one if that is better.

    The reference's style leaves the plain pass out of the mean.
    """
    averaged = passes[1:] if config.tta_style == "training" and len(passes) > 1 else passes
    mean = [np.mean(part, axis=0, dtype=np.float64) for part in zip(*averaged, strict=True)]
    accuracy, accuracy_tta = (accuracy_score(truth, p[0].argmax(1)) for p in (passes[0], mean))
    tta_used = len(passes) > 1 and accuracy_tta >= accuracy
    said = "it is used" if tta_used else "the plain prediction is used"
    print(f"validation accuracy {accuracy:.4f}, with TTA {accuracy_tta:.4f}: {said}", flush=True)
    chosen = [np.asarray(part, np.float32) for part in (mean if tta_used else passes[0])]
    return Prediction(*chosen, float(accuracy), float(accuracy_tta), tta_used)


# ------------------------------------------------------------------------------------- output


def submission(competition: photos.Competition, probabilities: np.ndarray) -> pd.DataFrame:
    """Return the sample submission with the predicted labels; a NaN among them is a Problem."""
    if not np.isfinite(probabilities).all():
        raise Problem("The network predicts NaN, so there is no submission: try lower rates.")
    labels = np.asarray(competition.classes)[probabilities.argmax(1)]
    return competition.sample.assign(**{competition.sample.columns[1]: labels})


# --------------------------------------------------------------------------------------- main


def run(config: Config, options: argparse.Namespace, output: Path, boundary: Boundary) -> None:
    """Go the whole way from photos to a submission in `output`."""
    print(f"recipe {config.recipe}: {config.backbone} at {size_text(config.image_size)}")
    boundary.doing = "looking for accelerators"
    strategy = training.use_devices(config.mixed_precision, config.batch_size)
    keras.utils.set_random_seed(config.seed)
    boundary.doing = "reading the photos"
    scratch = scratch_folder("car-classification", output)
    folder = find_competition(options.data, scratch, config.seed)
    print(f"photos from {folder}, packages from {LIB}, results to {output}")
    files = photos.CompetitionFiles(**COMPETITION_FILES)
    tables = photos.load_tables(folder, files, scratch, config)
    decisive = {k: v for k, v in dataclasses.asdict(config).items() if k not in MAY_CHANGE}
    state = training.open_state(output / "state", decisive, tables.fingerprint, options.fresh)
    boundary.doing = "building the network"
    weights = find_weights(config.backbone, config.weights, LIB, ROOT / "input")
    with strategy.scope(), training.out_of_memory_explained(config.batch_size):
        network = build_model(config, len(tables.competition.classes), weights)
        end = START + config.time_limit * 60 if config.time_limit else math.inf
        images = len(tables.validation) + len(tables.test)
        clock = Clock(state, config.stages, images, len(tta_views(config)), end)
        boundary.doing = "training"
        train(config, tables, network, state, clock)
        boundary.doing = "predicting"
        prediction = predict(config, tables, network, state, clock)
    boundary.doing = "writing the results"
    test = tables.with_prior(prediction.test)
    table = submission(tables.competition, test)
    took = time.monotonic() - START
    results.write_results(output, table, test, config, tables, state, prediction, took)
    training.write_weights(network, output / "best.weights.h5")
    augmented = make_iterator(config, tables, tables.train, augmentation(config), shuffle=True)
    results.decorate(output, tables, state.history, prediction.validation, augmented)
    state.discard()
    shutil.rmtree(scratch, ignore_errors=True)
    print(f"{output / 'submission.csv'} is ready after {clock_text(took)}")
    if folder.is_relative_to(scratch):
        from sample import NOTE

        print(NOTE)


def main(argv: list[str] | None = None) -> int:
    """Run, and turn what can go wrong into one sentence and an exit status."""
    config, options = read_arguments(sys.argv[1:] if argv is None else argv)
    if options.show_config:
        return show_config(config)
    output = options.output or (ROOT / "working" if ON_KAGGLE else Path("output"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    safe = f"The same command goes on from the last finished epoch ({output / 'state'})."
    boundary = Boundary("kernel.py", output / "traceback.txt", safe)
    occupied = f"{output} is in use by {{holder}}: wait for its end, or give another --output."

    def work() -> None:
        with only_one(output / ".lock", occupied, remove=True):
            run(config, options, output, boundary)

    return boundary.run(work)


if __name__ == "__main__":
    sys.exit(main())
