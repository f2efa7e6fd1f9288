"""The base of all iterators: the order of the samples, the batches and how they are read."""

import os
import threading
import time
import warnings
import zlib
from dataclasses import dataclass

import keras
import numpy as np

from .engine.cache import Cache, lend
from .engine.processes import PickledPipeline
from .engine.samples import FilePipeline, Spec, spec_of
from .engine.transform import epoch_order
from .engine.workers import Batch, Lookahead
from .files import SUFFIXES


@dataclass(frozen=True)
class FlowSettings:
    """The arguments that all flows share; see ImageDataAugmentor.flow_from_directory."""

    class_mode: str | None
    batch_size: int
    shuffle: bool
    subset: str | None
    dtype: str
    save_to_dir: str | None
    save_prefix: str
    save_format: str
    verbose: bool = True
    drop_remainder: bool = False


@dataclass(eq=False)
class _Derived:
    """What follows from one version of the settings."""

    version: tuple
    pipeline: object
    cache: Cache | None
    specs: list[Spec | None] | None = None
    pickled: PickledPipeline | None = None


class Iterator(keras.utils.PyDataset):
    """Batches of n samples, as a Keras sequence, an endless iterator and a tf.data dataset.

    The contents of a batch depend on (seed, epoch, index) alone. `it[i]` is batch i of `it.epoch`,
    and `on_epoch_end()`, which Keras calls, advances to the next epoch. `next(it)` returns the
    batch at (`it.epoch`, `it.batch_index`) and advances for ever. Set both to resume.

    A few batches are computed ahead of the reader, so a file that changes meanwhile may still be
    seen as it was. `next(it)` computes ahead across the end of an epoch too. A public attribute of
    the iterator or its augmentor counts from the next batch on if it is assigned. An array that is
    changed in place may count later.

    If `drop_remainder` is True, an epoch leaves out the samples at the end of its order that make
    no whole batch, as that of `tf.data` does; with `shuffle` they are others each time. An epoch
    has one batch at least.
    """

    white_list_formats = SUFFIXES
    # Public attributes that do not change the contents of a batch.
    _NEUTRAL = frozenset({"epoch", "batch_index", "total_batches_seen", "lock"})
    _known_order = (None, None)
    _version: object = None

    def __init__(self, n: int, image_data_generator, settings: FlowSettings):
        super().__init__()
        self.n = self.samples = n
        self.image_data_generator = image_data_generator
        for name, value in vars(settings).items():
            setattr(self, name, value)
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
        self.epoch = 0
        self.total_batches_seen = 0
        self._within_epoch = self._ended_unread = False
        self._ready: list[float] = []
        self._start()

    def _start(self) -> None:
        """Create the attributes that are not pickled."""
        self.lock = threading.Lock()
        self._lookahead = Lookahead(self._start_batch, self._extent)
        self._derived: _Derived | None = None

    def __getstate__(self):
        unpicklable = {"lock", "_lookahead", "_derived"}
        return {k: v for k, v in vars(self).items() if k not in unpicklable}

    def __setstate__(self, state):
        vars(self).update(state)
        self._start()

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name[0] != "_" and name not in self._NEUTRAL:
            self._version = object()

    def _current(self) -> _Derived:
        """Return what follows from the settings; it is the same object until one is assigned."""
        generator = self.image_data_generator
        version = self._version, generator, generator.version
        derived = self._derived
        if derived is None or derived.version != version:
            self._derived = derived = _Derived(version, *self._pipeline())
        return derived

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

    next = __next__

    def reset(self) -> None:
        """Make `next` begin its epoch again."""
        self.batch_index = 0

    def on_epoch_begin(self) -> None:
        """Undo the on_epoch_end that Keras calls once before the first epoch."""
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
            ahead = Lookahead(self._start_batch, self._extent)
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
        """When the newest pass of the dataset handed its batches on, by time.monotonic()."""
        return list(self._ready)

    @property
    def index_array(self) -> np.ndarray:
        """The indices of the samples in the order of the current epoch, int64 [n]."""
        return self._order(self.epoch)

    def _order(self, epoch: int) -> np.ndarray:
        key = self.image_data_generator.entropy, epoch, self.n, self.shuffle
        known_key, order = self._known_order
        if known_key != key:
            order = epoch_order(*key)
            self._known_order = key, order
        return order

    def _indices(self, epoch: int, number: int) -> np.ndarray:
        return self._order(epoch)[number * self.batch_size : (number + 1) * self.batch_size]

    def _read(self, ahead: Lookahead, epoch: int, number: int, endless: bool = False):
        if self.image_data_generator.workers == 0:
            return self._compute_batch(epoch, self._indices(epoch, number))
        if self.save_to_dir:  # Save only pictures that the reader gets.
            batch = self._start_batch(epoch, number, False)
            batch.wait()
        else:
            batch = ahead.take(epoch, number, self._current(), endless)
        return self._assemble(*batch.arrays, batch.indices)

    def _extent(self) -> tuple[int, int]:
        """Return the number of batches in an epoch, and of those to start ahead."""
        return len(self), self.image_data_generator.pool.batches_ahead(self.batch_size)

    def _start_batch(self, epoch: int, number: int, ahead: bool) -> Batch:
        generator = self.image_data_generator
        batch = self._new_batch(epoch, self._indices(epoch, number), for_workers=True)
        generator.pool.start(batch, ahead, generator.processes)
        return batch

    def _compute_batch(self, epoch: int, indices: np.ndarray):
        batch = self._new_batch(epoch, indices)
        batch.fill()
        return self._assemble(*batch.arrays, indices)

    def _new_batch(self, epoch: int, indices: np.ndarray, for_workers: bool = False) -> Batch:
        derived = self._current()
        derived.specs = derived.specs or self._find_specs(derived, epoch, int(indices[0]))
        save = self._save if self.save_to_dir else None
        pickled = self._pickled_pipeline(derived) if for_workers and not save else None
        buffers = self.image_data_generator.pool.buffers if pickled else None
        makers = derived.pipeline, epoch, indices, derived.specs, derived.cache
        return Batch(*makers, save, pickled, buffers)

    def _find_specs(self, derived: _Derived, epoch: int, index: int) -> list[Spec | None]:
        """Return the shapes and dtypes in a batch, from one of its samples."""
        with lend(derived.cache, derived.pipeline, [index]) as photos:
            ((x, y),) = derived.pipeline.samples(epoch, [index], [None], photos)
        x, y = self.image_data_generator.finish(x, y)
        return [spec_of(x, self.dtype), spec_of(y, self._target_dtype())]

    def _pickled_pipeline(self, derived: _Derived) -> PickledPipeline | None:
        """Return the pipeline for processes, or None if there are none or they cannot have it."""
        generator = self.image_data_generator
        if generator.processes is False or not isinstance(derived.pipeline, FilePipeline):
            return None
        if any(spec and spec[1].hasobject for spec in derived.specs):
            return None
        if generator.processes:
            generator.pool.start_processes(wait=True)
        if not generator.pool.running:
            return None
        derived.pickled = derived.pickled or PickledPipeline(derived.pipeline)
        if not derived.pickled.refused:
            return derived.pickled
        if generator.processes:
            generator.processes = False
            warnings.warn(
                "processes=True, but the work stays in threads, since another process cannot have "
                f"it: {derived.pickled.refused}. Functions and transforms of your own must be "
                "defined in a module.",
                stacklevel=2,
            )
        return None

    def _save(self, picture: np.ndarray, index: int) -> None:
        """Save one picture, uint8 0..255 or float 0..1 [height, width, channels], unstretched."""
        if picture.dtype != np.uint8:
            scale = 255.0 if picture.max(initial=0) <= 1 else 1.0
            picture = np.clip(picture * scale, 0, 255).astype(np.uint8)
        name = f"{self.save_prefix}_{index}_{zlib.crc32(np.ascontiguousarray(picture)):08x}"
        path = os.path.join(self.save_to_dir, f"{name}.{self.save_format}")
        keras.utils.save_img(path, picture, data_format="channels_last", scale=False)

    def _label_dtype(self) -> str:
        return self.dtype if np.dtype(self.dtype).kind == "f" else "float32"

    def _pipeline(self) -> tuple[object, Cache | None]:
        """Return what makes the samples, and the cache for its files."""
        raise NotImplementedError

    def _assemble(self, x: np.ndarray, y: np.ndarray | None, indices: np.ndarray):
        """Return the batch as the reader gets it."""
        raise NotImplementedError

    def _target_dtype(self) -> str | None:
        """Return the dtype of transformed targets, or None to keep theirs."""
        raise NotImplementedError

    def show_data(
        self, rows: int = 5, cols: int = 5, apply_standardization: bool = False, **plt_kwargs
    ) -> None:
        """Plot rows x cols random samples, augmented. `plt_kwargs` are passed to `plt.figure`."""
        import matplotlib.pyplot as plt

        count, pipeline = rows * cols, self._current().pipeline
        indices = np.random.default_rng().choice(self.n, count, replace=self.n < count).tolist()
        pictures = [x for x, _ in pipeline.samples(self.epoch, indices, [None] * count)]
        if apply_standardization:
            pictures = [self.image_data_generator.standardize(x)[0] for x in pictures]
        plt.close("all")
        plt.figure(**{"figsize": (2 * cols, 2 * rows)} | plt_kwargs)
        titles = self._titles(indices)
        for number, (picture, title) in enumerate(zip(pictures, titles, strict=True), 1):
            plt.subplot(rows, cols, number)
            plt.imshow(_viewable(picture), cmap="gray")
            plt.title(title)
            plt.axis("off")
        plt.subplots_adjust(hspace=0.5, wspace=0.5)
        plt.show()

    def _titles(self, indices: list[int]) -> list[str]:
        return [""] * len(indices)


def _viewable(picture: np.ndarray) -> np.ndarray:
    if picture.shape[-1] not in {1, 3, 4}:  # It is a one-hot mask.
        return picture.argmax(-1)
    if picture.dtype != np.uint8 and picture.max(initial=0) > 1:
        picture = picture / 255
    return picture.squeeze(-1) if picture.shape[-1] == 1 else picture.clip(0, 255)


def _tuples(batch):
    """Replace lists by tuples, because tf.data takes a list for one tensor."""
    return tuple(map(_tuples, batch)) if isinstance(batch, (list, tuple)) else batch
