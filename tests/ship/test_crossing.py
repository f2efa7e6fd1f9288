"""Nothing crosses from one kernel or competition to another one: each record belongs to its own."""

import json
import shutil

import pytest

from shipping import COMPETITION, SCORE

OTHER = "other-cars"


@pytest.fixture
def two(world):
    """A world with a second competition of the same photos, where v1 has a score in the first."""
    competitions = world.kaggle.competitions._competitions
    competitions[OTHER] = competitions[COMPETITION]
    assert world.ship("--set", "skill=30").status == 0
    return world


def change(world, name: str, value) -> None:
    """Change a value of the kernel's metadata, and its competition in the kernel."""
    file = world.project / "kernel-metadata.json"
    values = json.loads(file.read_text())
    values[name] = value
    if name == "title":
        values["id"] = values["id"].split("/")[0] + "/" + value.lower().replace(" ", "-")
    file.write_text(json.dumps(values))
    if name == "competition_sources":
        kernel = world.project / "kernel.py"
        text = (
            kernel.read_text().replace(f'"{COMPETITION}"', '"HERE"').replace(f'"{OTHER}"', '"HERE"')
        )
        kernel.write_text(text.replace('"HERE"', f'"{value[0]}"'))


def cut_short(world) -> None:
    file = world.project / "runs" / "car-classification-v1" / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"stopped_by_time_limit": True}))


@pytest.mark.parametrize(
    ("name", "value"), [("competition_sources", [OTHER]), ("title", "Other kernel")]
)
def test_the_newest_run_is_one_of_this_kernel_and_competition(two, name, value):
    cut_short(two)
    change(two, name, value)
    for command in ("submit", "submit --again", "follow", "fetch", "open", "cancel"):
        outcome = two.ship(*command.split())
        assert outcome.status == 1, (command, outcome)
        kernel, competition = (
            ("car-classification", OTHER) if name != "title" else ("other-kernel", COMPETITION)
        )
        assert f"no run of {kernel} for {competition} is known here" in outcome.sentence
    assert "--continue needs an earlier run of" in two.ship("--continue").sentence
    assert two.kaggle.counts["submissions"] == 1
    outcome = two.ship()
    assert outcome.status == 0, outcome
    assert "settings of the last push" not in outcome.out
    assert [run.continues for run in two.runs] == ["", ""]
    assert {run.competition for run in two.runs} == {COMPETITION, *value} & {COMPETITION, OTHER}


def test_a_run_for_another_competition_is_not_submitted(two):
    change(two, "competition_sources", [OTHER])
    for command in ("submit 1", "submit 1 --again", "submit car-classification-v1"):
        outcome = two.ship(*command.split())
        assert outcome.status == 1
        assert f"car-classification-v1 is a run for {COMPETITION}" in outcome.sentence
        assert "`ship submit " in outcome.sentence
    assert two.kaggle.counts["submissions"] == 1


def test_a_file_of_ones_own_has_a_record_for_each_competition(two):
    mine = two.project / "mine.csv"
    shutil.copy(two.project / "runs" / "car-classification-v1" / "submission.csv", mine)
    assert two.ship("submit", "mine.csv").status == 0
    assert two.kaggle.counts["submissions"] == 1  # the very same file was submitted before
    change(two, "competition_sources", [OTHER])
    for _ in range(2):
        outcome = two.ship("submit", "mine.csv")
        assert outcome.status == 0, outcome
        assert "to the best so far" not in outcome.out
        assert two.kaggle.counts["submissions"] == 2
    change(two, "competition_sources", [COMPETITION])
    assert two.ship("submit", "mine.csv").status == 0
    assert two.kaggle.counts["submissions"] == 2
    assert [run.public_score for run in two.runs] == [SCORE] * 3


def test_the_best_and_the_tables_are_of_one_competition(two):
    change(two, "competition_sources", [OTHER])
    outcome = two.ship("--set", "skill=36")
    assert outcome.status == 0, outcome
    assert outcome.out.splitlines()[-1].endswith("car-classification-v2: 0.88889")
    first, second = two.ship("runs").out.split(f"{COMPETITION}:")
    assert first.startswith(f"{OTHER}:")
    assert "car-classification-v2" in first
    assert "car-classification-v1" in second
    assert "to first" not in first + second  # one run a competition
    rows = json.loads(two.ship("runs", "--json").out)["runs"]
    assert [(row["competition"], row["difference"]) for row in rows] == [
        (OTHER, None),
        (COMPETITION, None),
    ]
    outcome = two.ship("compare", "1", "2")
    assert outcome.status == 1
    assert "only runs for one competition are compared" in outcome.sentence
    assert two.ship("runs", "--html").status == 0
    assert (two.project / "runs" / "runs.html").read_text().count("the first run") == 2


def test_versions_of_two_owners_have_names_of_their_own(two):
    ledger = two.project / "runs" / "ledger.jsonl"
    text = ledger.read_text().replace('"alice/car-classification"', '"bob/car-classification"')
    ledger.write_text(text)
    outcome = two.ship("--set", "skill=36")
    assert outcome.status == 0, outcome
    names = [run.name for run in two.runs]
    assert names == ["car-classification-v1", "car-classification-v2"]
    assert "no run" not in two.ship("follow").sentence
    assert two.ship("adopt", "1").status == 0
    assert two.runs[-1].name == "alice-car-classification-v1"
    assert two.runs[-1].competition == COMPETITION
    assert two.runs[0].kernel == "bob/car-classification"


def test_networks_for_another_competition_predict_nothing(two):
    assert two.ship("--set", "model=yes").status == 0
    change(two, "competition_sources", [OTHER])
    outcome = two.ship("predict", "2", "--file")
    assert outcome.status == 1
    assert f"car-classification-v2 is a run for {COMPETITION}" in outcome.sentence
    assert two.kaggle.counts["datasets"] == 1


def test_the_sample_beside_a_file_may_be_of_another_competition(two):
    folder = two.project.parent / "elsewhere"
    folder.mkdir()
    for name in ("sample-submission.csv", "train.csv", "mine.csv"):
        (folder / name).write_text("Id,Category\n1.png,dog\n2.png,cat\n")
    outcome = two.ship("submit", str(folder / "mine.csv"))
    assert outcome.status == 1
    assert "has an Id that is not in the sample (1.png; 2 rows, the sample 9)" in outcome.sentence
    assert two.kaggle.counts["submissions"] == 1


def test_what_another_account_has_sent_is_not_taken_for_ones_own(two):
    """The user of an API token is known to Kaggle alone."""
    mine = two.project / "mine.csv"
    output = two.project / "runs" / "car-classification-v1" / "submission.csv"
    mine.write_text(output.read_text().replace("108.jpg,0", "108.jpg,1"))
    assert two.ship("submit", "mine.csv").status == 0
    object.__setattr__(two.kaggle.settings, "user", "bob")
    two.kaggle.store.state["submissions"].clear()
    token = {"KAGGLE_USERNAME": None, "KAGGLE_KEY": None, "KAGGLE_API_TOKEN": "t" * 40}
    for command in ("submit", "submit 1 --again", "predict --file"):
        outcome = two.ship(*command.split(), **token)
        assert outcome.status == 1
        assert "car-classification-v1 is a run of alice, and the credentials are bob's" in (
            outcome.sentence
        )
    assert two.kaggle.counts["submissions"] == 0
    assert two.ship("submit", "mine.csv", **token).status == 0
    assert two.kaggle.counts["submissions"] == 1
    assert two.ship("submit", "mine.csv", **token).status == 0
    assert two.kaggle.counts["submissions"] == 1
