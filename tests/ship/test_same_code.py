"""A run is of the code that it is recorded with: it was pushed for one version of the dataset."""

import json
import os
import subprocess
import sys

import pytest

from kernelkit.core.packages import packages_hash
from kernelkit.core.problem import Problem
from ship.project import contents
from ship.project.contents import copy_files, upload_files
from shipping import ONCE, REPOSITORY, SCORE, until

LIB = "alice/car-classification-lib"


def edit_lib(world, text: str = "X = 2\n") -> None:
    (world.project / "lib" / "photos" / "deep" / "inner.py").write_text(text)


def mounted(world) -> list[int]:
    """Return the dataset's version that each run has mounted."""
    [kernel] = world.kaggle.store.state["kernels"].values()
    return [version["mounted"][LIB] for version in kernel["versions"]]


def recorded(world) -> list[str]:
    return [run.dataset.rpartition("/")[2] for run in world.runs]


def test_a_lib_that_changed_is_uploaded_before_a_push_is_for_it(world):
    assert world.ship().status == 0
    edit_lib(world)
    outcome = world.ship("push")
    assert outcome.status == 1
    assert (
        f"dataset {LIB} version 1 at Kaggle does not hold the packages of lib/" in outcome.sentence
    )
    assert "`ship bundle` uploads them" in outcome.sentence
    assert world.ship().status == 0
    edit_lib(world, "X = 1\n")  # as at first, but the newest version is another one
    assert world.ship("push", "--set", "limit=8").status == 1
    assert world.ship("--set", "limit=8").status == 0
    assert mounted(world) == [1, 2, 3]
    assert recorded(world) == ["1", "2", "3"]
    assert all(run.found == run.packages for run in world.runs)
    assert len({run.packages for run in world.runs}) == 2


def test_a_push_waits_until_its_version_of_the_dataset_is_ready(world):
    world.ship("bundle")
    edit_lib(world)
    object.__setattr__(world.kaggle.settings, "dataset_delay", 2.0)
    process = world.start("bundle")
    until(lambda: world.kaggle.counts["dataset_versions"] == 2)
    process.kill()
    process.communicate()
    outcome = world.ship("push")
    assert outcome.status == 0, outcome
    assert world.ship("follow").status == 0
    assert mounted(world) == [2]
    assert world.kaggle.counts["dataset_versions"] == 2


def test_a_lib_is_not_uploaded_under_a_run_that_has_not_started(world):
    object.__setattr__(world.kaggle.settings, "queue_delay", 8.0)
    world.ship("bundle")
    assert world.ship("push", "--set", "seconds=1").status == 0
    edit_lib(world)
    outcome = world.ship("bundle")
    assert outcome.status == 0, outcome
    assert "car-classification-v1 has not started yet" in outcome.out
    assert world.ship().status == 0
    assert mounted(world) == [1, 2]


def mount_another(world, settings: tuple[str, ...] = ()) -> None:
    """Push for version 1, and let somebody else upload version 2 before the run starts."""
    world.ship("bundle")
    upload_at_next_push(world)
    assert world.ship("push", *settings).status == 0


def upload_at_next_push(world) -> None:
    """Let somebody else upload another version of the dataset before the run starts."""
    object.__setattr__(world.kaggle.settings, "queue_delay", 2.0)
    save = world.kaggle.kernels.SaveKernel

    def save_too_late(request):
        world.kaggle.kernels.SaveKernel = save
        tokens = world.kaggle.store.state["datasets"][LIB]["versions"][0]["tokens"]
        photos = next(
            t for t in tokens if world.kaggle.store.state["blobs"][t]["name"] == "photos.zip"
        )
        others = [{"token": token} for token in tokens if token != photos]
        more = zipped_package(world)
        body = {"files": [*others, {"token": more}], "versionNotes": "by hand"}
        owner, slug = LIB.split("/")
        ask = {"ownerSlug": owner, "datasetSlug": slug, "body": body}
        world.kaggle.datasets.CreateDatasetVersion(ask)
        return save(request)

    world.kaggle.kernels.SaveKernel = save_too_late


def zipped_package(world) -> str:
    """Upload a package with other contents, and return its token."""
    import io
    import zipfile

    with zipfile.ZipFile(data := io.BytesIO(), "w") as archive:
        archive.writestr("__init__.py", "Y = 1\n")
    token = world.kaggle.store.new_blob("photos.zip", len(data.getvalue()))
    world.kaggle.store.blob_path(token).write_bytes(data.getvalue())
    return token


