"""Every single-label layout of real competitions is recognised, read and filled in."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kernelkit.core.problem import Problem
from kernelkit.core.tables import read_csv
from kernelkit.data.check import check_photos
from kernelkit.data.duplicates import conflicting_labels
from kernelkit.data.infer_layout import layout_of, propose, source_of
from kernelkit.data.labels import labels_by, one_hot, refuse_several
from kernelkit.data.layout import Layout, literal
from kernelkit.data.names import without_prefix
from kernelkit.data.read import read_competition
from kernelkit.data.split import split
from real_layouts import ALL
from tiny_competition import HOME, write_competition, write_photo


def proposed(folder, metric="", given=None):
    known = {"slug": "slug", "metric": metric, "given": given or {}}
    return propose(source_of(folder, folder.parent / "scratch", **known))


@pytest.fixture(scope="module", params=ALL)
def recognised(request, tmp_path_factory):
    """A layout's folder, what is expected of it, and what is made of it."""
    folder = tmp_path_factory.mktemp("layouts") / "data"
    folder.mkdir()
    expected = ALL[request.param](folder)
    proposal = proposed(folder, expected.metric, expected.given)
    competition = read_competition(folder, proposal.layout, folder.parent / "scratch")
    return expected, proposal, check_photos(competition, 1)


def test_each_is_recognised_and_read_whole(recognised):
    expected, proposal, competition = recognised
    assert not proposal.doubts
    assert proposal.layout.submission == expected.submission
    assert proposal.layout.group == expected.group
    assert competition.classes == expected.classes
    assert (len(competition.train), len(competition.test)) == (expected.train, expected.test)
    assert (competition.test["path"] != "").all()
    assert competition.excluded.empty, competition.excluded


def test_its_block_is_the_layout_again(recognised):
    _, proposal, _ = recognised
    names = {"Layout": Layout}
    exec(proposal.layout.block(), names)
    assert names["COMPETITION"] == proposal.layout
    assert max(map(len, proposal.layout.block().splitlines())) <= 100


def test_its_submission_has_the_shape_of_the_sample(recognised):
    expected, proposal, competition = recognised
    rng, count = np.random.default_rng(0), len(competition.classes)
    probabilities = np.float32(rng.dirichlet(np.ones(count), expected.test))
    made, sample = competition.submission(probabilities), competition.sample
    assert made.columns.tolist() == sample.columns.tolist()
    assert made.iloc[:, 0].tolist() == sample.iloc[:, 0].tolist()
    best = np.asarray(competition.classes, object)[probabilities.argmax(1)]
    form = proposal.layout.submission
    if form == "label":
        assert made.iloc[:, 1].tolist() == best.tolist()
    elif form == "best":
        assert [cell.split()[0] for cell in made.iloc[:, 1]] == best.tolist()
        assert {len(set(cell.split())) for cell in made.iloc[:, 1]} == {5}
    elif form == "probability":
        positive = competition.classes.index(proposal.layout.positive or 1)
        assert (np.float32(made.iloc[:, 1]) == probabilities[:, positive]).all()
    else:
        assert made.columns[1:][np.float64(made.iloc[:, 1:]).argmax(1)].tolist() == best.tolist()
        values = np.float32(made[[str(name) for name in competition.classes]])
        assert (values == probabilities).all()


def test_groups_are_never_on_both_sides_of_a_split(tmp_path):
    ALL["state-farm"](tmp_path / "data")
    layout = proposed(tmp_path / "data").layout
    competition = check_photos(read_competition(tmp_path / "data", layout, tmp_path), 1)
    rows = read_csv(tmp_path / "data" / "driver_imgs_list.csv").set_index("img")["subject"]
    train, validation = split(competition.train, 0.2, 0)
    drivers = [set(rows[part["Id"]]) for part in (train, validation)]
    assert drivers[0]
    assert drivers[1]
    assert not drivers[0] & drivers[1]
    assert conflicting_labels(competition.train).empty  # a driver's photos are not near-identical


def test_several_labels_a_photo_are_refused_by_name(tmp_path):
    labels = ["healthy", "scab", "rust", "scab frog_eye_leaf_spot complex", "frog_eye_leaf_spot"]
    labels += ["complex"]
    write_competition(tmp_path, labels=range(6), class_folders=False)
    rows = read_csv(tmp_path / "train.csv")
    rows["Category"] = [labels[int(label)] for label in rows["Category"]]
    rows.to_csv(tmp_path / "train.csv", index=False)
    for refused in (
        lambda: proposed(tmp_path),
        lambda: read_competition(tmp_path, HOME, tmp_path / "scratch"),
    ):
        with pytest.raises(Problem, match=r"several labels in one text .*'scab frog_eye_leaf_spot"):
            refused()


