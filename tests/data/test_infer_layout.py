"""Folders that lie: whose names, tables and clutter suggest what they do not mean."""

import dataclasses
import errno
import os
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pandas as pd
import pillow_heif
import pytest

from ImageDataAugmentor.files import is_clutter, is_photo
from kernelkit.core.problem import Problem
from kernelkit.data.check import check_photos
from kernelkit.data.find import find_files, list_files
from kernelkit.data.infer_folders import names_pattern
from kernelkit.data.infer_layout import layout_of, propose, source_of
from kernelkit.data.names import may_be_unlabelled, role_of
from kernelkit.data.read import read_competition
from kernelkit.offline import find_mounted
from labelled_folders import LABELS, classes, put, read, seen, write, write_sample
from tiny_competition import HOME, load, photo, write_competition, write_csv, write_photo


def labels_of_photos(competition) -> set[tuple[str, object]]:
    paths = competition.train["path"].map(os.path.basename)
    return set(zip(paths, competition.train["label"], strict=True))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


# ------------------------------------------------------------------------ what is certain


def individual(folder):
    rows = [(f"p{n:03d}.jpg", ("orca", "beluga")[n % 2], f"id{n % 6}") for n in range(24)]
    put(folder, *(f"train_images/{row[0]}" for row in rows), "test_images/t.jpg")
    write_csv(folder / "train.csv", rows, ("image", "species", "individual_id"))
    return {f"id{n}": 4 for n in range(6)}, 1


def individuals_of_a_sample(folder):
    expected = individual(folder)
    write_sample(folder, "t.jpg", value="id0 id1 id2", header=("image", "predictions"))
    return expected


def one_individual_of_a_sample(folder):
    expected = individual(folder)
    write_sample(folder, "t.jpg", value="id5", header=("image", "predictions"))
    return expected


def species_of_a_sample(folder):
    individual(folder)
    write_sample(folder, "t.jpg", value="orca", header=("image", "predictions"))
    return {"beluga": 12, "orca": 12}, 1


def names_beside_numbers(folder):
    rows = write(folder)
    rows = [(Id, LABELS.index(label), label) for Id, label in rows]
    write_csv(folder / "train.csv", rows, ("id", "label", "label_name"))
    return dict.fromkeys(LABELS, 8), 4


def a_test_split_in_the_table(folder, label):
    labels = [LABELS[n % 3] if n < 24 else label for n in range(30)]
    rows = [(f"{n:03d}.jpg", labels[n]) for n in range(30)]
    put(folder, *(f"images/{name}" for name, _ in rows))
    write_csv(folder / "labels.csv", rows[::-1], ("id", "label"))  # the test set comes first
    write_sample(folder, *(f"{n:03d}.jpg" for n in range(29, 23, -1)))
    return dict.fromkeys(LABELS, 8), 6


def a_table_of_features_beside_that_of_labels(folder):
    rows = write(folder)
    write_csv(folder / "train_labels.csv", rows, ("id", "label"))
    features = [(Id, 600 + n % 4, n % 5) for n, (Id, _) in enumerate(rows)]
    write_csv(folder / "train.csv", features, ("id", "width", "site"))
    return dict.fromkeys(LABELS, 8), 4


def names_like_roles(folder):
    classes(folder, *(f"train/{name}" for name in ("testarossa", "contest", "latest", "trainer")))
    put(folder, "test/1.jpg")
    return dict.fromkeys(("contest", "latest", "testarossa", "trainer"), 6), 1


def names_like_roles_at_the_top(folder):
    classes(folder, "testarossa", "contest", "latest")
    return dict.fromkeys(("contest", "latest", "testarossa"), 6), 0


def a_class_called_train(folder):
    classes(folder, "train", "bus", "car")
    return dict.fromkeys(("bus", "car", "train"), 6), 0


def classes_called_train_and_test(folder):
    classes(folder, "train/train", "train/bus", "train/test")
    put(folder, "test/1.jpg")
    return dict.fromkeys(("bus", "test", "train"), 6), 1


def classes_called_train_and_test_beside_the_tests(folder):
    classes(folder, "train", "bus", "test")
    put(folder, "upload/1.jpg")
    write_sample(folder, "1.jpg", value="bus")
    return dict.fromkeys(("bus", "test", "train"), 6), 1


def a_class_called_train_in_a_table(folder):
    write(folder, ("train", "bus", "test"), "photos", "upload")
    return dict.fromkeys(("bus", "test", "train"), 8), 4


def a_class_called_train_in_one_folder(folder):
    rows = [(f"train/{n}.jpg", ("train", "bus")[n % 2]) for n in range(12)]
    put(folder, *(name for name, _ in rows), "other/90.jpg", "upload/x.jpg")
    write_csv(folder / "train.csv", [*rows, ("other/90.jpg", "bus")], ("id", "label"))
    write_sample(folder, "upload/x.jpg", value="bus")
    return {"bus": 7, "train": 6}, 1


def roles_beside_other_words(folder):
    put(folder, *(f"cars_train/{n:05d}.jpg" for n in range(24)))
    put(folder, *(f"cars_test/{n:05d}.jpg" for n in range(8)))
    rows = [(f"{n:05d}.jpg", LABELS[n % 3]) for n in range(24)]
    write_csv(folder / "train.csv", rows, ("fname", "class"))
    write_sample(folder, *(f"{n:05d}.jpg" for n in range(8)), header=("fname", "class"))
    return dict.fromkeys(LABELS, 8), 8


def the_same_names_in_folders_without_a_role(folder):
    put(folder, *(f"one/{n}.jpg" for n in range(24)), *(f"two/{n}.jpg" for n in range(8)))
    write_csv(folder / "train.csv", [(n, LABELS[n % 3]) for n in range(24)], ("id", "label"))
    write_sample(folder, *map(str, range(8)))
    return dict.fromkeys(LABELS, 8), 8


def the_same_names_beside_a_folder(folder):
    put(folder, *(f"{n}.jpg" for n in range(24)), *(f"upload/{n}.jpg" for n in range(8)))
    write_csv(folder / "train.csv", [(f"{n}.jpg", LABELS[n % 3]) for n in range(24)])
    write_sample(folder, *(f"{n}.jpg" for n in range(8)), header=("Id", "Category"))
    return dict.fromkeys(LABELS, 8), 8


def the_same_names_in_class_folders(folder):
    names = [(f"{n}.jpg", LABELS[n % 3]) for n in range(24)]
    put(folder, *(f"train/{label}/{name}" for name, label in names))
    put(folder, *(f"test/{n}.jpg" for n in range(8)))
    write_csv(folder / "train.csv", names)
    write_sample(folder, *(f"{n}.jpg" for n in range(8)), header=("Id", "Category"))
    return dict.fromkeys(LABELS, 8), 8


def a_train_and_test_folder_in_a_test_folder(folder):
    write(folder / "my test 3")
    return dict.fromkeys(LABELS, 8), 4


