"""The credentials are in no output, log, state, staged file or upload, even after failures."""

import base64
import json

import pytest

from shipping import KEY, open_world

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


@pytest.mark.parametrize("name", ["lib/photos/notes.py", "kernel.py"])
def test_a_file_that_holds_it_is_not_sent(world, name):
    path = world.project / name
    before = path.read_text() if path.exists() else ""
    path.write_text(before + f"\n# {KEY}\n")
    outcome = world.ship()
    assert outcome.status == 1
    assert "holds your Kaggle credentials: take them out; nothing was sent." in outcome.sentence
    path.write_text(before)
    assert_hidden(world, outcome)


def test_the_kernel_does_not_see_them_when_it_is_asked_for_its_settings(world):
    kernel = world.project / "kernel.py"
    spy = "import os, sys\nsys.exit(str(dict(os.environ))) if '--show-config' in sys.argv else 0\n"
    kernel.write_text(kernel.read_text().replace("import csv\n", "import csv\n" + spy))
    assert_hidden(world, world.ship("push"))


def test_a_client_that_breaks(world):
    """A broken client may say anything."""
    broken = world.project.parent / "broken" / "kaggle" / "__init__.py"
    broken.parent.mkdir(parents=True)
    broken.write_text("import os\nraise RuntimeError(os.environ['KAGGLE_KEY'])\n")
    path = f"{world.environment['PYTHONPATH']}:{broken.parent.parent}"
    outcome = world.ship("bundle", PYTHONPATH=path)
    assert outcome.sentence == "the kaggle client can't handle your user name: [secret]"
    broken.write_text("import os, sys\nsys.stderr.write(os.environ['KAGGLE_KEY'])\nos._exit(3)\n")
    outcome = world.ship("bundle", PYTHONPATH=path)
    assert "the kaggle client ended without an answer ([secret])" in outcome.sentence
