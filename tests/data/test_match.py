"""Rows and photos are matched as people's files are: whatever is unambiguous is found."""

import os
import shutil
import unicodedata
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kernelkit.core.problem import Problem
from kernelkit.data import find
from kernelkit.data.infer_layout import layout_of
from kernelkit.data.labels import one_form
from kernelkit.data.layout import Layout
from kernelkit.data.read import read_competition
from tiny_competition import (
    HOME,
    load,
    read,
    reasons,
    write_competition,
    write_csv,
    write_photo,
    zip_photos,
)


def change(folder, name, function):
    """Replace the rows of a CSV by what a function makes of each."""
    table = pd.read_csv(folder / name, dtype=str, keep_default_na=False)
    write_csv(folder / name, [function(*row) for row in table.values.tolist()], table.columns)


def labels_of_files(competition):
    """Return the label of each training photo by the name of its file."""
    names = competition.train["path"].map(lambda path: Path(path).stem)
    return dict(zip(names, competition.train["label"], strict=True))


# --------------------------------------------------------------------------------- labels


def test_folders_and_labels_may_write_numbers_differently(tmp_path):
    write_competition(tmp_path / "data", labels=("01", "02", "10"))
    expected = {f"{n}{i}": (1, 2, 10)[n] for n in range(3) for i in range(4)}
    for spell in (lambda label: int(label), lambda label: f"{int(label)}.0"):
        rows = [(f"{name}.jpg", spell(label)) for name, label in expected.items()]
        write_csv(tmp_path / "data" / "train.csv", rows)
        write_csv(tmp_path / "data" / "sample-submission.csv", [("90.jpg", 1)])
        competition = read(tmp_path / "data")
        assert competition.classes == [1, 2, 10]
        assert labels_of_files(competition) == expected


def test_a_folder_for_each_of_two_spellings_makes_two_classes(tmp_path):
    write_competition(tmp_path / "data", labels=("1", "01", "2"))
    competition = read(tmp_path / "data")
    assert competition.classes == ["01", "1", "2"]
    assert labels_of_files(competition)["10"] == "01"


def test_a_label_near_a_folder_or_near_several_names_them(tmp_path):
    folder = tmp_path / "data"
    write_competition(folder, labels=("audi", "priora", "01"))
    (folder / "train" / "1.0").mkdir()
    write_photo(folder / "train" / "1.0" / "50.jpg")
    spelt = {"priora": "prioro", "01": "1"}
    change(folder, "train.csv", lambda Id, label: (Id, spelt.get(label, label)))
    found = reasons(read(folder))
    assert found["10.jpg"] == "its label prioro names no class folder; it may be priora"
    assert found["20.jpg"] == "its label 1 names no class folder; it may be 01 or 1.0"


def test_words_may_differ_from_their_folders_by_case_and_spaces(tmp_path):
    write_competition(tmp_path / "data", labels=("Audi", "BMW X5 ", "vw"))
    change(tmp_path / "data", "train.csv", lambda Id, label: (Id, label.strip().lower()))
    competition = read(tmp_path / "data")
    assert competition.excluded.empty
    assert competition.classes == ["audi", "bmw x5", "vw"]


def test_a_class_folder_may_be_a_link_and_links_in_a_circle_end(folder):
    shutil.move(folder / "train" / "10", folder.parent / "elsewhere")
    (folder / "train" / "10").symlink_to(folder.parent / "elsewhere")
    (folder / "train" / "0" / "circle").symlink_to(folder / "train")
    competition = read(folder)
    assert competition.excluded.empty
    assert len(competition.train) == 16


@pytest.mark.parametrize("word", ["NaN", "nan", "NA", "None", "<NA>", "null"])
def test_a_missing_label_among_numbers_is_no_class(tmp_path, word):
    write_competition(tmp_path / "data", class_folders=False)
    change(tmp_path / "data", "train.csv", lambda Id, la: (Id, word if Id == "00.jpg" else la))
    competition = read(tmp_path / "data")
    assert competition.classes == [0, 1, 2, 10]
    assert reasons(competition) == {"00.jpg": f"its label {word} means none"}


@pytest.mark.parametrize(("word", "folders"), [("None", False), ("NaN", True)])
def test_a_word_that_may_be_a_class_is_one(tmp_path, word, folders):
    write_competition(tmp_path / "data", labels=("audi", word), class_folders=folders)
    assert read(tmp_path / "data").classes == sorted(["audi", word])


