"""The wheels for Kaggle's machine, and the kernel's offline fallback that installs them."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kernelkit.core.boundary import Boundary
from kernelkit.core.files import file_hash
from kernelkit.core.problem import Problem
from ship.__main__ import parse
from ship.commands import download
from ship.project import offline as wheels
from ship.project.project import Project
from shipping import REPOSITORY

LIB = REPOSITORY / "lib"
PINNED = dict(pin.split("==") for pin in wheels.pins())
MANYLINUX = "manylinux_2_17_x86_64.manylinux2014_x86_64"

# What Kaggle's image holds without albumentations; ship/project/offline.py gives the reasons.
IMAGE = {"numpy", "scipy", "opencv-python-headless", "pydantic", "pyyaml"}


def write_wheel(folder: Path, name: str, tag: str, release: str | None = None, code: str = ""):
    """Write a tiny wheel that pip can install: one package with a version and some code."""
    release = release or PINNED[name]
    info = f"{name}-{release}.dist-info"
    files = {
        f"{name}/__init__.py": f"__version__ = {release!r}\n{code}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{release}-{tag}.whl", "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)


@pytest.fixture(scope="module", autouse=True)
def source(tmp_path_factory) -> Iterator[Path]:
    """A folder of tiny stand-ins for the pinned wheels, for both of Kaggle's Pythons and others."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("albumentations", "albucore"):
        write_wheel(folder, name, "py3-none-any")
        write_wheel(folder, name, "py3-none-any", release="9.9.9")
    for name in ("stringzilla", "simsimd"):
        for python in ("cp311", "cp312", "cp313"):
            write_wheel(folder, name, f"{python}-{python}-{MANYLINUX}")
            write_wheel(folder, name, f"{python}-{python}-win_amd64")
    with pytest.MonkeyPatch.context() as patch:
        pin(patch, folder)
        yield folder


