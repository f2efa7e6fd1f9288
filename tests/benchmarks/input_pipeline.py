"""Images a second of the input pipeline, beside a naive port, its ceilings and its peers.

    PHOTOS=folder python tests/benchmarks/input_pipeline.py [--seconds 8] [--peers]

The work: 640x480 JPEGs of quality 85 to batches of 32 at 336 px, through the augmentation list of
the reference recipe. The photos are those found in the folder PHOTOS (pictures, or zip archives of
them), enlarged; drawn ones without it. All pipelines take turns in short slices, so that a noisy
machine disturbs them alike; only the ratios mean anything.
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
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one thread is one thread: FancyPCA would take all cores
sys.path.insert(0, str(Path(__file__).parents[2] / "lib"))

import albumentations as A
import cv2
import numpy as np
import psutil
from albucore import sz_lut
from tqdm import tqdm

from ImageDataAugmentor import ImageDataAugmentor

SIZE, BATCH = 336, 32
SLICE = 1.0  # seconds a pipeline runs before the next one's turn
SETTLING = 0.5  # seconds before that: tf.data holds a good many batches ready


def reference_list() -> A.Compose:
    """The reference recipe's augmentation, in albumentations 2's words."""
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
    """The list without the transform that albumentations 2 made slower than all others together."""
    return A.Compose([t for t in compose.transforms if not isinstance(t, A.FancyPCA)])


def make_photos(folder: Path, count: int) -> list[str]:
    """640x480 JPEGs in one class folder, from PHOTOS or drawn; returns their paths."""
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


def bare_kernels(image: np.ndarray, rng: random.Random) -> np.ndarray:
    """The fused list's OpenCV calls and nothing else: what the fused pipeline is measured against.

    The same kernels at the same odds, their parameters drawn in the cheapest way.
    """
    if rng.random() < 0.05:
        image = cv2.GaussianBlur(image, (5, 5), rng.uniform(0.8, 1.4))
    if rng.random() < 0.5:
        image = sz_lut(image, _colour_table(1, rng.uniform(-51, 51)), inplace=False)
    matrix = None
    if rng.random() < 0.75:
        centre = (SIZE - 1) / 2
        matrix = cv2.getRotationMatrix2D(
            (centre, centre), rng.uniform(-20, 20), rng.uniform(0.99, 1.01)
        )
        matrix[:, 2] += rng.uniform(-21, 21), rng.uniform(-21, 21)
    crop = rng.choice([(224, 200), (200, 224)]) if rng.random() < 0.5 else (SIZE, SIZE)
    flip = rng.random() < 0.5
    top, left = (SIZE - crop[0]) // 2, (SIZE - crop[1]) // 2
    if matrix is not None:
        matrix[:, 2] -= left, top
        if flip:
            matrix = np.diag([-1.0, 1]) @ matrix + [[0, 0, crop[1] - 1], [0, 0, 0]]
        four = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
        four = cv2.warpAffine(four, matrix, crop[::-1], borderMode=cv2.BORDER_REFLECT_101)
        image = cv2.cvtColor(four, cv2.COLOR_RGBA2RGB)
    else:
        image = image[top : top + crop[0], left : left + crop[1]]
        if flip:
            image = cv2.flip(image, 1)
    if rng.random() < 0.5:
        limit = rng.choice([0.3, 0.1])
        factor, shift = 1 + rng.uniform(-limit, limit), 255 * rng.uniform(-limit, limit)
        image = sz_lut(image, _colour_table(factor, shift), inplace=False)
    if rng.random() < 0.5:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        planes = _planes(hsv)
        for plane, table in zip(planes, _HSV_TABLES, strict=True):
            sz_lut(plane, table, inplace=True)
        image = cv2.cvtColor(cv2.merge(planes, dst=hsv), cv2.COLOR_HSV2RGB)
    if rng.random() < 0.5:
        shifts = [rng.randint(-20, 20) for _ in range(3)]
        image = cv2.add(image, (*(max(shift, 0) for shift in shifts), 0))
        image = cv2.subtract(image, (*(max(-shift, 0) for shift in shifts), 0), dst=image)
    if rng.random() < 0.5:
        rows = np.ascontiguousarray(image[::4])
        image = cv2.transform(image, _principal_matrix(rows, rng))
    return cv2.resize(image, (SIZE, SIZE)) if crop[0] < SIZE else image


_RAMP = np.arange(256, dtype=np.float32)
_HSV_TABLES = ((_RAMP + 9) % 180).astype(np.uint8), _RAMP.astype(np.uint8), _RAMP.astype(np.uint8)


def _colour_table(factor: float, shift: float) -> np.ndarray:
    return (_RAMP * factor + shift).clip(0, 255).astype(np.uint8)


def _planes(image: np.ndarray) -> list[np.ndarray]:
    return cv2.split(image, [np.empty(image.shape[:2], np.uint8) for _ in range(3)])


def _principal_matrix(image: np.ndarray, rng: random.Random) -> np.ndarray:
    r, g, b = _planes(image)
    rr, gg, bb = (cv2.norm(plane, cv2.NORM_L2SQR) for plane in (r, g, b))
    rg, rb, gb = (cv2.norm(*pair, cv2.NORM_L2SQR) for pair in ((r, g), (r, b), (g, b)))
    mean = np.array(cv2.sumElems(image)[:3]) / r.size
    moments = [
        [rr, 0, 0],
        [(rr + gg - rg) / 2, gg, 0],
        [(rr + bb - rb) / 2, (gg + bb - gb) / 2, bb],
    ]
    covariance = np.array(moments) / r.size - np.outer(mean, mean)
    variances, vectors = np.linalg.eigh(covariance / 255**2)
    scaled = vectors * variances * [rng.gauss(0, 0.1) for _ in range(3)]
    return np.column_stack([np.eye(3) + scaled, -scaled @ mean])


class Naive:
    """What a first port looks like: imread, resize, Compose, float32, on one thread."""

    def __init__(self, compose: A.Compose, dtype=np.float32):
        self._compose, self._dtype = compose, dtype

    def __call__(self, path: str) -> np.ndarray:
        """One photo."""
        image = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        image = cv2.resize(image, (SIZE, SIZE))
        return self._compose(image=image)["image"].astype(self._dtype, copy=False)

    def batches(self, paths: list[str]) -> Iterator[int]:
        """Endless batches."""
        for start in itertools.cycle(range(0, len(paths) - BATCH + 1, BATCH)):
            yield len(np.stack([self(path) for path in paths[start : start + BATCH]]))


def in_threads(work: Callable[[int], object], n: int, workers: int) -> Iterator[int]:
    """Endless rounds of `work(i)`, a batch of i's to each thread at a time."""

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
    folder: Path, augment, workers: int, cache: bool, processes: bool = True, dtype: str = "uint8"
) -> Iterator[int]:
    """Endless batches of this library."""
    augmentor = ImageDataAugmentor(
        augment=augment, seed=1, workers=workers, processes=processes, cache=cache or None
    )
    flow = augmentor.flow_from_directory(
        folder,
        target_size=(SIZE, SIZE),
        batch_size=BATCH,
        interpolation=cv2.INTER_LINEAR,
        dtype=dtype,
        class_mode="sparse",
    )
    if cache:
        for _ in range(len(flow)):
            next(flow)
    for x, _ in flow:
        yield len(x)


