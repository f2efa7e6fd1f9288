"""`ship rehearse` shows the whole product without an account."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from kernelkit.data.read import read_competition
from sample.competition import draw_competition
from ship.commands.rehearse import own_competition
from ship.project.offline import HDF5_SIGNATURE
from ship.project.project import Project, copy_project
from ship.project.script import read_block
from shipping import KERNEL, REPOSITORY, Outcome, make_competition, make_project
from tiny_competition import write_csv, write_photo


def rehearse(folder, *arguments: str) -> Outcome:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KAGGLE_")}
    process = subprocess.run(
        [sys.executable, "-P", "-m", "ship", "rehearse", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(REPOSITORY / "lib"), "SHIP_POLL": "0.1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return Outcome(process.returncode, process.stdout, process.stderr)


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project")


@pytest.fixture
def data(tmp_path):
    folder, solution = make_competition(tmp_path)
    return ["--data", str(folder), "--solution", str(solution)]


@pytest.mark.slow
def test_the_real_kernel_from_nothing_to_a_score():
    runs = REPOSITORY / "runs"
    ledger = runs / "ledger.jsonl"
    before = ledger.read_bytes() if ledger.exists() else None
    outcome = rehearse(REPOSITORY)
    assert outcome.status == 0, outcome.out[-3000:] + outcome.err
    found = re.search(r"rehearsal: public score (\d\.\d{5}) after (\d+) min", outcome.out)
    head = re.search(r"stage head is over: .* best val_accuracy (\d\.\d+)", outcome.out)
    assert (
        float(head[1]) >= 0.5
    )  # 0.40 to 0.43 where inputs have a wrong range, which later stages mend
    assert 0.85 <= float(found[1]) <= 1, outcome.out[-3000:]  # drawn cars are told apart
    assert "to the reference's" not in outcome.out  # whose score is of real photos
    assert (ledger.read_bytes() if ledger.exists() else None) == before
    written = Path(re.search(r"its report, for a browser: (\S+)", outcome.out)[1])
    assert written.parent.parent == runs  # beside earlier rehearsals
    page = written.read_text(encoding="utf-8")
    assert "Score of the submission" in page
    assert f"{float(found[1]):.2%}" in page


def test_a_folder_of_ones_own(project, data):
    outcome = rehearse(project, *data)
    assert outcome.status == 0, outcome
    first, *_, last = outcome.out.splitlines()
    assert "kernel.py" in first
    assert data[1] in first
    assert "recipe=dry limit=60" in first
    for noise in ("kaggle.com", "session", "loopback", "wheels", "alice", "leaves it running"):
        assert noise not in outcome.out + outcome.err
    assert re.fullmatch(r"rehearsal: public score 0\.88889 after 0 min \d\d s", last)
    assert "1 dataset version, 1 kernel version, 1 kernel run, 1 submission" in outcome.out
    assert [file.name for file in (project / "runs").iterdir()] == ["rehearsal"]
    kept = project / "runs" / "rehearsal" / "submission.csv"
    assert f"its submission: {kept}" in outcome.out
    assert kept.is_file()


def test_a_preset_that_is_here_is_offered_as_a_model(project, data):
    handle, folder = "keras/siglip/keras/tiny_patch16_32/1", project / "lib/weights/tiny_patch16_32"
    asked = [*data, "--mount", "conflict", "--set", f"models={handle}"]
    said = rehearse(project, *asked).err
    assert f"Kaggle refused the model {handle} (404)" in said
    assert "`ship weights BACKBONE` downloads one" in said
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.weights.h5").write_bytes(HDF5_SIGNATURE)
    outcome = rehearse(project, *asked)
    assert outcome.status == 0, outcome
    assert f"presets at {handle.removeprefix('keras/')}\n" in outcome.out
    assert "public score 0.88889" in outcome.out


def rehearse_with_weights(folder: Path, bring, *settings: str) -> Outcome:
    """Rehearse the real kernel with weights that `bring` puts into the project's lib/weights."""
    project = copy_project(Project(REPOSITORY), folder / "project").root
    bring(project / "lib" / "weights")
    data, solution = folder / "data", folder / "solution.csv"
    draw_competition(data, 4, 2, (96, 128), solution=solution)
    given = ["weights=imagenet", "tta=1", "preflight=no"]
    given = [word for setting in [*given, *settings] for word in ("--set", setting)]
    place = ["--keep", str(folder / "kept")]
    outcome = rehearse(project, "--data", str(data), "--solution", str(solution), *place, *given)
    assert outcome.status == 0, outcome.out[-3000:] + outcome.err
    assert re.search(r"rehearsal: public score \d\.\d{5}", outcome.out)
    uploaded = folder / "kept" / "kaggle" / "datasets"
    assert list(uploaded.rglob("manifest.json"))
    assert not list(uploaded.rglob("model.weights.h5"))
    return outcome


