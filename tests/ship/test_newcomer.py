"""Each mistake of a newcomer gets its sentence at once, and no traceback.

`WHOLE_PROCESSES=1 pytest -s` prints them as a table, with the seconds that each took.
"""

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kernelkit.core.problem import Problem
from ship.kaggle.remote import Remote
from ship.kaggle.timeouts import Timeouts
from shipping import PACE, Outcome, open_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with open_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture(autouse=True)
def as_it_was(world):
    before = {p: p.read_bytes() for p in world.project.iterdir() if p.is_file()}
    yield
    world.kaggle.faults.clear()
    for path, content in before.items():
        path.write_bytes(content)


def failure(world, *arguments: str, **changes: str | None) -> Outcome:
    """Run `ship` at its own pace, and expect a failure of one sentence."""
    began = time.monotonic()
    done = world.ship(*arguments, **OWN_PACE, **changes)
    said = [line for line in done.err.splitlines() if line.startswith("ship: ")]
    assert done.status == 1, done
    assert "Traceback" not in done.err
    assert len(said) == 1, done.err
    print(f"\n{time.monotonic() - began:4.1f} s  ship {' '.join(arguments)}: {said[0][6:]}")
    return done


def sentence(world, *arguments: str, **changes: str | None) -> str:
    """Run `ship` at its own pace, expect a failure, and return its sentence."""
    return failure(world, *arguments, **changes).sentence


OWN_PACE = dict.fromkeys(PACE)
NONE = {"KAGGLE_USERNAME": None, "KAGGLE_KEY": None}
EMPTY = {"KAGGLE_USERNAME": "", "KAGGLE_KEY": ""}


NEED_KAGGLE = ["", "bundle", "push", "follow 1", "fetch --version 1", "submit mine.csv"]
NEED_KAGGLE += ["cancel 1", "adopt 1", "status"]


@pytest.mark.parametrize("command", NEED_KAGGLE)
def test_no_credentials(world, command):
    (world.project / "mine.csv").write_text("Id,Category\n101.jpg,0\n")
    for missing in (NONE, EMPTY):
        assert "no Kaggle credentials that work were found: run" in sentence(
            world, *command.split(), **missing
        )


def test_the_client_itself_finds_no_credentials(world):
    """Its exit() must end the call and not wait for ever for the thread that reads stdin."""
    environment = {k: v for k, v in world.environment.items() if k not in NONE}
    with (
        Remote(world.project / "scratch", Timeouts(timeout=5, retries=1), environment) as remote,
        pytest.raises(Problem, match="no Kaggle credentials that work were found"),
    ):
        remote.username()


def test_a_wrong_key(world):
    assert "Kaggle refused the credentials (401; those from KAGGLE_USERNAME and KAGGLE_KEY)" in (
        sentence(world, KAGGLE_KEY="wrong")
    )


@pytest.mark.parametrize("command", ["", "bundle", "follow 1"])
def test_a_token_that_is_not_active(world, command):
    world.kaggle.faults.add("IntrospectToken", "body", times=9, body={"active": False})
    said = sentence(world, *command.split(), **NONE, KAGGLE_API_TOKEN="KGAT_old")
    assert "the API token from KAGGLE_API_TOKEN is not active: create another" in said


def test_the_rules_are_not_accepted(world):
    world.kaggle.faults.add("ListDataFiles", "status", code=403, message="You must accept")
    assert "accept the rules of sf-dl-car-classification at https://www.kaggle.com/comp" in (
        sentence(world)
    )


@pytest.mark.parametrize("command", ["push", ""])
def test_the_quota_is_used_up(world, command):
    """It is said before anything is sent, and a refusal is not asked for twice."""
    assert world.ship("bundle").status == 0
    used = {"gpuQuota": {"timeUsed": "108000s", "totalTimeAllowed": "108000s"}}
    used["quotaRefreshTime"] = "2026-12-05T00:00:00.000Z"
    world.kaggle.faults.add("GetAcceleratorQuotaStatistics", "body", times=9, body=used)
    error = "You have used up your weekly GPU quota"
    world.kaggle.faults.add("SaveKernel", "body", times=9, body={"error": error})
    pushes = len(world.calls("SaveKernel"))
    warning = (
        "0 minutes are left of this week's 30 hours of GPU time, renewed at 2026-12-05 00:00 UTC: "
        "Kaggle may refuse a run until then"
    )
    outcome = failure(world, *command.split())
    assert warning in outcome.out
    assert outcome.sentence == f"Kaggle did not take the kernel: {error}"
    assert len(world.calls("SaveKernel")) == pushes + 1


KAGGLE_JSON = {
    "a trailing comma": (
        '{"username": "alice", "key": "x",}',
        "is no JSON object that the kaggle client",
    ),
    "a byte-order mark": (
        '\ufeff{"username": "alice", "key": "x"}',
        "BOM",
    ),
    "a numeric key": ('{"username": "alice", "key": 1234567}', "needs texts in quotes"),
    "a list": ("[]", "is no JSON object"),
}


