"""Backbones from Kaggle Models: attached to the push, looked for before, and downloaded."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest

from kernelkit.core.problem import Problem
from ship.commands.download import download_preset
from ship.kaggle.remote import Remote
from ship.kaggle.timeouts import Timeouts
from ship.project.offline import HDF5_SIGNATURE
from shipping import open_world

HANDLE = "keras/siglip/keras/tiny_patch16_32/1"
GATED = "google/gemma/keras/tiny/1"
OLDER = "keras/siglip/keras/tiny_patch16_32/4"
OTHER = "alice/own/keras/mine/3"


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preset")
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.txt").write_text("needed for texts alone")
    (folder / "model.weights.h5").write_bytes(HDF5_SIGNATURE + os.urandom(1_000_000))
    return folder


@pytest.fixture
def world(tmp_path, preset):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    models = {HANDLE: preset, OLDER: preset, GATED: preset, OTHER: other}
    with open_world(tmp_path, models=models, gated=["google/gemma"]) as opened:
        yield opened


def add_to_metadata(world, **changes):
    path = world.project / "kernel-metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def attached_to_the_last_push(world):
    return world.calls("SaveKernel")[-1].body.get("modelDataSources", [])


def here(world):
    return world.project / "lib" / "weights" / "tiny_patch16_32"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- with a push ---


def test_a_push_attaches_what_its_settings_need(world):
    add_to_metadata(world, model_sources=[OLDER, OTHER])
    assert world.ship("--set", f"models={HANDLE}").status == 0
    assert attached_to_the_last_push(world) == [OTHER, HANDLE]
    [version] = world.kaggle.store.state["kernels"]["alice/car-classification"]["versions"]
    assert ["model", HANDLE] in version["sources"]
    assert world.kaggle.counts["submissions"] == 1

    assert "is pushed, nothing has changed" in world.ship("--set", f"models={HANDLE}").out
    assert world.kaggle.counts["kernel_versions"] == 1
    assert f'"{HANDLE}"' in world.ship("push", "--dry-run").out

    assert world.ship("push", "--defaults").status == 0
    assert attached_to_the_last_push(world) == [OLDER, OTHER], "as the metadata have them"


@pytest.mark.parametrize(
    ("handle", "said"),
    [
        (HANDLE.replace("tiny", "none"), "Kaggle refused the model keras/siglip/keras/none"),
        (GATED, "(403): You must accept the license"),
    ],
)
def test_a_model_that_is_not_to_be_had_is_named_before_anything_is_sent(world, handle, said):
    outcome = world.ship("--set", f"models={handle}")
    assert outcome.status == 1
    assert said in outcome.sentence
    page = "/".join(handle.split("/")[:2])
    assert f"accept its licence at https://www.kaggle.com/models/{page}" in outcome.sentence
    assert "--force models" in outcome.sentence
    assert not world.calls("SaveKernel", "CreateDataset")


def test_a_model_that_the_push_refuses_is_named_with_the_way_out(world):
    assert "FAIL  models" in world.ship("doctor", "--set", f"models={GATED}").out
    assert "ok    models            none needed" in world.ship("doctor").out
    assert world.ship("bundle").status == 0
    forced = world.ship("push", "--force", "models", "--set", f"models={GATED}")
    assert forced.status == 1
    assert f"a source of the kernel: model {GATED}. It runs version 1 without" in forced.sentence
    assert "`ship cancel 1`" in forced.sentence
    assert "accept its licence at https://www.kaggle.com/models/google/gemma" in forced.sentence
    again = world.ship("push", "--force", "models")
    assert "the model's licence" in again.sentence
    assert world.kaggle.counts["kernel_versions"] == 1


def test_a_model_that_is_no_preset_is_named(world):
    outcome = world.ship("push", "--set", f"models={OTHER}")
    assert "alice/own/keras/mine/3 has no model.weights.h5, so it is no preset" in outcome.sentence


@pytest.mark.parametrize("handle", ["keras/siglip/keras/tiny", "siglip"])
def test_what_is_no_handle_is_named(world, handle):
    outcome = world.ship("push", "--set", f"models={handle}")
    assert "model_sources.0: string should match pattern" in outcome.sentence
    add_to_metadata(world, model_sources=[handle])
    sentence = world.ship("push", "--defaults").sentence
    wrong = f'"model_sources" is ["{handle}"]: it must hold owner/model/framework/variation/version'
    assert wrong in sentence


def test_a_sweep_looks_for_the_models_of_all_its_settings_first(world):
    unknown = HANDLE.replace("tiny", "none")
    outcome = world.ship("sweep", f"models={HANDLE},{unknown}")
    assert outcome.status == 1
    assert f"Kaggle refused the model {unknown} (404)" in outcome.sentence
    assert not world.calls("SaveKernel", "CreateDataset")


# --- to this machine ---


def test_weights_of_a_preset_are_downloaded_once(world, preset):
    assert f"Apache-2.0  {HANDLE} is not here" in world.ship("weights").out
    world.kaggle.faults.add("GET model", "cut", fraction=0.5, after=3)
    outcome = world.ship("weights", "tiny")
    assert outcome.status == 0, outcome
    assert "licence Apache-2.0" in outcome.out
    assert names(here(world)) == ["config.json", "model.weights.h5"]
    for path in here(world).iterdir():
        assert path.read_bytes() == (preset / path.name).read_bytes()
    assert f"Apache-2.0  {HANDLE} is here" in world.ship("weights").out
    before = len(world.kaggle.requests)
    assert "is here" in world.ship("weights", "Tiny").out
    assert len(world.kaggle.requests) == before

    assert world.ship("bundle").status == 0
    listed = world.ship("bundle", "--dry-run").out
    assert "tiny_patch16_32" not in listed, "it is never uploaded"


def test_a_download_that_was_given_up_goes_on(world, preset):
    world.kaggle.faults.add("GET model", "cut", fraction=0.5, after=3)
    world.kaggle.faults.add("GET model", "status", code=500, times=9, after=3)
    outcome = world.ship("weights", "Tiny")
    assert outcome.status == 1
    assert "gave no usable answer about model.weights.h5 of keras/siglip" in outcome.sentence
    assert names(here(world)) == ["config.json", "model.weights.h5.part"]
    kept = (here(world) / "model.weights.h5.part").stat().st_size
    assert 400_000 < kept < 1_000_000
    assert "is no known" not in world.ship("weights").out
    world.kaggle.faults.clear()
    assert world.ship("weights", "Tiny").status == 0
    weights = here(world) / "model.weights.h5"
    assert weights.read_bytes() == (preset / weights.name).read_bytes()


def test_what_cannot_be_downloaded_is_named(world, preset, monkeypatch):
    sentence = world.ship("weights", "Tinny").sentence
    assert "'Tinny' is no known backbone; did you mean Tiny?" in sentence
    assert "would get" in world.ship("weights", "Tiny", "--dry-run").out
    assert not here(world).exists()

    free = SimpleNamespace(free=500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    timeouts = Timeouts.from_environment(world.environment)
    with (
        Remote(world.project / "runs" / "uploads", timeouts, world.environment) as remote,
        pytest.raises(Problem, match=r"needs 0\.0 GB more, and the disk of .* free some room"),
    ):
        download_preset(remote, HANDLE, here(world))
    assert not world.calls("DownloadModelInstanceVersion")


def test_a_preset_is_taken_from_a_folder(world, preset):
    (world.project / "elsewhere").mkdir()
    sentence = world.ship("weights", "Tiny", "--from", "elsewhere").sentence
    assert "elsewhere has no config.json: --from takes the folder of a preset" in sentence
    shutil.copytree(preset, world.project / "elsewhere" / "tiny_patch16_32")
    assert world.ship("weights", "Tiny", "--from", "elsewhere").status == 0
    assert names(here(world)) == ["config.json", "model.weights.h5"]
    weights = here(world) / "model.weights.h5"
    weights.write_bytes(bytes(weights.stat().st_size))
    assert "has a model.weights.h5 that is not an HDF5 file" in world.ship("weights").out
    assert "not an HDF5 file: delete that folder" in world.ship("weights", "Tiny").sentence
    assert world.ship("weights", "Tiny", "--from", "elsewhere").status == 0
    assert "is here" in world.ship("weights").out
