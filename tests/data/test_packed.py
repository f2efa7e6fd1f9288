"""Photos that are pixels of tables, or in TFRecords: every Id gets its own picture and label."""

import gzip
import zlib

import cv2
import numpy as np
import pytest

from kernelkit.core.problem import Problem
from kernelkit.core.tables import read_csv
from kernelkit.data.check import check_photos
from kernelkit.data.infer_layout import propose, source_of
from kernelkit.data.layout import Layout
from kernelkit.data.packed import pixel_columns, usual_range
from kernelkit.data.read import read_competition
from tiny_competition import photo, reasons, write_csv

SIDE = 8
PIXELS = [f"pixel{n}" for n in range(SIDE * SIDE)]
IDS = ["im7", "im2", "im9", "im4", "im1"]
LAYOUT = Layout(
    sample_csv="sample.csv",
    train_csv="train.csv",
    label="label",
    train_photos=("train.csv",),
    test_photos=("test.csv",),
    packed="pixels",
)


def pixels_of(name):
    """Return the pixels of a grey picture that depends on the name alone, uint8 [side * side]."""
    return cv2.cvtColor(photo(str(name), (SIDE, SIDE)), cv2.COLOR_RGB2GRAY).ravel()


def write_tables(folder, scale=lambda pixels: pixels, names=("train.csv", "test.csv")):
    """Write 12 training rows with the Ids r0 to r11, and 5 test rows in another order than Ids."""
    folder.mkdir(exist_ok=True)
    train = [(f"r{n}", "abc"[n % 3], *scale(pixels_of(f"r{n}"))) for n in range(12)]
    test = [(Id, *scale(pixels_of(Id))) for Id in sorted(IDS)]
    write_csv(folder / names[0], train, ("id", "label", *PIXELS))
    write_csv(folder / names[1], test, ("id", *PIXELS))
    write_csv(folder / "sample.csv", [(Id, "a") for Id in IDS], ("id", "label"))
    return folder


def edit(path, change):
    """Replace a CSV by what a function makes of its table."""
    change(read_csv(path)).to_csv(path, index=False)


def read(folder, layout=LAYOUT):
    return check_photos(read_competition(folder, layout, folder.parent / "scratch"), 1)


def assert_pictures(competition, tolerance=0):
    """Check that every Id has the picture that was written for it."""
    for table in (competition.train, competition.test):
        assert len(table)
        for row in table.itertuples():
            grey = cv2.imread(row.path, cv2.IMREAD_GRAYSCALE).ravel().astype(int)
            assert abs(grey - pixels_of(row.Id)).max() <= tolerance


# --------------------------------------------------------------------------------- pixels


def test_rows_of_pixels_are_matched_by_id(tmp_path):
    competition = read(write_tables(tmp_path / "data"))
    assert competition.test["Id"].tolist() == IDS
    assert competition.train["Id"].tolist() == [f"r{n}" for n in range(12)]
    assert competition.train["label"].tolist() == ["a", "b", "c"] * 4
    assert competition.excluded.empty
    assert_pictures(competition)


def test_the_column_of_ids_may_have_another_name_and_other_rows(tmp_path):
    folder = write_tables(tmp_path / "data")
    edit(folder / "test.csv", lambda table: table.rename(columns={"id": "file name"}))
    edit(folder / "sample.csv", lambda table: table[:4])
    competition = read(folder)
    assert_pictures(competition)
    assert reasons(competition) == {"im1": "sample.csv has no row for it"}


def test_a_sample_longer_than_the_test_table_lacks_photos(tmp_path):
    folder = write_tables(tmp_path / "data")
    edit(folder / "test.csv", lambda table: table[table["id"] != "im2"])
    competition = read(folder)
    assert reasons(competition) == {"im2": "its photo is missing"}
    assert competition.test["path"].eq("").tolist() == [Id == "im2" for Id in IDS]


def test_the_label_is_recognised_beside_a_column_of_ids(tmp_path):
    folder = write_tables(tmp_path / "data")
    (folder / "sample.csv").rename(folder / "sample_submission.csv")
    layout = propose(source_of(folder, folder.parent / "scratch", metric="accuracy")).layout
    assert (layout.packed, layout.label) == ("pixels", "label")
    assert_pictures(read(folder, layout))


