"""From the repository to a score, with the real client and a Kaggle that runs what is pushed."""

import json
import random
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kernelkit.core.boundary import Boundary
from ship.context import Context, ShownConfig
from ship.project.project import Project
from shipping import COMPETITION, ONCE, SCORE, SENT, open_world, until

KERNEL = "alice/car-classification"


def test_one_command_goes_from_the_repository_to_a_score(world):
    outcome = world.arrives_once()
    assert f"{SCORE:.5f}" in outcome.out.splitlines()[-1]
    assert "-0.07949 to the reference's 0.96838" in outcome.out
    output = world.project / "runs" / "car-classification-v1"
    assert len(list(output.glob("file*.txt"))) == 25  # more than one page
    assert (output / "pictures" / "curve.png").read_bytes() == bytes(range(256))
    assert "val_accuracy 0.72" in (output / "car-classification.log").read_text()
    [row] = world.ledger_rows
    assert row["status"] == "complete"
    assert row["gpu_minutes"] >= 0


def test_the_log_is_shown_live_and_each_line_once(world):
    process = world.start("--set", "seconds=4")
    lines, status = [], ""
    for line in process.stdout:
        lines.append(line)
        if "epoch 1/2" in line:
            [version] = world.kaggle.store.state["kernels"][KERNEL]["versions"]
            status = version["status"]
    assert process.wait() == 0
    assert status == "RUNNING"
    assert sum("epoch 1/2" in line for line in lines) == 1
    assert sum("epoch 2/2" in line for line in lines) == 1


def test_a_second_ship_sends_nothing(world):
    world.arrives_once()
    before = len(world.kaggle.requests)
    outcome = world.arrives_once()
    assert len(world.kaggle.requests) == before  # nothing is even asked
    assert f"{SCORE:.5f}" in outcome.out.splitlines()[-1]


def test_a_change_in_the_lib_alone_is_checked_by_the_doctor(world):
    world.arrives_once()
    before = len(world.kaggle.requests)
    (world.project / "lib" / "photos" / "deep" / "inner.py").write_text("X = 2\n")
    world.ship()
    names = [call.name for call in world.kaggle.requests[before:]]
    assert "GetSubmissionLimits" in names, "only the doctor asks for these"
    assert names.index("GetSubmissionLimits") < names.index("CreateDatasetVersion")
    assert world.kaggle.counts["kernel_versions"] == 2


def test_answers_of_404_far_apart_do_not_end_the_following(world):
    for after in (0, 1, 2):
        world.kaggle.faults.add("GetKernelSessionStatus", "status", code=404, after=after)
    world.arrives_once("--set", "seconds=1", SHIP_RETRIES="2")
    assert world.kaggle.faults.take("GetKernelSessionStatus") is None


def test_each_step_is_a_command(world):
    for command in ("doctor", "bundle", "push", "follow", "fetch", "submit"):
        outcome = world.ship(command)
        assert outcome.status == 0, outcome
    assert world.kaggle.counts == ONCE
    outcome = world.ship("runs")
    assert "car-classification-v1" in outcome.out
    assert str(SCORE) in outcome.out
    assert world.ship("runs", "--csv").out.splitlines()[0].startswith("run,time,commit,")


def test_the_dataset_holds_nothing_but_what_it_should(world):
    (world.project / "lib" / "photos" / "inner.py~").write_text("x")
    assert "not sent, because it is no package or a link: notes in" in world.ship("bundle").out
    [version] = world.kaggle.store.state["datasets"]["alice/car-classification-lib"]["versions"]
    [witness] = {file["name"] for file in version["files"]} - SENT
    assert re.fullmatch(r"weights/contents-[0-9a-f]{12}\.txt", witness)
    sent = {blob["name"] for blob in world.kaggle.store.state["blobs"].values()}
    assert sent == {"ImageDataAugmentor.zip", "photos.zip", "weights.zip"}


def test_only_a_change_of_content_is_uploaded(world):
    world.ship("bundle")
    reading = world.project / "lib" / "ImageDataAugmentor" / "reading.py"
    reading.touch()
    (world.project / "lib" / "ImageDataAugmentor" / ".hidden").write_text("x")
    assert "is up to date" in world.ship("bundle").out
    reading.write_text("NAMES = [1]\n")
    assert "version 2 is READY" in world.ship("bundle").out
    assert world.kaggle.counts["dataset_versions"] == 2


def test_a_dataset_that_was_deleted_at_kaggle_is_created_again(world):
    world.ship("bundle")
    with world.kaggle.store.changing() as state:
        state["datasets"].clear()
    assert "version 1 is READY" in world.ship("bundle").out


