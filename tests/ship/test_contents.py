"""What of lib/ goes to Kaggle is said in one place, and every step keeps to it."""

import hashlib
import json

import pytest

from kernelkit.core.problem import Problem
from ship.commands.sweep import changed_files
from ship.project.contents import (
    all_files,
    code_files,
    copy_files,
    missing_files,
    not_sent,
    upload_files,
)
from ship.project.offline import known_hash
from ship.project.project import Project, copy_project
from shipping import SENT, make_project


@pytest.fixture
def lib(tmp_path):
    return make_project(tmp_path / "project") / "lib"


def test_local_packages_and_debris_are_left_out(lib):
    (lib / "photos" / "reading.py.orig").write_text("x")
    assert set(code_files(lib)) == SENT
    assert set(upload_files(lib, [])) == SENT
    assert not_sent(lib) == ["notes"]


def test_a_link_to_a_folder_is_named(lib):
    (lib / "photos" / "deep" / "shared").symlink_to(lib / "notes")
    (lib / "linked").symlink_to(lib / "photos")
    assert set(code_files(lib)) > SENT
    assert not_sent(lib) == ["notes", "linked/deep/shared", "photos/deep/shared"]


def test_a_copy_for_a_run_elsewhere_has_the_data_too(lib, tmp_path):
    (lib / "weights" / "tiny.h5.part").write_text("x")
    copy_files(all_files(lib), tmp_path / "copy")
    copied = {p.relative_to(tmp_path / "copy").as_posix() for p in tmp_path.glob("copy/**/*.*")}
    assert copied == SENT | {"weights/unused.h5"}


def test_a_rehearsal_takes_no_local_package_along(lib, tmp_path):
    copy = copy_project(Project(lib.parent), tmp_path / "rehearsal")
    assert sorted(path.name for path in copy.lib.iterdir()) == [
        "ImageDataAugmentor",
        "photos",
        "weights",
    ]


def test_a_copy_of_a_project_does_not_change_with_it(lib, tmp_path):
    project = Project(lib.parent)
    metadata = project.root / "kernel-metadata.json"
    values = json.loads(metadata.read_text()) | {"code_file": "src/kernel.py"}
    metadata.write_text(json.dumps(values))
    (project.root / "src").mkdir()
    (project.root / "kernel.py").rename(project.root / "src" / "kernel.py")
    copy = copy_project(Project(lib.parent), tmp_path / "copy")
    assert changed_files(copy, project) == []
    for file in ("src/kernel.py", "lib/photos/__init__.py"):
        with (project.root / file).open("a") as edited:  # in place, as some editors do
            edited.write("\nX = 1\n")
    assert changed_files(copy, project) == ["lib/photos/__init__.py", "src/kernel.py"]
    assert not copy.code.read_text().endswith("X = 1\n")
    assert copy.runs == project.runs


def test_the_kernel_is_asked_for_its_settings_beside_the_uploaded_code(lib):
    project = Project(lib.parent)
    spy = (
        "import json, os\nfrom pathlib import Path\n"
        "lib = Path(os.environ['KAGGLE_ROOT'], 'input', 'lib')\n"
        "files = [path for path in lib.rglob('*') if path.is_file()]\n"
        "print(json.dumps([path.relative_to(lib).as_posix() for path in files]))"
    )
    assert set(project.show_config(spy)) == SENT


def test_the_answer_is_asked_for_again_when_the_lib_changes_but_not_for_local_packages(lib):
    project = Project(lib.parent)
    before = project.lib_hash()
    (lib / "ship" / "more.py").write_text("x")
    (lib / "sample" / "__init__.py").write_text("y")
    assert project.lib_hash() == before
    (lib / "photos" / "more.py").write_text("x")
    assert project.lib_hash() != before


def test_weights_of_the_repository_are_uploaded(lib):
    manifest = {"Tiny": {"file": "tiny.h5", "url": None, "size": 8, "md5": None, "licence": "MIT"}}
    content = b"\x89HDF\r\n\x1a\n"
    manifest["Tiny"]["sha256"] = hashlib.sha256(content).hexdigest()
    (lib / "weights" / "manifest.json").write_text(json.dumps(manifest))
    (lib / "weights" / "tiny.h5").write_bytes(content)
    assert set(upload_files(lib, ["tiny.h5"])) == SENT | {"weights/tiny.h5"}
    (lib / "weights" / "tiny.h5").write_bytes(content[::-1])
    with pytest.raises(Problem, match=r"tiny\.h5 is not an HDF5 file: restore"):
        upload_files(lib, ["tiny.h5"])


def test_a_lib_without_packages_is_said(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(Problem, match="there is no package in"):
            code_files(folder)


SIZES = {"a/__init__.py": 5, "b/__init__.py": 7, "b/deep/__init__.py": 7, "b/empty.py": 0}


@pytest.mark.parametrize(
    ("listed", "missing"),
    [
        (list(SIZES.items()), []),
        ([("__init__.py", 7), ("__init__.py", 5), ("__init__.py", 7)], []),
        ([("__init__.py", 7), ("__init__.py", 5)], ["b/deep/__init__.py"]),
        ([("__init__.py", 7), ("__init__.py", 7)], ["a/__init__.py"]),
        ([("__init__.py", 0), ("__init__.py", 0), ("__init__.py", 0)], []),
        ([("__init__.py", 7), ("__init__.py", 5), ("__init__.py", 7), ("empty.py", 0)], []),
        ([("a/__init__.py", 5), ("b.zip", 100)], []),
        ([("a/__init__.py", 6), ("b.zip", 100)], ["a/__init__.py"]),
        ([], ["a/__init__.py", "b/__init__.py", "b/deep/__init__.py"]),
    ],
)
def test_files_that_kaggle_does_not_list_are_found(listed, missing):
    assert missing_files(SIZES, listed) == missing


def test_the_hash_of_a_file_that_was_written_just_now_is_not_kept(tmp_path):
    file = tmp_path / "a.py"
    for text in (b"x = 1\n", b"x = 2\n"):
        file.write_bytes(text)
        assert known_hash(file) == hashlib.sha256(text).hexdigest()
    assert known_hash(file, "md5") == hashlib.md5(b"x = 2\n").hexdigest()
