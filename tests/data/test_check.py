"""Unusable photos are found and listed with the reason; near-identical ones form groups."""

import dataclasses
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ImageDataAugmentor import load_img
from kernelkit.core.problem import Problem
from kernelkit.data.check import check_photos
from kernelkit.data.duplicates import conflicting_labels
from kernelkit.data.read import read_competition
from tiny_competition import HOME, photo, write_competition, write_csv, write_photo


@pytest.fixture
def folder(tmp_path):
    write_competition(tmp_path / "data", per_class=3)
    return tmp_path / "data"


def check(folder, workers=2):
    return check_photos(read_competition(folder, HOME, folder.parent / "scratch"), workers)


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


def truncated_png(path):
    Image.fromarray(photo(path.name, (200, 200))).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:-2000])


def cut_to_its_header(path):
    write_photo(path)
    path.write_bytes(path.read_bytes()[:100])


UNREADABLE = {
    empty: "its file is empty",
    not_a_picture: "it can't be decoded (not an image that can be decoded)",
    cut_to_its_header: "it can't be decoded (not an image that can be decoded)",
}


def dicom(path):
    path.write_bytes(bytes(128) + b"DICM" + bytes(300))


def jpeg_xl(path):
    path.write_bytes(b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(300))


UNREADABLE |= {
    dicom: "it can't be decoded (a DICOM file, which must be converted to PNG or JPEG)",
    jpeg_xl: "it can't be decoded (a JPEG XL file, which must be converted to PNG or JPEG)",
}
TRUNCATED = [truncated, zeros_at_the_end, truncated_png]


@pytest.mark.parametrize("spoil", UNREADABLE, ids=lambda spoil: spoil.__name__)
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
    assert set(excluded["reason"]) == {UNREADABLE[spoil]}


@pytest.mark.parametrize("spoil", TRUNCATED, ids=lambda spoil: spoil.__name__)
def test_a_truncated_photo_does_not_train_but_is_predicted(folder, spoil, capsys):
    spoil(folder / "train" / "10" / "21.jpg")
    spoil(folder / "test_upload" / "91.jpg")
    competition = check(folder)
    assert competition.excluded[["Id", "reason"]].values.tolist() == [
        ["21.jpg", "its file is truncated"]
    ]
    assert (competition.test["path"] != "").all()
    assert "predicted from what is there: 1 (91.jpg)" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["TIFF", "WEBP", "PCX", "GIF", "BMP"])
def test_whatever_the_library_reads_is_read(folder, form):
    Image.fromarray(photo("x")).save(folder / "train" / "10" / "21.jpg", form)
    Image.fromarray(photo("x")).save(folder / "test_upload" / "91.jpg", form)
    assert check(folder).excluded.empty


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animated_photo_the_first_picture_counts(folder, form):
    path = folder / "train" / "0" / "00.jpg"
    first, *others = (Image.fromarray(photo(name)) for name in "abc")
    first.save(path, form, save_all=True, append_images=others, lossless=True)
    assert check(folder).excluded.empty
    difference = load_img(str(path)).astype(int) - photo("a")
    assert np.abs(difference).mean() < (20 if form == "GIF" else 1)


def test_a_pointer_of_git_lfs_is_no_photo(folder):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (folder / "train" / "0" / "00.jpg").write_bytes(pointer)
    assert check(folder).excluded["Id"].tolist() == ["00.jpg"]


@pytest.mark.parametrize("name", ['it\'s a "photo".jpg', " two  blanks .jpg", "a,b.jpg", "#1%.jpg"])
def test_names_may_hold_quotes_blanks_and_commas(folder, name):
    (folder / "train" / "0" / "00.jpg").rename(folder / "train" / "0" / name)
    rows = pd.read_csv(folder / "train.csv", dtype=str).replace("00.jpg", name)
    rows.to_csv(folder / "train.csv", index=False)
    competition = check(folder)
    assert competition.excluded.empty
    assert competition.train["path"].iloc[0].endswith(name)


@pytest.mark.parametrize("form", ["TIFF", "BMP", "PNG", "JPEG", "WEBP"])
def test_a_photo_of_any_form_may_be_larger_than_pillow_allows(folder, form, monkeypatch):
    path = folder / "train" / "0" / "00.jpg"
    Image.fromarray(photo("a", (480, 640))).save(path, form)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert check(folder).excluded.empty