@pytest.mark.parametrize("first", [0, 1, 28001])
def test_without_a_column_of_ids_the_numbers_are_those_of_the_rows(tmp_path, capsys, first):
    folder = write_tables(tmp_path / "data")
    table = read_csv(folder / "test.csv")
    table.drop(columns="id").to_csv(folder / "test.csv")  # with a first column 0 to 4
    order = [3, 0, 4, 1, 2]
    sample = [(first + row, "a") for row in order]
    write_csv(folder / "sample.csv", sample, ("ImageId", "Label"))
    competition = read(folder)
    for row, path in zip(order, competition.test["path"], strict=True):
        grey = cv2.imread(path, cv2.IMREAD_GRAYSCALE).ravel()
        assert (grey == pixels_of(table.at[row, "id"])).all()
    if first:
        assert f"its first row is the Id {first}" in capsys.readouterr().out


def test_rows_whose_id_cannot_be_told_are_refused(tmp_path):
    folder = write_tables(tmp_path / "data")
    edit(folder / "test.csv", lambda table: table.drop(columns="id"))
    with pytest.raises(Problem, match=r"No column of test.csv holds the Ids .* im7"):
        read(folder)
    for ids in ([1, 2, 3, 4, 6], ["1", "01", "2", "3", "4"]):
        edit(folder / "sample.csv", lambda table, ids=ids: table.assign(id=ids))
        with pytest.raises(Problem, match=r"which are no numbers in a row"):
            read(folder)
    edit(folder / "sample.csv", lambda table: table[:3])
    with pytest.raises(Problem, match=r"test.csv has 5 rows, sample.csv 3"):
        read(folder)


def test_columns_of_pixels_count_by_their_numbers(tmp_path):
    folder = write_tables(tmp_path / "data")
    edit(folder / "test.csv", lambda table: table[["id", *sorted(PIXELS)]])
    edit(folder / "train.csv", lambda table: table[[*PIXELS[::-1], "label", "id"]])
    assert_pictures(read(folder))
    grid = [f"{y}x{x}" for y in (1, 2, 10) for x in (1, 2, 10)]
    assert pixel_columns(["label2", *sorted(grid)], "a.csv") == grid
    with pytest.raises(Problem, match="2 columns each of r# and g#"):
        pixel_columns(["r0", "r1", "g0", "g1"], "a.csv")


def test_a_one_hot_label_and_a_group_are_read_as_of_any_table(tmp_path):
    folder = write_tables(tmp_path / "data")

    def coded(table):
        ones = {name: (table["label"] == name).astype(int) for name in "abc"}
        return table.drop(columns="label").assign(**ones, patient=np.arange(12) // 2)

    edit(folder / "train.csv", coded)
    layout = Layout(
        **{**vars(LAYOUT), "label": ("a", "b", "c"), "group": "patient", "submission": "label"}
    )
    competition = read(folder, layout)
    assert competition.train["label"].tolist() == ["a", "b", "c"] * 4
    assert competition.train["group"].nunique() == 6
    assert_pictures(competition)


SCALES = {
    "0 to 1": lambda pixels: (pixels / 255).round(6),
    "-1 to 1": lambda pixels: (pixels / 127.5 - 1).round(6),
    "-0.5 to 0.5": lambda pixels: (pixels / 255 - 0.5).round(6),
    "0 to 255 as floats": lambda pixels: [f"{value}.0" for value in pixels],
    "0 to 65535": lambda pixels: pixels.astype(int) * 257,
}


@pytest.mark.parametrize("scale", SCALES)
def test_the_range_of_pixels_is_that_of_the_whole_tables(tmp_path, capsys, scale):
    def spread(pixels):  # so that the pictures of both tables together span the whole range
        pixels[:2] = 0, 255
        return SCALES[scale](pixels)

    competition = read(write_tables(tmp_path / "data", spread))
    for row in competition.test.itertuples():
        grey = cv2.imread(row.path, cv2.IMREAD_GRAYSCALE).ravel().astype(int)
        assert abs(grey - pixels_of(row.Id))[2:].max() <= 1
    assert ("for black" in capsys.readouterr().out) == ("floats" not in scale)


def test_pixels_may_have_decimal_commas(tmp_path):
    folder = write_tables(tmp_path / "data", lambda pixels: [f"{v / 255:.6f}" for v in pixels])
    for name in ("train.csv", "test.csv"):
        text = (folder / name).read_text().replace(",", ";").replace(".", ",")
        (folder / name).write_text(text)
    competition = read(folder)
    darkest = min(pixels_of(Id).min() for Id in [*IDS, *(f"r{n}" for n in range(12))])
    assert darkest < 50
    assert_pictures(competition, 1)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, (0, 1)),
        (0.02, 0.93, (0, 1)),
        (-1, 1, (-1, 1)),
        (3, 251, (0, 255)),
        (0, 130, (0, 255)),
        (0, 16, (0, 16)),
        (0, 100, (0, 100)),
        (-2.1, 2.6, (-2.1, 2.6)),
        (0, 4080, (0, 4095)),
    ],
)
def test_ranges_of_values(low, high, expected):
    assert usual_range(low, high) == expected