def pin(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the wheels in a folder be the published ones, as far as Kaggle can install them."""
    pinned = tuple(f"{name}-{release}-" for name, release in PINNED.items())
    suited = [
        wheel
        for wheel in sorted(folder.glob("*.whl"))
        if wheel.name.startswith(pinned) and "cp311" not in wheel.name and "win" not in wheel.name
    ]
    text = "# the stand-ins\n"
    for name, release in PINNED.items():
        hashes = [file_hash(wheel) for wheel in suited if wheel.name.startswith(f"{name}-")]
        text += " ".join([f"{name}=={release}", *(f"--hash=sha256:{one}" for one in hashes)]) + "\n"
    patch.setattr(wheels, "WHEELS", text)


@pytest.fixture(scope="module")
def downloaded(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "lib" / "wheels"
    wheels.get_wheels(folder, source)
    return folder


@pytest.fixture
def folder(downloaded, tmp_path) -> Path:
    """A copy of a downloaded folder, which a test may damage."""
    return shutil.copytree(downloaded, tmp_path / "lib" / "wheels")


def ship_wheels(folder: Path, *words: str) -> None:
    download.run_wheels(parse(["wheels", *words]), Project(folder.parents[1]))


# --- what is pinned ---


@pytest.mark.parametrize("name", PINNED)
def test_the_pinned_packages_need_nothing_but_each_other_and_the_image(name):
    """A new requirement in the packages' metadata must be pinned or be part of the image."""
    try:
        requirements = [Requirement(text) for text in requires(name) or []]
    except PackageNotFoundError:
        pytest.fail(f"{name} is not installed here, so its requirements can't be read")
    assert version(name) == PINNED[name] or name in ("stringzilla", "simsimd")
    for python in wheels.PYTHONS:
        environment = {"python_version": python, "extra": ""}
        for requirement in requirements:
            if requirement.marker and not requirement.marker.evaluate(environment):
                continue
            needed = canonicalize_name(requirement.name)
            assert needed in IMAGE | set(PINNED), f"{name} needs {requirement}"
            if needed in PINNED:
                assert requirement.specifier.contains(PINNED[needed])


# --- downloading ---


def test_the_wheels_are_those_of_kaggles_pythons_and_platform(downloaded):
    names = {path.name for path in wheels.verified_wheels(downloaded)}
    assert names == {
        "requirements.txt",
        "albumentations-2.0.8-py3-none-any.whl",
        "albucore-0.0.24-py3-none-any.whl",
        *(
            f"{name}-{PINNED[name]}-{python}-{python}-{MANYLINUX}.whl"
            for name in ("stringzilla", "simsimd")
            for python in ("cp312", "cp313")
        ),
    }
    assert names == {path.name for path in downloaded.iterdir()}


def test_verified_wheels_are_not_downloaded_again(folder, capsys, monkeypatch):
    monkeypatch.setattr(download, "get_wheels", None)
    ship_wheels(folder)
    assert "MB in 6 verified wheels" in capsys.readouterr().out


def test_a_dry_run_does_nothing(tmp_path, capsys):
    ship_wheels(tmp_path / "lib" / "wheels", "--dry-run")
    assert "would download albumentations==2.0.8, albucore==0.0.24" in capsys.readouterr().out
    assert not (tmp_path / "lib" / "wheels").exists()


@pytest.fixture
def index(source, tmp_path, monkeypatch) -> Path:
    """Pip's only index, whose wheels a test may spoil."""
    files, index = shutil.copytree(source, tmp_path / "files"), tmp_path / "index"
    for name in PINNED:
        (index / name).mkdir(parents=True)
        links = [f'<a href="{path.as_uri()}">{path.name}</a>' for path in files.glob(f"{name}-*")]
        (index / name / "index.html").write_text(f"<!DOCTYPE html><html>{''.join(links)}</html>")
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    return files


def test_pip_takes_them_from_its_configured_index(index, tmp_path, capsys):
    ship_wheels(tmp_path / "lib" / "wheels")
    assert "MB in 6 verified wheels" in capsys.readouterr().out


def tamper(wheel: Path) -> None:
    """Change a wheel so that it is still a wheel."""
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("albucore/more.py", "print('hello')")


def truncate(wheel: Path) -> None:
    """Take the second half of a file away."""
    os.truncate(wheel, wheel.stat().st_size // 2)


SPOILED = {"tampered with": tamper, "truncated": truncate, "gone": Path.unlink}


@pytest.mark.parametrize("way", ["index", "folder"])
@pytest.mark.parametrize("spoil", SPOILED)
def test_other_wheels_than_the_published_ones_are_refused_and_the_old_ones_stay(
    index, folder, spoil, way
):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "requirements.txt").write_text("of another version\n")
    SPOILED[spoil](index / "albucore-0.0.24-py3-none-any.whl")
    with pytest.raises(Problem, match="albucore") as refused:
        ship_wheels(folder, *(["--from", str(index)] if way == "folder" else []))
    assert "The wheels that were here before stay" in str(refused.value)
    before["requirements.txt"] = b"of another version\n"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir() if "wheels" in path.name] == ["wheels"]