@pytest.mark.parametrize("message", ["", "0.0", "NA", "word", "0"])
def test_only_the_header_and_the_ids_of_the_sample_matter(folder, message):
    change(folder, "sample-submission.csv", lambda Id, _: (Id, message))
    competition = read(folder)
    assert competition.classes == [0, 1, 2, 10]
    made = competition.submission(np.eye(4)[[3, 0, 1]])
    assert made["Category"].tolist() == [10, 0, 1]


@pytest.mark.parametrize(("sample", "submitted"), [("0", 1), ("1", 1), ("", "1.0"), ("0.0", "1.0")])
def test_the_sample_s_spelling_of_labels_wins_where_it_has_one(tmp_path, sample, submitted):
    write_competition(tmp_path / "data", labels=("0.0", "1.0"), class_folders=False)
    change(tmp_path / "data", "sample-submission.csv", lambda Id, _: (Id, sample))
    competition = read(tmp_path / "data")
    assert competition.submission(np.eye(2)[[1, 1, 1]])["Category"].tolist() == 3 * [submitted]


@pytest.mark.parametrize(
    ("labels", "sample", "classes"),
    [
        (("08", "09", "10"), "8", [8, 9, 10]),
        (("08", "09", "10"), "10", ["08", "09", "10"]),  # which both spell alike
        (("8", "9", "10"), "08", ["08", "09", "10"]),
        (("8", "9", "10"), "008", ["008", "009", "010"]),
        (("8.0", "9.0", "10.0"), "8", [8, 9, 10]),
        (("-1", "0", "1"), "-1", [-1, 0, 1]),
        (("08", "09", "10"), "0", ["08", "09", "10"]),  # the sample has none of the classes
    ],
)
def test_numbers_are_submitted_as_the_sample_spells_them(tmp_path, labels, sample, classes):
    write_competition(tmp_path / "data", labels, class_folders=False)
    change(tmp_path / "data", "sample-submission.csv", lambda Id, _: (Id, sample))
    competition = read(tmp_path / "data")
    assert competition.classes == classes
    rows = [classes.index(name) for name in classes]
    assert competition.submission(np.eye(3)[rows])["Category"].tolist() == classes
    numbers = [int(float(label)) for label in labels for _ in range(4)]
    assert [int(float(name)) for name in competition.train["label"]] == numbers


# --------------------------------------------------------------------------- blank labels


@pytest.mark.parametrize("class_folders", [True, False])
@pytest.mark.parametrize("blank", ["", "  ", "nan", "NULL", "\N{NO-BREAK SPACE}"])
def test_rows_with_a_blank_label_are_left_out_and_counted(tmp_path, class_folders, blank, capsys):
    folder = tmp_path / "data"
    write_competition(folder, ("audi", "bmw", "vw"), 20, class_folders=class_folders)
    change(folder, "train.csv", lambda Id, label: (Id, blank if Id == "00.jpg" else label))
    (part,) = load(folder)
    assert part.competition.classes == ["audi", "bmw", "vw"]
    assert len(part.competition.train) == 59
    assert "(1: 00.jpg)" in capsys.readouterr().out


def test_many_blank_labels_stop_with_two_ways_out_that_work(tmp_path):
    folder = tmp_path / "data"
    write_competition(folder, ("audi", "bmw", "vw"), class_folders=False)
    change(folder, "train.csv", lambda Id, label: (Id, "" if Id in ("00.jpg", "11.jpg") else label))
    with pytest.raises(Problem, match=r"its label is blank \(2: 00.jpg, 11.jpg\).*--exclude"):
        load(folder)
    assert len(load(folder, most_excluded=0.2)[0].competition.train) == 10
    write_csv(tmp_path / "blank.csv", [("00.jpg",), ("11.jpg",)], ("Id",))
    assert len(load(folder, exclude=tmp_path / "blank.csv")[0].competition.train) == 10


