"""The real kaggle client works with the loopback Kaggle, and errs there as it does at Kaggle."""

import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from loopback_world import COMPETITION, SCRIPT, until, world_in

PUSHED = SCRIPT + (
    "import time\n"
    "for epoch in range(3):\n"
    "    print('epoch', epoch, flush=True)\n"
    "    time.sleep(2)\n"  # the client must be there before the last one, on a busy machine too
)

# Some false successes of the client are mended in 2.2.5; this tells whether they still occur.
CREDULOUS = Version(version("kaggle")) < Version("2.2.5")


@pytest.fixture
def world(tmp_path):
    with world_in(tmp_path, daily_submissions=1) as opened:
        yield opened
        assert opened.kaggle.connects == []


def start(world, *arguments, **changes):
    """Start the real client."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("KAGGLE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "kaggle", *map(str, arguments)],
        cwd=world.folder,
        env={**inherited, **world.kaggle.environment, **changes},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def client(world, *arguments, status=0, **changes):
    """Run the real client and return what it printed."""
    process = start(world, *arguments, **changes)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, f"{out}\n{err}"
    return out + err


def write_dataset(world):
    folder = world.folder / "staged"
    (folder / "photos" / "deep").mkdir(parents=True)
    (folder / "photos" / "__init__.py").write_text("")
    (folder / "photos" / "deep" / "inner.py").write_text("X = 1\n")
    (folder / "weights.h5").write_bytes(os.urandom(300_000))
    (folder / "empty.txt").write_bytes(b"")
    metadata = {"id": "alice/car-lib", "title": "car lib", "licenses": [{"name": "MIT"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(metadata))
    return folder


def write_kernel(world, text="pass", **changes):
    folder = world.folder / "kernel"
    folder.mkdir(exist_ok=True)
    (folder / "kernel.py").write_text(text)
    metadata = {
        "id": "alice/car-kernel",
        "title": "car kernel",
        "code_file": "kernel.py",
        "language": "python",
        "kernel_type": "script",
        "enable_gpu": True,
        "enable_internet": False,
        "machine_shape": "NvidiaTeslaT4",
        "competition_sources": [COMPETITION],
    }
    (folder / "kernel-metadata.json").write_text(json.dumps({**metadata, **changes}))
    return folder


def write_submission(world):
    path = world.folder / "submission.csv"
    path.write_text("Id,Category\na,0\nb,1\nc,2\nd,0\n")
    return path


def make_two_dataset_versions(world):
    staged = write_dataset(world)
    assert "being created" in client(world, "datasets", "create", "-p", staged, "-r", "zip")
    until(lambda: "ready" in client(world, "datasets", "status", "alice/car-lib"))
    (staged / "empty.txt").write_text("no more")
    version = ("datasets", "version", "-p", staged, "-m", "second", "-r", "zip")
    assert "being created" in client(world, *version)
    until(lambda: world.dataset_status() == "READY")
    listed = client(world, "datasets", "files", "alice/car-lib", "--csv").splitlines()[1:]
    sizes = {line.split(",")[0]: int(line.split(",")[1]) for line in listed}
    names = {"empty.txt": 7, "photos/__init__.py": 0, "photos/deep/inner.py": 6}
    assert sizes == {**names, "weights.h5": 300_000}


def push_and_follow_the_log(world):
    folder = write_kernel(world, PUSHED, dataset_sources=["alice/car-lib"])
    assert "Kernel version 1 successfully pushed" in client(world, "kernels", "push", "-p", folder)
    follow = start(world, "kernels", "logs", "-f", "alice/car-kernel")
    with follow:
        read = [(line.strip(), time.monotonic()) for line in follow.stdout]
    lines = [line for line, _ in read]
    # A warning comes through a pipe of its own and may stand anywhere among these lines.
    epochs = [(line, at) for line, at in read if line.startswith("epoch")]
    assert [line for line, _ in epochs] == ["epoch 0", "epoch 1", "epoch 2"]
    assert {"car-lib/photos/deep/inner.py", f"{COMPETITION}/train/1.jpg"} < set(lines)
    assert epochs[-1][1] - epochs[0][1] > 0.5, "the log did not come while the run went on"
    assert "COMPLETE" in client(world, "kernels", "status", "alice/car-kernel")
    assert '"data": "epoch 2\\n"' in client(world, "kernels", "logs", "alice/car-kernel")


@pytest.mark.slow
def test_from_a_folder_to_a_score(world):
    """Every command that a person would type, in order."""
    make_two_dataset_versions(world)
    push_and_follow_the_log(world)
    got = world.folder / "got"
    client(world, "kernels", "output", "alice/car-kernel", "-p", got, "--page-size", "1")
    assert (got / "figures" / "a b.png").read_bytes() == bytes(range(256))

    one_file = ("-f", "sample-submission.csv")
    client(world, "competitions", "download", COMPETITION, "-p", got, *one_file)
    assert (got / "sample-submission.csv").read_text().startswith("Id,Category")
    assert "train.csv" in client(world, "competitions", "files", COMPETITION)
    submit = ("competitions", "submit", COMPETITION, "-f", got / "submission.csv", "-m", "run 1")
    assert "Successfully submitted" in client(world, *submit)
    rows = client(world, "competitions", "submissions", COMPETITION, "--format", "json")
    assert [(r["description"], r["publicScore"]) for r in json.loads(rows)] == [
        ("run 1", "0.75000")
    ]
    assert "30.00h" in client(world, "quota")
    assert world.kaggle.counts == {
        "datasets": 1,
        "dataset_versions": 2,
        "kernel_versions": 1,
        "kernel_runs": 1,
        "submissions": 1,
    }


def test_a_token_and_a_wrong_key(tmp_path):
    with world_in(tmp_path, key="right", token="secret") as world:
        token = {"KAGGLE_API_TOKEN": "secret", "KAGGLE_KEY": ""}
        assert "30.00h" in client(world, "quota", **token)
        client(world, "quota", KAGGLE_KEY="wrong", status=1)


def test_uploads_are_resumed_and_repeated(world):
    staged, faults = write_dataset(world), world.kaggle.faults
    faults.add("StartBlobUpload", "status", code=429, retry_after=0)
    faults.add("PUT blob", "partial", fraction=0.4)
    faults.add("PUT blob", "drop", after=3)
    faults.add("CreateDataset", "drop")
    assert "being created" in client(world, "datasets", "create", "-p", staged, "-r", "zip")
    until(lambda: world.dataset_status() == "READY")
    assert world.kaggle.datasets.mounted("alice/car-lib") == 1
    kept = world.kaggle.datasets.folder_of("alice/car-lib", 1)
    for name in ("weights.h5", "photos/deep/inner.py", "empty.txt"):
        assert (kept / name).read_bytes() == (staged / name).read_bytes()
    assert world.kaggle.counts["dataset_versions"] == 1
    calls = [call.name for call in world.kaggle.requests]
    assert calls.count("PUT blob") == 6, "three files, a question, the rest, a repetition"
    assert calls.count("CreateDataset") == 2


# The client's false successes, which end with exit status 0


def test_a_push_that_was_refused(world):
    for _ in range(2):
        world.push("import time; time.sleep(60)", enableGpu=True)
    said = client(world, "kernels", "push", "-p", write_kernel(world))
    assert "Kernel push error: Maximum batch GPU session count" in said


def test_a_push_with_sources_that_do_not_exist(world):
    folder = write_kernel(
        world,
        dataset_sources=["alice/nothing"],
        model_sources=["a/b/keras/c/1"],
        kernel_sources=["alice/no-such-kernel"],
    )
    said = client(world, "kernels", "push", "-p", folder)
    assert "alice/nothing" in said
    assert "alice/no-such-kernel" in said
    assert "a/b" not in said
    assert "version 1 successfully pushed" in said


def test_a_dataset_whose_file_was_dropped(world):
    world.kaggle.faults.add("PUT blob", "status", code=403)
    arguments = ("datasets", "create", "-p", write_dataset(world), "-r", "zip")
    said = client(world, *arguments, status=0 if CREDULOUS else 1)
    assert "Upload unsuccessful" in said
    assert ("being created" in said) == CREDULOUS
    if CREDULOUS:
        until(lambda: world.dataset_status() == "READY")
        kept = world.kaggle.datasets.mounted("alice/car-lib")
        assert len([path for path in kept.iterdir() if path.name != "photos"]) < 3
    else:
        assert world.kaggle.counts["dataset_versions"] == 0


def test_a_dataset_that_was_refused(world):
    world.make_dataset({"a.txt": b"x"})
    world.kaggle.faults.add("GetDatasetStatus", "status", code=500)
    said = client(world, "datasets", "create", "-p", write_dataset(world), "-r", "zip")
    assert "Dataset creation error" in said
    assert "already in use" in said
    assert world.kaggle.counts["dataset_versions"] == 1


@pytest.mark.parametrize("code", [500, 503])
def test_a_submission_whose_upload_failed(world, code):
    world.kaggle.faults.add("PUT blob", "status", code=code)
    arguments = ("competitions", "submit", COMPETITION, "-f", write_submission(world), "-m", "x")
    client(world, *arguments, status=0 if CREDULOUS else 1)
    assert world.kaggle.counts["submissions"] == 0


def test_a_submission_that_was_refused(world):
    world.submit("Id,Category\n")
    path = write_submission(world)
    said = client(world, "competitions", "submit", COMPETITION, "-f", path, "-m", "x")
    assert "Submission not allowed" in said
    assert world.kaggle.counts["submissions"] == 1


def test_a_submission_that_could_not_be_scored(world):
    world.submission(world.submit("Id,Wrong\na,1\n")["ref"])
    said = client(world, "competitions", "submissions", COMPETITION)
    assert "ERROR" in said
    assert "columns" not in said


def test_no_submissions_in_json(world):
    said = client(world, "competitions", "submissions", COMPETITION, "--format", "json")
    assert said.strip() == "No submissions found"


def test_output_that_is_an_error(world):
    world.push()
    world.finish()
    world.kaggle.faults.add("GET output", "status", code=403)
    arguments = ("kernels", "output", "alice/car-kernel", "-p", world.folder / "got", "-o")
    said = client(world, *arguments, status=0 if CREDULOUS else 1)
    if CREDULOUS:
        first = world.output()["files"][0]["fileName"]
        assert "A fault on purpose" in (world.folder / "got" / first).read_text()
    else:
        assert "403" in said


def test_output_that_leaves_its_folder(world):
    world.push()
    world.finish()
    true = world.output()["files"][1]
    files = [true, {"fileName": "../escaped.txt", "url": true["url"]}]
    world.kaggle.faults.add("ListKernelSessionOutput", "merge", fields={"files": files})
    arguments = ("kernels", "output", "alice/car-kernel", "-p", world.folder / "got", "-o")
    client(world, *arguments, status=0 if CREDULOUS else 1)
    assert Path(world.folder, "escaped.txt").exists() == CREDULOUS


def test_states_of_a_run_that_are_no_end(world):
    world.push("raise SystemExit(1)")
    world.finish()
    status = ("kernels", "status", "alice/car-kernel")
    assert "Failure message" in client(world, *status)
    world.kaggle.faults.add("GetKernelSessionStatus", "body", body={})
    assert "QUEUED" in client(world, *status)
    world.kaggle.faults.add("GetKernelSessionStatus", "body", body={"status": "ON_HOLIDAY"})
    client(world, *status, status=1)