def test_tables_of_different_ranges_are_refused(tmp_path):
    folder = write_tables(tmp_path / "data", lambda pixels: [0, 255, *pixels[2:]])
    table = read_csv(folder / "test.csv").set_index("id")
    (table.astype(int) / 255).to_csv(folder / "test.csv")
    with pytest.raises(Problem, match=r"from 0 to 255 in train.csv but from 0 to 1 in test.csv"):
        read(folder)


def test_blank_pixels_are_rows_without_a_photo(tmp_path, capsys):
    folder = write_tables(tmp_path / "data")

    def spoil(table):
        table.loc[1, "pixel5"] = ""
        table.loc[2, "pixel6"] = "x"
        return table

    for name in ("train.csv", "test.csv"):
        edit(folder / name, spoil)
    competition = read(folder)
    assert {"r1", "r2", "im2", "im4"} == set(reasons(competition))
    competition.test = competition.test[competition.test["path"] != ""]
    assert_pictures(competition)
    assert "train.csv has 2 rows with pixels that are no numbers, the first in line 3" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="pixel9"), "63 columns of pixels, which make no square"),
        (lambda table: table.drop(columns=PIXELS[49:]), "has 64 columns of pixels, test.csv 49"),
        (lambda table: table.assign(**dict.fromkeys(PIXELS, "7")), "test.csv hold no pictures"),
        (lambda table: table.assign(**dict.fromkeys(PIXELS, "")), "test.csv hold no pictures"),
    ],
)
def test_tables_that_hold_no_pictures(tmp_path, change, message):
    folder = write_tables(tmp_path / "data")
    edit(folder / "test.csv", change)
    with pytest.raises(Problem, match=message):
        read(folder)


def test_another_block_is_not_answered_from_the_copy_of_before(tmp_path):
    folder = write_tables(tmp_path / "data")
    edit(folder / "train.csv", lambda table: table.assign(other=["x", "y"] * 6))
    assert read(folder).classes == ["a", "b", "c"]
    assert read(folder, Layout(**{**vars(LAYOUT), "label": "other"})).classes == ["x", "y"]


# -------------------------------------------------------------------------------- records


def feature(tf, value):
    """Return a feature of ints, floats or bytes, as the values are."""
    values = value if isinstance(value, list) else [value]
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list={"value": values})
    kind = "float_list" if isinstance(values[0], float) else "int64_list"
    return tf.train.Feature(**{kind: {"value": values}})


def write_records(path, examples, pack=bytes):
    """Write records as a file that `pack` makes of the plain one; a picture for the name given."""
    import tensorflow as tf  # slow to import

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, features in examples:
            _, picture = cv2.imencode(".png", photo(name, (SIDE, SIDE)))
            features = {"image": picture.tobytes(), **features}
            features = {key: feature(tf, value) for key, value in features.items()}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    path.write_bytes(pack(path.read_bytes()))