def tf_data(paths: list[str], work: Callable[[str], np.ndarray], workers: int) -> Iterator[int]:
    """Endless batches of tf.data with a numpy_function."""
    import tensorflow as tf

    def load(path):
        return tf.numpy_function(lambda p: work(p.decode()), [path], tf.uint8)

    dataset = tf.data.Dataset.from_tensor_slices(paths).repeat()
    dataset = dataset.map(load, num_parallel_calls=workers).batch(BATCH).prefetch(2)
    for batch in dataset:
        yield int(batch.shape[0])


def keras_dataset(folder: Path) -> Iterator[int]:
    """Endless float32 batches of Keras' own loader, which augments nothing."""
    import keras

    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIZE, SIZE), batch_size=BATCH, labels=None, verbose=False
    )
    for batch in dataset.repeat():
        yield int(batch.shape[0])


def torch_loader(
    paths: list[str], work: Callable[[str], np.ndarray], workers: int
) -> Iterator[int]:
    """Endless batches of torch's DataLoader."""
    import torch

    class Photos(torch.utils.data.Dataset):
        def __len__(self):
            return len(paths)

        def __getitem__(self, index):
            return work(paths[index])

    loader = torch.utils.data.DataLoader(
        Photos(), batch_size=BATCH, num_workers=workers, persistent_workers=True
    )
    while True:
        for batch in loader:
            yield len(batch)


def grain_loader(
    paths: list[str], work: Callable[[str], np.ndarray], workers: int
) -> Iterator[int]:
    """Endless batches of grain, in threads."""
    import grain

    dataset = grain.MapDataset.source(paths).repeat().map(work)
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * BATCH)
    for batch in dataset.to_iter_dataset(options).batch(BATCH):
        yield len(batch)


