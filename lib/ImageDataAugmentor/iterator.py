"""The iterators' common part: the order, the batches and the ways to read them."""

import os
import threading
import time
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import keras
import numpy as np

from . import reading
from .batch import Batch, Layout, slots
from .cache import Cache
from .processes import Job, SentJob
from .randomness import epoch_order
from .reading import Loading
from .sources import FileSource
from .workers import Lookahead, PendingBatch

# Class modes whose targets are pictures, cast to the dtype of the input.
PICTURE_TARGETS = ("input", "color_target", "grayscale_target")
# Class modes whose labels are numbers of classes.
CLASS_LABELS = ("categorical", "binary", "sparse")
_MUCH_SMALLER = 1.5  # from this ratio on, nearest-neighbour resizing skips whole rows of pixels


@dataclass(frozen=True)
class Saving:
    """Where the augmented pictures are saved, and as what."""

    folder: str | None = None
    prefix: str = ""
    format: str = "png"

    def save(self, picture: np.ndarray, index: int) -> None:
        """Write one picture (channels last; uint8, or floats of 0..1) as it is, not stretched."""
        if picture.dtype != np.uint8:
            scale = 255.0 if picture.max(initial=0) <= 1 else 1.0
            picture = np.clip(picture * scale, 0, 255).astype(np.uint8)
        name = f"{self.prefix}_{index}_{zlib.crc32(np.ascontiguousarray(picture)):08x}"
        path = os.path.join(self.folder, f"{name}.{self.format}")
        keras.utils.save_img(path, picture, data_format="channels_last", scale=False)