def paths_of_three_sets_in_one_table(folder):
    parts = [(part, label, n) for part in ("train", "valid", "test") for label in LABELS[:2]
             for n in range(4)]  # fmt: skip
    rows = [(k % 2, f"{part}/{la}/{n:03d}.jpg", la, part) for k, (part, la, n) in enumerate(parts)]
    put(folder, *(row[1] for row in rows))
    write_csv(folder / "birds.csv", rows, ("class id", "filepaths", "labels", "data set"))
    return {"cat": 8, "dog": 8}, 8


def numbers_of_labels_that_are_photos_too(folder):
    put(folder, *(f"train/{n}.jpg" for n in range(30)), "test/90.jpg")
    write_csv(folder / "train.csv", [(n % 10, n) for n in range(30)], ("target", "photo"))
    write_sample(folder, "90", value="0", header=("Id", "Category"))
    return dict.fromkeys(range(10), 3), 1


def labels_without_a_sample(folder):
    classes(folder, "train/cat", "train/dog")
    rows = [(f"train-{label}{n}.jpg", label) for label in ("cat", "dog") for n in range(6)]
    put(folder, "test/1.jpg", "test/2.jpg")
    write_csv(folder / "labels.csv", rows, ("filename", "label"))
    return {"cat": 6, "dog": 6}, 2


def sizes_beside_class_folders(folder):
    classes(folder, "cat", "dog")
    rows = [(f"{label}{n}.jpg", 640 + n, 480) for label in ("cat", "dog") for n in range(6)]
    write_csv(folder / "meta.csv", rows, ("filename", "width", "height"))
    return {"cat": 6, "dog": 6}, 0


def a_one_hot_table_without_a_sample(folder):
    for part in ("train", "test"):
        put(folder, *(f"{part}/{part}{n}.jpg" for n in range(12)))
        rows = [(f"{part}{n}.jpg", n % 2, 1 - n % 2) for n in range(12)]
        write_csv(folder / part / "_classes.csv", rows, ("filename", "cat", "dog"))
    return {"cat": 6, "dog": 6}, 12


def inner_class_folders_of_a_sample(folder):
    classes(folder, *(f"train/{batch}/{la}" for batch in ("b1", "b2") for la in ("cat", "dog")))
    put(folder, "test/1.jpg")
    write_sample(folder, "1.jpg")
    return {"cat": 12, "dog": 12}, 1


def names_of_a_sample(folder):
    put(folder, *(f"train/{place}_{n}.jpg" for place in ("rome", "paris") for n in range(10)))
    put(folder, "test/1.jpg")
    write_sample(folder, "1.jpg", value="rome")
    return {"paris": 10, "rome": 10}, 1


def an_old_submission_and_folds(folder):
    rows = write(folder)
    write_csv(folder / "my_submission.csv", [("t0.jpg", "emu")], ("id", "label"))
    write_csv(folder / "folds.csv", [(*row, n % 5) for n, row in enumerate(rows)],
              ("id", "label", "fold"))  # fmt: skip
    return dict.fromkeys(LABELS, 8), 4


def a_number_of_the_row_beside_the_name(folder):
    put(folder, *(f"train/{n}.jpg" for n in range(1, 25)), "test/90.jpg")
    rows = [(n + 1, f"{n * 7 % 24 + 1}.jpg", LABELS[n % 3]) for n in range(24)]
    write_csv(folder / "train.csv", rows, ("id", "file", "label"))
    write_sample(folder, "90.jpg", header=("file", "label"))
    return dict.fromkeys(LABELS, 8), 1


def photos_without_a_suffix(folder):
    rows = write(folder)
    for path in sorted(folder.rglob("*.jpg")):
        path.rename(path.with_suffix(""))
    write_csv(folder / "train.csv", [(Id[:-4], label) for Id, label in rows], ("id", "label"))
    return dict.fromkeys(LABELS, 8), 4


def sets_in_a_zip_without_tables(folder):
    classes(
        folder, *(f"inner/{part}/{la}" for part in ("cars_train", "cars_test") for la in LABELS)
    )
    zipped(folder, "cars.zip")
    return dict.fromkeys(LABELS, 6), 18


def validation_photos(folder):
    classes(folder, *(f"{part}/{la}" for part in ("train", "valid", "test") for la in LABELS))
    put(folder, "pending/1.jpg", "front.jpg")
    return dict.fromkeys(LABELS, 12), 18


def validation_photos_in_zips(folder):
    for part, labels in (("seg_train", LABELS), ("seg_val", LABELS[1:])):
        classes(folder, *(f"{part}/{part}/{label}" for label in labels))
    return {LABELS[0]: 6} | dict.fromkeys(LABELS[1:], 12), 0


def validation_photos_of_other_folders(folder):
    classes(folder, *(f"train/{label}" for label in LABELS), "valid/left", "valid/right")
    put(folder, "test/1.jpg")
    return dict.fromkeys(LABELS, 6), 1


def a_label_beside_ordinary_columns(folder):
    header = ("id", "label", "width", "height", "author", "fold", "path", "taken", "x", "sex")
    more = [lambda n: 640 + n % 2, lambda n: 480, lambda n: ("ann", "bob", "eve", "kim")[n % 4],
            lambda n: n % 5, lambda n: f"/data/{LABELS[n % 3]}", lambda n: f"2020-01-0{n % 3 + 1}",
            lambda n: n / 7, lambda n: "mf"[n % 2]]  # fmt: skip
    with_columns(folder, header, *more)
    return dict.fromkeys(LABELS, 8), 4


def a_label_that_only_holds_what_the_sample_does(folder):
    with_columns(folder, ("id", "label", "sub"), lambda n: n % 4, sample="cat")
    return dict.fromkeys(LABELS, 8), 4


def row_numbers_without_a_name(folder):
    """As pandas writes them unless it is told not to; here they name other photos."""
    put(folder, *(f"train/{n}.jpg" for n in range(1, 25)), "test/90.jpg")
    rows = [(n, f"{n * 7 % 24 + 1}", LABELS[n % 3]) for n in range(1, 25)]
    write_csv(folder / "train.csv", rows, ("", "photo", "kind"))
    write_sample(folder, "90", value="", header=("Id", "answer"))
    return dict.fromkeys(LABELS, 8), 1


