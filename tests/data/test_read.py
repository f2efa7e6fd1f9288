"""Every row gets its own photo and label; rows and photos that can't be used are listed."""

import io
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kernelkit.core.problem import Problem
from kernelkit.data import find
from kernelkit.data.read import read_competition
from kernelkit.data.tables import draw_limit
from tiny_competition import (
    HOME,
    read,
    reasons,
    write_competition,
    write_csv,
    write_photo,
    zip_photos,
)


def rewrite(folder, change):
    """Replace the training rows by what the function `change` makes of them."""
    rows = pd.read_csv(folder / "train.csv", dtype=str, keep_default_na=False).values.tolist()
    write_csv(folder / "train.csv", change(rows))


def test_labels_come_from_the_table_whatever_the_folders_order(folder):
    competition = read(folder)
    assert competition.classes == [0, 1, 2, 10]  # the folders' order is 0, 1, 10, 2
    assert all(type(label) is int for label in competition.classes)
    rows = pd.read_csv(folder / "train.csv")
    assert competition.train["Id"].tolist() == rows["Id"].tolist()
    assert competition.train["label"].tolist() == rows["Category"].tolist()
    for Id, label, path in competition.train[["Id", "label", "path"]].itertuples(index=False):
        assert Path(path).name == Id
        assert Path(path).parent.name == str(label)
    assert competition.excluded.empty


def test_the_test_set_and_the_sample_keep_their_order_and_type(folder):
    competition = read(folder)
    assert competition.test["Id"].tolist() == ["92.jpg", "91.jpg", "90.jpg"]
    assert [Path(p).name for p in competition.test["path"]] == competition.test["Id"].tolist()
    assert competition.sample.columns.tolist() == ["Id", "Category"]
    assert competition.sample["Category"].dtype == "int64"


def test_text_labels_other_columns_and_ids_without_a_suffix(tmp_path):
    folder = tmp_path / "data"
    rows = write_competition(folder, labels=("sedan", "007", "42"))
    write_csv(folder / "train.csv", [(5, la, Id[:-4]) for Id, la in rows], ("n", "kind", "photo"))
    write_csv(folder / "sample-submission.csv", [("0090", "42"), ("92", "42")], ("photo", "kind"))
    write_photo(folder / "test_upload" / "0090.jpg")
    competition = read(folder)
    assert competition.classes == ["007", "42", "sedan"]
    assert set(competition.train["label"]) == {"007", "42", "sedan"}
    assert [Path(p).name for p in competition.test["path"]] == ["0090.jpg", "92.jpg"]
    assert set(reasons(competition)) == {"90.jpg", "91.jpg"}


@pytest.mark.parametrize(
    ("train_folder", "test_folder"),
    [("train/train", "test_upload/test_upload"), ("train", "test/test_upload"), ("train", "test")],
)
def test_photos_one_level_deeper_are_found(tmp_path, train_folder, test_folder):
    write_competition(tmp_path / "data", train_folder=train_folder, test_folder=test_folder)
    competition = read(tmp_path / "data")
    assert len(competition.train) == 16
    assert (competition.test["path"] != "").all()
    assert competition.excluded.empty


def test_photos_without_class_folders(tmp_path):
    write_competition(tmp_path / "data", labels=(3, 12, 5), class_folders=False)
    competition = read(tmp_path / "data")
    assert competition.classes == [3, 5, 12]
    assert len(competition.train) == 12


