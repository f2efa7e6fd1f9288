"""A finished run predicts new photos, also where nothing of this project is installed."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kernel_runs import blended_run, whole_run
from kernelkit.core.problem import Problem
from tiny_kernel import kernel

RUNS = {"one network": whole_run, "two members on two folds": blended_run}


@pytest.fixture(scope="module", params=RUNS)
def trained(request, competition, tmp_path_factory):
    return RUNS[request.param](competition, tmp_path_factory)


def predict(photos, trained, output, *arguments) -> int:
    words = ["--predict", photos, "--run", trained, "--output", output, *arguments]
    return kernel.main(list(map(str, words)))


def test_the_test_photos_of_a_run_are_predicted_as_in_the_run(competition, trained, tmp_path):
    photos, sample = competition / "test_upload", competition / "sample-submission.csv"
    assert predict(photos, trained, tmp_path / "out", "--all", "--sample", sample) == 0
    table = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False)
    with np.load(trained / "probabilities.npz") as stored:
        expected = pd.DataFrame(stored["test"], stored["test_ids"], stored["classes"])
    columns = [f"p_{label}" for label in expected]
    np.testing.assert_allclose(
        table.set_index("file").loc[expected.index, columns], expected, atol=1e-5
    )
    assert (table["label"] == expected.idxmax(axis=1).loc[table["file"]].to_numpy()).all()
    assert (tmp_path / "out" / "submission.csv").read_bytes() == (
        trained / "submission.csv"
    ).read_bytes()
    page = (tmp_path / "out" / "predictions.html").read_text()
    assert all(f"<h2>{label} " in page for label in set(table["label"]))


README = (Path(kernel.__file__).parent / "README.md").read_text(encoding="utf-8")
STANDALONE = re.search(r"```python\n(import json.*?)```", README, re.DOTALL)[1]


def test_another_program_opens_a_network_without_anything_of_ours(
    competition, tmp_path, tmp_path_factory
):
    """It sees the plain photo in the size that trained; no view and no temperature."""
    alone = tmp_path / "elsewhere"
    alone.mkdir()
    for name in ("model.json", "best.keras"):
        shutil.copy(whole_run(competition, tmp_path_factory) / name, alone)
    model = json.loads((alone / "model.json").read_text())
    (member,) = model["members"]
    (network,) = member["networks"]
    member["temperature"], network["views"] = 1, network["views"][:1]  # the plain photo's
    (alone / "model.json").write_text(json.dumps(model))
    photo = sorted((competition / "test_upload").glob("*.jpg"))[0]
    command = [sys.executable, "-I", "-c", BLOCK + STANDALONE, str(alone), str(photo)]
    done = subprocess.run(command, cwd=alone, capture_output=True, text=True, check=True)
    label, numbers = done.stdout.splitlines()[-1].split(" ", 1)
    probabilities = json.loads(numbers)
    assert predict(photo, alone, tmp_path / "out", "--all") == 0
    (row,) = pd.read_csv(tmp_path / "out" / "predictions.csv").to_dict("records")
    assert str(row["label"]) == label
    expected = [row[f"p_{name}"] for name in model["classes"]]
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


# Nothing of this project can be imported, also where it is installed with pip -e.
BLOCK = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("kernelkit", "ImageDataAugmentor", "kernel", "tiny_kernel"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
"""


def test_photos_come_from_a_zip_a_table_a_deep_folder_or_one_file(competition, trained, tmp_path):
    files = sorted((competition / "test_upload").glob("*.jpg"))[:3]
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in files:
            archive.write(file, f"a/b/{file.name}")
    for file in files:
        (tmp_path / "deep" / file.stem).mkdir(parents=True)
        shutil.copy(file, tmp_path / "deep" / file.stem / "photo.jpg")
    listed = pd.DataFrame({"note": "x", "path": list(map(str, files))})
    listed.to_csv(tmp_path / "list.csv", index=False)
    found = {}
    (tmp_path / "zips").mkdir()  # a zip among others counts as a folder
    for name in ("here.zip", "all.zip"):
        with zipfile.ZipFile(tmp_path / "zips" / name, "w") as archive:
            archive.write(tmp_path / "photos.zip", "photos.zip")
    shutil.move(tmp_path / "zips" / "all.zip", tmp_path)
    for source in ("photos.zip", "deep", "list.csv", "zips", "all.zip"):
        assert predict(tmp_path / source, trained, tmp_path / f"{source}-out") == 0
        found[source] = pd.read_csv(tmp_path / f"{source}-out" / "predictions.csv")
    assert list(found["deep"]["file"]) == [f"{file.stem}/photo.jpg" for file in files]
    for table in found.values():
        np.testing.assert_allclose(table["probability"], found["deep"]["probability"], atol=1e-6)


