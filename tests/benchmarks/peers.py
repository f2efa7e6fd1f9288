"""Other libraries' pipelines that do the same work, for comparison."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import albumentations as A
import cv2
import numpy as np

SIZE, BATCH = 336, 32


class Naive:
    """A simple port of the original: imread, resize, Compose, float32, on one thread."""

    def __init__(self, compose: A.Compose, dtype=np.float32):
        self._compose, self._dtype = compose, dtype

    def __call__(self, path: str) -> np.ndarray:
        """Load and transform one photo."""
        image = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        image = cv2.resize(image, (SIZE, SIZE))
        return self._compose(image=image)["image"].astype(self._dtype, copy=False)

    def batches(self, paths: list[str]) -> Iterator[int]:
        """Yield the sizes of batches, without end."""
        for start in itertools.cycle(range(0, len(paths) - BATCH + 1, BATCH)):
            yield len(np.stack([self(path) for path in paths[start : start + BATCH]]))


def tf_data(paths: list[str], work: Callable[[str], np.ndarray], workers: int) -> Iterator[int]:
    """Yield the sizes of batches of tf.data with a numpy_function, without end."""
    import tensorflow as tf

    def load(path):
        return tf.numpy_function(lambda p: work(p.decode()), [path], tf.uint8)

    dataset = tf.data.Dataset.from_tensor_slices(paths).repeat()
    dataset = dataset.map(load, num_parallel_calls=workers).batch(BATCH).prefetch(2)
    for batch in dataset:
        yield int(batch.shape[0])


def keras_dataset(folder: Path) -> Iterator[int]:
    """Yield the sizes of float32 batches of Keras' own loader, unaugmented, without end."""
    import keras

    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIZE, SIZE), batch_size=BATCH, labels=None, verbose=False
    )
    for batch in dataset.repeat():
        yield int(batch.shape[0])


def torch_loader(
    paths: list[str], work: Callable[[str], np.ndarray], workers: int
) -> Iterator[int]:
    """Yield the sizes of batches of torch's DataLoader, without end."""
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
    """Yield the sizes of batches of grain in threads, without end."""
    import grain

    dataset = grain.MapDataset.source(paths).repeat().map(work)
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * BATCH)
    for batch in dataset.to_iter_dataset(options).batch(BATCH):
        yield len(batch)


class OneForEach:
    """Naive uint8 pipelines, one for each call that runs at the same time.

    Threads cannot share a Compose. There is not one for each thread, because TensorFlow's threads
    are new to Python at every call.
    """

    def __init__(self, make_compose: Callable[[], A.Compose]):
        self._make, self._free = make_compose, deque()

    def __call__(self, path: str) -> np.ndarray:
        """Load and transform one photo."""
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