def write_competition(
    folder, labels=lambda n: n % 3, ids=lambda Id: Id.encode(), pack=bytes, suffix=".tfrec"
):
    train = [(f"r{n}", {"class": labels(n)}) for n in range(12)]
    write_records(folder / "records" / "train" / f"00{suffix}", train[:7], pack)
    write_records(folder / "records" / "train" / f"01{suffix}", train[7:], pack)
    test = [(Id, {"id": ids(Id)}) for Id in sorted(IDS)]
    write_records(folder / "records" / "test" / f"00{suffix}", test, pack)
    write_csv(folder / "sample_submission.csv", [(Id, "0") for Id in IDS], ("id", "label"))
    return folder


RECORDS = Layout(
    sample_csv="sample_submission.csv",
    train_photos=("records/train",),
    test_photos=("records/test",),
    packed="tfrecords",
)


def assert_records(competition):
    """Check every picture and label of what `write_competition` has written."""
    assert competition.train["label"].tolist() == [n % 3 for n in range(12)]
    assert competition.test["Id"].tolist() == IDS
    names = [*(f"r{n}" for n in range(12)), *IDS]
    paths = [*competition.train["path"], *competition.test["path"]]
    for name, path in zip(names, paths, strict=True):
        assert (cv2.imread(path) == photo(name, (SIDE, SIDE))).all()


def test_tfrecords_are_unpacked_once(tmp_path, capsys):
    folder = write_competition(tmp_path / "data")
    layout = propose(source_of(folder, folder.parent / "scratch", metric="macro-f1")).layout
    assert layout.packed == "tfrecords"
    for _ in range(2):
        assert_records(read(folder, layout))
    assert capsys.readouterr().out.count("Unpacking photos") == 1


def test_records_of_two_classes_may_ask_for_a_probability(tmp_path):
    folder = write_competition(tmp_path / "data", lambda n: n % 2)
    sample = [(Id, 0.5) for Id in IDS]
    write_csv(folder / "sample_submission.csv", sample, ("id", "target"))
    layout = propose(source_of(folder, tmp_path / "scratch", metric="auc")).layout
    competition = read(folder, layout)
    assert (layout.submission, competition.classes) == ("probability", [0, 1])
    made = competition.submission(np.eye(2, dtype="float32")[[0, 1, 1, 0, 1]])
    assert made["target"].astype(float).tolist() == [0, 1, 1, 0, 1]


SPELT = {
    "one-hot": lambda n: [int(k == n % 3) for k in range(3)],
    "one-hot floats": lambda n: [float(k == n % 3) for k in range(3)],
    "floats": lambda n: float(n % 3),
    "text": lambda n: b"%d\0\0" % (n % 3),
}


@pytest.mark.parametrize("spelt", SPELT)
def test_labels_of_records_may_be_written_in_many_ways(tmp_path, spelt):
    assert_records(read(write_competition(tmp_path / "data", SPELT[spelt]), RECORDS))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ([0, 1, 1], r"3 values \(0, 1, 1\) in class"),
        ([0, 0, 0], r"3 values \(0, 0, 0\)"),
        ([0.2, 0.7, 0.1], "3 values"),
        ([b"cat", b"dog"], "2 values"),
        ([3, 4], "2 values"),
        (0.5, "the fraction 0.5"),
        (float("nan"), "the fraction nan"),
        (b"\xff\xfe\x01", "no text"),
    ],
)
def test_a_label_that_is_no_single_one_is_refused(tmp_path, label, message):
    folder = write_competition(tmp_path / "data", lambda n: label if n == 8 else n % 3)
    with pytest.raises(Problem, match=rf"Record 2 of .*train/01\.tfrec has .*{message}"):
        read(folder, RECORDS)


PACKS = {"gzip": gzip.compress, "zlib": zlib.compress, "fast zlib": lambda d: zlib.compress(d, 1)}


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize(
    "suffix", [".tfrec", ".tfrecord", ".tfrecords", ".tfrecord-00000-of-00010"]
)
def test_packed_records_of_any_suffix_are_read(tmp_path, pack, suffix):
    folder = write_competition(tmp_path / "data", pack=PACKS[pack], suffix=suffix)
    (folder / "records" / "train" / f"00{suffix}.json").write_text("{}")  # no file of records
    assert_records(read(folder, RECORDS))