class OneForEach:
    """A naive pipeline for each of the calls that run at once, because a Compose cannot be shared.

    uint8 like ours. Not one for each thread: TensorFlow's are new ones to Python at every call.
    """

    def __init__(self, make_compose: Callable[[], A.Compose]):
        self._make, self._free = make_compose, deque()

    def __call__(self, path: str) -> np.ndarray:
        """One photo."""
        try:
            naive = self._free.pop()
        except IndexError:
            naive = Naive(self._make(), np.uint8)
        image = naive(path)
        self._free.append(naive)
        return image

    def __getstate__(self):
        return {"_make": self._make}

    def __setstate__(self, state):
        self.__init__(state["_make"])


def cpu_seconds() -> float:
    """Processor time of this process and its worker processes."""
    workers = (one.cpu_times() for one in psutil.Process().children())
    return time.process_time() + sum(times.user + times.system for times in workers)


@dataclass
class Measured:
    """A pipeline and what it did so far."""

    name: str
    batches: Iterator[int]
    images: int = 0
    seconds: float = 0.0
    cpu: float = 0.0

    def run(self) -> None:
        """Take a turn; the first batches do not count: they were made ready during the others'."""
        started = time.perf_counter()
        while time.perf_counter() - started < SETTLING:
            next(self.batches)
        wall, cpu = time.perf_counter(), cpu_seconds()
        while time.perf_counter() - wall < SLICE:
            self.images += next(self.batches)
        self.seconds += time.perf_counter() - wall
        self.cpu += cpu_seconds() - cpu
        time.sleep(0.1)  # lets what was begun ahead finish

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


def pipelines(folder: Path, paths: list[str], peers: bool) -> list[Measured]:
    """Everything that is measured."""
    n = len(paths)
    files = [np.fromfile(path, np.uint8) for path in paths]
    photos = [cv2.resize(cv2.imread(path, cv2.IMREAD_COLOR_RGB), (SIZE, SIZE)) for path in paths]
    target = threading.local()

    def copy(i: int) -> None:
        if not hasattr(target, "batch"):
            target.batch = np.empty((BATCH, SIZE, SIZE, 3), np.uint8)
        target.batch[i % BATCH] = photos[i]

    def bare(i: int) -> None:
        if not hasattr(target, "rng"):
            target.rng = random.Random(i)
            copy(i)
        target.batch[i % BATCH] = bare_kernels(photos[i], target.rng)

    plain, fused = reference_list(), ImageDataAugmentor.fuse(reference_list())
    measured = [Measured("naive port, 1 thread", Naive(reference_list()).batches(paths))]
    for workers in (1, 2):
        label = f"{workers} worker{'s' * (workers > 1)}"
        for name, batches in {
            "pure decode": in_threads(
                lambda i: cv2.imdecode(files[i], cv2.IMREAD_COLOR), n, workers
            ),
            "memory copy": in_threads(copy, n, workers),
            "ours unaugmented, cold": ours(folder, None, workers, False),
            "bare kernels": in_threads(bare, n, workers),
            "ours plain, cold": ours(folder, plain, workers, False),
            "ours fused, cold": ours(folder, fused, workers, False),
            "ours plain, cached": ours(folder, plain, workers, True),
            "ours plain without FancyPCA, cached": ours(
                folder, without_fancy_pca(plain), workers, True
            ),
            "ours fused, cached": ours(folder, fused, workers, True),
            "ours fused, cached, threads": ours(folder, fused, workers, True, processes=False),
        }.items():
            measured.append(Measured(f"{name}, {label}", batches))
    if peers:
        floats = ours(folder, None, 2, False, dtype="float32")
        measured.append(Measured("ours unaugmented, float32, 2 workers", floats))
        measured.append(Measured("keras unaugmented, 2 workers", keras_dataset(folder)))
        for library in (tf_data, torch_loader, grain_loader):
            for name, compose in {
                "plain": reference_list,
                "fused": lambda: ImageDataAugmentor.fuse(reference_list()),
            }.items():
                batches = library(paths, OneForEach(compose), 2)
                measured.append(Measured(f"{library.__name__} {name}, 2 workers", batches))
    return measured


def report(measured: list[Measured]) -> None:
    """Print the rates and the ratios that matter."""
    rates = {one.name: one.rate for one in measured}
    naive, decode = rates["naive port, 1 thread"], rates["pure decode, 2 workers"]
    bare = rates["bare kernels, 1 worker"]  # of which two cores do twice as many
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
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4, help="time for each pipeline")
    parser.add_argument("--photos", type=int, default=600, help="number of photos")
    parser.add_argument("--peers", action="store_true", help="Keras, tf.data, torch and grain too")
    parser.add_argument("--only", default="", help="pipelines whose names contain this")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cv2.setNumThreads(1)  # a worker is one thread: OpenCV starts none of its own
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