@pytest.mark.parametrize(
    "labels",
    [
        ["Small-flowered Cranesbill", "Sugar beet", "Common Chickweed"],
        ["lion", "sea lion", "sea otter", "otter"],
        ["Audi", "Audi A4", "Audi A4 Avant", "BMW", "BMW X5"],
        ["Alfa", "Romeo", "Alfa Romeo", "Audi A4", "Audi A6", "BMW X5"],
        [f"{make} {kind} {year}" for make in "ABC" for kind in "DEF" for year in "12"],
    ],
)
def test_names_that_hold_other_names_are_single_labels(labels):
    refuse_several([*labels, ""], "names", [])


SEVERAL = {
    "words": ["scab", "rust", "healthy", "scab rust"],
    "numbers": ["0", "16", "7", "16 0", "7 16 0"],
    "commas": ["cat", "dog", "cat,dog"],
    "bars": ["cat", "dog", "cat | dog"],
    "no word alone": [
        " ".join(words)
        for size in (2, 3, 4)
        for words in itertools.combinations(["clear", "road", "water", "primary", "farm"], size)
    ],
}


@pytest.mark.parametrize("labels", SEVERAL)
def test_labels_that_are_several_are_refused_unless_something_shows_that_they_are_single(labels):
    labels = SEVERAL[labels]
    with pytest.raises(Problem, match=r"names gives .*--set single_labels=True.* block"):
        refuse_several(labels, "names", [])
    longest = max(labels, key=len)
    refuse_several(labels, "names", [longest.upper()])  # a folder, or a column of the sample


def write_words(folder, class_folders=True):
    """Write photos of the labels sea, lion and sea lion, which may be several in one text."""
    write_competition(folder, ("sea", "lion", "sea lion"), class_folders=class_folders)
    return folder


def test_class_folders_show_that_labels_are_single(tmp_path):
    assert read_competition(write_words(tmp_path), HOME, tmp_path / "s").classes[2] == "sea lion"
    assert not proposed(tmp_path).doubts


@pytest.mark.parametrize("form", ["columns", "values"])
def test_a_sample_shows_that_labels_are_single(tmp_path, form):
    write_words(tmp_path, class_folders=False)
    ids = read_csv(tmp_path / "sample-submission.csv")["Id"]
    if form == "columns":
        sample = pd.DataFrame({"Id": ids, "sea": 0.2, "lion": 0.3, "sea lion": 0.5})
    else:
        sample = pd.DataFrame({"Id": ids, "Category": ["sea", "sea lion", "sea"]})
    sample.to_csv(tmp_path / "sample-submission.csv", index=False)
    layout = proposed(tmp_path).layout
    competition = read_competition(tmp_path, layout, tmp_path / "s")
    assert competition.classes == ["lion", "sea", "sea lion"]


def test_the_block_may_say_that_labels_are_single(tmp_path):
    write_words(tmp_path, class_folders=False)
    with pytest.raises(Problem, match=r"'sea lion'.* single_labels=True"):
        read_competition(tmp_path, HOME, tmp_path / "s")
    layout = proposed(tmp_path, given={"single_labels": "True"}).layout
    assert "single_labels=True" in layout.block()
    assert len(read_competition(tmp_path, layout, tmp_path / "s").classes) == 3


def test_several_ones_in_a_row_are_refused(tmp_path):
    ALL["plant-pathology"](tmp_path)
    rows = read_csv(tmp_path / "train.csv")
    rows.loc[3, ["rust", "scab"]] = "1"
    rows.to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(Problem, match=r"several labels \(line 5: .*rust, scab"):
        proposed(tmp_path)


