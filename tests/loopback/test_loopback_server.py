"""The loopback Kaggle keeps state, refuses, runs and scores as Kaggle does."""

import json
import socket
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import requests
from urllib3.exceptions import ProtocolError

from faulty import FaultyLoopback
from loopback import sandbox as box
from loopback_world import COMPETITION, SCRIPT, make_competition, until, world_in, zipped

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def world(tmp_path):
    with world_in(tmp_path) as opened:
        yield opened


# Credentials


def test_a_call_without_credentials_is_refused(world):
    answer = world.ask("GetAcceleratorQuotaStatistics", auth=None)
    assert answer.status_code == 401
    assert answer.json() == {"code": 401, "message": "Unauthenticated"}
    assert world.ask("GetAcceleratorQuotaStatistics", auth=("bob", "key")).status_code == 401


def test_only_the_key_and_token_that_were_set_are_accepted(tmp_path):
    with world_in(tmp_path, key="right", token="secret") as world:
        assert (
            world.ask("GetAcceleratorQuotaStatistics", auth=("alice", "wrong")).status_code == 401
        )
        assert (
            world.ask("GetAcceleratorQuotaStatistics", auth=("alice", "right")).status_code == 200
        )

        def bearer(token):
            def sign(request):
                request.headers["Authorization"] = f"Bearer {token}"
                return request

            return sign

        assert world.ask("GetAcceleratorQuotaStatistics", auth=bearer("secret")).status_code == 200
        assert world.ask("GetAcceleratorQuotaStatistics", auth=bearer("other")).status_code == 401
        known = world.ask("IntrospectToken", auth=None, token="secret").json()
        assert known == {"active": True, "username": "alice"}
        assert world.ask("IntrospectToken", auth=None, token="x").json() == {}  # not active


def test_no_secret_is_kept(tmp_path):
    with world_in(tmp_path, key="k3y-of-alice", token="t0ken-of-alice") as world:
        world.get("GetAcceleratorQuotaStatistics", auth=("alice", "k3y-of-alice"))
        world.ask("IntrospectToken", auth=None, token="t0ken-of-alice")
        world.ask("GetAcceleratorQuotaStatistics", auth=("alice", "wr0ng-of-alice"))
        seen = repr(world.kaggle.requests)
    files = [path.read_bytes() for path in (tmp_path / "kaggle").rglob("*") if path.is_file()]
    assert "-of-alice" not in seen
    assert not any(b"-of-alice" in data for data in files)


def test_attempts_to_leave_are_recorded_and_refused(world):
    proxies = {"http": world.kaggle.url, "https": world.kaggle.url}
    with requests.Session() as session:
        session.trust_env = False
        with pytest.raises(requests.exceptions.ProxyError):
            session.get("https://www.kaggle.com/", proxies=proxies, timeout=10)
        assert session.get("http://example.com/x", proxies=proxies, timeout=10).status_code == 403
    assert world.kaggle.connects == ["www.kaggle.com:443", "http://example.com/x"]


def test_unknown_methods_and_files_are_not_found(world):
    assert world.ask("MakeDatasetCoffee").status_code == 404
    assert requests.get(world.kaggle.url + "/", timeout=10).status_code == 404
    method = f"{world.kaggle.url}/api/v1/kernels.KernelsApiService/GetAcceleratorQuotaStatistics"
    assert requests.post(method, data="{", timeout=10).status_code == 400
    for name in ("output/alice/x/1/y", "data/none/x", "archive/x.zip"):
        assert requests.get(f"{world.kaggle.url}/files/{name}", timeout=10).status_code in (
            403,
            404,
        )


# Uploads and datasets


def test_an_interrupted_upload_can_be_asked_about_and_resumed(world):
    data = bytes(range(250)) * 400
    started = world.get("StartBlobUpload", name="a.bin", contentLength=len(data))
    url, total = started["createUrl"], len(data)

    def put(body, content_range):
        return requests.put(url, data=body, headers={"Content-Range": content_range}, timeout=10)

    nothing = put(b"", f"bytes */{total}")
    assert (nothing.status_code, "Range" in nothing.headers) == (308, False)

    def kept_after_a_hang_up() -> str | None:
        send_and_hang_up(url, data[:30_000], total)
        time.sleep(0.2)  # a question ends the request before it, which may still be written
        return put(b"", f"bytes */{total}").headers.get("Range")

    until(lambda: kept_after_a_hang_up() == "bytes=0-29999")
    assert put(data[40_000:], f"bytes 40000-{total - 1}/{total}").status_code == 400
    assert put(data[30_000:], f"bytes 30000-{total - 1}/{total + 1}").status_code == 400
    assert put(data[30_000:], f"bytes 30000-{total - 1}/{total}").status_code == 200
    assert put(b"", f"bytes */{total}").status_code == 200
    assert world.kaggle.store.finished_blob(started["token"])[1].read_bytes() == data


