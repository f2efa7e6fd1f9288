"""Tiny folders in the layouts of twenty real competitions, for the tests of their recognition."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from tiny_competition import photo, write_csv


@dataclass(frozen=True)
class Expected:
    """What must be understood of a layout."""

    classes: list
    submission: str = "label"
    metric: str = ""
    """The metric that is given, where the files leave the form in doubt."""
    group: str = ""
    train: int = 24
    test: int = 4
    given: dict = field(default_factory=dict)


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), photo(path.name, (24, 32)))


def pack(folder: Path, name: str) -> None:
    """Replace a file or folder by a zip of its name."""
    source = folder / name
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as bundle:
        for file in files:
            bundle.write(file, file.relative_to(folder).as_posix())
            file.unlink()


def flat(
    folder: Path, labels: list, train: str, test: str, csv: str, columns: tuple, suffix: str,
    ids: Callable[[str], str], values: list, more: Callable = lambda n: (),
) -> None:  # fmt: skip
    """Write photos in one folder a set, a table and a sample submission.

    `values` is what the sample predicts; with several the columns are the labels.
    """
    rows, tests = [], [f"t{n:03d}" for n in range(4)]
    for n in range(24):
        name = f"p{n:03d}"
        put(folder / train / (name + suffix))
        rows.append((ids(name), labels[n % len(labels)], *more(n)))
    for name in tests:
        put(folder / test / (name + suffix))
    if csv:
        write_csv(folder / csv, rows, columns)
    header = (columns[0], *labels) if len(values) > 1 else columns[:2]
    write_csv(folder / "sample_submission.csv", [(ids(t), *values) for t in tests], header)


def with_suffix(suffix: str) -> Callable[[str], str]:
    return lambda name: name + suffix


def plain(name: str) -> str:
    return name


def cassava(folder):
    flat(folder, [0, 1, 2, 3, 4], "train_images", "test_images", "train.csv",
         ("image_id", "label"), ".jpg", with_suffix(".jpg"), [4])  # fmt: skip
    (folder / "label_num_to_disease_map.json").write_text("{}")
    (folder / "train_tfrecords").mkdir()
    (folder / "train_tfrecords" / "ld_train00-1338.tfrec").write_bytes(b"x")
    return Expected([0, 1, 2, 3, 4])


def paddy(folder):
    words = ["blast", "hispa", "normal"]
    rows = []
    for n in range(24):
        put(folder / "train_images" / words[n % 3] / f"1{n:05d}.jpg")
        rows.append((f"1{n:05d}.jpg", words[n % 3], "ADT45", 40 + n))
    for n in range(4):
        put(folder / "test_images" / f"2{n:05d}.jpg")
    write_csv(folder / "train.csv", rows, ("image_id", "label", "variety", "age"))
    tests = [(f"2{n:05d}.jpg", "") for n in range(4)]
    write_csv(folder / "sample_submission.csv", tests, ("image_id", "label"))
    return Expected(words)


def cactus(folder):
    flat(folder, [0, 1], "train", "test", "train.csv", ("id", "has_cactus"), ".jpg",
         with_suffix(".jpg"), [0.5])  # fmt: skip
    pack(folder, "train")
    pack(folder, "test")
    return Expected([0, 1], "probability")


def histopathologic(folder):
    flat(folder, [0, 1], "train", "test", "train_labels.csv", ("id", "label"), ".tif", plain, [0])
    return Expected([0, 1], "probability", metric="auc")


def invasive(folder):
    flat(folder, [0, 1], "train", "test", "train_labels.csv", ("name", "invasive"), ".jpg",
         lambda name: str(int(name[1:]) + (100 if name[0] == "t" else 1)), [0.5])  # fmt: skip
    for part, first in (("train", 1), ("test", 100)):
        for path in sorted((folder / part).iterdir()):
            path.rename(path.with_name(f"{int(path.stem[1:]) + first}.jpg"))
    pack(folder, "train_labels.csv")
    pack(folder, "sample_submission.csv")
    return Expected([0, 1], "probability")


def melanoma(folder):
    columns = ("image_name", "target", "patient_id", "sex", "age_approx", "diagnosis")
    flat(folder, [0, 1], "jpeg/train", "jpeg/test", "train.csv", columns, ".jpg", plain, [0],
         lambda n: (f"IP_{n % 5}", "male", 40 + n % 7, "unknown"))  # fmt: skip
    return Expected([0, 1], "probability", metric="auc", group="patient_id")


def aptos(folder):
    flat(folder, [0, 1, 2, 3, 4], "train_images", "test_images", "train.csv",
         ("id_code", "diagnosis"), ".png", plain, [0])  # fmt: skip
    return Expected([0, 1, 2, 3, 4], metric="kappa")


def leaf(folder):
    species = ["Acer_Opalus", "Quercus_Rubra", "Tilia_Tomentosa"]
    rows = [(n + 1, species[n % 3], *(n / 7 for _ in range(9))) for n in range(24)]
    names = [f"margin{n}" for n in range(1, 10)]
    for n in range(28):
        put(folder / "images" / f"{n + 1}.jpg")
    write_csv(folder / "train.csv", rows, ("id", "species", *names))
    tests = [(n + 25, *(n / 7 for _ in range(9))) for n in range(4)]
    write_csv(folder / "test.csv", tests, ("id", *names))
    sample = [(n + 25, *[1 / 3] * 3) for n in range(4)]
    write_csv(folder / "sample_submission.csv", sample, ("id", *species))
    return Expected(species, "probabilities")


def whale(folder):
    whales = ["new_whale", "w_1287fbc", "w_98baff9", "w_7554f44", "w_1eafe46", "w_fd1cb9d"]
    flat(folder, whales, "train", "test", "train.csv", ("Image", "Id"), ".jpg",
         with_suffix(".jpg"), [" ".join(whales[:5])])  # fmt: skip
    return Expected(sorted(whales), "best")


def iwildcam(folder):
    rows = []
    for n in range(24):
        put(folder / "train_images" / f"a{n:03d}-23d2.jpg")
        rows.append(
            (n % 4 * 3, "2011-05-13", f"a{n:03d}-23d2.jpg", 1, f"a{n:03d}-23d2", 33, n // 3)
        )
    columns = ("category_id", "date_captured", "file_name", "frame_num", "id", "location", "seq_id")
    write_csv(folder / "train.csv", rows, columns)
    tests = []
    for n in range(4):
        put(folder / "test_images" / f"b{n:03d}-23d2.jpg")
        tests.append(("2011-05-13", f"b{n:03d}-23d2.jpg", 1, f"b{n:03d}-23d2", 34, 90 + n))
    write_csv(folder / "test.csv", tests, columns[1:])
    sample = [(row[3], 0) for row in tests]
    write_csv(folder / "sample_submission.csv", sample, ("Id", "Category"))
    pack(folder, "train_images")
    pack(folder, "test_images")
    return Expected([0, 3, 6, 9], metric="macro-f1", group="seq_id")


def digits(folder):
    pixels = [f"pixel{n}" for n in range(64)]
    rows = [(n % 3, *(n * 9 % 256 for _ in pixels)) for n in range(24)]
    rows = [(row[0], *(row[1] + 3 * k % 50 for k in range(64))) for row in rows]
    write_csv(folder / "train.csv", rows, ("label", *pixels))
    write_csv(folder / "test.csv", [row[1:] for row in rows[:4]], pixels)
    sample = [(n + 1, 0) for n in range(4)]
    write_csv(folder / "sample_submission.csv", sample, ("ImageId", "Label"))
    return Expected([0, 1, 2])


def drawn(name: str) -> Callable[[Path], Expected]:
    """Return a writer of one of the layouts that cars are drawn in."""
    from sample.competition import draw_competition
    from sample.layouts import LAYOUTS

    spec = LAYOUTS[name]
    forms = {"label": "label", "probability": "probability", "columns": "probabilities"}

    def write(folder: Path) -> Expected:
        per_class = 24 // len(spec.labels) + 1
        draw_competition(folder, per_class, 2, (96, 128), layout=name)
        classes = [int(label) if label.isdecimal() else label for label in sorted(spec.labels)]
        return Expected(
            classes,
            forms[spec.form],
            spec.metric,
            "subject" if name == "state-farm" else "",
            per_class * len(classes),
            2 * len(classes),
            spec.untold,
        )

    return write


READABLE = {
    "cassava-leaf-disease-classification": cassava,
    "paddy-disease-classification": paddy,
    "aerial-cactus-identification": cactus,
    "histopathologic-cancer-detection": histopathologic,
    "invasive-species-monitoring": invasive,
    "siim-isic-melanoma-classification": melanoma,
    "aptos2019-blindness-detection": aptos,
    "leaf-classification": leaf,
    "whale-categorization-playground": whale,
    "iwildcam-2019-fgvc6": iwildcam,
    "digit-recognizer": digits,
}
DRAWN = ("home", "nested", "dog-breed", "plant-pathology", "plant-seedlings", "dogs-vs-cats")
DRAWN += ("state-farm",)
ALL = READABLE | {name: drawn(name) for name in DRAWN}
