"""A run stops before training where much would be left out, and names what it leaves out."""

import pandas as pd
import pytest

from kernelkit.core.problem import Problem
from tiny_competition import load, write_competition, write_csv

ROWS = 16


def change(folder, function):
    """Replace the training rows by what a function makes of each."""
    rows = pd.read_csv(folder / "train.csv", dtype=str).values.tolist()
    write_csv(folder / "train.csv", [function(*row) for row in rows])


def spoil(folder, *names):
    for name in names:
        next((folder / "train").rglob(name)).write_bytes(b"")


def problem(folder, **settings) -> str:
    with pytest.raises(Problem) as caught:
        load(folder, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------ classes that vanish


def test_a_class_whose_photos_are_all_unreadable_stops_the_run(folder):
    spoil(folder, "20.jpg", "21.jpg", "22.jpg", "23.jpg")
    message = problem(folder, most_excluded=1)
    assert message.startswith(
        f"In {folder}, classes would be missing because none of their rows can"
    )
    assert (
        "be used: 10 (4 rows); its file is empty (4: 20.jpg, 21.jpg, 22.jpg, 23.jpg). " in message
    )
    assert "leave them out with --exclude" in message


def test_classes_without_a_folder_stop_the_run(folder):
    change(folder, lambda Id, label: (Id, {"0": "77", "10": "ten"}.get(label, label)))
    message = problem(folder, most_excluded=1)
    assert "can be used: 77 (4 rows), ten (4 rows); " in message
    assert "its label 77 names no class folder (4: 00.jpg, 01.jpg, 02.jpg, 03.jpg)" in message


def test_a_class_that_people_leave_out_may_vanish(folder, tmp_path):
    change(folder, lambda Id, label: (Id, "77" if Id == "00.jpg" else label))
    assert "77 (1 rows)" in problem(folder, most_excluded=1)
    write_csv(tmp_path / "bad.csv", [("00.jpg",)], ("Id",))
    (part,) = load(folder, exclude=str(tmp_path / "bad.csv"))
    assert len(part.train) + len(part.validation) == ROWS - 1


@pytest.mark.parametrize("class_folders", [True, False])
def test_a_single_class_stops_the_run(tmp_path, class_folders):
    write_competition(tmp_path / "data", labels=(5,), class_folders=class_folders)
    assert "has only the class 5: give one of two or more classes" in problem(tmp_path / "data")


def test_a_class_of_one_photo_does_not(folder):
    rows = pd.read_csv(folder / "train.csv", dtype=str).values.tolist()
    write_csv(folder / "train.csv", rows[: -ROWS // 4 + 1])
    (part,) = load(folder)
    assert 2 in set(part.train["label"])
    assert 2 not in set(part.validation["label"])


# ------------------------------------------------------------------------- too large a share


@pytest.mark.parametrize(("most", "stops"), [(0.1, True), (0.2, False)])
def test_more_than_the_share_that_was_allowed_stops_the_run(folder, capsys, most, stops):
    spoil(folder, "00.jpg", "21.jpg")
    next((folder / "train").rglob("30.jpg")).unlink()  # 3 of 16 are 18.8 %
    if stops:
        message = problem(folder, most_excluded=most)
        assert message.startswith(
            f"3 of the 16 training rows in {folder} can't be used (18.8%, more "
        )
        assert "its file is empty (2: 00.jpg, 21.jpg)" in message
        assert "its row of train.csv has no photo (1: 30.jpg)" in message
        assert message.endswith("or allow more with --most-excluded.")
    else:
        load(folder, most_excluded=most)
        message = capsys.readouterr().out
        assert "Left out of train: its file is empty (2: 00.jpg, 21.jpg); its row of tr" in message


def test_nothing_is_decoded_where_the_tables_alone_stop_the_run(folder, monkeypatch):
    monkeypatch.setattr("kernelkit.data.tables.check_photos", None)
    change(folder, lambda Id, label: (Id, "" if Id in ("00.jpg", "10.jpg") else label))
    assert "its label is blank (2: 00.jpg, 10.jpg)" in problem(folder)


def test_rows_that_say_the_same_twice_lose_nothing(folder):
    rows = pd.read_csv(folder / "train.csv", dtype=str).values.tolist()
    write_csv(folder / "train.csv", rows + rows)
    (part,) = load(folder)
    assert len(part.train) + len(part.validation) == ROWS


def test_a_limit_does_not_make_a_few_bad_rows_many(folder):
    change(folder, lambda Id, label: (Id, "" if Id == "00.jpg" else label))
    (part,) = load(folder, limit=2, most_excluded=0.07)
    assert len(part.competition.train) == 8


# --------------------------------------------------------------------------------- test photos


def test_unreadable_test_photos_are_named_before_training(folder, capsys):
    (folder / "test_upload" / "91.jpg").write_bytes(b"no photo")
    (part,) = load(folder)
    assert len(part.test) == 2
    assert "Left out of test: it can't be decoded (not an image that can be decoded) (1: 91" in (
        capsys.readouterr().out
    )


def test_only_unreadable_test_photos_stop_the_run(folder):
    for path in (folder / "test_upload").iterdir():
        path.write_bytes(b"")
    assert "None of the 3 test photos in " in problem(folder)


def test_most_photos_to_predict_must_be_there(folder):
    for name in ("90.jpg", "91.jpg"):
        (folder / "test_upload" / name).unlink()
    said = problem(folder)
    assert "2 of the 3 photos to predict" in said
    assert "its photo is missing (2: 91.jpg, 90.jpg)" in said
    assert "--most-excluded" in said
    (part,) = load(folder, most_excluded=0.7)
    assert len(part.test) == 1
