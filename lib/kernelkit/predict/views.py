"""Views of a photo for test-time augmentation, and the passes of prediction over them."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from kernelkit.config.views import View
from kernelkit.core.metrics import accuracy as accuracy_of
from kernelkit.core.metrics import metric_named
from kernelkit.core.problem import Problem
from kernelkit.predict.choosing import choose_views
from kernelkit.predict.portfolio import Fold

if TYPE_CHECKING:
    from kernelkit.data.tables import PhotoTables
    from kernelkit.train.clock import Clock


def predict_views(
    views: Sequence[View],
    clock: "Clock",
    predict: Callable[[int, View], list[np.ndarray]],
) -> list[list[np.ndarray]]:
    """Predict in as many of the views as fit into the session, with a progress bar.

    Args:
        views: the first is predicted in any case.
        clock: of the job; learns the speed.
        predict: returns the probabilities of the validation and of the test photos, float32
            [photos, classes] each, in the view of this number.

    Returns:
        What `predict` returned for each view that was predicted.
    """
    passes = []
    for number, view in enumerate(tqdm(views, "predicting", unit="pass", disable=None)):
        if number and not clock.pass_fits(view.scale**2):
            print(f"Time is up: {number} of {len(views)} prediction passes were made.")
            clock.state.run_out_of_time()
            break
        began = time.monotonic()
        passes.append(predict(number, view))
        images = sum(map(len, passes[-1])) * view.scale**2
        clock.note_prediction(images, time.monotonic() - began)
    return passes


def choose_prediction(
    tables: "PhotoTables", views: Sequence[View], passes: Sequence[list[np.ndarray]]
) -> Fold:
    """Return the mean of the views that `choose_views` takes.

    Views through the training's augmentation are averaged without the plain one, as the reference
    recipe does; the plain view stands alone where their mean is less accurate.

    Args:
        tables: the photos of the fold.
        views: the views in order; the first is the plain one.
        passes: as `predict_views` returns them.

    Raises:
        Problem: a probability is not a number.
    """
    if not all(np.isfinite(part).all() for one in passes for part in one):
        raise Problem("The network predicts NaN, so there is no submission: try lower rates.")
    truth, held = tables.positions(tables.validation), [one[0] for one in passes]
    trained = [number for number in range(len(passes)) if views[number].trained]
    metric = metric_named(tables.competition.layout.metric)
    chosen = trained or choose_views(held, truth, metric)
    mean = [np.mean([passes[i][part] for i in chosen], axis=0, dtype=np.float64) for part in (0, 1)]
    accuracy, accuracy_tta = (accuracy_of(p, truth) for p in (held[0], mean[0]))
    score, score_tta = (metric.score(p, truth) for p in (held[0], mean[0]))
    if trained and metric.sign * (score_tta - score) < 0:
        chosen, mean = [0], passes[0]
    used = "the plain prediction is used"
    if chosen != [0]:
        used = f"used are {'; '.join(views[number].name for number in chosen)}"
    print(f"validation {metric.name} {score:.4f}, with TTA {score_tta:.4f}: {used}", flush=True)
    return Fold(
        fold=tables.fold,
        validation=np.asarray(mean[0], np.float32),
        validation_plain=np.asarray(held[0], np.float32),
        validation_ids=tables.validation.Id.to_numpy(str),
        validation_positions=truth,
        test=np.asarray(mean[1], np.float32),
        accuracy=accuracy,
        accuracy_tta=accuracy_tta,
        views=[views[number].name for number in chosen],
    )
