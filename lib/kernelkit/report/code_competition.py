"""Predict a competition's test set with a finished run: the kernel that code competitions score.

Kaggle runs the kernel twice: on the few public test photos, and, for the score, on a hidden test
set of which nothing is known beforehand. A valid submission.csv is there from the first second on
and gets better whenever a network is finished.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from kernelkit.core.boundary import doing
from kernelkit.core.contract import MODEL_FILE, PREDICTED_FILE
from kernelkit.core.files import file_hash, write_atomically
from kernelkit.core.packages import packages_found
from kernelkit.core.problem import Problem
from kernelkit.core.progress import clock_text
from kernelkit.core.tables import write_table
from kernelkit.data.find import find_photos, read_table
from kernelkit.data.layout import Layout, table_file
from kernelkit.data.read import read_tests
from kernelkit.data.submission import fill
from kernelkit.offline import find_in_outputs, find_mounted
from kernelkit.predict.apply import (
    LoadedNetwork,
    all_devices,
    as_tuples,
    blend_of,
    mean_of,
    settings_of,
    with_reasons,
)
from kernelkit.predict.members import SavedMember, SavedModel, SavedNetwork, read_model
from kernelkit.predict.tta import order_of
from kernelkit.report.results import peak_memory_mb
from kernelkit.train.costs import gmacs_of

RERUN = "KAGGLE_IS_COMPETITION_RERUN"  # is set in the run that is scored
SHARE = 0.8  # of the session's time that the prediction may take
LIMIT_MINUTES = 9 * 60  # of most code competitions
FIRST_PHOTOS = 64  # whose prediction tells the speed


def is_rerun() -> bool:
    """Tell whether this is the run that is scored, whose log nobody sees."""
    return bool(os.environ.get(RERUN))


def find_model(inputs: Path, name: str) -> Path:
    """Return the mounted run's folder of that name. Raises Problem if there is none, or several."""
    if (Path(name) / MODEL_FILE).is_file():
        return Path(name)
    found = [file.parent for file in find_in_outputs(inputs, MODEL_FILE)]
    named = [folder for folder in found if name in folder.parts]
    found = named or found
    if len(found) != 1:
        places = ", ".join(map(str, found)) or "none"
        raise Problem(
            f"predict_from={name}: below {inputs} there must be one {MODEL_FILE} of a finished "
            f"run, but found are: {places}. Attach the dataset that `ship publish` made, and only "
            "it."
        )
    return found[0]


def predict_competition(
    config,
    layout: Layout,
    inputs: Path,
    data: Path | None,
    output: Path,
    scratch: Path,
    start: float,
    backbones: Mapping,
    augment: Callable,
) -> None:
    """Write submission.csv for a competition's test set, whatever happens.

    `config` has predict_from; time_limit, in minutes; and as_many, photos of the training set that
    are predicted in place of the test set, to measure. The `layout` is the kernel's, for the first
    file; the run's own one says the rest. The run and, without `data`, the competition are mounted
    below `inputs`; `start` is the session's, in seconds of time.monotonic(). Raises Problem if
    something is wrong; in the run that is scored, what the file holds by then stands.
    """
    data = data or find_mounted(inputs, layout.slug, layout.tables)
    refuse_inference_server(data)
    if layout.sample_csv and table_file(data, layout.sample_csv):  # before anything can go wrong
        write_table(read_table(data, layout.sample_csv, scratch), output / "submission.csv")
    folder = find_model(inputs, config.predict_from)
    model = read_model(folder, every_file=not is_rerun())
    layout = Layout(**as_tuples(model.layout))
    doing("reading the test set")
    sample, test = read_tests(data, layout, scratch)
    if config.as_many:
        sample, test = as_many(config.as_many, data, layout, scratch, sample)
    rows = np.tile(np.float32(model.frequencies), (len(sample), 1))

    def write() -> None:
        write_table(fill(sample, layout, model.classes, rows), output / "submission.csv")

    write()
    print(f"{len(sample)} rows to predict; the file is there with the classes' frequencies")
    photos = with_reasons(test.rename(columns={"Id": "file"})).iloc[order_of(test)]
    if count := int((photos["reason"] != "").sum()):
        print(f"{count} photos can't be read: their rows keep these frequencies")
    readable = photos.index[photos["reason"] == ""]
    limit = 60 * (config.time_limit or LIMIT_MINUTES)
    configs = {m.name: settings_of(m, type(config), cache=False) for m in model.members}
    costs = {name: gmacs_of(member, backbones) for name, member in configs.items()}
    plan = Passes(model, configs, costs, start + SHARE * limit)
    if len(readable):
        for blended, done in plan.run(photos.loc[readable], folder, augment):
            rows[readable[:done]] = blended
            write()
    took = {"photos": len(test), "seconds": time.monotonic() - start, "limit": limit}
    took |= {"model": file_hash(folder / MODEL_FILE), "peak_memory_mb": peak_memory_mb()}
    took |= {"views": plan.views, "members": [member.name for member in plan.members]}
    took |= {"packages": packages_found()}  # by which `ship` sees that the run was of its code
    write_atomically(output / PREDICTED_FILE, json.dumps(took))
    print(f"{output / 'submission.csv'} is complete after {clock_text(time.monotonic() - start)}")


