"""Fine-tune an ImageNet backbone on a competition's photos and write `submission.csv`.

On Kaggle's GPUs, without internet or arguments:  ship        (or: kaggle kernels push -p .)
Dry run on this machine's CPU, with drawn cars:   python kernel.py
A competition's folder on this machine:           python kernel.py --data DIR [--backbone NAME ...]

Expected on sf-dl-car-classification: `reference` scored 0.96838; `default` (EfficientNetB3 at
384x512) has not been submitted yet; the best published score, of the same backbone, is 0.97827.
Run time: the dry run about a minute on two cores; on Kaggle never more than a session's 12 hours.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

START = time.monotonic()  # the session's clock: imports, checks and training all count
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")  # photos that it can't read are reported below
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # short runs have it warn of retracing

# --- overrides (ship push --set writes here; leave empty) ---
OVERRIDES: dict[str, str] = {}
# --- end of overrides ---


# --------------------------------------------------------------------- where our packages are

ROOT = Path(os.environ.get("KAGGLE_ROOT", "/kaggle"))
ON_KAGGLE = "KAGGLE_KERNEL_RUN_TYPE" in os.environ
IN_CELL = "__file__" not in globals()  # pasted into a notebook, whose command line is Jupyter's


def find_lib() -> Path:
    """Return the folder of our packages: beside this file, or the mounted dataset on Kaggle."""
    beside = Path("kernel.py" if IN_CELL else __file__).resolve().parent / "lib"
    if not ON_KAGGLE and beside.is_dir():
        return beside
    for depth in range(5):  # Kaggle's images differ in where they mount a dataset
        if found := sorted(ROOT.glob(f"input/{depth * '*/'}*/kernelkit/core/boundary.py")):
            break
    if len(found) != 1:
        raise SystemExit(
            f"kernel.py: Found {len(found)} folders with our packages below {ROOT / 'input'}: "
            "attach the dataset of lib/ (`ship bundle` makes it) to the kernel, only once; "
            f"elsewhere, change to the folder of kernel.py ({beside} is missing)."
        )
    return found[0].parents[2]


LIB = find_lib()
sys.path.insert(0, str(LIB))

from kernelkit.core.boundary import guard

if __name__ == "__main__":
    guard("kernel.py")  # whatever goes wrong before `main` is one sentence too

from kernelkit.config.command_line import make_parser, read_settings
from kernelkit.config.members import (
    at_scale,
    decisive,
    resolve,
    resolve_members,
    scouts,
    show_config,
)
from kernelkit.config.recipes import DRY, REFERENCE, reference_augmentation
from kernelkit.config.rows import Backbone, Member, Stage
from kernelkit.config.settings import session, setting, shared, size_text
from kernelkit.config.views import View, views_of
from kernelkit.core.boundary import Boundary
from kernelkit.data.layout import Layout
from kernelkit.report.writing import remake
from kernelkit.train.costs import gpu_minutes

# ------------------------------------------------------------------------------------- config

COMPETITION = Layout(  # `ship init SLUG` proposes another competition's block
    slug="sf-dl-car-classification",
    sample_csv="sample-submission.csv",
    train_csv="train.csv",
    id="Id",
    label="Category",
    train_photos=("train", "train.zip"),
    test_photos=("test_upload", "test.zip"),
)
HOME_PHOTOS = 15_561, 6_675  # labelled and to be predicted: for estimates before they are read
KAGGLE_MINUTES = 11.5 * 60  # a session may last 12 hours

TOWER_STAGES = (  # the head first, which keeps what the tower knows (Kumar et al. 2022)
    Stage("head", 0.00, 1e-3, 1, views=4),  # by logistic regression, without rate or epochs
    Stage("all", 1.00, 1e-3, 10),  # as many epochs as WiSE-FT (Wortsman et al. 2022)
)
# Contrastive towers were fine-tuned at 1e-5 (FLYP, Goyal et al. 2023), with a decay of .6 to .75 a
# block and weight decay .05 (FT-CLIP, Dong et al. 2022). Half the rate and a slower decay for 24
# blocks are our reckoning, and so are the rates of towers that learned without texts.
TOWER = {"package": "keras_hub", "head_rate": 10, "layer_decay": 0.75, "stages": TOWER_STAGES}
TOWER |= {"interpolate": True}  # WiSE-FT
LARGE = TOWER | {"rate": 0.005, "layer_decay": 0.85}
SIGLIP = Backbone("tf", rate=0.01, pooling="own", **TOWER)
SIGLIP_L = Backbone("tf", pooling="own", **LARGE)
CLIP_L = Backbone("clip", pooling="token", licence="MIT", **LARGE)
VIT = Backbone("tf", rate=0.02, pooling="token", **TOWER)
DINO = Backbone("torch", rate=0.02, pooling="token", **TOWER)
DINO3_L = Backbone("torch", pooling="token", licence="DINOv3, accept it first", **LARGE)
# BatchNorm of EfficientNets is frozen, as in the best published score: with the statistics of 16
# photos Lite0's loss rose from .5 to 5. Frozen, it was best at 6e-4, of which large ones take half.
EFFICIENTNET = Backbone("none", rate=0.3, batchnorm="frozen")
TIMM = replace(EFFICIENTNET, preprocessing="torch", package="keras_hub")

# Where BatchNorm trains, the rates are measured for MobileNet. ConvNeXt, which has none, was
# fine-tuned at 5e-5 (Liu et al. 2022).
BACKBONES = {
    # The dry run's own, pre-trained on drawn vehicles of other kinds.
    "Plain": Backbone("tf", (72, 96), 0.03, package="kernelkit.train.backbones"),
    "MobileNet": Backbone("tf", (224, 288), 0.73, head="hidden"),
    "InceptionV3": Backbone("tf", (336, 448), 9.6),
    "Xception": Backbone("tf", (336, 448), 14.1),
    # These scale inside: they expect 0..255, and 0..1 would be a nearly black picture.
    "EfficientNetB3": replace(EFFICIENTNET, size=(384, 512), gmacs=3.9, rate=0.6),
    "EfficientNetB5": replace(EFFICIENTNET, size=(456, 608), gmacs=13.2),
    "EfficientNetB7": replace(EFFICIENTNET, size=(480, 640), gmacs=31.6),
    "EfficientNetV2S": replace(EFFICIENTNET, size=(384, 512), gmacs=11.7),
    "EfficientNetV2M": replace(EFFICIENTNET, size=(480, 640), gmacs=32.0),
    "ConvNeXtTiny": Backbone("none", (384, 512), 17.6, 0.05),
    "ConvNeXtBase": Backbone("none", (384, 512), 60.3, 0.05),
    # Presets of keras_hub, which a kernel takes from Kaggle Models.
    "SigLIP2B": SIGLIP.preset("keras/siglip/keras/siglip2_base_patch16_384/1", 384, 56),
    "SigLIPB512": SIGLIP.preset("keras/siglip/keras/siglip_base_patch16_512/1", 512, 108),
    "SigLIP2L": SIGLIP_L.preset("keras/siglip/keras/siglip2_large_patch16_384/1", 384, 192),
    "SigLIPSo400m": SIGLIP_L.preset("keras/siglip/keras/siglip_so400m_patch14_384/1", 384, 335),
    "CLIPL336": CLIP_L.preset("keras/clip/keras/clip_vit_large_patch14_336/3", 336, 191),
    "DINOv2B": DINO.preset("keras/dinov2/keras/dinov2_base/1", 392, 79),
    "DINOv3L": DINO3_L.preset("keras/dinov3/keras/dinov3_vit_large_lvd1689m/1", 384, 194),
    "ViTB384": VIT.preset("keras/vit/keras/vit_base_patch16_384_imagenet/3", 384, 56),
    "EfficientNetB5in12k": TIMM.preset(
        "keras/efficientnet/keras/efficientnet_b5_sw_imagenet/2", (456, 608), 13.3
    ),
    "HGNetV2B6": TIMM.preset(
        "keras/hgnetv2/keras/hgnetv2_b6_ssld_stage1_in22k_in1k/1", (288, 384), 37
    ),
    "EfficientNetLite0": replace(TIMM, preprocessing="tf", rate=0.6).preset(
        "keras/efficientnet/keras/efficientnet_lite0_ra_imagenet/2", (225, 289), 0.52
    ),
}

VIEWS = (  # the first `tta` of them are tried, in this order
    View("plain"),
    View("flipped", flip=True),
    View("larger", scale=1.15),  # networks trained with crops see larger objects (FixRes)
    View("larger, flipped", flip=True, scale=1.15),
    View("cropped", crop=0.95),
    View("cropped, flipped", flip=True, crop=0.95),
    View("cropped more", crop=0.9),
    View("cropped more, flipped", flip=True, crop=0.9),
)

DEFAULT_STAGES = (
    Stage("head", 0.00, 1e-3, 1, views=4),  # by logistic regression, without rate or epochs
    Stage("half", 0.50, 1e-3, 12),
    Stage("three-quarters", 0.75, 1e-3, 12),
    Stage("all", 1.00, 1e-3, 12),
)
MAX_STAGES = (  # smaller photos first, then the full size with the rate raised again
    Stage("head", 0.00, 1e-3, 1, views=4, scale=0.6),
    Stage("half", 0.50, 1e-3, 4, scale=0.6),
    Stage("three-quarters", 0.75, 1e-3, 4, scale=0.6),
    Stage("all", 1.00, 1e-3, 6, scale=0.6),
    Stage("large", 1.00, 1e-3, 8),
)


@dataclass(frozen=True)
class Config:
    """Everything that decides the score; each field is an option and an override of its name.

    Every member takes the `shared` ones and those of the `session` from here, not from a recipe of
    its own; those of the `session` may change where a run goes on.
    """

    recipe: str = shared("default", "row of RECIPES to start from", group="network")
    backbone: str = setting("EfficientNetB3", "network, a row of BACKBONES")
    image_size: tuple[int, int] | None = setting(None, "none: the backbone's", least=32, most=2048)
    weights: str = shared("imagenet", "imagenet, drawn (for Plain), none (random), or a path")
    input_range: Literal["backbone", "0..1"] = setting("backbone", "range of scaled pixel values")
    head: Literal["linear", "hidden"] | None = setting(None, "one layer, or a hidden one before it")
    dropout: float = setting(0.25, "dropout rate before the last layer", least=0, below=1)
    l2: float = setting(0.0, "L2 penalty on the head's hidden layer", least=0, most=1)

    stages: tuple[Stage, ...] = setting(DEFAULT_STAGES, "training stages", group="unfreezing")
    epochs: int | None = shared(None, "maximum epochs of every stage", least=1, most=1000)
    unfreeze: Literal["blocks", "layers"] = setting("blocks", "unfreeze blocks or layers")
    batchnorm: Literal["train", "frozen", "last"] | None = setting(None, "last: in the last stage")
    norm_momentum: float = setting(0.9, "momentum of BatchNorm's statistics", least=0, below=1)
    reestimate: bool = setting(False, "compute BatchNorm's statistics anew before validating")

    # None: batches of 32, or of 16 and the backbone's head where a schedule has few steps; a label
    # smoothing of 0.1 from 20 epochs on; and for others, such as batchnorm, the backbone's own.
    batch_size: int | None = setting(None, "photos a step", least=1, most=1024, group="optimizer")
    label_smoothing: float | None = setting(None, "share spread over all classes", least=0, below=1)
    schedule: Literal["cosine", "restarts", "plateau"] = setting("cosine", "learning rate schedule")
    warmup: float = setting(1.0, "epochs in which a stage's rate rises (not with plateau)", least=0)
    patience: int = setting(5, "plateau: epochs without a better val_accuracy", least=1)
    plateau_patience: int = setting(2, "plateau: epochs without a lower val_loss", least=1)
    plateau_factor: float = setting(0.25, "plateau: factor of the rate", least=0.01, below=1)
    weight_decay: float | None = setting(None, "weight decay of AdamW; 0 is Adam", least=0, most=1)
    clip_norm: float = setting(1.0, "maximum global gradient norm; 0 disables clipping", least=0)
    head_rate: float | None = setting(None, "rate of the head relative to the backbone", above=0)
    layer_decay: float | None = setting(None, "rate of a block over the one above", above=0, most=1)
    interpolate: bool | None = setting(None, "try averages of the weights before and after tuning")
    ema: float = setting(0.98, "momentum of the average of the weights; 0 is off", least=0, below=1)

    augmentation: str = setting("default", "row of AUGMENTATIONS", group="photos")
    fuse: bool = setting(True, "apply known transforms of the augmentation in one pass")
    interpolation: Literal["area", "nearest"] = setting("area", "how photos are resized")
    validation_share: float = shared(0.15, "held out with one fold", least=0.02, most=0.5)
    limit: int | None = shared(None, "maximum training photos of a class", least=2, most=10**6)
    exclude: str | None = shared(None, "CSV of the Ids of training photos to leave out")
    most_excluded: float = session(0.02, "share of unusable rows that stops a run", least=0, most=1)

    tta: int = shared(4, "test-time views; 1 is off", least=1, most=20, group="prediction")
    tta_style: Literal["weak", "training"] = setting("weak", "VIEWS, or as in training")
    members: tuple[Member, ...] = setting((), "networks to blend")
    candidates: tuple[Member, ...] = setting((), "networks from which a scout chooses the members")
    scout_only: bool = session(False, "end after scouting, for a later session")
    folds: int = shared(1, "cross-validation folds that train, a network each", least=1, most=20)

    predict_from: str | None = setting(None, "finished run that predicts; nothing trains")
    as_many: int | None = setting(None, "photos to measure predict_from with", least=1, most=10**7)

    seed: int = shared(42, "of the split and all draws", least=0, most=2**32 - 1, group="session")
    time_limit: float | None = session(None, "minutes for the session", above=0, most=60_000)
    mixed_precision: Literal["auto", "yes", "no"] = shared("auto", "float16; auto: where GPUs gain")
    preflight: Literal["no", "quick", "full"] = session("quick", "try steps, choose the fastest")
    cache: bool = session(True, "keep decoded photos in memory")
    tensorboard: bool = session(False, "write logs for TensorBoard too")
    workers: int = session(min(os.cpu_count() or 1, 256), "threads that read", least=1, most=256)


RECIPES = {
    # One strong member: head on cached features, then unfreezing, averaged. Its choices were
    # measured on three sets of photos (tests/benchmarks/choices.md).
    "default": Config(),
    # A score within an hour on two T4s.
    "quick": Config(image_size=(300, 400), epochs=4),
    # The whole session: a scout chooses networks that are accurate and of different kinds, and as
    # many folds (at most these) and epochs as fit. Convolutional ones see smaller photos first,
    # then the larger size with the rate raised; towers keep their own schedule.
    "max": Config(
        candidates=(
            Member("convnext", "ConvNeXtBase"),
            Member("convnext-large", "ConvNeXtBase", (480, 640)),
            Member("b3", "EfficientNetB3", (512, 682)),
            Member("v2s", "EfficientNetV2S"),
            Member("siglip2-b", "SigLIP2B", recipe="default"),
            Member("siglip2-l", "SigLIP2L", recipe="default"),
            Member("siglip-so", "SigLIPSo400m", recipe="default"),
            Member("clip-l", "CLIPL336", recipe="default"),
        ),
        folds=5,
        schedule="restarts",
        stages=MAX_STAGES,
    ),
    # Three towers as they are, and a head on their features: nothing can go wrong.
    "probe": Config(
        stages=TOWER_STAGES[:1],
        members=(
            Member("so400m", "SigLIPSo400m"),
            Member("siglip2", "SigLIP2L"),
            Member("clip", "CLIPL336"),
        ),
    ),
    "reference": Config(**REFERENCE),  # as it scored 0.96838, its weaknesses included
    "dry": Config(**DRY),  # the same code at a size that a CPU finishes in a minute
}


# ------------------------------------------------------------------------------- augmentation


def default_augmentation(height: int, width: int) -> A.Compose:  # A and cv2 are imported below
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


def members_of(config: Config, photos: int) -> dict[str, Config]:
    """Return the final settings of each network, by its name, where so many photos train."""
    return resolve_members(config, photos, RECIPES, BACKBONES)


def read_arguments(argv: list[str]) -> tuple[Config, argparse.Namespace]:
    """Return the settings (recipe, then OVERRIDES, then the command line) and the other options.

    With --show-config the settings are printed, and the program ends.
    """
    names = {"backbone": BACKBONES, "augmentation": AUGMENTATIONS}

    def usual(options: argparse.Namespace) -> str:
        return "default" if ON_KAGGLE or options.data else "dry"

    config, options = read_settings(make_parser(__doc__), RECIPES, usual, OVERRIDES, argv, names)
    if options.report:
        sys.exit(remake(options.report))
    limit = KAGGLE_MINUTES if ON_KAGGLE and not config.predict_from else None
    config = replace(config, time_limit=config.time_limit or limit)
    if options.show_config:
        members = members_of(config, HOME_PHOTOS[0])
        config = resolve(config, HOME_PHOTOS[0], BACKBONES)
        minutes = gpu_minutes(config, members, BACKBONES, VIEWS, HOME_PHOTOS)
        show_config(config, members, COMPETITION.slug, RECIPES, BACKBONES, LIB, minutes)
        sys.exit(0)
    return config, options


if __name__ == "__main__" and not IN_CELL:  # answers --help and errors before the slow imports
    read_arguments(sys.argv[1:])

from kernelkit.offline import ensure_albumentations, find_mounted, find_weights

ensure_albumentations(LIB)

import albumentations as A
import cv2
import keras

from kernelkit.data.batches import check_batches, keep_decoded, make_iterator
from kernelkit.data.tables import PhotoTables, fingerprint, load_tables
from kernelkit.predict.ensemble import combine_members
from kernelkit.predict.members import MemberStore, write_network
from kernelkit.predict.scout import forecast, scout
from kernelkit.predict.tta import predict, with_pseudo_labels
from kernelkit.report.attention import note_attention
from kernelkit.report.code_competition import is_rerun, predict_competition
from kernelkit.report.predictions import apply_run
from kernelkit.report.results import stage_sentence, write_results
from kernelkit.report.saved import note_photos
from kernelkit.report.writing import finish, write_report
from kernelkit.train.backbones import clear_session, load_backbone, preprocess, unfreeze
from kernelkit.train.callbacks import Checkpoint, Diverged, Validate, rate_callbacks
from kernelkit.train.devices import OutOfMemory, failures_explained, share, shared_batch
from kernelkit.train.head import build_head, fit_head
from kernelkit.train.interpolate import interpolate_weights
from kernelkit.train.output import open_state, workplace
from kernelkit.train.plan import Clock, Job, OutOfTime, Run, make_plan
from kernelkit.train.preflight import choose_step_mode
from kernelkit.train.preflight_worker import StepFactory
from kernelkit.train.presets import load_preset, loadable
from kernelkit.train.train_step import compile_model

# --------------------------------------------------------------------------------------- data


def find_competition(data: Path | None, scratch: Path, seed: int) -> Path:
    """Return the competition's folder: the one given, the one mounted, or one drawn on the spot."""
    if data or ON_KAGGLE:
        return data or find_mounted(ROOT / "input", COMPETITION.slug, COMPETITION.tables)
    from sample.competition import drawn_competition  # which stays on this machine

    return drawn_competition(scratch / "drawn", seed)