def send_and_hang_up(url, part, total):
    """Send the beginning of a body and break the connection."""
    host, port = url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"PUT {url} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {total}\r\n\r\n"
        connection.sendall(head.encode() + part)


def test_uploads_that_make_no_sense_are_refused(world):
    for name in ("", "../x", "a/b", None):
        assert world.ask("StartBlobUpload", name=name, contentLength=1).status_code == 400
    url = world.kaggle.file_url("upload", "no-such-token")
    assert requests.put(url, data=b"x", timeout=10).status_code == 404
    started = world.get("StartBlobUpload", name="a", contentLength=10)
    request = {"ownerSlug": "alice", "slug": "car-lib", "title": "car lib", "licenseName": "MIT"}
    early = world.ask("CreateDataset", **request, files=[{"token": started["token"]}])
    assert (early.status_code, early.json()["message"]) == (400, "The upload of a is not complete")
    assert world.kaggle.counts["dataset_versions"] == 0
    assert world.kaggle.counts["datasets"] == 0


def test_archives_are_unpacked_under_their_own_name(world):
    photos = zipped({"__init__.py": "x", "deep/inner.py": "y"})
    world.make_dataset({"photos.zip": photos, "a.whl": zipped({"z.py": "z"})})
    listed = world.get("ListDatasetFiles", ownerSlug="alice", datasetSlug="car-lib")
    names = [file["name"] for file in listed["datasetFiles"]]
    assert names == ["a.whl", "photos/__init__.py", "photos/deep/inner.py"]
    assert listed["datasetFiles"][1]["totalBytes"] == 1


def test_file_lists_come_in_pages(world):
    world.make_dataset({f"{number:02}.txt": b"x" for number in range(7)})
    names, token = [], "0"
    while token:
        where = {"ownerSlug": "alice", "datasetSlug": "car-lib", "pageToken": token, "pageSize": 3}
        page = world.get("ListDatasetFiles", **where)
        assert len(page["datasetFiles"]) <= 3
        names += [file["name"] for file in page["datasetFiles"]]
        token = page.get("nextPageToken")
    assert names == [f"{number:02}.txt" for number in range(7)]
    bad = {"ownerSlug": "alice", "datasetSlug": "car-lib", "pageToken": "x"}
    assert world.ask("ListDatasetFiles", **bad).status_code == 400


def test_a_dataset_passes_through_its_states(tmp_path):
    with world_in(tmp_path, dataset_delay=1.5) as world:
        request = {"ownerSlug": "alice", "slug": "car-lib", "title": "car lib"}
        token = world.upload("a.txt", b"x")
        world.get("CreateDataset", **request, licenseName="MIT", files=[{"token": token}])
        seen = []
        until(lambda: seen.append(world.dataset_status()) or seen[-1] == "READY")
    assert {"NOT_YET_PERSISTED", "BLOBS_RECEIVED", "BLOBS_DECOMPRESSED"} <= set(seen)


def test_a_broken_archive_fails_and_is_not_mounted(world):
    token = world.upload("photos.zip", b"not a zip")
    request = {"ownerSlug": "alice", "slug": "car-lib", "title": "car lib", "licenseName": "MIT"}
    assert world.get("CreateDataset", **request, files=[{"token": token}])["status"] == "Ok"
    until(lambda: world.dataset_status() == "FAILED")
    pushed = world.push(datasetDataSources=["alice/car-lib"])
    assert pushed["invalidDatasetSources"] == ["alice/car-lib"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"slug": "ab"}, "slug"),
        ({"slug": "Bad Slug"}, "slug"),
        ({"title": "short"}, "between 6 and 50"),
        ({"title": "x" * 51}, "between 6 and 50"),
        ({"licenseName": ""}, "license"),
        ({"files": []}, "at least one file"),
        ({}, "already in use"),
    ],
)
def test_a_dataset_that_kaggle_refuses_is_refused(world, change, problem):
    files = [{"token": world.upload("a.txt", b"x")}]
    if not change:
        world.make_dataset({"a.txt": b"x"})
    good = {"ownerSlug": "alice", "slug": "car-lib", "title": "car lib", "licenseName": "MIT"}
    answer = world.get("CreateDataset", **{**good, "files": files, **change})
    assert answer["status"] == "error"
    assert problem in answer["error"]


