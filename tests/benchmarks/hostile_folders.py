"""Draw folders at random that could mislead the kernel, and check every row that it submits.

    python tests/benchmarks/hostile_folders.py [--folders 30] [--seed 0] [--keep DIR] [--only 7]

Each folder combines a form of labels, of names, of packing, of order and of encoding, and clutter.
The class of a photo is its colour, which a network learns at once, so a submission shows whether
each Id got the prediction of its own photo. This script knows the right rows by itself and imports
nothing of the project: it runs `kernel.py` as a person would. A folder that the kernel calls
doubtful is tried again with the fields that a person would decide (`--set FIELD=VALUE`).

Printed is a row a folder. The exit status is 1 if any submission is wrong although the kernel ended
with 0, or if the kernel ended in an unexpected error.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.colors import hsv_to_rgb
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PER_CLASS, TESTS = 14, 13
SIDE = 16  # pixels of a picture in a table
TINY = ("--backbone", "Plain", "--weights", "drawn", "--stages", "head:0:1e-3:1:views=1")
TINY += ("--image-size", "48x64", "--tta", "1", "--preflight", "no", "--validation-share", "0.3")
TINY += ("--most-excluded", "0.05")  # one unusable photo of a few dozen is more than 2 %
RIGHT = 0.9  # of the rows must have their own photo's class; another order gets a third

CLASSES = {
    "numbers": ("0", "1", "2"),
    "far numbers": ("3", "12", "207"),
    "words": ("beetle", "golf", "polo"),
    "names in names": ("lion", "sea lion", "mountain lion"),
    "models": ("Audi", "Audi A4", "Audi A4 Avant"),
    "names of sets": ("train", "test", "valid"),
    "like sets": ("testarossa", "trainer", "contest winner"),
    "accents": ("citroën", "škoda", "日産"),
    "punctuation": ("o'neill", "black & white", "3.0 csl"),
    "two": ("cat", "dog"),
}
LABELS = ("table",) * 4 + ("one-hot", "folders", "folders", "folders and table")
LABELS += ("folders and table", "names", "names", "records", "hot records")
LABELS += ("pixels", "pixels of fractions")
NAMES = ("stems", "files", "numbers", "camera", "spaces", "paths", "capitals")
PACKING = ("folders", "zips", "one archive", "nested zips", "links", "one folder")
ORDERS = ("as the test table", "shuffled", "reversed")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "carriage returns", "quoted")
CLUTTER = ("system", "thumbnails", "exports", "earlier run", "environment", "notes")
TRAPS = ("none", "none", "test rows in the table", "group", "blank label", "unreadable photo")


@dataclass
class Case:
    """A folder and its right answer."""

    folder: Path
    data: Path
    words: dict[str, str]
    classes: tuple[str, ...]
    form: str
    truth: dict[str, str] = field(default_factory=dict)
    """The class of each row of the sample submission, by its Id and in its order."""
    columns: tuple[str, ...] = ()
    answers: dict[str, str] = field(default_factory=dict)
    """Fields of the competition's block that a person would decide."""


# ------------------------------------------------------------------------------------- drawing


