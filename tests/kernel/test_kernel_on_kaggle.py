"""The unchanged kernel in Kaggle's surroundings, under each way in which sources are mounted."""

import json
from pathlib import Path

import pandas as pd
import pytest

from loopback.sandbox import LAYOUTS, guarantees, mount_path, run_script
from sample.competition import draw_competition
from ship.project.contents import copy_files, upload_files

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "recipe": "dry",
    "image_size": "40x56",
    "stages": "head:0:1e-3:1,half:0.5:1e-3:1,three-quarters:0.75:1e-3:1,all:1:1e-3:1",
}
STAGED = "typed"  # the layout under which all stages run
LAYOUT_SETTINGS = SETTINGS | {"stages": "head:0:1e-3:1", "tta": "1"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The lib folder as a dataset holds it, and a competition in Kaggle's own zips."""
    folder = tmp_path_factory.mktemp("sources")
    copy_files(upload_files(ROOT / "lib", ["plain_notop.weights.h5"]), folder / "lib")
    draw_competition(folder / "cars", train_per_class=8, test_per_class=2, size=(96, 128))
    return folder / "lib", folder / "cars"


def script_with(folder: Path, overrides: dict[str, str]) -> Path:
    """Return kernel.py with settings in its marked block, as `ship push --set` writes them."""
    empty = "OVERRIDES: dict[str, str] = {}\n"
    text = (ROOT / "kernel.py").read_text(encoding="utf-8")
    assert text.count(empty) == 1
    script = folder / "anything.py"
    script.write_text(text.replace(empty, f"OVERRIDES = {json.dumps(overrides)}\n"), "utf-8")
    return script


def place_of_lib(layout: str) -> str:
    return mount_path(layout, "dataset", "someone", "car-classification-lib")


def run_as_kaggle(tmp_path, sources, layout, overrides) -> tuple[Path, str]:
    lib, competition = sources
    place = mount_path(layout, "competition", "", "sf-dl-car-classification")
    inputs = {place_of_lib(layout): lib, place: competition}
    working, lines = tmp_path / "working", []
    working.mkdir()
    script = script_with(tmp_path, overrides)
    status = run_script(script, inputs, working, on_line=lines.append, timeout=600)
    log = "\n".join(lines)
    assert status == 0, log
    assert "WARNING" not in log, log
    return working, log


def check_submission(working: Path, competition: Path) -> None:
    sample = pd.read_csv(competition / "sample-submission.csv")
    made = pd.read_csv(working / "submission.csv")
    assert list(made) == list(sample)
    assert list(made.Id) == list(sample.Id)
    assert set(made.Category) <= set(range(10))


def check_packages(layout: str, log: str) -> None:
    """Assert that our packages came from where the layout mounts them."""
    if not guarantees():
        assert f"packages from /kaggle/input/{place_of_lib(layout)}," in log


@pytest.mark.slow
@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != STAGED])
def test_it_runs_under_each_mount_layout(tmp_path, sources, layout):
    working, log = run_as_kaggle(tmp_path, sources, layout, LAYOUT_SETTINGS)
    check_submission(working, sources[1])
    check_packages(layout, log)


@pytest.mark.slow
def test_all_four_stages_leave_nothing_but_results(tmp_path, sources):
    """Photos are unpacked elsewhere: what lies in the working folder Kaggle keeps as output."""
    working, log = run_as_kaggle(tmp_path, sources, STAGED, SETTINGS)
    check_submission(working, sources[1])
    check_packages(STAGED, log)
    made = {path.relative_to(working).as_posix() for path in working.rglob("*")}
    lists = {name for name in made if name.startswith("report/")}
    assert {"report/least_sure.csv", "report/thumbnails.zip"} <= lists
    assert made - lists - {"suspects.csv", "unlike.csv"} == {  # these may be there or not
        "members",
        "members/Plain",
        "members/Plain/probabilities.npz",
        "submission.csv",
        "probabilities.npz",
        "history.csv",
        "metrics.json",
        "best.keras",
        "model.json",
        "class_balance.png",
        "augmented.png",
        "learning_curves.png",
        "confusion_matrix.png",
        "photos.csv",
        "report.html",
        "report",
    }
    stages = json.loads((working / "metrics.json").read_text())["stages"]
    assert [stage["epochs_run"] for stage in stages] == [1, 1, 1, 1]
    for number, name in enumerate(("head", "half", "three-quarters", "all"), start=1):
        assert f"[stage {number}/4 {name}] epoch 1/1  loss " in log


@pytest.mark.slow
def test_without_the_competition_one_sentence_says_what_to_attach(tmp_path, sources):
    lines = []
    (tmp_path / "working").mkdir()
    script = script_with(tmp_path, SETTINGS)
    inputs = {"car-classification-lib": sources[0]}
    status = run_script(script, inputs, tmp_path / "working", on_line=lines.append, timeout=120)
    assert status == 1
    assert "attach the competition sf-dl-car-classification" in "\n".join(lines)
    assert "Traceback" not in "\n".join(lines)