def test_only_the_own_account_can_be_written_to(world):
    request = {"slug": "car-lib", "title": "car lib", "licenseName": "MIT", "files": []}
    assert world.ask("CreateDataset", ownerSlug="bob", **request).status_code == 403
    answer = world.ask("SaveKernel", slug="bob/car-kernel", newTitle="car kernel", text="x")
    assert answer.status_code == 403
    unknown = {"ownerSlug": "alice", "datasetSlug": "nothing"}
    for method in ("GetDatasetStatus", "GetDataset", "ListDatasetFiles", "CreateDatasetVersion"):
        assert world.ask(method, **unknown).status_code == 404


def test_a_new_version_holds_its_own_files_alone(world):
    world.make_dataset({"a.txt": b"old"})
    body = {"versionNotes": "second", "files": [{"token": world.upload("b.txt", b"new")}]}
    where = {"ownerSlug": "alice", "datasetSlug": "car-lib"}
    assert world.get("CreateDatasetVersion", **where, body=body)["status"] == "Ok"
    until(lambda: world.dataset_status() == "READY")
    assert world.get("GetDataset", **where)["currentVersionNumber"] == 2
    world.push(datasetDataSources=["alice/car-lib"])
    world.finish()
    assert world.lines() == ["car-lib/b.txt"]
    old = world.get("ListDatasetFiles", **where, datasetVersionNumber=1)
    assert [file["name"] for file in old["datasetFiles"]] == ["a.txt"]
    assert world.ask("ListDatasetFiles", **where, datasetVersionNumber=3).status_code == 404
    assert world.kaggle.counts["dataset_versions"] == 2


# Kernels


@pytest.mark.parametrize("layout", list(box.LAYOUTS))
def test_a_run_sees_exactly_its_sources(tmp_path, layout):
    with world_in(tmp_path, mount=layout) as world:
        world.make_dataset({"photos.zip": zipped({"reading.py": "x"})})
        world.push(
            datasetDataSources=["alice/car-lib"],
            competitionDataSources=[COMPETITION],
        )
        assert world.finish() == {"status": "COMPLETE"}
        places = {
            "lib": box.mount_path(layout, "dataset", "alice", "car-lib"),
            "competition": box.mount_path(layout, "competition", "", COMPETITION),
        }
        files = ("sample-submission.csv", "train.csv", "train/1.jpg")
        expected = {f"{places['competition']}/{name}" for name in files}
        assert set(world.lines()) == expected | {f"{places['lib']}/photos/reading.py"}


def test_output_of_one_kernel_is_input_of_another(world):
    world.push()
    world.finish()
    world.push(
        slug="alice/second-kernel", newTitle="second kernel", kernelDataSources=["alice/car-kernel"]
    )
    world.finish(slug="second-kernel")
    assert "car-kernel/submission.csv" in world.lines(slug="second-kernel")


def test_states_of_a_run_in_order(tmp_path):
    with world_in(tmp_path, queue_delay=0.4) as world:
        world.push("import time; print('working', flush=True); time.sleep(0.5)")
        seen = []
        until(lambda: seen.append(world.status()["status"]) or seen[-1] == "COMPLETE")
        assert list(dict.fromkeys(seen)) == ["QUEUED", "RUNNING", "COMPLETE"]
        assert world.lines() == ["working"]


def test_a_script_that_fails_ends_in_error(world):
    world.push("import sys; print('started'); sys.exit('bad data')")
    ended = world.finish()
    assert ended["status"] == "ERROR"
    assert "exit status 1" in ended["failureMessage"]
    log = json.loads(world.output()["log"])
    assert sorted((e["stream_name"], e["data"]) for e in log) == [
        ("stderr", "bad data\n"),
        ("stdout", "started\n"),
    ]
    assert all(0 < entry["time"] < 30 for entry in log)


def test_a_run_over_its_time_limit_is_cancelled(world):
    world.push("import time; print('up', flush=True); time.sleep(60)", sessionTimeoutSeconds=1)
    assert world.finish()["status"] == "CANCEL_ACKNOWLEDGED"


