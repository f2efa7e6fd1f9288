"""The base of all iterators: the order of the samples, the batches and the ways to read them."""

import operator
import os
import threading
import time
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import keras
import numpy as np

from . import reading
from .engine.batch import Batch, BatchSpec, slots
from .engine.cache import Cache
from .engine.processes import PickledPipeline
from .engine.randomness import epoch_order
from .engine.sources import FileSource
from .engine.workers import Lookahead, PendingBatch


@dataclass(frozen=True)
class FlowSettings:
    """The arguments that all flows share; see ImageDataAugmentor.flow_from_directory."""

    class_mode: str | None
    batch_size: int
    shuffle: bool
    subset: str | None
    dtype: str
    verbose: bool = True


@dataclass(frozen=True)
class ImageSaver:
    """Saves augmented pictures in a folder, or nothing if there is no folder."""

    folder: str | None = None
    prefix: str = ""
    format: str = "png"

    def save(self, picture: np.ndarray, index: int) -> None:
        """Save one picture, uint8 0..255 or float 0..1 [height, width, channels], unstretched."""
        if picture.dtype != np.uint8:
            scale = 255.0 if picture.max(initial=0) <= 1 else 1.0
            picture = np.clip(picture * scale, 0, 255).astype(np.uint8)
        name = f"{self.prefix}_{index}_{zlib.crc32(np.ascontiguousarray(picture)):08x}"
        path = os.path.join(self.folder, f"{name}.{self.format}")
        keras.utils.save_img(path, picture, data_format="channels_last", scale=False)


