"""`ship doctor` finds what would fail later, and names the cure."""

import json
import re

import pytest

from kernelkit.core.boundary import Boundary
from ship.commands.doctor import computed_hours, findings
from ship.context import Context
from ship.project.project import Project
from shipping import COMPETITION, make_project


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("doctor"))


@pytest.fixture
def project(shared, monkeypatch):
    """The folder of a project, for what the doctor finds without Kaggle."""
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.setenv(name, "a-name-or-key")
    before = {path: path.read_bytes() for path in shared.iterdir() if path.is_file()}
    yield shared
    for path, content in before.items():
        path.write_bytes(content)


def found_here(project, check: str) -> str:
    """Make the local checks, expect this one and no other to fail, and return its text."""
    context = Context.of(Project(project), Boundary("ship", project / "traceback", ""), True)
    [bad] = [finding for finding in findings(context, {}) if finding.mark == "FAIL"]
    assert bad.name == check
    return bad.text


def spoil(project, name: str, **changes) -> None:
    path = project / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def failed(world, check: str, **changes: str) -> str:
    """Run the doctor, expect this check and no other to fail, and return its text."""
    outcome = world.ship("doctor", **changes)
    assert outcome.status == 1, outcome
    bad = [line for line in outcome.out.splitlines() if line.startswith("FAIL")]
    assert [line[6:23].strip() for line in bad] == [check], outcome.out
    return bad[0][24:]


def marked(world, mark: str, check: str) -> str:
    outcome = world.ship("doctor")
    lines = [line for line in outcome.out.splitlines() if line[6:23].strip() == check]
    assert lines[0].startswith(mark), outcome.out
    return lines[0][24:]


def test_all_is_well(world):
    assert world.ship("bundle").status == 0
    outcome = world.ship("doctor")
    assert outcome.status == 0
    assert "alice/car-classification-lib version 1 is READY" in outcome.out
    assert "FAIL" not in outcome.out
    assert "user name and key from KAGGLE_USERNAME and KAGGLE_KEY" in outcome.out


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"title": "Cars"}, '"title" is "Cars": string should have at least 5 characters'),
        ({"title": "Cars again"}, "must be that of the title: 'cars-again'"),
        ({"enable_internet": True}, '"enable_internet" is true: input should be False'),
        ({"enable_internet": None}, '"enable_internet" is null: field required'),
        ({"is_private": False}, '"is_private" is false: input should be True'),
        ({"enable_gpu": False}, '"enable_gpu" is false: input should be True'),
        ({"language": "r"}, '"language" is "r": input should be'),
        ({"kernel_type": "notebook"}, '"kernel_type" is "notebook": input should be'),
        ({"dataset_sources": []}, '"dataset_sources" must hold'),
    ],
)
def test_kernel_metadata(project, changes, text):
    spoil(project, "kernel-metadata.json", **changes)
    assert text in found_here(project, "kernel-metadata")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"title": "Cars!"}, '"title" is "Cars!": string should have at least 6 characters'),
        ({"title": "C" * 51}, "string should have at most 50 characters"),
        ({"licenses": []}, '"licenses" is []: list should have at least 1 item'),
        ({"licenses": [{"name": "MIT"}, {"name": "other"}]}, "list should have at most 1 item"),
        ({"licenses": [{"name": "WTF"}]}, "Kaggle knows no license 'WTF'"),
        ({"subtitle": "too short"}, '"subtitle" is "too short": string should have at least 20'),
    ],
)
def test_dataset_metadata(project, changes, text):
    spoil(project, "dataset-metadata.json", **changes)
    assert text in found_here(project, "dataset-metadata")


@pytest.mark.parametrize("slug", ["lib", "Car-Lib", "car_classification_lib", "c" * 51])
def test_dataset_slug(project, slug):
    ref = f"INSERT-YOUR-KAGGLE-USERNAME/{slug}"
    spoil(project, "dataset-metadata.json", id=ref)
    spoil(project, "kernel-metadata.json", dataset_sources=[ref])
    assert "must be 6 to 50 of a-z, 0-9 and dashes" in found_here(project, "dataset-metadata")


