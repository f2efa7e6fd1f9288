"""The credentials are in no output, log, state, staged file or upload, even after failures."""

import base64
import json
import random
import re
import shutil
import string
from urllib.parse import quote

import pytest

from ship.kaggle.credentials import secret_in
from ship.project.contents import code_files
from shipping import KEY, REPOSITORY, open_world, until

TOKEN = "KGAT_0123456789abcdef0123456789abcdef"
FORMS = [KEY, TOKEN, base64.b64encode(f"alice:{KEY}".encode()).decode()]


@pytest.fixture
def world(tmp_path):
    with open_world(tmp_path, token=TOKEN) as world:
        yield world


def assert_hidden(world, *outcomes) -> None:
    """Check that `ship` has not printed, kept or sent the secrets, except in the header."""
    said = "".join(outcome.out + outcome.err for outcome in outcomes)
    files = [path for path in world.project.rglob("*") if path.is_file()]
    files += [path for path in world.kaggle.store.folder.rglob("*") if path.is_file()]
    bodies = json.dumps([call.body for call in world.kaggle.requests])
    for secret in FORMS:
        assert secret not in said
        assert secret not in bodies
        for path in files:
            assert secret.encode() not in path.read_bytes(), path
    assert len(files) > 10


def test_in_a_whole_shipment(world):
    assert_hidden(world, world.ship(), world.ship("doctor"), world.ship("submit"))


def test_with_a_token(world):
    changes = {"KAGGLE_API_TOKEN": TOKEN, "KAGGLE_KEY": "", "KAGGLE_USERNAME": ""}
    outcomes = [world.ship(**changes), world.ship("doctor", **changes)]
    assert outcomes[0].status == 0, outcomes[0]
    assert "API token from KAGGLE_API_TOKEN" in outcomes[1].out
    for call in world.kaggle.requests:
        if call.name == "IntrospectToken":
            call.body = None  # where the client itself asks Kaggle about it
    assert_hidden(world, *outcomes)


@pytest.mark.parametrize("call", ["GetDataset", "CreateDataset", "SaveKernel", "CreateSubmission"])
def test_kaggle_says_it_back(world, call):
    message = f"bad header: Authorization: Basic {FORMS[2]} {KEY}"
    world.kaggle.faults.add(call, "status", times=100, code=400, message=message)
    outcomes = [world.ship(), world.ship()]
    assert outcomes[0].status == 1
    assert_hidden(world, *outcomes)


def test_the_run_prints_it(world):
    """A kernel may find a secret in some way and print it."""
    kernel = world.project / "kernel.py"
    kernel.write_text(kernel.read_text() + f"print({KEY[::-1]!r}[::-1])\n")
    outcome = world.ship()
    assert "  | [secret]" in outcome.out
    kept = [path for path in world.project.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in path.read_bytes() for path in kept)
    assert KEY not in outcome.out + outcome.err


