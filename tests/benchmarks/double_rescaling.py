"""What an ImageNet network loses when its input is scaled twice: the same network, fed two ranges.

    python tests/benchmarks/double_rescaling.py                             # drawn cars, Plain
    python tests/benchmarks/double_rescaling.py --data DIR --weights FILE   # real photos, MobileNet

The network contains its own scaling and expects 0..255. It gets that, and 0..1 as `rescale=1/255`
before it makes it: a nearly black picture. Nothing else differs. Printed is, for several seeds,
the accuracy on held-out photos of a linear head on the network's frozen features, which is what
the first stage of gradual unfreezing trains, and with --epochs after fine-tuning
all of it. DIR is a competition's folder with train.zip or class folders, FILE MobileNet's weights.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import keras
import numpy as np
import photos
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from kernelkit.train.backbones import load_backbone
from sample.competition import drawn_competition

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (1, 2, 3)
RANGES = {"0..255": 1.0, "0..1": 1 / 255}


def read_photos(tables, table, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return photos, float32 [n, height, width, 3] of 0..255, and positions of their classes."""
    read = (cv2.imread(path) for path in table.path)
    resized = [cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image in read]
    return np.stack(resized)[..., ::-1].astype("float32"), tables.positions(table)


def build(name: str, size: tuple[int, int], weights: Path, classes: int, seed: int):
    """Return (features, model): the network with its own scaling inside, and with a head."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((*size, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    features = keras.layers.GlobalAveragePooling2D()(load_backbone(name, size, weights)(x))
    head = keras.layers.Dense(classes, activation="softmax")(features)
    return keras.Model(inputs, features), keras.Model(inputs, head)


def probe(features: keras.Model, train, held) -> float:
    """Return the accuracy of a linear head on frozen features, each standardised."""
    ours, theirs = (features.predict(part[0], verbose=0) for part in (train, held))
    scaler = StandardScaler().fit(ours)
    head = LogisticRegression(max_iter=2000).fit(scaler.transform(ours), train[1])
    return head.score(scaler.transform(theirs), held[1])


def plain_head(features: keras.Model, train, held, classes: int) -> float:
    """Return the accuracy of a Dense layer that Adam trains on the frozen features."""
    ours, theirs = (features.predict(part[0], verbose=0) for part in (train, held))
    head = keras.Sequential([keras.Input(ours.shape[1:]), keras.layers.Dense(classes, "softmax")])
    head.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    head.fit(ours, train[1], epochs=12, batch_size=24, verbose=0)
    return head.evaluate(theirs, held[1], verbose=0)[1]


def fine_tuned(model: keras.Model, train, held, epochs: int) -> float:
    """Return the accuracy after the whole network has trained for some epochs."""
    optimizer = keras.optimizers.Adam(1e-4)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*train, epochs=epochs, batch_size=24, verbose=0)
    return model.evaluate(*held, verbose=0)[1]


def load(arguments, scratch: Path):
    """Return the photos' tables."""
    folder = arguments.data or drawn_competition(scratch / "drawn", 42)
    config = argparse.Namespace(
        limit=None, exclude=None, folds=1, validation_share=0.25, seed=42, workers=2
    )
    layout = photos.Layout(
        sample_csv="sample-submission.csv",
        train_csv="train.csv",
        train_photos=("train", "train.zip"),
        test_photos=("test_upload", "test.zip"),
    )
    return photos.load_tables(folder, layout, scratch, config)[0]


def main() -> None:
    """Print a row a seed and a range."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a competition's folder (drawn cars)")
    parser.add_argument("--weights", type=Path, help="MobileNet's weights without the top")
    parser.add_argument(
        "--epochs", type=int, default=0, help="of fine-tuning the whole network too (none)"
    )
    arguments = parser.parse_args()
    name, size = "kernelkit.train.backbones.Plain", (72, 96)
    weights = arguments.weights or ROOT / "lib" / "weights" / "plain_notop.weights.h5"
    if arguments.weights:
        name, size = "keras.applications.MobileNet", (160, 160)
    with tempfile.TemporaryDirectory() as scratch:
        tables = load(arguments, Path(scratch))
        parts = [read_photos(tables, part, size) for part in (tables.train, tables.validation)]
    classes = len(tables.competition.classes)
    print(f"{len(parts[0][0])} photos train, {len(parts[1][0])} are held out; {name} at {size}")
    columns = ["seed", "fed", "solver on frozen features", "Adam on them"]
    columns += ["all fine-tuned"] if arguments.epochs else []
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for seed in SEEDS:
        for fed, factor in RANGES.items():
            train, held = [(images * factor, labels) for images, labels in parts]
            features, model = build(name, size, weights, classes, seed)
            row = [probe(features, train, held), plain_head(features, train, held, classes)]
            row += [fine_tuned(model, train, held, arguments.epochs)] if arguments.epochs else []
            print(f"| {seed} | {fed} | " + " | ".join(f"{r:.3f}" for r in row) + " |", flush=True)


if __name__ == "__main__":
    main()
