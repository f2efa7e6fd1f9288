"""A run that scouts, is killed in each part, and goes on with the same choice."""

import json
import os
import random
import time

import pandas as pd
import pytest

from kernel_runs import check_submission, run, start

SHORT = ["--stages", "head:0:3e-2:1:views=1,all:1:1e-2:2", "--tta", "2"]
CANDIDATES = "a:TinyNet,b:TinyNet:image_size=32x40,c:Xception:image_size=32"
SCOUTING = [*SHORT, "--candidates", CANDIDATES, "--folds", "2"]


def kill_after(process, line: str, delay: float) -> None:
    """Kill a run some time after it has printed a line that begins so."""
    for said in process.stdout:
        if said.startswith(line):
            break
    time.sleep(delay)
    process.kill()
    process.communicate(timeout=60)


def test_a_plan_names_the_candidates_and_writes_nothing(competition, tmp_path, capsys):
    output = tmp_path / "output"
    assert run(competition, output, *SCOUTING, "--plan", "--time-limit", "60") == 0
    said = capsys.readouterr().out
    assert "a scout tries 3 candidates" in said
    assert "computed from published throughputs" in said
    assert not output.exists()


def test_named_members_are_not_scouted(competition, tmp_path, capsys):
    words = [*SCOUTING, "--members", "m:TinyNet", "--plan"]
    assert run(competition, tmp_path / "output", *words) == 0
    said = capsys.readouterr().out
    assert "a scout tries" not in said
    assert "m, fold 0" in said


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_while_it_scouts_and_while_it_trains_it_keeps_its_choice(competition, tmp_path):
    seed = time.time_ns()
    moment = random.Random(seed)
    print("seed of the moments:", seed)
    words = [*SCOUTING, "--folds", "1", "--time-limit", "30"]
    kill_after(start(competition, tmp_path, *words), "  a: accuracy", moment.uniform(0, 3))
    assert (tmp_path / "scout" / "a.npz").is_file()
    kill_after(start(competition, tmp_path, *words), "chosen: ", moment.uniform(0, 4))
    state = json.loads((tmp_path / "state" / "state.json").read_text())
    chosen = state["scouting"]["members"]
    assert chosen

    process = start(competition, tmp_path, *words)
    said, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert "an earlier session of this run has chosen its members" in said
    assert "out of fold" not in said  # nothing is scouted again
    check_submission(competition, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {member["name"] for member in metrics["members"]} == set(chosen)
    rows = {row["name"]: row for row in metrics["scouting"]}
    assert {name for name, row in rows.items() if row["chosen"]} == set(chosen)
    assert rows["c"]["score"] is None or rows["c"]["score"] < 1
    history = pd.read_csv(tmp_path / "history.csv")
    assert not history.duplicated(["member", "fold", "stage", "epoch"]).any()
    assert "Scouting" in (tmp_path / "report.html").read_text(encoding="utf-8")
