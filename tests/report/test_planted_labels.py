"""The benchmark of planted labels plants what it says, and marks a list as a person would."""

import zipfile

import numpy as np
import pandas as pd
import pytest

from planted_labels import mark, plant, row_of


@pytest.fixture
def data(tmp_path):
    """A competition in the home layout, of a hundred photos of four classes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    labels = np.arange(100) % 4
    table = pd.DataFrame({"Id": [f"{n}.jpg" for n in range(100)], "Category": labels})
    table.to_csv(folder / "train.csv", index=False)
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        for Id, label in zip(table.Id, labels, strict=True):
            archive.writestr(f"train/{label}/{Id}", Id)
    with zipfile.ZipFile(folder / "test.zip", "w") as archive:
        archive.writestr("test_upload/900.jpg", "x")
    for name in ("sample-submission.csv", "solution.csv"):
        (folder / name).write_text("Id,Category\n900.jpg,1\n")
    return folder


@pytest.mark.parametrize("share", [0, 0.02, 0.1])
def test_a_share_of_the_labels_is_wrong_and_listed(data, tmp_path, share):
    plant(data, tmp_path / "copy", share, 1)
    before = pd.read_csv(data / "train.csv", index_col=0)
    after = pd.read_csv(tmp_path / "copy" / "train.csv", index_col=0)
    listed = pd.read_csv(tmp_path / "copy" / "planted.csv", index_col=0)
    changed = before.index[before.Category != after.Category]
    assert sorted(changed) == sorted(listed.index)
    assert len(changed) == round(100 * share)
    assert listed.Category.tolist() == before.Category[listed.index].tolist()
    assert len(list((tmp_path / "copy" / "train").iterdir())) == 100  # not in class folders


def test_a_person_marks_the_wrong_rows_alone(tmp_path):
    assert not mark(tmp_path, tmp_path / "none.csv", None)
    table = pd.DataFrame({"Id": ["1.jpg", "2.jpg"], "label": 0, "leave_out": ""})
    table.to_csv(tmp_path / "suspects.csv", index=False)
    for wrong, marks in ((None, ["yes", "yes"]), ({"2.jpg"}, ["no", "yes"]), (set(), ["no", "no"])):
        assert mark(tmp_path, tmp_path / "marked.csv", wrong) == ("yes" in marks)
        assert pd.read_csv(tmp_path / "marked.csv").leave_out.tolist() == marks


def test_precision_and_recall_are_of_the_planted_rows(data, tmp_path):
    plant(data, tmp_path / "copy", 0.02, 1)
    planted = list(pd.read_csv(tmp_path / "copy" / "planted.csv").Id)
    output = tmp_path / "run"
    output.mkdir()
    ids, classes = np.asarray([*planted, "none.jpg"]), np.arange(4)
    np.savez(
        output / "probabilities.npz",
        validation=np.eye(4)[[0, 1, 2]], validation_ids=ids, validation_labels=[0, 2, 2],
        test=np.eye(4)[[1]], test_ids=["900.jpg"], classes=classes,
    )  # fmt: skip
    (output / "metrics.json").write_text('{"seconds": 5}')
    listed = pd.DataFrame({"Id": [planted[0], "a.jpg", "b.jpg"]})
    listed.to_csv(output / "suspects.csv", index=False)
    row = row_of(output, tmp_path / "copy", set(planted))
    assert (row["wrong"], row["listed"], row["held out"]) == (2, 3, 1.0)
    assert (row["precision"], row["recall"]) == (1 / 3, 1 / 2)
    assert row["validation"] == pytest.approx(2 / 3)