def picture(rng: np.random.Generator, number: int, of: int, size: tuple[int, int]) -> np.ndarray:
    """Return a noisy picture whose colour is its class, uint8 [h, w, 3]."""
    hue = (number / of + rng.uniform(-0.02, 0.02)) % 1
    colour = 255 * hsv_to_rgb((hue, 0.8, 0.8))
    return (colour + rng.normal(0, 15, (*size, 3))).clip(0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "JPEG") -> bytes:
    """Return a picture as the bytes of a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write(path: Path, content: bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_table(path: Path, rows: list, header: tuple, encoding: str = "utf-8") -> None:
    """Write a CSV in one of the encodings above."""
    file = io.StringIO()
    quoting = csv.QUOTE_ALL if encoding == "quoted" else csv.QUOTE_MINIMAL
    ends = "\r" if encoding == "carriage returns" else "\n"
    csv.writer(file, lineterminator=ends, quoting=quoting).writerows([header, *rows])
    codec = encoding if encoding.startswith("utf") else "utf-8"
    write(path, file.getvalue().encode(codec))


def names_of(style: str, count: int, prefix: str, rng: np.random.Generator) -> list[str]:
    """Return the file names of photos, without folders."""
    numbers = [int(n) for n in rng.permutation(np.arange(1, 10 * count, 9))[:count]]
    start = {"train": 1000, "test": 5000}[prefix]
    if style == "numbers":
        return [f"{n + start}.jpg" for n in numbers]
    if style == "camera":
        heads = ("IMG_", "DSC_", "DSCN", "PXL_")
        return [f"{heads[n % 4]}{n + start:04d}.jpg" for n in numbers]
    if style == "spaces":
        return [f"photo no {n + start} (1).jpg" for n in numbers]
    if style == "capitals":
        return [f"{prefix[:2].upper()}{n:04d}.JPG" for n in numbers]
    return [f"{prefix[:2]}{n:04d}.jpg" for n in numbers]


# ------------------------------------------------------------------------------------- folders


def draw_case(folder: Path, seed: int) -> Case:
    """Draw a folder from all combinations that make sense."""
    rng = np.random.default_rng(seed)

    def pick(options: tuple) -> str:
        return str(options[rng.integers(len(options))])

    labels, kind = pick(LABELS), pick(tuple(CLASSES))
    if labels in ("records", "hot records", "pixels", "pixels of fractions"):
        kind = pick(("numbers", "far numbers"))
    if labels in ("hot records", "one-hot") and kind == "far numbers":
        kind = "numbers"
    if labels == "names":
        kind = pick(("words", "two", "accents"))
    form = "label" if labels not in ("one-hot",) else "probabilities"
    if labels in ("table", "folders and table") and kind not in ("numbers", "far numbers"):
        form = pick(("label", "probabilities"))
    if kind == "two" and labels == "table":
        form = pick(("label", "probability"))
    words = {
        "labels": labels,
        "classes": kind,
        "names": pick(NAMES),
        "packing": pick(PACKING),
        "order": pick(ORDERS),
        "encoding": pick(ENCODINGS),
        "clutter": pick(CLUTTER),
        "trap": pick(TRAPS),
    }
    if labels in ("names", "folders") or "records" in labels or "pixels" in labels:
        words["trap"] = "none"  # they need a table of labels
    if labels == "folders" or words["names"] == "camera":
        words["packing"] = words["packing"].replace("one folder", "folders")
    if "records" in labels or "pixels" in labels or labels in ("names", "folders and table"):
        words["packing"] = words["packing"].replace("one folder", "zips")
    if "pixels" in labels:
        words["packing"] = words["packing"].replace("nested zips", "zips")
    case = Case(folder, folder / "data", words, CLASSES[kind], form)
    case.data.mkdir(parents=True)
    build = {"records": records, "hot records": records, "pixels": pixels}.get(labels, photos)
    (pixels if labels == "pixels of fractions" else build)(case, rng)
    add_clutter(case, rng)
    pack(case)
    return case


def ordered(case: Case, ids: list[str], rng: np.random.Generator) -> list[str]:
    """Return the Ids in the order of the sample submission."""
    order = case.words["order"]
    if order == "shuffled":
        return [ids[n] for n in rng.permutation(len(ids))]
    return ids[::-1] if order == "reversed" else list(ids)


def write_sample(case: Case, truth: dict[str, str], rng: np.random.Generator) -> None:
    """Write the sample submission; keep the right answer."""
    id_name = "id" if case.words["labels"] in ("records", "hot records") else "image_id"
    case.truth = {Id: truth[Id] for Id in ordered(case, list(truth), rng)}
    if case.form == "probabilities":
        columns, values = case.classes, [f"{1 / len(case.classes):.4f}"] * len(case.classes)
    elif case.form == "probability":
        columns, values = ("is_dog",), ["0.5"]
    else:
        columns, values = ("label",), [case.classes[0]]
    case.columns = (id_name, *columns)
    rows = [[Id, *values] for Id in case.truth]
    write_table(case.data / "sample_submission.csv", rows, case.columns, case.words["encoding"])
    case.answers |= {"sample_csv": "sample_submission.csv", "submission": case.form}
    case.answers["metric"] = {"label": "accuracy"}.get(case.form, "log-loss")
    if case.form == "probability":
        case.answers["positive"] = "dog"


def photos(case: Case, rng: np.random.Generator) -> None:
    """Write photos as files, with labels in a table, in folders or in names."""
    words, classes = case.words, case.classes
    owners = [n % len(classes) for n in range(PER_CLASS * len(classes))]
    tests = [int(n) for n in rng.integers(0, len(classes), TESTS)]
    train_names = names_of(words["names"], len(owners), "train", rng)
    test_names = names_of(words["names"], len(tests), "test", rng)
    if words["labels"] == "names":
        train_names = [f"{classes[n]}.{name}" for n, name in zip(owners, train_names, strict=True)]
    together = words["packing"] == "one folder"
    train, test = ("images", "images") if together else ("train_images", "test_images")
    foldered = words["labels"] in ("folders", "folders and table")
    for owner, name in zip(owners, train_names, strict=True):
        inside = f"{train}/{classes[owner]}" if foldered else train
        write_picture(case.data / inside / name, rng, owner, len(classes))
    for owner, name in zip(tests, test_names, strict=True):
        write_picture(case.data / test / name, rng, owner, len(classes))
    stems = words["names"] in ("stems", "numbers", "capitals")
    test_ids = [name.rpartition(".")[0] if stems else name for name in test_names]
    if words["names"] == "paths":
        test_ids = [f"{test}/{name}" for name in test_names]
    truth = {Id: classes[n] for Id, n in zip(test_ids, tests, strict=True)}
    case.answers |= {"train_photos": train, "test_photos": test}
    if words["labels"] == "names":
        case.answers["pattern"] = r"^([^.]+)\."
    elif words["labels"] != "folders":
        ids = [name.rpartition(".")[0] if stems else name for name in train_names]
        if words["names"] == "paths":
            inside = [f"{train}/{classes[n]}" if foldered else train for n in owners]
            ids = [f"{i}/{name}" for i, name in zip(inside, train_names, strict=True)]
        table_of_labels(case, rng, list(zip(ids, owners, strict=True)), list(truth))
    write_sample(case, truth, rng)


def write_picture(path: Path, rng: np.random.Generator, owner: int, of: int) -> None:
    """Write a photo of a class."""
    size = (int(rng.integers(40, 60)), int(rng.integers(50, 80)))
    write(path, encoded(picture(rng, owner, of, size)))


def table_of_labels(case: Case, rng: np.random.Generator, rows: list, tests: list[str]) -> None:
    """Write train.csv, with the case's trap in it."""
    classes, trap = case.classes, case.words["trap"]
    one_hot = case.words["labels"] == "one-hot"
    header = ("image_id", *(classes if one_hot else ("label",)))

    def values(owner: int | None) -> list[str]:
        if one_hot:
            return ["1" if n == owner else "0" for n in range(len(classes))]
        return [classes[owner] if owner is not None else "-1"]

    table = [[Id, *values(owner)] for Id, owner in rows]
    if trap == "test rows in the table" and not one_hot:
        table += [[Id, *values(None)] for Id in tests]
    if trap == "blank label" and not one_hot:
        table[3][1] = ""
    if trap == "unreadable photo":
        broken = next((case.data).rglob(Path(rows[5][0]).name.rpartition(".")[0] + "*"), None)
        if broken is not None and broken.is_file():
            broken.write_bytes(broken.read_bytes()[:40])
    table = [table[n] for n in rng.permutation(len(table))]
    if trap == "group":
        header = (*header, "driver_id")
        table = [[*row, f"d{n % 12}"] for n, row in enumerate(table)]
    if case.form == "probability":  # the sample's column is none of the table's
        case.answers["label"] = "label"
    write_table(case.data / "train.csv", table, header, case.words["encoding"])
    case.answers |= {"train_csv": "train.csv", "id": "image_id"}
    case.answers["label"] = ",".join(classes) if one_hot else "label"