def tables_with_tabs(folder):
    rows = write(folder)
    for name in ("train", "sample_submission"):
        text = (folder / f"{name}.csv").read_text()
        (folder / f"{name}.tsv").write_text(text.replace(",", "\t"))
        (folder / f"{name}.csv").unlink()
    return dict.fromkeys(LABELS, len(rows) // 3), 4


def masks_beside_photos(folder):
    classes(folder, "cat", "dog")
    put(folder, *(f"{la}/{la}{n}_mask{end}.jpg" for la in ("cat", "dog") for n in range(6)
                  for end in ("", "_1")))  # fmt: skip
    return {"cat": 6, "dog": 6}, 0


def masks_in_class_folders(folder):
    put(folder, *(f"{la}/{kind}/{n}.jpg" for la in ("cat", "dog") for kind in ("images", "masks")
                  for n in range(6)))  # fmt: skip
    return {"cat": 6, "dog": 6}, 0


def masks_in_a_folder_of_their_own(folder):
    put(folder, *(f"{kind}/{la}/{n}.jpg" for la in ("cat", "dog") for kind in ("images", "masks")
                  for n in range(6)))  # fmt: skip
    return {"cat": 6, "dog": 6}, 0


def classes_called_mask(folder):
    classes(folder, "mask", "no mask")
    put(folder, "mask/a_mask.jpg", "no mask/a.jpg")
    return {"mask": 7, "no mask": 7}, 0


def two_folders_to_predict(folder):
    """Photos of both sets have the same names."""
    rows = write(folder)
    put(folder, *(f"test/p{n:03d}.jpg" for n in range(3)), "test_hard/h.jpg")
    write_sample(folder, *(Id for Id, _ in rows[:3]), "h.jpg")
    return dict.fromkeys(LABELS, 8), 4


def a_list_of_the_photos_to_predict(folder):
    put(folder, *(f"images/{n}.jpg" for n in range(30)))
    rows = [(f"{n}.jpg", LABELS[n % 3]) for n in range(24)]
    write_csv(folder / "train.csv", rows, ("image", "category"))
    write_csv(folder / "test_x7.csv", [(f"{n}.jpg",) for n in range(29, 24, -1)], ("image",))
    return dict.fromkeys(LABELS, 8), 5


CERTAIN = [
    two_folders_to_predict, a_list_of_the_photos_to_predict,
    tables_with_tabs, masks_beside_photos, masks_in_class_folders, masks_in_a_folder_of_their_own,
    classes_called_mask,
    individuals_of_a_sample, one_individual_of_a_sample, species_of_a_sample, names_beside_numbers,
    a_table_of_features_beside_that_of_labels, names_like_roles, names_like_roles_at_the_top,
    a_class_called_train, classes_called_train_and_test, a_class_called_train_in_a_table,
    classes_called_train_and_test_beside_the_tests, a_class_called_train_in_one_folder,
    the_same_names_beside_a_folder, the_same_names_in_class_folders,
    roles_beside_other_words, the_same_names_in_folders_without_a_role,
    a_train_and_test_folder_in_a_test_folder, paths_of_three_sets_in_one_table,
    numbers_of_labels_that_are_photos_too, labels_without_a_sample, sizes_beside_class_folders,
    a_one_hot_table_without_a_sample, inner_class_folders_of_a_sample, names_of_a_sample,
    an_old_submission_and_folds, a_number_of_the_row_beside_the_name, photos_without_a_suffix,
    validation_photos, validation_photos_in_zips, validation_photos_of_other_folders,
    sets_in_a_zip_without_tables, a_label_beside_ordinary_columns,
    a_label_that_only_holds_what_the_sample_does, row_numbers_without_a_name,
]  # fmt: skip


@pytest.mark.parametrize("build", CERTAIN, ids=lambda build: build.__name__)
def test_what_is_certain_is_read_rightly(folder, build):
    expected = build(folder)
    assert seen(folder) == expected


@pytest.mark.parametrize("label", [-1, "", "NaN", "cat"])
def test_ids_of_the_sample_never_train(folder, label):
    expected = a_test_split_in_the_table(folder, label)
    assert seen(folder) == expected
    block = dataclasses.replace(HOME, sample_csv="sample_submission.csv", train_csv="labels.csv")
    block = dataclasses.replace(block, train_photos=("images",), test_photos=("images",))
    competition = read_competition(folder, block, folder.parent / "scratch")  # no guess
    assert set(competition.classes) == set(LABELS)
    assert not set(competition.train["path"]) & set(competition.test["path"])
    assert set(competition.excluded["reason"]) == {
        "its row of labels.csv is of a photo that is to be predicted"
    }


@pytest.mark.parametrize(
    ("build", "train", "test"),
    [
        (the_same_names_in_folders_without_a_role, {"one"}, "two"),
        (the_same_names_beside_a_folder, {"data"}, "upload"),
        (the_same_names_in_class_folders, set(LABELS), "test"),
    ],
)
def test_the_right_photo_belongs_to_each_label(folder, build, train, test):
    build(folder)
    competition = read(folder)
    assert labels_of_photos(competition) == {(f"{n}.jpg", LABELS[n % 3]) for n in range(24)}
    assert {Path(path).parent.name for path in competition.train["path"]} == train
    assert {Path(path).parent.name for path in competition.test["path"]} == {test}
    assert [Path(path).name for path in competition.test["path"]] == competition.test["Id"].map(
        lambda Id: f"{Id.removesuffix('.jpg')}.jpg"
    ).tolist()


def test_photos_outside_the_training_set_are_to_be_predicted(folder):
    two_folders_to_predict(folder)
    places = [Path(path).parent.name for path in read(folder).test["path"]]
    assert places == ["test", "test", "test", "test_hard"]


def test_a_list_of_photos_gives_the_submission_its_ids_in_their_order(folder):
    a_list_of_the_photos_to_predict(folder)
    sample = read(folder).sample
    assert [*sample.columns, *sample["image"]] == ["image", "category", *(
        f"{n}.jpg" for n in range(29, 24, -1)
    )]  # fmt: skip


def test_of_true_and_false_the_probability_is_of_true(folder):
    write(folder, ("True", "False"), sample="0.5", header=("id", "is_dog"))
    layout = read(folder).layout
    assert (layout.submission, layout.positive) == ("probability", "True")


def test_a_table_whose_first_line_is_a_row_is_refused(folder):
    rows = write(folder)
    (folder / "sample_submission.csv").unlink()
    write_csv(folder / "train.csv", rows[1:], rows[0])
    with pytest.raises(Problem, match=r"train\.csv has no header.*p000\.jpg; add a line"):
        read(folder)


def test_a_column_that_counts_rows_names_no_photos(folder):
    a_number_of_the_row_beside_the_name(folder)
    expected = {(f"{n * 7 % 24 + 1}.jpg", LABELS[n % 3]) for n in range(24)}
    assert labels_of_photos(read(folder)) == expected


# ------------------------------------------------------------------------ what is in doubt


def unlabelled_beside_classes(folder):
    classes(folder, "cat", "dog", "Unlabelled photos")


def unknown_in_train(folder):
    classes(folder, "train/cat", "train/dog", "train/unknown")
    put(folder, "test/1.jpg")
    write_sample(folder, "1.jpg")


def two_levels(folder):
    classes(folder, *(f"{make}/{side}" for make in ("audi", "bmw") for side in ("front", "rear")))


def names_without_a_sample(folder):
    names_of_a_sample(folder)
    (folder / "sample_submission.csv").unlink()


def samples_of_other_ids(folder):
    write(folder)
    write_csv(folder / "sample_submission_stage2.csv", [("t0.jpg", "cat")], ("id", "label"))


def labels_in_two_tables(folder):
    write(folder)
    put(folder, "extra/1.jpg", "extra/2.jpg")
    rows = [("1.jpg", "cat"), ("2.jpg", "dog")]
    write_csv(folder / "train_extra.csv", rows, ("id", "label"))


def labels_in_two_columns(folder):
    rows = write(folder, sample="", header=("id", "prediction"))
    rows = [(Id, LABELS.index(label), label) for Id, label in rows]
    write_csv(folder / "train.csv", rows, ("id", "category_id", "species"))


def with_columns(folder, header, *more, sample=""):
    """Write a table with more columns, of which the sample submission has none."""
    rows = write(folder, sample=sample, header=("id", "answer"))
    rows = [(*row, *(value(n) for value in more)) for n, row in enumerate(rows)]
    write_csv(folder / "train.csv", rows, header)


def a_label_and_a_finer_one(folder):
    with_columns(folder, ("id", "label", "sub"), lambda n: f"{LABELS[n % 3]} {n // 3 % 2}")


def a_class_and_its_models(folder):
    with_columns(folder, ("id", "class", "model"), lambda n: f"{LABELS[n % 3]} {n // 3 % 2}")


def a_class_and_the_numbers_of_another(folder):
    with_columns(folder, ("id", "class", "fine_label"), lambda n: n % 4, sample="0")


def ages(folder, header=("id", "age"), first=5, step=1, sample=0):
    labels = tuple(first + n * step for n in range(24))
    write(folder, labels, sample=str(sample), header=header)


def fractions_of_a_column(folder):
    ages(folder, ("id", "pawpularity"), 0.5, 1, 0.5)


def parts_of_a_set(folder):
    """As HAM10000 has them: the folders are no classes, and no column is called a label."""
    names = [f"HAM_part_{n % 2 + 1}/ISIC_{n}.jpg" for n in range(24)]
    put(folder, *names)
    rows = [(f"ISIC_{n}", f"h{n // 2}", LABELS[n % 3], 60 + n % 9) for n in range(24)]
    write_csv(folder / "metadata.csv", rows, ("image_id", "lesion_id", "dx", "age"))


def numbers_where_labels_are_words(folder):
    write(folder, sample="0")


def fractions_where_labels_are_many(folder):
    write(folder, (0, 1, 2), sample="0.5")


def minus_one_of_the_table_alone(folder):
    put(folder, *(f"images/{n:03d}.jpg" for n in range(30)))
    rows = [(f"{n:03d}.jpg", n % 3 if n < 20 else -1) for n in range(25)]
    write_csv(folder / "train.csv", rows, ("id", "label"))
    write_sample(folder, *(f"{n:03d}.jpg" for n in range(25, 30)), value=0)


def a_split_column(folder):
    put(folder, *(f"images/{n:03d}.jpg" for n in range(30)))
    rows = [(f"{n:03d}.jpg", n % 3, "train" if n < 20 else "test") for n in range(30)]
    write_csv(folder / "train.csv", rows, ("id", "label", "split"))


def labels_unlike_the_folders(folder):
    put(folder, *(f"site{n % 2}/{n}.jpg" for n in range(24)))
    write_csv(folder / "data.csv", [(n, LABELS[n % 3]) for n in range(24)], ("id", "label"))


def a_row_number_that_the_sample_has(folder):
    a_number_of_the_row_beside_the_name(folder)
    write_sample(folder, "90", header=("id", "label"))


def a_test_class_without_a_sample(folder):
    classes(folder, "bus", "train", "test")


def a_test_set_that_was_not_downloaded(folder):
    """Its Ids are names of training photos too."""
    write(folder, test="elsewhere")
    shutil.rmtree(folder / "elsewhere")
    write_sample(folder, "p001.jpg", "p005.jpg")


def a_test_set_that_lacks_a_photo(folder):
    write(folder, train="known", test="upload")
    put(folder, "upload/p001.jpg", "upload/p002.jpg")
    write_sample(folder, "p001.jpg", "p002.jpg", "p003.jpg")


def row_numbers_of_the_test_table(folder):
    write(folder)
    rows = [(n, f"{3 - n}.jpg") for n in range(4)]
    write_csv(folder / "test.csv", rows, ("id", "file"))
    put(folder, *(f"test/{name}" for _, name in rows))
    write_sample(folder, *(str(n) for n, _ in rows))


def samples_of_other_columns(folder):
    write(folder)
    rows = [(f"t{n}.jpg", 0.4, 0.3, 0.3) for n in range(4)]
    write_csv(folder / "sample_submission_b.csv", rows, ("id", *LABELS))


def a_submission_of_some_rows(folder):
    write(folder)
    (folder / "sample_submission.csv").unlink()
    write_csv(folder / "my_submission.csv", [("t1.jpg", "cat"), ("t2.jpg", "dog")], ("id", "label"))


DOUBTS = [
    (unlabelled_beside_classes, "Unlabelled photos .6 photos", "test_photos", "Unlabelled photos",
     ({"cat": 6, "dog": 6}, 6)),
    (unlabelled_beside_classes, "Unlabelled photos .6 photos", "train_photos", ".",
     ({"Unlabelled photos": 6, "cat": 6, "dog": 6}, 0)),
    (unknown_in_train, "train/unknown", "test_photos", "test,train/unknown",
     ({"cat": 6, "dog": 6}, 1)),
    (two_levels, "outer folders .audi, bmw. or the inner .front, rear", "pattern", "^([^/]+)/",
     ({"audi": 12, "bmw": 12}, 0)),
    (two_levels, "outer folders", "pattern", "^[^/]+/([^/]+)/", ({"front": 12, "rear": 12}, 0)),
    (names_without_a_sample, r"paris \(10\), rome \(10\)", "pattern", r"^(.+?)_\d+",
     ({"paris": 10, "rome": 10}, 1)),
    (samples_of_other_ids, "stage2.csv, whose Ids or columns differ", "sample_csv",
     "sample_submission.csv", (dict.fromkeys(LABELS, 8), 4)),
    (labels_in_two_tables, "train.csv and train_extra.csv", "train_csv", "train_extra.csv",
     ({"cat": 1, "dog": 1}, 4)),
    (labels_in_two_columns, "category_id of train.csv, or in species", "label", "species",
     (dict.fromkeys(LABELS, 8), 4)),
    (a_label_and_a_finer_one, "column label of train.csv, or in sub", "label", "label",
     (dict.fromkeys(LABELS, 8), 4)),
    (a_class_and_its_models, "column class of train.csv, or in model", "label", "model",
     ({f"{la} {n}": 4 for la in LABELS for n in range(2)}, 4)),
    (a_class_and_the_numbers_of_another, "column class of train.csv, or in fine_label", "label",
     "fine_label", (dict.fromkeys(range(4), 6), 4)),
    (ages, "24 numbers of the column age, 5 to 28, are classes", "submission", "label",
     (dict.fromkeys(range(5, 29), 1), 4)),
    (fractions_of_a_column, "24 numbers of the column pawpularity, 0.5 to 23.5, are classes",
     "submission", "label", ({f"{n}.5": 1 for n in range(24)}, 4)),
    (parts_of_a_set, "column lesion_id of metadata.csv, or in dx, age", "label", "dx",
     (dict.fromkeys(LABELS, 8), 0)),
    (numbers_where_labels_are_words, "labels such as cat .* has '0'", "submission", "label",
     (dict.fromkeys(LABELS, 8), 4)),
    (fractions_where_labels_are_many, "labels such as 0 .* has '0.5'", "submission", "label",
     (dict.fromkeys(range(3), 8), 4)),
    (minus_one_of_the_table_alone, "-1, the label of 5 rows of train.csv", "label", "label",
     ({-1: 5, 0: 7, 1: 7, 2: 6}, 5)),
    (a_split_column, "10 rows of train.csv with 'test' in the column split", "label", "label",
     ({0: 10, 1: 10, 2: 10}, 0)),
    (labels_unlike_the_folders, "column label of data.csv or the photos' folders", "train_csv", "",
     ({"site0": 12, "site1": 12}, 0)),
    (a_row_number_that_the_sample_has, "which of the columns id and file", "id", "file",
     (dict.fromkeys(LABELS, 8), 1)),
    (a_test_set_that_was_not_downloaded, "photos in train are .* labelled in train.csv",
     "test_photos", "train", ({"cat": 8, "dog": 7, "emu": 7}, 2)),
    (a_test_set_that_lacks_a_photo, "photos in known are .* labelled in train.csv", "test_photos",
     "known", ({"cat": 7, "dog": 7, "emu": 7}, 3)),
    (samples_of_other_columns, "Ids or columns differ", "sample_csv", "sample_submission.csv",
     (dict.fromkeys(LABELS, 8), 4)),
    (a_submission_of_some_rows, "my_submission.csv has all rows .* lacks 2 photos", "sample_csv",
     "", (dict.fromkeys(LABELS, 8), 4)),
    (row_numbers_of_the_test_table, "test.csv has other photos in the column file", "test_csv",
     "", (dict.fromkeys(LABELS, 8), 4)),
    (a_test_class_without_a_sample, "whether test is a class", "test_photos", "",
     ({"bus": 6, "test": 6, "train": 6}, 0)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("build", "doubt", "field", "value", "expected"),
    DOUBTS,
    ids=[f"{one[0].__name__}-{one[3]}" for one in DOUBTS],
)
def test_what_is_uncertain_is_asked_and_decided(
    folder, capsys, build, doubt, field, value, expected
):
    build(folder)
    with pytest.raises(Problem, match=rf"{doubt}.*--set '?{field}=") as caught:
        seen(folder)
    assert str(folder) in str(caught.value)
    assert "COMPETITION = Layout(\n" in capsys.readouterr().out  # to be pasted and mended
    assert seen(folder, **{field: value}) == expected


@pytest.mark.parametrize(
    ("header", "first", "step"),
    [(("id", "label"), 0, 1), (("id", "car_model"), 1, 1), (("id", "age_group"), 0, 1),
     (("id", "price_category"), 0, 1), (("id", "year"), 0, 50)],
)  # fmt: skip
def test_numbers_of_classes_are_not_taken_for_amounts(folder, header, first, step):
    ages(folder, header, first, step)
    assert len(seen(folder)[0]) == 24


def test_few_grades_are_classes_whatever_their_column_is_called(folder):
    write(folder, (0, 1, 2, 3), sample="0", header=("id", "score"))
    assert seen(folder) == (dict.fromkeys(range(4), 6), 4)


@pytest.mark.parametrize("metric", ["log-loss", "auc"])
def test_a_metric_of_probabilities_does_not_make_labels_one_probability(folder, metric):
    write(folder)
    assert read(folder, metric=metric).layout.submission == "label"
    with pytest.raises(Problem, match=r"there are 3 .*cat, dog, emu.*--set submission=label"):
        read(folder, metric=metric, submission="probability")


@pytest.mark.parametrize("decided", [{}, {"test_photos": "test"}])
def test_a_missing_photo_to_predict_is_none_of_the_training_set(folder, decided):
    write(folder)
    put(folder, "test/p001.jpg")
    write_sample(folder, "p001.jpg", "p002.jpg", *(f"t{n}.jpg" for n in range(4)))
    competition = read(folder, **decided)
    assert competition.test["path"].tolist()[:2] == [str(folder / "test" / "p001.jpg"), ""]
    assert len(competition.train) == 24


def test_photos_in_class_folders_are_not_to_be_predicted(folder):
    classes(folder, "cat", "dog")
    write_sample(folder, "cat1.jpg", "dog2.jpg")
    with pytest.raises(
        Problem, match=r"sample_submission\.csv lie in folders of classes.*download"
    ):
        read(folder)


def test_the_photos_to_predict_may_be_decided(folder):
    a_test_set_that_lacks_a_photo(folder)
    competition = read(folder, test_photos="upload")
    assert competition.test["path"].tolist()[2] == ""
    assert len(competition.train) == 24
    with pytest.raises(Problem, match="no photo in nowhere has one of the Ids"):
        read(folder, test_photos="nowhere")


def test_folders_of_smaller_copies_are_asked_for_by_their_names(folder):
    for end in ("", "_small"):
        classes(folder, f"train{end}/cat", f"train{end}/dog")
        put(folder, *(f"test{end}/t{n}.jpg" for n in range(4)))
    decided = "decide it with --set test_photos=test or --set test_photos=test_small"
    with pytest.raises(Problem, match=decided):
        seen(folder)
    chosen = seen(folder, train_photos="train", test_photos="test")
    assert chosen == ({"cat": 6, "dog": 6}, 4)


@pytest.mark.parametrize(
    "prefixes",
    ["IMG_ DSC_", "DSCN PXL_", "P1000 DJI_", "image photo", "scan- frame", "IMG-2019-WA VID-",
     "1- 2-", "GOPR MVI_", "Screenshot_ Photo_", "train_ test_", "IMG_E IMG_"],
)  # fmt: skip
def test_cameras_name_no_classes(folder, prefixes):
    names = [f"{prefix}{n:04d}.jpg" for prefix in prefixes.split() for n in range(12)]
    assert names_pattern(names) == ""
    put(folder, *names)
    with pytest.raises(Problem, match=r"24 training photos' labels.*--set pattern=REGEX"):
        seen(folder)


def test_prefixes_of_classes_are_a_pattern():
    names = [f"{prefix}.{n}.jpg" for prefix in ("dog", "great pyrenees") for n in range(12)]
    assert names_pattern(names) != ""
    assert names_pattern([*names, *(f"IMG_{n}.jpg" for n in range(12))]) == ""
    names = [f"{answer}_{n}.jpg" for answer in ("yes", "no") for n in range(12)]
    assert names_pattern(names) == ""  # no. 1, no. 2
    assert names_pattern(names, ["yes", "no"]) != ""


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("train", "train Train TRAIN train.zip train_images training_set training-set trainset "
                  "train_data seg_train stage_2_train_images TrainImages train1 images_train"),
        ("test", "test TEST test.zip test_upload test1 TestSet test_jpg_256x256 testing"),
        ("valid", "val valid validation dev val_images"),
        ("", "testarossa contest latest attest tests trainer trains strain evaluate valley devon "
             "images data new train_test test_bus x 1 my"),
    ],
)  # fmt: skip
def test_roles_are_whole_words(role, names):
    assert {name: role_of(name) for name in names.split()} == dict.fromkeys(names.split(), role)
    assert role_of("training set") == "train"