def test_a_kaggle_model_that_is_mounted_or_downloaded_is_a_run(competition, trained, tmp_path):
    folder = tmp_path / "car-classification"
    shutil.copytree(trained, folder / "keras" / "default" / "1")
    photo = sorted((competition / "test_upload").glob("*.jpg"))[0]
    for number, place in enumerate((folder, trained)):
        assert predict(photo, place, tmp_path / str(number)) == 0
    made, expected = ((tmp_path / n / "predictions.csv").read_bytes() for n in "01")
    assert made == expected


def test_a_photo_that_cannot_be_read_is_a_row_with_the_reason(competition, trained, tmp_path):
    good = sorted((competition / "test_upload").glob("*.jpg"))[0]
    (tmp_path / "photos").mkdir()
    shutil.copy(good, tmp_path / "photos" / "good.jpg")
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no picture")
    (tmp_path / "photos" / "empty.png").write_bytes(b"")
    assert predict(tmp_path / "photos", trained, tmp_path / "out") == 0
    table = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False)
    reasons = table.set_index("file")["reason"]
    assert reasons["good.jpg"] == ""
    assert "decoded" in reasons["bad.jpg"]
    assert "empty" in reasons["empty.png"]
    assert (table["label"] != "").sum() == 1
    assert "bad.jpg" in (tmp_path / "out" / "predictions.html").read_text()


def test_what_is_no_run_or_not_as_it_was_is_named(competition, trained, tmp_path, capsys):
    photos = competition / "test_upload"

    def refused(folder) -> str:
        assert predict(photos, folder, tmp_path / "out") == 1
        return capsys.readouterr().err

    assert "model.json" in refused(tmp_path)
    assert "give its folder" in refused(trained / "metrics.json")
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    model = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps(model | {"version": 2}))
    assert "version 2" in refused(copy)
    (copy / "model.json").write_text(json.dumps(model))
    file = copy / model["members"][0]["networks"][0]["file"]
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert str(file) in refused(copy)
    file.unlink()
    assert "missing" in refused(copy)
    file.write_bytes(content)
    assert "holds no photo" in (
        predict(copy / "members", copy, tmp_path / "out") and capsys.readouterr().err
    )
    assert "no such folder" in (
        predict(tmp_path / "none", copy, tmp_path / "out") and capsys.readouterr().err
    )


def test_predictions_replace_no_run_and_leave_no_submission_of_other_photos(
    competition, trained, tmp_path, capsys
):
    photos, sample = competition / "test_upload", competition / "sample-submission.csv"
    shutil.copytree(trained, tmp_path / "run")
    assert predict(photos, trained, tmp_path / "run", "--sample", sample) == 1
    assert "--output" in capsys.readouterr().err
    assert not (tmp_path / "run" / "predictions.csv").exists()
    submission = tmp_path / "out" / "submission.csv"
    assert predict(photos, trained, tmp_path / "out", "--sample", sample) == 0
    assert submission.exists()
    assert predict(sorted(photos.iterdir())[0], trained, tmp_path / "out") == 0
    assert not submission.exists()


def test_a_photo_of_two_classes_alone_has_no_third(tmp_path):
    from kernelkit.report.predictions import prediction_table

    photos = pd.DataFrame({"file": ["a", "b"], "reason": ["", "damaged"]})
    table = prediction_table(photos, np.float32([[0.25, 0.75]]), ["cat", "dog"], True)
    assert table.loc[0].to_dict() == {
        "file": "a",
        "label": "dog",
        "probability": 0.75,
        "second": "cat",
        "second_probability": 0.25,
        "p_cat": 0.25,
        "p_dog": 0.75,
        "reason": "",
    }


def test_a_submission_takes_each_photo_for_one_row_alone(tmp_path, capsys):
    from kernelkit.report.predictions import submission_of

    model = SimpleNamespace(layout={}, classes=["cat", "dog"], frequencies=[0.9, 0.1])
    photos = pd.DataFrame({"file": ["7.jpg", "b.jpg"], "path": ["7", "b"], "reason": ["", "torn"]})
    sample = tmp_path / "sample.csv"
    sample.write_text("id,label\n007,\n7,\nb.jpg,\n")
    made = submission_of(sample, photos, np.float32([[0.1, 0.9]]), model)
    assert made["label"].tolist() == ["cat", "dog", "cat"]
    assert "2 rows" in capsys.readouterr().out
    sample.write_text("id,label\nx.jpg,\nb.jpg,\n")
    with pytest.raises(Problem, match=r"No Id of .*sample\.csv, such as x\.jpg.*7\.jpg.*--predict"):
        submission_of(sample, photos, np.float32([[0.1, 0.9]]), model)