class Iterator(keras.utils.PyDataset):
    """Batches of n samples, as a Keras sequence, an endless iterator and a tf.data dataset.

    What a batch holds depends on (seed, epoch, index) alone. `it[i]` is batch i of `it.epoch`, and
    `on_epoch_end()`, which Keras calls, moves to the next epoch; `next(it)` walks on from
    (`it.epoch`, `it.batch_index`) for ever. Both can be set, to resume. A few batches are begun
    ahead, for `next(it)` across the end of an epoch too: of files as they are then.
    """

    white_list_formats = reading.SUFFIXES

    def __init__(
        self,
        n: int,
        image_data_generator,
        *,
        batch_size: int,
        shuffle: bool,
        class_mode: str | None,
        subset: str | None,
        dtype: str,
        saving: Saving,
    ):
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: give a positive number")
        self.n = self.samples = n
        self.image_data_generator = image_data_generator
        self.data_format = image_data_generator.data_format
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.class_mode = class_mode
        self.subset = subset
        self.dtype = np.dtype(dtype).name
        if np.dtype(dtype).kind in "iu" and image_data_generator.standardizes:
            raise ValueError(
                f"dtype={self.dtype!r} cannot hold standardised values: leave out rescale, "
                "the centering, the normalisation and the whitening, or ask for a float dtype."
            )
        self.saving = saving
        self.seed = image_data_generator.seed
        self.epoch = 0
        self.batch_index = 0
        self.total_batches_seen = 0
        self._within_epoch = self._ended_unread = False
        self._layout: Layout | None = None  # of its batches, as the first one turned out
        self._known_order = (None, None, None)
        self._start()

    def _start(self) -> None:
        """What does not travel to another process."""
        self.lock = threading.Lock()
        self._sent: SentJob | None = None
        self._lookahead = self._new_lookahead()

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k not in {"lock", "_lookahead", "_sent"}}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._start()

    # Reading.

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __getitem__(self, idx: int):
        length = len(self)
        if not -length <= idx < length:
            raise ValueError(f"Asked for batch {idx} of an iterator of {length} batches.")
        self.total_batches_seen += 1
        self._ended_unread = False
        return self._read(self._lookahead, self.epoch, idx % length)

    def __iter__(self):
        return self

    def __next__(self):
        if self.n == 0:
            raise StopIteration
        with self.lock:
            epoch, number = self.epoch, self.batch_index
            self.total_batches_seen += 1
            self.batch_index = (number + 1) % len(self)
            self.epoch += self.batch_index == 0
        return self._read(self._lookahead, epoch, number, endless=True)

    def next(self):
        """The next batch, endlessly."""
        return next(self)

    def reset(self) -> None:
        """Let the endless iteration begin its epoch again."""
        self.batch_index = 0

    def on_epoch_begin(self) -> None:
        """Begin an epoch of Keras'.

        Keras' fit, evaluate and predict announce an end before they begin the first one.
        """
        if self._ended_unread:
            self.epoch -= 1
            self._ended_unread = False
        self._within_epoch = True

    def on_epoch_end(self) -> None:
        """Move on to the next epoch."""
        self.epoch += 1
        self._ended_unread = not self._within_epoch
        self._within_epoch = False

    def as_tf_dataset(self):
        """One epoch of batches as a prefetched `tf.data.Dataset` of known shapes and cardinality.

        Each new pass over it is the next epoch, beginning with `self.epoch`. Under tf.distribute
        the batches are split among the replicas of one process (Keras wants them to divide the
        batch size); several processes would each read everything.
        """
        import tensorflow as tf

        if self.n == 0:
            raise ValueError("There are no samples to make a dataset of.")

        def one_epoch():
            with self.lock:
                epoch = self.epoch
                self.epoch += 1
            ahead = self._new_lookahead()
            try:
                for number in range(len(self)):
                    yield _tuples(self._read(ahead, epoch, number))
            finally:
                ahead.close()

        even = None if self.n % self.batch_size else self.batch_size
        signature = tf.nest.map_structure(
            lambda array: tf.TensorSpec((even, *array.shape[1:]), array.dtype),
            _tuples(self._compute_batch(self.epoch, np.zeros(1, int))),
        )
        dataset = tf.data.Dataset.from_generator(one_epoch, output_signature=signature)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(self)))
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return dataset.prefetch(2).with_options(options)

    # The order.

    @property
    def index_array(self) -> np.ndarray:
        """The samples' indices in the order of the current epoch, int64 [n]."""
        return self._order(self.epoch)

    def _order(self, epoch: int) -> np.ndarray:
        known_epoch, shuffled, order = self._known_order
        if (known_epoch, shuffled) != (epoch, self.shuffle):
            entropy = self.image_data_generator.entropy
            order = epoch_order(entropy, epoch, self.n, self.shuffle)
            self._known_order = (epoch, self.shuffle, order)
        return order

    def _indices(self, epoch: int, number: int) -> np.ndarray:
        return self._order(epoch)[number * self.batch_size : (number + 1) * self.batch_size]

    # One batch.

    def _read(self, ahead: Lookahead, epoch: int, number: int, endless: bool = False):
        if self.image_data_generator.workers == 0:
            return self._compute_batch(epoch, self._indices(epoch, number))
        if self.saving.folder:  # nothing is saved that is not handed out
            return self._start_batch(epoch, number, False).result()
        settings = (self.shuffle, *self.image_data_generator.settings.values())
        return ahead.take(epoch, number, settings, endless)

    def _new_lookahead(self) -> Lookahead:
        ahead = self.image_data_generator.pool.batches_ahead(self.batch_size)
        return Lookahead(self._start_batch, len(self), ahead)

    def _start_batch(self, epoch: int, number: int, ahead: bool) -> PendingBatch:
        """Have the pool's threads fill a batch, or processes in their stead."""
        pool = self.image_data_generator.pool
        indices = self._indices(epoch, number)
        sent = self._sent_job()
        company = pool.company if sent else None
        batch = self._new_batch(indices, buffers=company and company.buffers)

        def fill(positions: range) -> None:
            if batch.memory:
                mine = indices[positions.start : positions.stop].tolist()
                files = [file for index in mine for file in self._source.files(index)]
                share = positions, mine, files
                if company.fill(sent, batch, epoch, share, self.cache, pool.workers):
                    return
            with pool.turn:
                started = time.thread_time()
                self._fill(batch, epoch, indices, positions)
                pool.note(time.thread_time() - started)

        def finish():
            self._layout = batch.layout
            return self._assemble(*batch.arrays, indices)

        return PendingBatch(pool, fill, len(indices), finish, ahead)

    def _compute_batch(self, epoch: int, indices: np.ndarray, standardize: bool = True):
        """A batch, computed here and now."""
        batch = self._new_batch(indices, standardize)
        self._fill(batch, epoch, indices, range(len(indices)), standardize)
        return self._assemble(*batch.arrays, indices)

    def _new_batch(self, indices: np.ndarray, standardize: bool = True, buffers=None) -> Batch:
        dtypes = (self.dtype, self._target_dtype()) if standardize else (None, None)
        return Batch(len(indices), dtypes, self._layout, buffers)

    def _fill(
        self,
        batch: Batch,
        epoch: int,
        indices: np.ndarray,
        positions: range,
        standardize: bool = True,
    ) -> None:
        generator = self.image_data_generator
        mine = indices[positions.start : positions.stop].tolist()
        samples = self._augmented(epoch, mine, slots(batch.arrays, positions))
        for position, index, (x, y) in zip(positions, mine, samples, strict=True):
            if self.saving.folder:
                self.saving.save(x, index)
            batch.put(position, generator.finish(x, y, standardize))

    def _sent_job(self) -> "SentJob | None":
        """How processes make the samples, once a first batch has shown what they look like."""
        source, generator = self._source, self.image_data_generator
        if source is None or self._layout is None or self.saving.folder:
            return None
        if any(part and part.dtype.hasobject for part in self._layout):
            return None
        if not generator.pool.have_processes():
            return None
        if self._sent is None or not self._sent.holds(generator.settings):
            self._sent = SentJob(source, generator)
        if self._sent.refused:
            generator.pool.explain(self._sent.refused)
            return None
        return self._sent

    # What an iterator that processes can work for overrides.
    _source: FileSource | None = None
    cache: Cache | None = None

    def _label_dtype(self) -> str:
        return self.dtype if np.dtype(self.dtype).kind == "f" else "float32"

    def _augmented(self, epoch: int, indices: list[int], slots: Iterable) -> Iterable[tuple]:
        """Samples as in `epoch`, one by one: their pictures and targets, or None, augmented.

        The pictures may be written to their `slots` in the batch, where these are not None.
        """
        raise NotImplementedError

    def _assemble(self, x: np.ndarray, y: np.ndarray | None, indices: np.ndarray):
        """The batch as it is handed out."""
        raise NotImplementedError

    def _target_dtype(self) -> str | None:
        """The dtype of the transformed targets; None leaves theirs."""
        raise NotImplementedError

    # Looking at it.

    def show_data(
        self, rows: int = 5, cols: int = 5, apply_standardization: bool = False, **plt_kwargs
    ) -> None:
        """Plot rows x cols random samples, augmented; `plt_kwargs` go to `plt.figure`."""
        import matplotlib.pyplot as plt

        indices = np.random.default_rng().choice(self.n, rows * cols, replace=self.n < rows * cols)
        batch = self._compute_batch(self.epoch, indices, apply_standardization)
        pictures = batch[0] if isinstance(batch, tuple) else batch
        pictures = pictures[0] if isinstance(pictures, list) else pictures
        plt.close("all")
        plt.figure(**{"figsize": (2 * cols, 2 * rows)} | plt_kwargs)
        for number, (picture, title) in enumerate(
            zip(pictures, self._titles(indices), strict=True), 1
        ):
            plt.subplot(rows, cols, number)
            plt.imshow(self._viewable(picture), cmap="gray")
            plt.title(title)
            plt.axis("off")
        plt.subplots_adjust(hspace=0.5, wspace=0.5)
        plt.show()

    def _viewable(self, picture: np.ndarray) -> np.ndarray:
        if self.data_format == "channels_first":
            picture = np.moveaxis(picture, 0, -1)
        if picture.shape[-1] not in {1, 3, 4}:  # one-hot masks
            return picture.argmax(-1)
        if picture.dtype != np.uint8 and picture.max(initial=0) > 1:
            picture = picture / 255
        return picture.squeeze(-1) if picture.shape[-1] == 1 else picture.clip(0, 255)

    def _titles(self, indices: np.ndarray) -> list[str]:
        return [""] * len(indices)