def test_settings_reach_the_run_and_never_the_working_tree(world):
    before = {path: path.read_bytes() for path in world.project.rglob("*") if path.is_file()}
    assert world.ship("push").sentence.endswith("run `ship bundle` first.")
    world.ship("bundle")
    outcome = world.ship("push", "--set", "seconds=0.1", "--set", "backbone=Xception")
    assert outcome.status == 0, outcome
    script = world.calls("SaveKernel")[0].body["text"]
    assert "'backbone': 'Xception'" in script
    for path, content in before.items():
        assert path.read_bytes() == content
    assert world.ship().status == 0  # goes on with the settings of the last push
    assert world.kaggle.counts["kernel_versions"] == 1
    [row] = world.ledger_rows
    assert row["settings"] == {"seconds": "0.1", "backbone": "Xception"}
    assert world.ship("push", "--defaults").status == 0
    assert world.kaggle.counts["kernel_versions"] == 2


def test_a_setting_that_the_kernel_does_not_know_is_refused_before_anything_is_sent(world):
    outcome = world.ship("push", "--set", "bakcbone=Xception")
    assert outcome.status == 1
    assert outcome.sentence == ("kernel.py refuses its settings: there is no setting 'bakcbone'")
    assert not world.calls("SaveKernel")


def test_the_kernel_is_pushed_as_kaggle_wants_it(world):
    world.ship("bundle")
    world.ship("push")
    [call] = world.calls("SaveKernel")
    assert call.body["slug"] == "alice/car-classification"
    assert call.body["datasetDataSources"] == ["alice/car-classification-lib"]
    assert call.body["competitionDataSources"] == [COMPETITION]
    assert call.body["machineShape"] == "NvidiaTeslaT4"
    assert call.body["enableGpu"] is True
    assert call.body["isPrivate"] is True
    assert call.body.get("enableInternet", False) is False


@pytest.mark.parametrize("command", ["", "bundle", "push", "doctor"])
def test_a_dry_run_sends_nothing_and_writes_no_state(world, command):
    outcome = world.ship(*command.split(), "--dry-run")
    assert outcome.status == 0, outcome
    assert world.kaggle.requests == []
    assert not (world.project / "runs" / "state.json").exists()


def test_dry_runs_of_the_later_steps_send_nothing(world):
    world.arrives_once()
    before = len(world.kaggle.requests)
    for command in ("follow", "fetch", "submit", "runs"):
        assert world.ship(command, "--dry-run").status == 0
    assert len(world.kaggle.requests) == before


def test_a_failed_run_shows_the_end_of_its_log_and_is_pushed_again(world):
    outcome = world.ship("--set", "fail=out of memory")
    assert outcome.status == 1
    assert "car-classification-v1 ended with ERROR" in outcome.err
    assert "    out of memory" in outcome.err
    assert "what to do: correct kernel.py" in outcome.err
    assert world.ship("--defaults").status == 0
    assert world.kaggle.counts["kernel_runs"] == 2
    assert [row["status"] for row in world.ledger_rows] == ["error", "complete"]


def test_a_changed_kernel_is_a_new_run(world):
    world.arrives_once()
    kernel = world.project / "kernel.py"
    kernel.write_text(kernel.read_text().replace("% 3", "% 3 * 1"))
    outcome = world.ship()
    assert outcome.status == 0
    assert "submitted before, as 40000001: it is not sent again" in outcome.out  # the same file
    assert [row["public_score"] for row in world.ledger_rows] == [SCORE, SCORE]
    assert world.kaggle.counts["kernel_runs"] == 2
    kernel.write_text(kernel.read_text().replace("% 3 * 1", "% 2"))
    assert "to the best so far 0.88889" in world.ship().out
    assert world.kaggle.counts["submissions"] == 2


def test_the_same_file_is_not_sent_again_but_its_score_is_taken_up(world):
    world.arrives_once()
    outcome = world.ship("submit")
    assert outcome.status == 0
    assert f"public score of car-classification-v1: {SCORE}" in outcome.out
    copy = world.project / "copy.csv"
    copy.write_bytes(
        (world.project / "runs" / "car-classification-v1" / "submission.csv").read_bytes()
    )
    outcome = world.ship("submit", "copy.csv")
    assert "submitted before, as 40000001: it is not sent again" in outcome.out
    assert f"public score of copy.csv: {SCORE}" in outcome.out
    assert world.kaggle.counts["submissions"] == 1
    assert world.ship("submit", "--again").status == 0
    assert world.kaggle.counts["submissions"] == 2


