"""A photo that is lost or spoilt during a run stops it with a sentence that names the photo."""

import json

import numpy as np
import pandas as pd
import pytest

from kernelkit.data.batches import make_iterator
from tiny_competition import Settings, load, write_competition, write_photo
from tiny_kernel import TINY, kernel


def test_a_truncated_test_photo_is_predicted_from_what_is_there(tmp_path):
    folder = tmp_path / "data"
    write_competition(folder)
    path = folder / "test_upload" / "91.jpg"
    whole = np.full((480, 640, 3), (0, 0, 250), np.uint8)
    write_photo(path, whole)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (part,) = load(folder)
    with pytest.warns(UserWarning, match=r"91\.jpg: the file is truncated"):
        photo = make_iterator(Settings(), part, part.test)[0][1]
    assert (photo[:8, :, 0] > 200).all()


def run(data, output) -> int:
    stages = ["--stages", "head:0:3e-2:1,all:1:3e-3:1", "--tta", "1"]
    return kernel.main([*TINY, *stages, "--data", str(data), "--output", str(output)])


@pytest.mark.parametrize("spoil", ["deleted", "damaged"])
def test_a_photo_lost_while_training_is_named_and_the_run_goes_on_once_it_is_back(
    own_competition, tmp_path, monkeypatch, capsys, spoil
):
    output, photo = tmp_path / "output", next((own_competition / "test_upload").iterdir())
    content, predict = photo.read_bytes(), kernel.predict

    def lose(*arguments):
        photo.unlink() if spoil == "deleted" else photo.write_bytes(b"no photo")
        return predict(*arguments)

    monkeypatch.setattr(kernel, "predict", lose)
    assert run(own_competition, output) == 1
    said = capsys.readouterr().err
    assert f"can't be any more: {photo}: " in said
    assert not (output / "traceback.txt").exists()
    monkeypatch.undo()
    photo.write_bytes(content)
    assert run(own_competition, output) == 0
    sample = pd.read_csv(own_competition / "sample-submission.csv")
    assert pd.read_csv(output / "submission.csv")["Id"].equals(sample["Id"])
    assert json.loads((output / "metrics.json").read_text())["resumed"]


def test_a_photo_lost_between_sessions_is_other_data(
    own_competition, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "output"

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(kernel, "predict", interrupt)
    assert run(own_competition, output) == 130
    next((own_competition / "train").rglob("*.jpg")).unlink()
    assert run(own_competition, output) == 1
    said = capsys.readouterr().err
    assert "the photos" in said
    assert "--fresh" in said