def test_versions_are_told_apart_by_their_label(world):
    assert world.push("raise SystemExit(1)")["versionNumber"] == 1
    world.finish()
    assert world.push("print('second')")["versionNumber"] == 2
    world.finish()
    assert world.status(versionLabel="v1")["status"] == "ERROR"
    assert world.status(versionLabel="v2")["status"] == "COMPLETE"
    assert world.lines(versionLabel="v1") == []
    where = {"userName": "alice", "kernelSlug": "car-kernel"}
    for label in ("v9", "v0", "2", "Version 2"):
        assert world.ask("GetKernelSessionStatus", **where, versionLabel=label).status_code == 404
    described = world.get("GetKernel", **where)
    assert described["metadata"]["currentVersionNumber"] == 2
    assert described["blob"]["source"] == "print('second')"
    unknown = world.ask("GetKernelSessionStatus", userName="alice", kernelSlug="unknown")
    assert unknown.status_code == 403


def test_sources_that_do_not_exist_are_named(world):
    pushed = world.push(
        "pass",
        datasetDataSources=["alice/nothing"],
        competitionDataSources=["no-cars"],
        kernelDataSources=["alice/none"],
        modelDataSources=["a/b/keras/c/1"],
    )
    assert pushed["versionNumber"] == 1
    invalid = {key: value for key, value in pushed.items() if key.startswith("invalid")}
    assert invalid == {
        "invalidDatasetSources": ["alice/nothing"],
        "invalidCompetitionSources": ["no-cars"],
        "invalidKernelSources": ["alice/none"],
        "invalidModelSources": ["a/b/keras/c/1"],
    }


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"newTitle": "four"}, "five characters"),
        ({"text": ""}, "no source code"),
        ({"kernelType": "notebook"}, "scripts only"),
    ],
)
def test_a_push_that_kaggle_refuses_is_an_error(world, change, problem):
    assert problem in world.push(**{"text": "pass", **change})["error"]
    assert world.kaggle.counts["kernel_versions"] == 0


def test_a_new_kernel_gets_the_slug_of_its_title(world):
    pushed = world.push("pass", slug="alice/other", newTitle="My Car Kernel!")
    assert pushed["ref"] == "/code/alice/my-car-kernel"


def test_two_gpu_sessions_at_once_and_no_more(world):
    waits = "import time; time.sleep(60)"
    assert world.push(waits, enableGpu=True)["versionNumber"] == 1
    assert world.push(waits, enableGpu=True)["versionNumber"] == 2
    assert "session count of 2" in world.push(waits, enableGpu=True)["error"]
    assert world.push("pass")["versionNumber"] == 3
    assert world.kaggle.counts["kernel_runs"] == 3


def test_quota_counts_the_time_on_accelerators(world):
    def used():
        return float(world.get("GetAcceleratorQuotaStatistics")["gpuQuota"]["timeUsed"][:-1])

    assert used() == 0
    world.push("import time; time.sleep(0.3)")
    world.finish()
    assert used() == 0
    world.push("import time; time.sleep(0.3)", enableGpu=True)
    world.finish()
    assert 0.3 < used() < 30


def test_output_comes_in_pages_and_whole(world):
    world.push()
    world.finish()
    first = world.output(pageSize=1)
    second = world.output(pageSize=1, pageToken=first["nextPageToken"])
    assert "nextPageToken" not in second
    files = {file["fileName"]: file["url"] for file in first["files"] + second["files"]}
    assert sorted(files) == ["figures/a b.png", "submission.csv"]
    answer = requests.get(files["figures/a b.png"], timeout=10)
    assert answer.content == bytes(range(256))
    assert answer.headers["Content-Length"] == "256"
    assert answer.headers["Last-Modified"].endswith("GMT")
    rest = {"Range": "bytes=200-"}
    part = requests.get(files["figures/a b.png"], headers=rest, timeout=10)
    assert (part.status_code, part.content) == (206, bytes(range(200, 256)))
    assert part.headers["Content-Range"] == "bytes 200-255/256"
    beyond = requests.get(files["figures/a b.png"], headers={"Range": "bytes=256-"}, timeout=10)
    assert beyond.status_code == 416


