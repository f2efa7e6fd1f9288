"""The iterators' common part: order, batches, the three ways to read them."""

import threading

import keras
import numpy as np

from . import reading
from .randomness import epoch_order
from .workers import Lookahead, PendingBatch

# Targets that are pictures, transformed with the input and cast like it.
PICTURE_TARGETS = {"input", "color_target", "grayscale_target"}


class _Batch:
    """The arrays of one batch; allocated when its first sample tells their shapes."""

    def __init__(self, size: int, x_dtype, y_dtype):
        self._size, self._dtypes = size, (x_dtype, y_dtype)
        self._lock = threading.Lock()
        self.arrays: list[np.ndarray | None] | None = None

    def put(self, position: int, sample: tuple) -> None:
        """Copy one sample's (x, y) in; y may be None."""
        with self._lock:
            if self.arrays is None:
                self.arrays = [
                    None if part is None else self._empty(part, dtype)
                    for part, dtype in zip(sample, self._dtypes, strict=True)
                ]
        for array, part in zip(self.arrays, sample, strict=True):
            if array is None:
                continue
            if np.shape(part) != array.shape[1:]:
                raise ValueError(
                    f"A batch needs pictures of one shape, but the transforms gave {np.shape(part)} "
                    f"besides {array.shape[1:]}; end `augment` with albumentations.Resize(...)."
                )
            array[position] = part

    def _empty(self, part, dtype) -> np.ndarray:
        return np.empty((self._size, *np.shape(part)), dtype or np.asarray(part).dtype)


class Iterator(keras.utils.PyDataset):
    """Batches of n samples, as a Keras sequence, an endless iterator and a tf.data dataset.

    What a batch holds depends on (seed, epoch, index) alone. `it[i]` is batch i of `it.epoch`;
    `next(it)` walks through the epochs from there; Keras moves to the next epoch through
    `on_epoch_end()`. `epoch` can be set, to resume.
    """

    white_list_formats = reading.SUFFIXES

    def __init__(self, n: int, image_data_generator, batch_size: int, shuffle: bool):
        super().__init__()
        self.n = n
        self.image_data_generator = image_data_generator
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = image_data_generator.seed
        self.epoch = 0
        self.batch_index = 0
        self.total_batches_seen = 0
        self._after_unpickling()

    def _after_unpickling(self):
        self.lock = threading.Lock()
        self._lookahead = Lookahead(self._start_batch, len(self))

    def __getstate__(self):
        state = self.__dict__.copy()
        del state["lock"], state["_lookahead"]
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._after_unpickling()

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __getitem__(self, idx: int):
        length = len(self)
        if not -length <= idx < length:
            raise ValueError(f"Asked for batch {idx} of an iterator of {length} batches.")
        with self.lock:
            self.total_batches_seen += 1
        return self._take(self.epoch, idx % length)

    def __iter__(self):
        return self

    def __next__(self):
        if self.n == 0:
            raise StopIteration
        with self.lock:
            epoch, number = self.epoch, self.batch_index
            self.total_batches_seen += 1
            self.batch_index += 1
            if self.batch_index >= len(self):
                self.batch_index = 0
                self.epoch += 1
        return self._take(epoch, number)

    def next(self):
        """The next batch, endlessly."""
        return next(self)

    def reset(self) -> None:
        """Start the current epoch anew in the endless iteration."""
        self.batch_index = 0

    def on_epoch_end(self) -> None:
        """Move on to the next epoch (Keras calls this)."""
        self.epoch += 1

    @property
    def index_array(self) -> np.ndarray:
        """The order of the current epoch: sample indices, int64 [n]."""
        return self._order(self.epoch)

    def _order(self, epoch: int) -> np.ndarray:
        known = getattr(self, "_known_order", None)
        if known is None or known[:2] != (epoch, self.shuffle):
            entropy = self.image_data_generator.entropy
            order = epoch_order(entropy, epoch, self.n, self.shuffle)
            self._known_order = known = (epoch, self.shuffle, order)
        return known[2]

    def as_tf_dataset(self):
        """A `tf.data.Dataset` of batches, prefetched, with known shapes and cardinality.

        Each pass over it is one epoch, beginning with `self.epoch`.
        """
        import tensorflow as tf

        def one_epoch():
            with self.lock:
                epoch = self.epoch
                self.epoch += 1
            ahead = Lookahead(self._start_batch, len(self))
            try:
                for number in range(len(self)):
                    yield _tuples(self._read(ahead, epoch, number))
            finally:
                ahead.close()

        sample = _tuples(self._compute_batch(0, self._order(0)[:1]))
        signature = tf.nest.map_structure(
            lambda array: tf.TensorSpec((self._static_batch_size, *array.shape[1:]), array.dtype),
            sample,
        )
        dataset = tf.data.Dataset.from_generator(one_epoch, output_signature=signature)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(self)))
        # One process reads everything; tf.distribute only splits the batches among its replicas.
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return dataset.prefetch(2).with_options(options)

    @property
    def _static_batch_size(self) -> int | None:
        return None if self.n % self.batch_size else self.batch_size

    def _take(self, epoch: int, number: int):
        return self._read(self._lookahead, epoch, number)

    def _read(self, ahead: Lookahead, epoch: int, number: int):
        if self.image_data_generator.workers == 0:
            return self._compute_batch(epoch, self._samples(epoch, number))
        return ahead.take(epoch, number)

    def _samples(self, epoch: int, number: int) -> np.ndarray:
        return self._order(epoch)[number * self.batch_size : (number + 1) * self.batch_size]

    def _start_batch(self, epoch: int, number: int) -> PendingBatch:
        fill, finish, size = self._batch_work(epoch, self._samples(epoch, number), True)
        return PendingBatch(self.image_data_generator.pool, fill, size, finish)

    def _compute_batch(self, epoch: int, indices: np.ndarray, standardize: bool = True):
        fill, finish, size = self._batch_work(epoch, indices, standardize)
        fill(range(size))
        return finish()

    def _batch_work(self, epoch: int, indices: np.ndarray, standardize: bool):
        """How to fill a batch (in shares, by any thread) and how to hand it out."""
        x_dtype, y_dtype = (self.dtype, self._target_dtype()) if standardize else (None, None)
        batch = _Batch(len(indices), x_dtype, y_dtype)

        def fill(positions: range) -> None:
            for position in positions:
                index = int(indices[position])
                x, y = self._load(index)
                x, y = self.image_data_generator._transform(x, y, epoch, index, standardize)
                batch.put(position, (self._outward(x), self._outward(y)))

        def finish():
            return self._assemble(*batch.arrays, indices)

        return fill, finish, len(indices)

    def _outward(self, picture):
        """A transformed sample in the data format of the batch."""
        if self.data_format == "channels_first" and np.ndim(picture) == 3:
            return np.moveaxis(picture, -1, 0)
        return picture

    def _load(self, index: int) -> tuple:
        """Sample `index` as (picture, target that is transformed with it or None)."""
        raise NotImplementedError

    def _assemble(self, x: np.ndarray, y: np.ndarray | None, indices: np.ndarray):
        """The batch as handed to the user."""
        raise NotImplementedError

    def _target_dtype(self):
        """The dtype of the transformed targets; None leaves theirs."""
        raise NotImplementedError