def test_a_column_of_the_sample_is_a_class_whatever_it_is_called(tmp_path):
    folder = tmp_path / "data"
    write_competition(folder, ("NaN", "null", "vw"), class_folders=False)
    ids = pd.read_csv(folder / "sample-submission.csv")["Id"]
    sample = [(Id, 0, 0, 1) for Id in ids]
    write_csv(folder / "sample-submission.csv", sample, ("Id", "NaN", "null", "vw"))
    layout = replace(HOME, submission="probabilities", label="Category")
    assert read_competition(folder, layout, tmp_path).classes == ["NaN", "null", "vw"]
    sample = [(Id, "vw" if number else "NaN") for number, Id in enumerate(ids)]
    write_csv(folder / "sample-submission.csv", sample, ("Id", "Category"))
    assert read(folder).classes == ["NaN", "vw"]  # a sample of different labels tells them too


# -------------------------------------------------------------------------- like labels


@pytest.mark.parametrize(
    ("label", "like", "shown"),
    [
        ("Audi A4", "audi a4", "'audi a4' (1 rows)"),
        ("Audi A4", "Audi\N{NO-BREAK SPACE}A4", r"'Audi\xa0A4' (1 rows)"),
        ("Audi A4", "Audi\N{ZERO WIDTH SPACE} A4", r"'Audi\u200b A4' (1 rows)"),
        ("Audi A4", "Audi  A4", "'Audi  A4' (1 rows)"),
        ("Лада", "лада", "'лада' (1 rows)"),
    ],
)
def test_labels_that_are_nearly_alike_are_named_in_a_line(tmp_path, capsys, label, like, shown):
    folder = tmp_path / "data"
    write_competition(folder, (label, "VW"), 30, class_folders=False)
    change(folder, "train.csv", lambda Id, la: (Id, like if Id == "00.jpg" else la))
    assert len(read(folder).classes) == 3
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "differ only" in line]
    assert repr(label) + " (29 rows)" in line
    assert shown in line
    assert "train.csv" in line


@pytest.mark.parametrize(("rare", "counts"), [(False, "NFC"), (True, "NFD")])
def test_one_word_in_two_forms_of_unicode_is_one_class(tmp_path, capsys, rare, counts):
    """The sample's spelling counts, or else the more frequent one."""
    folder, forms = (
        tmp_path / "data",
        {n: unicodedata.normalize(n, "Citroën") for n in ("NFC", "NFD")},
    )
    write_competition(folder, (forms["NFC"], "VW"), 30, class_folders=False)
    change(folder, "train.csv", lambda Id, la: (Id, forms["NFD"] if Id == "00.jpg" else la))
    if rare:
        change(folder, "sample-submission.csv", lambda Id, _: (Id, forms["NFD"]))
    competition = read(folder)
    assert competition.classes == [forms[counts], "VW"]
    assert (competition.train["label"] == forms[counts]).sum() == 30
    lines = [line for line in capsys.readouterr().out.splitlines() if "one class" in line]
    assert len(lines) == 1
    assert "'Citroën' (29 rows)" in lines[0]
    assert r"'Citroe\u0308n' (1 rows)" in lines[0]
    layout = layout_of(folder, Layout(train_csv="elsewhere.csv"), tmp_path / "scratch")
    assert "2 classes: Citroë" in unicodedata.normalize("NFC", capsys.readouterr().out)
    assert layout.train_csv == "train.csv"
    assert set(one_form([forms["NFD"], *[forms["NFC"]] * 2], [""]).values()) == {forms["NFC"]}


def test_trailing_blanks_are_no_label_of_their_own(tmp_path, capsys):
    folder = tmp_path / "data"
    write_competition(folder, ("Audi", "VW"), class_folders=False)
    change(folder, "train.csv", lambda Id, label: (Id, label + " " if Id == "00.jpg" else label))
    assert read(folder).classes == ["Audi", "VW"]
    assert "differ only" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("eaten", "message"),
    [
        ("02-Jan", "dates or powers: '02-Jan' (4 rows)"),
        ("Mar-05", "dates or powers: 'Mar-05' (4 rows)"),
        ("02.янв", "dates or powers: '02.янв' (4 rows)"),
        ("2024-01-02 00:00:00", "dates or powers"),
        ("1.00E+05", "dates or powers"),
    ],
)
def test_labels_that_a_spreadsheet_has_changed_are_named(tmp_path, capsys, eaten, message):
    write_competition(tmp_path / "data", ("1-1", eaten, "A4"), class_folders=False)
    assert len(read(tmp_path / "data").classes) == 3
    assert message in capsys.readouterr().out