def test_only_output_can_be_fetched_as_output(world):
    world.push(
        "import os\nroot = os.environ.get('KAGGLE_ROOT', '/kaggle')\n"
        "os.symlink('/etc/passwd', root + '/working/link')"
    )
    world.finish()
    assert "files" not in world.output()
    base = f"{world.kaggle.url}/files/output/alice/car-kernel/1"
    for name in ("..%2fscript.py", "%2e%2e/script.py", "link", "no-file"):
        assert requests.get(f"{base}/{name}", timeout=10).status_code == 404


def test_the_log_is_streamed_while_the_run_goes_on(world):
    text = "import time\nfor n in range(3): print(n, flush=True); time.sleep(0.4)"
    world.push(text)
    url = f"{world.kaggle.url}/api/v1/kernels/logs/stream/alice/car-kernel"
    assert requests.get(url, timeout=10).status_code == 401
    events, times = [], []
    with requests.get(url, auth=("alice", "x"), stream=True, timeout=10) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        for line in stream.iter_lines(decode_unicode=True):
            if line:
                events.append(line.removeprefix("data: "))
                times.append(time.monotonic())
    assert [json.loads(event)["data"] for event in events[:-1]] == ["0\n", "1\n", "2\n"]
    assert events[-1] == "END_OF_LOG"
    assert times[2] - times[0] > 0.4
    whole = requests.get(url, auth=("alice", "x"), timeout=10)
    assert whole.headers["Content-Type"] == "application/json"
    assert [entry["data"] for entry in whole.json()] == ["0\n", "1\n", "2\n"]


def test_closing_the_server_kills_its_runs(tmp_path):
    others = set(psutil.Process().children(recursive=True))  # of earlier tests
    with world_in(tmp_path) as world:
        world.push("import sys, time; print('up', flush=True); time.sleep(600)")
        until(lambda: world.lines() == ["up"])
        children = set(psutil.Process().children(recursive=True)) - others
        assert children
    _, alive = psutil.wait_procs(children, timeout=10)  # killed, but a process ends in its own time
    assert not alive


# Competitions


def test_the_solution_is_never_shown(world):
    listed = world.get("ListDataFiles", competitionName=COMPETITION)["files"]
    assert [file["name"] for file in listed] == [
        "sample-submission.csv",
        "train.csv",
        "train/1.jpg",
    ]
    ask = {"competitionName": COMPETITION}
    assert world.ask("DownloadDataFile", **ask, fileName="solution.csv").status_code == 404
    assert world.ask("DownloadDataFile", **ask, fileName="../x").status_code == 404
    moved = world.ask("DownloadDataFile", **ask, fileName="train.csv")
    assert moved.status_code == 302
    assert requests.get(moved.headers["Location"], timeout=10).text.startswith("Id,Category")


def test_a_submission_is_pending_and_then_scored(tmp_path):
    with world_in(tmp_path, scoring_delay=0.4) as world:
        sent = world.submit("Id,Category\nd,3\nc,2\nb,0\na,0\n", "mine")
        assert sent["ref"] > 0
        pending = world.submission_now(sent["ref"])
        assert pending["status"] == "PENDING"
        assert "publicScore" not in pending
        scored = world.submission(sent["ref"])
        assert (scored["publicScore"], scored["description"]) == ("0.75000", "mine")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        ("Id,Label\na,0\nb,1\nc,2\nd,3\n", "columns must be Id, Category"),
        ("Id,Category\na,0\nb,1\nc,2\n", "must have 4 rows, but has 3"),
        ("Id,Category\na,0\na,0\nc,2\nd,3\n", "a value twice"),
        ("Id,Category\na,0\nb,1\nc,2\nx,3\n", "1 required values are missing"),
        ("Id,Category\na,0\nb,\nc,2\nd,3\n", "empty values"),
        ("Id,Category\na,0\nb\nc,2\nd,3\n", "line 3 has 1 values"),
    ],
)
def test_a_submission_that_can_not_be_scored_says_why(world, text, problem):
    scored = world.submission(world.submit(text)["ref"])
    assert scored["status"] == "ERROR"
    assert problem in scored["errorDescription"]
    assert "publicScore" not in scored


