"""What is uploaded: which files of lib/ make the dataset, and the archives that hold them.

Each package of lib/, the weights and the wheels become one zip archive, which Kaggle unpacks into a
folder of the archive's name. The archives are made here and not by the client, because the client
packs folders into a new temporary file each time and so can't resume an upload in another process.
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelkit.core.files import write_atomically
from kernelkit.core.packages import MANIFEST, code_files, folders_of, is_hidden, is_package
from kernelkit.core.problem import Problem
from ship.kaggle.credentials import refuse_secrets
from ship.project.offline import known_hash, required_weights, verified_wheels, wheels_in

DATA_FOLDERS = ("weights", "wheels")  # of lib/: no packages, but the kernel may need their files
METADATA_NAME = "dataset-metadata.json"
# A file of the dataset whose name holds the hashes of its parts, because the list of files shows it
# and Kaggle writes the notes of a first version itself. A name has room for so many of them.
CONTENTS_NAME, MOST_PARTS = "contents-{}.txt", 14
EPOCH = (1980, 1, 1, 0, 0, 0)
STORED = (".h5", ".keras", ".whl", ".npz", ".png", ".jpg")  # are compressed already


def upload_files(lib: Path, weights_files: list[str]) -> dict[str, Path]:
    """Return the dataset's files by path in it: the code, the named weights, the wheels here.

    Raises Problem where there is no package, or a file is missing or not the published one.
    """
    wheels = lib / "wheels"
    data = required_weights(weights_files, lib / "weights")
    data += verified_wheels(wheels) if wheels_in(wheels) else []
    return code_files(lib) | {f"{file.parent.name}/{file.name}": file for file in data}


def all_files(lib: Path) -> dict[str, Path]:
    """Return by path below `lib` the code, and all weights and wheels here, needed or not."""
    data = [
        file
        for name in DATA_FOLDERS
        for file in sorted((lib / name).glob("*"))
        if file.is_file() and not file.name.startswith(".") and file.suffix != ".part"
    ]
    return code_files(lib) | {f"{file.parent.name}/{file.name}": file for file in data}


def not_sent(lib: Path) -> list[str]:
    """Return what of `lib` is neither a package nor known, and the links to folders in packages."""
    known = (*DATA_FOLDERS, *(path.name for path in lib.glob("*.egg-info")))
    others = [path for path in folders_of(lib) if not (is_package(path) or is_hidden(path.name))]
    places = {
        Path(place)
        for name in code_files(lib)
        if name != MANIFEST
        for place in (lib / name).parents
    }
    inside = [path for place in places if lib in place.parents for path in place.iterdir()]
    links = [path for path in inside if path.is_symlink() and path.is_dir()]
    links = sorted(path.relative_to(lib).as_posix() for path in links if not is_hidden(path.name))
    return [path.name for path in others if path.name not in known] + links


def copy_files(files: Mapping[str, Path], target: Path) -> None:
    """Bring files to their paths below `target` by hard links, or by copies where links fail."""
    for name, file in files.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.resolve(), place)
        except OSError:  # another file system, or one without links
            shutil.copy2(file, place)


def sha256(data: bytes | Path) -> str:
    """Return the SHA-256 of bytes or of a file, in hexadecimal."""
    return hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else known_hash(data)


def content_hash(files: Mapping[str, Path]) -> str:
    """Return a hash of the names and the contents of files."""
    lines = [f"{name} {sha256(file)}\n" for name, file in sorted(files.items())]
    return sha256("".join(lines).encode())


def parts_of(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the first 12 digits of each part's hash: "code" first, "weights/NAME", "wheels"."""
    parts: dict[str, dict[str, Path]] = {"code": {}}
    for name, file in files.items():
        part = {"weights": name, "wheels": "wheels"}.get(name.split("/")[0], "code")
        parts.setdefault("code" if name == MANIFEST else part, {})[name] = file
    return {part: content_hash(inside)[:12] for part, inside in parts.items()}


@dataclass(frozen=True)
class StagedDataset:
    """A folder of archives that is ready to be uploaded."""

    folder: Path
    files: dict[str, int]  # path in the dataset to size in bytes
    parts: dict[str, str]  # as `parts_of` gives them


def stage_dataset(
    files: Mapping[str, Path], metadata: Any, folder: Path, secrets: Iterable[str]
) -> StagedDataset:
    """Pack the dataset into a folder named by its content; Problem if a file holds a secret."""
    refuse_secrets_in(files, secrets)
    folder = folder / f"dataset-{content_hash(files)[:16]}"
    sizes = {name: file.stat().st_size for name, file in files.items()}
    staged = StagedDataset(folder, sizes, parts_of(files))
    if not folder.exists():
        new = folder.with_suffix(".part")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        contents = new / CONTENTS_NAME.format("-".join([*staged.parts.values()][:MOST_PARTS]))
        contents.write_text("Its name tells ship what this dataset holds.\n", encoding="utf-8")
        sent = {**files, f"weights/{contents.name}": contents}
        for archive in sorted({name.split("/")[0] for name in sent}):
            inside = {n: f for n, f in sent.items() if n.split("/")[0] == archive}
            pack(inside, new / f"{archive}.zip")
        contents.unlink()
        if parts_of(files) != staged.parts:
            raise Problem("lib/ was edited while it was packed: run the same command again.")
        new.rename(folder)
    text = json.dumps(metadata, indent=2) + "\n"
    refuse_secrets(METADATA_NAME, text.encode(), secrets)
    write_atomically(folder / METADATA_NAME, text)
    return staged


def refuse_secrets_in(files: Mapping[str, Path], secrets: Iterable[str]) -> None:
    """Raise Problem when a file holds one of the user's secrets."""
    for name, file in files.items():
        refuse_secrets(name, file, secrets)


def pack(files: Mapping[str, Path], archive: Path) -> None:
    """Write files into a zip archive, without the first folder of their paths.

    The same files always give the same bytes.
    """
    with zipfile.ZipFile(archive, "w") as out:
        for name, file in sorted(files.items()):
            info = zipfile.ZipInfo(name.split("/", 1)[1], EPOCH)
            info.external_attr = 0o644 << 16
            stored = file.suffix in STORED
            info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            info.file_size = file.stat().st_size
            with open(file, "rb") as source, out.open(info, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def hashes_in(names: Iterable[str]) -> list[str]:
    """Return the hashes of a dataset's parts by the names of its files, [] without any."""
    before, after = CONTENTS_NAME.split("{}")
    for name in (path.rpartition("/")[2] for path in names):
        if name.startswith(before) and name.endswith(after):
            return name.removeprefix(before).removesuffix(after).split("-")
    return []


def missing_files(sent: Mapping[str, int], listed: list[tuple[str, int]]) -> list[str]:
    """Return which of the files that were sent, path to size in bytes, Kaggle does not list.

    Kaggle lists the files of an unpacked archive by their path. Bare names, sizes of 0 and an
    archive that is listed as it was sent are accepted too; empty files need not be listed.
    """
    left = Counter(listed)
    names = {name for name, _ in listed}
    bare = not any("/" in name for name in names)
    missing = []
    for name, size in sent.items():
        archive, _, rest = name.partition("/")
        if not size or f"{archive}.zip" in names:
            continue
        shown = rest.split("/")[-1] if bare else name
        entry = (shown, size) if left[(shown, size)] else (shown, 0)
        if left[entry]:
            left[entry] -= 1
        else:
            missing.append(name)
    return missing