@pytest.mark.parametrize(
    ("pack", "message"),
    [
        (lambda data: data[:-20], r"damaged after \d+ records"),
        (lambda data: gzip.compress(data)[:-20], r"damaged after \d+ records"),
        (lambda data: data[:100] + b"\0" + data[101:], "damaged after 0 records"),
        (lambda data: b"no records at all", "damaged after 0 records"),
        (lambda data: b"", "holds no records"),
    ],
)
def test_damaged_records_are_named(tmp_path, pack, message):
    folder = write_competition(tmp_path / "data", pack=pack)
    with pytest.raises(Problem, match=rf"records/test/00.tfrec .*{message}.*: download it again"):
        read(folder, RECORDS)


@pytest.mark.parametrize(
    "spell",
    [
        lambda Id: f"../../../{Id}",
        lambda Id: f"/tmp/b-evil/{Id}",
        lambda Id: f"C:\\photos\\{Id}.jpg",
        lambda Id: f"{Id}.png",
        lambda Id: f"{Id}.jpg.jpg",
        lambda Id: f"{Id}.zip",
        lambda Id: Id + "é" * 150,
        lambda Id: f"{Id}?*<>|:",
    ],
)
def test_an_id_is_never_a_path(tmp_path, spell):
    folder = write_competition(tmp_path / "data", ids=lambda Id: spell(Id).encode())
    write_csv(folder / "sample_submission.csv", [(spell(Id), "0") for Id in IDS], ("id", "label"))
    before = sorted(tmp_path.rglob("*"))
    competition = read(folder, RECORDS)
    competition.test["Id"] = IDS
    assert_records(competition)
    new = set(tmp_path.rglob("*")) - set(before)
    assert all(path.is_relative_to(tmp_path / "scratch") for path in new)


def test_a_label_that_begins_like_a_picture_is_a_label(tmp_path):
    folder = write_competition(tmp_path / "data", lambda n: [b"BMW X5", b"RIO", b"GIF"][n % 3])
    assert read(folder, RECORDS).classes == ["BMW X5", "GIF", "RIO"]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"class": 1, "image": b"no picture"}, "has no picture"),
        ({"image": b"\xff\xd8\xff"}, "has no class or label"),
        (
            {"class": 1, "image": b"x", "a": b"\xff\xd8\xff", "b": b"\xff\xd8\xff"},
            "has several pictures",
        ),
    ],
)
def test_records_that_lack_something_are_named(tmp_path, features, message):
    folder = write_competition(tmp_path / "data")
    write_records(folder / "records" / "train" / "01.tfrec", [("x", features)])
    with pytest.raises(Problem, match=rf"Record 1 of .*01.tfrec {message}"):
        read(folder, RECORDS)


def test_records_of_both_sets_may_lie_in_one_folder(tmp_path):
    folder = write_competition(tmp_path / "data")
    for part in ("train", "test"):
        for file in sorted((folder / "records" / part).iterdir()):
            file.rename(folder / "records" / f"{part}{file.name}")
        (folder / "records" / part).rmdir()
    source = source_of(folder, tmp_path / "scratch", metric="macro-f1")
    assert_records(read(folder, propose(source).layout))


def test_a_set_without_records_is_named(tmp_path):
    folder = write_competition(tmp_path / "data")
    (folder / "records" / "test" / "00.tfrec").unlink()
    with pytest.raises(Problem, match=r"no TFRecords in records/test"):
        read(folder, RECORDS)


def test_ids_and_groups_of_training_records_are_kept(tmp_path):
    folder = write_competition(tmp_path / "data")
    train = [
        (f"r{n}", {"class": n % 3, "image_name": f"ISIC_{n}".encode(), "patient": n // 2})
        for n in range(12)
    ]
    write_records(folder / "records" / "train" / "00.tfrec", train)
    (folder / "records" / "train" / "01.tfrec").unlink()
    competition = read(folder, Layout(**{**vars(RECORDS), "group": "patient"}))
    assert competition.train["Id"].tolist() == [f"ISIC_{n}" for n in range(12)]
    assert competition.train["group"].nunique() == 6
    assert_records(competition)
