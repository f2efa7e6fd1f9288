"""Folders as well-known data sets and competitions have them, found to be misread once.

Each is named after one that has this shape; the classes are fewer, and so are the photos.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kernelkit.core.problem import Problem
from kernelkit.data.infer_layout import layout_of
from labelled_folders import LABELS, classes, put, read, seen, write, write_sample
from tiny_competition import HOME, write_csv


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def sets(folder: Path, **counts: int) -> None:
    """Write class folders with the labels into folders called as sets are; _ is for /."""
    for place, count in counts.items():
        classes(folder, *(f"{place.replace('_', '/')}/{label}" for label in LABELS), count=count)


# ---------------------------------------------------------------------------------- copies


def chest_xray(folder):
    sets(folder, chest_chest_train=6, chest_chest_test=3, chest_chest_val=2)
    shutil.copytree(folder / "chest" / "chest", folder / "copy")
    for part in (folder / "copy").iterdir():
        shutil.move(part, folder / "chest" / part.name)
    (folder / "copy").rmdir()
    return dict.fromkeys(LABELS, 8), 9


def malaria(folder):
    sets(folder, cells_cells=6)
    for label in LABELS:
        shutil.copytree(folder / "cells" / "cells" / label, folder / "cells" / label)
    return dict.fromkeys(LABELS, 6), 0


def natural_images(folder):
    sets(folder, images_natural=6)
    shutil.copytree(folder / "images" / "natural", folder / "natural")
    return dict.fromkeys(LABELS, 6), 0


def new_plant_diseases(folder):
    sets(folder, Plants_All_train=6, Plants_All_valid=2)
    put(folder, "test/test/1.JPG")
    shutil.copytree(folder / "Plants", folder / "plants, resized")
    return dict.fromkeys(LABELS, 8), 1


def traffic_signs(folder):
    """Two of each folder, which a system without upper case would not tell apart."""
    rows = [(640 + n % 5, n % 3, f"Train/{n % 3}/{n:05d}.png") for n in range(24)]
    tests = [(640 + n % 5, n % 3, f"Test/{n:05d}.png") for n in range(6)]
    for name, part in (("Train", rows), ("Test", tests)):
        put(folder, *(row[-1] for row in part))
        write_csv(folder / f"{name}.csv", part, ("Width", "ClassId", "Path"))
        shutil.copytree(folder / name, folder / name.lower())
    return dict.fromkeys(range(3), 8), 6


COPIES = [chest_xray, malaria, natural_images, new_plant_diseases, traffic_signs]


@pytest.mark.parametrize("build", COPIES, ids=lambda build: build.__name__)
def test_a_folder_and_its_copy_count_once(folder, build, capsys):
    expected = build(folder)
    assert seen(folder) == expected
    assert "copies" in capsys.readouterr().out
    paths = read(folder).train["path"]
    assert paths.map(os.path.basename).is_unique


def test_folders_of_other_photos_of_the_same_names_are_no_copies(folder):
    for place in ("ann", "bob"):
        for label in LABELS:
            put(folder, *(f"{place}/{label}/{n}.jpg" for n in range(6)))
    for path in sorted((folder / "bob").rglob("*.jpg")):
        path.write_bytes(path.read_bytes() + b"another")
    assert seen(folder, pattern="^[^/]+/([^/]+)/") == (dict.fromkeys(LABELS, 12), 0)


def test_copies_that_would_be_read_with_the_photos_are_asked_for(folder):
    classes(folder, *LABELS)
    shutil.copytree(folder, folder.with_name("sample"))
    shutil.move(folder.with_name("sample"), folder / "sample")
    for path in (folder / "sample").rglob("*5.jpg"):
        path.unlink()
    with pytest.raises(Problem, match=r"the outer folders .cat, dog, emu, sample. or the inner"):
        seen(folder)
    assert seen(folder, train_photos="sample") == (dict.fromkeys(LABELS, 5), 0)


def test_a_class_whose_copy_is_in_another_folder_is_asked_for(folder):
    classes(folder, *LABELS)
    shutil.copytree(folder / "cat", folder / "backup" / "cat")
    with pytest.raises(Problem, match=r"whether cat trains beside backup/cat.*train_photos=\."):
        seen(folder)
    assert seen(folder, train_photos=".")[0]["backup"] == 6


def test_a_test_photo_that_is_a_copy_is_predicted(folder):
    sets(folder, train=6)
    shutil.copytree(folder / "train", folder / "test")
    assert seen(folder) == (dict.fromkeys(LABELS, 6), 18)


def test_a_copy_may_be_chosen(folder):
    malaria(folder)
    assert seen(folder, train_photos="cells/cells") == (dict.fromkeys(LABELS, 6), 0)


# ------------------------------------------------------------------------ folders and sets


def food_11(folder):
    sets(folder, training=6, validation=2, evaluation=3)
    return dict.fromkeys(LABELS, 8), 9


def sets_in_a_folder_called_train(folder):
    sets(folder, train_train=6, train_val=2)
    put(folder, "test/1.jpg")
    return dict.fromkeys(LABELS, 8), 1


def doubled_class_folders(folder):
    put(folder, *(f"{label}/{label}/{label}{n}.jpg" for label in LABELS for n in range(6)))
    return dict.fromkeys(LABELS, 6), 0


def birds_and_their_segmentations(folder):
    names = [f"{label}/{label}{n}" for label in LABELS for n in range(6)]
    put(folder, *(f"birds/images/{name}.jpg" for name in names))
    put(folder, *(f"segmentations/{name}.png" for name in names))
    return dict.fromkeys(LABELS, 6), 0


FOLDERS = [food_11, sets_in_a_folder_called_train, doubled_class_folders,
           birds_and_their_segmentations]  # fmt: skip


@pytest.mark.parametrize("build", FOLDERS, ids=lambda build: build.__name__)
def test_folders_are_read_without_a_question(folder, build):
    expected = build(folder)
    assert seen(folder) == expected


def test_trimaps_of_pets_do_not_train(folder):
    put(folder, *(f"images/images/{la}_{n}.jpg" for la in LABELS for n in range(6)))
    put(folder, *(f"annotations/trimaps/{la}_{n}.png" for la in LABELS for n in range(6)))
    with pytest.raises(Problem, match="names begin with their labels"):
        seen(folder)
    assert seen(folder, pattern=r"^(.+?)_\d+") == (dict.fromkeys(LABELS, 6), 0)


def test_a_folder_whose_name_speaks_of_a_test_set_is_no_class_without_a_word(folder):
    """As the Simpsons' kaggle_simpson_testset."""
    classes(folder, *LABELS, "kaggle_testset")
    with pytest.raises(Problem, match=r"whether kaggle_testset .6 photos. is a class"):
        seen(folder)
    assert seen(folder, test_photos="kaggle_testset") == (dict.fromkeys(LABELS, 6), 6)