def test_names_that_may_mean_no_label():
    sure = {"cat", "new_whale", "newfoundland", "unknowns of the deep", "test", "renewed"}
    unsure = {
        "upload",
        "images",
        "unlabelled",
        "Unlabeled",
        "unknown",
        "new",
        "predict",
        "holdout",
        "new photos",
    }
    assert {name for name in sure | unsure if may_be_unlabelled(name)} == unsure


SAMPLES = [
    (("", "id", "label"), lambda n: (n, f"t{n}.jpg", "cat"), r"Unnamed: 0 .*without a name"),
    (("id", "label", "Usage"), lambda n: (f"t{n}.jpg", "cat", "Public"), r"column Usage .*remove"),
    (("label", "id"), lambda n: ("cat", f"t{n}.jpg"), r"such as cat.* column id .*before label"),
    (("id", "label"), lambda n: (n + 70, "cat"), r"such as 70$"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "row", "sentence"), SAMPLES)
def test_a_sample_with_columns_in_the_way_is_refused_by_the_column(folder, header, row, sentence):
    write(folder)
    write_csv(folder / "sample_submission.csv", [row(n) for n in range(4)], header)
    with pytest.raises(Problem, match=rf"sample_submission\.csv.*{sentence}"):
        propose(source_of(folder, folder.parent / "scratch"))


