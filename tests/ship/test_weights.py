"""The weights' manifest, and downloads that are cut, refused, tampered with or fill the disk."""

import ast
import base64
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kernelkit.core.boundary import Boundary
from kernelkit.core.problem import Problem
from ship.__main__ import parse
from ship.commands import download
from ship.project.offline import HDF5_SIGNATURE, read_manifest, required_weights
from ship.project.project import Project
from shipping import REPOSITORY

LIB = REPOSITORY / "lib"
CONTENT = HDF5_SIGNATURE + os.urandom(1_200_000)
BACKBONES = {
    "InceptionV3",
    "Xception",
    "EfficientNetB3",
    "EfficientNetB5",
    "EfficientNetB7",
    "EfficientNetV2S",
    "EfficientNetV2M",
    "ConvNeXtTiny",
    "ConvNeXtBase",
    "MobileNet",
}


class Server(ThreadingHTTPServer):
    """A loopback file server whose faults the tests set; `ranges` records each request's Range."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.cuts: list[int] = []  # bytes of the body after which a request is cut off
        self.hangs: list[float] = []  # seconds for which a request is left without an answer
        self.statuses: list[int] = []  # statuses to answer before anything else
        self.headers: dict[str, str] = {}
        self.ranges_work = True
        self.shift = 0  # how far from the asked byte an answer to a Range begins
        self.announce_length = True
        self.pause = 0.0
        self.ranges: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/tiny.h5"

    def handle_error(self, *_):
        """Say nothing of clients that hang up, as refused downloads and killed ones do."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers["Range"]
        self.server.ranges.append(asked)
        if self.server.hangs:
            time.sleep(self.server.hangs.pop(0))
        if self.server.statuses:
            self.send_error(self.server.statuses.pop(0))
            return
        content, start = self.server.content, 0
        if asked and self.server.ranges_work:
            start = int(asked[6:-1]) + self.server.shift
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.server.announce_length:
            self.send_header("Content-Length", str(len(content) - start))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        body = content[start:]
        if self.server.cuts:
            body = body[: self.server.cuts.pop(0)]
        for offset in range(0, len(body), 100_000):
            self.wfile.write(body[offset : offset + 100_000])
            time.sleep(self.server.pause)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(download, "PAUSES", (0, 0, 0))


@pytest.fixture
def folder(tmp_path, server):
    """A weights folder whose manifest has one backbone, Tiny, on the loopback server."""
    folder = tmp_path / "lib" / "weights"
    write_manifest(folder, url=server.url)
    return folder


def write_manifest(folder: Path, **changes):
    row = {
        "file": "tiny.h5",
        "url": None,
        "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "md5": None,
        "licence": "MIT",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"Tiny": row | changes}))


def ship_weights(folder: Path, *words: str) -> None:
    download.run_weights(parse(["weights", *words]), Project(folder.parents[1]))


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"manifest.json"}


# --- the manifest ---


class KerasSource:
    """Constants of a `keras.applications` module, read from its source without importing Keras."""

    def __init__(self, module: str):
        keras = importlib.util.find_spec("keras").submodule_search_locations[0]
        source = Path(keras, "src", "applications", f"{module}.py").read_text(encoding="utf-8")
        self.tree = ast.parse(source)

    def constant(self, name: str):
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and node.targets[0].id == name:
                return ast.literal_eval(node.value)
        raise KeyError(name)

    def text(self, end: str) -> str:
        """Return the string in the module that ends with `end`."""
        texts = [node.value for node in ast.walk(self.tree) if isinstance(node, ast.Constant)]
        return next(text for text in texts if isinstance(text, str) and text.endswith(end))

    def call(self, mentioning: str) -> dict[str, str]:
        """Return the keyword arguments, as source, of the `get_file` calls that mention a name."""
        calls = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]
        return {
            word.arg: ast.unparse(word.value)
            for call in calls
            if ast.unparse(call.func) == "file_utils.get_file"
            if mentioning in map(ast.unparse, call.args)
            for word in call.keywords
        }

    def variant(self, function: str) -> tuple[str, str]:
        """Return a variant's file stem (its default `name`) and its key in WEIGHTS_HASHES."""
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == function:
                calls = [inner for inner in ast.walk(node) if isinstance(inner, ast.Call)]
                keywords = {word.arg: word.value for call in calls for word in call.keywords}
                return node.args.defaults[-1].value, keywords["weights_name"].value
        raise KeyError(function)