CONTENTS = {
    "as it is": f"# {KEY}\n".encode(),
    "as a header has it": f"# {FORMS[2]}\n".encode(),
    "within base64": b"# " + base64.b64encode(f'{{"key": "{KEY}"}}'.encode()) + b"\n",
    "of another encoding": f"# {KEY}\n".encode("utf-16"),
    "far behind": bytes(9_000_000) + KEY.encode(),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_file_that_holds_it_is_not_sent(world, kind):
    path = world.project / "lib" / "photos" / "notes.bin"
    path.write_bytes(CONTENTS[kind])
    outcome = world.ship()
    assert outcome.status == 1
    assert "holds your Kaggle credentials: take them out; nothing was sent." in outcome.sentence
    assert not world.calls("StartBlobUpload")
    path.unlink()
    assert_hidden(world, outcome)


def test_a_kernel_that_holds_it_is_not_sent(world):
    path = world.project / "kernel.py"
    before = path.read_text()
    path.write_text(f"{before}# {KEY}\n")
    outcome = world.ship()
    assert "kernel.py holds your Kaggle credentials" in outcome.sentence
    path.write_text(before)
    assert_hidden(world, outcome)


@pytest.mark.parametrize("field", ["keywords", "description"])
@pytest.mark.parametrize("name", ["kernel-metadata.json", "dataset-metadata.json"])
def test_metadata_that_hold_it_are_not_sent(world, name, field):
    path = world.project / name
    values = json.loads(path.read_text())
    text = f"It is {KEY} and nothing else"
    path.write_text(json.dumps(values | {field: [text] if field == "keywords" else text}))
    outcome = world.ship()
    assert f"{name} holds your Kaggle credentials" in outcome.sentence
    path.write_text(json.dumps(values))
    assert_hidden(world, outcome)


def test_a_message_or_a_file_that_holds_it_is_not_submitted(world):
    world.go_to_the_submission()
    folder = world.project / "runs" / "car-classification-v1"
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"metric": KEY, "score": 0.5}))
    assert "the submission holds your Kaggle credentials" in world.ship("submit").sentence
    named = world.project / f"{KEY}.csv"
    shutil.copy(folder / "submission.csv", named)
    assert world.ship("submit", named.name).status == 1
    assert not world.calls("CreateSubmission", "StartSubmissionUpload")
    assert KEY not in (world.project / "runs" / "ledger.jsonl").read_text()


OTHERS = {
    "kaggle.json": "{}",
    "kaggle (1).json": "{}",
    "ID_RSA": "x",
    "credentials.json": "{}",
    "access_token": "x",
    "secrets.env": "A=1",
    "prod.env.local": "A=1",
    "netrc": "x",
    "key.p12": "x",
    "google-service_account-1.json": "{}",
    "my.pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow",
    "openssh.txt": "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb",
    "pgp.asc": "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOY",
    "someone.json": '{"username": "bob", "key": "bobs-key-9876"}',
    "settings.py": "KEY = {'key': '0123456789abcdef0123456789abcdef'}",
    "kaggle.sh": "export KAGGLE_KEY=0123456789abcdef0123456789abcdef",
    "token.py": f"TOKEN = 'KGAT_{'0123456789abcdef' * 2}'",
    "login.json": '{"refresh_token": "1//0abcdefgh"}',
    "hub.py": f"login('hf_{'aB3' * 12}')",
    "git.txt": f"https://ghp_{'a1B' * 12}@github.com",
    "aws.ini": "aws_access_key_id = AKIAIOSFODNN7EXAMPLE",
    "net.txt": "machine api.kaggle.com login bob password hunter2",
    "environ.py": f"os.environ['KAGGLE_KEY'] = '{'0123456789abcdef' * 2}'",
    "cell.ipynb": json.dumps({"source": ['{"username": "bob", "key": "bobs-key-9876"}']}),
    "wandb.py": f"os.environ.setdefault('WANDB_API_KEY', '{'0a1b2c3d' * 5}')",
    "boto.py": f"aws_secret_access_key = '{'wJalr/+K7M' * 4}'",
}
HARMLESS = {
    "ca.pem": "-----BEGIN CERTIFICATE-----\nMIID",
    "credentials.py": "def key(name): return name",
    "environment.py": "PRIVATE_KEY = 'a private key'",
    "env.py": "key = 'value'",
    "token.md": "the key: use KGAT_... or hf_...",
    "tokenizer.json": '{"key": "value", "username": "name"}',
    "id_rsa.pub": "ssh-rsa AAAA",
    "keys.py": "API_KEY = os.environ['WANDB_API_KEY'], secret_access_key",
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_that_look_like_secrets_are_known(tmp_path, name):
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "x").write_text(OTHERS[name], encoding=encoding)
        assert secret_in(f"photos/{name}", tmp_path / "x")


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_files_are_sent(tmp_path, name):
    (tmp_path / "x").write_text(HARMLESS[name])
    assert not secret_in(f"photos/{name}", tmp_path / "x")


def test_no_file_of_this_project_looks_like_a_secret():
    files = code_files(REPOSITORY / "lib") | {"kernel.py": REPOSITORY / "kernel.py"}
    assert not {name: why for name, file in files.items() if (why := secret_in(name, file))}