def _tuples(batch):
    """The batch with tuples for lists, which tf.data would take for one tensor."""
    return tuple(map(_tuples, batch)) if isinstance(batch, (list, tuple)) else batch


class FileIterator(Iterator):
    """An iterator over image files.

    Its subclasses set `filenames`, `directory`, and, for class labels, `class_indices`,
    `num_classes` and `classes` (the number, or numbers, of each sample's class).
    """

    def __init__(self, image_data_generator, *, loading: Loading, **options):
        self.loading = loading
        self._filepaths = [os.path.join(self.directory, name) for name in self.filenames]
        super().__init__(len(self.filenames), image_data_generator, **options)

    def _start(self):
        super()._start()
        self.cache = self.image_data_generator.open_cache()
        pictures = self.class_mode in {"color_target", "grayscale_target"}
        self._source = FileSource(
            self._filepaths,
            self.loading,
            self.labels if pictures or self.class_mode == "raw" else None,
            self._target_loading if pictures else None,
            input_is_target=self.class_mode == "input",
            cache=self.cache,
        )
        if self.cache:
            for loading in (self.loading, self._target_loading):
                self.cache.register(loading, self)
        self._warn_of_nearest = (
            self.loading.interpolation == cv2.INTER_NEAREST
            and self.image_data_generator.input_augment_mode != "mask"
        )

    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k not in {"cache", "_source"}}

    @property
    def target_size(self) -> tuple[int, int]:
        """(height, width) that the photos are resized to."""
        return self.loading.target_size

    @property
    def color_mode(self) -> str:
        """rgb, rgba, grayscale or gray."""
        return self.loading.color_mode

    @property
    def interpolation(self) -> int:
        """The OpenCV constant of the filter that resizes."""
        return self.loading.interpolation

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one picture before preprocessing, in the data format of the batch."""
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
        """The labels of all samples, as far as the class mode has any."""
        return getattr(self, "classes", None)

    @property
    def sample_weight(self) -> np.ndarray | None:
        """The weights of all samples, or None."""
        return None

    @property
    def _target_loading(self) -> Loading:
        gray = self.class_mode == "grayscale_target"
        mask = self.image_data_generator.label_augment_mode == "mask"
        return Loading(
            "gray" if gray else self.color_mode,
            self.target_size,
            # Mixing the numbers of two labels would give a third.
            cv2.INTER_NEAREST if mask else self.interpolation,
            self.loading.truncated,
        )

    def _augmented(self, epoch, indices, slots):
        if self._warn_of_nearest and indices:
            self._warn_of_nearest = False
            self._check_nearest(self._filepaths[indices[0]])
        return Job(self._source, self.image_data_generator).augmented(epoch, indices, slots)

    def _check_nearest(self, path: str) -> None:
        size = reading.read_image(path, self.color_mode).shape[:2]
        if max(s / t for s, t in zip(size, self.target_size, strict=True)) >= _MUCH_SMALLER:
            warnings.warn(
                f"Resizing photos of {size[0]}x{size[1]} to "
                f"{self.target_size[0]}x{self.target_size[1]} with cv2.INTER_NEAREST, the "
                "default, throws most of their detail away; pass interpolation=cv2.INTER_AREA.",
                stacklevel=2,
            )

    def _target_dtype(self):
        return self.dtype if self.class_mode in PICTURE_TARGETS else None

    def _assemble(self, x, y, indices):
        if self.class_mode is None:
            return x
        y = self._batch_labels(indices) if y is None else y
        weights = self.sample_weight
        return (x, y) if weights is None else (x, y, weights[indices])

    def _batch_labels(self, indices):
        if self.class_mode == "multi_output":
            return [output[indices] for output in self.labels]
        if self.class_mode in {"binary", "sparse"}:
            return np.asarray([self.classes[i] for i in indices], self._label_dtype())
        labels = np.zeros((len(indices), self.num_classes), self._label_dtype())
        for row, index in enumerate(indices):
            labels[row, self.classes[index]] = 1
        return labels

    def _titles(self, indices):
        if self.class_mode == "multi_output":
            return [str(tuple(output[i] for output in self.labels)) for i in indices]
        if self.class_mode not in CLASS_LABELS:
            return super()._titles(indices)
        names = list(self.class_indices)
        return [
            ", ".join(str(names[number]) for number in np.atleast_1d(self.classes[index]))
            for index in indices
        ]