def test_a_file_of_ones_own_is_submitted(world):
    rows = [f"{number}.jpg,{number % 3}" for number in range(101, 110)]
    (world.project / "mine.csv").write_text("\n".join(["Id,Category", *rows]) + "\n")
    outcome = world.ship("submit", "mine.csv")
    assert outcome.status == 0, outcome
    assert f"public score of mine.csv: {SCORE:.5f}" in outcome.out
    [run] = world.runs
    assert (run.name[:9], run.public_score, run.submission.ref) == ("mine.csv-", SCORE, 40000001)


def test_a_bad_submission_is_not_sent(world):
    outcome = world.ship("--set", "label=1")
    assert outcome.status == 1
    assert "has the label '1' in every row: nothing was submitted." in outcome.sentence
    assert "`ship submit FILE`" in outcome.sentence
    assert not world.calls("StartSubmissionUpload", "CreateSubmission")


def test_a_submission_that_is_not_there_any_more(world):
    world.go_to_the_submission()
    shutil.rmtree(world.project / "runs" / "car-classification-v1")
    assert "`ship fetch car-classification-v1`" in world.ship("submit").sentence


def test_a_submission_that_is_no_longer_taken_today(tmp_path):
    with open_world(tmp_path, daily_submissions=0) as world:
        assert "`ship submit car-classification-v1`" in world.ship().sentence


def test_an_edited_kernel_that_does_not_compile_is_named(world):
    world.go_to_the_submission()
    (world.project / "kernel.py").write_text("X = 1\ndef (\n")
    assert "line 2" in world.ship("submit").sentence


def test_a_code_competition_gets_the_kernels_version(world):
    world.go_to_the_submission()
    outcome = world.ship("submit", "--code")
    assert outcome.status == 0, outcome
    [call] = world.calls("CreateCodeSubmission")
    assert call.body["kernelSlug"] == "car-classification"
    assert call.body["kernelVersion"] == 1
    assert call.body["fileName"] == "submission.csv"


def test_the_sample_is_downloaded_once(world):
    world.ship("--set", "label=1")
    world.ship("submit")
    assert len(world.calls("DownloadDataFile")) == 1


def test_exactly_the_version_asked_for_is_fetched(world):
    world.arrives_once()
    assert world.ship("push", "--set", "label=2").status == 0
    world.ship("follow")
    assert world.ship("fetch", "--version", "1").status == 0
    assert world.ship("fetch").status == 0
    submission = world.project / "runs" / "car-classification-v2" / "submission.csv"
    assert {line.split(",")[1] for line in submission.read_text().splitlines()[1:]} == {"2"}


def test_a_run_that_is_not_over_is_not_fetched(world):
    world.ship("bundle")
    world.ship("push", "--set", "seconds=3")
    assert "wait for its end with `ship follow`" in world.ship("fetch").sentence
    assert not list((world.project / "runs").glob("car-classification-v1*"))
    world.ship("follow")
    assert world.ship("fetch").status == 0


def test_a_doctor_beside_a_ship_leaves_its_state_alone(world):
    world.arrives_once()
    before = (world.project / "runs" / "state.json").read_bytes()
    assert world.ship("doctor", "--set", "seconds=1").status == 0
    assert (world.project / "runs" / "state.json").read_bytes() == before


def test_two_ships_at_once_in_one_project(world):
    world.ship("bundle")
    world.kaggle.faults.add("SaveKernel", "late", seconds=1.5)
    first = world.start("--set", "seconds=3")
    until(lambda: world.calls("SaveKernel"))
    second = world.ship("push", "--set", "seconds=3")
    assert f"another ship is sending something of this project (process {first.pid}" in second.out
    assert "car-classification-v1 is pushed, nothing has changed since" in second.out
    for line in first.stdout:
        if "RUNNING" in line:
            break
    second = world.ship("follow")
    assert f"another ship is at work on car-classification-v1 (process {first.pid}" in (
        second.sentence
    )
    first.kill()
    first.communicate()
    world.arrives_once("--set", "seconds=3")


def test_ships_at_once_share_what_the_kernel_answers(world, monkeypatch):
    world.ship("doctor")
    answer = json.loads((world.project / "runs" / "config.json").read_text())["config"]
    monkeypatch.setattr(Project, "show_config", lambda project, text: answer)

    def ask(number: int) -> ShownConfig:
        context = Context.of(Project(world.project), Boundary("ship", Path("x"), ""))
        return context.shown_config({"limit": str(number)})

    with ThreadPoolExecutor(8) as pool:
        shown = list(pool.map(ask, range(80)))
    assert shown == [ShownConfig.model_validate(answer)] * 80