def open_run(config: Config, options: argparse.Namespace, output: Path, scratch: Path):
    """Read the photos, and find or begin the run in `output`; a mere plan writes nothing there."""
    members = members_of(config, HOME_PHOTOS[0])
    for name, each in members.items():
        print(f"recipe {each.recipe}, {name}: {each.backbone} at {size_text(each.image_size)}")
    downloads = config.weights == "imagenet"  # which no plan does
    if not (options.plan and downloads) and not scouts(config):  # before all photos are read
        members = loadable(members, BACKBONES, weights_of)
    folder = find_competition(options.data, scratch, config.seed)
    print(f"photos from {folder}, packages from {LIB}, results to {output}")
    folds = load_tables(folder, COMPETITION, scratch, config, options.set)
    final = members_of(config, len(folds[0].train))
    members = {name: final[name] for name in members}
    config = resolve(config, len(folds[0].train), BACKBONES)
    folds = keep_decoded(folds, members.values(), VIEWS, scratch)
    check_batches(members, folds[0], augmentation)
    same = decisive(config) | {"metric": folds[0].competition.layout.metric}
    place = output / "state", same, fingerprint(folds)
    state = open_state(*place, options.fresh, ROOT / "input", read_only=options.plan)
    plan = make_plan(members, BACKBONES, VIEWS, folds, state, START, config.time_limit)
    return Run(config, members, folds, state, plan, output)