def test_the_owner_is_another(world):
    spoil(world.project, "dataset-metadata.json", id="bob/car-classification-lib")
    spoil(world.project, "kernel-metadata.json", dataset_sources=["bob/car-classification-lib"])
    assert "belongs to bob, but the credentials are alice's" in failed(world, "owner")


def test_the_owner_may_be_filled_in(world):
    spoil(world.project, "dataset-metadata.json", id="alice/car-classification-lib")
    spoil(world.project, "kernel-metadata.json", dataset_sources=["alice/car-classification-lib"])
    assert world.ship("doctor").status == 0


def test_no_id_at_all(world):
    spoil(world.project, "kernel-metadata.json", id=None)
    assert 'has no "id"' in world.ship("bundle").sentence


def test_metadata_that_is_no_json(world):
    (world.project / "dataset-metadata.json").write_text("{")
    said = world.ship("bundle").sentence
    assert f"dataset-metadata.json in {world.project} can't be read" in said
    assert "git checkout dataset-metadata.json" in said


def test_credentials_that_kaggle_refuses(world):
    outcome = world.ship("doctor", KAGGLE_KEY="wrong-key")
    assert outcome.status == 1
    assert outcome.sentence.startswith(
        "1 of 15 checks failed; competition: Kaggle refused the credentials (401; those from "
        "KAGGLE_USERNAME and KAGGLE_KEY)"
    )
    assert "accept the rules" not in outcome.out
    for command in ((), ("--force", "competition"), ("doctor", "--force", "competition")):
        outcome = world.ship(*command, KAGGLE_KEY="wrong-key")
        assert outcome.status == 1
        assert "renew them with `kaggle auth login`" in outcome.sentence
        assert "--force" not in outcome.sentence
    assert not world.kaggle.counts["kernel_versions"]


@pytest.mark.parametrize("code", [400, 418, 503])
def test_a_check_that_cannot_be_made_is_not_overridden(world, code):
    world.kaggle.faults.add("ListDataFiles", "status", times=99, code=code)
    for command in ((), ("--force", "competition")):
        outcome = world.ship(*command)
        assert outcome.status == 1
        assert str(code) in outcome.sentence
        assert "--force" not in outcome.sentence


def test_what_a_check_was_looking_for_is_overridden(world):
    world.kaggle.faults.add("ListDataFiles", "status", times=99, code=403)
    assert "accept the rules" in world.ship().sentence
    assert "`--force competition` goes on all the same" in world.ship().sentence
    assert world.ship("--force", "competition").status == 0


def test_a_kernel_that_does_not_compile(world):
    kernel = world.project / "kernel.py"
    kernel.write_text(kernel.read_text() + "\nif True\n")
    outcome = world.ship("doctor")
    assert "FAIL  kernel            kernel.py does not compile: line" in outcome.out


def test_files_of_an_editor_on_windows(world):
    pushed = world.ship("push", "--dry-run").out
    for name in ("kernel.py", "kernel-metadata.json", "dataset-metadata.json"):
        path = world.project / name
        path.write_text("\ufeff" + path.read_text(), encoding="utf-8", newline="\r\n")
    assert world.ship("doctor").status == 0
    assert world.ship("push", "--dry-run").out == pushed


def test_a_file_of_the_lib_that_does_not_compile(world):
    (world.project / "lib" / "photos" / "more.py").write_text("X = 1\ndef (\n")
    text = failed(world, "kernel")
    assert "lib/photos/more.py" in text
    assert "line 2" in text


def test_a_name_in_the_lib_that_no_encoding_has(world):
    file = world.project / "lib" / "photos" / "caf\udce9.py"
    file.touch()
    outcome = world.ship("bundle")
    assert "unexpected" not in outcome.sentence
    assert "caf\\udce9.py" in outcome.sentence


def test_a_competition_that_is_closed(world):
    closed = {"submissionsDisabled": True}
    world.kaggle.faults.add("GetCompetition", "merge", fields=closed)
    assert "takes no submissions" in marked(world, "warn", "submissions")