def published_by_keras(backbone: str) -> tuple[str, str | None]:
    """Return URL and hash of the file without top that `keras.applications` would download."""
    if backbone in ("InceptionV3", "Xception"):
        source = KerasSource({"InceptionV3": "inception_v3", "Xception": "xception"}[backbone])
        call = source.call(mentioning="WEIGHTS_PATH_NO_TOP")
        return source.constant("WEIGHTS_PATH_NO_TOP"), ast.literal_eval(call["file_hash"])
    if backbone == "MobileNet":
        source = KerasSource("mobilenet")
        file = source.text("_tf_no_top.h5") % ("1_0", 224)
        assert "file_hash" not in source.call(mentioning="model_name"), "Keras has a hash now"
        return source.constant("BASE_WEIGHT_PATH") + file, None
    family = "convnext" if backbone.startswith("ConvNeXt") else "efficientnet"
    source = KerasSource("efficientnet_v2" if "V2" in backbone else family)
    stem, key = source.variant(backbone)
    url = source.constant("BASE_WEIGHTS_PATH") + stem + "_notop.h5"
    return url, source.constant("WEIGHTS_HASHES")[key][1]


def test_the_manifest_has_the_address_of_exactly_the_known_backbones():
    manifest = read_manifest(LIB / "weights")
    assert {name for name, row in manifest.items() if row.url is not None} == BACKBONES


def test_files_of_the_repository_are_small_and_as_the_manifest_says():
    rows = [row for row in read_manifest(LIB / "weights").values() if row.url is None]
    paths = required_weights([row.file for row in rows], LIB / "weights")
    assert all(path.stat().st_size < 300_000 for path in paths)


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_the_manifest_agrees_with_the_installed_keras(backbone):
    row = read_manifest(LIB / "weights")[backbone]
    url, file_hash = published_by_keras(backbone)
    assert row.url == url
    assert row.file == url.rsplit("/", 1)[1]
    assert (row.sha256 or row.md5) == file_hash
    assert (row.sha256 is None) == (file_hash is None or len(file_hash) == 32)
    assert row.size > 10_000_000
    assert row.licence in ("MIT", "Apache-2.0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "can't be read"),
        ('{"Tiny": {"file": "tiny.h5"}}', "can't be read"),
        ("[]", "can't be read"),
        (None, "is missing"),
    ],
)
def test_a_broken_manifest_is_named(tmp_path, text, said):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(Problem, match=f"manifest.json {said}"):
        read_manifest(tmp_path)


# --- downloads ---


def test_a_download_is_complete_and_verified(folder, server, capsys):
    ship_weights(folder, "tiny")
    assert (folder / "tiny.h5").read_bytes() == CONTENT
    assert files_in(folder) == {"tiny.h5"}
    assert "SHA-256 as published; licence MIT" in capsys.readouterr().out

    ship_weights(folder, "TINY")
    assert len(server.ranges) == 1, "a verified file is not downloaded again"


def test_cut_connections_are_resumed_within_one_command(folder, server):
    server.cuts = [500_000, 300_000]
    ship_weights(folder, "Tiny")
    assert (folder / "tiny.h5").read_bytes() == CONTENT
    starts = [int(asked[6:-1]) for asked in server.ranges[1:]]
    assert 400_000 < starts[0] <= 500_000
    assert starts[0] + 200_000 < starts[1] <= starts[0] + 300_000


def test_a_connection_that_keeps_breaking_but_gets_on_is_not_given_up(folder, server):
    server.cuts = [150_000] * 7
    assert len(server.cuts) > 1 + len(download.PAUSES)
    ship_weights(folder, "Tiny")
    assert (folder / "tiny.h5").read_bytes() == CONTENT


def test_a_silent_server_is_asked_again(folder, server, monkeypatch, capsys):
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.2))
    server.hangs = [0.6]
    ship_weights(folder, "Tiny")
    assert "Tiny: no answer in time; trying again in 0 s." in capsys.readouterr().out
    assert len(server.ranges) == 2
    assert (folder / "tiny.h5").read_bytes() == CONTENT


def test_what_arrived_before_giving_up_is_kept_for_the_next_command(folder, server):
    server.cuts = [500_000] + [0] * 10
    with pytest.raises(Problem, match=r"downloaded .* MB arrived and are kept: run `ship"):
        ship_weights(folder, "Tiny")
    assert files_in(folder) == {"tiny.h5.part"}
    kept = (folder / "tiny.h5.part").stat().st_size
    assert 400_000 < kept <= 500_000

    server.cuts.clear()
    ship_weights(folder, "Tiny")
    assert server.ranges[-1] == f"bytes={kept}-"
    assert (folder / "tiny.h5").read_bytes() == CONTENT