def a_table_of_the_tests(folder, *rows, first=70, column="file"):
    """Its Ids are numbers, which those of the training photos may be too."""
    write(folder, header=("name", "label"))
    train = pd.read_csv(folder / "train.csv", dtype=str)
    write_csv(folder / "train.csv", train.reset_index().values.tolist(), ("id", column, "label"))
    rows = rows or [(first + n, f"t{3 - n}.jpg") for n in range(4)]
    write_csv(folder / "test.csv", rows, ("id", "file"))
    write_sample(folder, *(str(first + n) for n in range(4)))


@pytest.mark.parametrize("first", [70, 0])
def test_a_table_may_name_the_photos_of_the_ids(folder, first):
    a_table_of_the_tests(folder, first=first)
    competition = read(folder)
    assert competition.layout.test_csv == "test.csv"
    assert competition.test["Id"].tolist() == [str(first + n) for n in range(4)]
    assert [Path(path).stem for path in competition.test["path"]] == ["t3", "t2", "t1", "t0"]
    assert Counter(competition.train["label"]) == dict.fromkeys(LABELS, 8)


def test_such_a_table_may_have_rows_of_its_own_and_lack_some(folder):
    a_table_of_the_tests(folder, (70, "t0.jpg"), (72, "t2.jpg"), (99, "t1.jpg"))
    competition = read(folder)
    assert [Path(path).stem for path in competition.test["path"]] == ["t0", "", "t2", ""]