def test_a_run_of_other_code_is_not_submitted(world):
    mount_another(world)
    outcome = world.ship()
    assert outcome.status == 1
    assert f"car-classification-v1 was pushed for dataset {LIB}/1 and found other packages" in (
        outcome.sentence
    )
    assert "`ship push --again`" in outcome.sentence
    assert world.kaggle.counts["submissions"] == 0
    assert mounted(world) == [2]
    assert "other code" in world.ship("runs").out
    assert "found other packages" in world.ship().sentence  # nor is it taken up
    file = str(world.project / "runs" / "car-classification-v1" / "submission.csv")
    assert world.ship("submit", file).status == 0  # a person's word
    assert world.ship("--again").status == 0
    assert mounted(world) == [2, 3]
    assert world.runs[-1].public_score == SCORE
    assert world.kaggle.counts["submissions"] == 1


def test_a_sweep_is_of_one_code_while_another_one_is_uploaded(world):
    process = world.start("sweep", "skill=30,36,39", "--set", "seconds=1.5")
    until(lambda: world.kaggle.counts["kernel_versions"] == 2)
    edit_lib(world)
    assert world.ship("bundle").status == 0
    assert process.wait(60) == 0, process.communicate()
    process.communicate()
    assert mounted(world) == [1, 1, 3]
    assert recorded(world) == ["1", "1", "3"]
    assert len({run.found for run in world.runs}) == 1


def test_what_an_older_ship_left_behind_is_no_obstacle(world):
    """A record without dataset and packages, and a state that knows its dataset otherwise."""
    assert world.ship().status == 0
    ledger, state = world.project / "runs" / "ledger.jsonl", world.project / "runs" / "state.json"
    rows = [json.loads(line) for line in ledger.read_text().splitlines()]
    for row in rows:
        for name in ("competition", "dataset", "packages", "found"):
            row.pop(name, None)
    ledger.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = json.loads(state.read_text())
    values["dataset"] = values.pop("datasets")[LIB]
    state.write_text(json.dumps(values))
    with world.kaggle.store.changing() as there:
        [version] = there["datasets"][LIB]["versions"]
        version["notes"] = "Initial release"
        version["files"] = [f for f in version["files"] if "contents-" not in f["name"]]
    for command in ((), ("bundle",), ("push",), ("submit",), ("runs",)):
        assert world.ship(*command).status == 0
    assert world.kaggle.counts == ONCE | {"dataset_versions": 2}


def test_an_edit_while_ship_waits_for_the_dataset_is_not_pushed_under_the_old_hash(world):
    """The kernel is edited between the first question about the dataset and the push."""
    world.ship("bundle")
    get, kernel = world.kaggle.datasets.GetDataset, world.project / "kernel.py"

    def edit_and_answer(request):
        world.kaggle.datasets.GetDataset = get
        kernel.write_text(kernel.read_text() + "print('edited')\n")
        return get(request)

    world.kaggle.datasets.GetDataset = edit_and_answer
    outcome = world.ship("push")
    assert outcome.status == 1
    assert "kernel.py was edited while its push was prepared" in outcome.sentence
    assert not world.calls("SaveKernel")
    assert world.ship("push").status == 0
    assert "print('edited')" in world.calls("SaveKernel")[0].body["text"]


def test_an_edit_while_the_lib_is_packed_is_not_uploaded_under_the_old_hash(world, monkeypatch):
    pack = contents.pack

    def edit_and_pack(files, archive):
        edit_lib(world)
        pack(files, archive)

    monkeypatch.setattr(contents, "pack", edit_and_pack)
    with pytest.raises(Problem, match="was edited while it was packed"):
        contents.stage_dataset(upload_files(world.project / "lib", []), {}, world.project, [])


def test_a_run_finds_the_hash_of_what_was_sent(tmp_path):
    """The packages as Kaggle mounts them, beside weights and without what stays here."""
    copy_files(upload_files(REPOSITORY / "lib", []), tmp_path / "lib")
    command = "from kernelkit.core.packages import packages_found; print(packages_found())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "lib")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", command], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == packages_hash(REPOSITORY / "lib"), done.stderr


def test_a_dataset_that_ship_has_not_made_gets_no_version_unasked(world):
    kaggle = world.kaggle
    token = kaggle.store.new_blob("photos.csv", 4)
    kaggle.store.blob_path(token).write_bytes(b"a,b\n")
    owner, slug = LIB.split("/")
    made = {"ownerSlug": owner, "slug": slug, "title": "My own photos", "licenseName": "MIT"}
    kaggle.datasets.CreateDataset(made | {"files": [{"token": token}], "isPrivate": True})
    for command in ((), ("bundle",), ("bundle",)):
        outcome = world.ship(*command)
        assert outcome.status == 1
        assert f"there is a dataset {LIB} at Kaggle that ship has not made" in outcome.sentence
    assert kaggle.counts["dataset_versions"] == 1
    assert world.ship("bundle", "--again").status == 0
    world.arrives_once(counts=ONCE | {"dataset_versions": 2})
