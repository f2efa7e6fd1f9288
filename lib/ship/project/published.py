"""The published weights and wheels: which files they are, and whether those in lib/ are the same.

The weights are the rows of `lib/weights/manifest.json`. A row without a URL is of a file that comes
with the repository; Keras does not publish a hash of every file. The wheels are pinned here.
"""

from dataclasses import dataclass
from pathlib import Path

from kernelkit.core.problem import Problem
from kernelkit.offline import mismatch
from ship.kaggle.response_schemas import loads
from ship.project.hashes import HASHES

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
REQUIREMENTS = "requirements.txt"  # in pip's format, so that the kernel can pass it to pip

_MANY = "manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64"
# Each with its SHA-256 on PyPI. The first two have the versions of Kaggle's image. The others are
# there for albucore alone, so they would leave the image together with it. All other requirements
# stay: numpy and opencv are named in the image's list, scikit-learn needs scipy, kaggle needs
# PyYAML (through jupytext), and google-genai and google-adk, which Kaggle's own requirements name,
# need pydantic 2. A second pydantic beside the image's would conflict with it.
WHEELS = {
    "albumentations-2.0.8-py3-none-any.whl": (
        "c4c4259aaf04a7386ad85c7fdcb73c6c7146ca3057446b745cc035805acb1017"
    ),
    "albucore-0.0.24-py3-none-any.whl": (
        "adef6e434e50e22c2ee127b7a3e71f2e35fa088bcf54431e18970b62d97d0005"
    ),
    f"stringzilla-5.3.2-cp312-cp312-{_MANY}.whl": (
        "76711faaad7ca263d0abab0de69321d181d8b5e418eec13f7c47398d7f154cf7"
    ),
    f"stringzilla-5.3.2-cp313-cp313-{_MANY}.whl": (
        "f1fdf1fc9b2f6ee598eb99f6f5d62a4b72fd98e794281e4c79bc09810de9588d"
    ),
    f"simsimd-6.5.16-cp312-cp312-{_MANY}.whl": (
        "12ae4f5f2ade1152d2d3a0094f56fae636204d40595b385ea9b304410647a353"
    ),
    f"simsimd-6.5.16-cp313-cp313-{_MANY}.whl": (
        "ec7e92323c820935475bc9ec84938eecc9d9bc625055ff057a6d0dcfffb7eb2a"
    ),
}


@dataclass(frozen=True)
class WeightsFile:
    """A row of the manifest: the file of a backbone's weights without the top."""

    backbone: str
    file: str
    url: str | None
    size: int | None  # bytes
    sha256: str | None  # in hexadecimal, as is md5
    md5: str | None
    licence: str


def read_manifest(folder: Path) -> dict[str, WeightsFile]:
    """Return the rows of `manifest.json` in a folder by the backbones' names.

    Raises:
        Problem: the manifest is missing, or a row has other fields or values than it must have.
    """
    path = folder / "manifest.json"
    try:
        rows = loads(path.read_text(encoding="utf-8"))
        manifest = {name: WeightsFile(name, **row) for name, row in rows.items()}
    except FileNotFoundError:
        raise Problem(f"{path} is missing: run `ship` from a clone of the repository.") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise Problem(f"{path} can't be read ({error}): restore it from git.") from None
    for row in manifest.values():
        if not row.file or Path(row.file).name != row.file or row.file == "..":
            raise Problem(f"{path}: {row.backbone}'s file {row.file!r} must be a bare file name.")
        if row.url is None and row.sha256 is None:
            raise Problem(f"{path}: {row.backbone} needs a sha256, because it has no url.")
    return manifest


def weights_mismatch(path: Path, row: WeightsFile) -> str:
    """Return how a file differs from the weights of a row, "" where it does not."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
                return "is not an HDF5 file"
    return mismatch(path, row.size, {"sha256": row.sha256, "md5": row.md5}, HASHES.of)


def required_weights(files: list[str], folder: Path) -> list[Path]:
    """Return the paths of the named weights files, each present, and verified if it is published.

    A file that no row of the manifest names is a person's own, of any size.

    Raises:
        Problem: a file is missing or damaged; the sentence says how to get it.
    """
    rows = {row.file: row for row in read_manifest(folder).values()}
    for name in files:
        if name not in rows and (Path(name).name != name or not (folder / name).is_file()):
            raise Problem(
                f"The weights file {name!r} is not in {folder}: put a file of your own there, "
                f"and ask for it by its name, --set weights={Path(name).name}."
            )
    own = WeightsFile("", "", None, None, None, None, "")  # of which nothing is published
    wrong = {n: why for n in files if (why := weights_mismatch(folder / n, rows.get(n, own)))}
    if wrong:
        reasons = "; ".join(f"{folder / name} {reason}" for name, reason in wrong.items())
        cure = how_to_get([rows[name] for name in wrong if name in rows], folder)
        cure = cure or "give the weights of the backbone without its top"
        taken = any((folder / name).is_file() for name in wrong if name in rows)
        hint = " (a file of your own needs a name of its own, and --set weights=NAME)" * taken
        raise Problem(f"{reasons}: {cure}{hint}.")
    return [folder / name for name in files]


def how_to_get(rows: list[WeightsFile], folder: Path) -> str:
    """Return the commands that bring weights that are missing or damaged."""
    missing = " ".join(row.backbone for row in rows if row.url is not None)
    lost = " ".join(str(folder / row.file) for row in rows if row.url is None)
    download = missing and f"run `ship weights {missing}`"
    restore = lost and f"restore the repository's copy with `git checkout -- {lost}`"
    return " and ".join(filter(None, [download, restore]))


def wheels_in(folder: Path) -> list[Path]:
    """Return the wheels in a folder, without links that lead nowhere."""
    return sorted(path for path in folder.glob("*.whl") if path.is_file())


def wheels_mismatch(folder: Path) -> str:
    """Return what is wrong with the wheels in a folder, "" when all are the published ones."""
    requirements = folder / REQUIREMENTS
    if not requirements.is_file():
        return f"{folder} has no {REQUIREMENTS}"
    if requirements.read_bytes() != requirements_text().encode():
        return f"{requirements} is not the list of the wheels that are now pinned"
    for path in wheels_in(folder):
        if path.name not in WHEELS:
            return f"{path} is none of the wheels that {REQUIREMENTS} lists"
    for name, sha256 in WHEELS.items():
        if reason := mismatch(folder / name, None, {"sha256": sha256}, HASHES.of):
            return f"{folder / name} {reason}"
    return ""


def verified_wheels(folder: Path) -> list[Path]:
    """Return the wheels, each of them verified, and the requirements file that lists them.

    Raises:
        Problem: a wheel is missing, or is not the published one.
    """
    if reason := wheels_mismatch(folder):
        raise Problem(f"{reason}: run `ship wheels`.")
    return [*wheels_in(folder), folder / REQUIREMENTS]


def pins() -> dict[str, list[str]]:
    """Return the pinned packages in pip's format, each with the SHA-256 of its wheels."""
    found: dict[str, list[str]] = {}
    for wheel, sha256 in WHEELS.items():
        name, version, _ = wheel.split("-", 2)
        found.setdefault(f"{name}=={version}", []).append(sha256)
    return found


def requirements_text() -> str:
    """Return the list of all wheels with their hashes, from which pip can install."""
    lines = ["# Written by `ship wheels`: the kernel installs these if Kaggle's image lacks them."]
    for pin, hashes in pins().items():
        lines.append(" ".join([pin, *(f"--hash=sha256:{one}" for one in hashes)]))
    return "\n".join(lines) + "\n"