@pytest.mark.parametrize("command", ["", "bundle", "sweep label=0", "push"])
def test_a_file_that_looks_like_a_secret_is_refused_and_sent_by_the_option(world, command):
    name = "kernel.py" if command == "push" else "lib/photos/id_rsa"
    if command == "push":
        assert world.ship("bundle").status == 0
    with (world.project / name).open("a") as file:
        file.write(f"# {OTHERS['token.py']}\n")
    before = len(world.calls("CreateDataset", "SaveKernel"))
    outcome = world.ship(*command.split())
    assert outcome.status == 1
    assert name in outcome.sentence
    assert outcome.sentence.endswith("(`--force secrets` goes on all the same.)")
    assert len(world.calls("CreateDataset", "SaveKernel")) == before
    assert world.ship(*command.split(), "--force", "secrets").status == 0


def test_the_kernel_does_not_see_them_when_it_is_asked_for_its_settings(world):
    kernel = world.project / "kernel.py"
    spy = "import os, sys\nsys.exit(str(dict(os.environ))) if '--show-config' in sys.argv else 0\n"
    kernel.write_text(kernel.read_text().replace("import csv\n", "import csv\n" + spy))
    assert_hidden(world, world.ship("push"))


def forms(secret: str) -> list[str]:
    """Return a secret as messages, logs and headers may show it."""
    both = f"alice:{secret}"
    shown = [secret, json.dumps(secret)[1:-1], quote(secret), quote(secret, ""), both]
    shown.append(re.sub("%..", lambda code: code[0].lower(), quote(secret, "")))
    for data in (both.encode(), secret.encode(), f"Bearer {secret}".encode()):
        shown += [base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()]
    return shown


def random_secret(rng: random.Random, letters: str) -> str:
    """Return a secret of these letters, which begins and ends with no blank."""
    return "".join(rng.choices(letters, k=rng.randrange(16, 48)))


LETTERS = {
    "hex": "0123456789abcdef",
    "letters": string.ascii_letters + string.digits + "_-",
    "signs": string.ascii_letters + "+/.~",
}
COMMANDS = ["doctor --json", "bundle", "push --json", "follow", "status --json", "fetch"]
COMMANDS += ["submit", "runs --json", "compare 1 1 --json", "sweep label=0 --dry-run", "cancel 1"]


@pytest.mark.parametrize("kind", LETTERS)
def test_no_form_of_any_secret_is_shown_or_kept(tmp_path, kind):
    """Kaggle says every form of it in errors, a run prints them, and the user types it."""
    secret = random_secret(random.Random(kind), LETTERS[kind])
    ends = {"KAGGLE_API_TOKEN": f"\ufeff {secret}\r\n", "KAGGLE_KEY": "", "KAGGLE_USERNAME": ""}
    if kind == "letters":
        ends = {"KAGGLE_API_TOKEN": " ", "KAGGLE_KEY": f"\t{secret}\r\n"}
    said = " ".join(forms(secret))
    with open_world(tmp_path, key=None) as world:
        kernel = world.project / "kernel.py"
        code = base64.b64encode(said.encode()[::-1]).decode()  # the script is sent and holds none
        spell = f"print(__import__('base64').b64decode({code!r})[::-1].decode())\n"
        kernel.write_text(kernel.read_text() + spell)
        outcomes = [world.ship(*command.split(), **ends) for command in COMMANDS]
        assert [one.status for one in outcomes[1:8]] == [0] * 7, outcomes
        for call in ("GetDataset", "SaveKernel", "GetKernelSessionStatus", "ListSubmissions"):
            world.kaggle.faults.add(call, "status", times=9, code=400, message=said)
        for command in (
            "bundle --again",
            "push --again",
            "status",
            "doctor --json",
            "submit --json",
        ):
            outcomes.append(world.ship(*command.split(), **ends))
        for words in (["follow", secret], ["push", "--set", f"label={secret}"], [secret]):
            outcomes.append(world.ship(*words, "--json", **ends))
        (world.project / "metrics.csv").write_text(f"Id,Category\n101.jpg,{secret}\n")
        outcomes.append(world.ship("submit", "metrics.csv", **ends))
        for outcome in outcomes:
            assert "Traceback" not in outcome.err
            for form in forms(secret):
                assert form not in outcome.out + outcome.err
        for path in world.project.rglob("*"):
            if path.is_file() and path.name != "metrics.csv":
                content = path.read_bytes()
                assert not [form for form in forms(secret) if form.encode() in content], path
        for outcome in outcomes:
            for line in outcome.out.splitlines():
                assert not line.startswith("{") or json.loads(line)