def test_wheels_stay_while_others_are_downloaded_and_the_process_is_killed(folder, monkeypatch):
    (folder / "requirements.txt").write_text("of another version\n")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    killed = (
        "import os, sys; from pathlib import Path; from ship.project import offline as wheels\n"
        "wheels._pip_download = lambda *arguments: os.kill(os.getpid(), 9)\n"
        "wheels.get_wheels(Path(sys.argv[1]))"
    )
    environment = os.environ | {"PYTHONPATH": str(LIB)}
    done = subprocess.run([sys.executable, "-c", killed, str(folder)], env=environment, check=False)
    assert done.returncode == -9
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_no_network_leaves_the_wheels_that_are_here(folder, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    (folder / "simsimd-1.0-py3-none-any.whl").write_bytes(b"of an older version")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(Problem, match="check the network"):
        ship_wheels(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_python_without_pip_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Problem, match=r"has no pip: run .* -m ensurepip"):
        ship_wheels(tmp_path / "lib" / "wheels")


def test_an_unwritable_place_is_reported(source, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert Boundary("ship").run(lambda: wheels.get_wheels(tmp_path / "file" / "x", source)) == 1
    said = capsys.readouterr().err
    assert str(tmp_path / "file") in said
    assert "check the path and its permissions" in said


# --- later use ---


def test_a_changed_wheel_is_refused(folder):
    with (folder / "albucore-0.0.24-py3-none-any.whl").open("ab") as file:
        file.write(b"x")
    with pytest.raises(Problem, match=r"albucore.*whl is none of the wheels"):
        wheels.verified_wheels(folder)


def test_a_lost_wheel_is_named(folder):
    (folder / f"simsimd-{PINNED['simsimd']}-cp313-cp313-{MANYLINUX}.whl").unlink()
    with pytest.raises(Problem, match=r"lacks a wheel of simsimd.*: run `ship wheels`"):
        wheels.verified_wheels(folder)


def test_a_foreign_wheel_is_refused(folder):
    write_wheel(folder, "other", "py3-none-any", release="1.0")
    assert "other-1.0-py3-none-any.whl is none of the wheels" in wheels.wheels_mismatch(folder)


def test_requirements_of_other_versions_are_refused(folder, monkeypatch):
    monkeypatch.setattr(wheels, "WHEELS", wheels.WHEELS.replace("2.0.8", "2.0.9"))
    assert "is not the list of the wheels that are now pinned" in wheels.wheels_mismatch(folder)


def test_edited_requirements_are_refused(folder):
    requirements = folder / wheels.REQUIREMENTS
    requirements.write_text(requirements.read_text() + "numpy\n")
    assert "is not the list of the wheels that are now pinned" in wheels.wheels_mismatch(folder)


def test_refused_wheels_are_replaced(folder, source):
    (folder / "albucore-0.0.24-py3-none-any.whl").write_bytes(b"x")
    write_wheel(folder, "other", "py3-none-any", release="1.0")
    ship_wheels(folder, "--from", str(source))
    assert len(wheels.verified_wheels(folder)) == 7


# --- the kernel's fallback ---


@pytest.fixture
def image(tmp_path) -> Path:
    """The site-packages of an image whose albumentations the tests write."""
    folder = tmp_path / "image" / "albumentations"
    folder.mkdir(parents=True)
    return folder / "__init__.py"


@pytest.fixture
def attached(tmp_path) -> Path:
    """A mounted lib dataset with requirements and wheels that any Python can install."""
    folder = tmp_path / "input" / "lib with a space" / "wheels"
    folder.mkdir(parents=True)
    uses = {"albumentations": "import albucore", "albucore": "import stringzilla, simsimd"}
    for name in PINNED:
        write_wheel(folder, name, "py3-none-any", code=uses.get(name, ""))
    with pytest.MonkeyPatch.context() as patch:
        pin(patch, folder)
        (folder / wheels.REQUIREMENTS).write_text(wheels.WHEELS)
    return folder.parent


def run_fallback(image: Path, attached: Path) -> list[str]:
    """Run the fallback in a fresh Python with that image; return the lines that it printed."""
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from kernelkit.offline import ensure_albumentations\n"
        "try: ensure_albumentations(Path(sys.argv[1]))\n"
        "except SystemExit as sentence: print('end:', sentence)\n"
        "else:\n"
        "    import albumentations\n"
        "    print(albumentations.__version__, albumentations.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(attached)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(image.parents[1]), str(LIB)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


def test_a_good_image_is_left_alone(image, attached):
    image.write_text("__version__ = '2.1.0'")
    assert run_fallback(image, attached) == [f"2.1.0 {image}"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("__version__ = '1.4.24'", "albumentations 1.4.24 is too old: using the wheels in"),
        ("raise ImportError('gone\\nfor good')", "be imported (ImportError: gone): using the"),
        ("import albucore; albucore.no_such_thing", "(AttributeError: "),
    ],
)
def test_an_outdated_or_broken_image_gets_the_wheels(image, attached, code, said):
    image.write_text(code)
    line, result = run_fallback(image, attached)
    assert said in line
    assert result.startswith("2.0.8 ")
    assert str(image) not in result


def test_missing_wheels_are_reported(image, attached):
    image.write_text("raise ImportError('gone')")
    shutil.rmtree(attached / "wheels")
    (line,) = run_fallback(image, attached)
    assert "albumentations can't be imported (ImportError: gone), and " in line
    assert "run `ship wheels` and `ship bundle`, and attach the new version" in line


def test_a_tampered_wheel_is_not_installed(image, attached):
    image.write_text("raise ImportError('gone')")
    write_wheel(attached / "wheels", "albucore", "py3-none-any", code="print('tampered')")
    (line,) = run_fallback(image, attached)
    assert line.startswith("end: ")
    assert "DO NOT MATCH THE HASHES" in line


def test_requirements_without_hashes_are_not_used(image, attached):
    image.write_text("raise ImportError('gone')")
    requirements = attached / "wheels" / wheels.REQUIREMENTS
    requirements.write_text("".join(f"{name}=={pin}\n" for name, pin in PINNED.items()))
    (line,) = run_fallback(image, attached)
    assert line.startswith("end: ")
    assert "--require-hashes" in line