def records(case: Case, rng: np.random.Generator) -> None:
    """Write photos in TFRecords, their labels as numbers or one-hot."""
    import tensorflow as tf

    hot, classes = case.words["labels"] == "hot records", case.classes

    def integers(values: list[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def texts(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    truth: dict[str, str] = {}
    for part, count in (("train", PER_CLASS * len(classes)), ("test", TESTS)):
        written = []
        for number in range(count):
            owner = int(rng.integers(len(classes))) if part == "test" else number % len(classes)
            Id = f"{part[:2]}{int(rng.integers(10**6)):06d}{number}"
            features = {"image": texts(encoded(picture(rng, owner, len(classes), (48, 64))))}
            features["id"] = texts(Id.encode())
            if part == "test":
                truth[Id] = classes[owner]
            elif hot:
                features["class"] = integers([int(n == owner) for n in range(len(classes))])
            else:
                features["class"] = integers([int(classes[owner])])
            example = tf.train.Example(features=tf.train.Features(feature=features))
            written.append(example.SerializeToString())
        for shard in range(2):
            path = case.data / f"tfrecords-48x64/{part}/{shard:02d}-{part}.tfrec"
            path.parent.mkdir(parents=True, exist_ok=True)
            with tf.io.TFRecordWriter(str(path)) as file:
                for raw in written[shard::2]:
                    file.write(raw)
    case.answers |= {"packed": "tfrecords", "train_photos": "tfrecords-48x64/train"}
    case.answers["test_photos"] = "tfrecords-48x64/test"
    write_sample(case, truth, rng)


def pixels(case: Case, rng: np.random.Generator) -> None:
    """Write photos as rows of pixels; the test table has an Id and an order of its own."""
    classes, fractions = case.classes, case.words["labels"] == "pixels of fractions"
    names = [f"pixel{n}" for n in range(SIDE * SIDE * 3)]

    def row(owner: int) -> list:
        values = picture(rng, owner, len(classes), (SIDE, SIDE)).ravel()
        return [f"{v / 255:.4f}" for v in values] if fractions else values.tolist()

    owners = [n % len(classes) for n in range(PER_CLASS * len(classes))]
    table = [[classes[n], *row(n)] for n in owners]
    table = [table[n] for n in rng.permutation(len(table))]
    write_table(case.data / "train.csv", table, ("label", *names), case.words["encoding"])
    tests = [int(n) for n in rng.integers(0, len(classes), TESTS)]
    ids = [f"row{n}" for n in rng.permutation(900)[:TESTS]]
    rows = [[Id, *row(n)] for Id, n in zip(ids, tests, strict=True)]
    write_table(case.data / "test.csv", rows, ("image_id", *names), case.words["encoding"])
    truth = {Id: classes[n] for Id, n in zip(ids, tests, strict=True)}
    case.answers |= {"packed": "pixels", "train_csv": "train.csv", "label": "label"}
    case.answers |= {"train_photos": "train.csv", "test_photos": "test.csv"}
    write_sample(case, truth, rng)


def add_clutter(case: Case, rng: np.random.Generator) -> None:
    """Put files beside the competition's that mean nothing."""
    data, kind = case.data, case.words["clutter"]
    some = [path for path in data.iterdir() if path.is_dir()] or [data]
    photo = encoded(picture(rng, 0, 3, (30, 40)))
    if kind == "system":
        for folder in (data, *some):
            write(folder / "Thumbs.db", b"\xd0\xcf\x11\xe0")
            write(folder / ".DS_Store", b"\0\0\0\1Bud1")
            write(folder / "desktop.ini", b"[.ShellClassInfo]")
        write(data / "__MACOSX" / some[0].name / "._a.jpg", b"\0\5\x16\7")
        write(data / "System Volume Information/WPSettings.dat", b"\0")
    elif kind == "thumbnails":
        for folder in some:
            for number in range(3):
                write(folder / f"@eaDir/x{number}.jpg/SYNOPHOTO_THUMB_M.jpg", photo)
            write(folder / ".thumbnails/a.jpg", photo)
    elif kind == "exports":
        for folder in some:
            write(folder / "_annotations.csv", b"filename,width,height,class\na.jpg,1,1,x\n")
            write(folder / "labels.txt", b"a\nb\n")
    elif kind == "earlier run":
        Id = next(iter(case.truth))
        write_table(data / "output/submission.csv", [[Id, case.classes[0]]], case.columns[:2])
        write_table(data / "output/photos.csv", [["train", Id]], ("set", "Id"))
        write(data / "output/metrics.json", b'{"score": 0.5, "metric": "accuracy"}')
        write(data / "output/report/thumbnails/a.jpg", photo)
    elif kind == "environment":
        write(data / ".venv/pyvenv.cfg", b"home = /usr/bin\n")
        write(data / ".venv/lib/python3.11/site-packages/matplotlib/sample_data/a.jpg", photo)
        write(data / ".git/objects/aa/b.jpg", photo)
    else:
        write(data / "README.md", b"# Data\nSee the page.\n")
        write(data / "data_description.txt", b"image_id: the photo\n")


def pack(case: Case) -> None:
    """Put the folder into the packing of the case."""
    data, packing = case.data, case.words["packing"]
    large = [path for path in data.iterdir() if path.is_dir() and path.name.endswith("images")]
    if packing == "zips":
        for folder in large:
            zip_into(folder, data / f"{folder.name}.zip", folder.name)
            shutil.rmtree(folder)
    elif packing == "nested zips":
        for folder in large:
            zip_into(folder, data / "inner.zip", "")
            with zipfile.ZipFile(data / f"{folder.name}.zip", "w") as bundle:
                bundle.write(data / "inner.zip", f"{folder.name}.zip")
            (data / "inner.zip").unlink()
            shutil.rmtree(folder)
    elif packing == "one archive":
        zip_into(data, case.folder / "some-competition.zip", "")
        shutil.rmtree(data)
        data.mkdir()
        shutil.move(case.folder / "some-competition.zip", data / "some-competition.zip")
    elif packing == "links":
        elsewhere = case.folder / "elsewhere"
        for folder in large:
            shutil.move(folder, elsewhere / folder.name)
            folder.symlink_to(elsewhere / folder.name, target_is_directory=True)


def zip_into(folder: Path, archive: Path, inside: str) -> None:
    """Zip a folder's files under another name."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                bundle.write(path, (Path(inside) / path.relative_to(folder)).as_posix())


# ------------------------------------------------------------------------------------- checking


def run_kernel(case: Case, output: str, answers: dict[str, str]) -> subprocess.CompletedProcess:
    """Run kernel.py on the folder, in a process of its own."""
    options = [word for name, value in answers.items() for word in ("--set", f"{name}={value}")]
    return subprocess.run(
        [
            sys.executable, ROOT / "kernel.py", "--data", case.data,
            "--output", case.folder / output, *TINY, *options,
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "CUDA_VISIBLE_DEVICES": ""},
        cwd=case.folder,
    )  # fmt: skip


def faults_of(case: Case, output: Path) -> str:
    """Return what is wrong with a submission, "" where every row is right."""
    with open(output / "submission.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    if tuple(header) != case.columns:
        return f"columns {header}, not {list(case.columns)}"
    if [row[0] for row in rows] != list(case.truth):
        return f"Ids {[row[0] for row in rows][:3]} ..., not {list(case.truth)[:3]} ..."
    known = json.loads((output / "metrics.json").read_text(encoding="utf-8"))["classes"]
    if sorted(map(str, known)) != sorted(case.classes):
        return f"classes {known}, not {list(case.classes)}"
    truth = list(case.truth.values())
    if case.form == "label":
        given = [row[1] for row in rows]
    elif case.form == "probabilities":
        given = [case.columns[1 + int(np.argmax([float(v) for v in row[1:]]))] for row in rows]
    else:
        given = ["dog" if float(row[1]) > 0.5 else "cat" for row in rows]
    right = np.mean([a == b for a, b in zip(given, truth, strict=True)])
    if right < RIGHT:
        return f"{right:.0%} of the rows have their own photo's class"
    return ""


def judge(case: Case) -> tuple[str, str]:
    """Run the kernel, once more with a person's answers if it asks; return verdict and detail."""
    asked = ""
    for output, answers in (("output", {}), ("decided", case.answers)):
        ended = run_kernel(case, output, answers)
        said = ended.stderr.strip().splitlines()
        if ended.returncode == 0:
            fault = faults_of(case, case.folder / output)
            return ("WRONG", fault) if fault else ("right, asked" if asked else "right", asked)
        if "Traceback" in ended.stderr or "traceback.txt" in ended.stderr or not said:
            return "FAULT", (said or ["no word"])[-1]
        asked = asked or said[-1]
    return "refused", said[-1]


def main() -> int:
    """Print a row a folder and the count of each verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folders", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the first folder")
    parser.add_argument("--only", type=int, help="the seed of one folder")
    parser.add_argument("--keep", type=Path, help="where the folders stay")
    options = parser.parse_args()
    place = options.keep or Path(tempfile.mkdtemp(prefix="hostile-"))
    first = options.seed if options.only is None else options.only
    seeds = range(first, first + (options.folders if options.only is None else 1))
    counts: dict[str, int] = {}
    for seed in seeds:
        shutil.rmtree(place / str(seed), ignore_errors=True)
        case = draw_case(place / str(seed), seed)
        verdict, detail = judge(case)
        counts[verdict] = counts.get(verdict, 0) + 1
        print(f"{seed:4} {verdict:12} {', '.join(case.words.values())} ({case.form})", flush=True)
        if detail:
            print(f"     {' ' * 12} {detail[:400]}", flush=True)
        if not options.keep:
            shutil.rmtree(place / str(seed))
    print(", ".join(f"{verdict}: {count}" for verdict, count in sorted(counts.items())))
    return int(any(verdict in counts for verdict in ("WRONG", "FAULT")))


if __name__ == "__main__":
    sys.exit(main())
