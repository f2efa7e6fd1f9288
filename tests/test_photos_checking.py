"""Unusable photos are found and listed with the reason; near-identical ones form groups."""

import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common import Problem
from photos import CompetitionFiles, check_photos, conflicting_labels, read_competition
from tiny_competition import photo, write_competition, write_csv, write_photo


@pytest.fixture
def folder(tmp_path):
    write_competition(tmp_path / "data", per_class=3)
    return tmp_path / "data"


def check(folder, workers=2):
    return check_photos(
        read_competition(folder, CompetitionFiles(), folder.parent / "scratch"), workers
    )


def truncated(path):
    write_photo(path, photo(path.name, (480, 640)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def zeros_at_the_end(path):
    write_photo(path, photo(path.name, (480, 640)))
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size * 2 // 3].ljust(size, b"\0"))


def empty(path):
    path.write_bytes(b"")


def not_a_picture(path):
    path.write_text("<html>Not Found</html>")


def tiny(path):
    write_photo(path, photo(path.name, (20, 300)))


def unreadable_format(path):
    Image.fromarray(photo(path.name)).save(path, "PCX")


def truncated_png(path):
    Image.fromarray(photo(path.name, (200, 200))).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:-2000])


BAD = {
    truncated: "can't be decoded (image file is truncated",
    zeros_at_the_end: "is incomplete (it ends in zeros)",
    empty: "its file is empty",
    not_a_picture: "can't be decoded (cannot identify image file",
    tiny: "measures only 300 x 20 pixels",
    unreadable_format: "is a PCX file, which OpenCV does not read",
    truncated_png: "can't be decoded",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_photo_is_named_and_only_a_training_one_loses_its_row(folder, spoil):
    spoil(folder / "train" / "10" / "21.jpg")
    spoil(folder / "test_upload" / "91.jpg")
    competition = check(folder)
    assert "21.jpg" not in set(competition.train["Id"])
    assert len(competition.train) == 11
    assert competition.train.index.tolist() == list(range(11))
    assert competition.test["Id"].tolist() == ["92.jpg", "91.jpg", "90.jpg"]
    assert competition.test["path"].eq("").tolist() == [False, True, False]
    excluded = competition.excluded
    assert excluded[["Id", "set", "label"]].values.tolist() == [
        ["21.jpg", "train", "10"],
        ["91.jpg", "test", ""],
    ]
    assert excluded["path"].map(os.path.basename).tolist() == ["21.jpg", "91.jpg"]
    assert excluded["reason"].map(lambda reason: BAD[spoil] in reason).all()


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_grey_cmyk_and_misnamed_photos_are_fine(folder, mode, form):
    if (mode, form) == ("CMYK", "PNG"):
        mode = "RGBA"
    path = folder / "train" / "10" / "21.jpg"
    Image.fromarray(photo("x")).convert(mode).save(path, form)
    assert cv2.imread(str(path)) is not None
    assert check(folder).excluded.empty


def test_earlier_exclusions_stay_and_the_input_is_not_changed(folder):
    write_photo(folder / "train" / "10" / "extra.jpg")
    empty(folder / "train" / "10" / "21.jpg")
    before = read_competition(folder, CompetitionFiles(), folder.parent / "scratch")
    train, excluded = before.train.copy(), before.excluded.copy()
    after = check_photos(before, 1)
    assert after.excluded["Id"].tolist() == ["extra.jpg", "21.jpg"]
    assert before.train.equals(train)
    assert before.excluded.equals(excluded)


def test_the_number_of_workers_changes_nothing(folder):
    tiny(folder / "train" / "10" / "21.jpg")
    one, four = check(folder, 1), check(folder, 4)
    assert one.train.equals(four.train)
    assert one.excluded.equals(four.excluded)


def test_all_photos_bad_is_one_sentence(folder):
    for path in (folder / "train").rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(Problem, match=r"None of the 12 training photos .* its file is empty"):
        check(folder)


def darker(picture):
    return (picture * 0.7).astype(np.uint8)


def smaller(picture):
    return cv2.resize(picture, (320, 240), interpolation=cv2.INTER_AREA)


def cropped(picture):
    height, width = picture.shape[:2]
    return picture[height // 50 : -height // 50, width // 50 : -width // 50]


def captioned(picture):
    picture = picture.copy()
    picture[-24:, -160:] = 255
    return picture


@pytest.mark.parametrize("relist", [darker, smaller, cropped, captioned])
def test_a_photo_that_is_listed_again_is_in_one_group(folder, relist):
    again = folder / "train" / "2" / "31.jpg"
    original = photo("30.jpg", (480, 640))
    write_photo(folder / "train" / "2" / "30.jpg", original)
    write_photo(again, relist(original), quality=60)
    train = check(folder).train.set_index("Id")
    assert train.loc["30.jpg", "group"] == train.loc["31.jpg", "group"]
    assert train["group"].nunique() == 11


def test_one_photo_under_two_labels_is_kept_and_reported(folder):
    write_photo(folder / "train" / "0" / "00.jpg", photo("same"))
    write_photo(folder / "train" / "1" / "12.jpg", photo("same"))
    competition = check(folder)
    conflicts = conflicting_labels(competition.train)
    assert conflicts[["Id", "label"]].values.tolist() == [["00.jpg", 0], ["12.jpg", 1]]
    assert len(competition.train) == 12


@pytest.mark.skipif("PHOTOS" not in os.environ, reason="PHOTOS names no folder of real photos")
def test_real_photos_are_not_merged_across_classes(tmp_path):
    folder = Path(os.environ["PHOTOS"])
    competition = check_photos(read_competition(folder, CompetitionFiles(), tmp_path))
    assert conflicting_labels(competition.train).empty
    assert competition.train["group"].nunique() > 0.99 * len(competition.train)


def test_a_label_column_of_text_is_named_in_excluded(tmp_path):
    rows = write_competition(tmp_path / "data", labels=("a", "b"))
    write_csv(tmp_path / "data" / "train.csv", rows)
    empty(tmp_path / "data" / "train" / "b" / "10.jpg")
    excluded = check(tmp_path / "data").excluded
    assert isinstance(excluded, pd.DataFrame)
    assert excluded["label"].tolist() == ["b"]