class Iterator(keras.utils.PyDataset):
    """Batches of n samples, as a Keras sequence, an endless iterator and a tf.data dataset.

    The contents of a batch depend on (seed, epoch, index) alone. `it[i]` is batch i of `it.epoch`,
    and `on_epoch_end()`, which Keras calls, advances to the next epoch. `next(it)` returns the
    batch at (`it.epoch`, `it.batch_index`) and advances for ever. Set both to resume.

    A few batches are computed ahead of the reader, so a file that changes meanwhile may still be
    seen as it was. `next(it)` computes ahead across the end of an epoch too. A public attribute of
    the iterator or its augmentor counts from the next batch on if it is assigned. An array that is
    changed in place may count later.

    Where `drop_remainder` is set to True, an epoch leaves out the samples at the end of its order
    that make no whole batch, as that of `tf.data` does; with `shuffle` they are others each time.
    An epoch has one batch at least.
    """

    white_list_formats = reading.SUFFIXES
    # Public attributes that do not change what a batch holds.
    _NEUTRAL = frozenset({"epoch", "batch_index", "total_batches_seen", "lock", "cache"})

    def __init__(
        self,
        n: int,
        image_data_generator,
        settings: FlowSettings,
        saver: ImageSaver,
    ):
        super().__init__()
        self.n = self.samples = n
        self.image_data_generator = image_data_generator
        self.batch_size = settings.batch_size
        self.drop_remainder = False
        self.shuffle = settings.shuffle
        self.class_mode = settings.class_mode
        self.subset = settings.subset
        self.dtype = np.dtype(settings.dtype).name
        if np.dtype(settings.dtype).kind in "iu" and image_data_generator.standardizes:
            raise ValueError(
                f"dtype={self.dtype!r} cannot hold standardised values: leave out rescale, "
                "the centering, the normalisation and the whitening, or ask for a float dtype."
            )
        if n == 0:
            warnings.warn(
                "There are no samples, so Keras can't read this flow: look at the folder, the "
                "names and validation_split.",
                stacklevel=5,
            )
        self.saver = saver
        self.epoch = 0
        self.total_batches_seen = 0
        self._within_epoch = self._ended_unread = False
        self._ready: list[float] = []
        self._start()

    def _start(self) -> None:
        """Create the attributes that are not pickled."""
        self.lock = threading.Lock()
        self._lookahead = self._new_lookahead()
        self._renew()
        self._settings = self._read_settings()

    def _renew(self) -> None:
        """Derive anew what follows from the public attributes."""
        self._batch_spec: BatchSpec | None = None  # It is that of the first batch.
        self._known_order = (None, None)
        self._pickled: PickledPipeline | None = None

    def _read_settings(self) -> tuple:
        """Return everything that determines the batches."""
        own = (v for k, v in vars(self).items() if k[0] != "_" and k not in self._NEUTRAL)
        return (self._batch_size, *own, *self.image_data_generator.settings.values())

    def _current_settings(self) -> tuple:
        """Return the settings, the same tuple until one of them is assigned anew."""
        settings, known = self._read_settings(), self._settings
        if len(settings) != len(known) or not all(map(operator.is_, settings, known)):
            self._renew()
            self._settings = known = settings
        return known

    def __getstate__(self):
        unpicklable = {"lock", "_lookahead", "_pickled", "_settings"}
        return {k: v for k, v in self.__dict__.items() if k not in unpicklable}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._start()

    @property
    def batch_size(self) -> int:
        """The number of samples in a batch; the last one of an epoch may be smaller.

        Setting it makes `next` begin its epoch again. Raises ValueError if it is not positive.
        """
        return self._batch_size

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        if value < 1:
            raise ValueError(f"batch_size={value}: give a positive number")
        self._batch_size = value
        self.batch_index = 0

    @property
    def seed(self) -> int | None:
        """The augmentor's seed."""
        return self.image_data_generator.seed

    @property
    def data_format(self) -> str:
        """The augmentor's data format, "channels_last" or "channels_first"."""
        return self.image_data_generator.data_format

    # Reading.

    def __len__(self) -> int:
        whole, rest = divmod(self.n, self.batch_size)
        return whole + bool(rest and not (self.drop_remainder and whole))

    def __getitem__(self, idx: int):
        length = len(self)
        if not -length <= idx < length:
            raise ValueError(f"Asked for batch {idx} of an iterator of {length} batches.")
        return self.batch(idx % length)

    def batch(self, number: int):
        """Return a batch, counted from the current epoch's first on into the next epochs."""
        self.total_batches_seen += 1
        self._ended_unread = False
        more_epochs, number = divmod(number, len(self))
        return self._read(self._lookahead, self.epoch + more_epochs, number)

    def __iter__(self):
        return self

    def __next__(self):
        if self.n == 0:
            raise StopIteration
        with self.lock:
            if self.batch_index >= len(self):  # Somebody has made `n` smaller.
                self.epoch, self.batch_index = self.epoch + 1, 0
            epoch, number = self.epoch, self.batch_index
            self.total_batches_seen += 1
            self.batch_index = (number + 1) % len(self)
            self.epoch += self.batch_index == 0
        return self._read(self._lookahead, epoch, number, endless=True)

    def next(self):
        """Return the next batch, without end."""
        return next(self)

    def reset(self) -> None:
        """Make `next` begin its epoch again."""
        self.batch_index = 0

    def on_epoch_begin(self) -> None:
        """Note that Keras begins an epoch.

        Its fit, evaluate and predict call on_epoch_end once before the first epoch, which is
        undone here.
        """
        if self._ended_unread:
            self.epoch -= 1
            self._ended_unread = False
        self._within_epoch = True

    def on_epoch_end(self) -> None:
        """Advance to the next epoch."""
        self.epoch += 1
        self._ended_unread = not self._within_epoch
        self._within_epoch = False

    def as_tf_dataset(self):
        """Return a prefetched `tf.data.Dataset` of one epoch, with known shapes and cardinality.

        Each pass over it is another epoch, beginning with `self.epoch`. Under tf.distribute each
        batch is split among the replicas of one process (Keras requires their number to divide the
        batch size). Several processes would each read everything. Raises ValueError if there are
        no samples, and when it is read after another batch size was set.
        """
        import tensorflow as tf

        if self.n == 0:
            raise ValueError("There are no samples to make a dataset of.")
        batches = len(self)

        def one_epoch():
            with self.lock:
                epoch = self.epoch
                self.epoch += 1
                self._ready = ready = []
            ahead = self._new_lookahead()
            try:
                for number in range(batches):
                    if len(self) != batches:
                        raise ValueError("The batch size was changed: make a new dataset.")
                    yield _tuples(self._read(ahead, epoch, number))
                    ready.append(time.monotonic())
            finally:
                ahead.close()

        even = self.batch_size if batches * self.batch_size <= self.n else None
        signature = tf.nest.map_structure(
            lambda array: tf.TensorSpec((even, *array.shape[1:]), array.dtype),
            _tuples(self._compute_batch(self.epoch, np.zeros(1, int))),
        )
        dataset = tf.data.Dataset.from_generator(one_epoch, output_signature=signature)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(batches))
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return dataset.prefetch(2).with_options(options)

    @property
    def ready_times(self) -> list[float]:
        """When the batches of the dataset's newest pass were handed on, by time.monotonic().

        A reader that asks for a batch before that waits for it.
        """
        return list(self._ready)

    # The order.

    @property
    def index_array(self) -> np.ndarray:
        """The indices of the samples in the order of the current epoch, int64 [n]."""
        return self._order(self.epoch)

    def _order(self, epoch: int) -> np.ndarray:
        key = epoch, self.n, self.shuffle, self.image_data_generator.entropy
        known_key, order = self._known_order
        if known_key != key:
            order = epoch_order(self.image_data_generator.entropy, *key[:3])
            self._known_order = key, order
        return order

    def _indices(self, epoch: int, number: int) -> np.ndarray:
        return self._order(epoch)[number * self.batch_size : (number + 1) * self.batch_size]

    # One batch.

    def _read(self, ahead: Lookahead, epoch: int, number: int, endless: bool = False):
        if self.image_data_generator.workers == 0:
            return self._compute_batch(epoch, self._indices(epoch, number))
        settings = self._current_settings()
        if self.saver.folder:  # Save only pictures that the reader gets.
            return self._start_batch(epoch, number, False).result()
        return ahead.take(epoch, number, settings, endless)

    def _new_lookahead(self) -> Lookahead:
        return Lookahead(self._start_batch, self._extent)

    def _extent(self) -> tuple[int, int]:
        """Return the number of batches in an epoch, and of those to start ahead."""
        return len(self), self.image_data_generator.threads.batches_ahead(self.batch_size)

    def _start_batch(self, epoch: int, number: int, ahead: bool) -> PendingBatch:
        """Have the threads start to fill a batch, themselves or through worker processes."""
        threads = self.image_data_generator.threads
        settings = self._settings
        indices = self._indices(epoch, number)
        pipeline = self._pickled_pipeline()
        batch = self._new_batch(indices, buffers=threads.pool.buffers if pipeline else None)

        def fill(positions: range) -> None:
            if batch.memory:
                mine = indices[positions.start : positions.stop].tolist()
                files = [file for index in mine for file in self._source.files(index)]
                share = positions, mine, files
                workers = threads.workers
                if threads.pool.fill(pipeline, batch, epoch, share, self.cache, workers):
                    return
            with threads.turn:
                started = time.thread_time()
                self._fill(batch, epoch, indices, positions)
                threads.note(time.thread_time() - started)

        def finish():
            if settings is self._settings:
                self._batch_spec = batch.spec
            return self._assemble(*batch.arrays, indices)

        return PendingBatch(threads, fill, len(indices), finish, ahead)

    def _compute_batch(self, epoch: int, indices: np.ndarray, standardize: bool = True):
        """Compute a batch in the calling thread."""
        self._current_settings()
        batch = self._new_batch(indices, standardize)
        self._fill(batch, epoch, indices, range(len(indices)), standardize)
        return self._assemble(*batch.arrays, indices)

    def _new_batch(self, indices: np.ndarray, standardize: bool = True, buffers=None) -> Batch:
        dtypes = (self.dtype, self._target_dtype()) if standardize else (None, None)
        spec = self._batch_spec  # Another thread may find changed settings, and reset it.
        return Batch(len(indices), dtypes, spec, spec and buffers)

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
            if self.saver.folder:
                self.saver.save(x, index)
            batch.put(position, generator.finish(x, y, standardize))

    def _pickled_pipeline(self) -> PickledPipeline | None:
        """Return what processes need to make the samples, or None if they cannot.

        They need the spec of the batches, so the first batch is made by threads.
        """
        source, generator = self._source, self.image_data_generator
        if source is None or self._batch_spec is None or self.saver.folder:
            return None
        if any(part and part.dtype.hasobject for part in self._batch_spec):
            return None
        if not generator.threads.have_processes():
            return None
        if self._pickled is None or not self._pickled.has(generator.settings):
            self._pickled = PickledPipeline(source, generator)
        if self._pickled.refused:
            generator.threads.give_up_processes(self._pickled.refused)
            return None
        return self._pickled

    # Set by iterators whose batches processes can fill.
    _source: FileSource | None = None
    cache: Cache | None = None

    def _label_dtype(self) -> str:
        return self.dtype if np.dtype(self.dtype).kind == "f" else "float32"

    def _augmented(self, epoch: int, indices: list[int], slots: Iterable) -> Iterable[tuple]:
        """Yield the samples of `epoch` as (augmented picture, target or None).

        A picture may be written to its slot of the batch, if that is not None.
        """
        raise NotImplementedError

    def _assemble(self, x: np.ndarray, y: np.ndarray | None, indices: np.ndarray):
        """Return the batch as the reader gets it."""
        raise NotImplementedError

    def _target_dtype(self) -> str | None:
        """Return the dtype of transformed targets, or None to keep theirs."""
        raise NotImplementedError

    # Viewing.

    def show_data(
        self, rows: int = 5, cols: int = 5, apply_standardization: bool = False, **plt_kwargs
    ) -> None:
        """Plot rows x cols random samples, augmented. `plt_kwargs` are passed to `plt.figure`."""
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
        if picture.shape[-1] not in {1, 3, 4}:  # It is a one-hot mask.
            return picture.argmax(-1)
        if picture.dtype != np.uint8 and picture.max(initial=0) > 1:
            picture = picture / 255
        return picture.squeeze(-1) if picture.shape[-1] == 1 else picture.clip(0, 255)

    def _titles(self, indices: np.ndarray) -> list[str]:
        return [""] * len(indices)


def _tuples(batch):
    """Replace lists by tuples, because tf.data takes a list for one tensor."""
    return tuple(map(_tuples, batch)) if isinstance(batch, (list, tuple)) else batch