def test_which_class_a_probability_is_of_must_be_decided(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    ALL["dogs-vs-cats"](folder)
    assert "which of cat and dog the probability is of" in proposed(folder).doubts[0]
    with pytest.raises(Problem, match=r"its own is in doubt: .*cat and dog"):
        layout_of(folder, HOME, tmp_path / "scratch")
    cats = proposed(folder, given={"positive": "cat"})
    assert (cats.layout.positive, cats.doubts) == ("cat", [])
    wrong = dataclasses.replace(cats.layout, positive="bird")
    with pytest.raises(Problem, match="positive='bird' and the classes are cat, dog"):
        read_competition(folder, wrong, tmp_path / "scratch")


def test_words_have_an_order_before_kappa_counts_it(tmp_path):
    """A grade is no less than another because of its letters: a person says the order."""
    grades = ("none", "mild", "moderate", "severe")
    write_competition(tmp_path / "data", labels=grades)
    proposal = proposed(tmp_path / "data", "kappa")
    assert any("mild, moderate, none, severe" in doubt for doubt in proposal.doubts)
    layout = dataclasses.replace(HOME, metric="kappa")
    places = tmp_path / "data", tmp_path / "scratch"
    with pytest.raises(Problem, match=r"kappa.*mild, moderate, none, severe.*order"):
        read_competition(places[0], layout, places[1])
    wrong = dataclasses.replace(layout, order=("none", "moderate", "severe", "worst"))
    with pytest.raises(Problem, match="differs in mild, worst"):
        read_competition(places[0], wrong, places[1])
    decided = proposed(tmp_path / "data", "kappa", {"order": ",".join(grades)})
    assert not decided.doubts
    assert decided.layout.order == grades
    assert read_competition(places[0], decided.layout, places[1]).classes == list(grades)


@pytest.mark.parametrize("labels", [(0, 1, 10, 2), ("0.5", "10.5", "2.5")])
def test_numbers_are_in_the_order_of_their_values_for_kappa(tmp_path, labels):
    write_competition(tmp_path / "data", labels=labels)
    assert not proposed(tmp_path / "data", "kappa").doubts
    layout = dataclasses.replace(HOME, metric="kappa")
    competition = read_competition(tmp_path / "data", layout, tmp_path / "scratch")
    assert competition.classes == sorted(labels, key=float)


def test_labels_or_probabilities_must_be_decided(tmp_path):
    ALL["histopathologic-cancer-detection"](tmp_path)
    assert "whether labels or probabilities" in proposed(tmp_path).doubts[0]
    assert not proposed(tmp_path, "accuracy").doubts


@pytest.mark.parametrize("class_folders", [True, False])
def test_a_blank_label_is_no_class(tmp_path, class_folders):
    write_competition(tmp_path, labels=("cat", "dog"), class_folders=class_folders)
    table = read_csv(tmp_path / "train.csv")
    table.loc[[0, 5], "Category"] = "", "NaN"
    table.to_csv(tmp_path / "train.csv", index=False)
    notes = proposed(tmp_path).notes
    assert any("column Category of train.csv" in note and "; 2 classes" in note for note in notes)
    assert "2 rows of train.csv have no label and are left out" in notes
    sample = read_csv(tmp_path / "sample-submission.csv").assign(Category="0.5")
    sample.to_csv(tmp_path / "sample-submission.csv", index=False)
    assert proposed(tmp_path).layout.submission == "probability"  # as of two classes


CODES = {"1": "0", "1.0": "0.0", "1.00": "0", "1e0": "0e0", "TRUE": "FALSE", "True": "", " 1 ": " "}


def test_class_folders_that_are_nearly_alike_are_named(tmp_path):
    for name in ("Audi", "audi", "VW"):
        for number in range(4):
            write_photo(tmp_path / name / f"{name}{number}.jpg")
    (note,) = [note for note in proposed(tmp_path).notes if "differ only" in note]
    assert "'Audi' (4 rows) and 'audi' (4 rows)" in note


@pytest.mark.parametrize("one", CODES)
def test_one_hot_codes_may_be_written_in_many_ways(one):
    rows = [[CODES[one], one, CODES[one]], [one, CODES[one], CODES[one]], [CODES[one]] * 3]
    labels = one_hot(pd.DataFrame(rows, columns=["a", "b", "c"]), Path("train.csv"))
    assert labels.tolist() == ["b", "a", ""]


@pytest.mark.parametrize("row", [["0.7", "0.2", "0.1"], ["2", "0", "0"], ["x", "0", "1"]])
def test_what_is_no_one_hot_code_is_refused_by_its_line(row):
    table = pd.DataFrame([["0", "1", "0"], row], columns=["a", "b", "c"])
    with pytest.raises(Problem, match=r"train.csv line 3 holds values other than 0 and 1"):
        one_hot(table, Path("train.csv"))


def test_a_folder_of_class_folders_without_any_table(tmp_path, capsys):
    for name in ("cat 1", "dog", "emu"):
        for number in range(8):
            write_photo(tmp_path / "pets" / name / f"{name}{number}.jpg")
    layout = layout_of(tmp_path / "pets", HOME, tmp_path / "scratch")
    competition = read_competition(tmp_path / "pets", layout, tmp_path)
    assert (competition.classes, len(competition.train)) == (["cat 1", "dog", "emu"], 24)
    assert len(competition.test) == 0
    assert "3 classes" in capsys.readouterr().out
    for number in range(2):
        write_photo(tmp_path / "pets" / "test" / f"{number}.jpg")
    layout = layout_of(tmp_path / "pets", HOME, tmp_path / "scratch")
    competition = read_competition(tmp_path / "pets", layout, tmp_path)
    assert (len(competition.train), len(competition.test)) == (24, 2)
    assert competition.excluded.empty


def test_a_block_that_fits_is_kept(tmp_path, capsys):
    write_competition(tmp_path)
    assert layout_of(tmp_path, HOME, tmp_path / "scratch") == HOME
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ({}, "its 0 files hold no photos"),
        ({"train.7z": "x"}, "train.7z must be unpacked first"),
        ({"train.csv": "x"}, "train.csv has no rows"),
    ],
)
def test_a_folder_that_is_no_competition(tmp_path, names, sentence):
    for name, text in names.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(Problem, match=rf"There is no .*\.csv in .*{sentence}.*correct the block"):
        layout_of(tmp_path, HOME, tmp_path / "scratch")