@pytest.mark.parametrize("name", KAGGLE_JSON)
def test_kaggle_json_that_is_damaged(world, tmp_path, name):
    text, reason = KAGGLE_JSON[name]
    (tmp_path / "kaggle.json").write_text(text, encoding="utf-8")
    said = sentence(world, "push", **NONE, KAGGLE_CONFIG_DIR=str(tmp_path))
    assert reason in said
    assert str(tmp_path / "kaggle.json") in said
    assert "1234567" not in said


@contextmanager
def listening(answer):
    """Serve each connection with `answer(connection)` and give the port's address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, suppress(OSError):
                        answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def through(proxy: str) -> dict[str, str]:
    """Return the environment in which the client asks the real Kaggle through a proxy."""
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    return {"KAGGLE_API_ENVIRONMENT": "", **dict.fromkeys(names, proxy)}


def test_a_proxy_that_wants_a_login(world):
    def refuse(connection) -> None:
        connection.recv(9999)
        connection.sendall(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        )

    with listening(refuse) as proxy:
        for environment in (through(proxy), {"http_proxy": proxy, "HTTP_PROXY": proxy}):
            assert "put it into HTTPS_PROXY, as http://user:password@host:port" in (
                sentence(world, **environment)
            )


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_a_proxy_that_reads_the_connection(world, tmp_path):
    subject = [
        "-subj",
        "/CN=api.kaggle.com",
        "-keyout",
        tmp_path / "key",
        "-out",
        tmp_path / "cert",
    ]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")

    def intercept(connection) -> None:
        connection.recv(9999)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        context.wrap_socket(connection, server_side=True).recv(1)

    with listening(intercept) as proxy:
        said = sentence(world, **through(proxy))
    assert "Put the path of its certificate (a .pem file) into REQUESTS_CA_BUNDLE" in said


METADATA = {
    "is_private": (False, '"is_private" is false: input should be True'),
    "enable_internet": (True, '"enable_internet" is true: input should be False'),
    "title": ("Cars again", "must be that of the title"),
    "competition_sources": (
        ["https://www.kaggle.com/competitions/sf-dl-car-classification/"],
        "the competition's slug, 'sf-dl-car-classification'",
    ),
    "dataset_sources": (
        "INSERT-YOUR-KAGGLE-USERNAME/car-classification-lib",
        "input should be a valid list",
    ),
}


@pytest.mark.parametrize("name", METADATA)
def test_a_push_of_wrong_metadata(world, name):
    value, text = METADATA[name]
    path = world.project / "kernel-metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    pushes = len(world.calls("SaveKernel"))
    said = sentence(world, "push")
    assert text in said
    assert len(world.calls("SaveKernel")) == pushes
    assert said.endswith("(`--force kernel-metadata` goes on all the same.)")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"licenses": ["MIT"]}, '"licenses" is ["MIT"]: input should be a valid dictionary'),
        ({"subtitle": 5}, '"subtitle" is 5: input should be a valid string'),
    ],
)
def test_a_bundle_of_wrong_metadata(world, change, text):
    path = world.project / "dataset-metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert text in sentence(world, "bundle")


BAD = {
    "another separator": "Id;Category\n101.jpg;0\n",
    "a byte-order mark": "\ufeffId,Category\n101.jpg,0\n",
    "an empty file": "",
    "only a header": "Id,Category\n",
    "another header": "id,label\n101.jpg,0\n",
    "swapped columns": "Category,Id\n0,101.jpg\n",
    "an index column": ",Id,Category\n0,101.jpg,0\n",
    "a web page": "<html>\n<body>\n",
    "too few rows": "Id,Category\n101.jpg,0\n102.jpg,1\n",
    "a row twice": "Id,Category\n" + "101.jpg,0\n" * 9,
    "another order": "Id,Category\n" + "".join(f"{n}.jpg,{n % 3}\n" for n in range(109, 100, -1)),
    "a blank label": "Id,Category\n101.jpg,\n",
    "an unknown label": "Id,Category\n" + "".join(f"{n}.jpg,9\n" for n in range(101, 110)),
    "a label with a point": "Id,Category\n" + "".join(f"{n}.jpg,1.0\n" for n in range(101, 110)),
    "one label only": "Id,Category\n" + "".join(f"{n}.jpg,1\n" for n in range(101, 110)),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_submission(world, name):
    (world.project / "mine.csv").write_text(BAD[name], encoding="utf-8")
    assert "mine.csv" in sentence(world, "submit", "mine.csv")
    assert not world.calls("StartSubmissionUpload")


def test_a_dangling_link_in_lib(world):
    links = [world.project / "lib" / name for name in ("x", "photos/x.py", "wheels/x.whl")]
    for link in links:
        link.symlink_to(Path("nowhere"))
    assert world.ship("bundle").status == 0
    for link in links:
        link.unlink()


def test_missing_weights_are_reported_once(world):
    kernel = world.project / "kernel.py"
    text = kernel.read_text()
    kernel.write_text(text.replace('"weights_files": []', '"weights_files": ["w.h5"]'))
    outcome = world.ship("doctor")
    marks = {line[6:23].strip(): line[:5].strip() for line in outcome.out.splitlines()}
    assert (marks["weights"], marks["disk"]) == ("FAIL", "skip")
    assert "`ship doctor` shows all" not in outcome.sentence