def test_such_a_table_must_give_one_photo_an_id_in_a_column_of_one_name(folder):
    a_table_of_the_tests(folder, column="picture")
    with pytest.raises(Problem, match=r"test\.csv .* column file and train\.csv .* column picture"):
        read(folder)
    a_table_of_the_tests(folder, *((70 + n, f"t{n}.jpg") for n in range(4)), (70, "t3.jpg"))
    with pytest.raises(Problem, match=r"test\.csv has several photos with the Id 70"):
        read(folder)
    with pytest.raises(Problem, match=r"no column of train\.csv names photos of the Ids"):
        seen(folder, test_csv="train.csv")
    with pytest.raises(Problem, match=r"test_csv: add sample_csv"):
        seen(folder, test_csv="test.csv", sample_csv="")


@pytest.mark.parametrize(
    ("name", "cure"),
    [("train.xlsx", "is no CSV"), ("annotations/instances.json", "is no CSV"),
     ("train.csv.gz", "must be unpacked"), ("train.npz", "holds arrays")],
)  # fmt: skip
def test_a_file_that_may_hold_the_labels_is_named(folder, name, cure):
    write(folder)
    (folder / "train.csv").unlink()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()
    with pytest.raises(Problem, match=rf"no table names .*labels.*{name} {cure}"):
        read(folder)


