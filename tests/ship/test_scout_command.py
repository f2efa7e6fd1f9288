"""`ship scout` judges candidates on Kaggle; the run that goes on from it computes none again."""

import subprocess
import sys
from pathlib import Path

import pytest

from kernelkit.core.contract import read_metrics
from loopback.server import Loopback
from sample.competition import draw_competition
from ship.commands.rehearse import environment_of
from ship.ledger import Ledger
from ship.project.project import Project, copy_project

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS = {
    "recipe": "dry",
    "stages": "head:0:1e-2:1:views=1,all:1:1e-3:1",
    "candidates": "small:Plain:image_size=48x64,usual:Plain",
    "folds": "2",
    "time_limit": "30",
}


def test_a_kernel_that_can_not_scout_is_named(world):
    assert "there is no setting 'scout_only'" in world.ship("scout").sentence


@pytest.mark.slow
def test_from_scouting_to_the_score(tmp_path):
    project = Project(copy_project(Project(REPOSITORY), tmp_path / "project").root)
    data, solution = tmp_path / "data", tmp_path / "solution.csv"
    draw_competition(data, 12, 4, solution=solution)
    with Loopback(tmp_path / "kaggle", {project.competition: (data, solution)}) as kaggle:

        def ship(*words: str, status: int = 0) -> str:
            command = [sys.executable, "-P", "-m", "ship", "--project", str(project.root), *words]
            done = subprocess.run(
                command, env=environment_of(kaggle), capture_output=True, text=True, cwd=tmp_path
            )
            assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
            return done.stdout + done.stderr

        assert "have no candidates to scout" in ship("scout", "--set=recipe=dry", status=1)
        said = ship("scout", *(f"--set={name}={value}" for name, value in SETTINGS.items()))
        assert "chosen: weight" in said
        assert kaggle.counts["submissions"] == 0
        ship("--continue")
        assert kaggle.counts["submissions"] == 1
    scouted, trained = Ledger(project.runs / "ledger.jsonl").runs()
    folder = project.runs / scouted.name
    assert (folder / "scout" / "candidates.txt").is_file()
    assert "Scouting" in (folder / "report.html").read_text(encoding="utf-8")
    assert trained.continues == scouted.name
    log = (project.runs / trained.name / "car-classification.log").read_text(encoding="utf-8")
    assert log.count("photos a second, of an earlier session") == 2
    rows = {row["name"]: row for row in read_metrics(project.runs / trained.name)["scouting"]}
    assert any(row["chosen"] for row in rows.values())
