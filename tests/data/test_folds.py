"""Every photo validates once; listed photos are left out; test photos may train."""

import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

import tiny_competition
from kernelkit.core.problem import Problem
from kernelkit.data.split import split_into_folds
from kernelkit.data.tables import fingerprint, load_tables
from tiny_competition import HOME, Settings, write_competition, write_csv, write_photo


def table(sizes, seed=0):
    """Return a shuffled table in which each photo is a group; `sizes` maps labels to counts."""
    labels = np.repeat(list(sizes), list(sizes.values()))
    rows = pd.DataFrame({"label": labels, "group": np.arange(len(labels))})
    rows["Id"] = [f"{number}.jpg" for number in rows["group"]]
    return rows.sample(frac=1, random_state=seed).reset_index(drop=True)


load = partial(tiny_competition.load, folds=3, most_excluded=0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A competition of four classes with six photos each. Read-only."""
    data = tmp_path_factory.mktemp("folds") / "data"
    write_competition(data, per_class=6)
    return data


@pytest.fixture
def own_folder(folder, tmp_path):
    """The same, to be changed by one test."""
    shutil.copytree(folder, tmp_path / "data")
    return tmp_path / "data"


# --------------------------------------------------------------------------------- split_into_folds


@pytest.mark.parametrize("number", [2, 3, 5, 20])
def test_every_photo_validates_exactly_once(number):
    train = table({0: 70, 1: 40, 2: 90})
    pairs = split_into_folds(train, number, 0)
    assert len(pairs) == number
    validated = np.concatenate([held["Id"] for _, held in pairs])
    assert sorted(validated) == sorted(train["Id"])
    for rest, held in pairs:
        assert sorted([*rest["Id"], *held["Id"]]) == sorted(train["Id"])


@pytest.mark.parametrize("seed", range(3))
def test_every_fold_has_its_part_of_every_class(seed):
    train = table({0: 160, 1: 70, 2: 300, 7: 91}, seed)
    for _, held in split_into_folds(train, 5, seed):
        parts = held["label"].value_counts() / train["label"].value_counts()
        assert parts.between(0.17, 0.23).all()


def test_near_duplicates_are_in_the_same_fold():
    train = table({0: 60, 1: 60})
    train["group"] = np.random.default_rng(0).integers(0, 40, len(train))
    for rest, held in split_into_folds(train, 4, 1):
        assert not set(rest["group"]) & set(held["group"])
        assert 0.15 < len(held) / len(train) < 0.35


def test_the_seed_decides_the_folds():
    train = table({0: 60, 1: 60})
    first, again, other = (split_into_folds(train, 3, seed) for seed in (1, 1, 2))
    for one, same in zip(first, again, strict=True):
        assert one[0].equals(same[0])
        assert one[1].equals(same[1])
    assert set(first[0][1]["Id"]) != set(other[0][1]["Id"])


def test_rows_of_a_fold_keep_their_order_and_get_a_fresh_index():
    train = table({0: 30, 1: 30})
    order = train["Id"].tolist()
    for pair in split_into_folds(train, 3, 0):
        for side in pair:
            assert side.index.tolist() == list(range(len(side)))
            assert side["Id"].tolist() == sorted(side["Id"], key=order.index)


def test_a_class_of_one_photo_trains_in_every_fold_and_is_named(folder, tmp_path, capsys):
    marked = [(f"2{i}.jpg", "yes") for i in range(5)]
    write_csv(tmp_path / "bad.csv", marked, ("Id", "leave_out"))
    for part in load(folder, exclude=str(tmp_path / "bad.csv")):
        assert 10 in set(part.train["label"])
        assert set(part.validation["label"]) == {0, 1, 2}
    assert "Classes with too few photos to validate: 10\n" in capsys.readouterr().out


def test_a_small_class_trains_in_every_fold():
    train = table({0: 60, 1: 60, 2: 2})
    for rest, _ in split_into_folds(train, 5, 0):
        assert set(rest["label"]) == {0, 1, 2}


@pytest.mark.parametrize(
    ("sizes", "number", "message"),
    [
        ({4: 1, 5: 1}, 2, r"No class has two photos .*: add photos, or raise the limit"),
        ({0: 3, 4: 2}, 5, r"into 5 folds .*class 4 is the smallest: ask for fewer --folds, or add"),
    ],
)
def test_a_class_too_small_for_folds_is_a_problem_that_says_what_to_do(sizes, number, message):
    with pytest.raises(Problem, match=message):
        split_into_folds(table(sizes), number, 0)


def test_groups_that_hold_a_whole_class_are_a_problem():
    tied = pd.DataFrame({"label": [0, 1, 0, 2, 1, 2], "group": [0, 0, 1, 1, 2, 2]})
    with pytest.raises(Problem, match=r"so that each training part holds every class"):
        split_into_folds(tied, 2, 0)


# ---------------------------------------------------------------------------- load_tables


def test_the_tables_of_the_folds_share_the_competition_and_the_test_photos(folder, capsys):
    parts = load(folder)
    assert [part.fold for part in parts] == [0, 1, 2]
    for part in parts:
        assert part.competition is parts[0].competition
        assert part.test is parts[0].test
        assert len(part.train) + len(part.validation) == 24
    validated = pd.concat([part.validation for part in parts])
    assert sorted(validated["Id"]) == sorted(parts[0].competition.train["Id"])
    assert capsys.readouterr().out.splitlines() == [
        "Classes: 0 (6), 1 (6), 2 (6), 10 (6)",
        "24 photos in 3 folds: about 16 to train and 8 to validate in each, 3 to predict, "
        "4 classes; 0 left out",
    ]


def test_one_fold_is_one_split(folder, capsys):
    (part,) = load(folder, folds=1)
    assert len(part.validation) == 6
    assert capsys.readouterr().out.splitlines() == [
        "Classes: 0 (6), 1 (6), 2 (6), 10 (6)",
        "18 photos to train, 6 to validate, 3 to predict, 4 classes; 0 left out",
    ]


def test_fingerprints_tell_folds_seeds_and_labels_apart_and_nothing_else(own_folder):
    def found(**settings):
        return [part.fingerprint for part in load(own_folder, **settings)]

    first = found()
    assert len(set(first)) == 3
    assert found(workers=2) == first
    assert not set(found(seed=1)) & set(first)
    shutil.move(own_folder, own_folder.parent / "elsewhere")
    own_folder = own_folder.parent / "elsewhere"
    assert found() == first  # wherever the photos lie
    rows = pd.read_csv(own_folder / "train.csv", dtype=str)
    shutil.move(own_folder / "train" / "0" / "00.jpg", own_folder / "train" / "2" / "00.jpg")
    rows.loc[rows["Id"] == "00.jpg", "Category"] = "2"
    rows.to_csv(own_folder / "train.csv", index=False)
    assert not set(found()) & set(first)


def test_the_fingerprint_of_a_run_tells_the_order_of_its_classes(folder, tmp_path):
    orders = [(), ("0", "1", "10", "2"), ("2", "1", "0", "10")]
    found = [
        fingerprint(load_tables(folder, replace(HOME, order=order), tmp_path, Settings()))
        for order in orders
    ]
    assert len(set(found)) == 3


def test_the_log_names_nearly_the_same_photos_with_other_labels(own_folder, capsys):
    for name in ("00.jpg", "10.jpg"):
        (path,) = own_folder.glob(f"train/*/{name}")
        write_photo(path, np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (48, 1, 3)))
    parts = load(own_folder)
    message = capsys.readouterr().out.splitlines()
    assert message[0] == "Nearly the same photo, another label: 00.jpg, 10.jpg"
    for part in parts:
        assert {"00.jpg", "10.jpg"} & set(part.train["Id"]) in (set(), {"00.jpg", "10.jpg"})


# -------------------------------------------------------------------------------- exclude


def test_marked_photos_are_left_out_and_say_why(folder, tmp_path, capsys):
    rows = [("00.jpg", "Yes"), (" 21.jpg ", "x"), ("01.jpg", "no"), ("02.jpg", "")]
    write_csv(tmp_path / "bad.csv", rows, ("Id", "leave_out"))
    parts = load(folder, exclude=str(tmp_path / "bad.csv"))
    for part in parts:
        assert not {"00.jpg", "21.jpg"} & {*part.train["Id"], *part.validation["Id"]}
        assert len(part.train) + len(part.validation) == 22
    excluded = parts[0].competition.excluded
    assert excluded["Id"].tolist() == ["00.jpg", "21.jpg"]
    assert excluded["label"].tolist() == ["0", "10"]
    assert set(excluded["reason"]) == {"a person marked it in bad.csv"}
    assert set(excluded["set"]) == {"train"}
    message = capsys.readouterr().out
    assert "2 left out" in message
    assert "not comparable" in message


@pytest.mark.parametrize("folds", [1, 3])
def test_listed_photos_that_nobody_reviewed_still_validate(folder, tmp_path, capsys, folds):
    listed = ["00.jpg", "11.jpg", "21.jpg", "22.jpg", "23.jpg"]
    write_csv(tmp_path / "bad.csv", [(name, "blurred") for name in listed], ("Id", "why"))
    before = load(folder, folds=folds)
    after = load(folder, exclude=str(tmp_path / "bad.csv"), folds=folds)
    for one, other in zip(before, after, strict=True):
        assert other.validation["Id"].tolist() == one.validation["Id"].tolist()
        assert other.train["Id"].tolist() == [i for i in one.train["Id"] if i not in listed]
    excluded = after[0].competition.excluded.set_index("Id").reason
    assert set(excluded.index) == set(listed)
    judged = {Id for part in after for Id in part.validation["Id"]} & set(listed)
    assert {Id for Id in listed if "validates, but does not train" in excluded[Id]} == judged
    assert judged
    assert "not comparable" not in capsys.readouterr().out


@pytest.mark.parametrize(("limit", "folds"), [(None, 1), (None, 3), (4, 1)])
def test_marks_leave_the_split_of_the_other_photos_as_it_was(folder, tmp_path, limit, folds):
    rows = [("00.jpg", "yes"), ("11.jpg", "yes"), ("12.jpg", "")]
    write_csv(tmp_path / "bad.csv", rows, ("Id", "leave_out"))
    before = load(folder, folds=folds, limit=limit)
    after = load(folder, exclude=str(tmp_path / "bad.csv"), folds=folds, limit=limit)
    for one, other in zip(before, after, strict=True):
        assert not {"00.jpg", "11.jpg"} & {*other.train["Id"], *other.validation["Id"]}
        if limit is None:
            kept = [Id for Id in one.validation["Id"] if Id not in ("00.jpg", "11.jpg")]
            assert other.validation["Id"].tolist() == kept


def test_listed_ids_that_do_not_exist_are_named(folder, tmp_path, capsys):
    names = [(f"gone{number:02d}.jpg",) for number in range(12)]
    write_csv(tmp_path / "bad.csv", [("00.jpg",), *names], ("Id",))
    load(folder, exclude=str(tmp_path / "bad.csv"))
    message = capsys.readouterr().out.splitlines()
    (line,) = [line for line in message if "of no training photo" in line]
    assert "bad.csv of no training photo: 12 (gone00.jpg, gone01.jpg" in line
    assert line.endswith("gone08.jpg and 3 more)")


def test_listed_ids_are_not_called_unknown_where_they_are_blank_or_left_out_already(
    own_folder, tmp_path, capsys
):
    (photo,) = own_folder.glob("train/*/00.jpg")
    photo.unlink()
    write_csv(tmp_path / "bad.csv", [("00.jpg", ""), ("", "?"), ("21.jpg", "")], ("Id", "why"))
    parts = load(own_folder, exclude=str(tmp_path / "bad.csv"))
    assert "of no training photo" not in capsys.readouterr().out
    excluded = parts[0].competition.excluded
    assert excluded["Id"].tolist() == ["00.jpg", "21.jpg"]
    assert "has no photo" in excluded["reason"].iloc[0]


def test_a_list_of_one_line_needs_a_header(folder, tmp_path):
    (tmp_path / "bad.csv").write_text("00.jpg\n")
    with pytest.raises(Problem, match=r"bad.csv has no rows.* below a line such as Id"):
        load(folder, exclude=str(tmp_path / "bad.csv"))


def test_a_list_of_no_training_photo_is_refused(folder, tmp_path):
    write_csv(tmp_path / "bad.csv", [("90.jpg", ""), ("other", "")], ("Id", "why"))
    with pytest.raises(Problem, match=r"bad.csv is a training photo's.* are 90.jpg, other, the"):
        load(folder, exclude=str(tmp_path / "bad.csv"))


@pytest.mark.parametrize(
    "rows",
    [
        [("Id",), ("00",), ("21",)],  # without suffixes
        [("Id",), ("train/0/00.jpg",), ("train/10/21.JPG",)],
        [("00.jpg",), ("21.jpg",)],  # without a header
        [("photo",), ("00.jpg",), ("21.jpg",)],
    ],
)
def test_listed_ids_may_be_spelt_in_other_ways(folder, tmp_path, capsys, rows):
    write_csv(tmp_path / "bad.csv", rows[1:], rows[0])
    part = load(folder, exclude=str(tmp_path / "bad.csv"), folds=1)[0]
    assert part.competition.excluded["Id"].tolist() == ["00.jpg", "21.jpg"]
    assert not {"00.jpg", "21.jpg"} & {*part.train["Id"]}
    assert "of no training photo" not in capsys.readouterr().out


@pytest.mark.parametrize("column", ["path", "label", "Id", "name"])
def test_a_run_s_own_lists_exclude_whatever_the_column_of_ids_is_called(
    own_folder, tmp_path, column
):
    for name in ("train.csv", "sample-submission.csv"):
        text = (own_folder / name).read_text().replace("Id,", f"{column},", 1)
        (own_folder / name).write_text(text)
    (own_folder / "test_upload" / "90.jpg").write_bytes(b"no photo")
    next(own_folder.glob("train/*/11.jpg")).write_bytes(b"no photo")
    before = load(own_folder, folds=1)[0]
    excluded = before.competition.excluded
    assert set(excluded["Id"]) == {"11.jpg", "90.jpg"}
    bad = before.competition.train.iloc[[0, 5]]
    lists = {"unlike.csv": bad[["Id", "label", "path"]], "excluded.csv": excluded}
    lists["suspects.csv"] = bad[["Id", "label", "path"]].assign(leave_out="yes")
    for name, table in lists.items():
        table.to_csv(tmp_path / name, index=False)
        part = load(own_folder, exclude=str(tmp_path / name), folds=1)[0]
        assert not {*bad["Id"]} & {*part.train["Id"]} or name == "excluded.csv"
        assert (part.competition.excluded["Id"] != "").all()
        assert {*part.competition.excluded["Id"]} == {
            *excluded["Id"],
            *([] if name == "excluded.csv" else bad["Id"]),
        }


def test_the_limit_is_drawn_from_the_photos_that_are_not_listed(folder, tmp_path, capsys):
    listed = [f"{digit}{number}.jpg" for digit in (0, 2) for number in range(3)]
    write_csv(tmp_path / "bad.csv", [(name, "yes") for name in listed], ("Id", "leave_out"))
    for seed in range(5):
        part = load(folder, exclude=str(tmp_path / "bad.csv"), limit=3, folds=1, seed=seed)[0]
        assert part.competition.train["label"].value_counts().tolist() == [3] * 4
        assert {*part.competition.excluded["Id"]} <= set(listed)
    assert "of no training photo" not in capsys.readouterr().out


def test_the_limit_draws_listed_photos_to_validate_as_it_would_without_the_list(folder, tmp_path):
    listed = [f"{digit}{number}.jpg" for digit in (0, 2) for number in range(3)]
    write_csv(tmp_path / "bad.csv", [(name,) for name in listed], ("Id",))
    before = load(folder, limit=3, folds=2)
    after = load(folder, exclude=str(tmp_path / "bad.csv"), limit=3, folds=2)
    drawn, kept = ({Id for part in run for Id in part.validation["Id"]} for run in (before, after))
    assert drawn <= kept
    assert not set(listed) & {Id for part in after for Id in part.train["Id"]}


def test_the_list_may_name_the_column_as_the_competition_does(own_folder, tmp_path):
    for name in ("train.csv", "sample-submission.csv"):
        text = (own_folder / name).read_text().replace("Id,", "picture,", 1)
        (own_folder / name).write_text(text)
    write_csv(tmp_path / "bad.csv", [("00.jpg",)], ("picture",))
    parts = load(own_folder, exclude=str(tmp_path / "bad.csv"))
    assert parts[0].competition.excluded["Id"].tolist() == ["00.jpg"]


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        (None, [], r"--exclude .*bad\.csv: there is no such file"),
        (("name", "why"), [("00.jpg", "x")], r"bad\.csv has no column Id; .* are name, why"),
        (("Id",), [(f"2{i}.jpg",) for i in range(6)], r"bad\.csv lists every photo of class 10"),
        (("Id",), [], r"bad\.csv has no rows: give --exclude a CSV of the Ids"),
        (
            ("Id", "leave_out"),
            [("00.jpg", "yes"), ("01.jpg", "perhaps")],
            r"bad\.csv has 'perhaps' in the column leave_out in line 3: write yes",
        ),
        (
            ("Id", "leave_out"),
            [("00.jpg", ""), ("01.jpg", "no")],
            r"Nobody has marked a row of .*bad\.csv.* write yes in the column leave_out",
        ),
    ],
    ids=["no file", "no column", "a whole class", "no rows", "an unknown mark", "no mark"],
)
def test_a_list_that_cannot_be_used_is_a_problem(folder, tmp_path, columns, rows, message):
    if columns:
        write_csv(tmp_path / "bad.csv", rows, columns)
    with pytest.raises(Problem, match=message):
        load(folder, exclude=str(tmp_path / "bad.csv"))


# ---------------------------------------------------------------------------- test photos


@pytest.mark.parametrize("labels", [(0, 1, 10, 2), ("bmw", "audi", "10")], ids=["int", "str"])
def test_test_photos_train_under_the_label_given(tmp_path, labels):
    write_competition(tmp_path / "data", labels=labels, per_class=4, test=4)
    part = load(tmp_path / "data", folds=2)[0]
    more = part.with_test_photos(np.array([0, 3]), np.array([2, 0]))
    added = more.train.iloc[len(part.train) :]
    classes = part.competition.classes
    kept = more.train.iloc[: len(part.train)]
    pd.testing.assert_frame_equal(kept, part.train, check_dtype=False)
    assert added["group"].tolist() == [-1, -1]  # of no training photo
    assert added["Id"].tolist() == part.test["Id"].iloc[[0, 3]].tolist()
    assert added["path"].tolist() == part.test["path"].iloc[[0, 3]].tolist()
    assert added["label"].tolist() == [classes[2], classes[0]]
    assert more.train["label"].dtype == part.train["label"].dtype
    assert more.positions(added).tolist() == [2, 0]
    assert more.validation is part.validation


def test_no_sure_test_photo_leaves_the_tables_as_they_are(folder):
    part = load(folder)[0]
    none = np.array([], int)
    more = part.with_test_photos(none, none)
    pd.testing.assert_frame_equal(more.train, part.train, check_dtype=False)
