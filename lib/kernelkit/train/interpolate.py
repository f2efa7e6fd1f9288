"""WiSE-FT: a point between the network with the fitted head and the tuned one."""

import keras
import numpy as np

from kernelkit.core.metrics import ValidationMetrics
from kernelkit.data.batches import make_iterator
from kernelkit.data.tables import PhotoTables
from kernelkit.train.devices import predict_batches
from kernelkit.train.plan import Clock
from kernelkit.train.state import readable

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the way to the tuned weights


def interpolate_weights(config, tables: PhotoTables, network: keras.Model, clock: Clock) -> None:
    """Set a network to the best mean of the weights before and after its backbone trained.

    The mean of a contrastive tower with its fine-tuned self is often better than either, most of
    all on photos unlike the training's (Wortsman et al. 2022). As among epochs, of the points
    whose validation score lies within one standard error of the best the one that has learned the
    most is taken. The network has the tuned weights; the clock's state names those before.
    """
    state = clock.state
    if not config.interpolate or not state.start or state.best == state.start:
        return
    tuned = network.get_weights()
    with readable(state.folder / state.start) as file:
        network.load_weights(file)
    start = network.get_weights()
    measure = ValidationMetrics(state.metric, tables.positions(tables.validation))
    found = []
    for share in SHARES[::-1]:
        if not clock.pass_fits():
            break
        network.set_weights(between(start, tuned, share))
        photos = make_iterator(config, tables, tables.validation.drop(columns="label"))
        figures = measure(predict_batches(network, photos))
        found.append((state.metric.sign * figures["score"], figures["error"], share))
    share = 1.0
    if found:
        highest, error, _ = max(found)
        share = next(share for merit, _, share in found if merit >= highest - error)
        scores = ", ".join(f"{at:g}: {state.metric.sign * merit:.4f}" for merit, _, at in found)
        print(f"validation {state.metric.name} by the share of tuning, {scores}: {share:g} is used")
    network.set_weights(between(start, tuned, share))


def between(start: list, tuned: list, share: float) -> list[np.ndarray]:
    """Return weights a share of the way from `start` to `tuned`; whole numbers are tuned ones."""
    return [
        a + np.asarray(share, a.dtype) * (b - a) if a.dtype.kind == "f" else b
        for a, b in zip(start, tuned, strict=True)
    ]