def test_five_submissions_a_day_and_then_a_refusal(world):
    good = "Id,Category\na,0\nb,1\nc,2\nd,3\n"
    refs = [world.submit(good, f"number {n}")["ref"] for n in range(5)]
    limits = world.get("GetSubmissionLimits", competitionName=COMPETITION)
    assert limits == {"numToday": 5, "numTotal": 5}  # what is 0 is left out
    refused = world.submit(good)
    assert "ref" not in refused  # which is 0
    assert "5 a day" in refused["message"]
    assert world.kaggle.counts["submissions"] == 5
    where = {"competitionName": COMPETITION, "pageSize": 2}
    first = world.get("ListSubmissions", **where)
    assert [s["ref"] for s in first["submissions"]] == refs[:2:-1]
    second = world.get("ListSubmissions", **where, pageToken=first["nextPageToken"])
    assert [s["ref"] for s in second["submissions"]] == refs[2:0:-1]


def test_a_kernels_output_can_be_submitted(world):
    world.push("import time; time.sleep(0.5)\n" + SCRIPT)
    request = {"kernelOwner": "alice", "kernelSlug": "car-kernel", "fileName": "submission.csv"}
    early = world.ask("CreateCodeSubmission", competitionName=COMPETITION, **request)
    assert early.status_code == 400
    world.finish()
    sent = world.get("CreateCodeSubmission", competitionName=COMPETITION, **request)
    assert world.submission(sent["ref"])["publicScore"] == "0.75000"
    wrong = {**request, "fileName": "../script.py"}
    assert (
        world.ask("CreateCodeSubmission", competitionName=COMPETITION, **wrong).status_code == 400
    )


def test_rules_that_were_not_accepted_close_the_competition(tmp_path):
    with world_in(tmp_path, accepted=False) as world:
        for method in ("ListDataFiles", "StartSubmissionUpload"):
            answer = world.ask(method, competitionName=COMPETITION)
            assert (answer.status_code, "rules" in answer.text) == (403, True)
        invalid = world.push("pass", competitionDataSources=[COMPETITION])
        assert invalid["invalidCompetitionSources"] == [COMPETITION]
        assert world.ask("ListDataFiles", competitionName="none").status_code == 404


# Concurrency


def test_calls_at_the_same_time_do_not_mix(world):
    def push():
        numbers.append(world.push("pass")["versionNumber"])

    numbers = []
    threads = [threading.Thread(target=push) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 13))
    state = world.kaggle.store.state
    assert len(state["kernels"]["alice/car-kernel"]["versions"]) == 12


# Faults


def test_faults_happen_to_their_call_as_often_as_asked(world):
    world.kaggle.faults.add(
        "GetAcceleratorQuotaStatistics", "status", times=2, after=1, code=503, retry_after=7
    )
    answers = [world.ask("GetAcceleratorQuotaStatistics") for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 503, 503, 200]
    assert answers[1].headers["Retry-After"] == "7"
    assert answers[1].json()["code"] == 503
    assert world.ask("ListDataFiles", competitionName=COMPETITION).status_code == 200
    world.kaggle.faults.add("*", "status", code=429, message="slow down")
    assert world.ask("ListDataFiles", competitionName=COMPETITION).json() == {
        "code": 429,
        "message": "slow down",
    }
    world.kaggle.faults.add("*", "status", times=9)
    world.kaggle.faults.clear()
    assert world.ask("ListDataFiles", competitionName=COMPETITION).status_code == 200
    assert [call.status for call in world.kaggle.requests][:4] == [200, 503, 503, 200]


@pytest.mark.parametrize(("effect", "versions"), [(False, 0), (True, 1)])
def test_a_lost_answer_with_and_without_its_effect(world, effect, versions):
    world.kaggle.faults.add("SaveKernel", "drop", effect=effect)
    with pytest.raises(requests.exceptions.ConnectionError):
        world.push("pass")
    assert world.kaggle.counts["kernel_versions"] == versions
    last = world.kaggle.requests[-1]
    assert (last.name, last.body["text"], last.status) == ("SaveKernel", "pass", None)
    assert world.push("pass")["versionNumber"] == versions + 1


def test_late_and_hanging_answers(world):
    world.kaggle.faults.add("GetAcceleratorQuotaStatistics", "late", seconds=0.5)
    started = time.monotonic()
    assert world.ask("GetAcceleratorQuotaStatistics").status_code == 200
    assert time.monotonic() - started > 0.5
    world.kaggle.faults.add("GetAcceleratorQuotaStatistics", "hang")
    with pytest.raises(requests.exceptions.Timeout):
        requests.post(
            f"{world.kaggle.url}/api/v1/kernels.KernelsApiService/GetAcceleratorQuotaStatistics",
            json={},
            timeout=0.5,
        )
    world.kaggle.faults.add("GetAcceleratorQuotaStatistics", "hang", seconds=0.1)
    with pytest.raises(requests.exceptions.ConnectionError):
        world.ask("GetAcceleratorQuotaStatistics")


