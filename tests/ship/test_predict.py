"""A finished run's networks are published, and a second kernel predicts a hidden test set."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loopback.server import Loopback
from sample.competition import draw_competition, split_off_public
from ship.commands.predict import network_files
from ship.commands.rehearse import SAMPLE_SETTINGS, environment_of
from ship.ledger import Ledger
from ship.project.project import Project, copy_project

REPOSITORY = Path(__file__).resolve().parents[2]
SETS = {**SAMPLE_SETTINGS, "stages": "head:0:1e-2:1:views=1"}


def test_what_is_no_finished_run_is_named(tmp_path):
    with pytest.raises(Exception, match=r"holds no model\.json"):
        network_files(tmp_path)
    model = {"members": [{"networks": [{"file": "best.keras"}]}]}
    (tmp_path / "model.json").write_text(json.dumps(model))
    with pytest.raises(Exception, match=r"best\.keras is missing"):
        network_files(tmp_path)
    (tmp_path / "best.keras").write_bytes(b"network")
    assert set(network_files(tmp_path)) == {"model/model.json", "model/best.keras"}


@pytest.mark.slow
def test_from_training_to_the_score_of_a_hidden_test_set(tmp_path):
    """Both kernels really run; the public test set has three photos, the hidden one sixty."""
    project = Project(copy_project(Project(REPOSITORY), tmp_path / "project").root)
    hidden, solution = tmp_path / "hidden", tmp_path / "hidden.csv"
    draw_competition(hidden, 16, 6, solution=solution)
    public = tmp_path / "public"
    answers = split_off_public(hidden, solution, public, damaged=5)
    slug = project.competition
    more = {"hidden": {slug: (hidden, solution)}, "daily_submissions": 9}
    with Loopback(tmp_path / "kaggle", {slug: (public, answers)}, **more) as kaggle:

        def ship(*words: str) -> str:
            command = [sys.executable, "-P", "-m", "ship", "--project", str(project.root), *words]
            done = subprocess.run(
                command, env=environment_of(kaggle), capture_output=True, text=True, cwd=tmp_path
            )
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
            return done.stdout

        said = ship(*(f"--set={name}={value}" for name, value in SETS.items()))
        assert "public score of" in said
        runs = Ledger(project.runs / "ledger.jsonl").runs()
        assert runs[-1].kernel.endswith("-predict")
        assert runs[-1].public_score >= 0.25  # of ten classes, after seconds of training
        before = dict(kaggle.counts)
        assert before["submissions"] == 1
        ship("predict", "1")  # the training run, by its version: nothing new to send
        assert kaggle.counts == before
        measured = ship("predict", "1", "--as-many", "40")
        assert "predicted 40 photos" in measured
        assert kaggle.counts["submissions"] == 1