def test_a_killed_download_is_resumed(folder, server):
    server.pause = 0.1
    code = (
        "import sys; from pathlib import Path; from ship.commands.download import *\n"
        "folder = Path(sys.argv[1])\n"
        "download(read_manifest(folder)['Tiny'], folder)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        env=os.environ | {"PYTHONPATH": str(LIB)},
        stderr=subprocess.DEVNULL,
    )
    part = folder / "tiny.h5.part"
    while not (part.exists() and part.stat().st_size > 300_000):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()
    assert files_in(folder) == {"tiny.h5.part"}

    server.pause = 0.0
    ship_weights(folder, "Tiny")
    assert int(server.ranges[-1][6:-1]) > 300_000
    assert (folder / "tiny.h5").read_bytes() == CONTENT


def test_a_server_without_range_starts_over(folder, server):
    server.ranges_work = False
    server.cuts = [500_000]
    ship_weights(folder, "Tiny")
    assert (folder / "tiny.h5").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(folder, server):
    (folder / "tiny.h5.part").write_bytes(CONTENT + b"more")
    ship_weights(folder, "Tiny")
    assert (folder / "tiny.h5").read_bytes() == CONTENT


def test_a_complete_part_needs_no_network(folder, server):
    (folder / "tiny.h5.part").write_bytes(CONTENT)
    ship_weights(folder, "Tiny")
    assert files_in(folder) == {"tiny.h5"}
    assert not server.ranges


def test_other_bytes_than_asked_for_are_refused(folder, server):
    (folder / "tiny.h5.part").write_bytes(CONTENT[:1000])
    server.shift = 10
    with pytest.raises(Problem, match=r"has 1,199,998 bytes instead of 1,200,008"):
        ship_weights(folder, "Tiny")
    assert not (folder / "tiny.h5").exists()


@pytest.mark.parametrize("cut", [[], [500_000]])
def test_a_wrong_hash_is_refused_and_not_kept(folder, server, cut):
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    server.cuts = cut
    with pytest.raises(Problem, match=r"has the SHA256 .* instead of the published .* not kept"):
        ship_weights(folder, "Tiny")
    assert files_in(folder) == set()

    server.content = CONTENT
    ship_weights(folder, "Tiny")
    assert files_in(folder) == {"tiny.h5"}


def test_md5_is_checked_where_keras_publishes_md5(folder, server):
    write_manifest(folder, url=server.url, sha256=None, md5="0" * 32)
    with pytest.raises(Problem, match="has the MD5"):
        ship_weights(folder, "Tiny")
    assert files_in(folder) == set()


def test_a_file_without_published_hash_is_checked_by_the_servers_md5(folder, server, capsys):
    write_manifest(folder, url=server.url, sha256=None)
    server.headers["x-goog-hash"] = f"crc32c=AAAAAA==,md5={base64.b64encode(bytes(16)).decode()}"
    with pytest.raises(Problem, match=r"has the MD5 .* not kept"):
        ship_weights(folder, "Tiny")
    assert files_in(folder) == set()

    md5 = base64.b64encode(hashlib.md5(CONTENT).digest()).decode()
    server.headers["x-goog-hash"] = f"crc32c=AAAAAA==,md5={md5}"
    server.cuts = [500_000]
    ship_weights(folder, "Tiny")
    assert files_in(folder) == {"tiny.h5"}
    assert "Keras publishes no hash" in capsys.readouterr().out


def test_a_wrong_size_is_refused_when_the_server_does_not_announce_it(folder, server):
    server.content, server.announce_length = CONTENT[:-4], False
    with pytest.raises(Problem, match=r"has 1,200,004 bytes instead of 1,200,008"):
        ship_weights(folder, "Tiny")
    assert files_in(folder) == set()


def test_a_web_page_is_refused(folder, server):
    server.content = b"<html>Please log in</html>"
    server.headers["Content-Type"] = "text/html; charset=utf-8"
    with pytest.raises(Problem, match=r"tiny.h5 .*a web page instead of the file.*--from FOLDER"):
        ship_weights(folder, "Tiny")
    assert files_in(folder) == set()


def test_a_web_page_in_disguise_is_refused(folder, server):
    write_manifest(folder, url=server.url, size=None, sha256=None)
    server.content = b"<html>Please log in</html>"
    with pytest.raises(Problem, match="is not an HDF5 file"):
        ship_weights(folder, "Tiny")
    assert files_in(folder) == set()