def test_ships_at_once_share_the_sample(world):
    assert world.ship("sweep", "shift=0,1").status == 0
    world.kaggle.faults.add("GET data", "late", seconds=0.7)
    world.until_done([("submit", "--version", version) for version in "12"], attempts=4)
    assert len(world.calls("DownloadDataFile")) == 1
    assert world.kaggle.counts["submissions"] == 2


def test_outside_of_a_project(world, tmp_path):
    outcome = world.ship("--project", str(tmp_path))
    assert outcome.status == 1
    assert outcome.sentence.startswith("there is no kernel-metadata.json in")


def test_an_interrupted_upload_goes_on_where_it_was(world):
    big = world.project / "lib" / "photos" / "data.npz"
    big.write_bytes(bytes(range(256)) * 8192)  # 2 MiB, not packed
    world.kaggle.faults.add("PUT blob", "partial", after=1, fraction=0.5)
    outcome = world.ship("bundle")
    assert outcome.status == 0, outcome
    puts = [call for call in world.kaggle.requests if call.name == "PUT blob"]
    assert len(puts) == 3 + 2  # the broken one, the question how much arrived, the rest
    folder = world.kaggle.datasets.folder_of("alice/car-classification-lib", 1)
    assert (folder / "photos" / "data.npz").read_bytes() == big.read_bytes()


def test_a_slow_upload_goes_on_as_long_as_it_brings_bytes(world):
    """It takes many times the client's timeout, and more attempts than a call has."""
    big = world.project / "lib" / "photos" / "data.npz"
    big.write_bytes(random.Random(0).randbytes(1 << 20))
    world.kaggle.faults.add("PUT blob", "slow", times=999, rate=150_000)
    outcome = world.ship("bundle", SHIP_TIMEOUT="1", SHIP_RETRIES="1")
    assert outcome.status == 0, outcome
    assert len(world.calls("PUT blob")) > 8
    starts = [call.body["name"] for call in world.calls("StartBlobUpload")]
    assert len(starts) == 3  # none is begun anew
    folder = world.kaggle.datasets.folder_of("alice/car-classification-lib", 1)
    assert (folder / "photos" / "data.npz").read_bytes() == big.read_bytes()


def test_an_upload_that_brings_nothing_ends(world):
    world.kaggle.faults.add("PUT blob", "slow", times=999, rate=1)
    outcome = world.ship("bundle", SHIP_TIMEOUT="0.3", SHIP_RETRIES="1")
    assert "Kaggle gave no usable answer about the upload" in outcome.sentence


def test_an_upload_goes_on_in_another_process(world):
    big = world.project / "lib" / "photos" / "data.npz"
    big.write_bytes(bytes(range(256)) * 8192)
    world.kaggle.faults.add("PUT blob", "partial", after=1, fraction=0.5)
    world.kaggle.faults.add("PUT blob", "hang", after=1, seconds=30)
    process = world.start("bundle", SHIP_TIMEOUT="30")
    until(lambda: len(world.calls("PUT blob")) == 3)
    process.kill()
    process.communicate()
    world.kaggle.faults.clear()
    assert world.ship("bundle").status == 0
    starts = [call.body["name"] for call in world.calls("StartBlobUpload")]
    assert len(starts) == 3  # none is begun anew
    folder = world.kaggle.datasets.folder_of("alice/car-classification-lib", 1)
    assert (folder / "photos" / "data.npz").read_bytes() == big.read_bytes()


def test_staged_archives_are_the_same_bytes_each_time(world):
    staged = world.project / "runs" / "staged"
    world.kaggle.faults.add("PUT blob", "status", times=100)
    contents = []
    for _ in range(2):
        world.ship("bundle")
        [folder] = staged.glob("dataset-*")
        contents.append({file.name: file.read_bytes() for file in folder.iterdir()})
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        "dataset-metadata.json",
        "ImageDataAugmentor.zip",
        "photos.zip",
        "weights.zip",
    }


def test_the_metadata_of_the_repository_is_what_kaggle_takes(world):
    outcome = world.ship("doctor")
    assert outcome.status == 0, outcome
    metadata = json.loads((world.project / "kernel-metadata.json").read_text())
    assert metadata["id"].startswith("INSERT-YOUR-KAGGLE-USERNAME/")