def test_spellings_of_one_number_are_one_class_and_named(tmp_path, capsys):
    folder = tmp_path / "data"
    write_competition(folder, ("1", "2"), class_folders=False)
    change(folder, "train.csv", lambda Id, label: (Id, "1.0" if Id == "00.jpg" else label))
    assert read(folder).classes == [1, 2]
    assert "count as one class: '1' (3 rows) and '1.0' (1 rows)" in capsys.readouterr().out


# ------------------------------------------------------------------------------------ Ids


SPELLINGS = {
    "a path": lambda Id: f"train/{Id}",
    "a path with backslashes": lambda Id: f"C:\\photos\\{Id}",
    "an upper suffix": lambda Id: Id.replace(".jpg", ".JPG"),
    "another suffix": lambda Id: Id.replace(".jpg", ".png"),
    "no suffix": lambda Id: Id[:-4],
    "a float": lambda Id: f"{int(Id[:-4])}.0",
    "no leading zeros": lambda Id: str(int(Id[:-4])),
    "spaces": lambda Id: f" {Id}  ",
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("class_folders", [True, False])
def test_ids_are_found_as_people_spell_them(tmp_path, spell, class_folders):
    folder = tmp_path / "data"
    write_competition(folder, class_folders=class_folders)
    expected = labels_of_files(read(folder))
    change(folder, "train.csv", lambda Id, label: (spell(Id), label))
    change(folder, "sample-submission.csv", lambda Id, label: (spell(Id), label))
    competition = read(folder)
    assert competition.excluded.empty
    assert labels_of_files(competition) == expected
    assert competition.sample["Id"].tolist() == [spell(f"9{i}.jpg") for i in (2, 1, 0)]
    assert [Path(path).stem for path in competition.test["path"]] == ["92", "91", "90"]


def test_headers_may_differ_by_spaces_and_case(folder):
    text = (folder / "train.csv").read_text()
    (folder / "train.csv").write_text(text.replace("Id,Category", "id ,Category "))
    assert read(folder).excluded.empty


def test_an_id_near_several_photos_takes_none_and_names_them(tmp_path):
    folder = tmp_path / "data"
    write_competition(folder, class_folders=False)
    for name in ("007.jpg", "0007.jpg", "a/8.jpg", "b/8.jpg"):
        write_photo(folder / "train" / name)
    rows = [("7", 0), ("8.jpg", 1), ("00.jpg", 0), ("10.jpg", 1)]
    write_csv(folder / "train.csv", rows)
    excluded = read(folder).excluded.drop_duplicates("Id")
    found = dict(zip(excluded["Id"], excluded["reason"], strict=True))
    assert found["7"] == "its row of train.csv has no photo; it may be any of 0007.jpg, 007.jpg"
    assert found["8.jpg"].endswith("has no photo; it may be any of a/8.jpg, b/8.jpg")
    write_csv(folder / "train.csv", [("a/8.jpg", 1), ("00.jpg", 0), ("10.jpg", 1)])
    assert "8" in labels_of_files(read(folder))


def test_a_photo_belongs_to_the_row_that_spells_it_as_it_is(tmp_path):
    folder = tmp_path / "data"
    write_competition(folder, class_folders=False)
    write_csv(folder / "train.csv", [("0.jpg", 1), ("00.jpg", 0), ("10.jpg", 1)])
    competition = read(folder)
    assert labels_of_files(competition) == {"00": 0, "10": 1}
    assert "00.jpg is nearly its name, and that of another row" in reasons(competition)["0.jpg"]


def test_one_file_name_in_two_class_folders_is_two_photos(folder):
    write_photo(folder / "train" / "1" / "00.jpg")  # another one is in folder 0
    rows = pd.read_csv(folder / "train.csv").values.tolist()
    write_csv(folder / "train.csv", [*rows, ("00.jpg", 1)])
    competition = read(folder)
    assert competition.excluded.empty
    both = competition.train[competition.train["Id"].isin(["0/00.jpg", "1/00.jpg"])]
    assert both["label"].tolist() == [0, 1]
    assert competition.train["Id"].is_unique


def test_the_folder_that_an_id_names_counts_before_that_of_its_label(folder):
    write_photo(folder / "train" / "1" / "00.jpg")  # another one is in folder 0
    change(folder, "train.csv", lambda Id, la: ("x/0/00.jpg", "1") if Id == "00.jpg" else (Id, la))
    reason = "its label 1 disagrees with the folder 0 it is in"
    assert reasons(read(folder))["x/0/00.jpg"] == reason


# ---------------------------------------------------------------------------------- files


def test_class_folders_may_lie_deep_and_hold_folders(folder):
    shutil.move(folder / "train", folder / "inner")
    shutil.move(folder / "inner", folder / "train" / "train" / "photos")
    deep = folder / "train" / "train" / "photos" / "10"
    for path in list(deep.iterdir()):
        write_photo(deep / "2019" / path.name)
        path.unlink()
    competition = read(folder)
    assert competition.excluded.empty
    assert len(competition.train) == 16


def test_zips_within_zips_are_unpacked(folder):
    for label in ("0", "10"):
        shutil.make_archive(str(folder / "train" / label), "zip", folder / "train" / label)
        shutil.rmtree(folder / "train" / label)
    loose = read(folder)
    zip_photos(folder)
    for competition in (loose, read(folder), read(folder)):
        assert competition.excluded.empty
        assert len(competition.train) == 16


class OldZipInfo(zipfile.ZipInfo):
    """A member whose name is in a code page of which the zip says nothing."""

    def _encodeFilenameFlags(self):
        return self.comment, 0


def zip_with_names(path, files, code_page):
    """Write a zip as old programs do."""
    with zipfile.ZipFile(path, "w") as bundle:
        for number, (name, content) in enumerate(files.items()):
            member = OldZipInfo(f"{number}")
            member.comment = name.encode(code_page)
            bundle.writestr(member, content)


@pytest.mark.parametrize("code_page", ["cp866", "utf-8"])
def test_russian_names_in_old_zips_are_read(folder, code_page):
    files = {
        f"train/Лада/машина{i}.jpg": path.read_bytes()
        for i, path in enumerate(sorted((folder / "train").rglob("*.jpg"))[:4])
    }
    files |= {name.replace("Лада", "Ёж").replace("на", "ня"): data for name, data in files.items()}
    shutil.rmtree(folder / "train")
    zip_with_names(folder / "train.zip", files, code_page)
    rows = [(Path(name).name, Path(name).parent.name) for name in files]
    write_csv(folder / "train.csv", rows)
    competition = read(folder)
    assert competition.excluded.empty
    assert competition.classes == ["Ёж", "Лада"]


def test_a_huge_member_that_is_no_photo_stays_packed_and_is_named(folder, monkeypatch, capsys):
    monkeypatch.setattr(find, "LARGEST_OTHER", 50_000)
    for name in ("01.jpg", "video.mp4"):
        (folder / "train" / "0" / name).write_bytes(bytes(60_000))
    zip_photos(folder)
    competition = read(folder)
    assert "01" in labels_of_files(competition)
    assert competition.excluded.empty
    assert "train.zip: train/0/video.mp4 (0.0 GB)" in capsys.readouterr().out
    assert not list((folder.parent / "scratch").rglob("*.mp4"))


@pytest.mark.skipif(os.name == "nt", reason="Windows' names are always Unicode")
def test_names_that_are_not_utf_8_are_escaped_in_reports(folder):
    spare = os.path.join(os.fsencode(folder), b"train", b"0", b"\xff\xe0.jpg")
    shutil.copy(folder / "train" / "0" / "00.jpg", spare)
    excluded = read(folder).excluded
    assert excluded["Id"].tolist() == ["\\xff\\xe0.jpg"]
    excluded.to_csv(folder.parent / "excluded.csv", index=False)  # in UTF-8


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1251", "utf-8-sig"])
def test_a_table_in_another_encoding_is_read_or_named(tmp_path, encoding):
    write_competition(tmp_path / "data", labels=("Лада", "Нива"))
    file = tmp_path / "data" / "train.csv"
    file.write_bytes(file.read_text(encoding="utf-8").encode(encoding))
    if encoding in ("utf-16", "utf-8-sig"):
        assert read(tmp_path / "data").classes == ["Лада", "Нива"]
    else:
        with pytest.raises(Problem, match=r"train\.csv .*save it as UTF-8"):
            read(tmp_path / "data")