@pytest.mark.slow
def test_a_preset_goes_from_kaggle_s_models_to_a_score(tmp_path):
    """A tiny SigLIP with random weights, both towers in its file as in the published ones."""
    from tiny_presets import save_preset  # takes seconds

    def bring(weights: Path) -> None:
        save_preset("siglip", weights / "siglip2_base_patch16_384")

    settings = "backbone=SigLIP2B", "image_size=32x32", "stages=head:0:1e-2:1:views=1"
    outcome = rehearse_with_weights(tmp_path, bring, *settings)
    assert "SigLIP2B at 32x32" in outcome.out


@pytest.mark.slow
@pytest.mark.skipif("WEIGHTS" not in os.environ, reason="WEIGHTS names no folder of real weights")
def test_a_real_preset_is_blended_with_a_network_of_a_weights_file(tmp_path):
    def bring(weights: Path) -> None:
        real = Path(os.environ["WEIGHTS"])
        preset = weights / "efficientnet_lite0_ra_imagenet"
        shutil.copytree(real / "efficientnet_lite0_imagenet", preset)
        manifest = json.loads((weights / "manifest.json").read_text())
        file = manifest["MobileNet"]["file"]
        shutil.copy(real / file, weights)
        manifest["MobileNet"]["size"] = (weights / file).stat().st_size  # it is a converted copy
        (weights / "manifest.json").write_text(json.dumps(manifest))

    members = "lite0:EfficientNetLite0:image_size=97x97,mobile:MobileNet:image_size=96x96"
    stages = "stages=head:0:1e-2:1:views=1,all:1:1e-4:1"
    outcome = rehearse_with_weights(tmp_path, bring, f"members={members}", stages)
    assert re.search(r"blend of lite0 0\.\d+ .*, mobile 0\.\d+ ", outcome.out)


BLOCK = """
def Layout(**fields):
    return fields


COMPETITION = Layout(
    metric="{metric}",
    submission="{form}",
    positive="dog",
    sample_csv="sample-submission.csv",
    train_csv="train.csv",
)
"""
WRITTEN = 'CONFIG["label"] or (int(name[:3]) + int(CONFIG["shift"])) % 3'
DOGS = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1])  # of the nine test photos
SAID = [0.2, 0.9, 0.4, 0.5, 0.8, 0.1, 0.6, 0.7, 0.3]


def of_dogs(project, data, metric: str, form: str, cell: str, solution: pd.DataFrame) -> list[str]:
    """Make a project of another metric, whose kernel writes `cell` for each test photo."""
    text = KERNEL.replace(
        "import csv\n", BLOCK.format(metric=metric, form=form) + "import csv\n", 1
    )
    assert WRITTEN in text
    (project / "kernel.py").write_text(text.replace(WRITTEN, cell))
    folder = Path(data[1])
    sample = pd.read_csv(folder / "sample-submission.csv").assign(Category=0.5)
    sample.to_csv(folder / "sample-submission.csv", index=False)
    solution.insert(0, "Id", sample["Id"])
    solution.to_csv(folder.parent / "answers.csv", index=False)
    return ["--data", str(folder), "--solution", str(folder.parent / "answers.csv")]