def as_many(
    count: int, data: Path, layout: Layout, scratch: Path, sample: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a sample and a test set of so many training photos, repeated where these are few."""
    paths = find_photos(data, layout.train_photos, scratch)["path"]
    ids = [f"{number:07d}" for number in range(count)]
    test = pd.DataFrame({"Id": ids, "path": np.resize(paths.to_numpy(object), count)})
    empty = dict.fromkeys(sample.columns[1:], "0")
    return pd.DataFrame({sample.columns[0]: ids}).assign(**empty), test


def refuse_inference_server(data: Path) -> None:
    """Refuse competitions that ask for a server of predictions. Raises Problem if this is one."""
    if (data / "kaggle_evaluation").is_dir():
        raise Problem(
            f"{data} holds kaggle_evaluation: this competition asks an inference server for one "
            "batch after another, and this kernel only writes a submission.csv. It would take a "
            "function predict(batch) of your own that the competition's server calls."
        )


class Passes:
    """The passes over the test set that fit into the time, the most useful ones first.

    `costs` are the billions of multiply-adds of a photo for each member; the last pass must be over
    at `deadline`, in seconds of time.monotonic().
    """

    def __init__(self, model: SavedModel, configs: Mapping, costs: Mapping, deadline: float):
        self.model, self.configs, self.costs, self.deadline = model, configs, costs, deadline
        self.members = sorted(model.members, key=lambda member: -member.weight)
        self.views = max(len(n.views) for member in self.members for n in member.networks)
        self.rate = math.inf  # billions of multiply-adds a second

    def cost(self, member: SavedMember, view: dict) -> float:
        """Return what a photo costs in a view, in billions of multiply-adds."""
        return self.costs[member.name] * view["scale"] ** 2

    def total(self, photos: int) -> float:
        """Return the seconds that all passes take at the measured speed."""
        costs = [
            self.cost(member, view)
            for member in self.members
            for network in member.networks
            for view in network.views[: self.views]
        ]
        return photos * sum(costs) / self.rate

    def shorten(self, photos: int) -> None:
        """Leave out views, and then members, the weakest first, until the passes fit; print it."""
        left = self.deadline - time.monotonic()
        print(f"{photos} photos take {clock_text(self.total(photos))}, {clock_text(left)} are left")
        while self.total(photos) > left and self.views > 1:
            self.views -= 1
            print(f"too long: at most {self.views} views of each network")
        while self.total(photos) > left and len(self.members) > 1:
            print(f"too long: {self.members.pop().name} is left out")

    def run(self, photos: pd.DataFrame, folder: Path, augment: Callable):
        """Yield the blend so far, float32 [photos, classes], and how many photos it covers."""
        found: dict[str, list[np.ndarray]] = {}
        with all_devices().scope(), tqdm(desc="predicting", unit=" photos", disable=None) as bar:
            for member, saved in self.networks():
                try:
                    config = self.configs[member.name]
                    network = LoadedNetwork(saved, config, self.model, folder, augment)
                    if math.isinf(self.rate):
                        self.measure(member, saved, network, photos, bar)
                        self.shorten(len(photos))
                    passes = self.predict(saved, network, photos, bar)
                except (Problem, OSError, ValueError) as error:
                    if not is_rerun():
                        raise
                    print(f"{member.name}, fold {saved.fold}, is left out: {error}")
                    continue
                if passes is None and found:
                    print("Time is up: the networks so far are submitted.")
                    return
                if passes is not None:
                    found.setdefault(member.name, []).append(passes)
                    shortest = min(len(one) for each in found.values() for one in each)
                    covered = {n: [one[:shortest] for one in each] for n, each in found.items()}
                    yield blend_of(self.model, covered), len(passes)

    def networks(self):
        """Yield the networks that are not left out by then, with their members."""
        for member in list(self.members):
            for saved in member.networks:
                if member in self.members:
                    yield member, saved

    def measure(self, member, saved: SavedNetwork, network: LoadedNetwork, photos, bar) -> None:
        """Measure the speed on the first photos, after a batch that makes all that is made once."""
        view, first = saved.views[0], photos.head(FIRST_PHOTOS)
        network.predict(first.head(1), view, bar)
        began = time.monotonic()
        network.predict(first, view, bar)
        seconds = max(time.monotonic() - began, 1e-6)
        self.rate = self.cost(member, view) * len(first) / seconds

    def predict(self, saved, network: LoadedNetwork, photos, bar) -> np.ndarray | None:
        """Return the mean over a network's views, of as many first photos as time allows."""
        passes: list[np.ndarray] = []
        for view in saved.views[: self.views]:
            if self.is_over():
                break
            done = network.predict(photos, view, bar, self.is_over)
            if len(done) == len(photos) or not passes:
                passes.append(done)
        return mean_of(passes) if passes else None

    def is_over(self) -> bool:
        """Tell whether the time is up."""
        return time.monotonic() > self.deadline
