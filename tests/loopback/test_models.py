"""The loopback Kaggle knows models as the real client sees them: files, uploads and mounts."""

import json
import os
import subprocess
import sys

import pytest
import requests

from loopback_world import world_in

HANDLE = "keras/siglip/keras/tiny_patch16_32/1"
CLIENT = """
import json, sys
from kaggle.api.kaggle_api_extended import KaggleApi
from requests import HTTPError

api = KaggleApi()
api.authenticate()
answers = []
for name, *arguments in json.loads(sys.argv[1]):
    try:
        answer = getattr(api, name)(*arguments)
        answers.append(answer.to_dict() if hasattr(answer, "to_dict") else answer)
    except HTTPError as error:
        answers.append(error.response.status_code)
print(json.dumps(answers, default=str), file=sys.stderr)
"""
LIST_INPUT = """
import os
from pathlib import Path
inputs = Path(os.environ.get("KAGGLE_ROOT", "/kaggle"), "input")
print(*(path.relative_to(inputs) for path in inputs.rglob("config.json")))
"""


@pytest.fixture
def preset(tmp_path):
    folder = tmp_path / "preset"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.weights.h5").write_bytes(os.urandom(2000))
    return folder


def client(world, *calls):
    """Make calls of the real client in one process, and return what it answers to each."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("KAGGLE_")}
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, json.dumps(calls)],
        cwd=world.folder,
        env={**inherited, **world.kaggle.environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1])


def test_the_client_lists_a_published_version_whose_files_can_be_downloaded(tmp_path, preset):
    settings = {"models": {HANDLE: preset}, "gated": ["google/gemma"]}
    with world_in(tmp_path, **settings) as world:
        listed, unknown, gated = client(
            world,
            ["model_instance_version_files", HANDLE],
            ["model_instance_version_files", HANDLE.replace("/1", "/2")],
            ["model_instance_version_files", "google/gemma/keras/gemma_2b/1"],
        )
        sizes = {file["name"]: file["size"] for file in listed["files"]}
        assert sizes == {"config.json": 2, "model.weights.h5": 2000}
        assert (unknown, gated) == (404, 403)
        weights = world.kaggle.file_url("model", f"{HANDLE}/model.weights.h5")
        got = requests.get(weights, timeout=30).content
        assert got == (preset / "model.weights.h5").read_bytes()
        assert not world.kaggle.connects


def test_the_client_makes_a_private_model_with_versions(tmp_path, preset):
    (preset / "networks").mkdir()
    (preset / "networks" / "best.keras").write_bytes(b"network")
    model = {"ownerSlug": "alice", "slug": "nets", "title": "Nets", "description": ""}
    variation = {"ownerSlug": "alice", "modelSlug": "nets", "framework": "keras"}
    variation |= {"instanceSlug": "run", "licenseName": "Apache 2.0"}
    (preset / "model-metadata.json").write_text(json.dumps(model | {"isPrivate": True}))
    (preset / "model-instance-metadata.json").write_text(json.dumps(variation))
    create, mine = ["model_create_new", str(preset)], "alice/nets/keras/run"
    with world_in(tmp_path, dataset_delay=0) as world:
        missing, made, again, first, taken, second, described = client(
            world,
            ["model_get", "alice/nets"],
            create,
            create,
            ["model_instance_create", str(preset), True, "zip"],
            ["model_instance_create", str(preset), True, "zip"],
            ["model_instance_version_create", mine, str(preset), "second", True],
            ["model_get", "alice/nets"],
        )
        assert missing == 404
        assert made["ref"] == "alice/nets"
        assert "already in use" in again["error"]
        assert first["ref"] == f"{mine}/1"
        assert "already there" in taken["error"]
        assert second["ref"] == f"{mine}/2"
        assert described["isPrivate"]
        files = world.kaggle.models.mounted(f"{mine}/1")
        assert (files / "networks" / "best.keras").read_bytes() == b"network"
        assert not (world.kaggle.models.mounted(f"{mine}/2") / "networks").exists()


@pytest.mark.parametrize(
    ("mount", "place"),
    [
        ("official", f"models/{HANDLE}"),
        ("conflict", HANDLE.removeprefix("keras/")),
    ],
)
def test_models_are_mounted_and_unknown_ones_named(tmp_path, preset, mount, place):
    with world_in(tmp_path, models={HANDLE: preset}, mount=mount) as world:
        unknown = ["keras/siglip/keras/none/1", "keras/siglip/keras/tiny_patch16_32"]
        wanted = [HANDLE.replace("/keras/", "/Keras/"), *unknown]
        answer = world.push(LIST_INPUT, modelDataSources=wanted)
        assert answer["versionNumber"] == 1
        assert answer["invalidModelSources"] == unknown
        world.finish()
        assert world.lines() == [f"{place}/config.json"]