def test_every_unusable_row_and_photo_is_named_with_its_reason(folder):
    def spoil(rows):
        rows[1][1] = ""
        rows[2][1] = "77"
        rows[3][1] = "10"  # lies in folder 0
        return [*rows, ["none.jpg", "1"], rows[4], ["", "1"], ["10.jpg", "2"]]

    rewrite(folder, spoil)
    write_photo(folder / "train" / "1" / "extra.jpg")
    write_photo(folder / "test_upload" / "spare.jpg")
    (folder / "test_upload" / "91.jpg").unlink()
    (folder / "train" / ".DS_Store").write_bytes(b"clutter")
    competition = read(folder)

    excluded = competition.excluded
    assert excluded.columns.tolist() == ["Id", "set", "label", "path", "reason"]
    assert sorted(excluded[["Id", "set", "label", "reason"]].values.tolist()) == sorted(
        [
            ["01.jpg", "train", "", "its label is blank"],
            ["02.jpg", "train", "77", "its label 77 names no class folder"],
            ["03.jpg", "train", "10", "its label 10 disagrees with the folder 0 it is in"],
            ["none.jpg", "train", "1", "its row of train.csv has no photo"],
            ["10.jpg", "train", "1", "train.csv repeats its Id; the first of the rows is used"],
            ["", "train", "1", "its row of train.csv has no Id"],
            ["10.jpg", "train", "2", "its label 2 disagrees with the folder 1 it is in"],
            ["extra.jpg", "train", "", "train.csv has no row for it"],
            ["91.jpg", "test", "", "its photo is missing"],
            ["spare.jpg", "test", "", "sample-submission.csv has no row for it"],
        ]
    )
    assert competition.classes == [0, 1, 2, 10]
    assert len(competition.train) == 13
    assert competition.test["Id"].tolist() == ["92.jpg", "91.jpg", "90.jpg"]
    assert competition.test["path"].eq("").tolist() == [False, True, False]


def test_rows_that_contradict_each_other_are_all_left_out(tmp_path):
    rows = write_competition(tmp_path / "data", class_folders=False)
    write_csv(tmp_path / "data" / "train.csv", [*rows, ("00.jpg", 2)])
    competition = read(tmp_path / "data")
    assert "00.jpg" not in set(competition.train["Id"])
    assert (
        competition.excluded["reason"].tolist()
        == ["train.csv gives its Id several different labels"] * 2
    )


def test_of_two_photos_of_an_id_the_one_in_the_labels_folder_is_taken(folder):
    write_photo(folder / "train" / "0" / "20.jpg")  # 20.jpg has label 10
    competition = read(folder)
    path = competition.train.set_index("Id").loc["20.jpg", "path"]
    assert Path(path).parent.name == "10"
    assert competition.excluded[["Id", "path"]].values.tolist() == [
        ["20.jpg", str(folder / "train" / "0" / "20.jpg")]
    ]


def test_limit_draws_by_seed_and_leaves_the_test_set_whole(folder):
    whole = read(folder)
    first = draw_limit(whole, 2, seed=1)
    assert first.train["label"].value_counts().tolist() == [2] * 4
    assert first.train.equals(draw_limit(whole, 2, seed=1).train)
    draws = {tuple(draw_limit(whole, 2, seed).train["Id"]) for seed in range(5)}
    assert len(draws) > 1
    assert first.test.equals(whole.test)
    order = whole.train["Id"].tolist()
    assert first.train["Id"].tolist() == sorted(first.train["Id"], key=order.index)


def spoil_files(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8") if text else (folder / name).unlink()


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("train.csv", None, r"There is no train.csv in .*: give the folder"),
        ("sample-submission.csv", None, r"There is no sample-submission.csv"),
        ("train.csv", "Id,Category\n", r"train.csv has no rows"),
        ("train.csv", "Id,Label\n1.jpg,1\n", r"no column Category, which sample-.* Id, Label"),
        ("train.csv", "Id,Category\n1,2\n1,2,3\n", r"train.csv can't be read \(.*line 3.*"),
        ("train.csv", "Id,Category\n00.jpg,0,\n", r"more values in a row than column names"),
        ("train.csv", "Id,Category\n00.jpg\n", r"00.jpg, its label is blank"),
        ("train.csv", "Id,Category\nx.jpg,0\n", r"No row of .* x.jpg, its row .* no photo"),
        ("train.csv", "Id,Category\n00.jpg,\n", r"No row of .* 00.jpg, its label is blank"),
        ("sample-submission.csv", "Id Category\n1 2\n", r"has 1 columns .* a table of two"),
        ("sample-submission.csv", "Id,Category\n90.jpg,0\n90.jpg,0\n", r"the Id 90.jpg more than"),
        ("sample-submission.csv", "Id,Category\n90.jpg,0\n,0\n", r"has no Id in line 3"),
        ("sample-submission.csv", "Id,Category\nx,0\n", r"None of the 1 Ids of .* same compet"),
    ],
)
def test_a_bad_table_is_one_sentence(folder, name, text, sentence):
    spoil_files(folder, name, text)
    with pytest.raises(Problem, match=sentence) as caught:
        read(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["", ".jpg"])
