"""Write a competition of four colours, which a network learns at once."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

COLOURS = {0: (200, 40, 40), 1: (40, 200, 40), 2: (40, 40, 200), 10: (200, 200, 40)}


def photo(rng: np.random.Generator, label: int, size=(48, 64)) -> np.ndarray:
    """Return a picture in its class' colour with a pattern of its own, uint8 [h, w, 3] BGR."""
    pattern = cv2.resize(rng.uniform(-40, 40, (6, 8)), size[::-1], interpolation=cv2.INTER_CUBIC)
    colour = np.array(COLOURS[label])[::-1]
    return np.clip(colour + pattern[..., None], 0, 255).astype(np.uint8)


def write_competition(folder: Path, per_class: int = 24, test_per_class: int = 3) -> Path:
    """Write a competition of four colours; beside it, solution.csv has the test photos' labels."""
    rng = np.random.default_rng(0)
    rows = {"train": [], "test_upload": []}
    for label in COLOURS:
        for number in range(per_class + test_per_class):
            part = "train" if number < per_class else "test_upload"
            inside = folder / part / (str(label) if part == "train" else "")
            inside.mkdir(parents=True, exist_ok=True)
            name = f"{label:02d}{number:04d}.jpg"
            assert cv2.imwrite(str(inside / name), photo(rng, label))
            rows[part].append({"Id": name, "Category": label})
    pd.DataFrame(rows["train"]).to_csv(folder / "train.csv", index=False)
    test = pd.DataFrame(rows["test_upload"]).sample(frac=1, random_state=0)
    test.to_csv(folder.parent / "solution.csv", index=False)
    test.assign(Category=0).to_csv(folder / "sample-submission.csv", index=False)
    return folder


def hidden_set(competition: Path, folder: Path, count: int, damaged: int = 0) -> pd.DataFrame:
    """Copy a competition with another test set in a random order; return its labels.

    The first of the photos are `damaged`.
    """
    shutil.copytree(competition, folder)
    shutil.rmtree(folder / "test_upload")
    (folder / "test_upload").mkdir()
    rng = np.random.default_rng(1)
    labels = rng.choice(list(COLOURS), count)
    names = [f"{number:05d}.jpg" for number in rng.permutation(count)]
    for number, (name, label) in enumerate(zip(names, labels, strict=True)):
        if number < damaged:
            (folder / "test_upload" / name).write_bytes(b"damaged")
        else:
            assert cv2.imwrite(str(folder / "test_upload" / name), photo(rng, label))
    truth = pd.DataFrame({"Id": names, "Category": labels})
    truth.assign(Category=0).to_csv(folder / "sample-submission.csv", index=False)
    return truth
