"""The metrics of a run sum up what each stage did."""

import io
from dataclasses import asdict, dataclass
from types import SimpleNamespace

import albumentations as A
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from augmentor_pictures import turned_photo
from kernelkit.core.metrics import METRICS
from kernelkit.core.tables import write_list
from kernelkit.data.tables import load_tables
from kernelkit.report.results import augmented, stage_metrics, stage_sentence
from kernelkit.report.saved import size_of
from kernelkit.report.sheets import thumbnail
from tiny_competition import HOME, Settings, write_competition


@dataclass
class Stage:
    name: str
    fraction: float = 0.5
    learning_rate: float = 1e-3


def test_stage_metrics_sum_up_what_ran():
    rows = [
        {
            "stage": "half",
            "val_accuracy": accuracy,
            "val_score": 1 - accuracy,
            "seconds": 10.0,
            "images_per_second": speed,
            "input_bound": waited,
        }
        for accuracy, speed, waited in ((0.6, 90.0, 0.04), (0.8, 110.0, 0.02))
    ]
    metrics = stage_metrics(Stage("half"), rows, "b3", 2, METRICS["log-loss"])
    assert asdict(metrics) == {
        "member": "b3",
        "fold": 2,
        "name": "half",
        "share": 0.5,
        "learning_rate": 1e-3,
        "epochs_run": 2,
        "best_val_accuracy": 0.8,
        "best_val_score": pytest.approx(0.2),
        "seconds": 20,
        "images_per_second": 100,
        "input_bound": pytest.approx(0.03),
    }


def line_of(rows, metric="accuracy", **settings):
    """Return the line that ends a stage of these epochs, and the one of what would help."""
    state = SimpleNamespace(rows=rows, member="b3", fold=2, best_score=0.75)
    state.metric, state.settings = METRICS[metric], {"metric": metric}
    name = lambda stage: f"stage {stage.name}"  # noqa: E731
    clock = SimpleNamespace(state=state, remaining=lambda: 61.0, name=name)
    config = SimpleNamespace(**{"cache": True, "fuse": True, "workers": 10**6} | settings)
    return stage_sentence(config, Stage("all"), clock, "all layers train")


def epoch(score, waited=0.0):
    return {
        "stage": "all",
        "val_accuracy": 0.5,
        "val_score": score,
        "seconds": 3.0,
        "images_per_second": 7.0,
        "input_bound": waited,
    }


def test_the_line_of_a_stage_has_the_best_of_all_stages_and_the_time_left():
    assert line_of([epoch(0.5)]) == (
        "stage all is over: all layers train, 1 epoch in 3 s, best val_accuracy 0.5000 "
        "(chosen so far 0.7500), 7 images/s, input-bound 0%, left 0:01:01"
    )
    assert "2 epochs in 6 s, best val_log-loss 0.3000" in line_of(
        [epoch(0.5), epoch(0.3)], "log-loss"
    )
    assert "0 epochs" in line_of([])


@pytest.mark.parametrize(
    ("waited", "changed", "helps"),
    [
        ((0.5, 0.04), {}, "in the first epoch alone"),
        ((0.5, 0.5), {"cache": False}, "--cache yes"),
        ((0.0, 0.5), {"fuse": False}, "--fuse yes"),
        ((0.5,), {"workers": 0}, "--workers"),
        ((0.5,), {}, "--image-size"),
        ((0.04, 0.05), {"cache": False}, None),
    ],
)
def test_where_steps_wait_for_photos_a_line_says_what_would_help(waited, changed, helps):
    _, *more = line_of([epoch(0.5, share) for share in waited], **changed).splitlines()
    assert [helps in line for line in more] == ([True] if helps else [])


def test_the_size_of_a_photo_that_is_lost_is_unknown(tmp_path):
    photo = tmp_path / "a.png"
    Image.new("RGB", (5, 3)).save(photo)
    assert size_of(str(photo)) == (5, 3)
    photo.write_bytes(b"no photo")
    assert size_of(str(photo)) == (None, None)
    assert size_of(str(tmp_path / "lost.png")) == (None, None)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_the_size_of_a_turned_photo_is_that_of_what_is_shown(tmp_path, suffix):
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}.{suffix}"
        turned_photo(path, orientation)
        assert size_of(str(path)) == ((40, 60) if orientation >= 5 else (60, 40))


def test_a_photo_that_pillow_finds_too_large_is_measured_and_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # more than twice as many are an error
    path = tmp_path / "large.jpg"
    turned_photo(path, 6)
    assert size_of(str(path)) == (40, 60)
    with Image.open(io.BytesIO(thumbnail(str(path), 9))) as shown:
        assert shown.size == (6, 9)


def test_a_deep_photo_is_shown_as_it_trains(tmp_path):
    values = np.linspace(0, 1, 2400, dtype="f4").reshape(40, 60)
    Image.fromarray(values).save(tmp_path / "deep.tif")
    with Image.open(io.BytesIO(thumbnail(str(tmp_path / "deep.tif"), 60))) as shown:
        assert np.asarray(shown).max() > 240


def test_photos_before_and_after_augmentation_stand_side_by_side(tmp_path):
    write_competition(tmp_path / "data")
    config = Settings()
    tables = load_tables(tmp_path / "data", HOME, tmp_path / "scratch", config)[0]
    images, titles = augmented(config, tables, lambda config: A.Compose([A.InvertImg(p=1)]))
    rows = images.reshape(4, 5, 24, 32, 3)  # a photo of each class, and four versions
    assert titles[::5] == [0, 1, 10, 2]
    assert titles[1:5] == ["augmented"] * 4
    assert (rows[:, 1:] == 255 - rows[:, :1]).all()
    assert len({row[0].tobytes() for row in rows}) == 4


def test_a_list_without_rows_leaves_no_file_of_an_earlier_run(tmp_path):
    table = pd.DataFrame({"Id": ["a.jpg"]})
    write_list(table, tmp_path / "list.csv")
    assert (tmp_path / "list.csv").read_text() == "Id\na.jpg\n"
    write_list(table.head(0), tmp_path / "list.csv")
    assert not (tmp_path / "list.csv").exists()