@pytest.mark.parametrize("name", ["train.csv", "sample-submission.csv"])
def test_a_table_without_a_header_is_named(folder, name, suffix):
    lines = (folder / name).read_text().replace(".jpg", suffix).splitlines()[1:]
    (folder / name).write_text("\n".join(lines))
    with pytest.raises(Problem, match=rf"{name} has no .*header|no column Id"):
        read(folder)


def test_missing_photos_are_one_sentence(folder):
    shutil.rmtree(folder / "test_upload")
    with pytest.raises(Problem, match=r"neither photos in test_upload/ nor test.zip"):
        read(folder)


def test_photos_that_are_missing_in_one_place_are_one_sentence(folder):
    block = replace(HOME, test_photos=("nowhere",))
    with pytest.raises(Problem, match=r"holds no photos in nowhere/: download"):
        read_competition(folder, block, folder.parent / "scratch")


def test_zips_are_unpacked_once_into_scratch_alone(folder):
    unpacked = read(folder)
    zip_photos(folder)
    before = sorted(folder.rglob("*"))
    competition = read(folder)
    assert competition.train[["Id", "label"]].equals(unpacked.train[["Id", "label"]])
    assert competition.excluded.empty
    assert sorted(folder.rglob("*")) == before
    scratch = folder.parent / "scratch"
    assert all(path.startswith(str(scratch)) for path in competition.train["path"])
    times = {path: path.stat().st_mtime_ns for path in scratch.rglob("*.jpg")}
    assert len(times) == 19
    assert read(folder).train.equals(competition.train)
    assert {path: path.stat().st_mtime_ns for path in scratch.rglob("*.jpg")} == times


def test_a_changed_zip_is_unpacked_into_another_folder(folder):
    zip_photos(folder)
    first = read(folder).train["path"]
    os.utime(folder / "train.zip", ns=(1, 1))
    assert not set(first) & set(read(folder).train["path"])


def test_photos_that_were_lost_or_cut_short_in_scratch_are_unpacked_again(folder):
    zip_photos(folder)
    paths = [Path(path) for path in read(folder).train["path"]]
    whole = paths[1].read_bytes()
    paths[0].unlink()
    paths[1].write_bytes(whole[:100])
    competition = read(folder)
    assert competition.excluded.empty
    assert paths[0].exists()
    assert paths[1].read_bytes() == whole


