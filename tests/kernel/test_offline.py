"""Weights are found wherever they are mounted and checked; missing ones are one sentence."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from kernelkit import offline
from kernelkit.core.problem import Problem
from kernelkit.offline import find_weights


@pytest.fixture
def lib(tmp_path, monkeypatch):
    """A lib's folder of weights, whose manifest has one row of each kind, of tiny files."""
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
    drawn = entry | {"file": "plain_drawn.weights.h5", "url": None}
    (folder / "manifest.json").write_text(json.dumps({"MobileNet": entry, "Plain": drawn}))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return folder


@pytest.fixture
def listed(monkeypatch):
    """Collect the folders that are listed."""
    folders, scandir = [], os.scandir
    monkeypatch.setattr(
        os, "scandir", lambda path=".": (folders.append(Path(path)), scandir(path))[1]
    )
    return folders


def find(lib, wanted="imagenet", backbone="MobileNet"):
    return find_weights(backbone, wanted, lib.parent, lib.parents[1] / "input")


def write_photos(folder, count=5):
    """Write a competition of two class folders with `count` empty photos each."""
    for label in ("0", "1"):
        (folder / "train" / label / "deeper").mkdir(parents=True)
        for number in range(count):
            (folder / "train" / label / f"{number}.jpg").touch()


def test_in_the_lib_dataset(lib):
    (lib / "mobilenet_1_0_224_tf_no_top.h5").write_bytes(b"right")
    assert find(lib).parent == lib


@pytest.mark.parametrize("sub", ["", "weights"])
@pytest.mark.parametrize("dataset", ["slug", "someone/slug", "datasets/someone/slug"])
def test_where_datasets_are_mounted_no_photos_are_listed_for_it(
    lib, tmp_path, listed, dataset, sub
):
    write_photos(tmp_path / "input" / "cars")
    write_photos(tmp_path / "input" / "competitions" / "cars")
    other = tmp_path / "input" / dataset / sub
    other.mkdir(parents=True)
    (other / "mobilenet_1_0_224_tf_no_top.h5").write_bytes(b"right")
    assert find(lib).parent == other
    assert not [folder for folder in listed if "train" in folder.parts]


@pytest.mark.parametrize("place", ["models/someone/net/keras/default/1", "slug/some/deep/folder"])
def test_anywhere_else_below_the_inputs_but_not_among_photos(lib, tmp_path, listed, place):
    write_photos(tmp_path / "input" / "cars", count=offline.MOST_ENTRIES)
    write_photos(tmp_path / "input" / "competitions" / "cars")
    other = tmp_path / "input" / place
    other.mkdir(parents=True)
    (other / "mobilenet_1_0_224_tf_no_top.h5").write_bytes(b"right")
    assert find(lib).parent == other
    assert not [folder for folder in listed if folder.name == "deeper"]
    assert tmp_path / "input" / "competitions" / "cars" / "train" not in listed


def test_the_search_is_bounded(lib, tmp_path, listed, monkeypatch):
    monkeypatch.setattr(offline, "MOST_FOLDERS", 30)
    for number in range(100):
        (tmp_path / "input" / "cars" / "train" / str(number)).mkdir(parents=True)
    with pytest.raises(Problem, match="are missing"):
        find(lib)
    assert len([folder for folder in listed if "train" in folder.parts]) <= 30


@pytest.mark.parametrize(("content", "differing"), [(b"wrong", "SHA256"), (b"cut", "3 bytes inst")])
def test_a_damaged_file_is_refused(lib, content, differing):
    (lib / "mobilenet_1_0_224_tf_no_top.h5").write_bytes(content)
    with pytest.raises(Problem, match=f"damaged: it has .*{differing}"):
        find(lib)


def test_a_hash_that_keras_does_not_publish_is_not_asked_for(lib):
    manifest = json.loads((lib / "manifest.json").read_text())
    manifest["MobileNet"]["sha256"] = None
    (lib / "manifest.json").write_text(json.dumps(manifest))
    (lib / "mobilenet_1_0_224_tf_no_top.h5").write_bytes(b"other")
    assert find(lib).parent == lib


def test_missing_weights_say_how_to_get_them(lib):
    with pytest.raises(Problem, match=r"ship weights MobileNet.*ship bundle"):
        find(lib)


def test_a_missing_file_is_named(lib):
    with pytest.raises(Problem, match=r"--weights nowhere\.h5: no such file"):
        find(lib, "nowhere.h5")