# -------------------------------------------------------------------------------------- model


def build_model(config: Config, classes: int, weights: Path | None) -> keras.Model:
    """Return uint8 photos [n, h, w, 3] -> float32 probabilities [n, classes]."""
    row = BACKBONES[config.backbone]
    mode = row.preprocessing if config.input_range == "backbone" else config.input_range
    inputs = keras.Input((*config.image_size, 3), dtype="uint8", name="photo")
    x = preprocess(inputs, mode)
    if row.handle:
        x = load_preset(weights, config.image_size, row.pooling)(x)
    else:
        x = load_backbone(f"{row.package}.{config.backbone}", config.image_size, weights)(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, build_head(config, classes)(x))


def weights_of(config: Config) -> Path | None:
    """Return the file of the backbone's weights, or its preset's folder; None for random ones."""
    handle = BACKBONES[config.backbone].handle
    return find_weights(config.backbone, config.weights, LIB, ROOT / "input", handle)


# ----------------------------------------------------------------------------------- schedule


def train(config: Config, tables: PhotoTables, clock: Clock, others: list):
    """Train one network through the stages that are left; an interrupted one goes on.

    `others` are the finished members' probabilities of the test photos, for pseudo-labels. Returns
    the network of its chosen epoch, and the settings for its size of photos.
    """
    state, classes, network = clock.state, len(tables.competition.classes), None
    try:
        while state.stage < len(config.stages):
            while not state.stage_over:  # again where it diverged or memory did not suffice
                stage = clock.fit_epochs(state.stage)
                sized = at_scale(config, stage.scale)
                network = network_for(sized, classes, network)
                state.keep_first(network)
                try:
                    clock.check_epoch()
                    photos = with_pseudo_labels(sized, tables, network, stage, state, VIEWS, others)
                    trained = fit_stage(sized, photos, network, stage, clock)
                    print(stage_sentence(config, stage, clock, trained), flush=True)
                except Diverged as diverged:
                    cure = state.diverge(diverged.learning_rate)
                    print(f"The loss of {clock.name(stage)} is no longer a number: {cure}.")
                except OutOfMemory:
                    cure, network = state.halve_micro_batch(stage.name, config.batch_size), None
                    print(f"Out of memory in {clock.name(stage)}: {cure}.")
                write_report(state.folder.parent)
            head_only = config.stages[state.stage].views > 0
            state.advance(head_only or config.schedule == "plateau", head_only)
    except OutOfTime:
        print(f"Time is up in {clock.name(config.stages[state.stage])}: on to the prediction.")
        state.run_out_of_time()
    best = at_scale(config, config.stages[state.best_stage].scale)
    network = network_for(best, classes, network)
    state.load_best(network)
    interpolate_weights(best, tables, network, clock)
    return network, best


