"""The drawn competition has the layout of the real one, and its cars can be told apart."""

import zipfile

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import RidgeClassifier

from equipment import EQUIPMENT
from kernelkit.data.check import check_photos
from kernelkit.data.read import read_competition
from kernelkit.data.split import split
from sample.bodies import CARS
from sample.cars import draw_photo
from sample.competition import draw_competition
from sample.features import FEATURES
from tiny_competition import HOME
from vehicles import VEHICLES


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    draw_competition(folder / "data", 6, 2, seed=5, solution=folder / "solution.csv")
    return folder


def test_it_has_the_layout_of_the_real_one(drawn):
    files = {path.name for path in (drawn / "data").iterdir()}
    assert files == {"train.csv", "sample-submission.csv", "train.zip", "test.zip"}
    train = pd.read_csv(drawn / "data" / "train.csv")
    sample = pd.read_csv(drawn / "data" / "sample-submission.csv")
    assert train.columns.tolist() == sample.columns.tolist() == ["Id", "Category"]
    assert train["Category"].value_counts().to_dict() == dict.fromkeys(range(10), 6)
    assert (sample["Category"] == 0).all()
    with zipfile.ZipFile(drawn / "data" / "train.zip") as bundle:
        members = {f"train/{label}/{Id}" for Id, label in train.itertuples(index=False)}
        assert set(bundle.namelist()) == members
        with bundle.open(bundle.namelist()[0]) as file, Image.open(file) as photo:
            assert (photo.format, photo.size, photo.mode) == ("JPEG", (640, 480), "RGB")
    with zipfile.ZipFile(drawn / "data" / "test.zip") as bundle:
        assert bundle.namelist() == [f"test_upload/{Id}" for Id in sample["Id"]]
    assert not set(train["Id"]) & set(sample["Id"])


def test_the_solution_holds_the_test_photos_labels(drawn):
    sample = pd.read_csv(drawn / "data" / "sample-submission.csv")
    solution = pd.read_csv(drawn / "solution.csv")
    assert solution["Id"].tolist() == sample["Id"].tolist()
    assert solution["Category"].value_counts().to_dict() == dict.fromkeys(range(10), 2)


def test_it_reads_checks_and_splits(drawn, tmp_path):
    competition = read_competition(drawn / "data", HOME, tmp_path)
    competition = check_photos(competition, 2)
    assert competition.excluded.empty
    assert competition.classes == list(range(10))
    assert competition.train["group"].is_unique  # no two drawn cars are taken for one
    kept, held = split(competition.train, 0.15, 0)
    assert set(kept["label"]) == set(held["label"])


def test_the_seed_decides(tmp_path):
    archives = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        draw_competition(tmp_path / name, 1, 1, (96, 128), seed)
        archives.append((tmp_path / name / "train.zip").read_bytes())
    assert archives[0] == archives[1] != archives[2]


@pytest.mark.parametrize("size", [(480, 640), (120, 160), (400, 300)])
def test_every_kind_is_drawn_inside_the_picture_at_any_size(size):
    bodies, features = CARS | VEHICLES, FEATURES | EQUIPMENT
    for number, (kind, body) in enumerate(bodies.items()):
        rng = np.random.default_rng([number, *size])
        photo = draw_photo(rng, body, features.get(kind), size)
        assert photo.shape == (*size, 3)
        assert photo.dtype == np.uint8
        assert photo.std() > 15


def edges(photo):
    """Return where edges of each of 8 directions lie, on a grid of 12 x 16."""
    grey = cv2.resize(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY), (96, 72)).astype("float32")
    strength, angle = cv2.cartToPolar(
        cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    )
    direction = (angle / np.pi * 8).astype(int) % 8
    maps = [cv2.blur(strength * (direction == k), (9, 9)) for k in range(8)]
    return np.sqrt(np.stack([cv2.resize(m, (16, 12)) for m in maps]) / strength.mean()).ravel()


def test_kinds_are_told_apart_by_shape_and_not_by_colour(drawn, tmp_path):
    competition = read_competition(drawn / "data", HOME, tmp_path)
    truth = pd.read_csv(drawn / "solution.csv")["Category"]

    def accuracy(feature):
        train, test = competition.train, competition.test
        known = [feature(cv2.imread(path)[:, ::side]) for side in (1, -1) for path in train["path"]]
        model = RidgeClassifier().fit(known, np.tile(train["label"], 2))
        return model.score([feature(cv2.imread(path)) for path in test["path"]], truth)

    by_colour = accuracy(lambda photo: photo.mean(axis=(0, 1)))
    by_shape = accuracy(edges)
    assert by_shape > 0.3 > by_colour  # 0.1 is chance
