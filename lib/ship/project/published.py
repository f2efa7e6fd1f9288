"""The published weights: which files they are, and whether those in lib/ are the same.

They are the rows of `lib/weights/manifest.json`. A row without a URL is of a file that comes with
the repository; Keras does not publish a hash of every file.
"""

from dataclasses import dataclass
from pathlib import Path

from kernelkit.core.problem import Problem
from kernelkit.offline import mismatch
from ship.kaggle.response_schemas import loads
from ship.project.hashes import known_hash

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


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
    """Return the rows of `manifest.json` by the backbones' names; Problem where it is damaged."""
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
    return mismatch(path, row.size, {"sha256": row.sha256, "md5": row.md5}, known_hash)


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