def test_a_folder_that_cannot_be_read_is_no_empty_one(folder, monkeypatch):
    classes(folder, "cat", "dog", "emu")
    listed = os.scandir

    def refusing(path):
        if str(path).endswith("dog"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(PermissionError, match="dog"):
        read(folder)


def test_a_field_that_no_table_fits_is_named(folder):
    write(folder)
    with pytest.raises(Problem, match=r"no table fits label=breed.*train\.csv"):
        seen(folder, label="breed")
    with pytest.raises(Problem, match="no field colour"):
        seen(folder, colour="red")


def test_kappa_is_proposed_for_grades_in_order(folder, capsys):
    write(folder, (0, 1, 2, 3))
    seen(folder)
    assert "--set metric=kappa" in capsys.readouterr().out
    assert read(folder, metric="kappa").layout.metric == "kappa"


def test_a_block_that_fits_takes_what_is_given(folder):
    write_competition(folder)
    scratch = folder.parent / "scratch"
    assert layout_of(folder, HOME, scratch, {"metric": "kappa", "k": "3"}) == dataclasses.replace(
        HOME, metric="kappa", k=3
    )


def test_tables_of_the_same_names_do_not_make_a_block_fit(folder):
    """The home competition's names are common, and labels for probabilities would be wrong."""
    write(folder, (0, 1), sample="0.5", test="test_upload")
    (folder / "sample_submission.csv").rename(folder / "sample-submission.csv")
    scratch, block = folder.parent / "scratch", dataclasses.replace(HOME, id="Id", label="Category")
    layout = layout_of(folder, block, scratch)
    assert (layout.submission, layout.label) == ("probability", "")
    with pytest.raises(Problem, match=r"column Category in train\.csv.*no table fits label=breed"):
        layout_of(folder, block, scratch, {"label": "breed"})


def test_the_classes_are_printed_at_the_start(folder, capsys):
    write_competition(folder)
    load(folder)
    assert "Classes: 0 (4), 1 (4), 2 (4), 10 (4)\n" in capsys.readouterr().out


# ------------------------------------------------------------------- what is data, and what is not

CLUTTER = [
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "cat/@eaDir/cat0.jpg", "$RECYCLE.BIN/$R1.jpg",
    "System Volume Information/a.jpg", "lost+found/1.jpg", ".git/a.jpg", ".Trash-1000/files/a.jpg",
    ".ipynb_checkpoints/cat0-checkpoint.jpg", "__MACOSX/cat/._cat0.jpg", "cat/._cat0.jpg",
    "node_modules/logo/logo.png", "__pycache__/a.png", "env/lib/python3.11/matplotlib/cat.png",
    "conda/share/icons/a.png", "cat/Thumbs.db", "cat/desktop.ini", "cat/.DS_Store",
    "cat/labels.txt", "cat/_annotations.csv", "_annotations.coco.json", "cat/notes.xlsx",
]  # fmt: skip


def fill_with_clutter(folder: Path) -> None:
    for name in CLUTTER:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_photo(folder / name, photo("cat0.jpg"))
    (folder / "env" / "pyvenv.cfg").touch()
    (folder / "conda" / "conda-meta").mkdir()
    (folder / "conda" / "conda-meta" / "history").touch()


def test_clutter_is_no_data(folder, capsys):
    classes(folder, "cat", "dog")
    fill_with_clutter(folder)
    source = source_of(folder, folder.parent / "scratch")
    expected = sorted(f"{la}/{la}{n}.jpg" for la in ("cat", "dog") for n in range(6))
    assert sorted(source.photos) == expected
    assert set(source.names) - set(source.photos) == {"cat/notes.xlsx"}
    competition = read(folder)
    assert competition.classes == ["cat", "dog"]
    assert (len(competition.train), len(competition.excluded)) == (12, 0)
    assert "1 files beside the photos are no photos and are ignored: .xlsx" in (
        capsys.readouterr().out
    )


def test_clutter_in_a_zip_is_no_data(folder):
    classes(folder, "cat", "dog")
    fill_with_clutter(folder)
    with zipfile.ZipFile(folder.parent / "pets.zip", "w") as bundle:
        for path in sorted(folder.rglob("*")):
            bundle.write(path, path.relative_to(folder))
    shutil.rmtree(folder)
    folder.mkdir()
    shutil.move(folder.parent / "pets.zip", folder)
    assert seen(folder) == ({"cat": 6, "dog": 6}, 0)


def test_one_list_of_suffixes():
    photos = {"a.jpg", "a.JPE", "a.heic", "a.HEIF", "a.mpo", "a.jxl", "a.jfif", "a.tif", "a.avif"}
    others = {"a.csv", "labels.txt", "Thumbs.db", "a.jpg.txt", "jpg", "a.mp4", "a"}
    assert set(filter(is_photo, photos | others)) == photos
    assert all(map(is_clutter, ("@EADIR", "thumbs.db", "DESKTOP.INI", "~$book.xlsx", "Icon\r")))
    assert not any(map(is_clutter, ("recycle bin", "annotations.csv", "labels.csv", "env")))


@pytest.mark.parametrize("suffix", ["jpe", "jfif", "mpo", "webp"])
def test_each_suffix_is_read_and_recognised(folder, suffix):
    classes(folder, "cat", "dog")
    for path in sorted(folder.rglob("*.jpg")):
        path.rename(path.with_suffix(f".{suffix}"))
    assert len(check_photos(read(folder), 1).train) == 12


def test_an_iphone_s_photo_without_its_reader_is_named(folder, monkeypatch):
    monkeypatch.setattr("ImageDataAugmentor.reading._reads_heif", lambda: False)
    classes(folder, "cat", "dog")
    (folder / "cat" / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    excluded = check_photos(read(folder), 1).excluded
    assert excluded["Id"].tolist() == ["cat/a.HEIC"]
    assert "`pip install pillow-heif`" in excluded["reason"].iloc[0]


def test_an_iphone_s_photo_is_read_by_its_reader(folder):
    classes(folder, "cat", "dog")
    picture = photo("cat0.jpg")[..., ::-1]
    file = pillow_heif.from_bytes("RGB", picture.shape[1::-1], picture.tobytes())
    file.save(folder / "cat" / "a.heic")
    assert len(check_photos(read(folder), 1).train) == 13


RESULTS = [["metrics.json", "report.html"], ["photos.csv", "report.html"], ["state/state.json"]]


@pytest.mark.parametrize("marks", RESULTS, ids=lambda marks: marks[0])
@pytest.mark.parametrize("inside", ["output", "results of mine", "."])
@pytest.mark.parametrize("table", [True, False])
def test_results_of_runs_are_no_data(folder, inside, marks, table):
    if table:
        expected = dict.fromkeys(LABELS, 8), 4
        write(folder)
    else:
        expected = {"cat": 6, "dog": 6}, 0
        classes(folder, "cat", "dog")
    output = folder / inside
    for name in ("state", "report/thumbnails", "members/a"):
        put(output, f"{name}/p000.jpg", f"{name}/t0.jpg")
    put(output, "augmented.png", "confusion_matrix.png")
    rows = [(f"p{n:03d}.jpg", "train", "emu", 0) for n in range(24)]
    write_csv(output / "photos.csv", rows, ("Id", "set", "label", "fold"))
    write_csv(output / "submission.csv", [("t0.jpg", "emu")], ("id", "label"))
    for name in marks:
        (output / name).touch()
    if marks[0] == "metrics.json":
        (output / "photos.csv").unlink()
    assert seen(folder) == expected


# --------------------------------------------------------------------------------- packing


def zipped(folder: Path, name: str) -> None:
    """Replace what a folder holds by a zip of it in the folder."""
    beside = folder.with_name("beside")
    shutil.make_archive(str(beside), "zip", folder)
    shutil.rmtree(folder)
    folder.mkdir()
    shutil.move(f"{beside}.zip", folder / name)


def pack_photos(folder: Path) -> None:
    for part in ("train", "test"):
        shutil.make_archive(str(folder / part), "zip", folder, part)
        shutil.rmtree(folder / part)


def alone(folder):
    zipped(folder, "my-slug.zip")


def alone_with_zips_in_it(folder):
    pack_photos(folder)
    zipped(folder, "my-slug.zip")


def alone_with_a_folder_in_it(folder):
    shutil.move(folder, folder.with_name("cars"))
    (folder / "x").mkdir(parents=True)
    shutil.move(folder.with_name("cars"), folder / "cars")
    (folder / "x").rmdir()
    zipped(folder, "my-slug.zip")


def beside_text_and_an_output(folder):
    zipped(folder, "my-slug.zip")
    (folder / "README.md").write_text("downloaded yesterday")
    (folder / "output").mkdir()
    write_csv(folder / "output" / "submission.csv", [("t0.jpg", "emu")], ("id", "label"))
    for name in ("metrics.json", "report.html"):
        (folder / "output" / name).touch()


def beside_an_old_submission(folder):
    zipped(folder, "my-slug.zip")
    write_csv(folder / "submission.csv", [("t0.jpg", "emu")], ("id", "label"))


def kept_beside_what_it_held(folder):
    shutil.make_archive(str(folder.with_name("beside")), "zip", folder)
    shutil.move(f"{folder.with_name('beside')}.zip", folder / "my-slug.zip")


def kept_beside_a_folder_of_its_name(folder):
    kept_beside_what_it_held(folder)
    (folder / "my-slug").mkdir()
    for name in ("train", "test", "train.csv", "sample_submission.csv"):
        shutil.move(folder / name, folder / "my-slug" / name)


def zips_kept_beside_folders(folder):
    shutil.make_archive(str(folder / "train"), "zip", folder, "train")
    shutil.make_archive(str(folder / "test"), "zip", folder / "test")


def zips_in_one(folder):
    pack_photos(folder)
    with zipfile.ZipFile(folder / "photos.zip", "w") as bundle:
        for name in ("train.zip", "test.zip"):
            bundle.write(folder / name, name)
            (folder / name).unlink()


def tables_in_one(folder):
    with zipfile.ZipFile(folder / "tables.ZIP", "w") as bundle:
        for name in ("train.csv", "sample_submission.csv"):
            bundle.write(folder / name, f"csv/{name}")
            (folder / name).unlink()
    (folder / "tables.ZIP").rename(folder / "tables.zip")


PACKINGS = [
    alone, alone_with_zips_in_it, alone_with_a_folder_in_it, beside_text_and_an_output,
    beside_an_old_submission, kept_beside_what_it_held, kept_beside_a_folder_of_its_name,
    zips_kept_beside_folders, zips_in_one, tables_in_one,
]  # fmt: skip


@pytest.mark.parametrize("pack", PACKINGS, ids=lambda pack: pack.__name__)
def test_zips_are_opened_wherever_they_lie(folder, pack):
    rows = write(folder)
    pack(folder)
    competition = read(folder)
    assert labels_of_photos(competition) == set(rows)
    assert competition.test["Id"].tolist() == [f"t{n}.jpg" for n in range(4)]
    names = competition.test["path"].map(os.path.basename)
    assert names.tolist() == competition.test["Id"].tolist()
    assert competition.excluded.empty


def test_the_home_competition_s_own_zip(folder):
    rows = write_competition(folder)
    zipped(folder, "sf-dl-car-classification.zip")
    competition = read(folder)
    assert labels_of_photos(competition) == set(rows)
    assert competition.layout == HOME
    given = folder / "sf-dl-car-classification.zip"  # the file in place of its folder
    assert labels_of_photos(read(given)) == set(rows)


def test_a_proposed_block_fits_photos_that_lie_in_a_zip(folder, capsys):
    classes(folder, "train/cat", "train/dog")
    shutil.make_archive(str(folder / "pets"), "zip", folder, "train")
    shutil.rmtree(folder / "train")
    layout = layout_of(folder, HOME, folder.parent / "scratch")
    assert layout.train_photos == ("pets/train",)
    capsys.readouterr()
    assert layout_of(folder, layout, folder.parent / "scratch") == layout
    assert not capsys.readouterr().out
    assert len(read_competition(folder, layout, folder.parent / "scratch").train) == 12


def test_photos_in_a_folder_and_in_a_zip_of_its_name_count_once(folder):
    write(folder)
    shutil.make_archive(str(folder / "train"), "zip", folder / "train")
    (folder / "train" / "p000.jpg").write_bytes(b"")  # so the zip is not what lies beside it
    assert seen(folder) == (dict.fromkeys(LABELS, 8), 4)


def test_a_competition_that_is_mounted_as_one_zip_is_found(tmp_path):
    place = tmp_path / "input" / "competitions" / "my-slug"
    write_competition(place)
    (tmp_path / "input" / "another" / "x").mkdir(parents=True)
    assert find_mounted(tmp_path / "input", "my-slug", HOME.tables) == place
    zipped(place, "data.zip")
    assert find_mounted(tmp_path / "input", "my-slug", HOME.tables) == place
    with pytest.raises(Problem, match=r"holds other\.csv"):
        find_mounted(tmp_path / "input", "my-slug", ["other.csv"])


# ----------------------------------------------------------------------------------- links


@pytest.mark.parametrize("table", [True, False])
def test_links_to_folders_are_followed_and_circles_end(folder, table):
    real = folder.with_name("real")
    if table:
        expected = dict.fromkeys(LABELS, 8), 4
        write(real)
    else:
        expected = {"cat": 6, "dog": 6}, 1
        classes(real, "train/cat", "train/dog")
        put(real, "test/1.jpg")
    for path in real.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "circle").symlink_to(folder)
    (real / "train" / "circle").symlink_to(real)
    assert seen(folder) == expected


def test_one_folder_behind_two_links_is_not_both_sets(folder):
    real = folder.with_name("real")
    a_test_split_in_the_table(real, "cat")
    for part in ("train", "test"):
        (folder / part).symlink_to(real / "images")
    for name in ("labels.csv", "sample_submission.csv"):
        shutil.move(real / name, folder / name)
    block = dataclasses.replace(HOME, sample_csv="sample_submission.csv", train_csv="labels.csv")
    block = dataclasses.replace(block, test_photos=("test",))
    competition = read_competition(folder, block, folder.parent / "scratch")
    assert (len(competition.train), len(competition.test)) == (24, 6)


def test_every_walk_lists_the_same(folder):
    classes(folder, "cat", "dog")
    fill_with_clutter(folder)
    (folder / "cat" / "circle").symlink_to(folder)
    listed = list_files(folder)["name"].tolist()
    assert listed == find_files(folder, folder.parent)["name"].tolist()
    assert listed == list(source_of(folder, folder.parent).names)


# ------------------------------------------------------------------------- test photos that train


def test_a_test_photo_that_copies_a_training_photo_is_named(folder, capsys):
    write(folder)
    shutil.copy2(folder / "train" / "p005.jpg", folder / "test" / "t2.jpg")
    write_photo(folder / "test" / "t3.jpg", photo("p007.jpg"), quality=40)
    competition = check_photos(read(folder), 1)
    message = capsys.readouterr().out
    assert "training photos: 2 (t2.jpg = p005.jpg, t3.jpg = p007.jpg)" in message
    near = competition.train.set_index("Id")["near"]
    assert competition.test["near"].tolist() == [-1, -1, near["p005.jpg"], near["p007.jpg"]]


def test_no_word_where_no_photo_is_there_twice(folder, capsys):
    write(folder)
    assert (check_photos(read(folder), 1).test["near"] == -1).all()
    assert "nearly the same" not in capsys.readouterr().out
