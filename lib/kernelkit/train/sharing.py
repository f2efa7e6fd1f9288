"""Batches that several devices share, in training and in prediction."""

from collections.abc import Iterable
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from kernelkit.core.problem import Problem


def share(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return batches that the devices of the strategy in force can share evenly.

    TensorFlow would leave a device without a photo where a batch is small, which ends in an error.
    So the last photo of such a batch is repeated. The repeated ones weigh 0, and the others a
    little more than 1, so that the weights add up to the photos. Of several machines each takes its
    devices' share of every batch.

    Args:
        dataset: batches of photos, or of (photos, labels).

    Returns:
        The same where one device is in use; else photos, or (photos, labels, weights float32 [n]).
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return dataset
    filled = dataset.map(partial(fill, replicas))
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return filled

    def own(context) -> tf.data.Dataset:
        number, workers = context.input_pipeline_id, context.num_input_pipelines
        return filled.map(partial(pieces, replicas, number, workers)).unbatch()

    return strategy.distribute_datasets_from_function(own)


def fill(replicas: int, photos, labels=None):
    """Return a batch whose number of photos is a multiple of `replicas`; see `share`."""
    count = tf.shape(photos)[0]
    rows = tf.range(-(-count // replicas) * replicas)
    taken = tf.minimum(rows, count - 1)
    if labels is None:
        return tf.gather(photos, taken)
    weights = tf.cast(tf.where(rows < count, tf.size(rows) / count, 0), tf.float32)
    return tf.gather(photos, taken), tf.gather(labels, taken), weights


def pieces(replicas: int, number: int, workers: int, *batch):
    """Return the pieces of a batch that the devices of one of some workers take.

    Keras puts predictions together in the order of the first devices of all workers, then of their
    second ones.
    """

    def cut(whole):
        shape = tf.concat([[replicas, -1], tf.shape(whole)[1:]], 0)
        parts = tf.reshape(whole, shape)[number::workers]
        parts.set_shape([replicas // workers, None, *whole.shape[1:]])
        return parts

    parts = tuple(map(cut, batch))
    return parts if len(parts) > 1 else parts[0]


def predict(
    network: keras.Model, flow, callbacks: Iterable[keras.callbacks.Callback] = ()
) -> np.ndarray:
    """Return what a network says of all photos of `flow` on all devices, [photos, outputs].

    Where memory does not suffice, the batches halve.

    Args:
        network: uint8 photos [n, h, w, 3] to outputs [n, outputs].
        flow: an iterator over photos, with n, epoch, batch_size and `as_tf_dataset`.
        callbacks: as Keras takes them.

    Raises:
        Problem: not even one photo a device fits.
    """
    epoch, replicas = flow.epoch, tf.distribute.get_strategy().num_replicas_in_sync
    while True:
        try:
            batches = share(flow.as_tf_dataset())
            return network.predict(batches, verbose=0, callbacks=list(callbacks))[: flow.n]
        except tf.errors.ResourceExhaustedError as error:
            if flow.batch_size <= replicas:
                raise Problem(
                    "Not even the prediction of one photo fits into a device's memory: try a "
                    "smaller --image-size."
                ) from error
            flow.epoch, flow.batch_size = epoch, max(replicas, flow.batch_size // 2)
            print(f"Out of memory: on with {flow.batch_size} photos at a time.", flush=True)