def test_of_two_test_sets_the_folders_are_asked_for_and_not_their_classes(folder):
    """As those of the hurricane's damage."""
    classes(folder, *(f"{part}/{la}" for part in ("train_more", "test_more") for la in LABELS))
    classes(folder, *(f"test/{label}" for label in LABELS), count=2)
    decided = "decide it with --set test_photos=test or --set test_photos=test_more"
    with pytest.raises(Problem, match=decided):
        seen(folder)
    assert seen(folder, test_photos="test") == (dict.fromkeys(LABELS, 6), 6)


def test_two_test_sets_beside_a_table_are_asked_for_too(folder):
    """Their common folder holds the training photos as well, and these are not to be predicted."""
    write(folder)
    (folder / "sample_submission.csv").unlink()
    put(folder, "test_2/h.jpg")
    with pytest.raises(Problem, match="--set test_photos=test or --set test_photos=test_2"):
        seen(folder)
    assert seen(folder, test_photos="test") == (dict.fromkeys(LABELS, 8), 4)


def test_a_table_whose_photos_are_all_to_be_predicted_is_named(folder):
    rows = write(folder)
    write_sample(folder, *(f"t{n}.jpg" for n in range(4)), *(name for name, _ in rows))
    for path in (folder / "train").iterdir():
        shutil.move(path, folder / "test" / path.name)
    with pytest.raises(Problem, match=r"train\.csv"):
        read(folder, train_csv="train.csv", sample_csv="sample_submission.csv",
             test_photos="test", train_photos="test")  # fmt: skip


# ------------------------------------------------------------------------ columns of labels


