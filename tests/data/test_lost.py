"""A photo that is lost or spoilt during a run stops it with a sentence that names the photo."""

import json

import pandas as pd

import kernel
import kernel_runs


def run(data, output) -> int:
    return kernel_runs.run(data, output, "--stages", "head:0:3e-2:1", "--tta", "1")


def test_a_photo_lost_while_training_is_named_and_the_run_goes_on_once_it_is_back(
    own_competition, tmp_path, monkeypatch, capsys
):
    output, photo = tmp_path / "output", next((own_competition / "test_upload").iterdir())
    content, predict = photo.read_bytes(), kernel.predict

    def lose(*arguments):
        photo.write_bytes(b"no photo")
        return predict(*arguments)

    monkeypatch.setattr(kernel, "predict", lose)
    assert run(own_competition, output) == 1
    message = capsys.readouterr().err
    assert f"can't be any more: {photo}: " in message
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
    message = capsys.readouterr().err
    assert "the photos" in message
    assert "--fresh" in message