def test_blanks_around_a_token_do_no_harm(tmp_path):
    for text in (f"{TOKEN}\r", f"\n\t {TOKEN}\r\n", f"\ufeff{TOKEN}\n"):
        with open_world(tmp_path / str(len(text)), key=KEY, token=TOKEN) as world:
            changes = {"KAGGLE_API_TOKEN": text, "KAGGLE_KEY": "", "KAGGLE_USERNAME": ""}
            assert world.ship("bundle", **changes).status == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["access_token", "access_token.txt", "elsewhere"])
def test_a_token_in_a_file_is_read_in_the_encodings_of_editors(world, encoding, name):
    home = world.kaggle.folder / "home" / ".kaggle"
    home.mkdir(parents=True, exist_ok=True)
    (home / name).write_text(f"{TOKEN}\r\n", encoding=encoding)
    changes = {"KAGGLE_API_TOKEN": "", "KAGGLE_KEY": "", "KAGGLE_USERNAME": ""}
    if name == "elsewhere":
        changes["KAGGLE_API_TOKEN"] = str(home / name)
    outcome = world.ship("status", **changes)
    assert outcome.status == 0, outcome


@pytest.mark.parametrize("inside", ["\r\n", "\n", "日"])
def test_a_token_that_no_header_can_hold_is_named_and_not_shown(world, inside):
    token = f"KGAT_abc{inside}def0123456789"
    outcome = world.ship("push", KAGGLE_API_TOKEN=token)
    assert outcome.sentence.startswith("what KAGGLE_API_TOKEN holds has a line end or another")
    assert "def0123456789" not in outcome.out + outcome.err
    assert not world.kaggle.requests


def test_a_token_that_is_renewed_is_hidden_before_and_after(world, tmp_path):
    """The OAuth client writes another token while `ship` runs."""
    file = world.kaggle.folder / "home" / ".kaggle" / "credentials.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    tokens = ["first-token-0123456789", "second-token-0123456789"]
    saved = {"refresh_token": "refresh-0123456789", "username": "alice"}
    file.write_text(json.dumps(saved | {"access_token": tokens[0]}))
    world.ship("bundle")
    message = " ".join(tokens)
    world.kaggle.faults.add("GetKernel", "late", seconds=1.5)
    world.kaggle.faults.add("SaveKernel", "status", code=400, message=message)
    process = world.start("push")
    until(lambda: world.calls("GetKernel"))
    file.write_text(json.dumps(saved | {"access_token": tokens[1]}))
    out, err = process.communicate(timeout=60)
    assert "[secret]" in err
    assert not [token for token in tokens if token in out + err]


def test_a_client_that_breaks(world):
    """A broken client may say anything."""
    broken = world.project.parent / "broken" / "kaggle" / "__init__.py"
    broken.parent.mkdir(parents=True)
    broken.write_text("import os\nraise RuntimeError(os.environ['KAGGLE_KEY'])\n")
    path = f"{world.environment['PYTHONPATH']}:{broken.parent.parent}"
    outcome = world.ship("bundle", PYTHONPATH=path)
    said = "the kaggle client can't handle your user name: [secret] (`pip install --upgrade kaggle`"
    assert outcome.sentence.startswith(said)
    broken.write_text("import os, sys\nsys.stderr.write(os.environ['KAGGLE_KEY'])\nos._exit(3)\n")
    outcome = world.ship("bundle", PYTHONPATH=path)
    assert "the kaggle client ended without an answer ([secret])" in outcome.sentence
