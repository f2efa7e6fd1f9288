"""What Kaggle has is known by witnesses that live there: a second clone sends nothing again."""

import dataclasses
import re
import shutil

from shipping import ONCE, SCORE, World

LIB = "alice/car-classification-lib"


def clone(world) -> World:
    """Return a second clone of the project, which knows nothing, before the same Kaggle."""
    folder = world.project.with_name("clone")
    shutil.copytree(world.project, folder, ignore=shutil.ignore_patterns("runs"))
    return dataclasses.replace(world, project=folder)


def edit_lib(world, text: str) -> None:
    (world.project / "lib" / "photos" / "deep" / "inner.py").write_text(text)


def test_two_clones_in_turn_upload_nothing_twice(world):
    other = clone(world)
    for turn in (world, other, world, other):
        for command in ((), ("bundle",), ("bundle", "--set", "limit=8"), ("push",)):
            assert turn.ship(*command, "--defaults").status == 0
    assert world.kaggle.counts == ONCE
    assert other.runs[0].public_score == SCORE
    assert other.runs[0].dataset == f"{LIB}/1"
    edit_lib(world, "X = 2\n")
    edit_lib(other, "X = 2\n")
    for turn in (world, other, world, other):
        assert turn.ship().status == 0
    assert world.kaggle.counts["dataset_versions"] == 2
    assert world.kaggle.counts["kernel_runs"] == 2


def test_a_clone_of_other_code_does_not_have_what_ran_before_uploaded_again(world):
    other = clone(world)
    edit_lib(other, "X = 2\n")
    for turn in (world, other, world, other):
        assert turn.ship().status == 0
    shutil.rmtree(world.project / "runs")
    assert world.ship().status == 0  # the newest version of the dataset is the other clone's
    assert world.kaggle.counts["dataset_versions"] == 2
    assert world.kaggle.counts["kernel_runs"] == 2
    assert world.kaggle.counts["submissions"] == 1


def test_every_setting_that_has_run_is_known_when_the_records_are_lost(world):
    for skill in ("30", "36", "39"):
        assert world.ship("--set", f"skill={skill}").status == 0
    shutil.rmtree(world.project / "runs")
    outcome = world.ship("sweep", "skill=30,36,39", "--submit", "best")
    assert outcome.status == 0, outcome
    assert "3 settings, 0 to be run" in outcome.out
    assert world.kaggle.counts == ONCE | {"kernel_versions": 3, "kernel_runs": 3}
    shutil.rmtree(world.project / "runs")
    assert world.ship("--set", "skill=36").status == 0
    assert world.kaggle.counts["kernel_versions"] == 3
    asked = len(world.calls("GetKernel"))
    assert world.ship("--set", "limit=8").status == 0
    assert world.ship("--set", "limit=9").status == 0
    again = [call.body.get("versionLabel") for call in world.calls("GetKernel")[asked:]]
    assert again.count("v1") == 1  # the sources of old versions are asked for once
    assert "v2" not in again


def test_a_version_with_other_weights_is_enough_for_a_run_that_needs_fewer(world):
    """The hashes of a dataset's parts are apart: what it has more does no harm."""
    world.ship("bundle")
    edit_lib(world, "X = 2\n")
    world.ship("bundle")
    with world.kaggle.store.changing() as state:
        state["datasets"][LIB]["versions"][1]["notes"] += " 0123456789ab"
    shutil.rmtree(world.project / "runs")
    assert "version 2 is up to date" in world.ship("bundle").out
    with world.kaggle.store.changing() as state:
        version = state["datasets"][LIB]["versions"][1]
        version["notes"] = re.sub(r"holds \w+", "holds 0123456789ab", version["notes"])
    shutil.rmtree(world.project / "runs")
    assert "version 3 is READY" in world.ship("bundle").out


def test_a_version_that_has_failed_is_uploaded_again(world):
    world.ship("bundle")
    edit_lib(world, "X = 2\n")
    world.ship("bundle")
    with world.kaggle.store.changing() as state:
        state["datasets"][LIB]["versions"][1]["status"] = "FAILED"
    shutil.rmtree(world.project / "runs")
    assert "run the same command again" in world.ship("bundle").sentence
    assert world.ship("bundle").status == 0
    assert world.kaggle.counts["dataset_versions"] == 3


def test_a_kernel_that_was_deleted_and_made_again_counts_from_one(world):
    for limit in ("8", "9"):
        assert world.ship("--set", f"limit={limit}").status == 0
    shutil.rmtree(world.project / "runs")
    assert world.ship("--set", "limit=7").status == 0  # which has read both of the old versions
    (world.project / "runs" / "ledger.jsonl").unlink()
    with world.kaggle.store.changing() as state:
        state["kernels"].clear()
    shutil.rmtree(world.kaggle.store.folder / "kernels")
    for limit in ("1", "2"):
        assert world.ship("--set", f"limit={limit}").status == 0
    (world.project / "runs" / "ledger.jsonl").unlink()
    assert world.ship("push", "--set", "limit=8").status == 0
    assert world.runs[-1].version == 3  # the first version is no longer that of limit=8


def test_what_a_deleted_kernel_has_left_is_not_that_of_the_next_one(world):
    assert world.ship("--set", "shift=0").status == 0
    with world.kaggle.store.changing() as state:
        state["kernels"].clear()
    shutil.rmtree(world.kaggle.store.folder / "kernels")
    assert world.ship("push", "--set", "shift=1").status == 0
    [run] = world.runs
    assert (run.name, run.public_score) == ("car-classification-v1", None)
    outcome = world.ship("submit")
    assert outcome.status == 1
    assert "was not fetched for this car-classification-v1" in outcome.sentence
    for command in ("follow", "fetch", "submit"):
        assert world.ship(command).status == 0
    assert world.runs[0].public_score == 0.11111
    assert world.kaggle.counts["submissions"] == 2