def test_a_missing_file_on_the_server_is_reported_at_once(folder, server):
    server.statuses = [404]
    with pytest.raises(Problem, match=r"404 .*--from FOLDER"):
        ship_weights(folder, "Tiny")
    assert len(server.ranges) == 1


def test_a_busy_server_is_asked_again(folder, server):
    server.statuses = [503, 429, 500]
    ship_weights(folder, "Tiny")
    assert (folder / "tiny.h5").read_bytes() == CONTENT


def test_a_server_that_stays_busy_is_given_up(folder, server):
    server.statuses = [503] * 50
    with pytest.raises(Problem, match=r"503 .* Nothing arrived"):
        ship_weights(folder, "Tiny")
    assert len(server.ranges) == 1 + len(download.PAUSES)


def test_a_gone_network_is_reported(folder, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(Problem, match=r"127.0.0.1:\d+.*no connection.* Nothing arrived"):
        ship_weights(folder, "Tiny")


def test_an_unusable_url_is_reported(folder):
    write_manifest(folder, url="tiny.h5")
    with pytest.raises(Problem, match=r"tiny.h5 can't be downloaded"):
        ship_weights(folder, "Tiny")


def sentence(work, capsys) -> str:
    """Return the sentence in which a command ends."""
    assert Boundary("ship").run(work) == 1
    return capsys.readouterr().err


def test_a_disk_that_fills_up_is_reported(folder, server):
    """A real full disk: a file system of 1 MB, and a server that does not announce the length."""
    server.announce_length = False
    code = (
        "import subprocess, sys; from pathlib import Path; from ship.__main__ import main\n"
        "lib = Path(sys.argv[1]); manifest = (lib / 'weights' / 'manifest.json').read_text()\n"
        "mount = ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tiny', lib / 'weights']\n"
        "subprocess.run(mount, check=True)\n"
        "(lib / 'weights' / 'manifest.json').write_text(manifest)\n"
        "sys.exit(main(['weights', 'Tiny', '--project', str(lib.parent)]))\n"
    )
    for name in ("kernel-metadata.json", "dataset-metadata.json"):
        shutil.copy2(REPOSITORY / name, folder.parents[1])
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs Linux namespaces")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", code, str(folder.parent)],
        env=os.environ | {"PYTHONPATH": str(LIB)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "is full (while getting the weights of Tiny (1.2 MB)): free some space" in done.stderr


def test_a_folder_that_can_not_be_made_is_reported(tmp_path, server, capsys):
    write_manifest(tmp_path, url=server.url)
    row = read_manifest(tmp_path)["Tiny"]
    (tmp_path / "file").write_text("in the way")
    said = sentence(lambda: download.download(row, tmp_path / "file" / "weights"), capsys)
    assert f"{tmp_path / 'file'}" in said
    assert "check the path and its permissions" in said


# --- files that come with the repository ---


@pytest.fixture
def committed(tmp_path):
    """A weights folder whose manifest has one backbone, Tiny, that has no URL."""
    folder = tmp_path / "lib" / "weights"
    write_manifest(folder)
    (folder / "tiny.h5").write_bytes(CONTENT)
    return folder


def test_a_file_of_the_repository_is_verified_and_not_downloaded(committed, capsys):
    ship_weights(committed, "Tiny")
    assert "Tiny: tiny.h5 is here and verified." in capsys.readouterr().out
    assert required_weights(["tiny.h5"], committed) == [committed / "tiny.h5"]
    ship_weights(committed)
    assert "tiny.h5 is here and verified (comes with the repository)" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_a_lost_file_of_the_repository_is_restored_from_git(committed, words, capsys):
    (committed / "tiny.h5").unlink()
    path = committed / "tiny.h5"
    sentence = f"{path} is not there: restore the repository's copy with `git checkout -- {path}`."
    with pytest.raises(Problem) as caught:
        ship_weights(committed, "Tiny", *words)
    assert str(caught.value) == sentence
    with pytest.raises(Problem) as caught:
        required_weights(["tiny.h5"], committed)
    assert str(caught.value) == sentence
    ship_weights(committed)
    assert "tiny.h5 is not there (comes with the repository)" in capsys.readouterr().out


def test_a_damaged_file_of_the_repository_is_refused(committed):
    (committed / "tiny.h5").write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(Problem, match=r"has the SHA256 .* `git checkout -- "):
        required_weights(["tiny.h5"], committed)


def test_files_of_both_kinds_are_named_with_their_remedies(committed):
    manifest = json.loads((committed / "manifest.json").read_text())
    far = manifest["Tiny"] | {"file": "far.h5", "url": "http://127.0.0.1:9/far.h5"}
    (committed / "manifest.json").write_text(json.dumps(manifest | {"Far": far}))
    (committed / "tiny.h5").unlink()
    with pytest.raises(Problem, match=r"run `ship weights Far` and restore .*tiny.h5`\.$"):
        required_weights(["tiny.h5", "far.h5"], committed)


# --- the command, and what the other commands ask ---


def test_an_unknown_backbone_lists_the_known_ones(capsys):
    with pytest.raises(Problem, match=r"'mobilnet' is no known backbone; did you mean MobileNet"):
        ship_weights(LIB / "weights", "mobilnet")
    with pytest.raises(Problem, match=r"'resnet50' is no known backbone.*Xception.*MobileNet"):
        ship_weights(LIB / "weights", "MobileNet", "resnet50")
    assert not capsys.readouterr().out, "nothing is done before all the names are checked"


def test_a_dry_run_does_nothing(folder, server, capsys):
    ship_weights(folder, "Tiny", "--dry-run")
    assert f"would get {server.url} (1.2 MB)" in capsys.readouterr().out
    assert files_in(folder) == set()
    assert not server.ranges


def test_without_a_name_all_are_listed(folder, server, capsys):
    ship_weights(folder)
    assert "tiny.h5 is not there" in capsys.readouterr().out
    (folder / "tiny.h5").write_bytes(CONTENT)
    ship_weights(folder)
    assert "tiny.h5 is here and verified" in capsys.readouterr().out
    assert not server.ranges


def test_a_damaged_file_is_replaced_only_by_a_verified_one(folder, server, capsys):
    damaged = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    (folder / "tiny.h5").write_bytes(damaged)
    server.statuses = [404]
    with pytest.raises(Problem, match="404"):
        ship_weights(folder, "Tiny")
    assert (folder / "tiny.h5").read_bytes() == damaged
    ship_weights(folder, "Tiny")
    assert "and is replaced" in capsys.readouterr().out
    assert (folder / "tiny.h5").read_bytes() == CONTENT


def test_files_on_disk_are_taken_and_checked_alike(folder, server, tmp_path):
    source = tmp_path / "downloads"
    source.mkdir()
    with pytest.raises(Problem, match=r"downloads has no file tiny.h5"):
        ship_weights(folder, "Tiny", "--from", str(source))

    (source / "tiny.h5").write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(Problem, match=r"downloads.tiny.h5 has the SHA256 .* not kept"):
        ship_weights(folder, "Tiny", "--from", str(source))
    assert files_in(folder) == set()

    (source / "tiny.h5").write_bytes(CONTENT)
    ship_weights(folder, "Tiny", "--from", str(source))
    assert (folder / "tiny.h5").read_bytes() == CONTENT
    assert files_in(folder) == {"tiny.h5"}
    assert not server.ranges


def test_required_weights_are_verified_or_refused(folder):
    with pytest.raises(Problem, match=r"tiny.h5 is not there: run `ship weights Tiny`"):
        required_weights(["tiny.h5"], folder)

    (folder / "tiny.h5").write_bytes(CONTENT)
    assert required_weights(["tiny.h5"], folder) == [folder / "tiny.h5"]
    assert required_weights([], folder) == []

    (folder / "tiny.h5").write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(Problem, match=r"has the SHA256 .*: run `ship weights Tiny`"):
        required_weights(["tiny.h5"], folder)
    with pytest.raises(Problem, match=r"a file of your own needs a name of its own"):
        required_weights(["tiny.h5"], folder)


def test_a_file_of_one_s_own_may_have_any_size(folder):
    with pytest.raises(Problem, match=r"'own.h5' is not in .*, --set weights=own.h5\."):
        required_weights(["own.h5"], folder)
    (folder / "own.h5").write_bytes(CONTENT * 2)
    assert required_weights(["own.h5"], folder) == [folder / "own.h5"]
    with pytest.raises(Problem, match=r"'../own.h5' is not in"):
        required_weights(["../own.h5"], folder)
    (folder / "own.h5").write_text("no network")
    with pytest.raises(Problem, match=r"own.h5 is not an HDF5 file: give the weights of the"):
        required_weights(["own.h5"], folder)
