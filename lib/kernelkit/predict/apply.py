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

from kernelkit.config.members import at_scale
from kernelkit.config.views import View
from kernelkit.core.boundary import doing
from kernelkit.core.problem import Problem
from kernelkit.core.tables import read_csv
from kernelkit.data.check import examine_all
from kernelkit.data.find import list_files, photos_in, unpack
from kernelkit.predict.calibration import apply_temperature
from kernelkit.predict.ensemble import combine
from kernelkit.predict.saved_model import SavedMember, SavedModel, SavedNetwork
from kernelkit.predict.tta import predict_photos
from kernelkit.train.devices import make_strategy
from kernelkit.train.presets import open_network, resize_network

NO_FILE = "there is no such file"


# --------------------------------------------------------------------------------- the photos


def find_photos(source: Path, scratch: Path) -> pd.DataFrame:
    """Return the photos that a path names: columns file, as it is called there, and path.

    Args:
        source: a folder of any depth, a zip, one photo, or a CSV with a column of paths, which
            are relative to the CSV's folder.
        scratch: where a zip is unpacked.

    Raises:
        Problem: there is no such file or folder, or no photo in it.
    """
    if not source.exists():
        raise Problem(f"--predict {source}: there is no such folder, zip, photo or CSV.")
    if source.suffix.lower() == ".csv":
        return _listed(source)
    if source.suffix.lower() == ".zip":
        source = unpack(source, scratch)
    if source.is_file():
        return pd.DataFrame({"file": [source.name], "path": [str(source)]})
    found = photos_in(list_files(source)).rename(columns={"name": "file"})
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


# -------------------------------------------------------------------------------- the networks


class Progress(keras.callbacks.Callback):
    """Counts predicted photos in a progress bar, and stops when time is over.

    Args:
        bar: counts the photos.
        photos: how many there are.
        over: tells after each batch whether time is over.
    """

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
    """A network of a finished run, in all sizes that its views need.

    Args:
        saved: its part of the manifest.
        config: the settings of its member.
        model: the manifest.
        run: the folder that holds it.
        augment: returns the training's augmentation for settings.
    """

    def __init__(self, saved: SavedNetwork, config, model: SavedModel, run: Path, augment):
        network = open_network(run / saved.file)
        self.config = dataclasses.replace(config, image_size=network.input_shape[1:3])
        self.tables = SimpleNamespace(kept_size=model.kept_size and tuple(model.kept_size))
        self.networks = {1.0: network}
        self.augment = augment

    def predict(
        self,
        photos: pd.DataFrame,
        view: dict,
        bar: tqdm,
        over: Callable[[], bool] = lambda: False,
    ) -> np.ndarray:
        """Return the probabilities of photos in one of the manifest's views, float32 [n, classes].

        Args:
            photos: the readable ones, with a column path.
            view: its fields, as the manifest has them.
            bar: counts the photos.
            over: tells after each batch whether time is over: those of the first photos are all.
        """
        seen = View(**{name: value for name, value in view.items() if name != "number"})
        sized = at_scale(self.config, seen.scale)
        if seen.scale not in self.networks:
            self.networks[seen.scale] = resize_network(self.networks[1.0], sized.image_size)
        transform = self.augment(sized) if seen.trained else seen.transform(*sized.image_size)
        counted = [Progress(bar, len(photos), over)]
        network = self.networks[seen.scale]
        return predict_photos(
            sized, self.tables, photos, network, transform, view["number"], counted
        )


def all_devices() -> tf.distribute.Strategy:
    """Return the strategy that predicts on all GPUs of this machine."""
    return make_strategy(max(1, len(tf.config.list_logical_devices("GPU"))))


def predict_model(
    model: SavedModel, run: Path, photos: pd.DataFrame, configs: Mapping, augment
) -> np.ndarray:
    """Return the calibrated probabilities of a blend, float32 [photos, classes].

    Args:
        model: the manifest of the run.
        run: the folder that holds it.
        photos: the readable ones, with a column path.
        configs: the settings of each member, by its name.
        augment: as in `LoadedNetwork`.

    Raises:
        Problem: not even one photo fits into a device's memory.
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
    """Return the blend of the members that have predictions, float32 [photos, classes].

    Args:
        model: the manifest.
        found: the probabilities of one or more networks of a member, by the member's name.
    """
    members = [member for member in model.members if member.name in found]
    calibrated = {m.name: apply_temperature(mean_of(found[m.name]), m.temperature) for m in members}
    blended = combine(calibrated, {member.name: member.weight for member in members})
    return blended if model.temperature == 1 else apply_temperature(blended, model.temperature)


# -------------------------------------------------------------------------------- the settings


def settings_of(member: SavedMember, config_class: type, **session):
    """Return the settings of a member as the kernel's config.

    Args:
        member: of the manifest.
        config_class: the kernel's dataclass of settings.
        session: settings of this session, such as workers.

    Raises:
        Problem: the run has settings that this kernel does not know.
    """
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
