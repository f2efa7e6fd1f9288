"""Predict new photos with a finished run, as that run predicted its own test photos."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm import tqdm

from kernelkit.config.views import View
from kernelkit.core.boundary import doing
from kernelkit.core.problem import Problem
from kernelkit.core.tables import read_csv
from kernelkit.data.check import examine_all
from kernelkit.data.find import find_files, photos_in
from kernelkit.predict.calibration import apply_temperature
from kernelkit.predict.ensemble import combine
from kernelkit.predict.members import SavedMember, SavedModel, SavedNetwork
from kernelkit.predict.tta import SizedNetwork
from kernelkit.train.devices import make_strategy
from kernelkit.train.presets import open_network

NO_FILE = "there is no such file"


def find_photos(source: Path, scratch: Path) -> pd.DataFrame:
    """Return the photos that a path names: columns file, as it is called there, and path.

    It is a folder of any depth, a zip (zips are unpacked below `scratch`), one photo, or a CSV with
    a column of paths, relative to its folder. Raises Problem if there is none, or no photo in it.
    """
    if not source.exists():
        raise Problem(f"--predict {source}: there is no such folder, zip, photo or CSV.")
    if source.suffix.lower() == ".csv":
        return _listed(source)
    if source.is_file() and source.suffix.lower() != ".zip":
        return pd.DataFrame({"file": [source.name], "path": [str(source)]})
    found = photos_in(find_files(source, scratch)).rename(columns={"name": "file"})
    if found.empty:
        raise Problem(f"--predict {source} holds no photo: give a folder, a zip, a photo or a CSV.")
    return found[["file", "path"]].reset_index(drop=True)


def _listed(file: Path) -> pd.DataFrame:
    table = read_csv(file)
    for column in table:
        paths = [file.parent / value for value in table[column]]
        if any(path.is_file() for path in paths):
            return pd.DataFrame({"file": table[column], "path": list(map(str, paths))})
    raise Problem(
        f"{file} has no column with paths of photos: write them relative to the CSV's folder, "
        f"{file.parent}, or from the root."
    )


def with_reasons(photos: pd.DataFrame) -> pd.DataFrame:
    """Return the photos with a column reason: why a photo can't be read, "" where it can."""
    examined = examine_all([(path, True) for path in photos["path"]], None)
    there = [Path(path).is_file() for path in photos["path"]]
    reasons = [one.reason if here else NO_FILE for one, here in zip(examined, there, strict=True)]
    return photos.assign(reason=reasons)


class Progress(keras.callbacks.Callback):
    """Counts predicted photos in a progress bar; stops where `over()` is true after a batch."""

    def __init__(self, bar: tqdm, photos: int, over: Callable[[], bool]):
        super().__init__()
        self.bar, self.photos, self.over, self.done = bar, photos, over, 0

    def on_predict_begin(self, logs=None):  # noqa: D102 - again where batches had to be halved
        self.bar.update(-self.done)
        self.done = 0

    def on_predict_batch_end(self, batch, logs=None):  # noqa: D102
        count = min(len(logs["outputs"]), self.photos - self.done)  # the last may be repeated
        self.done += count
        self.bar.update(count)
        self.model.stop_predicting = self.over()


class LoadedNetwork:
    """A network of a finished run: `saved` of the manifest `model` that the folder `run` holds."""

    def __init__(self, saved: SavedNetwork, config, model: SavedModel, run: Path, augment):
        network = open_network(run / saved.file)
        config = dataclasses.replace(config, image_size=network.input_shape[1:3])
        self.sized = SizedNetwork(config, network, augment)
        self.tables = SimpleNamespace(kept_size=model.kept_size and tuple(model.kept_size))

    def predict(
        self, photos: pd.DataFrame, view: dict, bar: tqdm, over: Callable[[], bool] = lambda: False
    ) -> np.ndarray:
        """Return the probabilities of photos in one of the manifest's views, float32 [n, classes].

        The photos are readable and have a column path; `bar` counts them. Where `over` says after a
        batch that time is over, those of the first photos are all.
        """
        seen = View(**{name: value for name, value in view.items() if name != "number"})
        counted = [Progress(bar, len(photos), over)]
        return self.sized.predict(self.tables, photos, seen, view["number"], counted)


def all_devices() -> tf.distribute.Strategy:
    """Return the strategy that predicts on all GPUs of this machine."""
    return make_strategy(max(1, len(tf.config.list_logical_devices("GPU"))))


def predict_model(
    model: SavedModel, run: Path, photos: pd.DataFrame, configs: Mapping, augment
) -> np.ndarray:
    """Return the calibrated probabilities of a blend, float32 [photos, classes].

    `photos` are the readable ones, with a column path, and `configs` the settings of each member of
    the manifest in the folder `run`. Raises Problem if not even one photo fits into the memory.
    """
    doing("predicting")
    passes = sum(len(network.views) for member in model.members for network in member.networks)
    began, found = time.monotonic(), {}
    count = passes * len(photos)
    with (
        all_devices().scope(),
        tqdm(total=count, desc="predicting", unit=" photos", disable=None) as bar,
    ):
        for member in model.members:
            for saved in member.networks:
                config = configs[member.name]
                network = LoadedNetwork(saved, config, model, run, augment)
                views = [network.predict(photos, view, bar) for view in saved.views]
                found.setdefault(member.name, []).append(mean_of(views))
    seconds = time.monotonic() - began
    print(f"{len(photos)} photos in {passes} passes: {count / seconds:.0f} photos a second")
    return blend_of(model, found)


def mean_of(predictions: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of probabilities, float32."""
    return np.float32(np.mean(predictions, axis=0, dtype=np.float64))


def blend_of(model: SavedModel, found: Mapping[str, Sequence[np.ndarray]]) -> np.ndarray:
    """Return the blend of members with predictions, each of some networks, float32 [n, classes]."""
    members = [member for member in model.members if member.name in found]
    calibrated = {m.name: apply_temperature(mean_of(found[m.name]), m.temperature) for m in members}
    blended = combine(calibrated, {member.name: member.weight for member in members})
    return blended if model.temperature == 1 else apply_temperature(blended, model.temperature)


def settings_of(member: SavedMember, config_class: type, **session):
    """Return a member's settings as a config. Raises Problem if this kernel lacks some of them."""
    settings = {
        k: v for k, v in as_tuples(member.settings).items() if k not in ("stages", "members")
    }
    known = {field.name for field in dataclasses.fields(config_class)}
    if unknown := sorted(set(settings) - known):
        raise Problem(
            f"The run has settings that this kernel.py does not know ({', '.join(unknown)}): use "
            "the kernel.py that made the run."
        )
    return config_class(**settings | session)


def as_tuples(fields: Mapping) -> dict:
    """Return fields that JSON has read, with tuples in place of lists."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
