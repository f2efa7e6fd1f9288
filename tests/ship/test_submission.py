"""A submission is checked before it is sent: everything that a competition would refuse."""

import pytest

from kernelkit.core.problem import Problem
from ship.commands.submission import Unscorable, check

IDS = ["3.jpg", "1.jpg", "2.jpg"]


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "sample-submission.csv"
    path.write_text("Id,Category\n" + "".join(f"{name},0\n" for name in IDS))
    return path


def problem_of(tmp_path, sample, text: str) -> str:
    path = tmp_path / "submission.csv"
    path.write_text(text)
    with pytest.raises(Problem) as caught:
        check(path, sample, {"0", "1", "10"})
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


def test_a_good_one_passes(tmp_path, sample):
    path = tmp_path / "submission.csv"
    path.write_text("Id,Category\n3.jpg,10\n1.jpg,0\n2.jpg,0\n")
    check(path, sample, {"0", "1", "10"})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "can't be read (No columns to parse from file): nothing was submitted."),
        ("Id,Category\n", "has no rows"),
        ("Id;Category\n3.jpg;0\n", "write it with commas, sep=\",\", not ';'"),
        ("\ufeffId,Category\n3.jpg,0\n1.jpg,1\n2.jpg,0\n", "begins with a byte-order mark"),
        ("Id,Label\n3.jpg,0\n1.jpg,1\n2.jpg,0\n", "has the columns ['Id', 'Label'], not"),
        ("Category,Id\n0,3.jpg\n1,1.jpg\n0,2.jpg\n", "has the columns"),
        ("Id,Category\n3.jpg,0\n1.jpg,1\n", "no row for an Id of the sample (2.jpg; 2 rows"),
        ("Id,Category\n3.jpg,0\n1.jpg,1\n1.jpg,0\n", "has an Id twice (1.jpg"),
        ("Id,Category\n3.jpg,0\n1.jpg,1\n4.jpg,0\n", "an Id that is not in the sample (4.jpg"),
        ("Id,Category\n1.jpg,0\n3.jpg,1\n2.jpg,0\n", "in another order than the sample, first at"),
        ("Id,Category\n3.jpg,0\n1.jpg,\n2.jpg,0\n", "line 3 has a blank value"),
        ("Id,Category\n3.jpg,0\n1.jpg, \n2.jpg,0\n", "line 3 has a blank value"),
        ("Id,Category\n3.jpg,0\n1.jpg\n2.jpg,0\n", "line 3 has a blank value"),
        ("Id,Category\n3.jpg,0\n1.jpg,0,1\n2.jpg,0\n", "can't be read (Error tokenizing data"),
        ("Id,Category\n3.jpg,0,\n1.jpg,1,\n", "has more values in a row than column names"),
        ("Id,Category\n3.jpg,0\n1.jpg,2\n2.jpg,0\n", "has the label '2', which is none of"),
        ("Id,Category\n3.jpg,0\n1.jpg,1.0\n2.jpg,0\n", "has the label '1.0'"),
        ("Id,Category\n3.jpg,0\n1.jpg,nan\n2.jpg,0\n", "has the label 'nan'"),
        ("Id,Category\n3.jpg,1\n1.jpg,1\n2.jpg,1\n", "has the label '1' in every row"),
    ],
)
def test_a_bad_one_is_named(tmp_path, sample, text, sentence):
    assert sentence in problem_of(tmp_path, sample, text)


@pytest.mark.parametrize("head", [b"PK\3\4", b"\x1f\x8b\x08\0"])
def test_a_packed_one_is_to_be_unpacked(tmp_path, sample, head):
    (tmp_path / "submission.csv").write_bytes(head + bytes(40))
    with pytest.raises(Unscorable, match="unpack"):
        check(tmp_path / "submission.csv", sample, set())


def test_a_sample_that_may_have_changed_at_kaggle_is_named(tmp_path, sample):
    assert str(sample) in problem_of(tmp_path, sample, "Id,Category\n3.jpg,0\n1.jpg,1\n")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "unknown encoding|can't be read"),
        ("Id,Category\n3.jpg,0\n".encode("utf-16"), "begins with a byte-order mark"),
    ],
)
def test_a_file_that_is_no_utf8(tmp_path, sample, content, reason):
    path = tmp_path / "submission.csv"
    path.write_bytes(content)
    with pytest.raises(Problem, match=reason):
        check(path, sample, {"0"})


@pytest.mark.parametrize(
    ("form", "rows", "fault"),
    [
        ("probability", ("3.jpg,0.5", "1.jpg,1", "2.jpg,1e-3"), ""),
        ("probability", ("3.jpg,0.5", "1.jpg,1.5", "2.jpg,0"), "line 3 has '1.5', which is no"),
        ("probability", ("3.jpg,0.5", "1.jpg,1", "2.jpg,nan"), "line 4 has 'nan', which is no"),
        ("probabilities", ("3.jpg,yes", "1.jpg,1", "2.jpg,0"), "line 2 has 'yes', which is no"),
        ("probability", ("3.jpg,0.5", "1.jpg,0.5", "2.jpg,0.5"), "has the value '0.5' in every"),
        ("best", ("3.jpg,10 0", "1.jpg,0 1", "2.jpg,1"), ""),
        ("best", ("3.jpg,10 0", "1.jpg,0 7", "2.jpg,1"), "has the label '7', which is none of"),
    ],
)
def test_other_forms_than_labels(tmp_path, sample, form, rows, fault):
    path = tmp_path / "submission.csv"
    path.write_text("\n".join(["Id,Category", *rows]) + "\n")
    if not fault:
        return check(path, sample, {"0", "1", "10"}, form)
    with pytest.raises(Unscorable) as caught:
        check(path, sample, {"0", "1", "10"}, form)
    assert fault in str(caught.value)
    return None