def test_a_kernel_without_its_block_of_overrides(world):
    kernel = world.project / "kernel.py"
    kernel.write_text(kernel.read_text().replace("# --- end of overrides ---", ""))
    outcome = world.ship("doctor")
    assert "must hold the marked block of overrides exactly once" in outcome.out


def test_weights_that_are_missing(world):
    kernel = world.project / "kernel.py"
    kernel.write_text(
        kernel.read_text().replace('"weights_files": []', '"weights_files": ["w.h5"]')
    )
    row = {"file": "w.h5", "url": "http://127.0.0.1:9/w.h5", "size": 5, "sha256": None, "md5": None}
    manifest = {"Tiny": row | {"licence": "MIT"}}
    (world.project / "lib" / "weights" / "manifest.json").write_text(json.dumps(manifest))
    outcome = world.ship("doctor")
    assert outcome.status == 1
    assert "run `ship weights Tiny`" in outcome.out
    assert "run `ship weights Tiny`" in world.ship("bundle").sentence


def test_a_competition_that_is_not_there_or_not_accepted(world):
    world.kaggle.faults.add("ListDataFiles", "status", code=403, message="accept the rules")
    assert "accept the rules of sf-dl-car-classification at https://" in failed(
        world, "competition"
    )
    world.kaggle.faults.add("ListDataFiles", "status", code=403, message="accept the rules")
    overridden = world.ship("doctor", "--force", "competition")
    assert overridden.status == 0
    assert re.search(r"^warn  competition .*\(overridden\)$", overridden.out, re.MULTILINE)
    world.kaggle.faults.add("ListDataFiles", "status", code=404)
    assert "there is no competition" in failed(world, "competition")
    world.kaggle.faults.add("ListDataFiles", "body", body={"files": [{"name": "cars.csv"}]})
    assert "has no train.csv but cars.csv" in failed(world, "competition")


@pytest.mark.parametrize("command", ["push", "sweep shift=0,1", "init"])
def test_without_the_rules_nothing_is_sent(world, command):
    assert world.ship("bundle").status == 0
    world.kaggle.faults.add("ListDataFiles", "status", code=403, message="You must accept them")
    assert f"competitions/{COMPETITION}/rules" in world.ship(*command.split()).sentence
    assert world.kaggle.counts["kernel_versions"] == 0


def test_the_gpu_time_that_is_left(world):
    def quota(used):
        hours = {"timeUsed": f"{used}s", "timeReserved": "0s", "totalTimeAllowed": "108000s"}
        world.kaggle.faults.add("GetAcceleratorQuotaStatistics", "body", body={"gpuQuota": hours})

    quota(107000)
    assert "17 minutes are left of this week's 30 hours of GPU time" in marked(
        world, "warn", "gpu-quota"
    )
    quota(90000)
    assert "5.0 h of GPU time left, the run may take 12.0 h" in marked(world, "warn", "gpu-quota")


def test_no_submissions_left(world):
    world.kaggle.faults.add("GetSubmissionLimits", "body", body={"numAllowedNow": 0})
    assert "no submissions are left today" in marked(world, "warn", "submissions")


def test_the_kernel_is_made_for_another_competition(world):
    spoil(world.project, "kernel-metadata.json", competition_sources=["titanic"])
    outcome = world.ship("doctor")
    assert "is made for sf-dl-car-classification, but kernel-metadata.json names titanic" in (
        outcome.out
    )


def test_a_failing_doctor_stops_ship(world):
    spoil(world.project, "dataset-metadata.json", title="Cars!")
    outcome = world.ship()
    assert outcome.status == 1
    assert outcome.sentence.startswith(
        '1 of 15 checks failed; dataset-metadata: dataset-metadata.json: "title"'
    )
    assert not [call for call in world.kaggle.requests if call.name == "StartBlobUpload"]


@pytest.mark.parametrize(
    ("minutes", "said"),
    [
        ([90, 30.0], "2.0 h (from published throughputs"),
        ([90, None], ""),  # a kernel that does not tell
        ([], ""),
    ],
)
def test_computed_gpu_hours_are_the_kernel_s_own(minutes, said):
    found = computed_hours(minutes)
    assert found.startswith(said)
    assert bool(found) == bool(said)