def test_photos_of_28_by_28_pixels_are_data(folder):
    for path in folder.rglob("*.jpg"):
        write_photo(path, photo(path.name, (28, 28)))
    competition = check(folder)
    assert competition.excluded.empty
    assert competition.train["group"].is_unique


def test_sixteen_bit_grey_photos_are_told_apart(folder):
    for path in folder.rglob("*.jpg"):
        deep = photo(path.name)[..., 0].clip(2).astype(np.uint16) * 257  # all are above 255
        path.write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    assert check(folder).train["group"].is_unique


@pytest.mark.parametrize("place", ["train", "test_upload"])
def test_a_set_that_is_nearly_black_throughout_is_named(folder, place, capsys):
    dark = 0
    for path in sorted((folder / place).rglob("*.jpg")):
        values = photo(path.name)[..., 0].astype(np.uint16) * 16  # 12 bits, in files of 16
        path.write_bytes(cv2.imencode(".png", values)[1].tobytes())
        dark += 1
    check(folder)
    lines = [line for line in capsys.readouterr().out.splitlines() if "nearly black" in line]
    assert dark
    assert len(lines) == 1
    assert {"train": "training", "test_upload": "test"}[place] in lines[0]
    assert "12 bits" in lines[0]


def test_a_few_dark_photos_are_no_dark_set(folder, capsys):
    dark = sorted((folder / "train").rglob("*.jpg"))[:3]
    for path in dark:
        write_photo(path, photo(path.name) // 16)
    check(folder)
    assert "nearly black" not in capsys.readouterr().out


def test_a_photo_is_hashed_the_way_up_that_it_trains(folder):
    upright, turned = (folder / "train" / "2" / name for name in ("30.jpg", "31.jpg"))
    picture = photo("turned", (480, 640))
    write_photo(upright, picture)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    lying = Image.fromarray(np.rot90(picture)[..., ::-1].copy())
    lying.save(turned, "JPEG", exif=exif)
    assert load_img(str(turned)).shape == (480, 640, 3)
    train = check(folder).train.set_index("Id")
    assert train.loc["30.jpg", "group"] == train.loc["31.jpg", "group"]


def test_a_photo_larger_than_pillow_allows_is_read(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert check(folder).excluded.empty


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
    before = read_competition(folder, HOME, folder.parent / "scratch")
    train, excluded = before.train.copy(), before.excluded.copy()
    after = check_photos(before, 1)
    assert after.excluded["Id"].tolist() == ["extra.jpg", "21.jpg"]
    assert before.train.equals(train)
    assert before.excluded.equals(excluded)


def test_the_number_of_workers_changes_nothing(folder):
    empty(folder / "train" / "10" / "21.jpg")
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


@pytest.mark.parametrize("named", [True, False])
def test_classes_of_near_identical_photos_are_divided_all_the_same(tmp_path, capsys, named):
    """As frames of one video a class are; what the table groups stays together."""
    folder = tmp_path / "data"
    rows = write_competition(folder, labels=("a", "b"), class_folders=False)
    for number, (name, label) in enumerate(rows):
        write_photo(folder / "train" / name, photo(label) // 2 + np.uint8(number))
    write_csv(folder / "train.csv", [(*row, n // 2) for n, row in enumerate(rows)],
              ("Id", "Category", "driver"))  # fmt: skip
    layout = dataclasses.replace(HOME, group="driver" if named else "")
    train = check_photos(read_competition(folder, layout, tmp_path / "scratch")).train
    assert train["near"].nunique() == 2
    assert train["group"].nunique() == (4 if named else 8)
    assert "nearly the same, so such photos are divided too" in capsys.readouterr().out


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
    competition = check_photos(read_competition(folder, HOME, tmp_path))
    assert conflicting_labels(competition.train).empty
    assert competition.train["group"].nunique() > 0.99 * len(competition.train)


def test_a_label_column_of_text_is_named_in_excluded(tmp_path):
    rows = write_competition(tmp_path / "data", labels=("a", "b"))
    write_csv(tmp_path / "data" / "train.csv", rows)
    empty(tmp_path / "data" / "train" / "b" / "10.jpg")
    excluded = check(tmp_path / "data").excluded
    assert isinstance(excluded, pd.DataFrame)
    assert excluded["label"].tolist() == ["b"]
