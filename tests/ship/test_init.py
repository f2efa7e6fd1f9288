"""`ship init` proposes a competition's block and metadata through the real client."""

import io
import json
import shutil
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kernelkit.core.problem import Problem
from kernelkit.data.check import check_photos
from kernelkit.data.find import open_competition
from kernelkit.data.read import read_competition
from loopback.scoring import score_file
from loopback.server import Loopback
from real_layouts import pack
from sample.competition import draw_competition
from sample.layouts import LAYOUTS
from ship.commands.init import _metadata_for
from ship.project.project import Project, competition_slug, kernel_metadata_errors
from ship.project.script import read_block
from shipping import KEY, REPOSITORY, World, make_project
from tiny_competition import HOME

QUICK = {"dataset_delay": 0.05, "queue_delay": 0.02, "scoring_delay": 0.05, "key": KEY}
SIZE = (96, 128)


@contextmanager
def drawn_world(folder: Path, *names: str):
    """Open a loopback Kaggle with small drawn competitions, and a copy of this project."""
    competitions, metrics = {}, {}
    for name in names:
        drawn, data = LAYOUTS[name], folder / name
        draw_competition(data, 6, 3, SIZE, solution=folder / f"{name}.csv", layout=name)
        competitions[drawn.slug] = (data, folder / f"{name}.csv")
        metrics[drawn.slug] = (drawn.metric, drawn.evaluation)
    project = make_project(folder / "project")
    shutil.copy2(REPOSITORY / "kernel.py", project / "kernel.py")
    shutil.rmtree(project / "lib")
    (project / "lib").symlink_to(REPOSITORY / "lib")
    with Loopback(folder / "kaggle", competitions, metrics=metrics, **QUICK) as kaggle:
        yield World(project, kaggle)
    assert not kaggle.connects


@pytest.fixture(scope="module")
def all_drawn(tmp_path_factory):
    with drawn_world(tmp_path_factory.mktemp("init"), *LAYOUTS) as world:
        yield world


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_from_init_to_a_scored_submission(all_drawn, name):
    """The block that init writes reads the folder; its perfect submission has the best score."""
    world, drawn = all_drawn, LAYOUTS[name]
    folder = world.project.parent
    decided = [f"--set={field}={value}" for field, value in drawn.untold.items()]
    outcome = world.ship("init", drawn.slug, "--write", *decided)
    assert outcome.status == 0, outcome
    layout = read_block(world.project / "kernel.py")
    assert (layout.slug, layout.metric) == (drawn.slug, drawn.metric)
    metadata = json.loads((world.project / "kernel-metadata.json").read_text())
    assert metadata["competition_sources"] == [drawn.slug]
    dataset = json.loads((world.project / "dataset-metadata.json").read_text())
    assert dataset["id"] in metadata["dataset_sources"]
    competition = check_photos(read_competition(folder / name, layout, folder / "scratch"), 1)
    assert competition.excluded.empty
    truth = pd.read_csv(folder / f"{name}.csv", dtype=str)
    labels = truth.iloc[:, 1].tolist()
    if drawn.form == "columns":
        labels = truth.columns[1:][truth.iloc[:, 1:].astype(int).to_numpy().argmax(1)].tolist()
    if drawn.form == "probability":
        labels = [drawn.labels[0] if label == "1" else drawn.labels[1] for label in labels]
    positions = [list(map(str, competition.classes)).index(label) for label in labels]
    perfect = np.eye(len(competition.classes), dtype=np.float32)[positions]
    file = folder / f"{name}-perfect.csv"
    competition.submission(perfect).to_csv(file, index=False)
    best = 0 if drawn.metric == "log-loss" else 1
    assert score_file(file, folder / f"{name}.csv", drawn.metric)[0] == pytest.approx(
        best, abs=1e-6
    )
    sent = world.ship("submit", str(file))
    assert sent.status == 0, sent
    assert f"public score of {file.name}: {best:.5f}" in sent.out


@pytest.fixture
def dogs(tmp_path):
    with drawn_world(tmp_path, "dogs-vs-cats") as world:
        yield world


