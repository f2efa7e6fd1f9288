"""Where ImageNet weights come from, and what is said when they are missing."""

import hashlib
import json

import pytest

from common import Problem
from offline import find_weights


@pytest.fixture
def lib(tmp_path, monkeypatch):
    """A lib folder whose manifest knows one tiny file."""
    folder = tmp_path / "lib" / "weights"
    folder.mkdir(parents=True)
    (tmp_path / "input").mkdir()
    entry = {
        "file": "mobilenet_1_0_224_tf_no_top.h5",
        "url": "http://127.0.0.1:9/none.h5",
        "size": len(b"right"),
        "sha256": hashlib.sha256(b"right").hexdigest(),
        "md5": None,
    }
    (folder / "manifest.json").write_text(json.dumps({"MobileNet": entry}))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return folder


def find(lib, wanted="imagenet"):
    return find_weights("MobileNet", wanted, lib.parent, lib.parents[1] / "input")


def test_in_the_lib_dataset(lib):
    (lib / "mobilenet_1_0_224_tf_no_top.h5").write_bytes(b"right")
    assert find(lib).parent == lib


def test_in_any_mounted_dataset(lib, tmp_path):
    other = tmp_path / "input" / "datasets" / "someone" / "keras-weights"
    other.mkdir(parents=True)
    (other / "mobilenet_1_0_224_tf_no_top.h5").write_bytes(b"right")
    assert find(lib).parent == other


@pytest.mark.parametrize(("content", "fault"), [(b"wrong", "sha256"), (b"cut", "size")])
def test_a_damaged_file_is_refused(lib, content, fault):
    (lib / "mobilenet_1_0_224_tf_no_top.h5").write_bytes(content)
    with pytest.raises(Problem, match=f"damaged: its {fault}"):
        find(lib)


def test_a_hash_that_keras_does_not_publish_is_not_asked_for(lib):
    manifest = json.loads((lib / "manifest.json").read_text())
    manifest["MobileNet"]["sha256"] = None
    (lib / "manifest.json").write_text(json.dumps(manifest))
    (lib / "mobilenet_1_0_224_tf_no_top.h5").write_bytes(b"other")
    assert find(lib).parent == lib


def test_missing_weights_say_what_to_attach(lib):
    with pytest.raises(Problem, match=r"attach a dataset.*ship weights MobileNet"):
        find(lib)


def test_a_missing_file_is_named(lib):
    with pytest.raises(Problem, match=r"--weights nowhere\.h5: no such file"):
        find(lib, "nowhere.h5")


def test_none_must_be_asked_for(lib):
    assert find(lib, "none") is None


def test_a_network_without_imagenet_weights_says_so(lib):
    with pytest.raises(Problem, match="Plain has no ImageNet weights: ask for --weights none"):
        find_weights("Plain", "imagenet", lib.parent, lib)