def celebrities(folder):
    put(folder, *(f"img/img/{n:06d}.jpg" for n in range(24)))
    ids = [f"{n:06d}.jpg" for n in range(24)]
    rows = [(Id, (-1, 1)[n % 3 == 0], (-1, 1)[n % 2]) for n, Id in enumerate(ids)]
    write_csv(folder / "list_attr.csv", rows, ("image_id", "Male", "Young"))
    rows = [(Id, n // 10) for n, Id in enumerate(ids)]
    write_csv(folder / "list_partition.csv", rows, ("image_id", "partition"))


def test_a_column_that_divides_photos_into_sets_holds_no_labels(folder):
    celebrities(folder)
    with pytest.raises(Problem, match=r"column Male of list_attr\.csv, or in Young"):
        seen(folder)
    assert seen(folder, label="Male") == ({-1: 16, 1: 8}, 0)
    (folder / "list_attr.csv").unlink()
    with pytest.raises(Problem, match="no table names the 24 training photos' labels"):
        seen(folder)
    assert seen(folder, label="partition") == ({0: 10, 1: 10, 2: 4}, 0)


def imagenette(folder):
    rows = [(f"{part}/{la}/{la}{part}{n}.jpg", la) for part, count in (("train", 6), ("val", 2))
            for la in LABELS for n in range(count)]  # fmt: skip
    put(folder, *(name for name, _ in rows))
    rows = [(name, la, LABELS[n % 3], "val" in name) for n, (name, la) in enumerate(rows)]
    write_csv(folder / "noisy.csv", rows, ("path", "noisy_labels_0", "noisy_labels_5", "is_valid"))
    return dict.fromkeys(LABELS, 8), 0


def signs(folder):
    rows = [(640 + n % 5, n % 4, n % 3, f"Train/{n % 3:05d}/{n:05d}.png") for n in range(24)]
    put(folder, *(row[-1] for row in rows), "Test/1.png", *(f"Meta/{n}.png" for n in range(3)))
    write_csv(folder / "Train.csv", rows, ("Width", "Roi.X1", "ClassId", "Path"))
    meta = [(f"Meta/{n}.png", n, n % 2) for n in range(3)]
    write_csv(folder / "Meta.csv", meta, ("Path", "ClassId", "ShapeId"))
    return dict.fromkeys(range(3), 8), 1


def weeds(folder):
    """Names of the classes beside their numbers, and tables of parts of the set."""
    rows = [(f"{n}.jpg", n % 3, LABELS[n % 3]) for n in range(24)]
    put(folder, *(f"images/{row[0]}" for row in rows))
    write_csv(folder / "labels.csv", rows, ("Filename", "Label", "Species"))
    for name, part in (("train", rows[:16]), ("val", rows[16:20]), ("test", rows[20:])):
        write_csv(folder / f"{name}_subset0.csv", [row[:2] for row in part], ("Filename", "Label"))
    return dict.fromkeys(range(3), 8), 0


def tables_of_three_sets(folder):
    for part, count in (("train", 24), ("val", 6), ("test", 6)):
        rows = [(f"{part}{n}.jpg", LABELS[n % 3]) for n in range(count)]
        put(folder, *(f"images/{row[0]}" for row in rows))
        write_csv(folder / f"{part}.csv", rows, ("filename", "label"))
    return dict.fromkeys(LABELS, 8), 0


def roboflow(folder):
    for part, count in (("train", 24), ("valid", 6), ("test", 3)):
        rows = [
            (f"{part}{n}.jpg", *(f" {int(n % 3 == k)}" for k in range(3))) for n in range(count)
        ]
        put(folder, *(f"{part}/{row[0]}" for row in rows))
        write_csv(folder / part / "_classes.csv", rows, ("filename", *(f" {la}" for la in LABELS)))
    return dict.fromkeys(LABELS, 8), 3


def samples_with_labels(folder):
    rows = [(f"{n}.jpg", LABELS[n % 3]) for n in range(24)]
    put(folder, *(f"images/{row[0]}" for row in rows))
    write_csv(folder / "samples.csv", rows, ("filename", "label"))
    return dict.fromkeys(LABELS, 8), 0


def classes_by_number(folder):
    write(folder, (0, 1, 2))
    (folder / "sample_submission.csv").unlink()
    rows = [(f"{n:03d}", n % 3) for n in range(24)]
    for n in range(24):
        (folder / "train" / f"p{n:03d}.jpg").rename(folder / "train" / f"{n:03d}.jpg")
    write_csv(folder / "train.csv", rows, ("image", "label"))
    write_csv(folder / "classes.csv", [(n, LABELS[n]) for n in range(3)], ("label", "name"))
    return dict.fromkeys(range(3), 8), 4


TABLES = [
    classes_by_number,
    imagenette,
    signs,
    weeds,
    tables_of_three_sets,
    roboflow,
    samples_with_labels,
]


@pytest.mark.parametrize("build", TABLES, ids=lambda build: build.__name__)
def test_labels_are_found_without_a_question(folder, build):
    expected = build(folder)
    assert seen(folder) == expected


def test_lesions_are_groups(folder):
    rows = [(f"I{n}.jpg", f"h{n // 2}", LABELS[n % 3]) for n in range(24)]
    put(folder, *(f"images/{row[0]}" for row in rows))
    write_csv(folder / "metadata.csv", rows, ("image_id", "lesion_id", "dx"))
    assert read(folder, label="dx").layout.group == "lesion_id"


def test_a_table_of_a_part_does_not_decide_where_a_larger_one_is_in_doubt(folder):
    """As the skin lesions' metadata beside the one-hot table of the test photos."""
    rows = [(f"I{n}.jpg", LABELS[n % 3], ("male", "female")[n % 2]) for n in range(24)]
    put(folder, *(f"images_{n % 2}/{row[0]}" for n, row in enumerate(rows)))
    put(folder, *(f"Task3_Test_Images/T{n}.jpg" for n in range(4)))
    write_csv(folder / "metadata.csv", rows, ("image_id", "dx", "sex"))
    ones = [(f"T{n}", 1, 0, 0) for n in range(4)]
    write_csv(folder / "Task3_Test_GroundTruth.csv", ones, ("image", *LABELS))
    with pytest.raises(Problem, match=r"column dx of metadata\.csv, or in sex"):
        seen(folder)
    assert seen(folder, label="dx") == (dict.fromkeys(LABELS, 8), 0)


def test_a_coarser_class_is_no_group(folder):
    """As the column group of products-10k: each of its groups has all photos of some classes."""
    write(folder, (0, 1, 2, 3), header=("name", "class"))
    rows = pd.read_csv(folder / "train.csv")
    rows.assign(group=rows["class"] // 2).to_csv(folder / "train.csv", index=False)
    assert read(folder).layout.group == ""
    rows.assign(group=rows.index // 2).to_csv(folder / "train.csv", index=False)
    assert read(folder).layout.group == "group"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [("notes.csv", b"", r"notes\.csv can't be read"), ("log.csv", b"a,b\n1,2\n3,4,5\n", "line 3"),
     ("имена.csv", "класс,имя\n1,кот\n".encode("cp1251"), "unknown encoding")],
)  # fmt: skip
def test_a_table_that_cannot_be_read_is_in_nobody_s_way(folder, capsys, name, content, reason):
    write(folder)
    (folder / name).write_bytes(content)
    assert seen(folder) == (dict.fromkeys(LABELS, 8), 4)
    assert "is ignored" in capsys.readouterr().out
    (folder / "train.csv").write_bytes(content or b"\n")
    with pytest.raises(Problem, match=r"train\.csv .*(can't be read|unknown encoding)"):
        read(folder)
    with pytest.raises(Problem, match=r"train\.csv .*(can't be read|unknown encoding)"):
        read(folder, train_csv="train.csv")
    shutil.rmtree(folder / "train")
    (folder / "train.csv").unlink()
    sets(folder, train=8)
    with pytest.raises(Problem, match=rf"{reason}.*--set train_csv="):
        read(folder)
    assert seen(folder, train_csv="") == (dict.fromkeys(LABELS, 8), 4)


def test_a_table_of_boxes_without_a_header_leaves_the_class_folders(folder):
    """As the Stanford cars have it."""
    sets(folder, train=6, test=2)
    boxes = [(f"train-{la}{n}.jpg", 39, LABELS.index(la)) for la in LABELS for n in range(6)]
    write_csv(folder / "anno_train.csv", boxes[1:], boxes[0])
    with pytest.raises(Problem, match=r"anno_train\.csv has no header.*--set train_csv="):
        read(folder)
    assert seen(folder, train_csv="") == (dict.fromkeys(LABELS, 6), 6)


# --------------------------------------------------------------------- what is submitted


NAMES = ["example.csv", "answer_template.csv", "baseline.csv", "solution_example.csv", "test.csv"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("header", "values"),
    [(("id", "label"), ("cat",) * 4), (("id", "label"), ("",) * 4),
     (("id", "label"), ("cat", "dog", "cat", "emu")), (("Id", "Answer"), ("cat",) * 4),
     (("Id", "Answer"), ("",) * 4)],
)  # fmt: skip
def test_a_sample_submission_may_have_any_name(folder, name, header, values):
    write(folder)
    (folder / "sample_submission.csv").unlink()
    write_csv(folder / name, [(f"t{3 - n}.jpg", values[n]) for n in range(4)], header)
    competition = read(folder)
    assert tuple(competition.sample.columns) == header
    assert competition.test["Id"].tolist() == [f"t{3 - n}.jpg" for n in range(4)]
    assert competition.classes == list(LABELS)


@pytest.mark.parametrize("name", ["test.csv", "sizes.csv"])
def test_what_is_known_of_test_photos_is_no_sample_submission(folder, name):
    rows = write(folder)
    write_csv(folder / "train.csv", [(*row, 640) for row in rows], ("id", "label", "width"))
    (folder / "sample_submission.csv").unlink()
    write_csv(folder / name, [(f"t{n}.jpg", 640) for n in range(4)], ("id", "width"))
    competition = read(folder)
    assert competition.classes == list(LABELS)
    assert competition.layout.sample_csv == ""


def test_a_sample_of_a_few_rows_is_asked_for(folder):
    write(folder)
    write_sample(folder, "t1.jpg")
    question = r"sample_submission\.csv .*lacks 3 photos.*t0\.jpg.*--set sample_csv=sample_subm"
    with pytest.raises(Problem, match=question):
        read(folder)
    assert seen(folder, sample_csv="sample_submission.csv") == (dict.fromkeys(LABELS, 8), 1)
    write_csv(folder / "test.csv", [(f"t{n}.jpg",) for n in range(4)], ("id",))
    assert seen(folder, sample_csv="test.csv") == (dict.fromkeys(LABELS, 8), 4)


def test_photos_of_the_same_ids_in_two_folders_are_asked_for(folder):
    """As those of the flowers in several sizes."""
    sets(folder, small_train=6, large_train=6)
    put(folder, *(f"{size}/test/{n}.jpg" for size in ("small", "large") for n in range(4)))
    for path in (folder / "small" / "test").iterdir():
        path.write_bytes(path.read_bytes() + b"smaller")
    write_sample(folder, *map(str, range(4)))
    decided = "--set test_photos=large/test or --set test_photos=small/test"
    with pytest.raises(Problem, match=decided):
        read(folder)
    given = {"train_photos": "large/train", "test_photos": "large/test"}
    assert seen(folder, **given) == (dict.fromkeys(LABELS, 6), 4)


def test_a_field_that_is_emptied_makes_no_other_competition_s_block_fit(folder):
    """The home competition has a train.csv too, with other columns."""
    write(folder, header=("image", "breed"))
    layout = layout_of(folder, HOME, folder.parent / "scratch", {"sample_csv": ""})
    assert (layout.id, layout.label) == ("image", "breed")


def test_whole_numbers_are_amounts_where_the_sample_has_fractions(folder):
    """As in petfinder-pawpularity-score."""
    write(folder, tuple(range(1, 13)), sample=7, header=("Id", "Pawpularity"))
    values = ("43.4", "12.0", "75.88", "5.5")
    rows = [(f"t{n}.jpg", value) for n, value in enumerate(values)]
    write_csv(folder / "sample_submission.csv", rows, ("Id", "Pawpularity"))
    with pytest.raises(Problem, match=r"has '43\.4'"):
        read(folder)


def test_columns_may_have_other_signs_between_words_than_the_folders(folder):
    classes(folder, "train/Great Tit", "train/Blue Jay", "train/Sea-Eagle")
    put(folder, "test/1.jpg")
    write_csv(folder / "sample_submission.csv", [("1.jpg", 0.3, 0.3, 0.4)],
              ("id", "Sea_Eagle", "Great_Tit", "Blue_Jay"))  # fmt: skip
    filled = read(folder).submission(np.array([[0.5, 0.2, 0.3]]))  # Blue Jay, Great Tit, Sea-Eagle
    assert filled.iloc[0].tolist() == ["1.jpg", "0.3", "0.2", "0.5"]


def test_a_few_pictures_beside_tables_of_pixels_are_no_photos(folder):
    """As in sign-language-mnist."""
    put(folder, "amer_sign2.png", "amer_sign3.png")
    header = ("label", *(f"pixel{n + 1}" for n in range(64)))
    for part, count in (("train", 30), ("test", 6)):
        rows = [(n % 3, *((n + k * 7) % 256 for k in range(64))) for n in range(count)]
        write_csv(folder / f"sign_{part}.csv", rows, header)
    assert seen(folder) == (dict.fromkeys(range(3), 10), 6)
