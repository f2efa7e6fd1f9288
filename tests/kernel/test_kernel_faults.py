"""What can go wrong around a run: a disk that fills, a clock that jumps, memory that grows."""

import ast
import random
import resource
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import keras
import pandas as pd
import psutil
import pytest

from ImageDataAugmentor.reading import ImageLoader
from kernel_runs import check_full_disk, run_short
from kernelkit.predict.tta import predict, predict_photos
from small_networks import make_clock
from tiny_kernel import TINY, final_config, kernel

ROOT = Path(kernel.__file__).parent


@pytest.mark.slow
def test_a_disk_that_fills_at_any_moment_loses_nothing(competition, tmp_path, capsys):
    """One of the moments; `tests/benchmarks/faults.py` tries all of them."""
    seed = time.time_ns()
    moment = random.Random(seed).randint(1, 36)
    with capsys.disabled():
        print("moment:", moment)
    assert check_full_disk(competition, tmp_path, moment, capsys.readouterr)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder in which nobody can write")
def test_a_folder_that_is_read_only_is_named(competition, capsys):
    assert run_short(competition, "/sys/kernel/output") == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "/sys/kernel/output can't be used" in said
    assert "check the path and its permissions" in said


def test_no_decision_depends_on_a_clock_that_may_jump():
    """Only what is shown may: the time of day at which a run ends."""
    shown = {"lib/kernelkit/train/plan.py", "lib/kernelkit/report/results.py"}
    rooms = ("kernelkit", "ImageDataAugmentor")
    files = [
        ROOT / "kernel.py",
        *(f for room in rooms for f in (ROOT / "lib" / room).rglob("*.py")),
    ]
    asking = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                *("time.time", "time.time_ns", "datetime.now", "datetime.datetime.now"),
            ):
                asking.add(file.relative_to(ROOT).as_posix())
    assert asking == shown  # or nothing would be seen


def resident_mb() -> float:
    return psutil.Process().memory_info().rss / 2**20


@pytest.mark.slow
def test_memory_does_not_grow_over_thirty_epochs(competition, tmp_path, monkeypatch):
    sizes, revise = [], kernel.Clock.remaining
    monkeypatch.setattr(
        kernel.Clock, "remaining", lambda clock: (sizes.append(resident_mb()), revise(clock))[1]
    )
    stages = ["--stages", "all:1:1e-3:30", "--tta", "1", "--limit", "4"]
    assert run_short(competition, tmp_path, *stages) == 0
    assert len(sizes) >= 30
    assert max(sizes[25:30]) - min(sizes[8:12]) < 25


def small_network(config, classes=4, weights=None):
    """Return a network of the settings' size that takes no time."""
    inputs = keras.Input((*config.image_size, 3), dtype="uint8")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(pooled))


def settings_and_tables(competition, scratch, *arguments):
    """Return the settings for larger photos, and the tables of a competition."""
    config = final_config(*TINY, "--data", str(competition), *arguments)
    config = replace(config, image_size=(96, 128), batch_size=16)
    return config, kernel.load_tables(competition, kernel.COMPETITION, scratch, config)


@pytest.mark.parametrize(("tta", "kept"), [("1", (96, 128)), ("2", (96, 128)), ("3", (110, 147))])
def test_photos_are_kept_as_large_as_a_view_needs_that_is_used(competition, tmp_path, tta, kept):
    """So that without the larger views they are resized once, by area."""
    config, parts = settings_and_tables(competition, tmp_path, "--tta", tta)
    (tables,) = kernel.keep_decoded(parts, [config], kernel.VIEWS, tmp_path)
    assert tables.kept_size == kept


def test_each_photo_is_decoded_once_for_all_views(competition, tmp_path, monkeypatch):
    config, parts = settings_and_tables(competition, tmp_path, "--tta", "4")
    (tables,) = kernel.keep_decoded(parts, [config], kernel.VIEWS, tmp_path)
    decoded, decode = Counter(), ImageLoader.decode
    monkeypatch.setattr(
        ImageLoader, "decode", lambda self, path: (decoded.update([path]), decode(self, path))[1]
    )
    state = kernel.open_state(tmp_path / "state", {}, "", fresh=False)
    clock = make_clock(state, config.stages, images=24, passes=4)
    fold = predict(
        *(config, tables, small_network(config), clock, kernel.VIEWS[:4]),
        kernel.augmentation,
    )
    assert fold.test.shape == (12, 4)
    tested = [decoded[path] for path in tables.test.path]
    assert set(tested) <= {1, 2}  # the first is looked at to know the shape of a batch
    assert sum(tested) <= len(tested) + 1


def test_memory_does_not_grow_with_the_test_set(competition, tmp_path):
    """1,900 more photos of 96x128 would take 70 MB, in floats 280."""
    config, (tables,) = settings_and_tables(competition, tmp_path, "--cache", "no")
    network = small_network(config)

    def peak(photos: int) -> float:
        table = pd.concat([tables.test] * (photos // len(tables.test) + 1))[:photos]
        assert predict_photos(config, tables, table, network, None).shape == (photos, 4)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

    few = peak(100)
    assert peak(2000) - few < 30