@pytest.mark.parametrize(
    ("metric", "truth"), [("auc", np.where(DOGS, "dog", "cat")), ("log-loss", DOGS)]
)
def test_a_folder_of_ones_own_is_scored_by_the_metric_of_the_block(project, data, metric, truth):
    cell = f"{SAID}[int(name[:3]) - 101]"
    data = of_dogs(project, data, metric, "probability", cell, pd.DataFrame({"label": truth}))
    outcome = rehearse(project, *data)
    assert outcome.status == 0, outcome
    score = {"auc": roc_auc_score, "log-loss": log_loss}[metric](DOGS, SAID)
    assert f"public score {metric} {score:.5f} after" in outcome.out or (
        f"public score {score:.5f} after" in outcome.out
    )


def test_labels_of_ones_own_are_scored_by_the_metric_of_the_block(project, data):
    cell = f"{[round(one) for one in SAID]}[int(name[:3]) - 101]"
    data = of_dogs(project, data, "macro-f1", "label", cell, pd.DataFrame({"label": DOGS}))
    outcome = rehearse(project, *data)
    assert outcome.status == 0, outcome
    assert f" {f1_score(DOGS, np.round(SAID), average='macro'):.5f} after" in outcome.out


def test_a_solution_that_does_not_fit_is_named_before_anything_runs(project, data):
    table = pd.DataFrame({"label": DOGS, "more": DOGS})
    found = of_dogs(project, data, "auc", "probability", "0.5", table)
    outcome = rehearse(project, *found)
    assert outcome.status == 1
    assert "answers.csv has the columns Id, label, more" in outcome.sentence
    answers = Path(found[3])
    answers.write_text("Id,label\n101.jpg,dog\n")
    assert "answers.csv has no row of 102.jpg" in rehearse(project, *found).sentence
    assert not (project / "runs").exists()


def with_links(folder: Path, solution: Path) -> None:
    shutil.move(folder / "train", folder.parent / "train")
    (folder / "train").symlink_to(folder.parent / "train")
    (folder / "circle").symlink_to(folder)


def without_sample(folder: Path, solution: Path) -> None:
    (folder / "sample_submission.csv").unlink()


def with_the_solution_in_it(folder: Path, solution: Path) -> None:
    without_sample(folder, solution)
    shutil.move(solution, folder / "solution.csv")


@pytest.mark.parametrize(
    "change", [with_links, without_sample, with_the_solution_in_it], ids=lambda one: one.__name__
)
def test_a_folder_of_another_layout_is_mounted_with_its_block(tmp_path, change):
    folder, solution = tmp_path / "data", tmp_path / "solution.csv"
    write_photos(folder)
    write_csv(solution, [(f"{n}.jpg", "cat") for n in range(3)], ("id", "label"))
    change(folder, solution)
    solution = solution if solution.exists() else folder / "solution.csv"
    before = sorted(folder.rglob("*"))
    shutil.copy2(REPOSITORY / "kernel.py", make_project(tmp_path / "project"))
    project, home = Project(tmp_path / "project"), read_block(REPOSITORY / "kernel.py")
    mounted, layout = own_competition(project, folder, solution, {"metric": "macro-f1"}, tmp_path)
    assert read_block(project.code) == layout
    assert (layout.slug, layout.metric) == (home.slug, "macro-f1")
    assert layout.sample_csv == "sample_submission.csv"
    assert sorted(folder.rglob("*")) == before
    assert not any(path.is_symlink() for path in mounted.rglob("*"))
    assert not (mounted / "solution.csv").exists()
    competition = read_competition(mounted, layout, tmp_path / "scratch")
    assert competition.classes == ["cat", "dog"]
    assert competition.test["Id"].tolist() == ["0.jpg", "1.jpg", "2.jpg"]
    assert (competition.test["path"] != "").all()


def write_photos(folder: Path) -> None:
    for name in (f"train/{label}/{label}{n}.jpg" for label in ("cat", "dog") for n in range(6)):
        write_photo(folder / name)
    for n in range(3):
        write_photo(folder / "test" / f"{n}.jpg")
    write_csv(
        folder / "sample_submission.csv", [(f"{n}.jpg", "cat") for n in range(3)], ("id", "label")
    )