def test_a_column_that_the_block_names_and_the_table_lacks(tmp_path):
    write_competition(tmp_path)
    wrong = dataclasses.replace(HOME, label="breed")
    with pytest.raises(Problem, match="no column breed, which the block COMPETITION has"):
        read_competition(tmp_path, wrong, tmp_path / "scratch")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"submission": "logits"}, "submission='logits': give one of 'label', 'probability'"),
        ({"train_photos": "train"}, r"give a tuple, \('train',\)"),
        ({"pattern": "dog|cat"}, "without a group"),
        ({"pattern": "(dog"}, "wrong pattern"),
    ],
)
def test_a_wrong_block_is_named(fields, sentence):
    with pytest.raises(Problem, match=sentence):
        Layout(**fields)


def test_what_is_neither_yes_nor_no_is_named():
    assert Layout().with_fields({"single_labels": "yes"}).single_labels
    with pytest.raises(Problem, match="single_labels='Ture'"):
        Layout().with_fields({"single_labels": "Ture"})


def test_a_class_without_a_column_is_named_before_training(tmp_path):
    ALL["dog-breed"](tmp_path)
    sample = read_csv(tmp_path / "sample_submission.csv")
    layout = proposed(tmp_path).layout
    sample.drop(columns="van").to_csv(tmp_path / "sample_submission.csv", index=False)
    with pytest.raises(Problem, match="has no column for the class van"):
        read_competition(tmp_path, layout, tmp_path / "scratch")


def test_a_column_without_photos_gets_0(tmp_path, capsys):
    ALL["dog-breed"](tmp_path)
    sample = read_csv(tmp_path / "sample_submission.csv")
    layout = proposed(tmp_path).layout
    sample.assign(zeppelin="0").to_csv(tmp_path / "sample_submission.csv", index=False)
    competition = read_competition(tmp_path, layout, tmp_path / "scratch")
    assert "get the probability 0: zeppelin" in capsys.readouterr().out
    made = competition.submission(np.full((len(sample), 10), 0.1, np.float32))
    assert set(made["zeppelin"]) == {"0"}


@pytest.mark.parametrize("prefix", ["prob_", "is ", "class."])
def test_the_columns_of_a_sample_may_have_a_prefix(tmp_path, prefix):
    ALL["dog-breed"](tmp_path)
    sample = read_csv(tmp_path / "sample_submission.csv")
    Id, *names = sample.columns
    header = {name: prefix + name for name in names}
    sample[[Id, *names[::-1]]].rename(columns=header).to_csv(
        tmp_path / "sample_submission.csv", index=False
    )
    competition = read_competition(tmp_path, proposed(tmp_path).layout, tmp_path / "scratch")
    likely = np.arange(len(sample)) % len(names)
    made = competition.submission(np.eye(len(names), dtype=np.float32)[likely])
    won = made.set_index(Id).astype(float).idxmax(axis=1)
    assert won.tolist() == [prefix + competition.classes[n] for n in likely]


@pytest.mark.parametrize(
    ("names", "bare"),
    [
        (["c0", "c1", "c10"], ["0", "1", "10"]),
        (["class_10", "class_11"], ["10", "11"]),
        (["cat", "cow"], ["cat", "cow"]),
        (["is_cat", "is_cow"], ["cat", "cow"]),
        (["0", "1"], ["0", "1"]),
    ],
)
def test_a_prefix_ends_with_no_letter_or_before_a_number(names, bare):
    assert without_prefix(names) == bare


def test_the_level_of_the_class_folders():
    def levels(*names):
        return labels_by("", pd.Series(names)).tolist()

    assert levels("train/cat/1.jpg", "train/dog/2.jpg") == ["cat", "dog"]
    assert levels("cat/photos/1.jpg", "dog/photos/2.jpg") == ["cat", "dog"]
    assert levels("cat/1.jpg", "2.jpg", "dog/3.jpg") == ["cat", "", "dog"]


def test_texts_of_a_block():
    assert literal(r"^(cat|dog)\.") == r'r"^(cat|dog)\."'
    assert literal(("a", "b")) == '("a", "b")'
    assert eval(literal("it's")) == "it's"