def test_a_file_of_one_s_own_is_found_in_lib_weights_by_its_name(lib):
    (lib / "own.h5").write_bytes(b"of another size")
    assert find(lib, "own.h5") == lib / "own.h5"


def test_a_folder_of_weights_gives_the_file_of_the_backbone(lib, tmp_path):
    """Nothing is compared with the manifest: these are weights of one's own."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "another.h5").write_bytes(b"other")
    (folder / "mobilenet_1_0_224_tf_no_top.h5").write_bytes(b"trained further")
    assert find(lib, str(folder)) == folder / "mobilenet_1_0_224_tf_no_top.h5"
    assert find(lib, str(folder / "another.h5")) == folder / "another.h5"
    (folder / "plain_drawn.weights.h5").write_bytes(b"trained further")
    assert find(lib, str(folder), "Plain") == folder / "plain_drawn.weights.h5"


def test_a_folder_without_the_file_of_the_backbone_is_a_problem_that_names_it(lib, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "another.h5").write_bytes(b"other")
    with pytest.raises(Problem, match=r"mine.mobilenet_1_0_224_tf_no_top\.h5: no such file"):
        find(lib, str(tmp_path / "mine"))
    with pytest.raises(Problem, match=r"mine.plain_drawn\.weights\.h5: no such file"):
        find(lib, str(tmp_path / "mine"), "Plain")
    with pytest.raises(Problem, match=r"which file in .*mine is of TinyNet: give --weights the f"):
        find(lib, str(tmp_path / "mine"), "TinyNet")


def test_none_must_be_asked_for(lib):
    assert find(lib, "none") is None


def test_drawn_weights_come_with_the_repository(lib):
    with pytest.raises(Problem, match=r"drawn weights of Plain are missing: take plain_drawn"):
        find(lib, "drawn", "Plain")
    (lib / "plain_drawn.weights.h5").write_bytes(b"right")
    assert find(lib, "drawn", "Plain") == lib / "plain_drawn.weights.h5"
    (lib / "plain_drawn.weights.h5").write_bytes(b"wrong")
    with pytest.raises(Problem, match=r"plain_drawn.weights.h5 is damaged: it has the SHA256"):
        find(lib, "drawn", "Plain")


@pytest.mark.parametrize(
    ("backbone", "wanted", "sentence"),
    [
        ("Plain", "imagenet", "Plain has no ImageNet weights: ask for --weights drawn or --w.* no"),
        ("MobileNet", "drawn", "MobileNet has no drawn weights: ask for --weights imagenet or --w"),
        ("TinyNet", "imagenet", "TinyNet has no ImageNet weights: ask for --weights none."),
        ("TinyNet", "drawn", "TinyNet has no drawn weights: ask for --weights none."),
    ],
)
def test_weights_that_a_backbone_does_not_have_are_one_sentence(lib, backbone, wanted, sentence):
    with pytest.raises(Problem, match=sentence):
        find(lib, wanted, backbone)


HANDLE = "keras/siglip/keras/tiny_preset/2"


def find_tiny(lib, wanted="imagenet"):
    return find_weights("Tiny", wanted, lib.parent, lib.parents[1] / "input", HANDLE)


@pytest.mark.parametrize(
    "place",
    [
        "lib/weights/tiny_preset",  # where `ship weights` puts it
        f"input/models/{HANDLE}",  # both layouts of Kaggle's mounts
        "input/siglip/keras/tiny_preset/2",
        "input/models/keras/siglip/Keras/tiny_preset/3",  # another version, attached by hand
        "input/my-own-dataset/tiny_preset",
    ],
)
def test_a_preset_is_found_by_its_files_wherever_it_is(lib, place):
    folder = lib.parents[1] / place
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    with pytest.raises(Problem, match="attach the model keras/siglip/keras/tiny_preset/2"):
        find_tiny(lib)  # half a preset is none
    (folder / "model.weights.h5").touch()
    assert find_tiny(lib) == folder


def test_a_preset_s_folder_or_the_one_above_may_be_given(lib, tmp_path):
    folder = tmp_path / "mine" / "tiny_preset"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.weights.h5"):
        (folder / name).touch()
    assert find_tiny(lib, str(folder)) == find_tiny(lib, str(folder.parent)) == folder
    for wanted, said in (
        ("none", "leave that out"),
        (str(lib), "neither this folder nor tiny_pre"),
    ):
        with pytest.raises(Problem, match=said):
            find_tiny(lib, wanted)