def test_without_write_nothing_is_written(dogs):
    slug = LAYOUTS["dogs-vs-cats"].slug
    before = {path: path.read_bytes() for path in dogs.project.glob("*.*")}
    outcome = dogs.ship("init", f"https://www.kaggle.com/competitions/{slug}?x=1")
    assert outcome.status == 0, outcome
    assert 'pattern=r"^' in outcome.out
    assert "train/train/dog" in outcome.out
    assert "which of cat and dog the probability is of: dog is a guess" in outcome.out
    assert 'competition_sources: ["sf-dl-car-classification"] -> ["dogs' in outcome.out
    assert "nothing is written" in outcome.out.splitlines()[-1]
    assert {path: path.read_bytes() for path in dogs.project.glob("*.*")} == before
    fetched = [call.path for call in dogs.kaggle.requests if "/files/data/" in call.path]
    assert all("sample_submission" in path or "zip" in path for path in fetched)
    refused = dogs.ship("init", slug, "--write")
    assert refused.status == 1
    assert "decide with --set what is unknown: which of cat and dog" in refused.sentence
    assert {path: path.read_bytes() for path in dogs.project.glob("*.*")} == before
    wrong = dogs.ship("init", slug, "--set", "colour=red")
    assert "a block has no field colour; it has group, id," in wrong.sentence
    written = dogs.ship("init", slug, "--set", "positive=cat", "--write")
    assert written.status == 0, written
    assert read_block(dogs.project / "kernel.py").positive == "cat"
    shown = subprocess.run(
        [sys.executable, "-P", str(dogs.project / "kernel.py"), "--show-config"],
        env=dogs.environment | {"PYTHONPATH": ""},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert json.loads(shown.stdout)["competition"] == slug, shown.stderr


def test_a_metric_that_is_not_surely_ours_is_decided_by_a_person(tmp_path):
    with drawn_world(tmp_path, "home") as world:
        slug = LAYOUTS["home"].slug
        world.kaggle.settings.metrics[slug] = ("accuracy", "Balanced Accuracy")
        told = world.ship("init", slug)
        assert "'Balanced Accuracy'" in told.out
        refused = world.ship("init", slug, "--write")
        assert refused.status == 1
        assert "'Balanced Accuracy'" in refused.sentence
        wrong = world.ship("init", slug, "--write", "--set", "metric=rmse")
        assert "'rmse'" in wrong.sentence
        assert world.ship("init", slug, "--write", "--set", "metric=macro-f1").status == 0
        assert read_block(world.project / "kernel.py").metric == "macro-f1"


def test_a_sample_that_is_packed_at_kaggle_checks_a_submission(dogs):
    data = dogs.project.parent / "dogs-vs-cats"
    pack(data, "sample_submission.csv")
    slug = LAYOUTS["dogs-vs-cats"].slug
    assert dogs.ship("init", slug, "--write", "--set", "positive=dog").status == 0
    shutil.rmtree(dogs.project / "runs")
    sent = dogs.ship("submit", str(dogs.project.parent / "dogs-vs-cats.csv"))
    assert sent.status == 0, sent
    assert "0.00000" in sent.out


def test_a_competition_in_one_zip_from_init_to_a_checked_submission(dogs):
    """Its tables lie in the zip, of which only what is asked for is fetched."""
    data, slug = dogs.project.parent / "dogs-vs-cats", LAYOUTS["dogs-vs-cats"].slug
    for part in ("train", "test"):
        with zipfile.ZipFile(data / f"{part}.zip") as bundle:
            bundle.extractall(data)
        (data / f"{part}.zip").unlink()
    shutil.make_archive(str(data.parent / "all"), "zip", data)
    shutil.rmtree(data)
    data.mkdir()
    shutil.move(data.parent / "all.zip", data / f"{slug}.zip")
    written = dogs.ship("init", slug, "--write", "--set", "positive=dog")
    assert written.status == 0, written
    layout = read_block(dogs.project / "kernel.py")
    assert layout.sample_csv == "sample_submission.csv"
    assert (layout.train_photos, layout.test_photos) == (("train",), ("test",))
    scratch = data.parent / "scratch"
    competition = read_competition(open_competition(data, scratch), layout, scratch)
    assert competition.classes == ["cat", "dog"]
    shutil.rmtree(dogs.project / "runs")
    sent = dogs.ship("submit", str(data.parent / "dogs-vs-cats.csv"))
    assert sent.status == 0, sent
    assert "0.00000" in sent.out


ADDRESSES = [
    "https://www.kaggle.com/c/dogs-vs-cats/data",
    "https://www.kaggle.com/competitions/dogs-vs-cats",
    "https://www.kaggle.com/competitions/dogs-vs-cats/overview/evaluation?x=1#rules",
    "http://kaggle.com/c/dogs-vs-cats/leaderboard/",
    "www.kaggle.com/competitions/dogs-vs-cats?tab=data",
    "kaggle.com/dogs-vs-cats",
    "competitions/dogs-vs-cats/code",
    " dogs-vs-cats/ ",
    "dogs-vs-cats",
]


@pytest.mark.parametrize("text", ADDRESSES)
def test_the_slug_in_an_address(text):
    assert competition_slug(text) == "dogs-vs-cats"


@pytest.mark.parametrize("text", ["", "/", "https://www.kaggle.com/", "a b", "..", "../../x", "?x"])
def test_an_address_of_no_competition(dogs, text):
    assert competition_slug(text) == ""
    if text:
        assert f"{text!r} names no competition" in dogs.ship("init", text).sentence


def mac_zip(files: dict[str, bytes]) -> bytes:
    """Return a zip as a Mac makes it, with its own files first."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name in files:
            bundle.writestr(f"__MACOSX/._{name}", b"\0\5\x16\7")
        for name, content in {".DS_Store": b"", **files}.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


ZIPS = {
    "a Mac's": lambda csv: mac_zip({"sample_submission.csv": csv}),
    "another name": lambda csv: mac_zip({"sample.csv": csv}),
    "in a folder": lambda csv: mac_zip({"x/sample_submission.csv": csv, "x/other.csv": b"a\n1\n"}),
    "no table": lambda csv: mac_zip({"readme.txt": b"x"}),
    "only clutter": lambda csv: mac_zip({}),
    "two others": lambda csv: mac_zip({"a.csv": b"a\n1\n", "b.csv": b"b\n1\n"}),
    "cut": lambda csv: mac_zip({"sample_submission.csv": csv * 50})[:-40],
}


@pytest.mark.parametrize("kind", ZIPS)
def test_a_table_in_any_zip(dogs, kind):
    data = dogs.project.parent / "dogs-vs-cats"
    csv = (data / "sample_submission.csv").read_bytes()
    (data / "sample_submission.csv").unlink()
    (data / "sample_submission.csv.zip").write_bytes(ZIPS[kind](csv))
    outcome = dogs.ship("init", LAYOUTS["dogs-vs-cats"].slug)
    assert "unexpected error" not in outcome.err, outcome
    assert outcome.status == (0 if kind in ("a Mac's", "another name", "in a folder") else 1)
    assert outcome.status == 0 or "sample_submission.csv" in outcome.sentence


def test_a_competition_that_is_not_there_or_not_supported(dogs):
    assert "404" in dogs.ship("init", "no-such-competition").sentence
    data = dogs.project.parent / "dogs-vs-cats"
    (data / "train.zip").unlink()
    slug = LAYOUTS["dogs-vs-cats"].slug
    sentence = dogs.ship("init", slug).sentence
    assert sentence.startswith(f"{slug}: ")
    assert sentence.endswith("Nothing is proposed.")


def test_the_block_of_a_kernel_is_read_from_its_text(tmp_path):
    assert read_block(REPOSITORY / "kernel.py").tables == HOME.tables
    (tmp_path / "kernel.py").write_text("print(1)\n")
    with pytest.raises(Problem, match=r"there is none.: write COMPETITION = Layout"):
        read_block(tmp_path / "kernel.py")


@pytest.mark.parametrize("length", [42, 43, 45, 46])
def test_the_kernel_that_predicts_has_a_title_that_kaggle_takes(length):
    slug = f"fish-{'a' * (length - 10)}-boat"
    context = SimpleNamespace(project=Project(REPOSITORY))
    kernel, dataset = _metadata_for(context, slug).values()
    assert not kernel_metadata_errors(kernel, dataset["id"])
    assert len(f"{kernel['title']} predict") <= 50