def test_a_hanging_call_does_not_hold_up_the_others_or_the_end(tmp_path):
    with world_in(tmp_path) as world:
        world.kaggle.faults.add("GetAcceleratorQuotaStatistics", "hang")

        def hang():
            with pytest.raises(requests.exceptions.ConnectionError):
                world.ask("GetAcceleratorQuotaStatistics")

        thread = threading.Thread(target=hang)
        thread.start()
        until(lambda: world.kaggle.requests)
        assert world.ask("ListDataFiles", competitionName=COMPETITION).status_code == 200
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_made_up_answers(world):
    world.kaggle.faults.add("SaveKernel", "body", body={"error": "too many sessions"})
    assert world.push("pass") == {"error": "too many sessions"}
    world.kaggle.faults.add("GetAcceleratorQuotaStatistics", "body", body="<html>", code=502)
    answer = world.ask("GetAcceleratorQuotaStatistics")
    assert (answer.status_code, answer.text, answer.headers["Content-Type"]) == (
        502,
        "<html>",
        "text/html",
    )
    world.kaggle.faults.add("SaveKernel", "body", body={}, effect=True)
    assert world.push("pass") == {}
    assert world.kaggle.counts["kernel_versions"] == 1
    world.kaggle.faults.add("SaveKernel", "merge", fields={"invalidModelSources": ["x"]})
    pushed = world.push("pass")
    assert (pushed["versionNumber"], pushed["invalidModelSources"]) == (2, ["x"])


def test_an_upload_accepted_in_part_goes_on_from_there(world):
    started = world.get("StartBlobUpload", name="a", contentLength=1000)
    world.kaggle.faults.add("PUT blob", "partial", fraction=0.3)
    first = requests.put(started["createUrl"], data=bytes(1000), timeout=10)
    assert first.status_code == 503
    asked = requests.put(
        started["createUrl"], headers={"Content-Range": "bytes */1000"}, timeout=10
    )
    assert (asked.status_code, asked.headers["Range"]) == (308, "bytes=0-299")


def test_downloads_and_logs_can_be_cut_off(world):
    world.push()
    world.finish()
    url = world.output()["files"][0]["url"]
    world.kaggle.faults.add("GET output", "cut", fraction=0.5)
    with requests.get(url, timeout=10, stream=True) as answer:
        assert answer.headers["Content-Length"] == "256"
        assert answer.raw.read(128) == bytes(range(128))
        with pytest.raises(ProtocolError):
            answer.raw.read(1)
    assert requests.get(url, timeout=10).content == bytes(range(256))
    world.push("import time; print('x', flush=True); time.sleep(1)")
    world.kaggle.faults.add("GET log", "cut")
    log = f"{world.kaggle.url}/api/v1/kernels/logs/stream/alice/car-kernel"
    with requests.get(log, auth=("alice", "x"), timeout=10, stream=True) as stream:
        lines = stream.iter_lines(decode_unicode=True)
        assert json.loads(next(lines).removeprefix("data: "))["data"] == "x\n"
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(lines)


def test_faults_that_do_not_exist_are_refused(world):
    with pytest.raises(ValueError, match="no such kind of fault: 'explode'"):
        world.kaggle.faults.add("*", "explode")
    with pytest.raises(ValueError, match="'hang' takes no code"):
        world.kaggle.faults.add("*", "hang", code=1)


def test_a_competition_that_is_not_there_is_named(tmp_path):
    data, _ = make_competition(tmp_path / "competition")
    with pytest.raises(FileNotFoundError, match="nothing"):
        FaultyLoopback(tmp_path / "kaggle", {COMPETITION: (data, tmp_path / "nothing.csv")})


def test_the_module_needs_only_the_standard_library_and_ours():
    """A rehearsal must not wait until TensorFlow or pandas is imported."""
    folder = Path(box.__file__).parent
    imported = {
        line.split()[1].split(".")[0]
        for path in folder.glob("*.py")
        for line in path.read_text().splitlines()
        if line.startswith(("import ", "from ")) and not line.startswith("from .")
    }
    assert imported <= sys.stdlib_module_names | {"kernelkit"}