def network_for(config: Config, classes: int, network: keras.Model | None) -> keras.Model:
    """Return `network` where it has the settings' size, else a new one."""
    if network is not None and network.input_shape[1:3] == config.image_size:
        return network
    return build_model(config, classes, weights_of(config))


def fit_stage(config: Config, tables: PhotoTables, network, stage: Stage, clock: Clock) -> str:
    """Train the head and the upper part of the backbone; return a text of what trained."""
    if stage.views:
        return fit_head(config, tables, network, stage, clock, augmentation)
    state = clock.state
    rate = state.learning_rate or stage.learning_rate
    trained = unfreeze(config, network.get_layer("backbone"), stage)
    step = f"learning rate {rate:g}, {config.batch_size} photos a step"
    print(f"{clock.name(stage)} begins: {trained}, {step}", flush=True)
    batches = make_iterator(config, tables, tables.train, augmentation(config), shuffle=True)
    validation = make_iterator(config, tables, tables.validation)
    model = compile_model(config, network, stage, rate, state.mode_of(stage.name))
    state.restore(network, model.optimizer, model.trainable_variables)
    average = state.restore_average(network, config.ema)
    truth = tables.positions(tables.validation)
    validate = Validate(config, network, average, validation, truth, state.metric, batches)
    rates = rate_callbacks(config, clock, len(batches))
    callbacks = [average, validate, *rates, Checkpoint(config, clock, batches, validate, rates)]
    epochs = {"initial_epoch": state.epoch, "epochs": stage.epochs}
    model.fit(share(batches.as_tf_dataset()), callbacks=callbacks, verbose=0, **epochs)
    return trained