def test_a_folder_in_doubt_is_decided_by_the_rehearsal_s_settings(tmp_path):
    folder, solution = tmp_path / "data", tmp_path / "solution.csv"
    draw_competition(folder, 4, 2, (96, 128), solution=solution, layout="dogs-vs-cats")
    project = make_project(tmp_path / "project")
    shutil.copy2(REPOSITORY / "kernel.py", project / "kernel.py")
    outcome = rehearse(project, "--data", str(folder), "--solution", str(solution))
    assert outcome.status == 1
    assert "--set positive=dog or --set positive=cat" in outcome.sentence


@pytest.mark.slow
def test_a_zip_of_another_layout_from_nothing_to_a_score(tmp_path):
    folder, solution = tmp_path / "data", tmp_path / "solution.csv"
    draw_competition(folder, 20, 5, (96, 128), solution=solution, layout="dogs-vs-cats")
    shutil.make_archive(str(tmp_path / "dogs"), "zip", folder)
    project = make_project(tmp_path / "project")
    shutil.copy2(REPOSITORY / "kernel.py", project / "kernel.py")
    shutil.rmtree(project / "lib")
    shutil.copytree(
        REPOSITORY / "lib", project / "lib", ignore=shutil.ignore_patterns("*.egg-info")
    )
    given = ["--set", "positive=dog", "--set", "epochs=1", "--set", "limit=20"]
    data = ["--data", str(tmp_path / "dogs.zip"), "--solution", str(solution)]
    outcome = rehearse(project, *data, *given)
    assert outcome.status == 0, outcome.out[-3000:] + outcome.err[-3000:]
    assert re.search(r"rehearsal: public score (log-loss )?\d\.\d{5}", outcome.out)


def test_a_sweep(project, data):
    outcome = rehearse(project, *data, "--mount", "typed", "--sweep", "skill=30,36")
    assert outcome.status == 0, outcome
    assert "2 kernel versions, 2 kernel runs, 1 submission" in outcome.out
    assert re.search(r"^skill=36 +car\S+-v2 .* \+0\.1500 +0\.031 +40 ", outcome.out, re.MULTILINE)


def test_settings_pass_through(project, data):
    outcome = rehearse(project, *data, "--set", "fail=no such drive")
    assert outcome.status == 1
    assert "no such drive" in outcome.out + outcome.err
    assert outcome.sentence == "the rehearsal failed (see above); --keep DIR keeps its files."


def test_the_work_can_be_kept(project, data, tmp_path):
    kept = tmp_path / "kept"
    assert rehearse(project, *data, "--keep", str(kept), "--mount", "conflict").status == 0
    assert (kept / "project" / "runs" / "car-classification-v1" / "submission.csv").is_file()
    assert "is not empty" in rehearse(project, *data, "--keep", str(kept)).sentence


def test_what_reaches_for_the_network_fails(project, data):
    spy = (
        "import contextlib, urllib.request\n"
        "with contextlib.suppress(OSError):\n"
        "    urllib.request.urlopen('https://example.com', timeout=2)\n"
    )
    (project / "kernel.py").write_text(KERNEL.replace("import csv\n", "import csv\n" + spy))
    outcome = rehearse(project, *data)
    assert outcome.status == 1
    assert outcome.sentence.startswith("something reached for the network: example.com:443")


def test_wrong_arguments(project, data, tmp_path):
    assert "go together" in rehearse(project, *data[:2]).sentence
    sentence = rehearse(project, "--data", "x", "--solution", "y").sentence
    assert "--data takes a competition's folder or zip, and x is none" in sentence
    sentence = rehearse(project, "--data", str(project), "--solution", str(project)).sentence
    assert f"--solution takes a CSV file, and {project} is none" in sentence
    assert (
        "--mount: 'x' is not one of official" in rehearse(project, *data, "--mount", "x").sentence
    )
    assert "would ship" in rehearse(project, *data, "--dry-run").out


@pytest.mark.slow
def test_another_layout_from_init_to_a_score_by_its_metric():
    outcome = rehearse(REPOSITORY, "--layout", "dogs-vs-cats")
    assert outcome.status == 0, outcome.out[-3000:] + outcome.err
    assert "written: kernel.py, kernel-metadata.json, dataset-metadata.json" in outcome.out
    found = re.search(r"rehearsal: public score log-loss (\d\.\d{5}) after", outcome.out)
    assert float(found[1]) < 0.4  # 0.69 is chance