UNPACK_TWENTY = """
import itertools, os, sys, time
from pathlib import Path
from kernelkit.data.find import unpack

replace, count = os.replace, itertools.count(1)

def replace_twenty(source, target):
    if next(count) > 20:
        time.sleep(600)  # it is killed before
    replace(source, target)

os.replace = replace_twenty
unpack(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_an_unpacking_that_is_killed_leaves_no_part_of_a_photo(tmp_path):
    archive, scratch = tmp_path / "train.zip", tmp_path / "scratch"
    with zipfile.ZipFile(archive, "w") as bundle:
        for i in range(60):
            bundle.writestr(f"train/{i}.jpg", os.urandom(200_000))
    command = [sys.executable, "-c", UNPACK_TWENTY, str(archive), str(scratch)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while len(list(scratch.rglob("[0-9]*.jpg"))) < 20 and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None
    process.kill()
    process.wait()
    done = list(scratch.rglob("[0-9]*.jpg"))
    assert len(done) == 20
    assert {path.stat().st_size for path in done} == {200_000}
    assert list(scratch.rglob(".partial-*.jpg"))  # of photos that were being unpacked
    kept = {path: path.stat().st_mtime_ns for path in done}
    target = find.unpack(archive, scratch)
    assert len(list(target.rglob("[0-9]*.jpg"))) == 60
    assert {path: path.stat().st_mtime_ns for path in done} == kept  # only the rest was unpacked
    assert not list(target.rglob(".partial-*"))


@pytest.mark.parametrize("member", ["../evil.jpg", "/tmp/evil.jpg", "train/../../evil.jpg"])
def test_a_zip_with_a_member_outside_its_folder_is_refused(folder, member):
    zip_photos(folder)
    with zipfile.ZipFile(folder / "train.zip", "a") as bundle:
        bundle.writestr(member, b"x")
    with pytest.raises(Problem, match=r"train.zip is corrupt .*evil.jpg' lies outside"):
        read(folder)
    assert not list(folder.parent.rglob("*evil*"))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-300])


def flip_bytes(path):
    content = bytearray(path.read_bytes())
    content[3000:3040] = bytes(40)
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [truncate, flip_bytes])
def test_a_corrupt_zip_is_named(folder, spoil):
    zip_photos(folder)
    spoil(folder / "train.zip")
    with pytest.raises(Problem, match=r"train.zip is corrupt .*: download it again"):
        read(folder)


def patched(archive, place_in_local, place_in_central, value):
    """Set a number of two bytes in the headers of all members of a zip."""
    content = bytearray(archive.read_bytes())
    for signature, place in ((b"PK\x03\x04", place_in_local), (b"PK\x01\x02", place_in_central)):
        start = content.find(signature)
        while start >= 0:
            content[start + place : start + place + 2] = value.to_bytes(2, "little")
            start = content.find(signature, start + 4)
    archive.write_bytes(content)


@pytest.mark.parametrize(
    ("places", "value", "obstacle"),
    [((6, 8), 1, "password"), ((8, 10), 9, "compress"), ((8, 10), 98, "compress")],
)
def test_a_zip_that_python_cannot_unpack_names_the_right_cure(folder, places, value, obstacle):
    unpacked = read(folder)
    zip_photos(folder)
    whole = (folder / "train.zip").read_bytes()
    patched(folder / "train.zip", *places, value)
    with pytest.raises(Problem, match=rf"train.zip .*{obstacle}.*unpack it with another") as caught:
        read(folder)
    assert "download" not in str(caught.value)
    with zipfile.ZipFile(io.BytesIO(whole)) as bundle:  # what the sentence advises
        bundle.extractall(folder)
    assert read(folder).train[["Id", "label"]].equals(unpacked.train[["Id", "label"]])


def test_names_may_be_as_long_as_the_file_system_allows(folder):
    name = "n" * 247 + ".jpg"
    write_photo(folder / "train" / "0" / name)
    with (folder / "train.csv").open("a") as table:
        table.write(f"{name},0\n")
    zip_photos(folder)
    (folder / "train.zip").rename(folder / f"{'é' * 125}.zip")
    layout = replace(HOME, train_photos=(f"{'é' * 125}.zip",))
    competition = read_competition(folder, layout, folder.parent / "scratch")
    assert name in set(competition.train["Id"])
    assert competition.excluded.empty


def test_a_zip_without_photos_is_named(folder):
    zip_photos(folder)
    with zipfile.ZipFile(folder / "test.zip", "w") as bundle:
        bundle.mkdir("test_upload")
    with pytest.raises(Problem, match=r"test.zip holds no photos"):
        read(folder)


def test_a_full_disk_is_named_before_anything_is_written(folder, monkeypatch):
    zip_photos(folder)
    usage = shutil.disk_usage(folder)._replace(free=1000)
    monkeypatch.setattr(find.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(Problem, match=r"test.zip does not fit into .*scratch.* TMPDIR"):
        read(folder)
    assert not list((folder.parent / "scratch").rglob("*.jpg"))


def test_a_disk_that_fills_up_while_unpacking_is_named(folder, monkeypatch):
    zip_photos(folder)

    def full(packed, file, length):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(find.shutil, "copyfileobj", full)
    with pytest.raises(Problem, match=r"test.zip does not fit into"):
        read(folder)


@pytest.mark.parametrize("labels", [(0, 1, 10, 2), ("audi", "vw", "bmw", "fiat")])
def test_a_submission_is_the_sample_with_the_most_probable_labels(tmp_path, labels):
    write_competition(tmp_path / "data", labels=labels)
    competition = read(tmp_path / "data")
    made = competition.submission(np.eye(4)[[3, 0, 1]])
    classes = sorted(labels)
    assert list(made.columns) == ["Id", "Category"]
    assert made.Id.tolist() == ["92.jpg", "91.jpg", "90.jpg"]
    assert made.Category.tolist() == [classes[3], classes[0], classes[1]]
    assert competition.sample.Category.tolist() == 3 * [labels[0]]  # is not changed