# --------------------------------------------------------------------------------------- main


def run_job(run: Run, job: Job, others: list):
    """Train one member on one fold and predict; return the `Fold` and the network."""
    config = run.members[job.member]
    config = replace(config, batch_size=shared_batch(config.batch_size))
    tables, views = run.folds[job.fold], views_of(config, VIEWS)
    keras.utils.set_random_seed(config.seed)
    clock = run.plan.begin(job)
    network, config = train(config, tables, clock, others)
    fold = predict(config, tables, network, clock, views, augmentation)
    return fold, network


def train_all(run: Run) -> None:
    """Train each member on each fold, blend them, and write the submission and all results."""
    state, output = run.state, run.output
    note_photos(output, run.folds)
    factory = StepFactory(weights_of, build_model, compile_model, augmentation)
    if scouts(run.config):
        run = scout(run, factory, BACKBONES, VIEWS, ROOT / "input", START)
        write_report(output)
        if run.config.scout_only:
            return
    plan = run.plan
    known = {name: decisive(each) for name, each in run.members.items()}
    members = MemberStore(output / "members", ROOT / "input", run.folds, state)
    plan.done = [job for job in plan.jobs if members.has(job.member, known[job.member], job.fold)]
    strategy = choose_step_mode(run.config, run.members, BACKBONES, run.folds[0], state, factory)
    for job in plan.jobs_to_run():  # every member on a fold before any on the next
        began = time.monotonic()
        clear_session()  # of the network before; inside the scope it would break it
        with strategy.scope(), failures_explained():
            fold, network = run_job(run, job, members.tests())
        write_network(network, members.network_file(job.member, job.fold, len(plan.jobs) == 1))
        cut = state.stage < len(run.members[job.member].stages)  # time was up
        members.add(job.member, known[job.member], fold, cut)
        state.finish_job(job.cost, time.monotonic() - began, cut)
        note_attention(output, network, run.folds[job.fold], fold)
    result = combine_members(members.by_name, run.folds, run.config.seed)
    write_results(run, result, VIEWS, ROOT / "input", time.monotonic() - START, augmentation)
    finish(output)


def main(argv: list[str] | None = None) -> int:
    """Run, and turn what can go wrong into one sentence and an exit status."""
    config, options = read_arguments(sys.argv[1:] if argv is None else argv)

    def work() -> None:
        if options.predict:
            return apply_run(options, Config, augmentation)
        with workplace(options, ROOT / "working" if ON_KAGGLE else None) as (output, scratch):
            if config.predict_from:
                places = COMPETITION, ROOT / "input", options.data, output, scratch, START
                return predict_competition(config, *places, BACKBONES, augmentation)
            run = open_run(config, options, output, scratch)
            if options.plan:
                print(forecast(run) if scouts(config) else run.plan.table())
            else:
                train_all(run)
        return None

    status = Boundary("kernel.py").run(work)
    return 0 if is_rerun() else status  # a scored run counts with the file that it has left


if __name__ == "__main__":
    if IN_CELL:
        main([])
    else:
        sys.exit(main())
