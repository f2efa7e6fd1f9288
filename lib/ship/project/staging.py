"""The lib dataset on this machine: its files, packed as they are uploaded.

Each package of lib/, the weights and the wheels become one zip archive, which Kaggle unpacks into a
folder of the archive's name. The archives are made here and not by the client, because the client
packs folders into a new temporary file each time and so can't resume an upload in another process.
"""

import json
import shutil
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from ship.context import Context
from ship.kaggle.credentials import refuse_secrets
from ship.output import say
from ship.project.contents import content_hash, not_sent, parts_of, upload_files
from ship.project.project import DATASET_METADATA

EPOCH = (1980, 1, 1, 0, 0, 0)
CONTENTS_NAME = "weights/contents-{}.txt"
"""A file of the dataset whose name holds the hashes of its parts: the list of files shows it."""
MOST_PARTS = 14
"""How many hashes a file's name has room for."""
STORED = (".h5", ".whl", ".npz", ".png", ".jpg")


@dataclass(frozen=True)
class StagedDataset:
    """A dataset ready to be uploaded: the folder of its archives.

    `files` maps each path in the dataset to its size in bytes, `parts` each part to its hash.
    """

    folder: Path
    files: dict[str, int]
    parts: dict[str, str]


def checked_files(context: Context, weights_files: list[str]) -> dict[str, Path]:
    """Return the files of the dataset by their path in it.

    Raises:
        Problem: a file is missing or holds a secret.
    """
    files = upload_files(context.project.lib, weights_files)
    if others := not_sent(context.project.lib):
        say(f"not sent, because it is no package: {', '.join(others)} in {context.project.lib}")
    secrets = context.remote.secrets
    for name, file in files.items():
        refuse_secrets(name, file, secrets)
    return files


def stage_dataset(context: Context, weights_files: list[str]) -> StagedDataset:
    """Pack the dataset into a folder that is named by its content; one that is there is reused.

    Raises:
        Problem: a file is missing, holds a secret, or was edited meanwhile.
    """
    files = checked_files(context, weights_files)
    folder = context.project.runs / "staged" / f"dataset-{content_hash(files)[:16]}"
    sizes = {name: file.stat().st_size for name, file in files.items()}
    staged = StagedDataset(folder, sizes, parts_of(files))
    if not staged.folder.exists():
        part = staged.folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        contents_file = part.with_suffix(".txt")
        contents_file.write_text("Its name tells ship what this dataset holds.\n", encoding="utf-8")
        told = CONTENTS_NAME.format("-".join([*staged.parts.values()][:MOST_PARTS]))
        sent = files | {told: contents_file}
        for archive in sorted({name.split("/")[0] for name in sent}):
            inside = {n: f for n, f in sent.items() if n.split("/")[0] == archive}
            pack(inside, part / f"{archive}.zip")
        contents_file.unlink()
        if parts_of(files) != staged.parts:
            raise Problem("lib/ was edited while it was packed: run the same command again.")
        part.rename(staged.folder)
    metadata = context.project.owned(context.project.dataset_metadata, context.owner)
    text = json.dumps(metadata, indent=2) + "\n"
    refuse_secrets(DATASET_METADATA, text.encode(), context.remote.secrets)
    write_atomically(staged.folder / DATASET_METADATA, text)
    return staged


def pack(files: dict[str, Path], archive: Path) -> None:
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


def hashes_in(names: list[str]) -> list[str]:
    """Return the hashes of a dataset's parts that the names of its files tell; [] without any."""
    before, after = CONTENTS_NAME.rpartition("/")[2].split("{}")
    told = [name.rpartition("/")[2] for name in names]
    found = [n for n in told if n.startswith(before) and n.endswith(after)]
    return found[0].removeprefix(before).removesuffix(after).split("-") if found else []


def missing_files(sent: dict[str, int], listed: list[tuple[str, int]]) -> list[str]:
    """Return which of the files that were sent Kaggle does not list.

    Kaggle lists the files of an unpacked archive by their path. Bare names without folders, sizes
    of 0 and an archive that is listed as it was sent are accepted too. Files without content need
    not be listed.

    Args:
        sent: path in the dataset to size in bytes.
        listed: Kaggle's list of names and sizes in bytes; a bare name may occur several times.
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
