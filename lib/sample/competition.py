"""A small competition, drawn on the spot: for a dry run without any data."""

import csv
import os
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from sample import NOTE
from sample.bodies import CARS
from sample.cars import draw_photo
from sample.features import FEATURES
from sample.layouts import LAYOUTS, Drawn, Planned, solution_row

QUALITY = 85  # the real competition's JPEGs have this quality
KINDS = tuple(CARS)  # the position of a kind is its label
SAMPLE_CSV = LAYOUTS["home"].sample_csv


def draw_competition(
    folder: str | Path,
    train_per_class: int = 60,
    test_per_class: int = 10,
    size: tuple[int, int] = (480, 640),
    seed: int = 0,
    solution: Path | None = None,
    layout: str = "home",
) -> None:
    """Draw a competition of up to ten kinds of cars in the layout of a real one, a row of LAYOUTS.

    The same arguments give the same photos, of `size` (height, width) in pixels. The sample
    submission, which marks a competition's folder, is written last; the truth of the test photos
    goes to the CSV `solution`, in the submission's columns.
    """
    folder, drawn = Path(folder), LAYOUTS[layout]
    folder.mkdir(parents=True, exist_ok=True)
    train, test = plan(train_per_class, test_per_class, seed, drawn.labels)
    places = {drawn.train(photo): photo for photo in train}
    places |= {drawn.test(photo): photo for photo in test}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = pool.map(lambda item: draw_file(*item, seed, size), places.items())
        write_photos(folder, drawn, zip(places, pictures, strict=True))
    if solution is not None:
        write_csv(Path(solution), [drawn.header, *(solution_row(drawn, photo) for photo in test)])
    if drawn.table:
        write_csv(folder / drawn.train_csv, drawn.table(train))
    guess = (drawn.sample_value,) * (len(drawn.header) - 1)
    rows = [(drawn.Id(photo), *guess) for photo in test]
    write_csv(folder / drawn.sample_csv, [drawn.header, *rows])


def split_off_public(hidden: Path, solution: Path, public: Path, damaged: int = 0) -> Path:
    """Make the public part of a code competition, of three test photos; return its solution.

    `hidden` is a folder that `draw_competition` made in the home layout, of which `damaged` photos
    become unreadable, and `solution` has its labels; `public` gets a copy that shows three of them.
    """
    shutil.copytree(hidden, public)
    with solution.open(encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    names = [row[0] for row in rows]
    shown, spoilt = set(names[:3]), set(names[3 : 3 + damaged])
    with zipfile.ZipFile(hidden / "test.zip") as archive:
        photos = {name: archive.read(name) for name in archive.namelist()}
    for folder, some in ((public, True), (hidden, False)):
        with zipfile.ZipFile(folder / "test.zip", "w") as archive:
            for name, content in photos.items():
                if not some or Path(name).name in shown:
                    archive.writestr(name, content[:99] if Path(name).name in spoilt else content)
    write_csv(public / SAMPLE_CSV, [header, *((name, 0) for name in sorted(shown))])
    answers = public.with_name(f"{public.name}-answers.csv")
    write_csv(answers, [header, *rows[:3]])
    return answers


def drawn_competition(folder: Path, seed: int) -> Path:
    """Return `folder` with the drawn competition, drawn unless it is complete; say what it is."""
    print(NOTE)
    if not (folder / SAMPLE_CSV).is_file():  # which is written last
        draw_competition(folder, seed=seed)
    return folder


def plan(
    train_per_class: int, test_per_class: int, seed: int, labels: Sequence[str] = ()
) -> tuple[list[Planned], ...]:
    """Return the training and the test photos, each in a random order, of the first kinds.

    Their labels are `labels`; none are all kinds' positions.
    """
    labels = labels or LAYOUTS["home"].labels
    rng = np.random.default_rng(seed)
    per_class = train_per_class + test_per_class
    count = per_class * len(labels)
    names = rng.choice(np.arange(100_000, 400_000), count, replace=False)
    order = [int(number) for number in rng.permutation(count)]
    photos = [
        Planned(number, str(names[number]), number // per_class, labels[number // per_class])
        for number in order
    ]
    train = [photo for photo in photos if photo.number % per_class < train_per_class]
    test = [photo for photo in photos if photo.number % per_class >= train_per_class]
    return train, test


def draw_file(path: str, photo: Planned, seed: int, size: tuple[int, int]) -> bytes:
    """Return a photo's file, a JPEG or PNG as its path says."""
    rng, kind = np.random.default_rng([seed, photo.number]), KINDS[photo.kind]
    picture = draw_photo(rng, CARS[kind], FEATURES.get(kind), size)
    flags = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if path.endswith(".jpg") else []
    _, encoded = cv2.imencode(Path(path).suffix, picture[..., ::-1], flags)
    return encoded.tobytes()


def write_photos(folder: Path, drawn: Drawn, files: Iterable[tuple[str, bytes]]) -> None:
    """Write photos into their folders or zips."""
    archives = {f"{inside}/": folder / archive for inside, archive in drawn.zips}
    members: dict[Path, list[tuple[str, bytes]]] = {path: [] for path in archives.values()}
    for name, content in files:
        inside = next((start for start in archives if name.startswith(start)), None)
        if inside is not None:
            members[archives[inside]].append((name, content))
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for archive, parts in members.items():
        with zipfile.ZipFile(archive, "w") as bundle:
            for name, content in parts:  # without times, so that equal contents make equal files
                bundle.writestr(zipfile.ZipInfo(name), content)


def write_csv(path: Path, rows: Sequence[tuple]) -> None:
    """Write a header and rows."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
