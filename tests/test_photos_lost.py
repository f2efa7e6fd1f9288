"""A photo that is lost or spoilt during a run is replaced and named, and changes nothing else."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest

from common import Problem
from ImageDataAugmentor import load_img
from ImageDataAugmentor.reading import ImageLoader
from photos import make_iterator, reading
from tiny_competition import Settings, load, write_competition, write_csv, write_photo
from tiny_kernel import TINY, kernel


@pytest.fixture
def folder(tmp_path):
    write_competition(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def nothing_lost(monkeypatch):
    monkeypatch.setattr(reading, "lost", {})


def pictures(part, table, **settings):
    """Return all photos of a table as they train: uint8 [n, 24, 32, 3]."""
    flow = make_iterator(Settings(**settings), part, table.drop(columns="label", errors="ignore"))
    return np.concatenate([flow[number] for number in range(len(flow))])


def delete(path):
    path.unlink()


def overwrite(path):
    path.write_bytes(b"no photo")


@pytest.mark.parametrize("spoil", [delete, overwrite])
@pytest.mark.parametrize("cache", [True, False])
def test_another_photo_of_the_class_stands_in_while_training(folder, capsys, spoil, cache):
    (part,) = load(folder)
    row = part.train.index[part.train["label"] == 10][0]
    spoil(folder / "train" / "10" / part.train.at[row, "Id"])
    flow = make_iterator(Settings(batch_size=16, cache=cache), part, part.train)
    photos, labels = flow[0]
    assert labels[row].argmax() == part.competition.classes.index(10)
    others = [n for n in part.train.index if n != row and part.train.at[n, "label"] == 10]
    assert any(np.array_equal(photos[row], photos[other]) for other in others)
    flow[0]
    said = capsys.readouterr().out
    assert said.count(f"{part.train.at[row, 'path']} can't be read any more: ") == 1
    assert "jpg stands in." in said


def test_a_lost_test_photo_is_grey_and_gets_the_usual_answer(folder):
    (part,) = load(folder)
    (folder / "test_upload" / "91.jpg").unlink()
    photos = pictures(part, part.test)
    assert (photos[1] == reading.UNSEEN).all()
    rows = part.with_prior(np.eye(4, dtype="float32")[[3, 2, 3]])
    np.testing.assert_allclose(rows[1], 0.25)
    assert rows.argmax(1).tolist()[::2] == [3, 3]


def test_a_truncated_test_photo_is_predicted_from_what_is_there(folder):
    path = folder / "test_upload" / "91.jpg"
    whole = np.full((480, 640, 3), (0, 0, 250), np.uint8)
    write_photo(path, whole)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (part,) = load(folder)
    with pytest.warns(UserWarning, match=r"91\.jpg: the file is truncated"):
        photo = pictures(part, part.test)[1]
    assert (photo[:8, :, 0] > 200).all()


@pytest.mark.parametrize("spoil", [delete, overwrite])
def test_a_run_goes_on_with_the_same_tables_where_photos_are_lost(folder, capsys, spoil):
    (first,) = load(folder)
    spoil(folder / "train" / "0" / "00.jpg")
    spoil(folder / "train" / "2" / "31.jpg")
    spoil(folder / "test_upload" / "91.jpg")
    capsys.readouterr()
    (again,) = load(folder)
    assert again.fingerprint == first.fingerprint
    for name in ("train", "validation", "test"):
        assert getattr(again, name).equals(getattr(first, name))
    assert again.competition.excluded.empty
    assert "for which others stand in: 3 (00.jpg, 31.jpg, 91.jpg)" in capsys.readouterr().out
    assert len(pictures(again, again.train)) == len(again.train)


def test_a_row_that_is_there_twice_comes_back_once(folder):
    rows = pd.read_csv(folder / "train.csv").values.tolist()
    write_csv(folder / "train.csv", [*rows, rows[0]])
    (first,) = load(folder)
    (folder / "train" / "0" / "00.jpg").unlink()
    (again,) = load(folder, most_excluded=0.1)
    assert again.train.equals(first.train)


def test_what_was_lost_before_the_run_began_is_left_out(folder):
    (folder / "train" / "0" / "00.jpg").unlink()
    with pytest.raises(Problem, match="1 of the 16 training rows"):
        load(folder)
    with pytest.raises(Problem, match="1 of the 16 training rows"):  # was not remembered
        load(folder)


def test_a_run_that_was_stopped_remembers_nothing(folder):
    (folder / "train" / "0" / "00.jpg").write_bytes(b"")
    with pytest.raises(Problem, match="1 of the 16 training rows"):
        load(folder)
    (folder / "train" / "0" / "01.jpg").unlink()
    with pytest.raises(Problem, match="2 of the 16 training rows"):
        load(folder, most_excluded=0.1)


def test_other_tables_remember_nothing(folder):
    load(folder)
    (folder / "train" / "0" / "00.jpg").unlink()
    write_csv(folder / "sample-submission.csv", [("90.jpg", 0)])
    with pytest.raises(Problem, match="1 of the 16 training rows"):
        load(folder)


def test_a_damaged_memory_is_none(folder):
    (first,) = load(folder)
    (folder.parent / "scratch" / "usable-photos.npz").write_bytes(b"PK damaged")
    (again,) = load(folder)
    assert again.train.equals(first.train)


def test_worker_processes_get_the_library_s_own_loader(folder):
    plain = ImageLoader(target_size=(24, 32))
    ours = reading.SurvivingLoader(plain, {})
    assert type(pickle.loads(pickle.dumps(ours))) is ImageLoader
    assert {ours: 1}[plain] == {plain: 1}[ours] == 1
    path = str(folder / "train" / "0" / "00.jpg")
    assert np.array_equal(ours(path), load_img(path, target_size=(24, 32)))


def run(data, output) -> int:
    stages = ["--stages", "head:0:3e-2:1,all:1:3e-3:1", "--tta", "1"]
    return kernel.main([*TINY, *stages, "--data", str(data), "--output", str(output)])


def test_the_kernel_survives_losses_before_within_and_after_an_interruption(
    own_competition, tmp_path, monkeypatch, capsys
):
    """Photos go while it trains; it is interrupted, more go, and it goes on to a submission."""
    output, predict = tmp_path / "output", kernel.predict
    photos = sorted((own_competition / "train").rglob("*.jpg"))
    tests = sorted((own_competition / "test_upload").iterdir())

    def interrupted(*_):
        photos[0].unlink()
        overwrite(tests[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(kernel, "predict", interrupted)
    assert run(own_competition, output) == 130

    def within(*arguments):
        tests[1].unlink()
        return predict(*arguments)

    monkeypatch.setattr(kernel, "predict", within)
    assert run(own_competition, output) == 0
    said = capsys.readouterr().out
    assert f"for which others stand in: 2 ({photos[0].name}, {tests[0].name})" in said
    assert f"{tests[1]} can't be read any more: " in said
    assert "2 test photos can't be read: they get the most frequent class." in said
    sample = pd.read_csv(own_competition / "sample-submission.csv")
    assert pd.read_csv(output / "submission.csv")["Id"].equals(sample["Id"])
    assert json.loads((output / "metrics.json").read_text())["resumed"]
