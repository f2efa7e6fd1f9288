"""Measure the input pipeline beside a naive port, its upper limits and other libraries.

    PHOTOS=folder python tests/benchmarks/input_pipeline.py [--seconds 8] [--peers]

Each pipeline turns 640x480 JPEGs of quality 85 into batches of 32 at 336 px, through the
augmentation list of the reference recipe. The photos are those in the folder PHOTOS (pictures, or
zip archives of them), enlarged. Without PHOTOS they are drawn. All pipelines take turns in short
slices, so that a noisy machine slows them alike. Only the ratios mean anything.
"""

import argparse
import itertools
import os
import random
import sys
import tempfile
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # FancyPCA would take all cores
sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "lib"))

import albumentations as A
import cv2
import numpy as np
import psutil
from tqdm import tqdm

import kernel
from bare_kernels import bare_kernels
from ImageDataAugmentor import ImageDataAugmentor
from peers import (
    BATCH,
    SIZE,
    Naive,
    OneForEach,
    grain_loader,
    keras_dataset,
    tf_data,
    torch_loader,
)

SLICE = 1.0  # seconds that a pipeline is measured before the next one's turn
SETTLING = 0.5  # seconds before that, in which tf.data uses up the batches that it holds ready


def reference_list() -> A.Compose:
    """Return the reference recipe's augmentation, ported to albumentations 2."""
    contrast = A.RandomBrightnessContrast
    return A.Compose(
        [
            A.GaussianBlur(sigma_limit=(0.8, 1.4), p=0.05),
            contrast(brightness_limit=0.2, contrast_limit=0, p=0.5),
            A.Affine(
                translate_percent=(-0.0625, 0.0625),
                scale=(0.99, 1.01),
                rotate=(-20, 20),
                border_mode=cv2.BORDER_REFLECT_101,
                p=0.75,
            ),
            A.OneOf([A.CenterCrop(224, 200), A.CenterCrop(200, 224)], p=0.5),
            A.OneOf([contrast(0.3, 0.3), contrast(0.1, 0.1)], p=0.5),
            A.HorizontalFlip(p=0.5),
            A.HueSaturationValue(p=0.5),
            A.RGBShift(p=0.5),
            A.FancyPCA(alpha=0.1, p=0.5),
            A.Resize(SIZE, SIZE),
        ]
    )


def without_fancy_pca(compose: A.Compose) -> A.Compose:
    """Return the list without FancyPCA, which takes longer than all others in albumentations 2."""
    return A.Compose([t for t in compose.transforms if not isinstance(t, A.FancyPCA)])


def make_photos(folder: Path, count: int) -> list[str]:
    """Write 640x480 JPEGs in one class folder, from PHOTOS or drawn; return their paths."""
    (folder / "cars").mkdir()
    pictures = itertools.islice(itertools.cycle(_sources()), count)
    paths = []
    for number, picture in enumerate(pictures):
        path = str(folder / "cars" / f"{number:05d}.jpg")
        picture = cv2.resize(picture, (640, 480), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(path, picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
        paths.append(path)
    return paths


def _sources() -> list[np.ndarray]:
    folder = os.environ.get("PHOTOS")
    if not folder:
        print("PHOTOS names no folder: the photos are drawn, and compress better than real ones.")
        return [_drawing(np.random.default_rng(seed)) for seed in range(100)]
    data = [path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))]
    for archive in sorted(Path(folder).glob("*.zip")):
        with zipfile.ZipFile(archive) as opened:
            data += [opened.read(name) for name in opened.namelist() if name.endswith(".jpg")]
    return [cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR) for one in data[:600]]