def _tuples(batch):
    """The batch with tuples for lists, which tf.data would take for one tensor."""
    return tuple(map(_tuples, batch)) if isinstance(batch, (list, tuple)) else batch


class FileIterator(Iterator):
    """An iterator over image files."""

    def __init__(
        self,
        filepaths,
        image_data_generator,
        *,
        target_size,
        color_mode,
        class_mode,
        batch_size,
        shuffle,
        subset,
        interpolation,
        dtype,
    ):
        self._filepaths = filepaths
        self.target_size = tuple(target_size)
        self.color_mode = color_mode
        self.class_mode = class_mode
        self.subset = subset
        self.interpolation = interpolation
        self.dtype = np.dtype(dtype).name
        self.data_format = image_data_generator.data_format
        self.samples = len(filepaths)
        super().__init__(self.samples, image_data_generator, batch_size, shuffle)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one picture in the batch."""
        channels = (reading.CHANNELS[self.color_mode],)
        if self.data_format == "channels_first":
            return channels + self.target_size
        return self.target_size + channels

    @property
    def filepaths(self) -> list[str]:
        """Paths of the image files, in the order of `filenames`."""
        return self._filepaths

    @property
    def labels(self):
        """The label of every sample."""
        return self.classes

    @property
    def sample_weight(self):
        """Weights of the samples, or None."""
        return None

    def _load(self, index):
        x = self._picture(self._filepaths[index], self.color_mode)
        if self.class_mode == "input":
            return x, x.copy()
        return x, None

    def _picture(self, path, color_mode):
        image = reading.read_image(path, color_mode)
        return reading.resize(image, self.target_size, self.interpolation)

    def _target_dtype(self):
        return self.dtype if self.class_mode in PICTURE_TARGETS else None

    def _label_dtype(self):
        return self.dtype if np.dtype(self.dtype).kind == "f" else "float32"

    def _assemble(self, x, y, indices):
        if self.class_mode is None:
            return x
        y = self._batch_labels(indices) if y is None else y
        weights = self.sample_weight
        return (x, y) if weights is None else (x, y, weights[indices])

    def _batch_labels(self, indices):
        if self.class_mode in {"binary", "sparse"}:
            return np.asarray([self.classes[i] for i in indices], self._label_dtype())
        labels = np.zeros((len(indices), len(self.class_indices)), self._label_dtype())
        for row, index in enumerate(indices):
            labels[row, self.classes[index]] = 1
        return labels