def _drawing(rng: np.random.Generator) -> np.ndarray:
    picture = cv2.resize(rng.integers(0, 256, (9, 12, 3), np.uint8), (640, 480))
    for _ in range(40):
        start, end = rng.integers(0, 640, (2, 2)).tolist()
        cv2.rectangle(
            picture, start, end, rng.integers(0, 256, 3).tolist(), int(rng.integers(1, 9))
        )
    noise = rng.normal(0, 6, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def in_threads(work: Callable[[int], object], n: int, workers: int) -> Iterator[int]:
    """Call `work(i)` in threads, a batch of numbers i at a time; yield the sizes, without end."""

    def share(start: int) -> int:
        for i in range(start, start + BATCH):
            work(i % n)
        return BATCH

    with ThreadPoolExecutor(workers) as pool:
        starts = itertools.count(0, BATCH)
        running = [pool.submit(share, next(starts)) for _ in range(2 * workers)]
        while True:
            done = running.pop(0).result()
            running.append(pool.submit(share, next(starts)))
            yield done


def ours(
    folder: Path,
    augment,
    workers: int,
    cache: bool,
    processes: bool = True,
    dtype: str = "uint8",
    size: tuple[int, int] = (SIZE, SIZE),
    filter: int = cv2.INTER_LINEAR,
    kept: tuple[int, int] | None = None,
) -> Iterator[int]:
    """Yield the sizes of this library's batches, without end."""
    augmentor = ImageDataAugmentor(
        augment=augment, seed=1, workers=workers, processes=processes, cache=cache or None
    )
    flow = augmentor.flow_from_directory(
        folder,
        target_size=size,
        batch_size=BATCH,
        interpolation=filter,
        dtype=dtype,
        verbose=False,
        class_mode="sparse",
    )
    flow.loader = replace(flow.loader, kept_size=kept)
    if cache:
        for _ in range(len(flow)):
            next(flow)
    for x, _ in flow:
        yield len(x)


def cpu_seconds() -> float:
    """Return the processor time, in seconds, of this process and its worker processes."""
    workers = (one.cpu_times() for one in psutil.Process().children())
    return time.process_time() + sum(times.user + times.system for times in workers)


@dataclass
class Measured:
    """A pipeline, and the images, seconds and processor seconds that were counted."""

    name: str
    batches: Iterator[int]
    images: int = 0
    seconds: float = 0.0
    cpu: float = 0.0

    def run(self) -> None:
        """Take a turn. The first batches do not count, because they were made ready before it."""
        started = time.perf_counter()
        while time.perf_counter() - started < SETTLING:
            next(self.batches)
        wall, cpu = time.perf_counter(), cpu_seconds()
        while time.perf_counter() - wall < SLICE:
            self.images += next(self.batches)
        self.seconds += time.perf_counter() - wall
        self.cpu += cpu_seconds() - cpu
        time.sleep(0.1)  # Batches that were started ahead finish meanwhile.

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


def pipelines(folder: Path, paths: list[str], peers: bool) -> list[Measured]:
    """Return everything that is to be measured."""
    files = [np.fromfile(path, np.uint8) for path in paths]
    photos = [cv2.resize(cv2.imread(path, cv2.IMREAD_COLOR_RGB), (SIZE, SIZE)) for path in paths]
    measured = [Measured("naive port, 1 thread", Naive(reference_list()).batches(paths))]
    for workers in (1, 2):
        measured += [
            Measured(f"{name}, {workers} worker{'s' * (workers > 1)}", batches)
            for name, batches in {
                **limits(files, photos, workers),
                **our_pipelines(folder, workers),
            }.items()
        ]
    return measured + peer_pipelines(folder, paths) if peers else measured


def limits(
    files: list[np.ndarray], photos: list[np.ndarray], workers: int
) -> dict[str, Iterator[int]]:
    """Return what no pipeline can exceed: decoding, copying and the bare OpenCV calls."""
    own = threading.local()

    def decode(i: int) -> None:
        cv2.imdecode(files[i], cv2.IMREAD_COLOR)

    def copy(i: int) -> None:
        if not hasattr(own, "batch"):
            own.batch = np.empty((BATCH, SIZE, SIZE, 3), np.uint8)
        own.batch[i % BATCH] = photos[i]

    def bare(i: int) -> None:
        if not hasattr(own, "rng"):
            own.rng = random.Random(i)
            copy(i)
        own.batch[i % BATCH] = bare_kernels(photos[i], own.rng)

    works = {"pure decode": decode, "memory copy": copy, "bare kernels": bare}
    return {name: in_threads(work, len(photos), workers) for name, work in works.items()}


def our_pipelines(folder: Path, workers: int) -> dict[str, Iterator[int]]:
    """Return this library's pipelines: plain and fused, without and with a cache."""
    plain, fused = reference_list(), ImageDataAugmentor.fuse(reference_list())
    return {
        "ours unaugmented, cold": ours(folder, None, workers, False),
        "ours plain, cold": ours(folder, plain, workers, False),
        "ours fused, cold": ours(folder, fused, workers, False),
        "ours plain, cached": ours(folder, plain, workers, True),
        "ours plain without FancyPCA, cached": ours(
            folder, without_fancy_pca(plain), workers, True
        ),
        "ours fused, cached": ours(folder, fused, workers, True),
        "ours fused, cached, threads": ours(folder, fused, workers, True, processes=False),
        "kernel's default at 384x512, cached": kernels_default(folder, workers, None),
        "kernel's default, kept at 442x589": kernels_default(folder, workers, (442, 589)),
    }


def kernels_default(folder: Path, workers: int, kept: tuple[int, int] | None) -> Iterator[int]:
    """Yield the sizes of the kernel's own batches at 384x512, without end.

    `kept` is the size at which decoded photos are kept where another view needs a larger one.
    """
    augment = ImageDataAugmentor.fuse(kernel.default_augmentation(384, 512))
    size = {"size": (384, 512), "filter": cv2.INTER_AREA, "kept": kept}
    yield from ours(folder, augment, workers, True, **size)


def peer_pipelines(folder: Path, paths: list[str]) -> list[Measured]:
    """Return the pipelines of other libraries, and ours in float32 for comparison with Keras."""
    floats = ours(folder, None, 2, False, dtype="float32")
    measured = [
        Measured("ours unaugmented, float32, 2 workers", floats),
        Measured("keras unaugmented, 2 workers", keras_dataset(folder)),
    ]
    for library in (tf_data, torch_loader, grain_loader):
        for name, compose in {
            "plain": reference_list,
            "fused": lambda: ImageDataAugmentor.fuse(reference_list()),
        }.items():
            batches = library(paths, OneForEach(compose), 2)
            measured.append(Measured(f"{library.__name__} {name}, 2 workers", batches))
    return measured


def report(measured: list[Measured]) -> None:
    """Print the rates and their ratios."""
    rates = {one.name: one.rate for one in measured}
    naive, decode = rates["naive port, 1 thread"], rates["pure decode, 2 workers"]
    bare = rates["bare kernels, 1 worker"]  # Two cores do twice as many.
    head = f"{'pipeline':48} {'images/s':>9} {'CPU ms':>7} {'x naive':>8}"
    print(f"{head} {'of decode x 2':>13} {'of bare':>11}")
    for one in measured:
        print(
            f"{one.name:48} {one.rate:9.0f} {1000 * one.cpu / one.images:7.2f} "
            f"{one.rate / naive:8.2f} {one.rate / decode:13.0%} "
            f"{one.rate / bare / (1 + ('2 workers' in one.name)):11.0%}"
        )
    print()
    for name in rates:
        if name.endswith(", 1 worker"):
            label = name.removesuffix(", 1 worker")
            print(
                f"two workers over one, {label:38} {rates[f'{label}, 2 workers'] / rates[name]:.2f}"
            )


def main() -> None:
    """Measure all pipelines and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4, help="time for each pipeline")
    parser.add_argument("--photos", type=int, default=600, help="number of photos")
    parser.add_argument("--peers", action="store_true", help="Keras, tf.data, torch and grain too")
    parser.add_argument("--only", default="", help="pipelines whose names contain this")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cv2.setNumThreads(1)  # OpenCV's own threads would add to each worker's.
    with tempfile.TemporaryDirectory() as folder:
        paths = make_photos(Path(folder), arguments.photos)
        size = sum(map(os.path.getsize, paths)) / len(paths) / 1000
        print(f"{len(paths)} photos of 640x480, {size:.0f} KB on average, OpenCV {cv2.__version__}")
        measured = []
        for one in pipelines(Path(folder), paths, arguments.peers):
            if arguments.only in one.name or one.name.startswith(("naive", "pure", "bare")):
                measured.append(one)
        for _ in tqdm(range(max(1, round(arguments.seconds / SLICE))), unit="round"):
            for one in list(measured):
                try:
                    one.run()
                except ImportError as error:
                    print(f"{one.name}: left out ({error})")
                    measured.remove(one)
        report(measured)


if __name__ == "__main__":
    main()
